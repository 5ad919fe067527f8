"""
Several markets one below the other, as the kernel reads them, with every table that is derived from them.

Pools are shared: the same markets give the same object, so that sixty-four envs hold one copy of the features.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from quantflux_sb3.dynamics import make_prices
from quantflux_sb3.layout import Block
from quantflux_sb3.market import MarketData, as_market
from quantflux_sb3.regimes import RuleRegimes, detect_regimes


class TableSource(Protocol):
    """Something hashable that derives one causal row per date from a market."""

    def table(self, market: MarketData) -> np.ndarray:
        """
        :return: (n_days, ...)
        """
        ...


class BlockSource(Protocol):
    """Something hashable that derives blocks of the observation from a market."""

    def blocks(self, market: MarketData) -> list[tuple[Block, np.ndarray]]:
        """
        :return: blocks and their tables (n_days, block.size)
        """
        ...


class MarketPool:
    """
    Use :meth:`of`, which returns a shared pool.

    :param markets: with the same assets and the same exogenous features
    :param weights: how often an episode draws each of them (n_markets,), sum 1
    """

    def __init__(self, markets: tuple[MarketData, ...], weights: np.ndarray):
        self.markets, self.weights = markets, weights
        self.offsets = np.cumsum([0, *(market.n_days for market in markets)])
        probs = [detect_regimes(market, RuleRegimes()).probs for market in markets]
        self.prices = make_prices(
            _stack([market.returns for market in markets]),
            _stack([market.benchmark_returns for market in markets]),
            _stack([market.risk_free for market in markets]),
            _stack(probs),
            _stack([market.status for market in markets]),
        )
        self.dates = _stack([market.dates for market in markets])
        self.date_texts = np.datetime_as_string(self.dates).tolist()
        self._tables: dict[Any, np.ndarray] = {}

    @classmethod
    def of(cls, market: Any) -> "MarketPool":
        """
        :param market: whatever :func:`quantflux_sb3.market.as_market` takes, or a list of such, or a list of pairs
            (such, sampling weight)
        :raises ValueError: if the markets do not fit together
        """
        if isinstance(market, MarketPool):
            return market
        entries = list(market) if isinstance(market, (list, tuple)) else [market]
        if not entries:
            raise ValueError("`market` is an empty list; give at least one market.")
        if any(isinstance(entry, tuple) and len(entry) != 2 for entry in entries):
            raise ValueError("A list of markets holds markets or pairs (market, sampling weight).")
        pairs = [entry if isinstance(entry, tuple) else (entry, 1.0) for entry in entries]
        markets = tuple(as_market(entry) for entry, _ in pairs)
        weights = np.array([float(weight) for _, weight in pairs])
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise ValueError(f"Sampling weights of markets must be >= 0 and not all zero; got {weights.tolist()}.")
        for other in markets[1:]:
            _check_alike(markets[0], other)
        key = (tuple(id(market) for market in markets), tuple(weights))
        pool = _POOLS.get(key)
        if pool is None:
            pool = _POOLS[key] = cls(markets, weights / weights.sum())
        return pool

    def with_risk_free(self, rate: float) -> "MarketPool":
        """
        :param rate: simple return of cash per day
        :return: the same pool, tables shared, with that return of cash everywhere
        """
        other = copy(self)
        old = self.prices
        flat = np.full(len(old.days), rate)
        other.prices = make_prices(old.returns, old.benchmark, flat, old.regime_probs, old.status)
        return other

    def with_weights(self, weights: np.ndarray) -> "MarketPool":
        """
        :param weights: how often an episode draws each market (n_markets,), sum 1
        :return: the same pool, everything shared, drawn from otherwise
        """
        other = copy(self)
        other.weights = weights
        return other

    @property
    def n_assets(self) -> int:
        return self.markets[0].n_assets

    def windows(self, split: str) -> np.ndarray:
        """
        :param split: name of a split
        :return: first and one past the last row of the pool that may earn, per market (n_markets, 2)
        """
        return np.array([market.rows(split) for market in self.markets]) + self.offsets[:-1, None]

    def market_of(self, row: int) -> int:
        """
        :param row: of the pool
        :return: index of the market that the row belongs to
        """
        return int(np.searchsorted(self.offsets, row, side="right")) - 1

    def table(self, source: TableSource) -> np.ndarray:
        """
        :return: the source's rows for every row of the pool (n_rows, ...); computed once
        """
        if source not in self._tables:
            self._tables[source] = _stack([source.table(market) for market in self.markets])
        return self._tables[source]

    def observation(self, sources: Sequence[BlockSource]) -> tuple[tuple[Block, ...], np.ndarray]:
        """
        :param sources: of the blocks, in order
        :return: the blocks, and their columns side by side for every row of the pool (n_rows, n_columns); computed once
        """
        key = tuple(sources)
        if key not in self._tables:
            per_market = [[pair for source in sources for pair in source.blocks(market)] for market in self.markets]
            empty = [np.zeros((market.n_days, 0), dtype=np.float32) for market in self.markets]
            table = _stack(
                [np.concatenate([none, *(t for _, t in pairs)], axis=1) for none, pairs in zip(empty, per_market, strict=True)]
            )
            self._tables[key] = (tuple(block for block, _ in per_market[0]), table)
        return self._tables[key]


_POOLS: WeakValueDictionary = WeakValueDictionary()


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


def _check_alike(first: MarketData, other: MarketData) -> None:
    for name in ("assets", "asset_features", "market_features"):
        a, b = tuple(getattr(first, name)), tuple(getattr(other, name))
        if a != b:
            raise ValueError(f"Markets in one list must have the same {name}; got {list(a)} and {list(b)}.")
