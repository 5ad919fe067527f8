"""
From plain settings to a market: which source, which region, the cache, currencies, cleaning, and the report on all of it.

Nothing is decided in silence: what was used and what was done stands in the :class:`DataReport`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from quantflux_sb3.market.cache import PriceCache
from quantflux_sb3.market.cleaning import CleaningPolicy, clean
from quantflux_sb3.market.currency import convert
from quantflux_sb3.market.data import PRICE, TOTAL_RETURN, MarketData
from quantflux_sb3.market.files import FileSource, FrameSource, read_table
from quantflux_sb3.market.quality import DataReport, report_on
from quantflux_sb3.market.regions import (
    REGIONS,
    MixedRegionsError,
    Region,
    benchmark_kind,
    calendars_of,
    currency_of,
    detect_region,
    get_region,
    has_region_suffix,
    region_of_benchmark,
)
from quantflux_sb3.market.request import ADJUSTMENTS, DataRequest, FetchedPrices, Source, as_date
from quantflux_sb3.market.sources import (
    BUNDLED_INDEX,
    BUNDLED_INDEX_ALIASES,
    DEFAULT_TICKERS,
    BundledSource,
    bundled_prices,
    cut,
    get_source,
    load_bundled,
)
from quantflux_sb3.market.validation import parse_dates

USER_UNIVERSE_CAVEAT = (
    "The assets were chosen by the user, today: if they were chosen because they did well, the result is too good."
)
PRICE_BENCHMARK_CAVEAT = (
    "The benchmark pays no dividends, while the assets' prices include theirs: part of every gain over it is dividends."
)


@dataclass(frozen=True)
class LoadedMarket:
    """
    :param market: validated prices
    :param region: that they are listed in
    :param report: where they came from and what was done to them
    """

    market: MarketData
    region: Region
    report: DataReport


@dataclass(frozen=True)
class MarketQuery:
    """
    What somebody wants to load; the fields are settings of ``quantflux run`` by the same names.

    :param tickers: symbols; of the region if one is named, else six bundled US stocks, or all columns of a file
    :param benchmark: symbol or column of the index; the region's if not given (of a file: equal weight)
    :param start: first date, included (ISO)
    :param end: last date, included (ISO)
    :param prices: CSV or Parquet file, or a DataFrame
    :param source: ``bundled``, ``yahoo`` or the name of an added source; the bundled set where it has all, else Yahoo
    :param region: name of the market region; recognised if not given
    :param rates: CSV or Parquet file, or a DataFrame, of exchange rates: a column per currency, its price in the region's
    :param adjust: ``dividends`` (total return) or ``splits`` (price only)
    :param cleaning: ``refuse`` or ``repair``; by default files are refused and downloads repaired
    :param max_fill: missing prices in a row that are filled with the last price [sessions]
    :param offline: never use the network
    :param refresh: download even what is in the cache
    :param cache_dir: folder of the cache
    """

    tickers: Sequence[str] | None = None
    benchmark: str | None = None
    start: str | None = None
    end: str | None = None
    prices: str | Path | pd.DataFrame | None = None
    source: str | None = None
    region: str | None = None
    rates: str | Path | pd.DataFrame | None = None
    adjust: str = "dividends"
    cleaning: str | None = None
    max_fill: int = 5
    offline: bool = False
    refresh: bool = False
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.tickers, str):
            raise TypeError(f"`tickers` must be a list of symbols; got the text '{self.tickers}'.")
        if self.offline and self.refresh:
            raise ValueError("--offline and --refresh exclude each other.")
        if self.prices is not None and self.source is not None:
            raise ValueError(f"Give either prices or a source; got both, the source '{self.source}'.")


def read_market(query: MarketQuery) -> LoadedMarket:
    """
    :param query: what is wanted
    :return: the market, its region and the data report
    :raises ValueError: if the data cannot be had or is not clean, in one line
    """
    source, request, region = _resolve(query)
    cache = PriceCache(query.cache_dir)
    fetched = cache.fetch(source, request, query.offline, query.refresh) if source.remote else source.fetch(request)
    if not source.remote:
        fetched = replace(fetched, closes=cut(fetched.closes, query.start, query.end))
    is_table = query.prices is not None
    if region is None:  # of a table whose columns have only now been seen
        region = _region_of_columns(fetched.closes.columns, query)
    benchmark = BUNDLED_INDEX if isinstance(source, BundledSource) else request.benchmark
    fetched = _in_one_currency(fetched, region, query, named=is_table and query.region is not None)
    policy = CleaningPolicy(query.cleaning or ("repair" if source.remote else "refuse"), query.max_fill)
    assets = list(request.tickers or [name for name in fetched.closes.columns if name != benchmark])
    listed = REGIONS["US"] if isinstance(source, BundledSource) else region
    calendars, index = _calendars(assets, listed, query), benchmark if benchmark not in assets else None
    cleaned = clean(fetched.closes, index, calendars, policy)
    market = _build(query, source, fetched, cleaned.closes, assets, benchmark, policy)
    cleaned = replace(
        cleaned, steps=(*fetched.notes, *cleaned.steps), observed=_dated(cleaned.observed), closes=_dated(cleaned.closes)
    )
    facts = {
        "source": fetched.source, "region": region.name, "currency": listed.currency,
        "calendar": " ".join(calendars), "prices": market.asset_kind, "benchmark": market.benchmark,
        "benchmark_kind": market.benchmark_kind, "first": str(market.dates[0]), "last": str(market.dates[-1]),
        "days": market.n_days, "cleaning": policy.mode, "max_fill": policy.max_fill,
        "requested_start": request.start, "requested_end": request.end,
    }  # fmt: skip
    return LoadedMarket(market, region, report_on(cleaned, index, facts, policy))


def load_market(
    tickers: Sequence[str] | None = None, benchmark: str | None = None, start: str | None = None, end: str | None = None,
    prices: str | Path | pd.DataFrame | None = None, offline: bool = False, **kwargs: Any,
) -> MarketData:  # fmt: skip
    """
    The market that a set of plain settings means; see :class:`MarketQuery`, of which ``kwargs`` are further fields.

    :raises ValueError: if the data cannot be had or is not clean
    """
    query = MarketQuery(tickers, benchmark, start, end, prices, offline=offline, **kwargs)
    source, request, _ = _resolve(query)
    if isinstance(source, BundledSource) and request.benchmark in BUNDLED_INDEX_ALIASES and query.cleaning is None:
        return load_bundled(request.tickers, start, end)  # shared in memory
    return read_market(query).market


def load_yahoo(
    tickers: Sequence[str], benchmark: str = "^GSPC", start: str | None = None, end: str | None = None, **kwargs: Any
) -> MarketData:
    """
    Dividend- and split-adjusted closes from Yahoo Finance, or from the cache of earlier downloads.

    :param tickers: Yahoo symbols
    :param benchmark: Yahoo symbol of the index
    :param start: first date (ISO)
    :param end: last date, included (ISO)
    :param kwargs: further fields of :class:`MarketQuery`
    :raises ValueError: if nothing, or not everything, could be downloaded
    """
    return load_market(tickers, benchmark, start, end, source="yahoo", **kwargs)


def load_prices_file(
    path: str | Path, tickers: Sequence[str] | None = None, benchmark: str | None = None,
    start: str | None = None, end: str | None = None, **kwargs: Any,
) -> MarketData:  # fmt: skip
    """
    Prices from a CSV or Parquet file, wide or long, prices or OHLCV (docs/data.md).

    :param path: the file
    :param tickers: columns to use; all but the benchmark if not given
    :param benchmark: column that holds the benchmark; equal weight of the assets if not given
    :param start: first date (ISO)
    :param end: last date, included (ISO)
    :param kwargs: further fields of :class:`MarketQuery`
    :raises ValueError: if the file cannot be read or its prices are not clean
    """
    return load_market(tickers, benchmark, start, end, path, **kwargs)


def as_market(market: Any) -> MarketData:
    """
    :param market: a MarketData, a DataFrame of prices, the path of a file of prices, or None for the bundled default
    :raises TypeError: if it is none of these
    """
    if market is None:
        return load_bundled()
    if isinstance(market, MarketData):
        return market
    if isinstance(market, (pd.DataFrame, str, Path)):
        return load_market(prices=market)
    raise TypeError(f"`market` must be MarketData, a DataFrame of prices or a path; got {type(market).__name__}.")


def _resolve(query: MarketQuery) -> tuple[Source, DataRequest, Region | None]:
    """Whom to ask for what. The region of a table is not known before its columns are, unless it is named."""
    region = get_region(query.region) if query.region else None
    if query.prices is not None:
        table = isinstance(query.prices, pd.DataFrame)
        request = DataRequest(tuple(query.tickers or ()), query.benchmark, query.start, query.end, query.adjust)
        return FrameSource(query.prices) if table else FileSource(query.prices), request, region
    tickers = tuple(query.tickers or (DEFAULT_TICKERS if region is None or region.name == "US" else region.universe))
    region = region or _region_of_tickers(tickers, query)
    request = DataRequest(tickers, query.benchmark or region.benchmark, query.start, query.end, query.adjust)
    if query.offline and not query.tickers and not _is_cached(request, query):  # the bundled tickers at the region's costs
        request = replace(request, tickers=DEFAULT_TICKERS, benchmark=query.benchmark or BUNDLED_INDEX)
    name = query.source or ("bundled" if _is_bundled(request, query) else "yahoo")
    if name == "bundled" and query.benchmark is None:
        request = replace(request, benchmark=None)
    return get_source(name), request, region


def _is_bundled(request: DataRequest, query: MarketQuery) -> bool:
    """Whether the bundled set has everything, or is all that there is: offline, without a download before."""
    stocks, _ = bundled_prices()
    known = set(request.tickers) <= set(stocks.columns) and request.benchmark in BUNDLED_INDEX_ALIASES
    in_span = request.end is None or as_date(request.end) <= stocks.index[-1]
    if known and in_span and request.adjust == "dividends" and not query.refresh:
        return True
    return query.offline and not _is_cached(request, query)


def _is_cached(request: DataRequest, query: MarketQuery) -> bool:
    return PriceCache(query.cache_dir).has(query.source or "yahoo", request)


def _region_of_tickers(tickers: Sequence[str], query: MarketQuery) -> Region:
    try:
        return detect_region(tickers, query.benchmark)
    except MixedRegionsError:
        region = region_of_benchmark(query.benchmark)
        if query.rates is None or region is None:
            raise
        return region


def _region_of_columns(columns: Sequence[str], query: MarketQuery) -> Region:
    """Columns of a table tell a region if any ends in the suffix of an exchange; other names may mean anything."""
    assets = [str(name) for name in columns if name != query.benchmark]
    if any(map(has_region_suffix, assets)):
        return _region_of_tickers(assets, query)
    return detect_region((), query.benchmark)


def _calendars(assets: Sequence[str], region: Region, query: MarketQuery) -> tuple[str, ...]:
    """Exchanges whose sessions count: none for a table whose region is only that of this machine."""
    if query.prices is None or query.region or region_of_benchmark(query.benchmark) or any(map(has_region_suffix, assets)):
        return calendars_of(assets, region)
    return ()


def _in_one_currency(fetched: FetchedPrices, region: Region, query: MarketQuery, named: bool) -> FetchedPrices:
    """Prices in the region's currency; those of a table whose region was named are taken to be in it already."""
    if (named and query.rates is None) or not any(map(has_region_suffix, map(str, fetched.closes.columns))):
        return fetched
    symbols = [str(name) for name in fetched.closes.columns]
    currencies = {symbol: currency_of(symbol, region.currency) for symbol in symbols}
    rates = query.rates if query.rates is None or isinstance(query.rates, pd.DataFrame) else _read_rates(query.rates)
    closes, steps = convert(fetched.closes, currencies, region.currency, rates, query.max_fill)
    return replace(fetched, closes=closes, notes=(*fetched.notes, *steps))


