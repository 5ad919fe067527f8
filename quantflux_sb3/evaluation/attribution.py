"""
Where a result came from: by market regime, by asset, by cash and by costs.

Nothing here is estimated: the parts are sums over days and add up to the whole.
"""

from typing import Any

import numpy as np

from quantflux_sb3.evaluation.metrics import annual_return, annual_volatility, invested_shares
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.regimes import REGIMES

#: Wealth is taken to keep at least this share over a day, so that logarithms stay finite after ruin.
LEAST_GROWTH = 1e-12
#: A weight this close to its cap has hit it.
CAP_TOLERANCE = 1e-6


def log_excess_returns(result: BacktestResult) -> np.ndarray:
    """
    :param result: the backtest
    :return: log return of wealth minus log return of the benchmark (n_days,); adds up over days
    """
    own, benchmark = (np.maximum(1.0 + r, LEAST_GROWTH) for r in (result.returns, result.benchmark_returns))
    return np.log(own) - np.log(benchmark)


def regime_attribution(result: BacktestResult) -> list[dict[str, Any]]:
    """
    The backtest cut by the regime that was known when the weights were decided.

    ``log_excess_return`` sums over the regimes to the total log excess return over the benchmark; ``days`` and ``cost``
    sum to theirs.

    :param result: the backtest
    :return: for each of ``REGIMES`` in order: ``regime``, ``days``, ``share_of_days``, ``log_excess_return``,
        ``annual_return`` and ``annual_volatility`` of its days, ``mean_exposure``, ``cost`` (sum) [fraction of wealth];
        zeros for a regime that did not occur
    :raises ValueError: if a label is no index into ``REGIMES``
    """
    labels = np.asarray(result.regimes)
    if len(labels) and not np.isin(labels, np.arange(len(REGIMES))).all():
        raise ValueError(f"`regimes` of '{result.name}' holds {np.unique(labels)}; expected 0 to {len(REGIMES) - 1}.")
    log_excess = log_excess_returns(result)
    return [_regime_row(result, name, labels == index, log_excess) for index, name in enumerate(REGIMES)]


def _regime_row(result: BacktestResult, name: str, days: np.ndarray, log_excess: np.ndarray) -> dict[str, Any]:
    n_days, returns = int(days.sum()), result.returns[days]
    return {
        "regime": name,
        "days": n_days,
        "share_of_days": n_days / max(len(days), 1),
        "log_excess_return": float(log_excess[days].sum()),
        "annual_return": annual_return(returns, result.periods_per_year),
        "annual_volatility": annual_volatility(returns, result.periods_per_year),
        "mean_exposure": float(result.exposure[days].mean()) if n_days else 0.0,
        "cost": float(result.costs[days].sum()),
    }


def allocation_diagnostics(result: BacktestResult, max_weight: float | None = None) -> dict[str, Any]:
    """
    What was held and what it earned.

    The contributions of assets, cash and costs sum to the sum of the daily returns. Weights are those held over the day,
    so an asset that drifted above its cap without a trade counts as a hit.

    :param result: the backtest
    :param max_weight: cap per asset, to count the days at it [fraction of wealth]
    :return: ``assets`` (per asset ``asset``, ``mean_weight``, ``min_weight``, ``max_weight``, ``contribution`` and, if the
        cap is given, ``cap_hits`` as share of days), ``mean_cash``, ``cash_contribution``, ``cost_contribution``,
        ``herfindahl`` (mean sum of squared shares of the invested part; 1 = one asset), ``cap_hits`` (share of days with
        any asset at the cap)
    :raises ValueError: if there are no days
    """
    if len(result.dates) == 0:
        raise ValueError(f"'{result.name}' has no days; there is no allocation to describe.")
    weights, cash = result.weights[:, :-1], result.weights[:, -1]
    earned, on_cash = (weights * result.asset_returns).sum(axis=0), float((cash * result.risk_free).sum())
    shares = invested_shares(result)
    figures: dict[str, Any] = {
        "assets": [_asset_row(name, weights[:, i], earned[i], max_weight) for i, name in enumerate(result.assets)],
        "mean_cash": float(cash.mean()),
        "cash_contribution": on_cash,
        "cost_contribution": float(result.returns.sum() - earned.sum() - on_cash),
        "herfindahl": float((shares**2).sum(axis=1).mean()) if len(shares) else 0.0,
    }
    if max_weight is not None:
        figures["cap_hits"] = _share_at_cap(weights.max(axis=1), max_weight)
    return figures


def _asset_row(name: str, weights: np.ndarray, contribution: float, max_weight: float | None) -> dict[str, Any]:
    row = {
        "asset": name,
        "mean_weight": float(weights.mean()),
        "min_weight": float(weights.min()),
        "max_weight": float(weights.max()),
        "contribution": float(contribution),
    }
    return row if max_weight is None else {**row, "cap_hits": _share_at_cap(weights, max_weight)}


def _share_at_cap(weights: np.ndarray, max_weight: float) -> float:
    return float((weights >= max_weight - CAP_TOLERANCE).mean())
