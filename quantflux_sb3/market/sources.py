"""
Where prices come from: the bundled S&P 500 set (offline), Yahoo Finance, and files.

The bundled set is the one that skfolio ships in its wheel: 20 large US stocks and the S&P 500, 1990-2022.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from quantflux_sb3.market.data import DateSplits, MarketData
from quantflux_sb3.market.validation import check_dates

logger = logging.getLogger(__name__)

#: The six tickers of the default market.
DEFAULT_TICKERS = ("AAPL", "MSFT", "JPM", "XOM", "WMT", "PG")
BUNDLED_INDEX = "SP500"
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
    stocks, index = bundled_prices()
    unknown = [ticker for ticker in tickers if ticker not in stocks.columns]
    if unknown:
        raise ValueError(f"Unknown ticker(s) {unknown} in the bundled set; it has {list(stocks.columns)}.")
    prices = _cut(stocks[list(tickers)], start, end)
    # Splits by date belong to the whole history; a cut one is split by fraction.
    splits = DateSplits() if start is None and end is None else None
    return MarketData.from_prices(
        prices, index.loc[prices.index], splits=splits, source="skfolio S&P 500 set",
        caveats=(SURVIVOR_CAVEAT, PRICE_INDEX_CAVEAT),
    )  # fmt: skip


def load_yahoo(
    tickers: Sequence[str], benchmark: str = "^GSPC", start: str | None = None, end: str | None = None
) -> MarketData:
    """
    Dividend- and split-adjusted closes from Yahoo Finance, in one batched request.

    :param tickers: Yahoo symbols
    :param benchmark: Yahoo symbol of the index
    :param start: first date (ISO)
    :param end: last date, excluded as in yfinance (ISO)
    :raises ValueError: if nothing, or not everything, could be downloaded
    """
    import yfinance

    symbols = [*tickers, benchmark]
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # failures are reported below, in one line
    try:
        frame = yfinance.download(
            symbols, start=start, end=end, period=None if start else "max", auto_adjust=True, progress=False, timeout=30
        )
    except Exception as error:
        raise ValueError(f"Yahoo Finance could not be read ({type(error).__name__}: {error}). {_OFFLINE_HINT}") from error
    closes = frame["Close"] if frame is not None and "Close" in frame else pd.DataFrame()
    missing = [symbol for symbol in symbols if symbol not in closes or closes[symbol].isna().all()]
    if missing:
        raise ValueError(f"Yahoo Finance gave no prices for {missing}. Check the symbols and the network. {_OFFLINE_HINT}")
    complete = closes[symbols].dropna()
    logger.info("dropped %d of %d dates on which a symbol has no price", len(closes) - len(complete), len(closes))
    return MarketData.from_prices(
        complete[list(tickers)], complete[benchmark], source="Yahoo Finance", caveats=_USER_UNIVERSE_CAVEATS
    )


def load_prices_file(
    path: str | Path, tickers: Sequence[str] | None = None, benchmark: str | None = None,
    start: str | None = None, end: str | None = None,
) -> MarketData:  # fmt: skip
    """
    Prices from a CSV (or Parquet) file: first column dates, then one column of adjusted closes per ticker.

    :param path: the file
    :param tickers: columns to use; all but the benchmark if not given
    :param benchmark: column that holds the benchmark; equal weight of the assets if not given
    :param start: first date (ISO)
    :param end: last date (ISO)
    :raises ValueError: if the file cannot be read or its prices are not clean
    """
    frame = read_prices_file(path)
    if tickers is not None:
        wanted = [*tickers, *([benchmark] if benchmark else [])]
        unknown = [name for name in wanted if name not in frame.columns]
        if unknown:
            raise ValueError(f"Unknown ticker(s) {unknown} in {path}; its columns are {list(frame.columns)}.")
        frame = frame[wanted]
    return MarketData.from_prices(
        _cut(frame, start, end), benchmark, source=str(Path(path).name), caveats=_USER_UNIVERSE_CAVEATS
    )


def read_prices_file(path: str | Path) -> pd.DataFrame:
    """
    :param path: CSV or Parquet file, dates x tickers
    :raises ValueError: if there is no such file or it holds no table
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no prices file '{path}'.")
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            frame = pd.read_parquet(path)
        else:
            header = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0, 1:].tolist()
            if len(set(header)) < len(header):  # which pandas would rename in silence
                raise ValueError(
                    f"the columns {sorted({name for name in header if header.count(name) > 1})} stand there twice"
                )
            frame = pd.read_csv(path, index_col=0)
    except (ValueError, OSError, ImportError) as error:
        raise ValueError(f"'{path}' cannot be read as a table of prices: {str(error).splitlines()[0]}") from error
    if not len(frame):
        raise ValueError(f"'{path}' has no rows of prices; expected a date column, then one column per ticker.")
    return frame


