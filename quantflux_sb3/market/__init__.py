"""Market data: the validated container, its sources and regions."""

from quantflux_sb3.market.data import EQUAL_WEIGHT, LONGEST_WINDOW, MIN_SPLIT_DAYS, WARMUP_DAYS, DateSplits, MarketData
from quantflux_sb3.market.regions import REGIONS, Region, detect_region, get_region
from quantflux_sb3.market.sources import (
    DEFAULT_TICKERS,
    as_market,
    bundled_prices,
    load_bundled,
    load_market,
    load_prices_file,
    load_yahoo,
)

__all__ = [
    "DEFAULT_TICKERS",
    "EQUAL_WEIGHT",
    "LONGEST_WINDOW",
    "MIN_SPLIT_DAYS",
    "REGIONS",
    "WARMUP_DAYS",
    "DateSplits",
    "MarketData",
    "Region",
    "as_market",
    "bundled_prices",
    "detect_region",
    "get_region",
    "load_bundled",
    "load_market",
    "load_prices_file",
    "load_yahoo",
]
