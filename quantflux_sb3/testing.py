"""Simulated markets whose regimes are known, to test and measure detectors on."""

from dataclasses import dataclass

import numpy as np

from quantflux_sb3.regimes import BEAR, BULL, SIDEWAYS, TRADING_DAYS, VOLATILE

#: Trading days of a month, as Nystrup et al. (2020) convert Hardy's monthly parameters.
_MONTH = 20


@dataclass(frozen=True)
class RegimeProcess:
    """
    Gaussian daily returns whose mean and volatility follow a Markov chain.

    :param regimes: what each state is, indices into ``REGIMES`` (n_states,)
    :param means: of the daily return (n_states,)
    :param volatilities: of the daily return (n_states,)
    :param transition: daily probabilities from row to column (n_states, n_states)
    :param lognormal: whether the Gaussian is the log return; else it is the simple return
    """

    regimes: tuple[int, ...]
    means: tuple[float, ...]
    volatilities: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...]
    lognormal: bool = False

    def simulate(self, n_days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """
        :param n_days: length
        :param seed: of everything
        :return: simple returns (n_days,) and the regime of each day, an index into ``REGIMES`` (n_days,)
        """
        rng = np.random.default_rng(seed)
        steps = np.cumsum(self.transition, axis=1)
        states = np.empty(n_days, dtype=int)
        state = int(rng.integers(len(self.regimes)))
        for day in range(n_days):
            states[day] = state
            state = min(int(np.searchsorted(steps[state], rng.random(), side="right")), len(self.regimes) - 1)
        returns = np.asarray(self.means)[states] + np.asarray(self.volatilities)[states] * rng.standard_normal(n_days)
        return np.expm1(returns) if self.lognormal else returns, np.asarray(self.regimes)[states]


def four_regimes() -> RegimeProcess:
    """
    Bull, bear, volatile and sideways, the next regime drawn uniformly among the others.

    Drift .22 / -.35 / -.05 / 0 and volatility .12 / .22 / .40 / .09 a year; mean duration 250 / 120 / 50 / 100 days.
    """
    drifts, volatilities = np.array([0.22, -0.35, -0.05, 0.0]), np.array([0.12, 0.22, 0.40, 0.09])
    leave = 1.0 / np.array([250.0, 120.0, 50.0, 100.0])
    transition = np.repeat(leave[:, None] / 3.0, 4, axis=1)
    np.fill_diagonal(transition, 1.0 - leave)
    return RegimeProcess(
        (BULL, BEAR, VOLATILE, SIDEWAYS),
        tuple((drifts / TRADING_DAYS).tolist()),
        tuple((volatilities / np.sqrt(TRADING_DAYS)).tolist()),
        tuple(map(tuple, transition.tolist())),
    )


def hardy_regimes(
    means: tuple[float, float] = (0.0123, -0.0157),
    volatilities: tuple[float, float] = (0.0347, 0.0778),
    leave: tuple[float, float] = (0.0371, 0.2101),
) -> RegimeProcess:
    """
    Calm and stress of the regime-switching lognormal model, converted from months of 20 trading days to days.

    Means are divided by 20, volatilities by its root, and the transition matrix is the 20th root of the monthly one, so
    that 20 daily steps are exactly one monthly step.

    Source: Hardy (2001), A Regime-Switching Model of Long-Term Stock Returns, North American Actuarial Journal 5(2); the
    defaults are the TSE 300, 1956-1999, as Nystrup et al. (2020) use them.

    :param means: of the monthly log return in calm and stress
    :param volatilities: of the monthly log return
    :param leave: monthly probability of leaving calm, of leaving stress
    :return: process whose regimes are bull (calm) and volatile (stress)
    """
    both = leave[0] + leave[1]  # the matrix has eigenvalues 1 and 1 - both
    calm, stress = (p / both * (1.0 - (1.0 - both) ** (1.0 / _MONTH)) for p in leave)
    return RegimeProcess(
        (BULL, VOLATILE),
        tuple(mean / _MONTH for mean in means),
        tuple(sigma / _MONTH**0.5 for sigma in volatilities),
        ((1.0 - calm, calm), (stress, 1.0 - stress)),
        lognormal=True,
    )


def balanced_accuracy(labels: np.ndarray, truth: np.ndarray) -> float:
    """
    :param labels: found (n_days,)
    :param truth: known (n_days,)
    :return: share of days found, averaged over the regimes that occur in the truth
    """
    return float(np.mean([np.mean(labels[truth == regime] == regime) for regime in np.unique(truth)]))
