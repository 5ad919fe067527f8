"""
Sources of prices by name: the bundled S&P 500 set (offline), Yahoo Finance, and what other packages add.

The bundled set is the one that skfolio ships in its wheel: 20 large US stocks and the S&P 500, 1990-2022. Another package adds
a source with an entry point of the group ``quantflux_sb3.sources`` that names a class or function without arguments, which
returns a :class:`quantflux_sb3.market.request.Source`.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from quantflux_sb3.market.data import PRICE, TOTAL_RETURN, DateSplits, MarketData
from quantflux_sb3.market.request import DataRequest, FetchedPrices, Source, as_date
from quantflux_sb3.market.validation import parse_dates

ENTRY_POINTS = "quantflux_sb3.sources"
#: The six tickers of the default market.
DEFAULT_TICKERS = ("AAPL", "MSFT", "JPM", "XOM", "WMT", "PG")
BUNDLED_INDEX = "SP500"
BUNDLED_SOURCE = "skfolio S&P 500 set"
#: Names under which people ask for the index of the bundled set.
BUNDLED_INDEX_ALIASES = (None, BUNDLED_INDEX, "^GSPC")
SURVIVOR_CAVEAT = (
    "The bundled stocks are companies that were large in 2022: they are survivors, so beating the index proves nothing."
)
PRICE_INDEX_CAVEAT = "The index is a price index and pays no dividends, while the stocks' prices include theirs."


@lru_cache(maxsize=1)
def bundled_prices() -> tuple[pd.DataFrame, pd.Series]:
    """
    :return: adjusted closes of the 20 bundled stocks, and the level of the S&P 500, on the same dates
    """
    return _read_skfolio("sp500_dataset"), _read_skfolio("sp500_index")[BUNDLED_INDEX]


def _read_skfolio(name: str) -> pd.DataFrame:
    """A data file out of skfolio's folder; importing the package for it would take over a second."""
    spec = find_spec("skfolio")
    folders = spec.submodule_search_locations if spec else None
    path = Path(next(iter(folders or ()), "")) / "datasets" / "data" / f"{name}.csv.gz"
    if not path.is_file():
        raise ImportError(f"The bundled prices are shipped by skfolio, and '{path}' is not there; pip install skfolio.")
    frame = pd.read_csv(path, index_col=0)
    return frame.set_axis(pd.to_datetime(frame.index, format="%Y-%m-%d"), axis=0)


class BundledSource:
    """The prices that skfolio ships: 20 large US stocks and the S&P 500, 1990-2022."""

    name = "bundled"
    remote = False

    def fetch(self, request: DataRequest) -> FetchedPrices:
        stocks, index = bundled_prices()
        if request.benchmark not in BUNDLED_INDEX_ALIASES:
            raise ValueError(f"The bundled set has no benchmark '{request.benchmark}'; it has {BUNDLED_INDEX}.")
        unknown = [ticker for ticker in request.tickers if ticker not in stocks.columns]
        if unknown:
            raise ValueError(
                f"Unknown ticker(s) {unknown} in the bundled set; it has {list(stocks.columns)}. "
                "Others need the network, or the cache of a download before."
            )
        if request.adjust != "dividends":
            raise ValueError(
                "The bundled prices are adjusted for dividends and cannot be had for splits only; leave out --adjust "
                f"{request.adjust}, or ask another source (--source yahoo, with the network, or --prices FILE)."
            )
        closes = stocks[list(request.tickers)].assign(**{BUNDLED_INDEX: index})
        late = request.end is not None and as_date(request.end) > closes.index[-1]
        notes = (f"the bundled prices end on {closes.index[-1].date()}",) if late else ()
        return FetchedPrices(cut(closes, request.start, request.end), BUNDLED_SOURCE, "dividends", notes)


def get_source(name: str) -> Source:
    """
    :param name: ``bundled``, ``yahoo``, or a name of the entry-point group ``quantflux_sb3.sources``
    :raises ValueError: if there is no such source
    """
    from quantflux_sb3.market.yahoo import YahooSource

    built_in = {"bundled": BundledSource, "yahoo": YahooSource}
    if name in built_in:
        return built_in[name]()
    others = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in others:
        raise ValueError(f"Unknown source '{name}'; expected one of {[*built_in, *sorted(others)]}.")
    source = others[name].load()()
    if lacking := [field for field in ("name", "remote", "fetch") if not hasattr(source, field)]:
        raise TypeError(f"The source '{name}' of {others[name].value} has no {lacking}; see docs/data.md.")
    return source


def load_bundled(tickers: Sequence[str] = DEFAULT_TICKERS, start: str | None = None, end: str | None = None) -> MarketData:
    """
    Real prices that need no network. The same arguments return the same object, so that envs share its memory.

    :param tickers: some of the 20 bundled stocks
    :param start: first date (ISO)
    :param end: last date (ISO)
    :raises ValueError: if a ticker is not in the set
    """
    return _load_bundled(tuple(tickers), start, end)


@lru_cache(maxsize=16)
def _load_bundled(tickers: tuple[str, ...], start: str | None, end: str | None) -> MarketData:
    closes = BundledSource().fetch(DataRequest(tickers, None, start, end)).closes
    # Splits by date belong to the whole history; a cut one is split by fraction.
    splits = DateSplits() if start is None and end is None else None
    return MarketData.from_prices(
        closes, BUNDLED_INDEX, splits=splits, source=BUNDLED_SOURCE, caveats=(SURVIVOR_CAVEAT, PRICE_INDEX_CAVEAT),
        asset_kind=TOTAL_RETURN, benchmark_kind=PRICE, calendars=("XNYS",),
    )  # fmt: skip


def cut(frame: pd.DataFrame, start: str | None, end: str | None) -> pd.DataFrame:
    """
    :param frame: rows by date
    :param start: first date (ISO)
    :param end: last date, included (ISO)
    :raises ValueError: if fewer than two rows are left, or the index holds no dates
    """
    if start is None and end is None:
        return frame
    dates = parse_dates(frame.index)
    chosen = np.ones(len(dates), dtype=bool)
    if start is not None:
        chosen &= dates >= as_date(start)
    if end is not None:
        chosen &= dates <= as_date(end)
    part = frame.set_axis(dates, axis=0)[chosen]
    if len(part) < 2:
        first, last = dates.min().date(), dates.max().date()
        raise ValueError(f"Between {start} and {end} there are {len(part)} dates; the data spans {first} to {last}.")
    return part
