"""
Regimes from a Gaussian hidden Markov model with sticky transitions, filtered, never smoothed.

The parameters are estimated by expectation maximisation on training returns; after that only the forward pass runs, so
that no label ever changes when later rows arrive. (``hmmlearn``'s ``predict_proba`` smooths, which is why it is not used.)
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numba import njit

from quantflux_sb3.regimes.table import (
    LEAST_VARIANCE,
    RegimeTable,
    check_positive,
    check_training,
    ewm_variance,
    log_returns,
    name_states,
    to_regimes,
)

#: Expectation maximisation ends when the objective gains less than this, or after so many steps.
_LEAST_GAIN, _MAX_STEPS = 1e-4, 500
#: Half-life of the volatility by which training days are sorted into the first guess [days].
_GUESS_HALFLIFE = 10.0


class HMMParameters(NamedTuple):
    """
    :param means: of the daily log return (n_states,)
    :param volatilities: of the daily log return (n_states,)
    :param transition: from row to column (n_states, n_states)
    """

    means: np.ndarray
    volatilities: np.ndarray
    transition: np.ndarray


@dataclass(frozen=True)
class HMMRegimes:
    """
    Filtered probabilities of a Gaussian hidden Markov model; build it with :meth:`fit`, or give the parameters.

    Source: Hamilton (1989), A New Approach to the Economic Analysis of Nonstationary Time Series, section 4.

    :param means: of the daily log return (n_states,); 2 or 4 states
    :param volatilities: of the daily log return (n_states,)
    :param transition: daily probabilities from row to column (n_states, n_states), all positive
    :param leave_below: the label stays with a regime until its probability falls below this; at most 0.5
    """

    means: tuple[float, ...]
    volatilities: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...]
    leave_below: float = 0.25

    def __post_init__(self) -> None:
        shape = (len(self.means),)
        if shape not in ((2,), (4,)) or np.shape(self.volatilities) != shape or np.shape(self.transition) != 2 * shape:
            raise ValueError(
                "`means`, `volatilities` and `transition` must describe 2 or 4 states; got shapes "
                f"{np.shape(self.means)}, {np.shape(self.volatilities)} and {np.shape(self.transition)}."
            )
        if not np.isfinite(self.means).all() or not all(0.0 < sigma < np.inf for sigma in self.volatilities):
            raise ValueError(f"`means` must be finite and `volatilities` positive; got {self.means} and {self.volatilities}.")
        transition = np.asarray(self.transition)
        if not (transition > 0.0).all() or np.abs(transition.sum(axis=1) - 1.0).max() > 1e-6:
            raise ValueError(f"Rows of `transition` must be positive and sum to 1; got {self.transition}.")
        if not 0.0 < self.leave_below <= 0.5:
            raise ValueError(f"`leave_below` must be above 0 and at most 0.5; got {self.leave_below}.")

    @classmethod
    def fit(
        cls,
        returns: np.ndarray,
        n_regimes: int = 4,
        *,
        expected_duration: float = 200.0,
        prior_days: float = 3000.0,
        leave_below: float = 0.25,
        n_starts: int = 4,
        seed: int = 0,
    ) -> "HMMRegimes":
        """
        Maximum a posteriori by expectation maximisation, the best of several starts.

        The prior on the transitions is Dirichlet: as if each state had been watched for ``prior_days`` days and kept
        lasting ``expected_duration`` days. Without it the states change every few days to follow fat tails.

        :param returns: simple returns of the training rows (n_days,); nothing else is seen
        :param n_regimes: 4, or 2 for calm and stress
        :param expected_duration: of a regime under the prior [days]
        :param prior_days: weight of the prior, per state [days]
        :param leave_below: see the class
        :param n_starts: first guesses; the first is deterministic, the others are drawn
        :param seed: of the guesses
        :return: fitted detector
        :raises ValueError: if a setting or the returns cannot be used
        """
        check_positive(prior_days=prior_days, n_starts=n_starts)
        if not 1.0 < expected_duration < np.inf:
            raise ValueError(f"`expected_duration` must be above 1 day and finite; got {expected_duration}.")
        daily = check_training(returns, n_regimes)
        prior = prior_days * sticky_transition(n_regimes, 1.0 - 1.0 / expected_duration)
        guesses = first_guesses(daily, n_regimes, n_starts, np.random.default_rng(seed))
        fits = [_maximise(daily, guess, prior) for guess in guesses]
        best, _ = max(fits, key=lambda fit: fit[1])
        order = np.argsort(best.volatilities, kind="stable")
        return cls(
            tuple(best.means[order].tolist()),
            tuple(best.volatilities[order].tolist()),
            tuple(map(tuple, best.transition[np.ix_(order, order)].tolist())),
            leave_below,
        )

    @property
    def regimes(self) -> tuple[int, ...]:
        """Which of ``REGIMES`` each state is (n_states,)."""
        return name_states(np.asarray(self.volatilities), np.asarray(self.means))

    def detect(self, returns: np.ndarray) -> RegimeTable:
        """
        :param returns: simple returns of the market (n_days,)
        :return: causal probabilities
        """
        likelihoods = gaussian_log_likelihoods(log_returns(returns), np.asarray(self.means), np.asarray(self.volatilities))
        probs, _ = forward_filter(likelihoods, np.asarray(self.transition))
        return RegimeTable(to_regimes(probs, self.regimes), self.leave_below)


def sticky_transition(n_states: int, stay: float) -> np.ndarray:
    """
    :param n_states: number of states
    :param stay: daily probability that a state persists
    :return: transition matrix, every other state equally likely (n_states, n_states)
    """
    transition = np.full((n_states, n_states), (1.0 - stay) / (n_states - 1))
    np.fill_diagonal(transition, stay)
    return transition


def gaussian_log_likelihoods(daily: np.ndarray, means: np.ndarray, volatilities: np.ndarray) -> np.ndarray:
    """
    :param daily: log returns (n_days,)
    :param means: (n_states,)
    :param volatilities: (n_states,)
    :return: log density of each day in each state (n_days, n_states)
    """
    distance = (daily[:, None] - means) / volatilities
    return -0.5 * distance**2 - np.log(volatilities) - 0.5 * np.log(2.0 * np.pi)


@njit(cache=True)
def forward_filter(log_likelihoods: np.ndarray, transition: np.ndarray) -> tuple[np.ndarray, float]:
    """
    Forward (filtering) pass, begun with equal probabilities.

    Source: Hamilton (1989), eq. 4.5-4.8.

    :param log_likelihoods: of each day in each state (n_days, n_states)
    :param transition: from row to column (n_states, n_states), all positive
    :return: probabilities given the days so far (n_days, n_states), and the log-likelihood of all days
    """
    n_days, n_states = log_likelihoods.shape
    probs = np.empty((n_days, n_states))
    predicted = np.full(n_states, 1.0 / n_states)
    total = 0.0
    for day in range(n_days):
        highest = log_likelihoods[day].max()
        joint = predicted * np.exp(log_likelihoods[day] - highest)
        norm = joint.sum()
        probs[day] = joint / norm
        total += np.log(norm) + highest
        predicted = _one_step(probs[day], transition)
    return probs, total


@njit(cache=True)
def backward_smoother(probs: np.ndarray, transition: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Backward pass, for training only: it looks at later days.

    Source: Kim (1994), Dynamic Linear Models with Markov-Switching, eq. 2.20-2.21.

    :param probs: filtered probabilities (n_days, n_states)
    :param transition: from row to column (n_states, n_states)
    :return: probabilities given all days (n_days, n_states), and the expected number of each transition
    """
    n_days, n_states = probs.shape
    smoothed = np.empty((n_days, n_states))
    smoothed[-1] = probs[-1]
    counts = np.zeros((n_states, n_states))
    for day in range(n_days - 2, -1, -1):
        ratio = smoothed[day + 1] / _one_step(probs[day], transition)
        for state in range(n_states):
            pairs = probs[day, state] * transition[state] * ratio
            counts[state] += pairs
            smoothed[day, state] = pairs.sum()
    return smoothed, counts


