"""
Was one strategy better than another, or lucky? Bootstrap intervals of the difference, and a sentence that says it.

Daily returns are neither independent nor normal, so whole blocks of days are drawn again, the same days for both
strategies: what they have in common cancels, as it should. An interval says how much one window of history can tell; it
knows nothing of how many strategies were tried before.
"""

from collections.abc import Mapping

import numpy as np

from quantflux_sb3.evaluation.metrics import sharpe_ratio
from quantflux_sb3.evaluation.result import BacktestResult

#: Mean length of a resampled block [days]: one month, long enough to keep volatility clusters.
MEAN_BLOCK = 21
CONFIDENCE = 0.95


def stationary_indices(n_days: int, mean_block: float, rng: np.random.Generator) -> np.ndarray:
    """
    One draw of the stationary bootstrap: blocks of geometric length, begun anywhere, wrapped around the end.

    Source: Politis & Romano (1994), The Stationary Bootstrap, section 2.

    :param n_days: length of the series
    :param mean_block: mean block length [days], >= 1
    :param rng: source of randomness
    :return: rows to take (n_days,)
    """
    begins = rng.random(n_days) < 1.0 / mean_block
    begins[:1] = True
    rows = np.arange(n_days)
    block_start = np.maximum.accumulate(np.where(begins, rows, 0))
    return (rng.integers(n_days, size=n_days)[block_start] + rows - block_start) % n_days


def sharpe_difference(
    a: BacktestResult, b: BacktestResult, n_bootstraps: int = 2000, seed: int = 0, mean_block: float = MEAN_BLOCK
) -> dict[str, float]:
    """
    Sharpe ratio of ``a`` minus that of ``b`` with a 95 % percentile interval from the stationary bootstrap.

    Source: Politis & Romano (1994) for the draws; Ledoit & Wolf (2008), Robust Performance Hypothesis Testing with the
    Sharpe Ratio, for resampling both together. Their studentised interval is wider in short samples.

    :param a: one backtest
    :param b: another, of the same days
    :param n_bootstraps: number of draws
    :param seed: of the draws; the same seed gives the same interval
    :param mean_block: mean block length [days]
    :return: ``difference``, ``low``, ``high``, ``sharpe_a``, ``sharpe_b`` (annualised)
    :raises ValueError: if the days differ or there are none, or a setting is below 1
    """
    _check(a, b, n_bootstraps, mean_block)
    periods, rng = a.periods_per_year, np.random.default_rng(seed)
    excess_a, excess_b = a.returns - a.risk_free, b.returns - b.risk_free
    draws = np.empty(n_bootstraps)
    for draw in range(n_bootstraps):
        rows = stationary_indices(len(excess_a), mean_block, rng)
        draws[draw] = sharpe_ratio(excess_a[rows], periods) - sharpe_ratio(excess_b[rows], periods)
    low, high = np.quantile(draws, [(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0])
    sharpe_a, sharpe_b = sharpe_ratio(excess_a, periods), sharpe_ratio(excess_b, periods)
    return {
        "difference": sharpe_a - sharpe_b,
        "low": float(low),
        "high": float(high),
        "sharpe_a": sharpe_a,
        "sharpe_b": sharpe_b,
    }


def verdict(name_a: str, name_b: str, difference: Mapping[str, float]) -> str:
    """
    The difference in plain language: ahead or behind only if the whole interval is on one side of zero.

    :param name_a: name of the one strategy
    :param name_b: name of the other
    :param difference: what :func:`sharpe_difference` returned
    :return: a clause without capital or full stop, to stand alone or inside a sentence
    """
    low, high = difference["low"], difference["high"]
    figures = f"Sharpe difference {_signed(difference['difference'])}, 95 % interval {_signed(low)} to {_signed(high)}"
    if low > 0.0:
        return f"{name_a} was ahead of {name_b} after costs ({figures})"
    if high < 0.0:
        return f"{name_a} was behind {name_b} after costs ({figures})"
    return f"no evidence that {name_a} beats {name_b} after costs ({figures})"


def _signed(value: float) -> str:
    rounded = round(value, 2)
    return f"{rounded:+.2f}" if rounded else "0.00"


def _check(a: BacktestResult, b: BacktestResult, n_bootstraps: int, mean_block: float) -> None:
    if not np.array_equal(a.dates, b.dates) or len(a.dates) == 0:
        raise ValueError(
            f"'{a.name}' has {len(a.dates)} days and '{b.name}' {len(b.dates)}, not the same ones; a difference needs the "
            "same days, and at least one. Backtest both strategies on one window."
        )
    if n_bootstraps < 1 or mean_block < 1:
        raise ValueError(f"n_bootstraps and mean_block must be at least 1; got {n_bootstraps} and {mean_block}.")
