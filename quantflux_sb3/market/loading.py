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
from quantflux_sb3.market.cleaning import Cleaned, CleaningPolicy, clean
from quantflux_sb3.market.currency import convert
from quantflux_sb3.market.data import PRICE, TOTAL_RETURN, MarketData
from quantflux_sb3.market.files import FileSource
from quantflux_sb3.market.quality import DataReport, report_on
from quantflux_sb3.market.query import MarketQuery, calendars, currencies_of, region_of_columns, resolve
from quantflux_sb3.market.regions import REGIONS, Region, benchmark_kind, has_region_suffix
from quantflux_sb3.market.request import ADJUSTMENTS, DataRequest, FetchedPrices, Source
from quantflux_sb3.market.sources import BUNDLED_INDEX, BUNDLED_INDEX_ALIASES, BundledSource, cut, load_bundled
from quantflux_sb3.market.validation import parse_dates, rows_per_year

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
    :param remote: whether they were downloaded, now or before
    """

    market: MarketData
    region: Region
    report: DataReport
    remote: bool = False


def read_market(query: MarketQuery) -> LoadedMarket:
    """
    :param query: what is wanted
    :return: the market, its region and the data report
    :raises ValueError: if the data cannot be had or is not clean, in one line
    """
    source, request, region = resolve(query)
    policy = CleaningPolicy(query.cleaning or ("repair" if source.remote else "refuse"), query.max_fill)
    fetched = _fetch(source, request, query)
    region = region or region_of_columns(fetched.closes.columns, query)
    bundled = isinstance(source, BundledSource)
    benchmark = BUNDLED_INDEX if bundled else request.benchmark
    assets = list(request.tickers or [name for name in fetched.closes.columns if name != benchmark])
    index = None if benchmark in assets else benchmark
    fetched = fetched if bundled else _in_one_currency(fetched, region, query)
    listed = REGIONS["US"] if bundled else region  # the bundled stocks, at whatever region's costs
    codes = calendars(assets, listed, query)
    cleaned = clean(fetched.closes, index, codes, policy)
    if bundled and policy.mode == "refuse":
        market = load_bundled(assets, query.start, query.end)
    else:
        market = _build(fetched, cleaned.closes, assets, benchmark, policy, codes)
    facts = {
        "source": fetched.source, "region": region.name, "currency": listed.currency, "calendar": " ".join(codes),
        "prices": market.asset_kind, "benchmark": market.benchmark, "benchmark_kind": market.benchmark_kind,
        "first": str(market.dates[0]), "last": str(market.dates[-1]), "days": market.n_days,
        "cleaning": policy.mode, "max_fill": policy.max_fill, "requested_start": query.start, "requested_end": query.end,
    }  # fmt: skip
    return LoadedMarket(market, region, report_on(_said(cleaned, fetched), index, facts, policy), source.remote)


def load_market(
    tickers: Sequence[str] | None = None, benchmark: str | None = None, start: str | None = None, end: str | None = None,
    prices: str | Path | pd.DataFrame | None = None, offline: bool = False, **kwargs: Any,
) -> MarketData:  # fmt: skip
    """
    The market that a set of plain settings means; see :class:`MarketQuery`, of which ``kwargs`` are further fields.

    :raises ValueError: if the data cannot be had or is not clean
    """
    query = MarketQuery(tickers, benchmark, start, end, prices, offline=offline, **kwargs)
    source, request, _ = resolve(query)
    if isinstance(source, BundledSource) and query.cleaning is None and request.adjust == "dividends":
        if request.benchmark in BUNDLED_INDEX_ALIASES:
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


def _fetch(source: Source, request: DataRequest, query: MarketQuery) -> FetchedPrices:
    if source.remote:
        return PriceCache(query.cache_dir).fetch(source, request, query.offline, query.refresh)
    fetched = source.fetch(request)
    return replace(fetched, closes=cut(fetched.closes, query.start, query.end))


def _in_one_currency(fetched: FetchedPrices, region: Region, query: MarketQuery) -> FetchedPrices:
    """Prices in the region's currency; columns of a table that name no exchange, or whose region is named, are in it."""
    symbols = [str(name) for name in fetched.closes.columns]
    if query.prices is not None and query.rates is None and (query.region or not any(map(has_region_suffix, symbols))):
        return fetched
    rates = query.rates if query.rates is None or isinstance(query.rates, pd.DataFrame) else _read_rates(query.rates)
    closes, steps = convert(fetched.closes, currencies_of(symbols, region), region.currency, rates, query.max_fill)
    return replace(fetched, closes=closes, notes=(*fetched.notes, *steps))


def _read_rates(path: str | Path) -> pd.DataFrame:
    try:
        return FileSource(path).fetch(DataRequest(())).closes
    except ValueError as error:
        raise ValueError(f"The exchange rates cannot be read: {error}") from error


def _build(
    fetched: FetchedPrices, closes: pd.DataFrame, assets: list[str], benchmark: str | None, policy: CleaningPolicy,
    codes: tuple[str, ...],
) -> MarketData:  # fmt: skip
    kind = ADJUSTMENTS[fetched.adjusted]
    index_kind = benchmark_kind(benchmark, kind)
    caveats = (USER_UNIVERSE_CAVEAT, *((PRICE_BENCHMARK_CAVEAT,) if (kind, index_kind) == (TOTAL_RETURN, PRICE) else ()))
    market = MarketData.from_prices(
        closes[assets], None if benchmark is None else closes[benchmark].rename(benchmark),
        missing="mask" if policy.mode == "repair" else "refuse", source=fetched.source, caveats=caveats,
        asset_kind=kind, benchmark_kind=index_kind, calendars=codes,
    )  # fmt: skip
    return replace(market, periods_per_year=rows_per_year(market.dates))


def _said(cleaned: Cleaned, fetched: FetchedPrices) -> Cleaned:
    """With what happened before the cleaning, and dates that are dates."""
    closes, observed = (frame.set_axis(parse_dates(frame.index), axis=0) for frame in (cleaned.closes, cleaned.observed))
    return replace(cleaned, closes=closes, observed=observed, steps=(*fetched.notes, *cleaned.steps))
