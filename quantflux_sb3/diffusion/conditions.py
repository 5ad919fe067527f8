"""
Conditions of generation: market regime and volatility per day, as the network's input maps and for calibration.

A condition is either given for all days of a path or not at all, so there are four kinds; each is calibrated on its own.
"""

from dataclasses import dataclass

import numpy as np

from quantflux_sb3.diffusion.quantiles import GRID, quantile_table, to_gaussian
from quantflux_sb3.diffusion.smoothing import CONDITION_HALF_WIDTH, block_means, kernel_mean, log_volatility, triangular_kernel
from quantflux_sb3.regimes import REGIMES, TRADING_DAYS

KINDS = ("none", "regime", "volatility", "both")
#: Input maps: one per regime, the volatility, and a flag that it is given.
N_MAPS = len(REGIMES) + 2
#: Gaussian score beyond which a volatility is not shown to the network but scales the returns.
SCORE_BOUND = 2.0
#: Largest volatility that can be asked for; returns of more have no meaning.
MOST_VOLATILITY = 5.0
#: Annualised volatilities at which the dial is checked.
DIAL_VOLATILITIES = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.6)


@dataclass(frozen=True, eq=False)
class Conditions:
    """
    :param kind: index into ``KINDS``
    :param regimes: regime per day, one-hot (n_paths, n_days, n_regimes); zero if not given
    :param volatility: Gaussian score of the volatility per day (n_paths, n_days, 1); zero if not given
    :param log_scale: what the score cannot express, added to all log volatilities (n_paths, n_days, 1)
    """

    kind: int
    regimes: np.ndarray
    volatility: np.ndarray
    log_scale: np.ndarray

    @property
    def maps(self) -> np.ndarray:
        """Input maps per block (n_paths, n_blocks, N_MAPS)."""
        flag = np.full_like(self.volatility, float(KINDS[self.kind] in ("volatility", "both")))
        return block_means(np.concatenate([self.regimes, self.volatility, flag], axis=-1))


