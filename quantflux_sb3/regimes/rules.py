"""Regimes by fixed rules, the default: the level of volatility decides first, the trend second, and nothing is fitted."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from quantflux_sb3.market.data import MarketData
from quantflux_sb3.regimes.table import LEAST_VARIANCE, TRADING_DAYS, RegimeDetector, RegimeTable, ewm_variance, log_returns


@dataclass(frozen=True)
class RuleRegimes:
    """
    Regimes from rolling return, volatility and trend strength by fixed rules: nothing is fitted.

    Each day has two coordinates: volatility ``z`` (log of the exponentially weighted volatility against its own past, in
    standard deviations) and trend ``s`` (exponentially weighted mean return over volatility, scaled like a t statistic).
    Each regime has a centre in that plane; squared distances to the centres are the log-likelihoods of a Bayes filter
    whose regimes persist with probability ``stay``.

    :param volatility_halflife: of the volatility [days]
    :param trend_halflife: of the mean return [days]
    :param prior_volatility: volatility that the history starts from, before there is any [annualised]
    :param prior_days: weight of that start [days]
    :param stay: daily probability that a regime persists
    :param temper: weight of one day's evidence; below 1 because neighbouring days repeat each other
    """

    volatility_halflife: float = 10.0
    trend_halflife: float = 42.0
    prior_volatility: float = 0.16
    prior_days: float = 504.0
    stay: float = 0.98
    temper: float = 0.5

    def coordinates(self, returns: np.ndarray) -> np.ndarray:
        """
        :param returns: simple returns (n_days,)
        :return: volatility and trend coordinate (n_days, 2) [standard deviations]
        """
        daily = pd.Series(log_returns(returns))
        prior = self.prior_volatility**2 / TRADING_DAYS
        fast, slow = (
            0.5 * np.log(np.maximum(ewm_variance(daily, halflife, prior), LEAST_VARIANCE))
            for halflife in (self.volatility_halflife, self.trend_halflife)
        )
        z = (fast - _running_mean(fast, 0.5 * np.log(prior), self.prior_days)) / _LOG_VOLATILITY_SPREAD
        mean = daily.ewm(halflife=self.trend_halflife, adjust=False).mean().to_numpy()
        effective_days = 2.0 * self.trend_halflife / np.log(2.0)  # variance of an exponentially weighted mean
        return np.column_stack([z, mean / np.exp(slow) * np.sqrt(effective_days)])

    def detect(self, returns: np.ndarray) -> RegimeTable:
        """
        :param returns: simple returns of the market (n_days,)
        :return: causal probabilities
        """
        distance = (self.coordinates(returns)[:, None, :] - _CENTRES) / _WIDTHS
        scores = -0.5 * self.temper * np.clip(distance, -4.0, 4.0) ** 2
        return RegimeTable(sticky_filter(scores.sum(axis=2), self.stay))


#: Spread of the log volatility of an equity index around its long mean.
_LOG_VOLATILITY_SPREAD = 0.4
#: Centre and width of each regime in the plane of (volatility z, trend s).
_CENTRES = np.array([[-0.4, 1.3], [0.5, -1.3], [1.6, -0.4], [-0.8, 0.0]])
_WIDTHS = np.array([[0.8, 0.8], [0.8, 0.8], [0.7, 1.6], [0.8, 0.6]])


def sticky_filter(log_likelihoods: np.ndarray, stay: float) -> np.ndarray:
    """
    Forward (filtering) pass of a hidden Markov chain whose regimes persist and else change at random.

    Source: Hamilton (1989), A New Approach to the Economic Analysis of Nonstationary Time Series, eq. 4.5-4.6.

    :param log_likelihoods: of each day under each regime (n_days, n_regimes)
    :param stay: daily probability that a regime persists
    :return: probabilities given the days so far (n_days, n_regimes)
    """
    n_days, n_regimes = log_likelihoods.shape
    likelihoods = np.exp(log_likelihoods - log_likelihoods.max(axis=1, keepdims=True))
    leave = (1.0 - stay) / (n_regimes - 1)
    probs = np.empty((n_days, n_regimes))
    current = np.full(n_regimes, 1.0 / n_regimes)
    for day in range(n_days):
        current = likelihoods[day] * (leave + (stay - leave) * current)
        current = current / current.sum()
        probs[day] = current
    return probs


def detect_regimes(market: MarketData, detector: RegimeDetector | None = None) -> RegimeTable:
    """
    :param market: the market; its benchmark tells the regime
    :param detector: ``RuleRegimes()`` if not given
    :return: causal probabilities, one row per date of the market; computed once per market and shared
    """
    detector = RuleRegimes() if detector is None else detector
    tables = _CACHE.setdefault(market, {})
    if detector not in tables:
        tables[detector] = detector.detect(market.benchmark_returns)
    return tables[detector]


_CACHE: WeakKeyDictionary = WeakKeyDictionary()


def _running_mean(values: np.ndarray, prior: float, prior_days: float) -> np.ndarray:
    days = np.arange(1, len(values) + 1)
    return (np.cumsum(values) + prior * prior_days) / (days + prior_days)