def _read_rates(path: str | Path) -> pd.DataFrame:
    try:
        return FileSource(path).fetch(DataRequest(())).closes
    except ValueError as error:
        raise ValueError(f"The exchange rates cannot be read: {error}") from error


def _build(
    query: MarketQuery, source: Source, fetched: FetchedPrices, closes: pd.DataFrame, assets: list[str],
    benchmark: str | None, policy: CleaningPolicy,
) -> MarketData:  # fmt: skip
    if isinstance(source, BundledSource) and policy.mode == "refuse":
        return load_bundled(assets, query.start, query.end)
    kind = ADJUSTMENTS[fetched.adjusted]
    index_kind = benchmark_kind(benchmark, kind)
    caveats = (USER_UNIVERSE_CAVEAT, *((PRICE_BENCHMARK_CAVEAT,) if (kind, index_kind) == (TOTAL_RETURN, PRICE) else ()))
    return MarketData.from_prices(
        closes[assets], None if benchmark is None else closes[benchmark].rename(benchmark),
        missing="mask" if policy.mode == "repair" else "refuse", source=fetched.source, caveats=caveats,
        asset_kind=kind, benchmark_kind=index_kind,
    )  # fmt: skip


def _dated(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis(parse_dates(frame.index), axis=0)


__all__ = [
    "LoadedMarket", "MarketQuery", "as_market", "load_market", "load_prices_file", "load_yahoo", "read_market", "read_table",
]  # fmt: skip
