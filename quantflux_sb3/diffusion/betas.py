"""
Betas as latent processes, and draws of them given returns and volatilities.

A stock's beta to the market is not the same in every decade, whatever the market's volatility is: what two series have in
common comes and goes, and a constant beta would leave it out. Here what a beta strays from its usual value is a first-order
autoregression, observed through Student-t returns, per asset

    y_t = x_t m_t + sigma_t e_t,    x_t = a x_{t-1} + s w_t,

with y the return beyond the usual beta's share, m the market's return and sigma the volatility of what is left. What is
called a path of the beta is a draw from the posterior.

Source: Rue and Held (2005), Gaussian Markov Random Fields, algorithm 2.5; Student-t errors as mixtures of normal ones as in
Geweke (1993), Bayesian treatment of the independent Student-t linear model, eq. 4.
"""

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded, solve_banded

from quantflux_sb3.diffusion.latent import LEAST_RETURN, STUDENT_DF

#: Days in which a beta's deviation falls to 1 / e.
BETA_MEMORY = 125.0
#: Standard deviation of the deviation from which the fit starts, and its floor.
FIRST_DEVIATION, LEAST_DEVIATION = 0.3, 0.02
#: Rounds of fitting it, and power of their step (see :mod:`quantflux_sb3.diffusion.latent`).
FIT_ROUNDS, FIT_POWER = 12, 2.0


def fit_deviations(
    returns: np.ndarray, market: np.ndarray, log_volatility: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """
    Maximum likelihood by Monte Carlo EM, given the volatilities.

    :param returns: of the assets beyond their usual betas' share (n_days, n_assets)
    :param market: log returns (n_days,)
    :param log_volatility: of what is left (n_days, n_assets)
    :param rng: of the draws
    :return: stationary standard deviation of each beta (n_assets,)
    """
    decay = np.exp(-1.0 / BETA_MEMORY)
    deviations, scales = np.full(returns.shape[1], FIRST_DEVIATION), np.ones(returns.shape)
    for _ in range(FIT_ROUNDS):
        drawn = draw_deviations(returns, market, log_volatility, deviations, scales, rng)
        scales = draw_scales(returns - drawn * market[:, None], log_volatility, rng)
        found = np.sqrt(((drawn[1:] - decay * drawn[:-1]) ** 2).mean(axis=0) / (1.0 - decay**2))
        deviations = np.maximum(deviations * (found / deviations) ** FIT_POWER, LEAST_DEVIATION)
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
    decay = np.exp(-1.0 / BETA_MEMORY)
    for i, deviation in enumerate(deviations):
        innovation = deviation**2 * (1.0 - decay**2)
        precision = np.zeros((2, len(returns)))
        precision[0, 1:] = -decay / innovation
        precision[1] = (1.0 + decay**2) / innovation
        precision[1, [0, -1]] = 1.0 / innovation
        precision[1] += weights[:, i] * market**2
        factor = cholesky_banded(precision)
        mean = cho_solve_banded((factor, False), weights[:, i] * market * returns[:, i])
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
