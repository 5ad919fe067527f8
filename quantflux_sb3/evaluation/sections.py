"""
The sections of a report, each a function from :class:`ReportData` to a section, or None where its figures are absent.

Every number comes from ``metrics``, which is what ``metrics.json`` holds; nothing is computed here but the order of rows and the
pairing of columns. Curves come from the days (:class:`quantflux_sb3.evaluation.daily.DailySeries`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from quantflux_sb3.evaluation import charts
from quantflux_sb3.evaluation.baselines import AGENT
from quantflux_sb3.evaluation.daily import DailySeries
from quantflux_sb3.evaluation.figures import MAIN_COLUMNS
from quantflux_sb3.evaluation.page import Code, Picture, Section, Sentences, Table, Tiles, Verdict

Block = Table | Picture | Tiles | Sentences | Code


@dataclass(frozen=True, eq=False)
class ReportData:
    """
    What the page is written from; a finished run's folder holds all of it.

    :param metrics: every figure, as in ``metrics.json``; a section whose figures are absent is left out
    :param daily: returns of the strategies and weights of the agent; none: no curves
    :param pictures: PNG files by name without ending, such as ``drawdown``
    :param config_text: the configuration as YAML
    :param versions: of the libraries, by name
    :param title: of the page
    """

    metrics: Mapping[str, Any]
    daily: DailySeries | None = None
    pictures: Mapping[str, Path] = field(default_factory=dict)
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    title: str = "QuantFlux experiment"

    def __post_init__(self) -> None:
        if AGENT not in self.metrics["test"]:
            raise ValueError(f"The figures hold no strategy named '{AGENT}'; there are {list(self.metrics['test'])}.")

    @cached_property
    def axis(self) -> charts.TimeAxis | None:
        """Days of the curves."""
        return charts.TimeAxis(self.daily) if self.daily else None

    @property
    def index(self) -> str | None:
        """Name of the benchmark's row."""
        return list(self.daily.returns)[-1] if self.daily else None

    def get(self, key: str) -> Any:
        """Figures by key; empty if they are absent."""
        return self.metrics.get(key) or {}

    def picture(
        self, name: str, caption: str, chart: Callable[[], Mapping[str, Any]] | None = None, note: str = ""
    ) -> list[Block]:
        """The picture, or nothing if there is neither a file nor a chart."""
        png, drawn = self.pictures.get(name), chart() if chart and self.axis else None
        return [Picture(caption, png, drawn, note)] if png or drawn else []


def verdicts(data: ReportData) -> list[Verdict]:
    """
    :return: the comparisons in plain language, with the intervals behind them
    """
    differences = list(data.get("sharpe_differences").values())
    sentences = data.get("verdicts")
    return [Verdict(sentence, differences[i] if i < len(differences) else {}) for i, sentence in enumerate(sentences)]


def sections(data: ReportData) -> list[Section]:
    """
    :return: all sections that have anything to show
    """
    return [section for build in _SECTIONS if (section := build(data)) is not None]


def results(data: ReportData) -> Section:
    intervals = data.get("sharpe_intervals")
    rows = [
        {"name": name, **figures, "sharpe_interval": intervals.get(name)} for name, figures in data.metrics["test"].items()
    ]
    rows.sort(key=lambda row: row["sharpe_ratio"], reverse=True)
    main = [key for key in MAIN_COLUMNS if key in rows[0] and (intervals or key != "sharpe_interval")]
    more = ["name", *(key for key in rows[0] if key not in MAIN_COLUMNS)]
    order = "Highest Sharpe ratio first; the agent stands out. Turnover counts purchases and sales, as a share of wealth."
    blocks: list[Block] = [Table("Strategies", main, rows, AGENT, note=order)]
    if len(more) > 1:
        blocks.append(Table("More figures of each strategy", more, rows, AGENT, folded=True))
    weekly = (
        ""
        if data.daily is None or len(data.daily.dates) < charts.MOST_DAILY
        else (" One point a week, and every strategy's deepest day; other strategies can be switched on below the chart.")
    )
    blocks += data.picture(
        "cumulative_returns", "Growth of 1 after costs, logarithmic scale", lambda: charts.growth(data.axis, data.index),
        "Shaded by the regime that was known: blue bull, red bear, yellow volatile, grey sideways." + weekly,
    )  # fmt: skip
    blocks += data.picture("drawdown", "How far below the peak", lambda: charts.drawdown(data.axis, data.index))
    if intervals:
        shown = [{"name": row["name"], "sharpe": row["sharpe_ratio"], **intervals[row["name"]]} for row in rows]
        blocks += data.picture(
            "sharpe_intervals", "Sharpe ratios with their 95 % intervals",
            lambda: charts.intervals(shown, "sharpe", "Sharpe ratio"),
            "Intervals of single strategies overlap even where one beats the other day by day; the comparisons above resample "
            "both on the same days.",
        )  # fmt: skip
    if data.daily and len(data.daily.dates) > 1.5 * data.daily.periods_per_year:
        blocks += data.picture(
            "rolling_sharpe", "Sharpe ratio of the year before each day", lambda: charts.rolling_sharpe(data.axis, data.index)
        )
    return Section("results", "Results on unseen years, after costs", blocks)


