"""
Betas as latent processes, and draws of them given returns and volatilities.

A stock's beta to the market is not the same in every decade, whatever the market's volatility is: what two series have in
common comes and goes, and a constant beta would leave it out. Here what a beta strays from its usual value is a first-order
autoregression, observed through Student-t returns, per asset

    y_t = x_t m_t + sigma_t e_t,    x_t = a x_{t-1} + s w_t,

with y the return beyond the usual beta's share, m the market's return and sigma the volatility of what is left. What is
called a path of the beta is a draw from the posterior.

Source: Rue and Held (2005), Gaussian Markov Random Fields, algorithm 2.5; Student-t errors as mixtures of normal ones as in
Geweke (1993), Bayesian treatment of the independent Student-t linear model, section 2.
"""

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded, solve_banded
from scipy.optimize import minimize_scalar

from quantflux_sb3.diffusion.latent import LEAST_RETURN, STUDENT_DF

#: Days in which a beta's deviation falls to 1 / e.
BETA_MEMORY = 125.0
#: Bounds of the standard deviation of a beta's deviations, and rounds of fitting it and drawing the errors' scales.
DEVIATION_BOUNDS, FIT_ROUNDS = (0.01, 2.0), 3


def fit_deviations(
    returns: np.ndarray, market: np.ndarray, log_volatility: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """
    Maximum likelihood of all but the betas themselves, given the volatilities.

    :param returns: of the assets beyond their usual betas' share (n_days, n_assets)
    :param market: log returns (n_days,)
    :param log_volatility: of what is left (n_days, n_assets)
    :param rng: of the draws
    :return: stationary standard deviation of each beta (n_assets,)
    """
    scales = np.ones(returns.shape)
    for _ in range(FIT_ROUNDS):
        weights = scales * np.exp(-2.0 * log_volatility)
        deviations = np.array([_likeliest(y, market, w) for y, w in zip(returns.T, weights.T, strict=True)])
        drawn = draw_deviations(returns, market, log_volatility, deviations, scales, rng)
        scales = draw_scales(returns - drawn * market[:, None], log_volatility, rng)
    return deviations


def draw_deviations(
    returns: np.ndarray, market: np.ndarray, log_volatility: np.ndarray, deviations: np.ndarray, scales: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """
    :param returns: of the assets beyond their usual betas' share (n_days, n_assets)
    :param market: log returns (n_days,)
    :param log_volatility: of what is left (n_days, n_assets)
    :param deviations: stationary standard deviation of each beta (n_assets,)
    :param scales: precision of a day's error over that of its volatility, of :func:`draw_scales` (n_days, n_assets)
    :param rng: of the draws
    :return: what betas stray from their usual values (n_days, n_assets)
    """
    weights = scales * np.exp(-2.0 * log_volatility)
    drawn = np.empty(returns.shape)
    for i, deviation in enumerate(deviations):
        factor, mean = _posterior(returns[:, i], market, weights[:, i], deviation)
        drawn[:, i] = mean + solve_banded((0, 1), factor, rng.standard_normal(len(returns)))
    return drawn


def draw_scales(rest: np.ndarray, log_volatility: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    :param rest: returns beyond all of the beta's share (n_days, n_assets)
    :param log_volatility: (n_days, n_assets)
    :param rng: of the draws
    :return: precisions of Student-t errors as a mixture (n_days, n_assets), 1 on average
    """
    squares = ((np.abs(rest) + LEAST_RETURN) * np.exp(-log_volatility)) ** 2
    return rng.gamma(0.5 * (STUDENT_DF + 1.0), size=rest.shape) / (0.5 * (STUDENT_DF + squares))


def _posterior(
    returns: np.ndarray, market: np.ndarray, weights: np.ndarray, deviation: float
) -> tuple[np.ndarray, np.ndarray]:
    """Banded upper Cholesky factor of the precision (2, n_days), and mean (n_days,)."""
    decay = np.exp(-1.0 / BETA_MEMORY)
    innovation = deviation**2 * (1.0 - decay**2)
    precision = np.zeros((2, len(returns)))
    precision[0, 1:] = -decay / innovation
    precision[1] = (1.0 + decay**2) / innovation
    precision[1, [0, -1]] = 1.0 / innovation
    precision[1] += weights * market**2
    factor = cholesky_banded(precision)
    return factor, cho_solve_banded((factor, False), weights * market * returns)


def _likeliest(returns: np.ndarray, market: np.ndarray, weights: np.ndarray) -> float:
    """The likelihood is the joint density over the posterior one, here at its mean (Besag, 1989, A candidate's formula)."""

    def loss(log_deviation: float) -> float:
        factor, mean = _posterior(returns, market, weights, np.exp(log_deviation))
        prior = len(returns) * log_deviation  # minus half the log determinant of the prior's precision, but for a constant
        return prior + np.log(factor[1]).sum() - 0.5 * (weights * market * returns) @ mean

    return float(np.exp(minimize_scalar(loss, bounds=np.log(DEVIATION_BOUNDS), method="bounded", options={"xatol": 0.02}).x))
