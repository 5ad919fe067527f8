"""
Monotone maps between a sample's distribution and the standard Gaussian, as tables of quantiles on one fixed grid.

A table lists the values at Gaussian scores ``GRID``; between them maps are linear, so that a map and its inverse undo each
other. Scores beyond the sample's extremes give the extremes: the tables invent no tails.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

#: Gaussian scores at which quantiles are listed.
GRID = np.linspace(-4.0, 4.0, 641)


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
    return _each_series(lambda series, i: np.interp(series, table[i], GRID), values)


def from_gaussian(scores: np.ndarray, table: np.ndarray) -> np.ndarray:
    """
    :param scores: Gaussian scores (..., n_series)
    :param table: quantiles (n_series, n_grid)
    :return: values (..., n_series)
    """
    return _each_series(lambda series, i: np.interp(series, GRID, table[i]), scores)


def match_quantiles(values: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """
    Map values distributed like one table to another. Beyond the ends of the source, the end's shift applies.

    :param values: (..., n_series)
    :param source: quantiles of the values (n_series, n_grid)
    :param target: quantiles wanted (n_series, n_grid)
    :return: mapped values (..., n_series)
    """

    def match(series: np.ndarray, i: int) -> np.ndarray:
        beyond = series - np.clip(series, source[i, 0], source[i, -1])
        return np.interp(series, source[i], target[i]) + beyond

    return _each_series(match, values)


def _each_series(function: Callable[[np.ndarray, int], np.ndarray], values: np.ndarray) -> np.ndarray:
    return np.stack([function(values[..., i], i) for i in range(values.shape[-1])], axis=-1)


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
