"""
What was decided against a benchmark, and what each decision earned: allocation, selection, interaction, costs.

Brinson and Fachler cut the excess return of a day by segment: how much was put into it (allocation) and what was picked
within it (selection), with what both did together (interaction). The effects of all days are linked by Carino's factors, so
that their sum over days, segments and effects is the log excess return over the whole span, to the last digits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantflux_sb3.evaluation.attribution import LEAST_GROWTH, regime_days, year_days
from quantflux_sb3.evaluation.metrics import STANDSTILL
from quantflux_sb3.evaluation.result import BacktestResult

INDEX, EQUAL_WEIGHTS, CASH, ASSETS = "index", "equal weights", "cash", "assets"
EFFECTS = ("allocation", "selection", "interaction")


@dataclass(frozen=True)
class BrinsonEffects:
    """
    Daily effects in units of log return; all of them together sum to the log excess return.

    :param benchmark: what it is called
    :param segments: names of the segments, cash last
    :param effects: allocation, selection and interaction (3, n_days, n_segments)
    :param costs: of trading and borrowing, less those of the benchmark (n_days,)
    :param weights: of the segments over each day (n_days, n_segments)
    :param benchmark_weights: the same of the benchmark
    """

    benchmark: str
    segments: tuple[str, ...]
    effects: np.ndarray
    costs: np.ndarray
    weights: np.ndarray
    benchmark_weights: np.ndarray


def brinson_fachler(
    result: BacktestResult,
    benchmark: BacktestResult | str = EQUAL_WEIGHTS,
    groups: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    Allocation, selection, interaction and costs by segment, by regime and by year; each table sums to the total.

    The benchmark is one of

    - ``"equal weights"``: every asset alike every day, no cash, no costs;
    - another backtest on the same days: drift-gated equal weight or the agent's own base rule. Its costs are taken off too;
    - ``"index"``: the market's benchmark. Nobody knows its constituents here, so it has one segment of assets and none of
      cash: allocation is the decision how much to invest, selection is which assets.

    Without groups every asset is a segment, within which nothing can be selected: all is allocation.

    Source: Brinson & Fachler (1985), Measuring Non-US Equity Portfolio Performance; Carino (1999), Combining Attribution
    Effects over Time, eq. 4.

    :param result: the backtest
    :param benchmark: see above
    :param groups: name of the segment, a sector say, of every asset
    :return: ``benchmark``, ``segments`` (``segment``, ``mean_weight``, ``mean_benchmark_weight``, the three effects,
        ``total``), ``regimes`` and ``years`` (``regime`` or ``year``, ``days``, the effects, ``costs``, ``total``), the sums
        of the effects, of ``costs`` and the ``total``, all in units of log return; ``cumulative_factor``: times it they add up
        to the difference of the cumulative returns
    :raises ValueError: if the benchmark does not fit, or the groups are not those of the assets
    """
    daily = brinson_effects(result, benchmark, groups)
    by_segment = daily.effects.sum(axis=1)
    segments = [
        {
            "segment": name,
            "mean_weight": float(daily.weights[:, i].mean()),
            "mean_benchmark_weight": float(daily.benchmark_weights[:, i].mean()),
            **dict(zip(EFFECTS, by_segment[:, i].tolist(), strict=True)),
            "total": float(by_segment[:, i].sum()),
        }
        for i, name in enumerate(daily.segments)
    ]
    return {
        "benchmark": daily.benchmark,
        "segments": segments,
        **{f"{cut}s": [{cut: name, "days": int(days.sum()), **_sums(daily, days)} for name, days in days_of(result)]
           for cut, days_of in (("regime", regime_days), ("year", year_days))},
        **_sums(daily, np.ones(len(result.dates), dtype=np.bool_)),
        "cumulative_factor": _cumulative_factor(result.returns, _benchmark_returns(result, benchmark)),
    }  # fmt: skip


