"""
Monotone maps between a sample's distribution and the standard Gaussian, as tables of quantiles on one fixed grid.

A table lists the values at Gaussian scores ``GRID``; between them maps are linear, so that a map and its inverse undo each
other. Scores beyond the sample's extremes give the extremes: the tables invent no tails.
"""

import numpy as np
from numba import njit
from scipy.special import ndtri

#: Gaussian scores at which quantiles are listed.
GRID = np.linspace(-4.0, 4.0, 641)
#: Even buckets over a table's range, each of which knows where in the table to look.
N_BUCKETS = 2048


def quantile_table(values: np.ndarray) -> np.ndarray:
    """
    :param values: sample per series (n, n_series)
    :return: quantiles at ``GRID`` (n_series, n_grid), strictly ascending
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=0)
    scores = ndtri((np.arange(len(ordered)) + 0.5) / len(ordered))
    table = np.stack([np.interp(GRID, scores, column) for column in ordered.T])
    # Ties would make the inverse ambiguous; a slope far below any effect keeps the table invertible.
    least = 1e-9 * (table[:, -1:] - table[:, :1]) + 1e-300
    return np.maximum.accumulate(table, axis=1) + least * np.arange(len(GRID))


def to_gaussian(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """
    :param values: (..., n_series)
    :param table: quantiles (n_series, n_grid)
    :return: Gaussian scores (..., n_series)
    """
    return _interpolate(values, table, np.broadcast_to(GRID, table.shape), 0.0)


def from_gaussian(scores: np.ndarray, table: np.ndarray) -> np.ndarray:
    """
    :param scores: Gaussian scores (..., n_series)
    :param table: quantiles (n_series, n_grid)
    :return: values (..., n_series)
    """
    return _interpolate(scores, np.broadcast_to(GRID, table.shape), table, 0.0)


def match_quantiles(values: np.ndarray, source: np.ndarray, target: np.ndarray, slope_beyond: float = 1.0) -> np.ndarray:
    """
    Map values distributed like one table to another. Beyond the ends of the source, the end's shift applies.

    :param values: (..., n_series)
    :param source: quantiles of the values (n_series, n_grid)
    :param target: quantiles wanted (n_series, n_grid)
    :param slope_beyond: share of the distance beyond an end that is kept
    :return: mapped values (..., n_series)
    """
    return _interpolate(values, source, target, slope_beyond)


def _interpolate(values: np.ndarray, source: np.ndarray, target: np.ndarray, slope_beyond: float) -> np.ndarray:
    rows = np.ascontiguousarray(values, dtype=np.float64).reshape(-1, values.shape[-1])
    tables = (np.ascontiguousarray(table, dtype=np.float64) for table in (source, target))
    return _interpolate_rows(rows, *tables, slope_beyond).reshape(values.shape)


@njit(cache=True)
def _interpolate_rows(values: np.ndarray, source: np.ndarray, target: np.ndarray, slope_beyond: float) -> np.ndarray:
    """``np.interp`` per column. Even buckets over the source's range say where to look, which saves most of the search."""
    n_rows, n_series = values.shape
    last = source.shape[1] - 1
    out = np.empty_like(values)
    hint = np.empty(N_BUCKETS + 1, dtype=np.int64)
    for series in range(n_series):
        knots, images = source[series], target[series]
        low, high = knots[0], knots[last]
        per_unit = N_BUCKETS / (high - low)
        at = 0
        for bucket in range(N_BUCKETS + 1):
            while at < last - 1 and knots[at + 1] <= low + bucket / per_unit:
                at += 1
            hint[bucket] = at
        for row in range(n_rows):
            value = values[row, series]
            if np.isnan(value):
                out[row, series] = value
            elif value <= low:
                out[row, series] = images[0] + slope_beyond * (value - low)
            elif value >= high:
                out[row, series] = images[last] + slope_beyond * (value - high)
            else:
                at = hint[int((value - low) * per_unit)]
                while at < last - 1 and knots[at + 1] <= value:
                    at += 1
                while at > 0 and knots[at] > value:
                    at -= 1
                share = (value - knots[at]) / (knots[at + 1] - knots[at])
                out[row, series] = images[at] + share * (images[at + 1] - images[at])
    return out


def transport_map(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """
    Linear optimal-transport map between two zero-mean Gaussians.

    Source: Peyre and Cuturi (2019), Computational Optimal Transport, eq. 2.40, written as
    ``S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2``.

    :param source: covariance of what there is (n, n)
    :param target: covariance wanted (n, n)
    :return: symmetric matrix (n, n); ``x @ matrix`` has the wanted covariance
    """
    root, inverse_root = _power(source, 0.5), _power(source, -0.5)
    return inverse_root @ _power(root @ target @ root, 0.5) @ inverse_root


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    eigenvalues, vectors = np.linalg.eigh(matrix)
    floor = max(eigenvalues.max() * 1e-8, 1e-300)
    return (vectors * np.maximum(eigenvalues, floor) ** exponent) @ vectors.T
