"""The benchmark-aware reward: what its named terms weigh, and how regimes shape it. The kernel computes it."""

from dataclasses import dataclass
from numbers import Real

import numpy as np

from quantflux_sb3.dynamics import REWARD_TERMS
from quantflux_sb3.regimes import REGIMES


@dataclass(frozen=True)
class RewardConfig:
    """
    Weights of the reward's terms. The reward of a day, in per cent if ``scale`` is 100, is ``scale`` times the sum of

    - ``excess_return * (log(1 + r) - log(1 + b))``: portfolio after costs against benchmark;
    - ``-volatility / 2 * (r^2 - b^2)``: variance above that of the benchmark; with the first term this is mean-variance
      utility relative to the benchmark, whose variance is much lower than that of the plain return;
    - ``-drawdown * increase`` of the distance to the highest wealth so far;
    - ``-turnover * traded`` value, on top of the cost itself, which ``r`` has paid already;
    - ``-concentration * sum(w_i^2)`` over the assets;
    - ``-overtrading`` for a trade within ``patience`` days of the last one, in proportion to the days too early;
    - ``-soft_limit * sum(max(w_i - soft_max_weight, 0))``: the soft counterpart of the hard ``max_weight``.

    The penalties (all but the first) are multiplied by ``regime_scale``, averaged with the regime probabilities known
    before each day.

    Source: Markowitz (1952), Portfolio Selection, for the mean-variance part.

    :param excess_return: weight, see above
    :param volatility: risk aversion, see above
    :param drawdown: weight, see above
    :param turnover: weight, see above
    :param concentration: weight, see above
    :param overtrading: weight, see above
    :param soft_limit: weight, see above
    :param soft_max_weight: weight of an asset above which the soft limit counts
    :param patience: days within which a further trade is over-trading
    :param regime_scale: of the penalties in bull, bear, volatile and sideways markets
    :param scale: of the whole reward
    """

    excess_return: float = 1.0
    volatility: float = 5.0
    drawdown: float = 0.02
    turnover: float = 0.0002
    concentration: float = 0.0
    overtrading: float = 0.00005
    soft_limit: float = 0.001
    soft_max_weight: float = 0.22
    patience: float = 5.0
    regime_scale: tuple[float, float, float, float] = (1.0, 1.25, 1.25, 1.0)
    scale: float = 100.0

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in (*REWARD_TERMS, "patience", "scale", "soft_max_weight")}
        wrong = {
            name: value
            for name, value in values.items()
            if not (isinstance(value, Real) and np.isfinite(value) and value >= 0.0)
        }
        if wrong:
            raise ValueError(f"Weights of the reward must be finite and >= 0; got {wrong}.")
        if len(self.regime_scale) != len(REGIMES) or not all(0.0 <= scale < np.inf for scale in self.regime_scale):
            raise ValueError(f"`regime_scale` needs one number >= 0 for each of {REGIMES}; got {self.regime_scale}.")

    def weights(self) -> np.ndarray:
        """Scaled weights in the order of ``REWARD_TERMS`` (n_terms,)."""
        return self.scale * np.array([getattr(self, name) for name in REWARD_TERMS])
