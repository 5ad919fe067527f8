"""What all detectors share: the four regimes, the table of causal probabilities, and how fitted states get their names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numba import njit

REGIMES = ("bull", "bear", "volatile", "sideways")
BULL, BEAR, VOLATILE, SIDEWAYS = range(4)
TRADING_DAYS = 252
#: Floor of the daily variance, for markets that stand still.
LEAST_VARIANCE = 1e-8
#: Fewer returns than this tell nothing about regimes that last for months.
LEAST_TRAINING_DAYS = 250


@dataclass(frozen=True)
class RegimeTable:
    """
    :param probs: probability of each regime of ``REGIMES`` (n_days, 4); rows sum to 1
    :param leave_below: the label stays with a regime until its probability falls below this; 0.5 is no hysteresis at all
    """

    probs: np.ndarray
    leave_below: float = 0.5

    @property
    def labels(self) -> np.ndarray:
        """Regime of each day (n_days,), an index into ``REGIMES``: the most probable one, but for the hysteresis."""
        return self.probs.argmax(axis=1) if self.leave_below == 0.5 else hold_labels(self.probs, self.leave_below)

    @property
    def days_in_regime(self) -> np.ndarray:
        """Days since the label last changed (n_days,); 0 on the day of a change."""
        labels = self.labels
        rows = np.arange(len(labels))
        changed = np.concatenate([[True], labels[1:] != labels[:-1]])[: len(labels)]
        return rows - np.maximum.accumulate(np.where(changed, rows, 0))

    @property
    def switches_per_year(self) -> float:
        return float(np.count_nonzero(np.diff(self.labels)) / max(len(self.probs), 1) * TRADING_DAYS)


class RegimeDetector(Protocol):
    """Anything hashable that turns returns into causal regime probabilities."""

    def detect(self, returns: np.ndarray) -> RegimeTable:
        """
        :param returns: simple returns of the market (n_days,)
        :return: causal probabilities
        """
        ...


@njit(cache=True)
def hold_labels(probs: np.ndarray, leave_below: float) -> np.ndarray:
    """
    The most probable regime, held until its probability falls below a threshold.

    :param probs: (n_days, n_regimes)
    :param leave_below: in (0, 0.5] [probability]
    :return: labels (n_days,)
    """
    labels = np.empty(len(probs), dtype=np.int64)
    held = -1
    for day in range(len(probs)):
        if held < 0 or probs[day, held] < leave_below:
            held = probs[day].argmax()
        labels[day] = held
    return labels


def name_states(volatilities: np.ndarray, trends: np.ndarray) -> tuple[int, ...]:
    """
    Which regime each fitted state is: volatility decides first, trend second.

    Of four states the most volatile is volatile, the next is bear; of the two calm ones the better trend is bull and the
    other sideways. Of two states the more volatile is volatile (stress); the calm one is bull if its trend is positive and
    sideways if not.

    :param volatilities: in any unit that orders the states (n_states,)
    :param trends: with the sign of the mean return (n_states,)
    :return: indices into ``REGIMES`` (n_states,)
    """
    names = np.empty(len(volatilities), dtype=int)
    order = np.argsort(volatilities, kind="stable")
    names[order[-1]] = VOLATILE
    if len(order) == 2:
        names[order[0]] = BULL if trends[order[0]] > 0.0 else SIDEWAYS
        return tuple(names.tolist())
    names[order[2]] = BEAR
    better = order[int(trends[order[1]] > trends[order[0]])]
    names[order[:2]] = SIDEWAYS
    names[better] = BULL
    return tuple(names.tolist())


def to_regimes(state_probs: np.ndarray, names: Sequence[int]) -> np.ndarray:
    """
    :param state_probs: probability of each fitted state (n_days, n_states)
    :param names: index into ``REGIMES`` of each state (n_states,)
    :return: probability of each of ``REGIMES`` (n_days, 4); regimes that no state stands for have none
    """
    probs = np.zeros((len(state_probs), len(REGIMES)))
    probs[:, list(names)] = state_probs
    return probs


def detect_walk_forward(
    returns: np.ndarray, fit: Callable[[np.ndarray], RegimeDetector], refit_rows: Sequence[int]
) -> RegimeTable:
    """
    Causal regimes of a detector that is fitted again and again, each time on the past only.

    :param returns: simple returns of the market (n_days,)
    :param fit: turns training returns into a detector, for instance ``HMMRegimes.fit``
    :param refit_rows: increasing; the detector fitted on the rows before one of them serves from it to the next
    :return: table of the rows from ``refit_rows[0]`` on (n_days - refit_rows[0], 4)
    """
    rows = [int(row) for row in refit_rows]
    if not rows or any(later <= row for row, later in zip(rows, [*rows[1:], len(returns)], strict=True)):
        raise ValueError(f"`refit_rows` must increase and stay below the {len(returns)} rows of `returns`; got {rows}.")
    tables = []
    for row, stop in zip(rows, [*rows[1:], len(returns)], strict=True):
        tables.append(fit(returns[:row]).detect(returns[:stop]))
    probs = [table.probs[row:] for table, row in zip(tables, rows, strict=True)]
    return RegimeTable(np.concatenate(probs), tables[-1].leave_below)


def log_returns(returns: np.ndarray) -> np.ndarray:
    """
    :param returns: simple returns (n_days,)
    :return: log returns (n_days,), a loss of more than 99 % taken as 99 %
    """
    return np.log1p(np.maximum(np.asarray(returns, dtype=np.float64), -0.99))


def ewm_variance(log_returns: pd.Series, halflife: float, start: float) -> np.ndarray:
    """
    Exponentially weighted mean square (RiskMetrics), begun at a prior so that the first days are defined.

    :param log_returns: daily log returns (n_days,)
    :param halflife: [days]
    :param start: variance before the first day [per day]
    :return: variance known at each close (n_days,) [per day]
    """
    squares = pd.concat([pd.Series([start]), log_returns**2], ignore_index=True)
    return squares.ewm(halflife=halflife, adjust=False).mean().to_numpy()[1:]


def check_training(returns: np.ndarray, n_regimes: int) -> np.ndarray:
    """
    :param returns: simple returns to fit on (n_days,)
    :param n_regimes: 2 or 4
    :return: their log returns (n_days,)
    :raises ValueError: if nothing can be fitted to them
    """
    if n_regimes not in (2, 4):
        raise ValueError(f"`n_regimes` must be 2 (calm, stress) or 4 {REGIMES}; got {n_regimes}.")
    returns = np.asarray(returns, dtype=np.float64)
    if returns.ndim != 1 or len(returns) < LEAST_TRAINING_DAYS:
        raise ValueError(f"`returns` must be one column of at least {LEAST_TRAINING_DAYS} days; got shape {returns.shape}.")
    if not np.isfinite(returns).all():
        raise ValueError(f"`returns` has {np.count_nonzero(~np.isfinite(returns))} values that are not finite. Drop them.")
    if np.ptp(returns) == 0.0:
        raise ValueError(f"`returns` never changes from {returns[0]}; a market that stands still has no regimes to fit.")
    return log_returns(returns)


def check_positive(**settings: float) -> None:
    """
    :raises ValueError: if a setting is not finite and positive
    """
    for name, value in settings.items():
        if not 0.0 < value < np.inf:
            raise ValueError(f"`{name}` must be positive and finite; got {value}.")
