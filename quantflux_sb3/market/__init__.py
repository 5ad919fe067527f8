"""Market data: the validated container, its sources, cache, cleaning and regions."""

from quantflux_sb3.market.cache import PriceCache, cache_dir
from quantflux_sb3.market.cleaning import CleaningPolicy
from quantflux_sb3.market.data import EQUAL_WEIGHT, LONGEST_WINDOW, MIN_SPLIT_DAYS, WARMUP_DAYS, DateSplits, MarketData
from quantflux_sb3.market.loading import LoadedMarket, as_market, load_market, load_prices_file, load_yahoo, read_market
from quantflux_sb3.market.quality import DataReport
from quantflux_sb3.market.query import MarketQuery
from quantflux_sb3.market.regions import REGIONS, Region, detect_region, get_region
from quantflux_sb3.market.request import DataRequest, FetchedPrices, Source
from quantflux_sb3.market.sources import DEFAULT_TICKERS, bundled_prices, get_source, load_bundled

__all__ = [
    "DEFAULT_TICKERS",
    "EQUAL_WEIGHT",
    "LONGEST_WINDOW",
    "MIN_SPLIT_DAYS",
    "REGIONS",
    "WARMUP_DAYS",
    "CleaningPolicy",
    "DataReport",
    "DataRequest",
    "DateSplits",
    "FetchedPrices",
    "LoadedMarket",
    "MarketData",
    "MarketQuery",
    "PriceCache",
    "Region",
    "Source",
    "as_market",
    "bundled_prices",
    "cache_dir",
    "detect_region",
    "get_region",
    "get_source",
    "load_bundled",
    "load_market",
    "load_prices_file",
    "load_yahoo",
    "read_market",
]
