"""
The sections of a report, each a function from :class:`ReportData` to a section, or None where its figures are absent.

Every number comes from ``metrics``, which is what ``metrics.json`` holds; nothing is computed here but the
order of rows and the pairing of columns. Curves come from the days (:class:`quantflux_sb3.evaluation.daily.DailySeries`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quantflux_sb3.evaluation import charts
from quantflux_sb3.evaluation.attribution_sections import attribution, reasons
from quantflux_sb3.evaluation.baselines import AGENT, BASE_RULE, EQUAL_WEIGHT
from quantflux_sb3.evaluation.chart_parts import MOST_DAILY
from quantflux_sb3.evaluation.figures import MAIN_COLUMNS
from quantflux_sb3.evaluation.page import Code, Section, Sentences, Table, Tiles, Verdict
from quantflux_sb3.evaluation.report_data import REGIME_KEYS, Block, ReportData


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
    intervals, differences = data.get("sharpe_intervals"), data.get("sharpe_differences")
    tested = data.metrics["test"].items()
    rows = [{"name": name, **_held(figures), "sharpe_interval": intervals.get(name)} for name, figures in tested]
    rows.sort(key=lambda row: row["sharpe_ratio"], reverse=True)
    main = [key for key in MAIN_COLUMNS if key in rows[0] and (intervals or key != "sharpe_interval")]
    more = ["name", *(key for key in rows[0] if key not in MAIN_COLUMNS)]
    note = "Highest Sharpe ratio first; the agent stands out. Turnover counts purchases and sales, as a share of wealth."
    blocks: list[Block] = [Table("Strategies", main, rows, AGENT, note=note)]
    blocks += [Table("More figures of each strategy", more, rows, AGENT, folded=True)] if len(more) > 1 else []
    blocks += [_comparisons(differences)] if differences else []
    blocks += _curves(data)
    if intervals:
        shown = [{"name": row["name"], **intervals[row["name"]]} for row in rows]
        note = "Intervals of two strategies may overlap although one is ahead: a comparison takes both on the same days."
        chart = lambda: charts.intervals(shown, "sharpe", "Sharpe ratio")  # noqa: E731
        blocks += data.picture("sharpe_intervals", "Sharpe ratios with their 95 % intervals", chart, note)
    return Section("results", "Results on unseen years, after costs", blocks)


def _held(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a strategy; what is said of a portfolio is left blank where none was ever held, as in an index."""
    if figures.get("effective_assets", 1.0) > 0.0:
        return dict(figures)
    return {**figures, "effective_assets": None, "distance_to_equal_weight": None}


def _comparisons(differences: Mapping[str, Mapping[str, Any]]) -> Table:
    keys = ("sharpe_a", "sharpe_b", "p_value", "n_seeds_a")
    rows = [
        {"comparison": pair.replace(" - ", " against "), **row, "interval": {end: row[end] for end in ("low", "high")}}
        for pair, row in differences.items()
    ]
    columns = [key for key in ("comparison", "difference", "interval", *keys) if key in rows[0]]
    note = "A gain of the base rule over equal weight is the rule's; the agent's own is what it adds to its base rule."
    return Table("The comparisons in figures", columns, rows, note=note, folded=True)


def _curves(data: ReportData) -> list[Block]:
    n_days = len(data.daily.dates) if data.daily else 0
    note = "Background: the regime that was known on the day. On a wide screen, more strategies can be switched on."
    if n_days > MOST_DAILY:
        note += " One point a week, and the days of every strategy's peak and deepest fall."
    blocks = data.picture(
        "cumulative_returns", "Growth of 1 after costs, logarithmic scale", lambda: charts.growth(data.axis, data.index),
        note, REGIME_KEYS,
    )  # fmt: skip
    blocks += data.picture("drawdown", "How far below the peak", lambda: charts.drawdown(data.axis, data.index))
    if data.daily and n_days > 1.5 * data.daily.periods_per_year:
        chart = lambda: charts.rolling_sharpe(data.axis, data.index)  # noqa: E731
        blocks += data.picture("rolling_sharpe", "Sharpe ratio of the year before each day", chart, keys=REGIME_KEYS)
    return blocks


def could_be_wrong(data: ReportData) -> Section:
    lines = data.get("caveats") or ["Nobody has written that down, which is a reason for doubt by itself."]
    return Section("doubts", "What could be wrong with this result", [Sentences(lines)])


def behaviour(data: ReportData) -> Section | None:
    blocks: list[Block] = []
    if data.get("agent"):
        note = (
            "A distance is the share of wealth that would have to change places to hold the other portfolio: 0 % is the same "
            "portfolio, 100 % has nothing in common with it."
        )
        blocks.append(Tiles(data.get("agent"), note))
    blocks += data.picture("exposure", "Share of wealth in assets", lambda: charts.exposure(data.axis), keys=REGIME_KEYS)
    blocks += data.picture("allocation", "What the agent held", lambda: charts.allocation(data.axis))
    if rows := data.get("allocation"):
        blocks.append(Table("Each asset in the agent's portfolio", list(rows[0]), rows, folded=True))
    blocks += data.picture("final_allocation", "What it held on the last day", lambda: charts.last_allocation(data.daily))
    return Section("agent", "What the agent did", blocks) if blocks else None


