"""
Causal feature tables, per asset and for the market, on the indicators of the ``ta`` library.

Row ``t`` depends on rows ``<= t`` only and is scaled by what was known then (volatility of the asset, length of the
window), so that nothing is fitted and ``VecNormalize`` is not needed. The slowest window is ``LONGEST_WINDOW``.
"""

import inspect
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from ta.momentum import roc, rsi
from ta.trend import macd_diff, sma_indicator

from quantflux_sb3.layout import Block
from quantflux_sb3.market.data import LONGEST_WINDOW, MarketData
from quantflux_sb3.regimes import TRADING_DAYS, ewm_variance
from quantflux_sb3.table_cache import cached_arrays

#: Features are clipped here, in their own standard deviations or so.
FEATURE_LIMIT = 5.0
PRIOR_VOLATILITY = 0.25  # annualised, of a stock before it has a history
CORRELATION_DESCRIPTORS = ("correlation_mean", "correlation_dispersion", "correlation_largest_eigenvalue")

#: Typical level and spread of the descriptors among large stocks; only a fixed change of units, nothing is fitted.
_USUAL_CORRELATION = np.array([0.3, 0.16, 0.4])
_CORRELATION_SPREAD = np.array([0.15, 0.04, 0.12])


@dataclass(frozen=True)
class FeatureConfig:
    """
    Which features are observed.

    :param momentum_days: horizons of momentum [days]
    :param sma_days: windows of the moving averages [days]
    :param rsi_days: window of the relative strength index [days]
    :param correlation_days: window of the correlation matrix [days]
    :param exogenous: whether exogenous features of the market are observed too
    """

    momentum_days: tuple[int, ...] = (5, 21, 63, 126)
    sma_days: tuple[int, ...] = (20, 100)
    rsi_days: int = 14
    correlation_days: int = 63
    exogenous: bool = True

    def __post_init__(self) -> None:
        windows = (*self.momentum_days, *self.sma_days, self.rsi_days, self.correlation_days)
        if min(windows) < 2 or max(windows) > LONGEST_WINDOW:
            raise ValueError(f"Windows of features must lie between 2 and {LONGEST_WINDOW} days; got {windows}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features of one asset, in order."""
        return (
            *(f"momentum_{days}" for days in self.momentum_days),
            "relative_momentum",
            "volatility",
            "volatility_change",
            *(f"sma_distance_{days}" for days in self.sma_days),
            f"rsi_{self.rsi_days}",
            "trend_score",
        )

    def blocks(self, market: MarketData) -> list[tuple[Block, np.ndarray]]:
        """
        Observation blocks of a market; computed once per market and shared.

        :param market: the market
        :return: the per-asset block (n_days, n_assets * n_features) and the market block (n_days, n_features)
        """
        tables = _CACHE.setdefault(market, {})
        if self not in tables:
            tables[self] = _blocks_on_disk(market, self) if _is_worth_keeping(market) else _compute_blocks(market, self)
        return tables[self]


_CACHE: WeakKeyDictionary = WeakKeyDictionary()
#: Tables of fewer prices than this are computed sooner than they are read.
_LEAST_KEPT = 20_000


def _compute_blocks(market: MarketData, config: FeatureConfig) -> list[tuple[Block, np.ndarray]]:
    return [asset_block(market, config), market_block(market, config)]


def _is_worth_keeping(market: MarketData) -> bool:
    return not market.synthetic and market.returns.size >= _LEAST_KEPT


def _blocks_on_disk(market: MarketData, config: FeatureConfig) -> list[tuple[Block, np.ndarray]]:
    """The tables by content hash of the market, the configuration, this code and the libraries that compute."""
    code = Path(__file__).read_bytes() + inspect.getsource(ewm_variance).encode()
    libraries = [f"{name} {version(name)}" for name in ("numpy", "pandas", "ta")]
    key = sha256(repr([market.content_hash, config, libraries]).encode() + code).hexdigest()
    tables = cached_arrays(key, lambda: [table for _, table in _compute_blocks(market, config)])
    layouts = [asset_layout(market, config), market_layout(market, config)]
    return [(layout, _float32(table)) for layout, table in zip(layouts, tables, strict=True)]


def asset_layout(market: MarketData, config: FeatureConfig) -> Block:
    """
    :return: names of the per-asset features, the exogenous ones last
    """
    exogenous = tuple(market.asset_features) if config.exogenous else ()
    return Block("assets", (*config.names, *exogenous), market.n_assets, n_exogenous=len(exogenous))


def market_layout(market: MarketData, config: FeatureConfig) -> Block:
    """
    :return: names of the features of the market, the exogenous ones last
    """
    exogenous = tuple(market.market_features) if config.exogenous else ()
    names = (*(config.names[i] for i in _market_columns(config)), *CORRELATION_DESCRIPTORS, "drawdown", *exogenous)
    return Block("market", names, n_exogenous=len(exogenous))


def _market_columns(config: FeatureConfig) -> list[int]:
    """Indicators of the benchmark: there is nothing that its momentum could be relative to."""
    return [i for i, name in enumerate(config.names) if name != "relative_momentum"]


def asset_block(market: MarketData, config: FeatureConfig) -> tuple[Block, np.ndarray]:
    """
    :return: layout and table (n_days, n_assets * n_features), features of an asset side by side
    """
    table = indicator_table(market.returns, config)
    exogenous = market.asset_features if config.exogenous else {}
    stacked = np.concatenate([table, *(signal[:, :, None] for signal in exogenous.values())], axis=2)
    return asset_layout(market, config), _float32(stacked.reshape(market.n_days, -1))


def market_block(market: MarketData, config: FeatureConfig) -> tuple[Block, np.ndarray]:
    """
    :return: layout and table (n_days, n_features): the benchmark's indicators, correlation descriptors, its drawdown
    """
    table = indicator_table(market.benchmark_returns[:, None], config)[:, 0]
    level = np.cumprod(1.0 + market.benchmark_returns)
    drawdown = 1.0 - level / np.maximum.accumulate(level)
    descriptors = correlation_descriptors(market.returns, config.correlation_days)
    descriptors = np.clip((descriptors - _USUAL_CORRELATION) / _CORRELATION_SPREAD, -FEATURE_LIMIT, FEATURE_LIMIT)
    exogenous = market.market_features if config.exogenous else {}
    stacked = np.column_stack([table[:, _market_columns(config)], descriptors, 5.0 * drawdown, *exogenous.values()])
    return market_layout(market, config), _float32(stacked)


def indicator_table(returns: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """
    :param returns: simple returns (n_days, n_series)
    :param config: which indicators
    :return: indicators of every series (n_days, n_series, n_features), clipped to ``FEATURE_LIMIT``
    """
    columns = [_indicators(returns[:, i], config) for i in range(returns.shape[1])]
    table = np.stack([np.column_stack(list(column.values())) for column in columns], axis=1)
    longest = config.names.index(f"momentum_{config.momentum_days[-1]}")
    relative = config.names.index("relative_momentum")
    table[:, :, relative] = table[:, :, longest] - table[:, :, longest].mean(axis=1, keepdims=True)
    return np.clip(np.nan_to_num(table, nan=0.0), -FEATURE_LIMIT, FEATURE_LIMIT)


def _indicators(returns: np.ndarray, config: FeatureConfig) -> dict[str, np.ndarray]:
    """Indicators of one series by name; each is about one standard deviation wide. NaN before its window is full."""
    log_returns = pd.Series(np.log1p(np.maximum(returns, -0.99)))
    price = np.exp(log_returns.cumsum())
    prior = PRIOR_VOLATILITY**2 / TRADING_DAYS
    fast, slow = (np.sqrt(np.maximum(ewm_variance(log_returns, days, prior), 1e-8)) for days in (10.0, 42.0))
    columns: dict[str, np.ndarray] = {}
    for days in config.momentum_days:
        columns[f"momentum_{days}"] = np.log1p(roc(price, days).to_numpy() / 100.0) / (slow * days**0.5)
    columns["relative_momentum"] = np.zeros(len(price))
    columns["volatility"] = np.log(slow / prior**0.5)
    columns["volatility_change"] = 2.0 * np.log(fast / slow)
    averages = {days: sma_indicator(price, days).to_numpy() for days in sorted({20, 50, *config.sma_days})}
    for days in config.sma_days:
        columns[f"sma_distance_{days}"] = 2.0 * (price.to_numpy() / averages[days] - 1.0) / (slow * days**0.5)
    columns[f"rsi_{config.rsi_days}"] = (rsi(price, config.rsi_days).to_numpy() - 50.0) / 15.0
    columns["trend_score"] = _trend_score(price, averages[20], averages[50])
    return columns


def _trend_score(price: pd.Series, sma_20: np.ndarray, sma_50: np.ndarray) -> np.ndarray:
    """Votes for an up-trend less votes for a down-trend of four rules, in [-1, 1]."""
    values = price.to_numpy()
    slope = sma_50 - np.concatenate([np.full(10, np.nan), sma_50[:-10]])[: len(sma_50)]
    votes = [values - sma_20, sma_20 - sma_50, slope, macd_diff(price).to_numpy()]
    return np.mean([np.sign(vote) for vote in votes], axis=0)


def correlation_descriptors(returns: np.ndarray, days: int, chunk: int = 256) -> np.ndarray:
    """
    Shape of the rolling correlation matrix in three numbers: mean and standard deviation of its off-diagonal, and the
    share of its largest eigenvalue (how much of the market moves as one).

    :param returns: simple returns (n_days, n_assets)
    :param days: window [days]; zeros before the first full one
    :param chunk: rows handled at once, which bounds memory
    :return: descriptors (n_days, 3)
    """
    n_days, n_assets = returns.shape
    n_pairs = n_assets * (n_assets - 1)
    table = np.zeros((n_days, 3))
    for first in range(days - 1, n_days, chunk):
        last = min(first + chunk, n_days)
        windows = np.lib.stride_tricks.sliding_window_view(returns[first - days + 1 : last], days, axis=0)
        centred = windows - windows.mean(axis=2, keepdims=True)
        scale = np.sqrt((centred**2).sum(axis=2, keepdims=True))
        unit = centred / np.maximum(scale, 1e-12)
        # The correlation matrix, or the smaller matrix of the same sum of squares and the same largest eigenvalue.
        gram = unit @ unit.transpose(0, 2, 1) if n_assets <= days else unit.transpose(0, 2, 1) @ unit
        own = (unit**2).sum(axis=2)
        mean = ((unit.sum(axis=1) ** 2).sum(axis=1) - own.sum(axis=1)) / n_pairs
        square = ((gram**2).sum(axis=(1, 2)) - (own**2).sum(axis=1)) / n_pairs
        table[first:last, 0] = mean
        table[first:last, 1] = np.sqrt(np.maximum(square - mean**2, 0.0))
        table[first:last, 2] = np.linalg.eigvalsh(gram)[:, -1] / n_assets
    return table


def _float32(table: np.ndarray) -> np.ndarray:
    table = np.ascontiguousarray(table, dtype=np.float32)
    table.flags.writeable = False
    return table
