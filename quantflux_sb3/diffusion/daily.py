"""
The daily part given the paths: Gaussian noise, plus the trend and its relation to volatility for the market.

A network for this part learned nothing beyond independent Gaussian noise (held-out loss 1.000 of the noise's), so there is
none. Noise has the spectrum of the training years, or the returns of weeks and months would be as wide as those of
independent days: prices have reverted more than that. The market's is that of the trend path and of what is left besides, and
follows leads and lags of its volatility path by least squares; the assets' noise is correlated with it and among themselves,
and the size of one series' noise may depend on the others' (coupling).
"""

from dataclasses import dataclass

import numpy as np

from quantflux_sb3.diffusion.smoothing import (
    around_mean,
    block_means,
    filtered,
    fit_taps,
    kernel_mean,
    spectral_kernel,
    spectrum,
    trend_kernel,
    trend_power,
    upsample,
)

#: Days by which the market's volatility path is shifted among the inputs of its drift.
SHIFTS = (-16, -8, -4, 0, 4, 8, 16)
#: Days to each side over which the slow part of the market's noise is taken.
SLOW_DAYS = 32
#: Days to each side over which a regime's share of the days around is taken.
AROUND_DAYS = 32
#: Bound of the log scale that coupling gives.
COUPLING_BOUND = 0.6
MEAN_ABSOLUTE = float(np.sqrt(2.0 / np.pi))


@dataclass(frozen=True, eq=False)
class DailyModel:
    """
    :param trend_moments: mean and standard deviation of the trend before scaling (2,)
    :param trend_taps: interpolation of the trend's block means (BLOCK_DAYS, n_taps)
    :param drift: weights of constant, trend and shifted volatility path on the market's noise (2 + n_shifts,)
    :param kernels: filters of white noise, per series (n_series, 2 * NOISE_REACH + 1)
    :param mixing: lower triangular factor of the noise's correlation (n_series, n_series)
    """

    trend_moments: np.ndarray
    trend_taps: np.ndarray
    drift: np.ndarray
    kernels: np.ndarray
    mixing: np.ndarray

    @classmethod
    def fit(cls, noise: np.ndarray, paths: np.ndarray) -> "DailyModel":
        """
        :param noise: daily parts of the training market, per draw of its paths (n_draws, n_days, n_series)
        :param paths: volatilities and betas, the market's volatility first (n_draws, n_days, n_series + n_assets)
        """
        raw = kernel_mean(noise[..., 0].T, trend_kernel())
        moments = np.array([raw.mean(), raw.std()])
        trend = (raw - moments[0]) / moments[1]
        taps = fit_taps(trend)
        smooth = upsample(block_means(trend), taps)[: len(trend)].T
        # The trend is part of the noise, so that its weight is known: regressed on it, the noise would count it twice.
        inputs, market = _drift_inputs(smooth, paths[..., 0]), noise[..., 0] - moments[1] * smooth
        others = np.delete(inputs, 1, axis=-1).reshape(market.size, -1)
        drift = np.insert(np.linalg.lstsq(others, market.reshape(-1), rcond=None)[0], 1, moments[1])
        n_series = noise.shape[-1]
        mixing = np.linalg.cholesky(np.corrcoef(noise.reshape(-1, n_series).T) + 1e-9 * np.eye(n_series))
        unmixed = noise @ np.linalg.inv(mixing).T
        power = np.stack([spectrum(series - series.mean()) for series in unmixed.transpose(2, 0, 1)])
        power[0] *= 1.0 - trend_power()
        kernels = np.stack([spectral_kernel(series) for series in power])
        variance = np.ones(n_series)
        variance[0] -= (inputs @ drift).var()
        kernels *= np.sqrt(variance / (kernels**2).sum(axis=1))[:, None]
        return cls(moments, taps, drift, kernels, mixing)

    def trend(self, noise: np.ndarray) -> np.ndarray:
        """
        :param noise: daily parts per draw (n_draws, n_days, n_series)
        :return: the market's trend path (n_draws, n_days), standardised
        """
        return ((kernel_mean(noise[..., 0].T, trend_kernel()) - self.trend_moments[0]) / self.trend_moments[1]).T

    def innovations(self, white: np.ndarray) -> np.ndarray:
        """
        :param white: independent Gaussian noise (n_paths, n_days + 2 * NOISE_REACH, n_series)
        :return: noise with the spectra of the series, of the market's what its trend lacks (n_paths, n_days, n_series)
        """
        return filtered(white, self.kernels)

    def sample(
        self, paths: np.ndarray, trend: np.ndarray, shift: np.ndarray | float, strays: np.ndarray | float,
        innovations: np.ndarray, coupling: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """
        :param paths: volatilities and betas, the market's volatility first (n_paths, n_days, n_series + n_assets)
        :param trend: trend path (n_paths, n_days)
        :param shift: further drift of the market's noise (n_paths, n_days)
        :param strays: change of the slow part of the market's noise; -1 removes it (n_paths, n_days)
        :param innovations: of :meth:`innovations` (n_paths, n_days, n_series)
        :param coupling: effect of the size of series k on the log scale of series j > k (n_series, n_series)
        :return: daily parts (n_paths, n_days, n_series)
        """
        market = _drift_inputs(trend, paths[..., 0]) @ self.drift + innovations[..., 0]
        if np.any(strays):
            market = market + strays * around_mean(market[..., None], SLOW_DAYS)[..., 0]
        mixed = np.concatenate([(market + shift)[..., None], innovations[..., 1:]], axis=-1) @ self.mixing.T
        return _couple(mixed, coupling)


def regime_inputs(one_hot: np.ndarray) -> np.ndarray:
    """
    :param one_hot: regime per day (n, n_days, n_regimes); zero if not given
    :return: regime of the day, and the same times its share of the days around (n, n_days, 2 * n_regimes)
    """
    return np.concatenate([one_hot, one_hot * around_mean(one_hot, AROUND_DAYS)], axis=-1)


def lasting(one_hot: np.ndarray) -> np.ndarray:
    """
    :param one_hot: regime per day (n, n_days, n_regimes); zero if not given
    :return: the same, less where the days around are of other regimes
    """
    return one_hot * around_mean(one_hot, AROUND_DAYS) ** 2


def _couple(noise: np.ndarray, coupling: np.ndarray) -> np.ndarray:
    log_scale = (np.abs(noise) - MEAN_ABSOLUTE) @ coupling.T
    return noise * np.exp(np.clip(log_scale, -COUPLING_BOUND, COUPLING_BOUND))


def _drift_inputs(trend: np.ndarray, market_path: np.ndarray) -> np.ndarray:
    n_days = market_path.shape[-1]
    shifted = [market_path[..., np.clip(np.arange(n_days) + shift, 0, n_days - 1)] for shift in SHIFTS]
    return np.stack([np.ones_like(trend), trend, *shifted], axis=-1)
