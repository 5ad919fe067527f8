"""
Figures of one backtest, each defined once: return, risk, against the benchmark, trading, concentration.

Conventions: returns are simple and daily, after costs; a year has ``periods_per_year`` rows; standard deviations divide by
n - 1; shares and returns are fractions (0.1 = 10 %). A figure that is undefined because the series stands still or is too
short is 0.0, never NaN, so that tables and JSON files need no special cases. Intervals live in ``statistics``.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from quantflux_sb3.evaluation.result import BacktestResult

#: Daily standard deviations, drawdowns and exposures below this are rounding errors of a series that stands still.
STANDSTILL = 1e-10
#: Cap of the annualised log growth: a lucky single day must not overflow.
LARGEST_LOG_GROWTH = 100.0


def performance(result: BacktestResult) -> dict[str, float]:
    """
    All figures of one backtest.

    ============================== ==========================================================================================
    Key                            Meaning
    ============================== ==========================================================================================
    annual_return                  geometric: final wealth to the power of one over the years, minus 1
    annual_volatility              standard deviation of the daily returns, annualised
    sharpe_ratio                   :func:`sharpe_ratio` over ``risk_free``
    sortino_ratio                  :func:`sortino_ratio` over ``risk_free``
    max_drawdown                   deepest fall of wealth below its peak so far, a positive fraction
    calmar_ratio                   annual return over maximum drawdown (Young 1991); 0 if wealth never fell
    cumulative_return              final wealth minus 1
    excess_annual_return           annual return minus the annual return of the benchmark
    tracking_error                 standard deviation of the daily return minus the benchmark's, annualised
    information_ratio              annualised mean of that difference over the tracking error (Grinold & Kahn 2000, ch. 5)
    beta                           slope of the excess return on the benchmark's excess return
    annual_turnover                sum of absolute trades per year, purchases and sales both counted [fraction of wealth]
    annual_cost                    trading costs paid per year [fraction of wealth]
    trades_per_year                days with a trade per year
    mean_exposure                  mean share of wealth in assets
    effective_assets               1 / sum of squared shares of the assets, mean over invested days; equal weight: n
    distance_to_equal_weight       half the absolute distance between these shares and 1 / n, mean over invested days
    ============================== ==========================================================================================

    The shares of the last two are weights of the assets divided by their sum (by their absolute sum where there are short
    positions); days without any exposure are left out.

    :param result: the backtest
    :return: figures by name, plain finite floats
    """
    figures = {**_absolute_figures(result), **_relative_figures(result), **_trading_figures(result)}
    return {name: float(value) for name, value in figures.items()}


def table_rows(results: Iterable[BacktestResult]) -> list[dict[str, Any]]:
    """
    :param results: backtests on the same days
    :return: ``{"name": ..., **performance(result)}`` of each, the highest Sharpe ratio first
    """
    rows = [{"name": result.name, **performance(result)} for result in results]
    return sorted(rows, key=lambda row: row["sharpe_ratio"], reverse=True)


def annual_return(returns: np.ndarray, periods_per_year: int = 252) -> float:
    """
    Geometric annual return; -1 after ruin. Spans shorter than a year are annualised too: read them with care.

    :param returns: simple returns (n_days,)
    :param periods_per_year: rows per year
    """
    if len(returns) == 0:
        return 0.0
    if np.min(returns) <= -1.0:
        return -1.0
    growth = float(np.log1p(returns).sum()) * periods_per_year / len(returns)
    return math.expm1(min(growth, LARGEST_LOG_GROWTH))


def annual_volatility(returns: np.ndarray, periods_per_year: int = 252) -> float:
    """
    :param returns: simple returns (n_days,)
    :param periods_per_year: rows per year
    :return: standard deviation (n - 1), annualised; 0 for fewer than two days
    """
    return _deviation(returns) * math.sqrt(periods_per_year)


def sharpe_ratio(excess_returns: np.ndarray, periods_per_year: int = 252) -> float:
    """
    Mean over standard deviation of the excess return, annualised by the square root of the periods.

    Source: Sharpe (1994), The Sharpe Ratio, eq. 3-6.

    :param excess_returns: simple returns minus those of cash (n_days,)
    :param periods_per_year: rows per year
    :return: the ratio; 0 if the series stands still or has fewer than two days
    """
    deviation = _deviation(excess_returns)
    return float(np.mean(excess_returns)) / deviation * math.sqrt(periods_per_year) if deviation else 0.0


def sortino_ratio(excess_returns: np.ndarray, periods_per_year: int = 252) -> float:
    """
    As the Sharpe ratio, over the root mean square of the losses (all days counted, gains as 0).

    Source: Sortino & Price (1994), Performance Measurement in a Downside Risk Framework, target = cash.

    :param excess_returns: simple returns minus those of cash (n_days,)
    :param periods_per_year: rows per year
    :return: the ratio; 0 if no day lost
    """
    if len(excess_returns) == 0:
        return 0.0
    downside = math.sqrt(np.mean(np.minimum(excess_returns, 0.0) ** 2))
    return float(np.mean(excess_returns)) / downside * math.sqrt(periods_per_year) if downside > STANDSTILL else 0.0


def drawdown(wealth: np.ndarray, start: float = 1.0) -> np.ndarray:
    """
    :param wealth: wealth after each day (n_days,)
    :param start: wealth before the first day, so that a loss on the first day counts
    :return: fraction below the highest wealth so far (n_days,), in [0, 1]
    """
    peak = np.maximum(np.maximum.accumulate(wealth), start)
    return 1.0 - wealth / peak


def distance_between(result_a: BacktestResult, result_b: BacktestResult) -> float:
    """
    How differently two strategies were invested: 0 the same every day, 1 nothing in common.

    :param result_a: one backtest
    :param result_b: another, of the same assets and days
    :return: half the absolute distance of the weights, cash included, mean over days
    :raises ValueError: if assets or days differ
    """
    if result_a.assets != result_b.assets or not np.array_equal(result_a.dates, result_b.dates):
        raise ValueError(
            f"Weights can be compared on the same assets and days only; got {_span(result_a)} and {_span(result_b)}. "
            "Backtest both strategies on one window of one market."
        )
    return float(np.abs(result_a.weights - result_b.weights).sum(axis=1).mean() / 2.0) if len(result_a.dates) else 0.0


def invested_shares(result: BacktestResult) -> np.ndarray:
    """
    :param result: the backtest
    :return: weights of the assets over their absolute sum (n_invested_days, n_assets), days without exposure left out
    """
    weights = result.weights[:, :-1]
    gross = np.abs(weights).sum(axis=1, keepdims=True)
    invested = gross[:, 0] > STANDSTILL
    return weights[invested] / gross[invested]


def _absolute_figures(result: BacktestResult) -> dict[str, float]:
    returns, periods = result.returns, result.periods_per_year
    excess = returns - result.risk_free
    wealth = result.wealth
    growth, deepest = annual_return(returns, periods), float(drawdown(wealth).max(initial=0.0))
    return {
        "annual_return": growth,
        "annual_volatility": annual_volatility(returns, periods),
        "sharpe_ratio": sharpe_ratio(excess, periods),
        "sortino_ratio": sortino_ratio(excess, periods),
        "max_drawdown": deepest,
        "calmar_ratio": growth / deepest if deepest > STANDSTILL else 0.0,
        "cumulative_return": wealth[-1] - 1.0 if len(wealth) else 0.0,
    }


def _relative_figures(result: BacktestResult) -> dict[str, float]:
    periods = result.periods_per_year
    active = result.returns - result.benchmark_returns
    benchmark_growth = annual_return(result.benchmark_returns, periods)
    return {
        "excess_annual_return": annual_return(result.returns, periods) - benchmark_growth,
        "tracking_error": annual_volatility(active, periods),
        "information_ratio": sharpe_ratio(active, periods),
        "beta": _beta(result.returns - result.risk_free, result.benchmark_returns - result.risk_free),
    }


def _trading_figures(result: BacktestResult) -> dict[str, float]:
    shares, periods = invested_shares(result), result.periods_per_year
    return {
        "annual_turnover": _mean(result.turnover) * periods,
        "annual_cost": _mean(result.costs) * periods,
        "trades_per_year": _mean(result.rebalanced) * periods,
        "mean_exposure": _mean(result.exposure),
        "effective_assets": _mean(1.0 / (shares**2).sum(axis=1)),
        "distance_to_equal_weight": _mean(np.abs(shares - 1.0 / len(result.assets)).sum(axis=1) / 2.0),
    }


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _deviation(values: np.ndarray) -> float:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return deviation if deviation > STANDSTILL else 0.0


def _beta(excess_returns: np.ndarray, benchmark_excess: np.ndarray) -> float:
    if not _deviation(benchmark_excess):
        return 0.0
    covariance = np.cov(excess_returns, benchmark_excess)
    return float(covariance[0, 1] / covariance[1, 1])


def _span(result: BacktestResult) -> str:
    days = f"{result.dates[0]} to {result.dates[-1]}" if len(result.dates) else "no days"
    return f"'{result.name}' ({len(result.assets)} assets, {days})"
