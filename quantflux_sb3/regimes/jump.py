"""
Regimes from a statistical jump model: states with fixed centres, and a price for every jump between them.

Source: Nystrup, Lindstrom, Madsen (2020), Learning hidden Markov models with persistent states by penalizing jumps; online
inference as in Nystrup, Kolm, Lindstrom (2020), Greedy online classification of persistent market states.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numba import njit

from quantflux_sb3.regimes.table import (
    LEAST_VARIANCE,
    RegimeTable,
    check_positive,
    check_training,
    log_returns,
    name_states,
    to_regimes,
)

#: Coordinate descent ends when nothing is gained any more, or after so many steps.
_MAX_STEPS = 50


@dataclass(frozen=True)
class JumpFeatures:
    """
    What the model sees of each day: the log of the recent volatility, and the trend.

    :param volatility_halflife: [days]
    :param trend_halflife: [days]
    :param trend_weight: of the trend beside the volatility, both scaled to unit spread in training
    """

    volatility_halflife: float = 3.0
    trend_halflife: float = 60.0
    trend_weight: float = 0.2

    def __post_init__(self) -> None:
        check_positive(**vars(self))

    def of(self, daily: np.ndarray) -> np.ndarray:
        """
        :param daily: log returns (n_days,)
        :return: log volatility and trend (n_days, 2); the trend is scaled like a t statistic
        """
        returns = pd.Series(daily)
        fast, slow = (
            np.sqrt(np.maximum((returns**2).ewm(halflife=halflife).mean().to_numpy(), LEAST_VARIANCE))
            for halflife in (self.volatility_halflife, self.trend_halflife)
        )
        mean = returns.ewm(halflife=self.trend_halflife).mean().to_numpy()
        return np.column_stack([np.log(fast), mean / slow * np.sqrt(2.0 * self.trend_halflife / np.log(2.0))])


@dataclass(frozen=True)
class JumpRegimes:
    """
    Online states of a jump model; build it with :meth:`fit`.

    The cost of ending in a state is ``cost[t, k] = loss[t, k] + min(cost[t-1, k], min_j cost[t-1, j] + jump_penalty)``; the
    label is the cheapest state, and the probabilities are ``softmax(-cost)``. They say how clear the label is; they are not
    the posterior of a generative model.

    :param centres: of the states, in scaled features (n_states, 2); 2 or 4 states
    :param location: of the features in training (2,)
    :param scale: of the features in training, over their weights (2,)
    :param jump_penalty: price of a jump, in squared standard deviations over 2
    :param features: what is seen of each day
    """

    centres: tuple[tuple[float, ...], ...]
    location: tuple[float, ...]
    scale: tuple[float, ...]
    jump_penalty: float = 5.0
    features: JumpFeatures = JumpFeatures()

    def __post_init__(self) -> None:
        shapes = np.shape(self.centres), np.shape(self.location), np.shape(self.scale)
        if shapes not in (((2, 2), (2,), (2,)), ((4, 2), (2,), (2,))):
            raise ValueError(f"`centres`, `location`, `scale` must be (2 or 4, 2), (2,), (2,); got shapes {shapes}.")
        if not (np.isfinite(self.centres).all() and np.isfinite(self.location).all()):
            raise ValueError(f"`centres` and `location` must be finite; got {self.centres} and {self.location}.")
        check_positive(jump_penalty=self.jump_penalty, least_scale=min(self.scale))

    @classmethod
    def fit(
        cls,
        returns: np.ndarray,
        n_regimes: int = 4,
        *,
        jump_penalty: float = 5.0,
        features: JumpFeatures | None = None,
        n_starts: int = 6,
        seed: int = 0,
    ) -> "JumpRegimes":
        """
        Coordinate descent between states and centres, the best of several starts (Nystrup et al. 2020, algorithm 1).

        :param returns: simple returns of the training rows (n_days,); nothing else is seen
        :param n_regimes: 4, or 2 for calm and stress
        :param jump_penalty: see the class
        :param features: ``JumpFeatures()`` if not given
        :param n_starts: first guesses; the first is deterministic, the others are drawn (k-means++)
        :param seed: of the guesses
        :return: fitted detector
        :raises ValueError: if a setting or the returns cannot be used
        """
        check_positive(jump_penalty=jump_penalty, n_starts=n_starts)
        daily = check_training(returns, n_regimes)
        features = JumpFeatures() if features is None else features
        raw = features.of(daily)
        location, scale = raw.mean(axis=0), raw.std(axis=0) / np.array([1.0, features.trend_weight])
        points = (raw - location) / scale
        rng = np.random.default_rng(seed)
        drawn = [_drawn_centres(points, n_regimes, rng) for _ in range(n_starts - 1)]
        guesses = [_quantile_centres(points, n_regimes), *drawn]
        fits = [_descend(points, guess, jump_penalty) for guess in guesses]
        centres, _ = min(fits, key=lambda fit: fit[1])
        centres = centres[np.argsort(centres[:, 0], kind="stable")]
        return cls(
            tuple(map(tuple, centres.tolist())), tuple(location.tolist()), tuple(scale.tolist()), jump_penalty, features
        )

    @property
    def regimes(self) -> tuple[int, ...]:
        """Which of ``REGIMES`` each state is (n_states,)."""
        volatility, trend = (np.asarray(self.centres) * self.scale + self.location).T
        return name_states(volatility, trend)

    def detect(self, returns: np.ndarray) -> RegimeTable:
        """
        :param returns: simple returns of the market (n_days,)
        :return: causal probabilities
        """
        points = (self.features.of(log_returns(returns)) - self.location) / self.scale
        costs = online_costs(squared_losses(points, np.asarray(self.centres)), self.jump_penalty)
        likelihoods = np.exp(costs.min(axis=1, keepdims=True) - costs)
        return RegimeTable(to_regimes(likelihoods / likelihoods.sum(axis=1, keepdims=True), self.regimes))


def squared_losses(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """
    :param points: scaled features (n_days, n_features)
    :param centres: of the states (n_states, n_features)
    :return: half the squared distance of each day to each centre (n_days, n_states)
    """
    return 0.5 * ((points[:, None, :] - centres) ** 2).sum(axis=2)


@njit(cache=True)
def online_costs(losses: np.ndarray, jump_penalty: float) -> np.ndarray:
    """
    Forward half of the dynamic programme: cost of the cheapest path that ends in each state.

    Source: Nystrup, Lindstrom, Madsen (2020), eq. 4.

    :param losses: of each day in each state (n_days, n_states)
    :param jump_penalty: price of a jump
    :return: costs (n_days, n_states)
    """
    costs = losses.copy()
    for day in range(1, len(losses)):
        costs[day] += np.minimum(costs[day - 1], costs[day - 1].min() + jump_penalty)
    return costs


@njit(cache=True)
def cheapest_path(costs: np.ndarray, jump_penalty: float) -> np.ndarray:
    """
    Backward half of the dynamic programme, for training only: it looks at later days.

    :param costs: of :func:`online_costs` (n_days, n_states)
    :param jump_penalty: price of a jump
    :return: states of the cheapest path (n_days,)
    """
    path = np.empty(len(costs), dtype=np.int64)
    path[-1] = costs[-1].argmin()
    for day in range(len(costs) - 2, -1, -1):
        stay, best = path[day + 1], costs[day].argmin()
        path[day] = stay if costs[day, stay] <= costs[day, best] + jump_penalty else best
    return path


def _descend(points: np.ndarray, centres: np.ndarray, jump_penalty: float) -> tuple[np.ndarray, float]:
    objective = np.inf
    for _ in range(_MAX_STEPS):
        costs = online_costs(squared_losses(points, centres), jump_penalty)
        if costs[-1].min() >= objective - 1e-9:
            break
        objective = costs[-1].min()
        path = cheapest_path(costs, jump_penalty)
        means = [points[path == k].mean(axis=0) if (path == k).any() else centre for k, centre in enumerate(centres)]
        centres = np.array(means)
    return centres, float(objective)


def _quantile_centres(points: np.ndarray, n_states: int) -> np.ndarray:
    order = np.argsort(points[:, 0], kind="stable")
    return np.array([points[days].mean(axis=0) for days in np.array_split(order, n_states)])


def _drawn_centres(points: np.ndarray, n_states: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii 2007): each next centre with probability proportional to its squared distance."""
    centres = points[rng.integers(len(points), size=1)]
    while len(centres) < n_states:
        nearest = squared_losses(points, centres).min(axis=1)
        centres = np.vstack([centres, points[rng.choice(len(points), p=nearest / nearest.sum())]])
    return centres
