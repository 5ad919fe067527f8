"""
Several runs on one page: their agents' figures, what separates them in settings, prices and test years, and their curves.

Figures are those of each run's own ``metrics.json``, on its own test years. Curves and differences need the same days, so they
are of the days that all runs have in common; where years, assets or prices differ, the page says so first.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from quantflux_sb3.evaluation import charts
from quantflux_sb3.evaluation.baselines import AGENT, BASE_RULE, EQUAL_WEIGHT
from quantflux_sb3.evaluation.chart_parts import Line, TimeAxis
from quantflux_sb3.evaluation.daily import DailySeries
from quantflux_sb3.evaluation.figures import MAIN_COLUMNS
from quantflux_sb3.evaluation.page import Page, Picture, Section, Sentences, Table, Verdict, render_page, write_page
from quantflux_sb3.evaluation.report import read_run
from quantflux_sb3.evaluation.report_data import ReportData
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.statistics import sharpe_difference, verdict
from quantflux_sb3.nested import flattened

Runs = Mapping[str, ReportData]

#: Fewer common days than these are not compared: a quarter.
LEAST_DAYS = 63
#: What must agree for two runs to be comparable, and how a difference is said.
FACTS = {
    "test": "The test years differ",
    "assets": "The assets differ",
    "benchmark": "The benchmarks differ",
    "prices": "The prices differ, or their sources",
}
#: Another hash of the prices may be but another length, as where a walk-forward ends before the prices do.
SAME_INDEX = (
    "The price histories are not identical (another length, or other prices of assets); the index earned the same on the days "
    "that the runs share"
)


def read_runs(folders: Sequence[str | Path]) -> dict[str, ReportData]:
    """
    :param folders: of finished runs
    :return: runs by the shortest names that tell them apart
    :raises ValueError: if there are fewer than two, or one of them is no finished run, or comes twice
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(f"A comparison needs at least two different runs; got {[str(path) for path in paths]}.")
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return {name: read_run(path) for name, path in zip(names, paths, strict=True)}


def write_comparison(path: str | Path, runs: Runs) -> Path:
    """
    :param path: ``.html`` file in an existing folder; replaced if there
    :param runs: by name
    :return: the path
    """
    return write_page(path, _page(runs))


def render_comparison(runs: Runs) -> str:
    """
    :param runs: by name
    :return: HTML
    """
    return render_page(_page(runs))


def _page(runs: Runs) -> Page:
    common = common_days(runs)
    axis = TimeAxis(common) if common else None
    sections = [_results(runs, axis), _differences(runs), _settings(runs)]
    return Page(
        "Runs compared", ", ".join(runs), _verdicts(common), [section for section in sections if section],
        axis.texts if axis else (),
    )  # fmt: skip


def common_days(runs: Runs) -> DailySeries | None:
    """
    :param runs: by name
    :return: the agents' returns by run, on the days that all runs have; None if these are too few, or a run has none
    """
    series = {name: run.daily for name, run in runs.items() if run.daily}
    if len(series) < len(runs):
        return None
    first = next(iter(series.values()))
    days = _shared_days(list(series.values()))
    if len(days) < LEAST_DAYS:
        return None
    rows = np.isin(first.dates, days)
    returns = {name: daily.returns[AGENT][np.isin(daily.dates, days)] for name, daily in series.items()}
    return DailySeries(days, returns, first.risk_free[rows], {}, {}, first.regimes[rows], first.periods_per_year)


def differing_facts(runs: Runs) -> list[str]:
    """
    :param runs: by name
    :return: in what the runs' data differ, one sentence each, with what each run has
    """
    facts = {name: _facts(run) for name, run in runs.items()}
    sentences = []
    for key, sentence in FACTS.items():
        values = {name: fact[key] for name, fact in facts.items()}
        if len(set(values.values())) > 1:
            if key == "prices" and same_index(runs):
                sentence = SAME_INDEX
            told = "" if key == "prices" else ": " + "; ".join(f"{name} {value}" for name, value in values.items())
            sentences.append(f"{sentence}{told}.")
    return sentences


def same_index(runs: Runs) -> bool:
    """
    :param runs: by name
    :return: whether the index comes from one source and earned the same in all runs on the days that they share; False also
        where there are too few such days
    """
    series = [run.daily for run in runs.values() if run.daily]
    days = _shared_days(series) if len(series) == len(runs) else ()
    if len(days) < LEAST_DAYS or len({(run.index, run.get("market").get("source")) for run in runs.values()}) > 1:
        return False
    name = next(iter(runs.values())).index
    first, *others = (daily.returns[name][np.isin(daily.dates, days)] for daily in series)
    return all(np.allclose(first, other, rtol=0.0, atol=1e-12) for other in others)


def _shared_days(series: Sequence[DailySeries]) -> np.ndarray:
    return reduce(np.intersect1d, (daily.dates for daily in series))