def luck(data: ReportData) -> Section | None:
    blocks: list[Block] = []
    if seeds := data.get("seeds"):
        rows = [{"seed": seed, **figures} for seed, figures in seeds.items()]
        note = "The same training, started from other random numbers: how far these differ is luck."
        chosen = str(data.metrics.get("chosen_seed"))
        blocks.append(Table("Sharpe ratio of each training seed", list(rows[0]), rows, chosen, note=note))
    spread = data.get("seed_distribution")
    if spread.get("n_seeds", 0) > 1:
        columns = ("iqm", "iqm_interval", "median", "deviation", "min", "max")
        row = {"figure": "test_sharpe_ratio", **spread, "iqm_interval": {end: spread[end] for end in ("low", "high")}}
        blocks.append(Table("Seeds as a distribution", columns, [row]))
    if chances := _chances(data):
        note = (
            "The deflated Sharpe ratio is the probability that the agent is better than the best of as many worthless trials; "
            "the p-value asks whether the best of all strategies beats equal weight, given that it was the best; overfitting "
            "is how often the best strategy on one half of the days is below the median on the other."
        )
        blocks.append(Tiles(chances, note))
    return Section("luck", "How much of it is luck", blocks) if blocks else None


def _chances(data: ReportData) -> dict[str, Any]:
    deflated = data.get("deflated_sharpe")
    keys = ("probabilistic_sharpe_ratio", "deflated_sharpe_ratio", "expected_maximum_sharpe", "n_trials")
    figures = {key: deflated[key] for key in keys if key in deflated}
    if superior := data.get("superior_ability"):
        figures["superior_p_value"] = superior["p_value"]
    if overfitting := data.get("overfitting"):
        figures["overfitting_probability"] = overfitting["probability"]
    return figures


def folds(data: ReportData) -> Section | None:
    found = data.get("folds")
    if not found:
        return None
    rows = [_fold_row(fold) for fold in found]
    columns = [key for key in rows[0] if any(row[key] is not None for row in rows)]
    fitted = "a generator and agents" if data.uses_generator else "its agents"
    note = (
        f"Every fold trains {fitted} anew on the days up to its end of training, and chooses on its validation days; "
        "the curves above join the test days of all folds. Sharpe ratios of single folds are mostly chance."
    )
    return Section("folds", "Fold by fold", [Table("Sharpe ratios on the test days of each fold", columns, rows, note=note)])


def _seeds_of_fold(sharpes: Sequence[float] | None) -> dict[str, Any]:
    """The range of several seeds; the figure itself where there is but one."""
    if not sharpes:
        return {}
    low, high = min(sharpes), max(sharpes)
    if len(sharpes) == 1:
        return {"agent_sharpe": low}
    return {"seeds_range": {"low": low, "high": high} if low < high else low}


def _fold_row(fold: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "fold": fold["fold"],
        "trained_until": fold["train"][1],
        "test_first": fold["test"][0],
        "test_last": fold["test"][1],
        **_seeds_of_fold(fold.get("test_sharpe")),
        **{f"{name}_sharpe": fold.get(name) for name in (BASE_RULE, EQUAL_WEIGHT)},
    }


def synthetic_markets(data: ReportData) -> Section:
    figures = side_by_side(data.get("generator"))
    title = "Synthetic markets"
    if not figures and data.uses_generator and data.get("folds"):
        line = "The agents of every fold trained on the synthetic markets of its own generator; results are on real data."
        return Section("generator", title, [Sentences([line], False)])
    if not figures:
        return Section("generator", title, [Sentences(["None were used: the agent was trained on real data only."], False)])
    pairs = [{"figure": key, **values} for key, values in figures.items() if "value" not in values]
    single = {key: values["value"] for key, values in figures.items() if "value" in values}
    note = "Synthetic markets are for training only; every result above is on real data."
    table = Table("Beside the training years", ("figure", "real", "synthetic"), pairs, note=note, by_row=True)
    return Section("generator", title, [table, *([Tiles(single)] if single else [])])


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
    blocks: list[Block] = []
    if data.config_text:
        command = "walkforward" if data.get("folds") else "run"
        line = f"quantflux {command} --config config.yml, with the configuration below, which lies in the run's folder."
        blocks += [Sentences([line], False), Code("Configuration", data.config_text)]
    if data.versions:
        blocks.append(Sentences([", ".join(f"{name} {version}" for name, version in data.versions.items()) + "."], False))
    return Section("repeat", "How to repeat it", blocks) if blocks else None


_SECTIONS: Sequence[Callable[[ReportData], Section | None]] = (
    results, could_be_wrong, behaviour, attribution, reasons, luck, folds, synthetic_markets, the_data, how_to_repeat,
)  # fmt: skip
