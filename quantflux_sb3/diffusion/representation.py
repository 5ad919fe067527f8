"""
What the network sees of a market, and the way back to returns.

Each series is split into a smooth log volatility and a daily part. The series are the benchmark ("market factor") and, per
asset, what is left of its return after a beta that moves with the market's volatility:

    f_0 = r_0,    f_i = r_i - (b_i + c_i u) r_0,    f_j = exp(lv_j) z_j

with r log returns and u the market's smooth log volatility in standard deviations. The paths lv are mapped to a Gaussian by
their quantiles ("paths" below); so is z, after division by exp(phi), where phi is linear in the market's last daily values
(the leverage effect), in the series' own last absolute values (a large day has raised the path around it, so that its
neighbours look small) and in the curvature of the path (a crash makes its own peak). What remains ("daily part") is close
to white Gaussian noise. Decoding is recursive, because phi needs the days before.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from quantflux_sb3.diffusion.quantiles import from_gaussian, quantile_table, to_gaussian
from quantflux_sb3.diffusion.smoothing import VOLATILITY_HALF_WIDTH, block_means, fit_taps, log_volatility, upsample
from quantflux_sb3.market.data import MarketData

#: Bounds of u, and of phi.
U_BOUNDS = (-2.0, 3.0)
PHI_BOUND = 0.8
#: Days to each side over which a path's curvature is taken.
CURVATURE_DAYS = 8
#: Days of the past that phi looks at.
LAG_DAYS = 8
#: Rounds, step and repetitions of matching the ACF of absolute values, and the lags beyond which nothing is matched.
ACF_ROUNDS, ACF_RATE, ACF_REPEATS = 6, 1.5, 6
#: Mean absolute value of a standard Gaussian.
MEAN_ABSOLUTE = float(np.sqrt(2.0 / np.pi))


@dataclass(frozen=True, eq=False)
class Representation:
    """
    Fitted maps between log returns of n_series = 1 + n_assets series (benchmark first) and paths with daily parts.

    :param beta: constant and slope on u per asset (n_assets, 2)
    :param volatility_table: quantiles of the smooth log volatility (n_series, n_grid)
    :param taps: interpolation of block means (BLOCK_DAYS, n_taps)
    :param daily_table: quantiles of z (n_series, n_grid)
    :param phi_weights: on the market's last LAG_DAYS values, the own absolute ones, and the own curvature
        (n_series, 2 * LAG_DAYS + 1)
    :param noise_table: quantiles of the daily part before its last map (n_series, n_grid)
    """

    beta: np.ndarray
    volatility_table: np.ndarray
    taps: np.ndarray
    daily_table: np.ndarray
    phi_weights: np.ndarray
    noise_table: np.ndarray

    @classmethod
    def fit(cls, market: MarketData) -> "Representation":
        """
        :param market: the training market; every row is used
        """
        logs = market_logs(market)
        # 1. the market's volatility path, which the betas move with
        raw = log_volatility(logs[:, :1], VOLATILITY_HALF_WIDTH)
        scores = to_gaussian(raw, quantile_table(raw))
        taps = fit_taps(scores)
        u = _standardised_volatility(_through_blocks(scores, taps)[:, 0])
        # 2. residuals and their paths
        beta = _fit_beta(logs, u)
        factors = _to_factors(logs, u, beta)
        raw = log_volatility(factors, VOLATILITY_HALF_WIDTH)
        volatility_table = quantile_table(raw)
        taps = fit_taps(to_gaussian(raw, volatility_table))
        paths = _through_blocks(to_gaussian(raw, volatility_table), taps)
        # 3. daily parts
        z = factors / np.exp(from_gaussian(paths, volatility_table))
        daily_table = quantile_table(z)
        q = to_gaussian(z, daily_table)
        phi_weights = _fit_phi(q, paths)
        noise_table = quantile_table(q / np.exp(_phi(q, paths, phi_weights)))
        start = cls(beta, volatility_table, taps, daily_table, phi_weights, noise_table)
        return start._match_acf(q, paths)

    def _match_acf(self, q: np.ndarray, paths: np.ndarray) -> "Representation":
        """
        Move phi's weights on own absolute values until white noise on the training paths gives their ACF.

        The dependence is two-sided and phi one-sided, so that likelihood alone overshoots.
        """
        white = np.random.default_rng(0).standard_normal((ACF_REPEATS, *q.shape))
        scale = np.exp(from_gaussian(paths, self.volatility_table))
        wanted = _absolute_acf(from_gaussian(q, self.daily_table) * scale)
        fitted = self
        for _ in range(ACF_ROUNDS):
            drawn = fitted._add_phi(from_gaussian(white, fitted.noise_table), np.broadcast_to(paths, white.shape))
            found = np.mean([_absolute_acf(from_gaussian(one, self.daily_table) * scale) for one in drawn], axis=0)
            weights = fitted.phi_weights.copy()
            weights[:, LAG_DAYS : 2 * LAG_DAYS] += ACF_RATE * (wanted - found)
            table = quantile_table(q / np.exp(_phi(q, paths, weights)))
            fitted = replace(fitted, phi_weights=weights, noise_table=table)
        return fitted

    def encode(self, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        :param logs: log returns, benchmark first (n_days, n_series)
        :return: Gaussianised log-volatility paths and daily parts, each (n_days, n_series)
        """
        market_path = self._path(logs[:, :1], slice(0, 1))
        factors = _to_factors(logs, _standardised_volatility(market_path[:, 0]), self.beta)
        paths = self._path(factors, slice(None))
        q = to_gaussian(factors / np.exp(from_gaussian(paths, self.volatility_table)), self.daily_table)
        return paths, to_gaussian(q / np.exp(_phi(q, paths, self.phi_weights)), self.noise_table)

    def decode(self, paths: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """
        :param paths: Gaussianised log-volatility paths (..., n_days, n_series)
        :param noise: daily parts, standard Gaussian (..., n_days, n_series)
        :return: log returns, benchmark first (..., n_days, n_series)
        """
        q = self._add_phi(from_gaussian(noise, self.noise_table), paths)
        volatility = np.exp(from_gaussian(paths, self.volatility_table))
        factors = from_gaussian(q, self.daily_table) * volatility
        betas = self.beta[:, 0] + self.beta[:, 1] * _standardised_volatility(paths[..., 0])[..., None]
        factors[..., 1:] += betas * factors[..., :1]
        return factors

    def market_volatility(self, paths: np.ndarray) -> np.ndarray:
        """
        :param paths: Gaussianised log-volatility paths (..., n_days, n_series)
        :return: standard deviation of the benchmark's log return per day (..., n_days)
        """
        mean_absolute = np.exp(from_gaussian(paths[..., :1], self.volatility_table))[..., 0]
        return mean_absolute / MEAN_ABSOLUTE

    def _path(self, factors: np.ndarray, series: slice) -> np.ndarray:
        raw = log_volatility(factors, VOLATILITY_HALF_WIDTH)
        return _through_blocks(to_gaussian(raw, self.volatility_table[series]), self.taps)

    def _add_phi(self, before_phi: np.ndarray, paths: np.ndarray) -> np.ndarray:
        """Undo the division by exp(phi), day by day (..., n_days, n_series)."""
        leverage, own, curvature = _split(self.phi_weights)
        from_path = curvature * _curvature(paths)
        q = np.zeros((LAG_DAYS + before_phi.shape[-2], *before_phi.shape[:-2], before_phi.shape[-1]))
        size = np.zeros_like(q)  # absolute value less its mean; zero before the first day
        for day in range(before_phi.shape[-2]):
            past = slice(day, day + LAG_DAYS)  # earliest first
            phi = np.einsum("k...,sk->...s", q[past, ..., 0], leverage[:, ::-1])
            phi = phi + np.einsum("k...s,sk->...s", size[past], own[:, ::-1]) + from_path[..., day, :]
            q[day + LAG_DAYS] = before_phi[..., day, :] * np.exp(np.clip(phi, -PHI_BOUND, PHI_BOUND))
            size[day + LAG_DAYS] = np.abs(q[day + LAG_DAYS]) - MEAN_ABSOLUTE
        return np.moveaxis(q[LAG_DAYS:], 0, -2)


def market_logs(market: MarketData) -> np.ndarray:
    """
    :return: log returns, benchmark first (n_days, 1 + n_assets)
    :raises ValueError: if a price fell to zero
    """
    simple = np.column_stack([market.benchmark_returns, market.returns])
    if simple.min(initial=0.0) <= -1.0:
        raise ValueError("A return of -100 % has no logarithm; drop the asset that lost everything before training.")
    return np.log1p(simple)


def _standardised_volatility(market_path: np.ndarray) -> np.ndarray:
    return np.clip(market_path, *U_BOUNDS)


def _through_blocks(scores: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """The part of a daily path that survives the network's resolution; the daily part takes up the rest."""
    return upsample(block_means(scores), taps)[: len(scores)]


def _fit_beta(logs: np.ndarray, u: np.ndarray) -> np.ndarray:
    inputs = np.column_stack([logs[:, 0], u * logs[:, 0]])
    return np.linalg.lstsq(inputs, logs[:, 1:], rcond=None)[0].T


def _to_factors(logs: np.ndarray, u: np.ndarray, beta: np.ndarray) -> np.ndarray:
    betas = beta[:, 0] + beta[:, 1] * u[:, None]
    return np.column_stack([logs[:, :1], logs[:, 1:] - betas * logs[:, :1]])


def _curvature(paths: np.ndarray) -> np.ndarray:
    n_days = paths.shape[-2]
    days = np.arange(n_days)
    before = paths[..., np.maximum(days - CURVATURE_DAYS, 0), :]
    after = paths[..., np.minimum(days + CURVATURE_DAYS, n_days - 1), :]
    return paths - 0.5 * (before + after)


def _split(phi_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return phi_weights[:, :LAG_DAYS], phi_weights[:, LAG_DAYS : 2 * LAG_DAYS], phi_weights[:, -1]


def _lags(values: np.ndarray) -> np.ndarray:
    """Values 1 to LAG_DAYS days ago (n_days, LAG_DAYS); zero before the first day."""
    padded = np.concatenate([np.zeros(LAG_DAYS), values])
    return np.column_stack([padded[LAG_DAYS - lag : len(padded) - lag] for lag in range(1, LAG_DAYS + 1)])


def _phi_inputs(q: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """What phi is linear in (n_series, n_days, 2 * LAG_DAYS + 1)."""
    market, curvature = _lags(q[:, 0]), _curvature(paths)
    own = [_lags(column) for column in (np.abs(q) - MEAN_ABSOLUTE).T]
    return np.stack([np.column_stack([market, lags, curvature[:, i]]) for i, lags in enumerate(own)])


def _absolute_acf(values: np.ndarray) -> np.ndarray:
    """Autocorrelation of absolute values at lags 1 to LAG_DAYS (n_series, LAG_DAYS)."""
    size = np.abs(values) - np.abs(values).mean(axis=0)
    lags = range(1, LAG_DAYS + 1)
    return np.column_stack([(size[lag:] * size[:-lag]).mean(axis=0) for lag in lags]) / (size**2).mean(axis=0)[:, None]


def _phi(q: np.ndarray, paths: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.clip(np.einsum("stk,sk->ts", _phi_inputs(q, paths), weights), -PHI_BOUND, PHI_BOUND)


def _fit_phi(q: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """Gaussian quasi maximum likelihood per series; assets look at the market's lags 1 and 2 only."""
    weights = np.zeros((q.shape[1], 2 * LAG_DAYS + 1))
    for series, inputs in enumerate(_phi_inputs(q, paths)):
        used = np.r_[: LAG_DAYS if series == 0 else 2, LAG_DAYS : inputs.shape[1]]
        weights[series, used] = _fit_log_scale(q[:, series], inputs[:, used])
    return weights


def _fit_log_scale(values: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    inputs = np.column_stack([np.ones(len(inputs)), inputs])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        phi = np.clip(inputs @ weights, -2.0, 2.0)
        squares = values**2 * np.exp(-2.0 * phi)
        return float((phi + 0.5 * squares).mean()), inputs.T @ (1.0 - squares) / len(values)

    return minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x[1:]
