"""
Market data as the rest of the package sees it: validated, read-only arrays and date splits.

The one time convention: row ``t`` of every array is known at the close of ``dates[t]``. ``returns[t]`` is the simple
return from close ``t-1`` to close ``t``. Nothing here repairs data: prices that are not clean are refused, with the place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

from quantflux_sb3.market.splits import DateSplits
from quantflux_sb3.market.validation import check_price_frame, check_price_series, returns_and_status

#: Longest look-back of a feature or rule [days].
LONGEST_WINDOW = 126
#: Rows that only feed features: at the first decision the longest window is full, whatever the execution lag.
WARMUP_DAYS = LONGEST_WINDOW + 2
#: Shortest split that an env accepts [rows that earn a return].
MIN_SPLIT_DAYS = 21
#: Name of the benchmark where no index is given: a yardstick that pays no costs, unlike the strategy of that name.
EQUAL_WEIGHT = "equal-weight index"
#: Largest simple returns per row that are believed; beyond, wealth overflows, or a yearly rate was given for a daily one.
MAX_RETURN, MAX_RISK_FREE = 1e6, 1.0
#: What a series of prices contains: the price alone, dividends too, or nobody knows.
PRICE, TOTAL_RETURN, UNKNOWN_KIND = "price", "total return", "unknown"
_KIND_TEXTS = {
    PRICE: "price only, without dividends",
    TOTAL_RETURN: "total return, with dividends",
    UNKNOWN_KIND: "not known whether with dividends",
}


@dataclass(frozen=True, eq=False)
class MarketData:
    """
    Returns of a fixed set of assets and of their benchmark, with everything known about them.

    Build it with :meth:`from_prices` or a source in :mod:`quantflux_sb3.market`. Two instances are never equal; the
    same content has the same :attr:`content_hash`.

    :param dates: session dates, ascending, unique (n_days,) [datetime64[D]]
    :param assets: tickers (n_assets,)
    :param returns: simple returns (n_days, n_assets)
    :param benchmark_returns: simple returns of the benchmark (n_days,)
    :param benchmark: name of the benchmark
    :param risk_free: simple return of cash per day (n_days,) or one number
    :param asset_features: exogenous signals by name, each (n_days, n_assets), known at the close of their row
    :param market_features: exogenous signals by name, each (n_days,)
    :param splits: chronological splits; by fraction (70 / 10 / 20 %) if not given
    :param source: where the data came from
    :param caveats: what a reader of a result must know about the data, one sentence each
    :param synthetic: True for generated markets
    :param periods_per_year: rows per year, by which figures are annualised; the loaders read it from the dates
    :param status: 1 where an asset trades at a close, 0 where it is suspended (its weight is frozen), -1 where it is not
        listed yet or any more (its weight becomes cash) (n_days, n_assets); 1 everywhere if not given
    :param asset_kind: what the assets' returns contain: ``price``, ``total return`` or ``unknown``
    :param benchmark_kind: the same of the benchmark; that of the assets where the benchmark is made of them
    :param calendars: codes of the exchanges in ``exchange_calendars`` at whose closes the rows are known; none: not known
    """

    dates: np.ndarray
    assets: tuple[str, ...]
    returns: np.ndarray
    benchmark_returns: np.ndarray
    benchmark: str = EQUAL_WEIGHT
    risk_free: np.ndarray | float = 0.0
    asset_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    market_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    splits: DateSplits | None = None
    source: str = "arrays"
    caveats: tuple[str, ...] = ()
    synthetic: bool = False
    periods_per_year: int = 252
    status: np.ndarray | None = None
    asset_kind: str = UNKNOWN_KIND
    benchmark_kind: str = UNKNOWN_KIND
    calendars: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("assets", tuple(str(asset) for asset in self.assets))
        put("calendars", (self.calendars,) if isinstance(self.calendars, str) else tuple(self.calendars))
        put("dates", _read_only(np.asarray(self.dates, dtype="datetime64[D]")))
        put("returns", _read_only(np.ascontiguousarray(self.returns, dtype=np.float64)))
        n_days, n_assets = len(self.dates), len(self.assets)
        put("benchmark_returns", _read_only(np.ascontiguousarray(self.benchmark_returns, dtype=np.float64)))
        risk_free = np.asarray(self.risk_free, dtype=np.float64)
        put("risk_free", _read_only(np.full(n_days, risk_free) if risk_free.ndim == 0 else risk_free))
        for name, shape in (("asset_features", (n_days, n_assets)), ("market_features", (n_days,))):
            put(name, {key: _signal(key, value, shape) for key, value in dict(getattr(self, name)).items()})
        status = np.ones((n_days, n_assets)) if self.status is None else np.asarray(self.status)
        if not np.isin(status, (-1, 0, 1)).all():
            raise ValueError(
                f"`status` must be -1, 0 or 1 for every date and asset; got {np.setdiff1d(status, (-1, 0, 1))[0]}."
            )
        put("status", _read_only(status.astype(np.int8)))
        _check_periods(self.periods_per_year)
        if self.splits is not None and not isinstance(self.splits, DateSplits):
            raise TypeError(f"`splits` must be DateSplits(train_end, validation_end); got {self.splits!r}.")
        for name, most in (("returns", MAX_RETURN), ("benchmark_returns", MAX_RETURN), ("risk_free", MAX_RISK_FREE)):
            _check_largest(name, getattr(self, name), most)
        self._check(n_days, n_assets)
        put("splits", self.splits or DateSplits.by_fraction(self.dates))

    def _check(self, n_days: int, n_assets: int) -> None:
        for name in ("asset_kind", "benchmark_kind"):
            if getattr(self, name) not in _KIND_TEXTS:
                raise ValueError(f"`{name}` must be one of {list(_KIND_TEXTS)}; got {getattr(self, name)!r}.")
        if n_assets < 2:
            raise ValueError(f"A portfolio needs at least 2 assets; got {n_assets}: {list(self.assets)}.")
        if len(set(self.assets)) != n_assets:
            raise ValueError(f"Asset names must be unique; got {list(self.assets)}.")
        if n_days < 2:
            raise ValueError(f"A market needs at least 2 days of returns, that is 3 of prices; got {n_days} of returns.")
        for name, expected in (("returns", (n_days, n_assets)), ("benchmark_returns", (n_days,)), ("risk_free", (n_days,))):
            values = getattr(self, name)
            if values.shape != expected:
                raise ValueError(f"`{name}` has shape {values.shape}; expected {expected} (dates x assets).")
            if not np.isfinite(values).all() or values.min(initial=0.0) < -1.0:
                row = int(np.argwhere(~np.isfinite(values) | (values < -1.0))[0][0])
                raise ValueError(f"`{name}` must be finite and >= -1 (simple returns); first bad row is {self.dates[row]}.")
        if self.status.shape != self.returns.shape:
            raise ValueError(f"`status` must be -1, 0 or 1 for every date and asset; got shape {self.status.shape}.")
        if (np.abs(self.returns[self.status == 0]) > 0).any():
            raise ValueError("A suspended asset (`status` 0) must have return 0; the move comes on the day it trades again.")
        if n_days and not (np.diff(self.dates).astype(int) > 0).all():
            raise ValueError("`dates` must be unique and ascending.")

    @classmethod
    def from_prices(
        cls, prices: pd.DataFrame, benchmark: pd.Series | str | None = None, missing: str = "refuse", **kwargs: Any
    ) -> "MarketData":
        """
        Build a market from adjusted close prices. The first date has no return and is dropped.

        :param prices: adjusted closes, dates x tickers; positive, complete, ascending unique dates
        :param benchmark: prices of the benchmark on the same dates, or the name of a column of ``prices``, which then is
            no asset; ``None``: equal weight of the listed assets, rebalanced daily
        :param missing: "refuse" missing prices, or "mask" them: before the first price and after the last the asset is not
            listed, in between it is suspended
        :param kwargs: further fields of :class:`MarketData`
        :raises ValueError: if the prices are not clean; the text says where
        """
        if missing not in ("refuse", "mask"):
            raise ValueError(f"`missing` must be 'refuse' or 'mask'; got {missing!r}.")
        prices = check_price_frame(prices, allow_missing=missing == "mask")
        if isinstance(benchmark, str):
            if benchmark not in prices.columns:
                raise ValueError(f"Benchmark '{benchmark}' is no column of the prices; columns: {list(prices.columns)}.")
            benchmark, prices = prices[benchmark], prices.drop(columns=benchmark)
        returns, status = returns_and_status(prices)
        if benchmark is None:
            listed = status >= 0
            benchmark_returns = (returns * listed).sum(axis=1) / np.maximum(listed.sum(axis=1), 1)
            name = EQUAL_WEIGHT
            kwargs["benchmark_kind"] = kwargs.get("asset_kind", UNKNOWN_KIND)
        else:
            levels = check_price_series(benchmark, prices.index)
            benchmark_returns, name = levels[1:] / levels[:-1] - 1.0, str(benchmark.name)
        dates = prices.index.to_numpy().astype("datetime64[D]")[1:]
        fields = {"benchmark": kwargs.pop("benchmark_name", name), "status": status, **kwargs}
        return cls(dates, tuple(prices.columns), returns, benchmark_returns, **fields)

    @property
    def benchmark_label(self) -> str:
        """The benchmark and what it contains, as every report prints it."""
        return f"{self.benchmark} ({_KIND_TEXTS[self.benchmark_kind]})"

    @property
    def n_days(self) -> int:
        return len(self.dates)

    @property
    def n_assets(self) -> int:
        return len(self.assets)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over dates, names and arrays: equal content, equal hash."""
        digest = sha256()
        for text in (self.assets, self.benchmark, tuple(self.asset_features), tuple(self.market_features)):
            digest.update(repr(text).encode())
        arrays: Sequence[np.ndarray] = (
            self.dates.astype(np.int64), self.returns, self.benchmark_returns, self.risk_free, self.status,
        )  # fmt: skip
        for array in (*arrays, *self.asset_features.values(), *self.market_features.values()):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def rows(self, split: str) -> tuple[int, int]:
        """
        The rows whose returns belong to a split, clear of the warm-up of the features.

        :param split: ``train``, ``validation``, ``test`` or ``all``
        :return: first row and one past the last row
        :raises ValueError: if the split is unknown or shorter than ``MIN_SPLIT_DAYS``
        """
        start, stop = self.splits.rows(split, self.dates)
        start = max(start, WARMUP_DAYS + 1)
        if stop - start < MIN_SPLIT_DAYS:
            raise ValueError(
                f"Split '{split}' has {max(stop - start, 0)} usable days after {WARMUP_DAYS} days of warm-up; at least "
                f"{MIN_SPLIT_DAYS} are needed. The data has {self.n_days} days, {self._span()}; splits: {self.splits}."
            )
        return start, stop

    def until(self, split: str) -> "MarketData":
        """
        The market cut after the last day of a split: what may be seen when something is fitted on that split.

        :param split: ``train`` or ``validation``
        """
        _, stop = self.splits.rows(split, self.dates)
        return self.window(0, stop)

    def window(self, start: int, stop: int) -> "MarketData":
        """
        :param start: first row
        :param stop: one past the last row
        :return: the same market on fewer days
        """
        rows = slice(start, stop)
        daily = ("dates", "returns", "benchmark_returns", "risk_free", "status")
        signals = ("asset_features", "market_features")
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in daily},
            **{name: {key: value[rows] for key, value in getattr(self, name).items()} for name in signals},
        )

    def _span(self) -> str:
        return f"{self.dates[0]} to {self.dates[-1]}" if self.n_days else "none"

    def __deepcopy__(self, memo: dict) -> "MarketData":
        return self  # immutable: gymnasium copies env specs deeply, and markets are meant to be shared

    def __repr__(self) -> str:
        kind = "synthetic, " if self.synthetic else ""
        return f"MarketData({kind}{self.n_assets} assets, {self.n_days} days, {self._span()}, benchmark {self.benchmark})"


