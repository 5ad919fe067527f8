"""
Log volatility as a latent process, and draws of it given the returns.

A smoothed volatility is not the volatility: a kernel's estimate moves with the very days it is divided into, so that what
is left is not noise and generated clustering comes out wrong. Here the log volatility is a sum of first-order
autoregressions with fixed half-lives, observed through Student-t returns,

    r_t = exp(h_t) z_t,    h_t = level + sum_c x_t^c,    x_t^c = a_c x_{t-1}^c + s_c e_t^c,

and what is called its path is a draw from the posterior. Given draws, z is nearly white, and every draw is another
training path for the same history.

Source: Rue and Held (2005), Gaussian Markov Random Fields, algorithm 2.5 (draws by a banded Cholesky factor) and section
4.4.1 (Gaussian approximation); here with expected for observed information.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded, solve_banded

#: Days in which a component's autocorrelation falls to 1 / e.
MEMORIES = (10.0, 50.0, 250.0)
#: Degrees of freedom of the returns given the volatility.
STUDENT_DF = 8.0
#: Expected information of one day's return on its log volatility.
INFORMATION = 2.0 * STUDENT_DF / (STUDENT_DF + 3.0)
#: Standard deviations of the components from which the fit starts.
FIRST_DEVIATIONS = (0.2, 0.24, 0.3)
#: Rounds of fitting the scales, power of their step, posterior draws per round, and scoring steps towards the mode.
FIT_ROUNDS, FIT_POWER, FIT_DRAWS, SCORING_STEPS = 12, 2.0, 4, 10
#: Floor of a component's innovation.
LEAST_SCALE = 1e-3
#: Floor of a day's absolute return, so that a standing price has a log volatility.
LEAST_RETURN = 1e-6


@dataclass(frozen=True, eq=False)
class LatentVolatility:
    """
    :param level: mean log volatility per series (n_series,)
    :param scales: standard deviation of the innovations (n_series, n_components)
    """

    level: np.ndarray
    scales: np.ndarray

    @classmethod
    def fit(cls, returns: np.ndarray, rng: np.random.Generator) -> "LatentVolatility":
        """
        Maximum likelihood by Monte Carlo EM (Wei and Tanner, 1990) on posterior draws, with over-long steps, because EM
        creeps where most of the information is missing.

        :param returns: (n_days, n_series)
        """
        fitted = [_fit_series(series, rng) for series in returns.T]
        return cls(np.array([level for level, _ in fitted]), np.stack([scales for _, scales in fitted]))

    def sample(self, returns: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """
        :param returns: (n_days, n_series)
        :param n_draws: draws of the whole history
        :return: log volatilities given the returns (n_draws, n_days, n_series)
        """
        draws = np.empty((n_draws, *returns.shape))
        for i, series in enumerate(returns.T):
            mode, factor = _posterior(series, self.level[i], self.scales[i])
            draws[:, :, i] = self.level[i] + _draw(mode, factor, n_draws, rng).sum(axis=-1)
        return draws


def _fit_series(returns: np.ndarray, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    decay = np.exp(-1.0 / np.array(MEMORIES))
    level = float(np.log(np.abs(returns).mean() + LEAST_RETURN))
    scales = np.array(FIRST_DEVIATIONS) * np.sqrt(1.0 - decay**2)
    for _ in range(FIT_ROUNDS):
        mode, factor = _posterior(returns, level, scales)
        states = _draw(mode, factor, FIT_DRAWS, rng)
        innovations = states[:, 1:] - decay * states[:, :-1]
        found = np.sqrt((innovations**2).mean(axis=(0, 1)))
        scales = np.maximum(scales * (found / scales) ** FIT_POWER, LEAST_SCALE)
        level += float(mode.sum()) / len(returns)
    return level, scales


def _posterior(returns: np.ndarray, level: float, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mode (n_days * n_components,) and banded upper Cholesky factor of the precision around it."""
    n_components = len(scales)
    precision = _precision(len(returns), scales)
    factor = cholesky_banded(precision)
    mode = np.zeros(len(returns) * n_components)
    for _ in range(SCORING_STEPS):
        deviation = mode.reshape(-1, n_components).sum(axis=1)
        pseudo = deviation + _score(returns, level + deviation) / INFORMATION
        mode = cho_solve_banded((factor, False), np.repeat(INFORMATION * pseudo, n_components))
    return mode, factor


def _precision(n_days: int, scales: np.ndarray) -> np.ndarray:
    """Of all components of all days, in LAPACK's upper banded form (n_components + 1, n_days * n_components)."""
    n_components, decay = len(scales), np.exp(-1.0 / np.array(MEMORIES))
    banded = np.zeros((n_components + 1, n_days, n_components))
    banded[-1] = (1.0 + decay**2) / scales**2
    banded[-1, [0, -1]] = 1.0 / scales**2
    banded[-1] += INFORMATION
    banded[0, 1:] = -decay / scales**2
    for distance in range(1, n_components):
        banded[n_components - distance, :, distance:] += INFORMATION
    return banded.reshape(n_components + 1, -1)


def _draw(mode: np.ndarray, factor: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """:return: states (n_draws, n_days, n_components)"""
    n_components = len(factor) - 1
    noise = rng.standard_normal((len(mode), n_draws))
    return (mode[:, None] + solve_banded((0, n_components), factor, noise)).T.reshape(n_draws, -1, n_components)


def _score(returns: np.ndarray, log_volatility: np.ndarray) -> np.ndarray:
    """Derivative of the log likelihood of the Student-t by the log volatility."""
    squares = ((np.abs(returns) + LEAST_RETURN) * np.exp(-log_volatility)) ** 2
    return (STUDENT_DF + 1.0) * squares / (STUDENT_DF + squares) - 1.0
