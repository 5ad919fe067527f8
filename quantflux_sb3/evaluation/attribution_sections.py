"""
The sections of a report that tell where the result came from, and why the agent decided as it did.

As in :mod:`quantflux_sb3.evaluation.sections`, every number is one of ``metrics``; figures that are absent are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from quantflux_sb3.evaluation import charts
from quantflux_sb3.evaluation.figures import format_figure
from quantflux_sb3.evaluation.metrics import STANDSTILL
from quantflux_sb3.evaluation.page import Section, Table
from quantflux_sb3.evaluation.report_data import Block, ReportData

#: Features that are shown at once; the others are behind a line that opens them.
MOST_FEATURES = 12


def attribution(data: ReportData) -> Section | None:
    """
    :return: the result by regime, by decision against a benchmark, its costs and the terms of its reward
    """
    blocks = [*_regimes(data), *_brinson(data), *_costs(data), *_rewards(data)]
    return Section("attribution", "Where the result came from", blocks) if blocks else None


def reasons(data: ReportData) -> Section | None:
    """
    :return: which features moved the weights, and what the agent would have done in another regime
    """
    found = data.get("explanation")
    if not found:
        return None
    blocks: list[Block] = []
    if rows := found.get("importance"):
        blocks += _importance(data, rows)
    if decision := found.get("decision"):
        blocks += _decision(decision)
    if rows := found.get("counterfactual"):
        note = "All but the regime is as it was on the day; it changes the rule for exposure and what the policy observes."
        weights = [{"regime": row["regime"], **row["weights"]} for row in rows]
        caption = f"Same day, other regime: weights asked for on {found['date']}"
        blocks.append(Table(caption, list(weights[0]), weights, weights[0]["regime"], note=note, like="mean_weight"))
    return Section("why", "Why the agent held what it held", blocks) if blocks else None


def _regimes(data: ReportData) -> list[Block]:
    rows = data.get("regimes")
    if not rows:
        return []
    note = "The regime is the one known when the weights were decided. Log returns over the benchmark add up to the total."
    total = {"regime": "all", **_sums(rows, ("days", "share_of_days", "log_excess_return", "cost"))}
    return [
        *data.picture("regime_attribution", "Log return over the benchmark by regime", lambda: charts.regime_bars(rows)),
        Table("By market regime", list(rows[0]), rows, total=total, note=note),
    ]


def _brinson(data: ReportData) -> list[Block]:
    found = data.get("brinson")
    if not found:
        return []
    effects = ("allocation", "selection", "interaction", "costs", "total")
    rows = [{"against": name, **{key: parts[key] for key in effects}} for name, parts in found.items()]
    note = (
        "Brinson and Fachler, linked over days: the effects add up to the log return over the benchmark. Against the index, "
        "allocation is how much was invested and selection is which assets; against a portfolio of the same assets, all is "
        "allocation."
    )
    blocks: list[Block] = [Table("What its decisions earned", ("against", *effects), rows, note=note)]
    for name, parts in found.items():
        for cut, title in (("years", "by year"), ("segments", "by asset, before costs")):
            cells = parts[cut]
            columns = _telling(cells)
            sums = _sums(cells, [key for key in columns if key in (*effects, "days")])
            total = {columns[0]: "all", **sums}
            blocks.append(Table(f"Decisions against {name}, {title}", columns, cells, total=total, folded=True))
    return blocks


def _costs(data: ReportData) -> list[Block]:
    found = data.get("costs")
    if not found:
        return []
    blocks: list[Block] = []
    for cut, caption in (("reasons", "Trades by their reason"), ("years", "Trades by year"), ("assets", "Trades by asset")):
        if rows := found.get(cut):
            columns = list(rows[0])
            total = {columns[0]: "all", **_sums(rows, columns[1:])}
            traded = [row for row in rows if row.get("days", 1)]
            blocks.append(Table(f"{caption}, with their costs", columns, traded, total=total, folded=cut != "reasons"))
    return blocks


def _rewards(data: ReportData) -> list[Block]:
    found = data.get("reward")
    if not found:
        return []
    rows = [_reward_row(row["regime"], row) for row in found["regimes"]]
    note = "What the agent was paid for, on these days; the terms add up to its reward."
    total = _reward_row("all", found)
    return [Table("Reward by term and regime", _telling(rows), rows, total=total, note=note, folded=True)]


def _reward_row(regime: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"regime": regime, **{f"reward_{term}": value for term, value in row["terms"].items()}, "total": row["total"]}


def _importance(data: ReportData, rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    named = [{"feature": _feature(row), "importance": row["importance"]} for row in rows]
    top = named[:MOST_FEATURES]
    texts = [format_figure("importance", row["importance"]) for row in top]
    chart = lambda: charts.bars(  # noqa: E731
        [row["feature"] for row in top], [row["importance"] for row in top], texts, ["agent"] * len(top)
    )
    note = "Share of wealth that a feature moves in a decision, on average: integrated gradients against the mean observation."
    return [
        *data.picture("feature_importance", "Features that move the weights most", chart, note),
        Table("All features", ("feature", "importance"), named, folded=True),
    ]


def _decision(decision: Mapping[str, Any]) -> list[Block]:
    features = decision["features"][:MOST_FEATURES]
    rows = [{"feature": _feature(row), "moved": row["moved"], **row["effects"]} for row in features]
    note = "Change of each weight by the feature, against the mean observation; moved is half the sum of the changes."
    caption = f"What moved the weights on {decision['date']}"
    return [Table(caption, list(rows[0]), rows, note=note, folded=True, like="effect")]


def _feature(row: Mapping[str, Any]) -> str:
    return f"{row['block']}: {row['feature']}".replace("_", " ")


def _telling(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns in which any row is a text, or differs from zero by more than rounding."""
    return [key for key in rows[0] if any(isinstance(row[key], str) or abs(row[key]) > STANDSTILL for row in rows)]


def _sums(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    return {key: sum(row[key] for row in rows) for key in keys}
