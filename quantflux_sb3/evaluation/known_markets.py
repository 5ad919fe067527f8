"""
A simulated market whose best policy is known, to see whether an agent learns what is there to learn.

One of the assets is favoured at a time, which one follows a sticky Markov chain that nobody sees; noisy indicators hint at
it. The exact Bayes filter says how likely each asset is favoured, and the log-optimal portfolio under it is computed, so that
an agent's growth can be given in per cent of the best that can be had.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numba import njit

from quantflux_sb3.dynamics import project_capped_simplex
from quantflux_sb3.market.data import DateSplits, MarketData
from quantflux_sb3.regimes.rules import sticky_filter


@dataclass(frozen=True)
class FavouredAssetMarket:
    """
    In regime ``k`` asset ``k`` drifts by ``drift_gap`` a day and the others do not; each asset's indicator is 1 plus noise
    while it is favoured and noise otherwise. Returns have one common factor and noise of their own.

    What is observed of each asset is the indicator of the day and its exponential averages (all causal): an observation has
    no memory, and without them the best policy would earn half of what the filter earns.

    :param n_assets: number of assets, and of regimes
    :param stay: daily probability that the regime persists; else one of the others follows, all equally likely
    :param drift_gap: what the favoured asset earns more [per day]
    :param common_volatility: of the common factor [per day]
    :param own_volatility: of each asset's own noise [per day]
    :param indicator_noise: standard deviation of the indicators around 0 or 1
    :param half_lives: of the averages of the indicator [days]
    """

    n_assets: int = 4
    stay: float = 0.975
    drift_gap: float = 0.002
    common_volatility: float = 0.01
    own_volatility: float = 0.01
    indicator_noise: float = 1.0
    half_lives: tuple[float, ...] = (2.0, 5.0, 13.0)

    def __post_init__(self) -> None:
        if self.n_assets < 2 or not 1.0 / self.n_assets <= self.stay < 1.0:
            raise ValueError(f"The market needs at least 2 assets and stay in [1 / n_assets, 1); got {self}.")
        if min(self.common_volatility, self.own_volatility, self.indicator_noise, *self.half_lives) <= 0.0:
            raise ValueError(f"Volatilities, noise and half-lives must be > 0; got {self}.")

    @property
    def covariance(self) -> np.ndarray:
        """Of the returns of one day, given the regime (n_assets, n_assets)."""
        return self.common_volatility**2 + self.own_volatility**2 * np.eye(self.n_assets)

    def simulate(self, n_days: int, seed: int, antithetic: bool = False) -> MarketData:
        """
        :param n_days: length
        :param seed: of everything
        :param antithetic: the second half repeats the regimes and indicators of the first with the noise of the returns
            reversed, so that chance cancels in the mean growth of policies that are compared (Hammersley and Morton 1956)
        :return: the market; its benchmark is equal weight, and all days but the features' warm-up are training days
        """
        if antithetic:
            n_days = n_days // 2
        rng = np.random.default_rng(seed)
        moves = np.where(rng.random(n_days) < self.stay, 0, rng.integers(1, self.n_assets, n_days))
        moves[0] = rng.integers(self.n_assets)
        favoured = np.eye(self.n_assets)[np.cumsum(moves) % self.n_assets]
        noise = self.common_volatility * rng.standard_normal((n_days, 1))
        noise = noise + self.own_volatility * rng.standard_normal(favoured.shape)
        indicator = favoured + self.indicator_noise * rng.standard_normal(favoured.shape)
        if antithetic:
            favoured, noise, indicator = np.tile(favoured, (2, 1)), np.vstack([noise, -noise]), np.tile(indicator, (2, 1))
        returns = self.drift_gap * favoured + noise
        dates = np.datetime64("1900-01-01") + np.arange(len(returns))
        names = tuple(f"asset {number}" for number in range(self.n_assets))
        return MarketData(
            dates, names, returns, returns.mean(axis=1), asset_features=self._features(indicator), synthetic=True,
            splits=DateSplits(str(dates[-1]), str(dates[-1] + 1)), source="simulated: one asset is favoured at a time",
        )  # fmt: skip

    def _features(self, indicator: np.ndarray) -> dict[str, np.ndarray]:
        """Indicators and averages, the averages in standard deviations of their noise, as all features of the package are."""
        frame = pd.DataFrame(indicator)
        features = {"indicator": indicator}
        for half_life in self.half_lives:
            decay = 0.5 ** (1.0 / half_life)
            noise = self.indicator_noise * np.sqrt((1.0 - decay) / (1.0 + decay))
            features[f"indicator_{half_life:g}"] = frame.ewm(halflife=half_life).mean().to_numpy() / noise
        return features

    def beliefs(self, market: MarketData, read_returns: bool = False) -> np.ndarray:
        """
        The exact Bayes filter on the indicators, which are what an agent observes.

        :param market: made by :meth:`simulate`
        :param read_returns: whether it reads the returns too, which say a little more
        :return: probability that each asset is favoured *tomorrow*, given the days so far (n_days, n_assets)
        """
        scores = market.asset_features["indicator"] / self.indicator_noise**2
        if read_returns:
            scores = scores + self.drift_gap * market.returns @ np.linalg.inv(self.covariance)
        leave = (1.0 - self.stay) / (self.n_assets - 1)
        return leave + (self.stay - leave) * sticky_filter(scores, self.stay)

    def optimal_weights(self, beliefs: np.ndarray) -> np.ndarray:
        """
        Weights that maximise the expected log return of tomorrow, long only; without costs no policy grows faster.

        :param beliefs: as :meth:`beliefs` gives them (n_days, n_assets)
        :return: weights, cash last (n_days, n_assets + 1)
        """
        nodes, masses = np.polynomial.hermite_e.hermegauss(6)
        largest = self.n_assets * self.common_volatility**2 + self.own_volatility**2 + self.drift_gap**2
        weights = np.empty((len(beliefs), self.n_assets + 1))
        _maximise_growth(
            np.ascontiguousarray(beliefs),
            self.drift_gap,
            self.covariance,
            nodes,
            masses / masses.sum(),
            1.0 / largest,
            weights,
        )
        return weights


def shuffled(market: MarketData, seed: int) -> MarketData:
    """
    :param market: any
    :param seed: of the order
    :return: the same market with its days of returns in random order, so that nothing known tells what follows
    """
    order = np.random.default_rng(seed).permutation(market.n_days)
    return replace(market, returns=market.returns[order], benchmark_returns=market.benchmark_returns[order])


@njit(cache=True)
def _maximise_growth(beliefs, gap, covariance, nodes, masses, step, out):
    """
    Projected gradient ascent on ``sum_k p_k E[log(1 + w . r)]``, ``r ~ N(gap e_k, covariance)``. Given ``k``, ``w . r`` is
    normal, so that the expectation is a Gauss-Hermite sum; ``step`` is one over the largest curvature.

    :param beliefs: p (n_days, n_assets)
    :param out: receives w, cash last (n_days, n_assets + 1)
    """
    n = beliefs.shape[1]
    weights, moved, spread = np.empty(n + 1), np.empty(n + 1), np.empty(n)
    gradient, lower, upper = np.zeros(n + 1), np.zeros(n + 1), np.ones(n + 1)
    for day in range(beliefs.shape[0]):
        weights[:n] = beliefs[day]
        weights[n] = 0.0
        for _ in range(1000):
            for i in range(n):
                spread[i] = (covariance[i] * weights[:n]).sum()
            deviation = np.sqrt((spread * weights[:n]).sum())
            gradient[:n] = 0.0
            for k in range(n):
                for node in range(len(nodes)):
                    mass = beliefs[day, k] * masses[node]
                    wealth = 1.0 + gap * weights[k] + deviation * nodes[node]
                    for i in range(n):
                        gradient[i] += mass * nodes[node] / wealth * spread[i] / max(deviation, 1e-12)
                    gradient[k] += mass * gap / wealth
            project_capped_simplex(weights + step * gradient, lower, upper, 1.0, moved)
            change = np.abs(moved - weights).max()
            weights[:] = moved
            if change < 1e-9:
                break
        out[day] = weights
