"""
Histories that could have been: the stationary bootstrap of daily returns, by arch, and Sharpe ratios of what it draws.

Daily returns are neither independent nor normal, so whole blocks of days are drawn again, the same days for every series:
what strategies have in common cancels in their differences, as it should. Draws of the same length and settings are made
once and shared, so that the intervals of many strategies cost little more than that of one.
"""

from functools import lru_cache

import numpy as np
from numba import njit

from quantflux_sb3.evaluation.metrics import STANDSTILL

#: Mean length of a resampled block [days]: one month, long enough to keep volatility clusters.
MEAN_BLOCK = 21
N_BOOTSTRAPS = 2000


@lru_cache(maxsize=2)
def resampled_days(n_days: int, n_bootstraps: int = N_BOOTSTRAPS, seed: int = 0, mean_block: float = MEAN_BLOCK) -> np.ndarray:
    """
    Draws of the stationary bootstrap: blocks of geometric length, begun anywhere, wrapped around the end.

    Source: Politis & Romano (1994), The Stationary Bootstrap, section 2; drawn by ``arch.bootstrap.StationaryBootstrap``.

    :param n_days: length of the series, at least 1
    :param n_bootstraps: number of draws
    :param seed: of the draws
    :param mean_block: mean block length [days]
    :return: rows to take (n_bootstraps, n_days), read-only
    :raises ValueError: if a number is below 1
    """
    if n_days < 1:
        raise ValueError("There are no days to draw from.")
    if n_bootstraps < 1 or mean_block < 1:
        raise ValueError(f"n_bootstraps and mean_block must be at least 1; got {n_bootstraps} and {mean_block}.")
    from arch.bootstrap import StationaryBootstrap

    sampler = StationaryBootstrap(mean_block, np.arange(n_days, dtype=np.int32), seed=np.random.default_rng(seed))
    rows = np.stack([drawn[0] for drawn, _ in sampler.bootstrap(n_bootstraps)])
    rows.flags.writeable = False
    return rows


@njit(cache=True)
def sums_of_draws(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """
    :param rows: days of each draw (n_bootstraps, n_days)
    :param values: one column per series (n_days, n_series)
    :return: sum of every series over the days of every draw (n_bootstraps, n_series)
    """
    sums = np.zeros((rows.shape[0], values.shape[1]))
    for draw in range(rows.shape[0]):
        for row in rows[draw]:
            for series in range(values.shape[1]):
                sums[draw, series] += values[row, series]
    return sums


def sharpe_draws(excess_returns: np.ndarray, rows: np.ndarray, periods_per_year: int = 252) -> np.ndarray:
    """
    :func:`quantflux_sb3.evaluation.metrics.sharpe_ratio` of every series on the days of every draw.

    :param excess_returns: simple returns minus those of cash (n_days, n_series)
    :param rows: days of each draw (n_bootstraps, n_days)
    :param periods_per_year: rows per year
    :return: Sharpe ratios (n_bootstraps, n_series); 0 where a series stands still
    """
    n_series = excess_returns.shape[1]
    centre = excess_returns.mean(axis=0)
    deviations = np.ascontiguousarray(excess_returns - centre)  # sums of squares lose no digits around their mean
    sums = sums_of_draws(rows, np.hstack([deviations, deviations**2]))
    return sharpe_from_sums(sums[:, :n_series], sums[:, n_series:], rows.shape[1], centre) * np.sqrt(periods_per_year)


def sharpe_from_sums(sums: np.ndarray, squares: np.ndarray, n_days: int | np.ndarray, centre: np.ndarray) -> np.ndarray:
    """
    :param sums: of the deviations from the centre (n, n_series)
    :param squares: sums of their squares (n, n_series)
    :param n_days: how many days were summed, a number or (n, 1)
    :param centre: what was taken off each series (n_series,)
    :return: Sharpe ratios per day (n, n_series); 0 where a series stands still
    """
    variance = (squares - sums**2 / n_days) / np.maximum(n_days - 1, 1)
    deviation = np.sqrt(np.maximum(variance, 0.0))
    moves = deviation > STANDSTILL
    return np.where(moves, (centre + sums / n_days) / np.where(moves, deviation, 1.0), 0.0)
