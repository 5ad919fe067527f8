"""
What the network sees of a market, and the way back to returns.

Each series is split into a smooth log volatility and a daily part. The series are the benchmark ("market factor") and, per
asset, what is left of its return after a beta that moves with the market's volatility and wanders by itself:

    f_0 = r_0,    f_i = r_i - (b_i + c_i u + x_i) r_0,    f_j = exp(lv_j) z_j

with r log returns and u the market's smooth log volatility in standard deviations. The paths lv and x are draws of latent
processes given the returns; they are mapped to a Gaussian by their quantiles ("paths" below: volatilities, then betas). So
is z, after division by exp(phi), where phi is linear in the market's last daily values (the leverage effect) and in the
series' own last absolute values (what is too short for a path). What remains ("daily part") is close to white Gaussian
noise. Decoding is recursive, because phi needs the days before.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.optimize import minimize

from quantflux_sb3.diffusion.betas import draw_deviations, draw_scales, fit_deviations
from quantflux_sb3.diffusion.latent import LatentVolatility
from quantflux_sb3.diffusion.quantiles import from_gaussian, quantile_table, to_gaussian
from quantflux_sb3.diffusion.smoothing import block_means, fit_taps, upsample
from quantflux_sb3.market.data import MarketData

#: Bounds of u, and of phi.
U_BOUNDS = (-2.0, 3.0)
PHI_BOUND = 0.8
#: Days of the past that phi looks at.
LAG_DAYS = 20
#: Draws of the paths that everything is fitted on, and rounds of volatility given betas and betas given volatility before one.
FIT_DRAWS, SWEEPS = 4, 3
#: Mean absolute value of a standard Gaussian.
MEAN_ABSOLUTE = float(np.sqrt(2.0 / np.pi))


@dataclass(frozen=True, eq=False)
class Representation:
    """
    Fitted maps between log returns of n_series = 1 + n_assets series (benchmark first) and paths with daily parts. Paths have
    n_series + n_assets columns, volatilities and then betas.

    :param beta: constant and slope on u per asset (n_assets, 2)
    :param beta_deviations: what betas stray from that, standard deviation (n_assets,)
    :param latent_level: mean log volatility, see :class:`LatentVolatility` (n_series,)
    :param latent_scales: innovations of its components (n_series, n_components)
    :param path_table: quantiles of log volatilities and of betas' deviations (n_series + n_assets, n_grid)
    :param taps: interpolation of block means (BLOCK_DAYS, n_taps)
    :param daily_table: quantiles of z (n_series, n_grid)
    :param phi_weights: on the market's last LAG_DAYS values and on the own absolute ones (n_series, 2 * LAG_DAYS)
    :param noise_table: quantiles of the daily part before its last map (n_series, n_grid)
    """

    beta: np.ndarray
    beta_deviations: np.ndarray
    latent_level: np.ndarray
    latent_scales: np.ndarray
    path_table: np.ndarray
    taps: np.ndarray
    daily_table: np.ndarray
    phi_weights: np.ndarray
    noise_table: np.ndarray

    @classmethod
    def fit(cls, market: MarketData, rng: np.random.Generator) -> "Representation":
        """
        :param market: the training market; every row is used
        :param rng: of the draws of the paths
        """
        logs = market_logs(market)
        # 1. the market's volatility path, which the usual betas move with
        index = LatentVolatility.fit(logs[:, :1], rng)
        raw = index.sample(logs[:, :1], FIT_DRAWS, rng)
        table = quantile_table(raw.reshape(-1, 1))
        scores = to_gaussian(raw, table)[..., 0].T
        u = _standardised_volatility(_through_blocks(scores, fit_taps(scores)))
        beta = _fit_beta(logs, u)
        # 2. what betas stray from them, and the volatility of the residuals
        rests = [_beyond(logs, column, beta) for column in u.T]
        plain = LatentVolatility.fit(rests[0], rng)
        betas = fit_deviations(rests[0], logs[:, 0], plain.sample(rests[0], 1, rng)[0], rng)
        strayed, _ = _draw_residuals(rests[0], logs[:, 0], plain, betas, rng)
        residual = LatentVolatility.fit(rests[0] - strayed * logs[:, :1], rng)
        pairs = [_draw_residuals(rest, logs[:, 0], residual, betas, rng) for rest in rests]
        drawn = np.stack([np.column_stack([one, lv, x]) for one, (x, lv) in zip(raw, pairs, strict=True)])
        path_table = quantile_table(drawn.reshape(-1, drawn.shape[-1]))
        scores = to_gaussian(drawn, path_table)
        taps = fit_taps(np.column_stack(list(scores)))
        paths = np.stack([_through_blocks(one, taps) for one in scores])
        # 3. daily parts
        z = np.stack([_daily(logs, one, beta, path_table) for one in paths])
        daily_table = quantile_table(z.reshape(-1, z.shape[-1]))
        q = to_gaussian(z, daily_table)
        phi_weights = _fit_phi(q)
        before = q / np.exp(_phi(q, phi_weights))
        latent = (np.append(index.level, residual.level), np.concatenate([index.scales, residual.scales]))
        noise_table = quantile_table(before.reshape(-1, before.shape[-1]))
        return cls(beta, betas, *latent, path_table, taps, daily_table, phi_weights, noise_table)

    def encode(self, logs: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """
        :param logs: log returns, benchmark first (n_days, n_series)
        :param rng: of the draw of the paths
        :return: Gaussianised paths (n_days, n_series + n_assets), and daily parts (n_days, n_series)
        """
        index, residual = (
            LatentVolatility(self.latent_level[s], self.latent_scales[s]) for s in (slice(0, 1), slice(1, None))
        )
        market = index.sample(logs[:, :1], 1, rng)[0]
        market_path = _through_blocks(to_gaussian(market, self.path_table[:1]), self.taps)
        rest = _beyond(logs, _standardised_volatility(market_path[:, 0]), self.beta)
        strayed, volatility = _draw_residuals(rest, logs[:, 0], residual, self.beta_deviations, rng)
        scores = to_gaussian(np.column_stack([market, volatility, strayed]), self.path_table)
        paths = _through_blocks(scores, self.taps)
        q = to_gaussian(_daily(logs, paths, self.beta, self.path_table), self.daily_table)
        return paths, to_gaussian(q / np.exp(_phi(q[None], self.phi_weights)[0]), self.noise_table)

    def decode(self, paths: np.ndarray, noise: np.ndarray, phi_weights: np.ndarray | None = None) -> np.ndarray:
        """
        :param paths: Gaussianised paths (..., n_days, n_series + n_assets)
        :param noise: daily parts, standard Gaussian (..., n_days, n_series)
        :param phi_weights: other ones than those of the training market (n_series, 2 * LAG_DAYS)
        :return: log returns, benchmark first (..., n_days, n_series)
        """
        q = _add_phi(from_gaussian(noise, self.noise_table), self.phi_weights if phi_weights is None else phi_weights)
        volatility, betas = _volatility_and_beta(paths, self.beta, self.path_table)
        factors = from_gaussian(q, self.daily_table) * volatility
        factors[..., 1:] += betas * factors[..., :1]
        return factors

    def market_volatility(self, paths: np.ndarray) -> np.ndarray:
        """
        :param paths: Gaussianised paths (..., n_days, n_series + n_assets)
        :return: standard deviation of the benchmark's log return per day (..., n_days)
        """
        return np.exp(from_gaussian(paths[..., :1], self.path_table[:1]))[..., 0] * self.daily_table[0].std()


def _draw_residuals(
    rest: np.ndarray, market: np.ndarray, latent: LatentVolatility, deviations: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """
    Gibbs sampling of betas and residual volatilities, each given the other.

    :param rest: returns beyond the usual betas' share (n_days, n_assets)
    :param market: log returns (n_days,)
    :return: deviations of the betas and log volatilities, each (n_days, n_assets)
    """
    strayed, scales = np.zeros_like(rest), np.ones_like(rest)
    for _ in range(SWEEPS):
        volatility = latent.sample(rest - strayed * market[:, None], 1, rng)[0]
        strayed = draw_deviations(rest, market, volatility, deviations, scales, rng)
        scales = draw_scales(rest - strayed * market[:, None], volatility, rng)
    return strayed, volatility


def _volatility_and_beta(paths: np.ndarray, beta: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:return: volatilities (..., n_days, n_series) and betas (..., n_days, n_assets)"""
    n_series = 1 + len(beta)
    values = from_gaussian(paths, table)
    usual = beta[:, 0] + beta[:, 1] * _standardised_volatility(paths[..., 0])[..., None]
    return np.exp(values[..., :n_series]), usual + values[..., n_series:]