@dataclass(frozen=True, eq=False)
class VolatilityScale:
    """
    Between annualised volatility and the Gaussian scores that the network knows.

    :param table: quantiles of the log mean absolute market return around a day (1, n_grid)
    :param log_ratio: log of standard deviation over mean absolute return (1,)
    :param dial: what is added to log volatilities so that ``DIAL_VOLATILITIES`` come out as asked: without a regime, then
        for each of them (1 + n_regimes, n_dial)
    """

    table: np.ndarray
    log_ratio: np.ndarray
    dial: np.ndarray

    @classmethod
    def fit(cls, market_logs: np.ndarray) -> "VolatilityScale":
        """
        :param market_logs: log returns of the benchmark (n_days, 1)
        """
        absolute = log_volatility(market_logs, CONDITION_HALF_WIDTH)
        deviation = 0.5 * np.log(kernel_mean(market_logs**2, triangular_kernel(CONDITION_HALF_WIDTH)) + 1e-12)
        dial = np.zeros((1 + len(REGIMES), len(DIAL_VOLATILITIES)))
        return cls(quantile_table(absolute), np.array([(deviation - absolute).mean()]), dial)

    def training_scores(self, market_logs: np.ndarray) -> np.ndarray:
        return to_gaussian(log_volatility(market_logs, CONDITION_HALF_WIDTH), self.table)

    def annualised(self, market_logs: np.ndarray) -> np.ndarray:
        """
        The volatility condition that days of a real market stand for: it looks at the days around each, so that it describes
        a past and forecasts nothing.

        :param market_logs: log returns of the benchmark (n_days, 1)
        :return: annualised volatility (n_days,)
        """
        return np.exp(log_volatility(market_logs, CONDITION_HALF_WIDTH) + self.log_ratio)[:, 0] * np.sqrt(TRADING_DAYS)

    def scores(self, volatility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        :param volatility: annualised (...)
        :return: Gaussian scores within +-SCORE_BOUND, and the log volatility that is left over, both (..., 1)
        """
        logs = np.log(np.maximum(volatility, 1e-4) / np.sqrt(TRADING_DAYS))[..., None] - self.log_ratio
        low, high = np.interp((-SCORE_BOUND, SCORE_BOUND), GRID, self.table[0])
        inside = np.clip(logs, low, high)
        return to_gaussian(inside, self.table), logs - inside

    def correction(self, volatility: np.ndarray, regimes: np.ndarray | None) -> np.ndarray:
        """
        :param volatility: annualised (...)
        :param regimes: indices (...), or None
        :return: added to log volatilities (..., 1)
        """
        known = np.log(DIAL_VOLATILITIES)
        each = np.stack([np.interp(np.log(volatility), known, dial) for dial in self.dial])
        which = np.zeros(volatility.shape, dtype=np.int64) if regimes is None else 1 + regimes
        return np.take_along_axis(each, which[None], axis=0)[0][..., None]


def parse_regimes(regimes: str | np.ndarray | None, n_paths: int, n_days: int) -> np.ndarray | None:
    """
    :param regimes: a name of ``REGIMES`` for all days, or names or indices (n_days,) or (n_paths, n_days)
    :return: indices (n_paths, n_days), or None
    :raises ValueError: if a regime is unknown or the shape is wrong
    """
    if regimes is None:
        return None
    indices = np.asarray(regimes)
    if indices.dtype.kind == "U":
        unknown_names = set(indices.reshape(-1).tolist()) - set(REGIMES)
        if unknown_names:
            raise ValueError(f"Unknown regime '{min(unknown_names)}'; expected one of {list(REGIMES)}.")
        indices = np.vectorize(REGIMES.index, otypes=[np.int64])(indices)
        if indices.ndim == 0:
            return np.full((n_paths, n_days), indices)
    if not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"`regimes` must be names of {list(REGIMES)} or integer indices into it; got {indices.dtype} values.")
    unknown = indices[(indices < 0) | (indices >= len(REGIMES))]
    if unknown.size:
        raise ValueError(f"Unknown regime {unknown.flat[0]}; expected 0 to {len(REGIMES) - 1}: {REGIMES}.")
    return _broadcast("regimes", indices, n_paths, n_days)


def parse_volatility(volatility: float | np.ndarray | None, n_paths: int, n_days: int) -> np.ndarray | None:
    """
    :param volatility: annualised, one number, per day (n_days,), or (n_paths, n_days)
    :return: annualised volatility (n_paths, n_days), or None
    :raises ValueError: if it is not a positive finite number or the shape is wrong
    """
    if volatility is None:
        return None
    values = np.asarray(volatility)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"`volatility` must be numbers, annualised (0.25 is 25 % a year); got {volatility!r}.")
    values = values.astype(np.float64)
    bad = values[~((values > 0.0) & (values <= MOST_VOLATILITY))]
    if bad.size:
        raise ValueError(
            f"`volatility` must be positive, annualised (0.25 is 25 % a year), and at most {MOST_VOLATILITY:g}; "
            f"got {bad.flat[0]}."
        )
    return np.full((n_paths, n_days), float(values)) if values.ndim == 0 else _broadcast("volatility", values, n_paths, n_days)


def build_conditions(
    regimes: np.ndarray | None, volatility: np.ndarray | None, scale: VolatilityScale, n_paths: int, n_days: int
) -> Conditions:
    """
    :param regimes: indices (n_paths, n_days), or None
    :param volatility: annualised (n_paths, n_days), or None
    """
    kind = (regimes is not None) + 2 * (volatility is not None)
    one_hot = np.zeros((n_paths, n_days, len(REGIMES))) if regimes is None else np.eye(len(REGIMES))[regimes]
    nothing = np.zeros((n_paths, n_days, 1))
    if volatility is None:
        return Conditions(kind, one_hot, nothing, nothing)
    scores, left_over = scale.scores(volatility)
    return Conditions(kind, one_hot, scores, left_over + scale.correction(volatility, regimes))


def _broadcast(name: str, values: np.ndarray, n_paths: int, n_days: int) -> np.ndarray:
    if values.shape not in ((n_days,), (n_paths, n_days)):
        raise ValueError(
            f"`{name}` has shape {values.shape}; expected ({n_days},), one per day, or ({n_paths}, {n_days}), paths x days."
        )
    return np.broadcast_to(values, (n_paths, n_days))
