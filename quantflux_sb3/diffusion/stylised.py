"""
Figures of windows of returns that every market shows: tails, clustering, leverage, correlations, drawdowns.

Source: Cont (2001), Empirical properties of asset returns: stylized facts and statistical issues. Arrays are log returns
(n_windows, window, n_series), benchmark first; means and variances are taken over all windows together, so that a calm
window counts as calm.
"""

from collections.abc import Iterable

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

#: Lags of the autocorrelation of absolute returns, and of the leverage effect [days].
ACF_LAGS = tuple(range(1, 21))
LEVERAGE_LAGS = 10


def windows_of(values: np.ndarray, window: int) -> np.ndarray:
    """
    :param values: (n_days, n_series)
    :param window: days
    :return: every window, one per starting day (n_days - window + 1, window, n_series)
    """
    return np.lib.stride_tricks.sliding_window_view(values, window, axis=0).transpose(0, 2, 1)


def acf(values: np.ndarray, lags: tuple[int, ...] | np.ndarray = ACF_LAGS) -> np.ndarray:
    """
    Autocorrelation, pooled over windows.

    :param values: (n_windows, window, n_series)
    :param lags: days
    :return: (n_lags, n_series)
    """
    centred = values - values.mean(axis=(0, 1))
    return _lagged_products(centred, centred, lags) / (centred**2).mean(axis=(0, 1))


def absolute_acf(logs: np.ndarray, lags: tuple[int, ...] | np.ndarray = ACF_LAGS) -> np.ndarray:
    """
    Autocorrelation of absolute returns, pooled over windows: volatility clustering.

    :param logs: (n_windows, window, n_series)
    :param lags: days
    :return: (n_lags, n_series)
    """
    return acf(np.abs(logs), lags)


def leverage(logs: np.ndarray) -> np.ndarray:
    """
    Correlation of a day's return with later absolute returns, mean over lags 1 to LEVERAGE_LAGS.

    Source: Bouchaud, Matacz and Potters (2001), Leverage Effect in Financial Markets, with absolute for squared returns.

    :param logs: (n_windows, window, n_series)
    :return: (n_series,)
    """
    returns = logs - logs.mean(axis=(0, 1))
    size = np.abs(logs) - np.abs(logs).mean(axis=(0, 1))
    scale = returns.std(axis=(0, 1)) * size.std(axis=(0, 1))
    return _lagged_products(returns, size, range(1, LEVERAGE_LAGS + 1)).mean(axis=0) / scale


def tail_quantiles(logs: np.ndarray, levels: tuple[float, ...] = (0.001, 0.01, 0.99, 0.999)) -> np.ndarray:
    """
    :param logs: (n_windows, window, n_series)
    :param levels: probabilities
    :return: (n_levels, n_series)
    """
    return np.quantile(logs.reshape(-1, logs.shape[-1]), levels, axis=0)


def hill(logs: np.ndarray, share: float = 0.02, sign: float = -1.0) -> np.ndarray:
    """
    Tail index; smaller is heavier.

    Source: Hill (1975), A simple general approach to inference about the tail of a distribution.

    :param logs: (n_windows, window, n_series)
    :param share: of the days that make the tail
    :param sign: -1 for losses, 1 for gains
    :return: (n_series,)
    """
    ordered = np.sort(sign * logs.reshape(-1, logs.shape[-1]), axis=0)[::-1]
    tail = ordered[: max(int(share * len(ordered)), 2)]
    return 1.0 / np.maximum(np.log(np.maximum(tail[:-1], 1e-12) / np.maximum(tail[-1], 1e-12)).mean(axis=0), 1e-12)


def correlations(logs: np.ndarray, absolute: bool = False) -> np.ndarray:
    """
    :param logs: (n_windows, window, n_series)
    :param absolute: of absolute returns
    :return: correlations of all pairs of series (n_pairs,)
    """
    rows = logs.reshape(-1, logs.shape[-1])
    return np.corrcoef((np.abs(rows) if absolute else rows).T)[np.triu_indices(logs.shape[-1], 1)]


def lower_tail_dependence(logs: np.ndarray, level: float = 0.05) -> np.ndarray:
    """
    Probability that one series is among its worst days given that the other is.

    :param logs: (n_windows, window, n_series)
    :param level: share of the worst days
    :return: of all pairs of series (n_pairs,)
    """
    rows = logs.reshape(-1, logs.shape[-1])
    worst = (rows <= np.quantile(rows, level, axis=0)).astype(np.float64)
    return (worst.T @ worst / len(rows) / level)[np.triu_indices(logs.shape[-1], 1)]


def max_drawdowns(logs: np.ndarray) -> np.ndarray:
    """
    :param logs: (n_windows, window, n_series)
    :return: deepest fall from a peak within each window, > 0 (n_windows, n_series)
    """
    levels = np.concatenate([np.zeros_like(logs[:, :1]), logs.cumsum(axis=1)], axis=1)
    return -np.expm1((levels - np.maximum.accumulate(levels, axis=1)).min(axis=1))


def _lagged_products(first: np.ndarray, later: np.ndarray, lags: Iterable[int]) -> np.ndarray:
    """
    Mean of ``first[t] * later[t + lag]`` over all windows and the days that have both, by the convolution theorem.

    :param first: (n_windows, window, n_series)
    :param later: (n_windows, window, n_series)
    :return: (n_lags, n_series); NaN for lags of a window or more
    """
    days, window = np.array(list(lags)), first.shape[1]
    length = next_fast_len(int(window + days.max()), real=True)
    power = (rfft(first, length, axis=1).conj() * rfft(later, length, axis=1)).mean(axis=0)
    pairs = np.where(days < window, window - days, np.nan)
    return irfft(power, length, axis=0)[days] / pairs[:, None]
