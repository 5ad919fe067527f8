"""Kernels, block means and their interpolation: how daily series become smooth paths and paths become daily again."""

import numpy as np
from scipy.fft import irfft, rfft
from scipy.ndimage import convolve1d

from quantflux_sb3.diffusion.config import BLOCK_DAYS

#: Half-width of the volatility kernel [days] and of the kernel of the volatility condition.
VOLATILITY_HALF_WIDTH = 7
CONDITION_HALF_WIDTH = 20
#: Standard deviation of the trend kernel [days], cut at three of them.
TREND_WIDTH = 12
TREND_REACH = 3 * TREND_WIDTH
#: Block means on each side that daily values are interpolated from.
TAP_REACH = 2
#: Reach of the filters that give the daily parts' noise its spectrum [days].
NOISE_REACH = 72
#: Floor of a day's absolute return, so that a standing price has a log volatility.
LEAST_VOLATILITY = 1e-6


def triangular_kernel(half_width: int) -> np.ndarray:
    weights = 1.0 - np.abs(np.arange(-half_width, half_width + 1)) / (half_width + 1)
    return weights / weights.sum()


def trend_kernel() -> np.ndarray:
    weights = np.exp(-0.5 * (np.arange(-TREND_REACH, TREND_REACH + 1) / TREND_WIDTH) ** 2)
    return weights / weights.sum()


def kernel_mean(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """
    Weighted mean around each row, over the rows that exist.

    :param values: (n_days, n_series)
    :param kernel: weights, symmetric (odd length)
    :return: (n_days, n_series)
    """
    weight = convolve1d(np.ones(len(values)), kernel, mode="constant")
    return convolve1d(values, kernel, axis=0, mode="constant") / weight[:, None]


def around_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """
    Mean of the rows up to ``reach`` away, of those that exist.

    :param values: (n, length, n_channels)
    """
    length = values.shape[1]
    total = np.concatenate([np.zeros_like(values[:, :1]), values.cumsum(axis=1)], axis=1)
    first, stop = np.maximum(np.arange(length) - reach, 0), np.minimum(np.arange(length) + reach + 1, length)
    return (total[:, stop] - total[:, first]) / (stop - first)[:, None]


def log_volatility(values: np.ndarray, half_width: int) -> np.ndarray:
    """
    Log of the kernel-weighted mean absolute value: robust, because a crash enters linearly and not squared.

    :param values: returns (n_days, n_series)
    :param half_width: of the triangular kernel [days]
    :return: (n_days, n_series)
    """
    return np.log(kernel_mean(np.abs(values), triangular_kernel(half_width)) + LEAST_VOLATILITY)


def block_means(values: np.ndarray) -> np.ndarray:
    """
    :param values: daily (..., n_days, n_series); a last incomplete block is filled with its last day
    :return: (..., n_blocks, n_series)
    """
    missing = -values.shape[-2] % BLOCK_DAYS
    filled = np.concatenate([values, np.repeat(values[..., -1:, :], missing, axis=-2)], axis=-2)
    return filled.reshape(*values.shape[:-2], -1, BLOCK_DAYS, values.shape[-1]).mean(axis=-2)


def fit_taps(daily: np.ndarray) -> np.ndarray:
    """
    Least-squares weights that give each day of a block from the block means around it.

    :param daily: smooth daily series (n_days, n_series)
    :return: weights (BLOCK_DAYS, 2 * TAP_REACH + 1)
    """
    around = _neighbours(block_means(daily))[TAP_REACH : len(daily) // BLOCK_DAYS - TAP_REACH]
    days = daily[: len(daily) // BLOCK_DAYS * BLOCK_DAYS].reshape(-1, BLOCK_DAYS, daily.shape[1])[TAP_REACH:-TAP_REACH]
    inputs = around.reshape(-1, around.shape[-1])
    return np.linalg.lstsq(inputs, days.transpose(0, 2, 1).reshape(-1, BLOCK_DAYS), rcond=None)[0].T


def upsample(blocks: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """
    :param blocks: block means (..., n_blocks, n_series)
    :param taps: weights of :func:`fit_taps`
    :return: daily (..., n_blocks * BLOCK_DAYS, n_series)
    """
    daily = np.einsum("...bsk,dk->...bds", _neighbours(blocks), taps)
    return daily.reshape(*blocks.shape[:-2], -1, blocks.shape[-1])


def _neighbours(blocks: np.ndarray) -> np.ndarray:
    padding = [(0, 0)] * (blocks.ndim - 2) + [(TAP_REACH, TAP_REACH), (0, 0)]
    padded = np.pad(blocks, padding, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * TAP_REACH + 1, axis=-2)


def spectrum(values: np.ndarray) -> np.ndarray:
    """
    Power of a series at the Fourier frequencies of ``2 * NOISE_REACH + 1`` days, as autocovariances under Parzen's window,
    which lets no power fall below zero.

    Source: Parzen (1961), Mathematical considerations in the estimation of spectra.

    :param values: with mean zero, draws of the same series (n_draws, n_days)
    :return: (2 * NOISE_REACH + 1,); 1 at all frequencies for white noise of unit variance
    """
    n_days, lags = values.shape[1], np.arange(NOISE_REACH + 1)
    covariances = np.array([(values[:, lag:] * values[:, : n_days - lag]).sum(axis=1).mean() / n_days for lag in lags])
    share = lags / (NOISE_REACH + 1)
    window = np.where(share <= 0.5, 1.0 - 6.0 * share**2 * (1.0 - share), 2.0 * (1.0 - share) ** 3)
    tapered = covariances * window
    return np.fft.fft(np.concatenate([tapered, tapered[:0:-1]])).real


def trend_power() -> np.ndarray:
    """Power of the trend kernel at the same frequencies (2 * NOISE_REACH + 1,)."""
    padded = np.zeros(2 * NOISE_REACH + 1)
    padded[NOISE_REACH - TREND_REACH : NOISE_REACH + TREND_REACH + 1] = trend_kernel()
    return np.abs(np.fft.fft(padded)) ** 2


def spectral_kernel(power: np.ndarray) -> np.ndarray:
    """
    Symmetric filter that gives white noise a spectrum.

    :param power: at the frequencies of :func:`spectrum` (2 * NOISE_REACH + 1,)
    :return: weights (2 * NOISE_REACH + 1,)
    """
    return np.fft.fftshift(np.fft.ifft(np.sqrt(np.maximum(power, 0.0))).real)


def filtered(white: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """
    :param white: (n_paths, n_days + 2 * NOISE_REACH, n_series)
    :param kernels: one symmetric filter per series (n_series, 2 * NOISE_REACH + 1)
    :return: the days that the filters can be centred on (n_paths, n_days, n_series)
    """
    length = white.shape[1]
    response = rfft(kernels, length, axis=1).T
    return irfft(rfft(white, axis=1) * response, length, axis=1)[:, 2 * NOISE_REACH :]
