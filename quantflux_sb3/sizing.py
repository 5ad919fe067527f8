"""
How much of wealth to put at risk: market timing by rule, a target for the volatility, and multi-timeframe Kelly. All give an
exposure in [0, 1].

The exposure at row ``t`` uses rows ``<= t`` only. Which assets to hold is somebody else's decision.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from numba import njit

from quantflux_sb3.market.data import LONGEST_WINDOW, MarketData
from quantflux_sb3.pool import MarketPool
from quantflux_sb3.regimes import REGIMES, TRADING_DAYS, RuleRegimes, detect_regimes, ewm_variance


class SizingRule(Protocol):
    """Turns weights asked for into an exposure. Wrappers apply it to any policy."""

    def exposure(self, pool: MarketPool, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """
        :param pool: the markets
        :param rows: last row of the pool known to each decision (n,)
        :param weights: asset weights asked for (n, n_assets)
        :return: exposure (n,) in [0, 1]
        """
        ...


class Sizing(NamedTuple):
    """
    A rule and how it is applied.

    :param rule: gives the exposure
    :param keep_cash: True: the exposure multiplies the one asked for; False: it replaces it
    """

    rule: SizingRule
    keep_cash: bool

    def apply(self, weights: np.ndarray, pool: MarketPool, rows: np.ndarray) -> None:
        """
        Give weights the exposure of the rule, in place; what is left is cash. All cash stays all cash.

        :param weights: asked for, cash last, rows sum to 1 (n, n_assets + 1)
        :param pool: the markets
        :param rows: last row of the pool known to each decision (n,)
        """
        assets = weights[:, :-1]
        asked = np.abs(assets).sum(axis=1)
        exposure = self.rule.exposure(pool, rows, assets)
        wanted = np.where(asked > 0.0, exposure * asked if self.keep_cash else exposure, 0.0)
        weights[:, :-1] *= (wanted / np.maximum(asked, 1e-12))[:, None]
        weights[:, -1] = 1.0 - assets.sum(axis=1)


@dataclass(frozen=True)
class TimingRule:
    """
    Exposure by rule: ``min(exposure of the regime, target volatility / volatility)``; the rest stays in cash.

    The strongest of the exposure rules that were measured: on 20 stocks and on the six default ones it raises the
    walk-forward Sharpe ratio and halves the drawdown.

    Source: Moreira and Muir (2017), Volatility-Managed Portfolios, eq. 2, with the variance replaced by the volatility.

    :param regime_exposure: in bull, bear, volatile and sideways markets; averaged with the regime probabilities
    :param target_volatility: annualised
    :param volatility_halflife: of the benchmark's volatility [days]
    :param min_exposure: the exposure never falls below it
    :param trend_days: window of the benchmark's moving average [days]
    :param downtrend_exposure: factor on the exposure while the benchmark is below that average; 1 = no matter
    :param drawdown_limit: drawdown of the benchmark from which the next factor counts
    :param drawdown_exposure: factor on the exposure in such a drawdown; 1 = no matter
    """

    regime_exposure: tuple[float, float, float, float] = (1.0, 0.5, 0.5, 1.0)
    target_volatility: float = 0.15
    volatility_halflife: float = 21.0
    min_exposure: float = 0.0
    trend_days: int = 100
    downtrend_exposure: float = 1.0
    drawdown_limit: float = 0.1
    drawdown_exposure: float = 1.0

    def __post_init__(self) -> None:
        for name in ("min_exposure", "downtrend_exposure", "drawdown_exposure", "drawdown_limit"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"`{name}` must lie in [0, 1]; got {getattr(self, name)}.")
        if not 2 <= self.trend_days <= LONGEST_WINDOW:
            raise ValueError(f"`trend_days` must lie between 2 and {LONGEST_WINDOW}; got {self.trend_days}.")
        if len(self.regime_exposure) != len(REGIMES) or not all(0.0 <= level <= 1.0 for level in self.regime_exposure):
            raise ValueError(
                f"`regime_exposure` needs one number in [0, 1] for each of {REGIMES}; got {self.regime_exposure}."
            )
        if not (self.target_volatility > 0.0 and self.volatility_halflife > 0.0):
            raise ValueError(f"`target_volatility` and `volatility_halflife` must be > 0; got {self}.")

    def table(self, market: MarketData) -> np.ndarray:
        """
        :return: exposure known at each close (n_days,)
        """
        probs = detect_regimes(market, RuleRegimes()).probs
        log_returns = pd.Series(np.log1p(np.maximum(market.benchmark_returns, -0.99)))
        variance = ewm_variance(log_returns, self.volatility_halflife, self.target_volatility**2 / TRADING_DAYS)
        by_volatility = self.target_volatility / np.sqrt(np.maximum(variance * TRADING_DAYS, 1e-8))
        exposure = np.minimum(probs @ np.asarray(self.regime_exposure), by_volatility)
        level = log_returns.cumsum()
        downtrend = (level < level.rolling(self.trend_days).mean()).to_numpy()
        fallen = (1.0 - np.exp(level - np.maximum(level.cummax(), 0.0)) > self.drawdown_limit).to_numpy()
        exposure = exposure * np.where(downtrend, self.downtrend_exposure, 1.0)
        exposure = exposure * np.where(fallen, self.drawdown_exposure, 1.0)
        return np.clip(exposure, self.min_exposure, 1.0)

    def exposure(self, pool: MarketPool, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """See :class:`SizingRule`; the weights do not matter here."""
        return pool.table(self)[rows]


@dataclass(frozen=True)
class VolatilityRule:
    """
    Exposure that keeps the volatility of the portfolio that is asked for below a target: ``min(1, target / volatility)``. The
    volatility is that which the asked weights would have had, weighted exponentially over the last 126 days.

    Source: Moreira and Muir (2017), Volatility-Managed Portfolios, eq. 2, with the variance replaced by the volatility.

    :param target_volatility: annualised
    :param halflife: of the weights of past days [days]
    :param min_exposure: the exposure never falls below it
    """

    target_volatility: float = 0.15
    halflife: float = 21.0
    min_exposure: float = 0.0

    def __post_init__(self) -> None:
        if not (self.target_volatility > 0.0 and self.halflife > 0.0 and 0.0 <= self.min_exposure <= 1.0):
            raise ValueError(f"Give target_volatility and halflife > 0 and min_exposure in [0, 1]; got {self}.")

    def exposure(self, pool: MarketPool, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """See :class:`SizingRule`."""
        total = np.maximum(np.abs(weights).sum(axis=1, keepdims=True), 1e-12)
        decay = 0.5 ** (1.0 / self.halflife)
        variance = portfolio_variance(pool.prices.returns, rows, weights / total, LONGEST_WINDOW, decay)
        volatility = np.sqrt(np.maximum(variance * TRADING_DAYS, 1e-8))
        return np.clip(self.target_volatility / volatility, self.min_exposure, 1.0)


@njit(cache=True)
def portfolio_variance(returns, rows, weights, days, decay):
    """
    Mean square of the returns that each portfolio would have had, weighted exponentially.

    :param returns: simple returns (n_days, n_assets)
    :param rows: last known row of each portfolio (n,)
    :param weights: of each portfolio (n, n_assets)
    :param days: look-back
    :param decay: weight of a day relative to the day after it
    :return: daily variances (n,)
    """
    out = np.empty(rows.shape[0])
    for b in range(rows.shape[0]):
        square, total, share = 0.0, 0.0, 1.0
        for back in range(days):
            earned = 0.0
            for i in range(returns.shape[1]):
                earned += weights[b, i] * returns[rows[b] - back, i]
            square += share * earned * earned
            total += share
            share *= decay
        out[b] = square / total
    return out


@dataclass(frozen=True)
class KellyRule:
    """
    Fractional Kelly exposure of the portfolio that is asked for, averaged over several look-backs.

    For each look-back the full Kelly fraction is ``mean / variance`` of the daily returns that the asked weights would have
    had (which is ``w'm / w'Sw`` with the full covariance), the mean being shrunk towards zero. Shrinking and averaging
    matter: the plain estimate is mostly noise.

    Source: Thorp (2006), The Kelly Criterion in Blackjack, Sports Betting and the Stock Market, eq. 7.3 (f* = (m - r) / s^2).

    :param horizons: look-backs [days]
    :param horizon_weights: of the look-backs in the average; equal if not given
    :param fraction: of full Kelly
    :param shrinkage: of the mean towards zero, in prior days: a look-back of as many days counts half
    :param min_exposure: the exposure never falls below it
    """

    horizons: tuple[int, ...] = (30, 63, 126)
    fraction: float = 0.5
    shrinkage: float = 126.0
    min_exposure: float = 0.25
    horizon_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.horizons or not all(isinstance(days, int) and 2 <= days <= LONGEST_WINDOW for days in self.horizons):
            raise ValueError(f"`horizons` must be whole numbers of days from 2 to {LONGEST_WINDOW}; got {self.horizons}.")
        weights = (1.0,) * len(self.horizons) if self.horizon_weights is None else self.horizon_weights
        if len(weights) != len(self.horizons) or min(weights) < 0.0 or not sum(weights) > 0.0:
            raise ValueError(f"`horizon_weights` needs one number >= 0 for each of {self.horizons}, not all 0; got {weights}.")
        if not (self.fraction > 0.0 and self.shrinkage >= 0.0 and 0.0 <= self.min_exposure <= 1.0):
            raise ValueError(f"Kelly needs fraction > 0, shrinkage >= 0 and min_exposure in [0, 1]; got {self}.")

    def exposure(self, pool: MarketPool, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """See :class:`SizingRule`."""
        total = np.maximum(np.abs(weights).sum(axis=1, keepdims=True), 1e-12)
        horizons = np.asarray(self.horizons)
        shares = np.ones(len(horizons)) if self.horizon_weights is None else np.asarray(self.horizon_weights, dtype=float)
        fractions = kelly_fraction(
            pool.prices.returns, pool.prices.risk_free, rows, weights / total, horizons, shares / shares.sum(), self.shrinkage
        )
        return np.clip(self.fraction * fractions, self.min_exposure, 1.0)


@njit(cache=True)
def kelly_fraction(returns, risk_free, rows, weights, horizons, shares, shrinkage):
    """
    Full Kelly fraction of each portfolio, averaged over look-backs; see :class:`KellyRule`.

    :param returns: simple returns (n_days, n_assets)
    :param risk_free: (n_days,)
    :param rows: last known row of each portfolio (n,)
    :param weights: of each portfolio, rows sum to 1 (n, n_assets)
    :param horizons: look-backs [days] (n_horizons,)
    :param shares: of the look-backs in the average (n_horizons,), sum 1
    :param shrinkage: prior days
    :return: fractions (n,)
    """
    out = np.empty(rows.shape[0])
    for b in range(rows.shape[0]):
        total = 0.0
        for index in range(horizons.shape[0]):
            days = horizons[index]
            first, count = rows[b] - days + 1, days
            mean, square = 0.0, 0.0
            for row in range(first, rows[b] + 1):
                excess = -risk_free[row]
                for i in range(returns.shape[1]):
                    excess += weights[b, i] * returns[row, i]
                mean += excess
                square += excess * excess
            mean /= count
            variance = max(square / count - mean * mean, 1e-8)
            total += shares[index] * mean * count / (count + shrinkage) / variance
        out[b] = total
    return out
