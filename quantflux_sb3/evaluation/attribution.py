"""
Where a result came from: by market regime, by asset, by cash, by costs, by term of the reward.

Nothing here is estimated: the parts are sums over days and add up to the whole. What was decided against a benchmark's
weights is in :mod:`quantflux_sb3.evaluation.brinson`.
"""

from typing import Any

import numpy as np

from quantflux_sb3.costs import CostModel
from quantflux_sb3.dynamics import REWARD_TERMS, TRADE_REASONS
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
    log_excess = log_excess_returns(result)
    return [_regime_row(result, name, days, log_excess) for name, days in regime_days(result)]


def regime_days(result: BacktestResult) -> list[tuple[str, np.ndarray]]:
    """
    :param result: the backtest
    :return: each of ``REGIMES`` with its days, a mask (n_days,)
    :raises ValueError: if a label is no index into ``REGIMES``
    """
    labels = np.asarray(result.regimes)
    if len(labels) and not np.isin(labels, np.arange(len(REGIMES))).all():
        raise ValueError(f"`regimes` of '{result.name}' holds {np.unique(labels)}; expected 0 to {len(REGIMES) - 1}.")
    return [(name, labels == index) for index, name in enumerate(REGIMES)]


def year_days(result: BacktestResult) -> list[tuple[str, np.ndarray]]:
    """
    :param result: the backtest
    :return: each calendar year with its days, a mask (n_days,)
    """
    years = result.dates.astype("datetime64[Y]")
    return [(str(year), years == year) for year in np.unique(years)]


def traded_values(result: BacktestResult) -> np.ndarray:
    """
    What was bought (positive) and sold (negative) of each asset before each day, from the weights.

    A position that was delisted shows as sold at the next trade, which it was not.

    :param result: the backtest, begun in cash
    :return: (n_days, n_assets) [fraction of wealth before the trade]; 0 on days without one
    """
    held = result.weights[:, :-1]
    factors = np.column_stack([1.0 + result.asset_returns, 1.0 + result.risk_free])
    grown = result.weights * factors
    drifted = np.zeros_like(held)
    drifted[1:] = grown[:-1, :-1] / np.maximum(grown[:-1].sum(axis=1, keepdims=True), LEAST_GROWTH)
    trades = held * (1.0 - result.costs)[:, None] - drifted
    return np.where(result.rebalanced[:, None], trades, 0.0)


def cost_attribution(result: BacktestResult, costs: CostModel | float | None = None) -> dict[str, Any]:
    """
    Turnover and costs by asset, by regime, by year and by the reason for the trade; each table sums to the totals.

    :param result: the backtest, begun in cash
    :param costs: what it was charged: the cost of each trade is then that of its asset, and the fixed fees are told apart.
        Without it the cost of a day is shared among the assets in proportion to what was traded of them
    :return: ``assets`` (``asset``, ``turnover``, ``cost``), ``regimes`` and ``years`` (``regime`` or ``year``, ``days``,
        ``trades``, ``turnover``, ``cost``), ``reasons`` (the same by ``reason``, where trades have one), ``fixed_fees``,
        ``turnover``, ``cost`` (sums over the days) [fraction of wealth at the time], ``log_cost`` (log wealth lost to them)
    """
    size = np.abs(traded_values(result))
    traded = size.sum(axis=1)
    shares = size / np.where(traded > 0.0, traded, 1.0)[:, None]
    cost = shares * result.costs[:, None]
    if costs is not None:
        linear, impact = CostModel.of(costs).rates(len(result.assets))
        cost = linear * size + impact * size**1.5
    turnover = shares * result.turnover[:, None]
    cuts = {"regime": regime_days(result), "year": year_days(result)}
    if result.reasons is not None:
        cuts["reason"] = [(reason, result.reasons == index) for index, reason in enumerate(TRADE_REASONS)]
    return {
        "assets": [
            {"asset": name, "turnover": float(turnover[:, i].sum()), "cost": float(cost[:, i].sum())}
            for i, name in enumerate(result.assets)
        ],
        **{f"{name}s": [_trading_row(result, name, *cut) for cut in cut_by] for name, cut_by in cuts.items()},
        "fixed_fees": float(result.costs.sum() - cost.sum()) if costs is not None else 0.0,
        "turnover": float(result.turnover.sum()),
        "cost": float(result.costs.sum()),
        "log_cost": float(-np.log(np.maximum(1.0 - result.costs, LEAST_GROWTH)).sum()),
    }


def _trading_row(result: BacktestResult, cut: str, name: str, days: np.ndarray) -> dict[str, Any]:
    return {
        cut: name,
        "days": int(days.sum()),
        "trades": int(result.rebalanced[days].sum()),
        "turnover": float(result.turnover[days].sum()),
        "cost": float(result.costs[days].sum()),
    }


def reward_attribution(result: BacktestResult) -> dict[str, Any]:
    """
    What the reward was made of, by term, and by regime and year. Every table sums to the total reward of the days.

    :param result: the backtest, with ``reward_terms``
    :return: ``terms`` (sum of each of ``REWARD_TERMS``), ``total``, ``regimes`` and ``years`` (``regime`` or ``year``,
        ``days``, ``total``, ``terms``)
    :raises ValueError: if the backtest was not rewarded
    """
    if result.reward_terms is None:
        raise ValueError(f"'{result.name}' has no `reward_terms`; only what is played through the kernel is rewarded.")
    return {
        **_reward_row(result.reward_terms),
        "regimes": [_reward_cut(result.reward_terms, "regime", *cut) for cut in regime_days(result)],
        "years": [_reward_cut(result.reward_terms, "year", *cut) for cut in year_days(result)],
    }


def _reward_row(reward_terms: np.ndarray) -> dict[str, Any]:
    sums = dict(zip(REWARD_TERMS, reward_terms.sum(axis=0).tolist(), strict=True))
    return {"total": float(reward_terms.sum()), "terms": sums}


def _reward_cut(reward_terms: np.ndarray, cut: str, name: str, days: np.ndarray) -> dict[str, Any]:
    return {cut: name, "days": int(days.sum()), **_reward_row(reward_terms[days])}


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
