"""
Causal market regimes: bull, bear, volatile, sideways, as probabilities per day.

Every detector is a frozen, hashable value with one method, ``detect(returns) -> RegimeTable``. Row ``t`` of the table is
computed from ``returns[:t + 1]`` only and never changes when later rows arrive. ``RuleRegimes`` (the default) fits nothing;
``HMMRegimes.fit(train_returns)`` and ``JumpRegimes.fit(train_returns)`` return detectors whose parameters come from the
training rows alone. In all of them the level of volatility decides first and the trend second, because on simulated
four-regime markets that order tells them apart better than the reverse. What each is worth is measured in docs/regimes.md.
"""

from quantflux_sb3.regimes.hidden_markov import HMMRegimes
from quantflux_sb3.regimes.jump import JumpRegimes
from quantflux_sb3.regimes.rules import RuleRegimes, detect_regimes, sticky_filter
from quantflux_sb3.regimes.table import (
    BEAR,
    BULL,
    REGIMES,
    SIDEWAYS,
    TRADING_DAYS,
    VOLATILE,
    RegimeDetector,
    RegimeTable,
    detect_walk_forward,
    ewm_variance,
)

__all__ = [
    "BEAR",
    "BULL",
    "REGIMES",
    "SIDEWAYS",
    "TRADING_DAYS",
    "VOLATILE",
    "HMMRegimes",
    "JumpRegimes",
    "RegimeDetector",
    "RegimeTable",
    "RuleRegimes",
    "detect_regimes",
    "detect_walk_forward",
    "ewm_variance",
    "sticky_filter",
]