@njit(cache=True)
def _one_step(probs: np.ndarray, transition: np.ndarray) -> np.ndarray:
    predicted = np.zeros(len(probs))
    for state in range(len(probs)):
        predicted += probs[state] * transition[state]
    return predicted


def em_step(daily: np.ndarray, parameters: HMMParameters, prior: np.ndarray) -> tuple[HMMParameters, float]:
    """
    One step of expectation maximisation (Baum-Welch) with a Dirichlet prior on the rows of the transition matrix.

    :param daily: log returns (n_days,)
    :param parameters: before the step
    :param prior: pseudo-counts of transitions (n_states, n_states)
    :return: parameters after the step, and the log-likelihood plus log prior (up to a constant) *before* it
    """
    likelihoods = gaussian_log_likelihoods(daily, parameters.means, parameters.volatilities)
    probs, log_likelihood = forward_filter(likelihoods, parameters.transition)
    smoothed, counts = backward_smoother(probs, parameters.transition)
    weights = smoothed / np.maximum(smoothed.sum(axis=0), 1e-12)
    means = (weights * daily[:, None]).sum(axis=0)
    variances = (weights * (daily[:, None] - means) ** 2).sum(axis=0)
    transition = counts + prior
    better = HMMParameters(
        means, np.sqrt(np.maximum(variances, LEAST_VARIANCE)), transition / transition.sum(axis=1, keepdims=True)
    )
    return better, float(log_likelihood + (prior * np.log(parameters.transition)).sum())


def first_guesses(daily: np.ndarray, n_states: int, n_starts: int, rng: np.random.Generator) -> list[HMMParameters]:
    """
    Days sorted by their recent volatility and cut into groups: of equal size first, of drawn sizes after that.

    :param daily: log returns (n_days,)
    :param n_states: groups
    :param n_starts: guesses
    :param rng: draws the sizes
    :return: guesses
    """
    order = np.argsort(ewm_variance(pd.Series(daily), _GUESS_HALFLIFE, float(np.mean(daily**2))), kind="stable")
    shares = [np.full(n_states, 1.0 / n_states), *rng.dirichlet(np.full(n_states, 4.0), n_starts - 1)]
    guesses = []
    for share in shares:
        # at least 5 % of the days in every group
        cuts = np.cumsum(0.05 + (1.0 - 0.05 * n_states) * share)[:-1] * len(daily)
        groups = [daily[days] for days in np.split(order, cuts.astype(int))]
        volatilities = np.maximum([group.std() for group in groups], np.sqrt(LEAST_VARIANCE))
        guesses.append(
            HMMParameters(np.array([group.mean() for group in groups]), volatilities, sticky_transition(n_states, 0.98))
        )
    return guesses


def _maximise(daily: np.ndarray, parameters: HMMParameters, prior: np.ndarray) -> tuple[HMMParameters, float]:
    previous = -np.inf
    for _ in range(_MAX_STEPS):
        better, objective = em_step(daily, parameters, prior)
        if objective - previous < _LEAST_GAIN:
            break
        parameters, previous = better, objective
    return parameters, previous