def _check_largest(name: str, values: np.ndarray, most: float) -> None:
    largest = np.max(values[np.isfinite(values)], initial=0.0)
    if largest > most:
        raise ValueError(
            f"`{name}` must be simple returns per row of at most {most:g}; got {largest:g}. Is a price wrong by far?"
        )


def _check_periods(periods: Any) -> None:
    if isinstance(periods, bool) or not isinstance(periods, (int, np.integer)) or periods < 1:
        raise ValueError(f"`periods_per_year` must be a whole number > 0, such as 252 for daily rows; got {periods!r}.")


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()  # the caller keeps his own, and keeps it writeable
    array.flags.writeable = False
    return array


def _signal(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"Exogenous feature '{name}' has shape {array.shape}; expected {shape}, one row per market date.")
    if not np.isfinite(array).all():
        raise ValueError(f"Exogenous feature '{name}' has NaN or infinite values; fill or drop them first.")
    return _read_only(array)


def check_prices_move(market: MarketData) -> None:
    """
    :param market: the training years
    :raises ValueError: if the prices of an asset, or the benchmark, never move in them
    """
    names, returns = (*market.assets, market.benchmark), np.column_stack([market.returns, market.benchmark_returns])
    still = [name for name, spread in zip(names, returns.std(axis=0), strict=True) if not spread > 0.0]
    if still:
        raise ValueError(f"The prices of {still} never move in the training years; drop them.")
