"""What a generator must beat: resampled history, independent Gaussian days, and GARCH with a t copula (``arch``)."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from arch import arch_model
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from scipy.special import gammaln
from scipy.stats import t as student

from quantflux_sb3.diffusion.calibration import path_inputs
from quantflux_sb3.diffusion.conditions import KINDS
from quantflux_sb3.diffusion.config import BLOCK_DAYS
from quantflux_sb3.diffusion.fitting import SETS
from quantflux_sb3.diffusion.windows import TrainingWindows
from quantflux_sb3.regimes import REGIMES

#: Degrees of freedom of the copula that are tried.
COPULA_DF = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 30.0)


def bootstrap_windows(logs: np.ndarray, n_windows: int, window: int, seed: int) -> np.ndarray:
    """
    Stationary block bootstrap of whole days (Politis and Romano, 1994), cut into windows. The mean block is the one that
    Politis and White (2004) choose for the benchmark's absolute returns.

    :param logs: training log returns, benchmark first (n_days, n_series)
    :param n_windows: to draw
    :param window: days
    :param seed: of the resampling
    :return: (n_windows, window, n_series)
    """
    block = float(optimal_block_length(np.abs(logs[:, 0]))["stationary"].iloc[0])
    each = len(logs) // window
    resampled = StationaryBootstrap(block, logs, seed=np.random.default_rng(seed)).bootstrap(-(-n_windows // each))
    cut = [data[0][0][: each * window].reshape(each, window, -1) for data in resampled]
    return np.concatenate(cut)[:n_windows]


def gaussian_windows(logs: np.ndarray, n_windows: int, window: int, seed: int) -> np.ndarray:
    """
    Independent Gaussian days with the mean and covariance of the training days.

    :param logs: training log returns (n_days, n_series)
    :param n_windows: to draw
    :param window: days
    :param seed: of the draws
    :return: (n_windows, window, n_series)
    """
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(logs.mean(axis=0), np.cov(logs.T), size=(n_windows, window))


@dataclass(frozen=True, eq=False)
class GarchCopula:
    """
    One GJR-GARCH(1, 1) with Student-t innovations per series (Glosten, Jagannathan and Runkle, 1993), tied by a t copula.

    :param parameters: mean, omega, alpha, gamma, beta, degrees of freedom per series, returns in per cent (n_series, 6)
    :param variances: conditional variances of the training days (n_days, n_series) [per cent squared]
    :param correlation: of the copula (n_series, n_series)
    :param copula_df: its degrees of freedom
    """

    parameters: np.ndarray
    variances: np.ndarray
    correlation: np.ndarray
    copula_df: float

    @classmethod
    def fit(cls, logs: np.ndarray) -> "GarchCopula":
        """
        :param logs: training log returns (n_days, n_series)
        """
        parameters, variances, uniforms = [], [], []
        for series in 100.0 * logs.T:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the optimiser's notes on convergence
                result = arch_model(series, vol="GARCH", p=1, o=1, q=1, dist="t").fit(disp="off")
            parameters.append(result.params.to_numpy())
            df = parameters[-1][-1]
            variances.append(result.conditional_volatility**2)
            z = (series - parameters[-1][0]) / result.conditional_volatility
            uniforms.append(student.cdf(z * np.sqrt(df / (df - 2.0)), df))
        ranks = np.clip(np.stack(uniforms, axis=1), 1e-6, 1.0 - 1e-6)
        fits = [(_copula_likelihood(ranks, df), df) for df in COPULA_DF]
        df = max(fits)[1]
        return cls(np.stack(parameters), np.stack(variances, axis=1), np.corrcoef(student.ppf(ranks, df).T), df)

    def windows(self, n_windows: int, window: int, seed: int, starts: np.ndarray | None = None) -> np.ndarray:
        """
        :param n_windows: to draw
        :param window: days
        :param seed: of the draws
        :param starts: variances of the first day (n_windows, n_series) [per cent squared]; those of random training days
            if not given
        :return: log returns (n_windows, window, n_series)
        """
        rng = np.random.default_rng(seed)
        mean, omega, alpha, gamma, beta, df = self.parameters.T
        variance = self.variances[rng.integers(len(self.variances), size=n_windows)] if starts is None else starts
        n_series = len(mean)
        normal = rng.standard_normal((n_windows, window, n_series)) @ np.linalg.cholesky(self.correlation).T
        mixed = normal / np.sqrt(rng.chisquare(self.copula_df, (n_windows, window, 1)) / self.copula_df)
        z = student.ppf(student.cdf(mixed, self.copula_df), df) * np.sqrt((df - 2.0) / df)
        shocks = np.empty_like(z)
        for day in range(window):
            shocks[:, day] = np.sqrt(variance) * z[:, day]
            squares = shocks[:, day] ** 2
            variance = omega + (alpha + gamma * (shocks[:, day] < 0.0)) * squares + beta * variance
        return (mean + shocks) / 100.0

    def filtered(self, logs: np.ndarray) -> np.ndarray:
        """
        :param logs: later log returns (n_days, n_series)
        :return: variance of each day given the days before (n_days, n_series) [per cent squared]
        """
        mean, omega, alpha, gamma, beta, _ = self.parameters.T
        variances = np.empty_like(logs)
        variances[0] = self.variances.mean(axis=0)
        for day in range(1, len(logs)):
            shock = 100.0 * logs[day - 1] - mean
            variances[day] = omega + (alpha + gamma * (shock < 0.0)) * shock**2 + beta * variances[day - 1]
        return variances


def _copula_likelihood(uniforms: np.ndarray, df: float) -> float:
    """Log likelihood of the t copula (Demarta and McNeil, 2005, eq. 5) with the correlation of the scores."""
    scores = student.ppf(uniforms, df)
    correlation = np.corrcoef(scores.T)
    n, d = scores.shape
    squares = np.einsum("ti,ti->t", scores, np.linalg.solve(correlation, scores.T).T)
    joint = gammaln((df + d) / 2) - gammaln(df / 2) - d / 2 * np.log(df * np.pi) - 0.5 * np.linalg.slogdet(correlation)[1]
    return float(n * joint - (df + d) / 2 * np.log1p(squares / df).sum() - student.logpdf(scores, df).sum())


class GaussianPaths:
    """
    Control of the network: paths with the training paths' covariance and their linear dependence on the conditions, and
    nothing else. It stands in for a :class:`PathSampler` where no longer paths than those of the calibration are
    drawn.

    :param windows: the training market
    """

    def __init__(self, windows: TrainingWindows):
        self.n_blocks = max(n_windows for n_windows, _ in SETS) * windows.state.config.n_blocks
        rng = np.random.default_rng(0)
        rows = windows.spread_rows(rng, 5000, self.n_blocks * BLOCK_DAYS)
        self.targets = windows.paths(rows, rng)
        self.inputs = [path_inputs(windows.conditions(rows, kind).maps) for kind in range(len(KINDS))]

    def sample(self, maps: np.ndarray, generator: torch.Generator | None) -> np.ndarray:
        """
        :param maps: condition maps (n_paths, n_blocks, n_maps)
        :param generator: source of all randomness
        :return: paths (n_paths, n_blocks, n_channels)
        """
        flag, regimes = maps[..., -1].any(), maps[..., : len(REGIMES)].any()
        inputs = self.inputs[int(regimes) + 2 * int(flag)]
        flat, n_channels = inputs.reshape(-1, inputs.shape[-1]), self.targets.shape[-1]
        weights = np.linalg.lstsq(flat, self.targets.reshape(len(flat), -1), rcond=None)[0]
        rest = (self.targets - inputs @ weights)[:, : maps.shape[1]].reshape(len(inputs), -1)
        factor = np.linalg.cholesky(rest.T @ rest / len(rest) + 1e-6 * np.eye(rest.shape[1]))
        noise = torch.randn((len(maps), rest.shape[1]), generator=generator, dtype=torch.float64).numpy() @ factor.T
        return path_inputs(maps) @ weights + noise.reshape(len(maps), -1, n_channels)