def brinson_effects(
    result: BacktestResult, benchmark: BacktestResult | str = EQUAL_WEIGHTS, groups: Mapping[str, str] | None = None
) -> BrinsonEffects:
    """
    The daily effects behind :func:`brinson_fachler`, which explains the parameters.
    """
    _check(result, benchmark)
    segments, members = _segments(result, groups, benchmark)
    factors = np.column_stack([result.asset_returns, result.risk_free])
    held, earned = result.weights @ members, (result.weights * factors) @ members
    weights, returns = _benchmark_segments(result, benchmark, factors, members)
    before_costs = (weights * returns).sum(axis=1)
    selection = weights * (np.divide(earned, held, out=returns.copy(), where=np.abs(held) > STANDSTILL) - returns)
    effects = np.stack(
        [
            (held - weights) * (returns - before_costs[:, None]),
            selection,
            earned - held * returns - selection,
        ]
    )
    own, other = result.returns, _benchmark_returns(result, benchmark)
    costs = (own - earned.sum(axis=1)) - (other - before_costs)
    link = _log_per_difference(own, other)
    name = benchmark if isinstance(benchmark, str) else benchmark.name
    return BrinsonEffects(name, segments, effects * link[:, None], costs * link, held, weights)


def _sums(daily: BrinsonEffects, days: np.ndarray) -> dict[str, float]:
    figures = dict(zip(EFFECTS, daily.effects[:, days].sum(axis=(1, 2)).tolist(), strict=True))
    figures["costs"] = float(daily.costs[days].sum())
    return {**figures, "total": sum(figures.values())}


def _check(result: BacktestResult, benchmark: BacktestResult | str) -> None:
    if isinstance(benchmark, str):
        if benchmark not in (INDEX, EQUAL_WEIGHTS):
            raise ValueError(f"`benchmark` must be '{INDEX}', '{EQUAL_WEIGHTS}' or a backtest; got {benchmark!r}.")
    elif benchmark.assets != result.assets or not np.array_equal(benchmark.dates, result.dates):
        raise ValueError(
            f"The benchmark '{benchmark.name}' is no backtest on the assets and days of '{result.name}'. Backtest both on one "
            "window of one market."
        )
    if len(result.dates) == 0:
        raise ValueError(f"'{result.name}' has no days; there is nothing to attribute.")


def _segments(
    result: BacktestResult, groups: Mapping[str, str] | None, benchmark: BacktestResult | str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the segments, cash last, and which asset is in which, as zeros and ones (n_assets + 1, n_segments)."""
    of_asset = dict.fromkeys(result.assets, ASSETS) if benchmark == INDEX else groups or {a: a for a in result.assets}
    if missing := [asset for asset in result.assets if asset not in of_asset]:
        raise ValueError(f"`groups` must name the segment of every asset; {missing} have none.")
    if CASH in of_asset.values():
        raise ValueError(f"`groups` calls a segment '{CASH}', which is the name of what is not invested; rename it.")
    labels = [*(str(of_asset[asset]) for asset in result.assets), CASH]
    names = tuple(dict.fromkeys(labels))
    return names, np.array([[label == name for name in names] for label in labels], dtype=np.float64)


def _benchmark_segments(
    result: BacktestResult, benchmark: BacktestResult | str, factors: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and returns of the segments in the benchmark (n_days, n_segments) each."""
    if benchmark == INDEX:
        weights = np.tile([1.0, 0.0], (len(factors), 1))
        return weights, np.column_stack([result.benchmark_returns, result.risk_free])
    held = _equal_weights(result) if isinstance(benchmark, str) else benchmark.weights
    weights, earned = held @ members, (held * factors) @ members
    alike = (factors @ members) / members.sum(axis=0)  # of a segment that the benchmark does not hold: the mean of its assets
    return weights, np.divide(earned, weights, out=alike, where=np.abs(weights) > STANDSTILL)


def _equal_weights(result: BacktestResult) -> np.ndarray:
    n_assets = len(result.assets)
    return np.tile([*[1.0 / n_assets] * n_assets, 0.0], (len(result.dates), 1))


def _benchmark_returns(result: BacktestResult, benchmark: BacktestResult | str) -> np.ndarray:
    if isinstance(benchmark, BacktestResult):
        return benchmark.returns
    return result.benchmark_returns if benchmark == INDEX else result.asset_returns.mean(axis=1)


def _log_per_difference(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Carino's factor of each day: difference of log returns per difference of returns (n_days,)."""
    own, other = (np.maximum(1.0 + returns, LEAST_GROWTH) for returns in (own, other))
    ratio = (own - other) / other
    near = np.abs(ratio) < 1e-8
    safe = np.where(near, 1.0, ratio)
    return np.where(near, 1.0 - ratio / 2.0, np.log1p(safe) / safe) / other


def _cumulative_factor(own: np.ndarray, other: np.ndarray) -> float:
    """What turns log units into the difference of the cumulative returns."""
    ends = np.array([[np.prod(1.0 + returns) - 1.0] for returns in (own, other)])
    return float(1.0 / _log_per_difference(*ends)[0])