def _daily(logs: np.ndarray, paths: np.ndarray, beta: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Factors over their volatilities (n_days, n_series)."""
    volatility, betas = _volatility_and_beta(paths, beta, table)
    return np.column_stack([logs[:, :1], logs[:, 1:] - betas * logs[:, :1]]) / volatility


def _add_phi(before_phi: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Undo the division by exp(phi), day by day (..., n_days, n_series)."""
    paths = np.ascontiguousarray(before_phi).reshape(-1, *before_phi.shape[-2:])
    leverage, own = (np.ascontiguousarray(part) for part in _split(weights))
    return _recursion(paths, leverage, own).reshape(before_phi.shape)


@njit(cache=True)
def _recursion(before_phi: np.ndarray, leverage: np.ndarray, own: np.ndarray) -> np.ndarray:
    n_paths, n_days, n_series = before_phi.shape
    q = np.empty_like(before_phi)
    for path in range(n_paths):
        for day in range(n_days):
            for series in range(n_series):
                phi = 0.0
                for lag in range(1, min(LAG_DAYS, day) + 1):
                    phi += leverage[series, lag - 1] * q[path, day - lag, 0]
                    phi += own[series, lag - 1] * (abs(q[path, day - lag, series]) - MEAN_ABSOLUTE)
                bounded = min(max(phi, -PHI_BOUND), PHI_BOUND)
                q[path, day, series] = before_phi[path, day, series] * np.exp(bounded)
    return q


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
    """:param u: draws of the market's path (n_days, n_draws)"""
    market = np.tile(logs[:, 0], u.shape[1])
    inputs = np.column_stack([market, u.T.reshape(-1) * market])
    return np.linalg.lstsq(inputs, np.tile(logs[:, 1:], (u.shape[1], 1)), rcond=None)[0].T


def _beyond(logs: np.ndarray, u: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Returns of the assets without their usual betas' share (n_days, n_assets)."""
    return logs[:, 1:] - (beta[:, 0] + beta[:, 1] * u[:, None]) * logs[:, :1]


def _split(phi_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return phi_weights[:, :LAG_DAYS], phi_weights[:, LAG_DAYS:]


def _lags(values: np.ndarray) -> np.ndarray:
    """Values 1 to LAG_DAYS days ago (n_draws, n_days, n_series, LAG_DAYS); zero before the first day."""
    padded = np.pad(values, ((0, 0), (LAG_DAYS, 0), (0, 0)))
    return np.stack([padded[:, LAG_DAYS - lag : padded.shape[1] - lag] for lag in range(1, LAG_DAYS + 1)], axis=-1)


def _phi_inputs(q: np.ndarray) -> np.ndarray:
    """What phi is linear in (n_draws, n_days, n_series, 2 * LAG_DAYS)."""
    own = _lags(np.abs(q) - MEAN_ABSOLUTE)
    return np.concatenate([np.broadcast_to(_lags(q[..., :1]), own.shape), own], axis=-1)


def _phi(q: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.clip(np.einsum("dtsk,sk->dts", _phi_inputs(q), weights), -PHI_BOUND, PHI_BOUND)


def _fit_phi(q: np.ndarray) -> np.ndarray:
    """Gaussian quasi maximum likelihood per series, all draws together."""
    inputs = _phi_inputs(q)
    series = range(q.shape[-1])
    return np.stack([_fit_log_scale(q[..., i].reshape(-1), inputs[:, :, i].reshape(-1, inputs.shape[-1])) for i in series])


def _fit_log_scale(values: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    inputs = np.column_stack([np.ones(len(inputs)), inputs])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        phi = np.clip(inputs @ weights, -2.0, 2.0)
        squares = values**2 * np.exp(-2.0 * phi)
        return float((phi + 0.5 * squares).mean()), inputs.T @ (1.0 - squares) / len(values)

    return minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x[1:]