def comparisons(data: ReportData) -> Section | None:
    differences = data.get("sharpe_differences")
    if not differences:
        return None
    keys = ("difference", "sharpe_a", "sharpe_b", "p_value", "n_seeds_a")
    rows = [
        {"comparison": pair.replace(" - ", " against "), **{key: row[key] for key in keys if key in row}, "interval": row}
        for pair, row in differences.items()
    ]
    columns = [key for key in ("comparison", "difference", "interval", *keys[1:]) if key in rows[0]]
    note = "A gain of the base rule over equal weight is the rule's; the agent's own is what it adds to its base rule."
    return Section(
        "comparisons", "Agent, base rule, equal weight", [Table("Differences of Sharpe ratios", columns, rows, note=note)]
    )


def could_be_wrong(data: ReportData) -> Section:
    lines = data.get("caveats") or ["Nobody has written that down, which is a reason for doubt by itself."]
    return Section("doubts", "What could be wrong with this result", [Sentences(lines)])


def behaviour(data: ReportData) -> Section | None:
    blocks: list[Block] = []
    if data.get("agent"):
        blocks.append(Tiles(data.get("agent"), "A distance is the share of wealth that would have to change places to hold the "
            "other portfolio: 0 % is the same portfolio, 100 % has nothing in common with it."))  # fmt: skip
    blocks += data.picture("exposure", "Share of wealth in stocks", lambda: charts.exposure(data.axis))
    blocks += data.picture("allocation", "What the agent held", lambda: charts.allocation(data.axis))
    if rows := data.get("allocation"):
        blocks.append(Table("Each asset in the agent's portfolio", list(rows[0]), rows, folded=True))
    blocks += data.picture("final_allocation", "What it held on the last day")
    return Section("agent", "What the agent did", blocks) if blocks else None


def attribution(data: ReportData) -> Section | None:
    blocks: list[Block] = []
    if rows := data.get("regimes"):
        sums = {key: sum(row[key] for row in rows) for key in ("days", "share_of_days", "log_excess_return", "cost")}
        blocks += data.picture(
            "regime_attribution", "Log return over the benchmark by market regime", lambda: charts.regime_bars(rows)
        )
        note = "The regime is the one known when the weights were decided. Log returns over the benchmark add up to the total."
        blocks.append(Table("By market regime", list(rows[0]), rows, total={"regime": "all", **sums}, note=note))
    return Section("attribution", "Where the result came from", blocks) if blocks else None


def luck(data: ReportData) -> Section | None:
    seeds = data.get("seeds")
    if not seeds:
        return None
    rows = [{"seed": seed, **figures} for seed, figures in seeds.items()]
    note = "The same training, started from other random numbers: how far these differ is luck."
    return Section(
        "seeds",
        "Training seeds",
        [Table("Sharpe ratio of each seed", list(rows[0]), rows, str(data.metrics.get("chosen_seed")), note=note)],
    )


def synthetic_markets(data: ReportData) -> Section:
    figures = side_by_side(data.get("generator"))
    if not figures:
        return Section(
            "generator", "Synthetic markets", [Sentences(["None were used: the agent was trained on real data only."], False)]
        )
    rows = [{"figure": key, **values} for key, values in figures.items()]
    columns = [key for key in ("figure", "real", "synthetic", "value") if any(key in row for row in rows)]
    note = "Synthetic markets are for training only; every result above is on real data."
    return Section(
        "generator", "Synthetic markets", [Table("Beside the training years", columns, rows, note=note, by_row=True)]
    )


def side_by_side(figures: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """
    :param figures: of a generator; some named ``real_...`` and ``synthetic_...``
    :return: by figure, such pairs as columns ``real`` and ``synthetic``, the others as ``value``
    """
    paired: dict[str, dict[str, float]] = {}
    for name, value in figures.items():
        kind, _, figure = name.partition("_")
        figure, column = (figure, kind) if kind in ("real", "synthetic") else (name, "value")
        paired.setdefault(figure, {})[column] = value
    return paired


def the_data(data: ReportData) -> Section | None:
    facts = data.get("data")
    blocks: list[Block] = [Sentences(facts["lines"])] if facts else []
    blocks += data.picture("data_report", "Where each asset had a price of its own")
    if facts and facts.get("assets"):
        blocks.append(Table("Each asset's prices", list(facts["assets"][0]), facts["assets"], folded=True))
    return Section("data", "The data", blocks) if blocks else None


def how_to_repeat(data: ReportData) -> Section | None:
    blocks: list[Block] = [Code("Configuration", data.config_text)] if data.config_text else []
    if data.versions:
        blocks.append(Sentences([", ".join(f"{name} {version}" for name, version in data.versions.items()) + "."], False))
    return Section("repeat", "How to repeat it", blocks) if blocks else None


_SECTIONS: Sequence[Callable[[ReportData], Section | None]] = (
    results, comparisons, could_be_wrong, behaviour, attribution, luck, synthetic_markets, the_data, how_to_repeat,
)  # fmt: skip
