"""What somebody wants to load, and what that means: which source is asked for which symbols, and of which region they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from quantflux_sb3.market.cache import PriceCache
from quantflux_sb3.market.currency import check_rates
from quantflux_sb3.market.files import FileSource, FrameSource
from quantflux_sb3.market.regions import (
    MixedRegionsError,
    Region,
    calendars_of,
    currency_of,
    detect_region,
    get_region,
    has_region_suffix,
    region_of_benchmark,
)
from quantflux_sb3.market.request import DataRequest, Source, as_date
from quantflux_sb3.market.sources import (
    BUNDLED_INDEX,
    BUNDLED_INDEX_ALIASES,
    DEFAULT_TICKERS,
    bundled_prices,
    get_source,
)


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
        for name, kinds, expected in (
            ("region", str, "the name of a region"),
            ("benchmark", str, "the name of an index or a column"),
            ("rates", (str, Path, pd.DataFrame), "a file or a DataFrame of exchange rates"),
        ):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                raise TypeError(f"`{name}` must be {expected}; got {type(value).__name__}.")
        if unnamed := [name for name in self.tickers or () if not isinstance(name, str)]:
            raise TypeError(
                f"`tickers` must be texts; got {unnamed[0]!r}. Columns of a table that are numbers are named by text."
            )
        if self.benchmark is not None and not str(self.benchmark).strip():
            raise ValueError(
                f"`benchmark` must name an index or a column; got {self.benchmark!r}. Leave it out for the default."
            )
        if self.offline and self.refresh:
            raise ValueError("--offline and --refresh exclude each other.")
        if self.prices is not None and self.source is not None:
            raise ValueError(f"Give either prices or a source; got both, the source '{self.source}'.")


def resolve(query: MarketQuery) -> tuple[Source, DataRequest, Region | None]:
    """
    :param query: what is wanted
    :return: whom to ask, for what, and the region; that of a table is not known before its columns are, unless it is named
    :raises ValueError: if that cannot be, before anything is fetched
    """
    region = get_region(query.region) if query.region else None
    if query.prices is not None:
        request = DataRequest(tuple(query.tickers or ()), query.benchmark, query.start, query.end, query.adjust)
        source = FrameSource if isinstance(query.prices, pd.DataFrame) else FileSource
        return source(query.prices, times=query.cleaning == "repair"), request, region
    tickers = tuple(query.tickers or (DEFAULT_TICKERS if region is None or region.name == "US" else region.universe))
    region = region or _region_of_tickers(tickers, query)
    request = DataRequest(tickers, query.benchmark or region.benchmark, query.start, query.end, query.adjust)
    if query.offline and not query.tickers and not _is_cached(request, query):  # the bundled tickers at the region's costs
        request = replace(request, tickers=DEFAULT_TICKERS, benchmark=query.benchmark or BUNDLED_INDEX)
    name = query.source or ("bundled" if _is_bundled(request, query) else "yahoo")
    if name == "bundled":
        request = replace(request, benchmark=query.benchmark)
    else:
        check_rates(currencies_of(request.symbols, region), region.currency, query.rates is not None)
    return get_source(name), request, region


def region_of_columns(columns: Sequence[str], query: MarketQuery) -> Region:
    """
    :param columns: of a table whose region was not named
    :param query: what is wanted
    :return: the region that they tell if any ends in the suffix of an exchange; other names may mean anything
    :raises ValueError: if they tell several
    """
    assets = [str(name) for name in columns if name != query.benchmark]
    if any(map(has_region_suffix, assets)):
        return _region_of_tickers(assets, query)
    return detect_region((), query.benchmark)


def calendars(assets: Sequence[str], region: Region, query: MarketQuery) -> tuple[str, ...]:
    """
    :param assets: names
    :param region: of the market
    :param query: what is wanted
    :return: exchanges whose sessions count: none for a table whose region is only that of this machine
    """
    if query.prices is None or query.region or region_of_benchmark(query.benchmark) or any(map(has_region_suffix, assets)):
        return calendars_of(assets, region)
    return ()


def currencies_of(symbols: Sequence[str], region: Region) -> dict[str, str]:
    """
    :param symbols: Yahoo symbols
    :param region: for those that do not tell
    :return: ISO 4217 code by symbol
    """
    return {symbol: currency_of(symbol, region.currency) for symbol in symbols}


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
