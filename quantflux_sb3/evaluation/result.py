"""What one strategy did over one span of real days, as arrays: the common currency of the evaluation."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BacktestResult:
    """
    Row ``t`` is one day: weights held into it, what it earned, what the trade before it cost.

    :param name: of the strategy, as shown in tables
    :param dates: day on which each return was earned (n_days,) [datetime64[D]]
    :param assets: tickers (n_assets,)
    :param returns: simple return of wealth over the day, after the costs of the trade before it (n_days,)
    :param benchmark_returns: simple return of the benchmark (n_days,)
    :param asset_returns: simple returns of the assets (n_days, n_assets)
    :param risk_free: simple return of cash (n_days,)
    :param weights: weights held over the day, cash last (n_days, n_assets + 1); rows sum to 1
    :param turnover: sum of absolute trades before the day (n_days,) [fraction of wealth]
    :param costs: paid for them (n_days,) [fraction of wealth]
    :param rebalanced: whether there was a trade (n_days,)
    :param regimes: most probable regime known when the weights were decided (n_days,), index into ``REGIMES``
    :param periods_per_year: rows per year
    :param reward_terms: what the reward of the day was made of (n_days, n_terms), in the order of ``REWARD_TERMS``; None
        where nothing was rewarded
    :param reasons: why there was a trade, or none (n_days,), index into ``TRADE_REASONS``; None where nobody decided
    """

    name: str
    dates: np.ndarray
    assets: tuple[str, ...]
    returns: np.ndarray
    benchmark_returns: np.ndarray
    asset_returns: np.ndarray
    risk_free: np.ndarray
    weights: np.ndarray
    turnover: np.ndarray
    costs: np.ndarray
    rebalanced: np.ndarray
    regimes: np.ndarray
    periods_per_year: int = 252
    reward_terms: np.ndarray | None = None
    reasons: np.ndarray | None = None

    @property
    def wealth(self) -> np.ndarray:
        """Wealth after each day, started at 1 (n_days,)."""
        return np.cumprod(1.0 + self.returns)

    @property
    def exposure(self) -> np.ndarray:
        """Share of wealth in assets over each day (n_days,)."""
        return 1.0 - self.weights[:, -1]