def differing_settings(runs: Runs) -> list[dict[str, str]]:
    """
    :param runs: by name
    :return: a row for each setting that is not the same in all runs: ``setting``, then its value by run
    """
    given = {name: flattened(yaml.safe_load(run.config_text) or {}) for name, run in runs.items()}
    flat = {name: {key: str(value) for key, value in settings} for name, settings in given.items()}
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    rows = [{"setting": key, **{name: settings.get(key, "") for name, settings in flat.items()}} for key in keys]
    return [row for row in rows if len({row[name] for name in runs}) > 1]


def _verdicts(common: DailySeries | None) -> list[Verdict]:
    """Each pair of agents on the common days, in plain language."""
    if common is None:
        return []
    results = {name: _result(name, common) for name in common.returns}
    found = []
    for a, b in combinations(results, 2):
        difference = sharpe_difference(results[a], results[b])
        sentence = verdict(f"the agent of {a}", f"that of {b}", difference)
        days = f"on the days {common.dates[0]} to {common.dates[-1]}, the chosen seed of each"
        found.append(Verdict(f"{sentence}, {days}", difference))
    return found


def _result(name: str, common: DailySeries) -> BacktestResult:
    """The returns alone; nothing is known of other weights."""
    nothing, n_days = np.zeros(len(common.dates)), len(common.dates)
    return BacktestResult(
        name, common.dates, (), common.returns[name], nothing, np.zeros((n_days, 0)), common.risk_free, np.ones((n_days, 1)),
        nothing, nothing, nothing > 0, common.regimes, common.periods_per_year,
    )  # fmt: skip


def _results(runs: Runs, axis: TimeAxis | None) -> Section:
    rows = [
        {
            **run.metrics["test"][strategy],
            "name": f"{name}: {strategy}",
            "sharpe_interval": run.get("sharpe_intervals").get(strategy),
        }
        for name, run in runs.items()
        for strategy in (AGENT, BASE_RULE, EQUAL_WEIGHT)
        if strategy in run.metrics["test"]
    ]
    columns = [key for key in MAIN_COLUMNS if any(row.get(key) is not None for row in rows)]
    blocks: list[Any] = [Sentences(differing_facts(runs) or ["All runs have the same test years, assets and prices."])]
    blocks.append(Table("Each run on its own test years", columns, rows))
    if axis is None:
        least = f"The runs share fewer than {LEAST_DAYS} test days, or one has no daily returns: there are no common curves."
        return Section("results", "Results on unseen years, after costs", [*blocks, Sentences([least], False)])
    first, last = axis.daily.dates[0], axis.daily.dates[-1]
    caption = f"Growth of 1 in each agent, days that all runs have ({first} to {last}), logarithmic scale"
    blocks.append(Picture(caption, chart=charts.growth(axis, None, run_lines)))
    blocks.append(Picture("How far below the peak", chart=charts.drawdown(axis, None, run_lines)))
    return Section("results", "Results on unseen years, after costs", blocks)


def run_lines(values: Mapping[str, np.ndarray], index: str | None, labels: Mapping[str, str]) -> list[Line]:
    """All runs alike, in colours that tell them apart; the signature is that of :func:`charts.strategy_lines`."""
    colours = ("agent", "equal-weight", *(f"other-{i}" for i in range(6)), "base-rule", "index")
    return [
        Line(name, series, colours[i % len(colours)], 1.8, label=labels[name])
        for i, (name, series) in enumerate(values.items())
    ]


def _differences(runs: Runs) -> Section | None:
    rows = [
        {
            "run": name,
            "comparison": pair.replace(" - ", " against "),
            **row,
            "interval": {end: row[end] for end in ("low", "high")},
        }
        for name, run in runs.items()
        for pair, row in run.get("sharpe_differences").items()
    ]
    if not rows:
        return None
    columns = [key for key in ("run", "comparison", "difference", "interval", "p_value", "n_seeds_a") if key in rows[0]]
    note = "As each run measured it on its own test years, over all of its seeds."
    return Section(
        "differences", "What learning added, run by run", [Table("Differences of Sharpe ratios", columns, rows, note=note)]
    )


def _settings(runs: Runs) -> Section:
    rows = differing_settings(runs)
    blocks: list[Any] = [Table("Settings that differ", ("setting", *runs), rows, like="setting")] if rows else []
    versions = [
        {"library": library, **{name: run.versions.get(library, "") for name, run in runs.items()}}
        for library in dict.fromkeys(library for run in runs.values() for library in run.versions)
    ]
    changed = [row for row in versions if len({row[name] for name in runs}) > 1]
    if changed:
        blocks.append(Table("Versions that differ", ("library", *runs), changed, like="library"))
    return Section("settings", "Settings", blocks or [Sentences(["All settings and versions are the same."], False)])


def _facts(run: ReportData) -> dict[str, str]:
    market = run.get("market")
    return {
        "test": f"{market.get('test_first')} to {market.get('test_last')}",
        "assets": ", ".join(market.get("assets", ())),
        "benchmark": str(market.get("benchmark")),
        "prices": str(market.get("content_hash")),
    }