def load_market(
    tickers: Sequence[str] | None = None, benchmark: str | None = None, start: str | None = None, end: str | None = None,
    prices: str | Path | None = None, offline: bool = False,
) -> MarketData:  # fmt: skip
    """
    The market that a set of plain settings means: a file if one is given, the bundled set where it has all that is asked
    for, else Yahoo Finance.

    :param tickers: symbols; the six default ones if not given
    :param benchmark: symbol or column of the index
    :param start: first date (ISO)
    :param end: last date (ISO)
    :param prices: CSV or Parquet file of prices
    :param offline: never ask Yahoo
    :raises ValueError: if the data cannot be had or is not clean
    """
    if prices is not None:
        return load_prices_file(prices, tickers, benchmark, start, end)
    if isinstance(tickers, str):
        raise TypeError(f"`tickers` must be a list of symbols; got the text '{tickers}'.")
    wanted = tuple(tickers or DEFAULT_TICKERS)
    stocks, _ = bundled_prices()
    known = set(wanted) <= set(stocks.columns) and benchmark in BUNDLED_INDEX_ALIASES
    in_span = end is None or _as_date(end) <= stocks.index[-1]
    if offline or (known and in_span):
        if benchmark not in BUNDLED_INDEX_ALIASES:
            raise ValueError(f"The bundled set has no benchmark '{benchmark}'; it has {BUNDLED_INDEX}.")
        return load_bundled(wanted, start, end)
    return load_yahoo(wanted, benchmark or "^GSPC", start, end)


def as_market(market: Any) -> MarketData:
    """
    :param market: a MarketData, a DataFrame of prices, the path of a file of prices, or None for the bundled default
    :raises TypeError: if it is none of these
    """
    if market is None:
        return load_bundled()
    if isinstance(market, MarketData):
        return market
    if isinstance(market, pd.DataFrame):
        return MarketData.from_prices(market, source="DataFrame", caveats=_USER_UNIVERSE_CAVEATS)
    if isinstance(market, (str, Path)):
        return load_prices_file(market)
    raise TypeError(f"`market` must be MarketData, a DataFrame of prices or a path; got {type(market).__name__}.")


_OFFLINE_HINT = "Without a network use --offline with the bundled tickers, or --prices FILE."
_USER_UNIVERSE_CAVEATS = (
    "The assets were chosen by the user, today: if they were chosen because they did well, the result is too good.",
)


def _as_date(text: str) -> pd.Timestamp:
    try:
        return pd.Timestamp(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is no date; expected ISO, such as 2012-12-31.") from error


def _cut(frame: pd.DataFrame, start: str | None, end: str | None) -> pd.DataFrame:
    if start is None and end is None:
        return frame
    frame = frame.set_axis(check_dates(frame.index), axis=0)
    cut = frame.loc[_as_date(start) if start else None : _as_date(end) if end else None]
    if len(cut) < 2:
        first, last = frame.index[[0, -1]].date
        raise ValueError(f"Between {start} and {end} there are {len(cut)} dates; the data spans {first} to {last}.")
    return cut
