"""
Tables of prices as people keep them, brought into one shape: closes, dates x tickers.

Wide: one row per date, one column per ticker. Long: one row per date and ticker. Either holds prices, or open, high, low,
close and volume (OHLCV). A layout is recognised by its headings; nothing is guessed from the numbers.
"""

import re
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_complex_dtype, is_numeric_dtype

from quantflux_sb3.market.validation import check_session_dates, parse_dates

_DATE_NAMES = {"date", "datetime", "time", "timestamp", "day"}
_TICKER_NAMES = {"ticker", "symbol", "asset"}
#: Fields from which closes are taken, the first one that is there, by the adjustment that was asked for.
_CLOSE_FIELDS = {
    "dividends": ("adjclose", "adjustedclose", "close", "price"),
    "splits": ("close", "price"),
}
_FIELDS = {"adjclose", "adjustedclose", "close", "price", "open", "high", "low", "volume", "dividends", "stocksplits"}
#: Headings that are no ticker of any size on their own; LOW is one.
_NO_TICKERS = _FIELDS - {"high", "low", "price"}
_MISSING = {"", "na", "n/a", "nan", "null", "none"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def closes_of(
    table: pd.DataFrame, adjust: str = "dividends", benchmark: str | None = None, times: bool = False
) -> tuple[pd.DataFrame, str]:
    """
    :param table: wide or long, prices or OHLCV; the dates are its index or a column named "date"
    :param adjust: ``dividends`` takes adjusted closes where there are some, ``splits`` takes closes
    :param benchmark: name of the one column that may hold plain levels beside flat OHLCV names
    :param times: whether the dates may have a (local) time of day, which is dropped
    :return: closes, dates x tickers, in the order of the table; how they are adjusted: ``dividends`` if the table says so,
        else ``unknown``
    :raises ValueError: if the layout is none of these, in one line
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"`prices` must be a pandas DataFrame (dates x tickers); got {type(table).__name__}.")
    if not len(table):
        raise ValueError("the table has no rows of prices; expected a date column, then one column per ticker.")
    if isinstance(table.index, pd.MultiIndex):
        table = table.reset_index()
    if isinstance(table.columns, pd.MultiIndex):
        table = table.set_axis(pd.MultiIndex.from_tuples([tuple(map(str, name)) for name in table.columns]), axis=1)
    else:
        table = _with_dates(table)
    check_session_dates(table.index, times)
    if isinstance(table.columns, pd.MultiIndex):
        return _ohlcv(table, adjust)
    if ticker := _column(table, _TICKER_NAMES):
        return _long(table, ticker, adjust)
    if (pairs := _flat_names(table.columns, benchmark)) is not None:
        return _flat(table, pairs, adjust)
    fields = [str(name) for name in table.columns if _plain(name) in _NO_TICKERS and str(name).strip() != benchmark]
    if len(fields) > 1 and len(table.columns) > 1:
        raise ValueError(
            f"the columns {list(table.columns)} are those of one asset; a portfolio needs several: add a column 'ticker', or "
            "keep one column of closes per ticker."
        )
    if fields and len(table.columns) > 1:
        raise ValueError(
            f"the column {fields[0]!r} has the name of a field of prices, not of a ticker; drop it, or rename it if it is one."
        )
    return _numbers(table), "unknown"


def _plain(name: Any) -> str:
    return re.sub(r"[^a-z]", "", str(name).lower())


def _column(table: pd.DataFrame, names: set[str]) -> Any:
    return next((column for column in table.columns if str(column).strip().lower() in names), None)


def _with_dates(table: pd.DataFrame) -> pd.DataFrame:
    """The dates as index: the index as it is if it holds dates (TIME is a ticker then), else a column of that name."""
    column = _column(table, _DATE_NAMES)
    if column is None or _holds_dates(table.index):
        return table
    dates = table[column]
    if isinstance(dates, pd.DataFrame):
        raise ValueError(f"the column '{column}' stands there twice")
    return table.drop(columns=column).set_axis(pd.Index(dates), axis=0)


def _holds_dates(index: pd.Index) -> bool:
    try:
        parse_dates(index)
    except ValueError:
        return False
    return True


def _flat_names(columns: pd.Index, benchmark: str | None) -> list[tuple[str, str] | None] | None:
    """
    Field and ticker of columns such as ``AAPL_Close`` or ``Close AAPL``; None where they are plain tickers.

    :param columns: of a wide table
    :param benchmark: name of a column that may be neither
    :return: by column, None for the benchmark's
    :raises ValueError: if some columns are named so and others are not: each field would become an asset
    """
    fields = r"adj[ _]?close|open|high|low|close|volume|dividends|stock[ _]?splits"
    pairs: list[tuple[str, str] | None] = []
    for name in (str(column).strip() for column in columns):
        if match := re.fullmatch(rf"(.+?)[ _\-/|.]({fields})", name, re.IGNORECASE):
            pairs.append((match[2], match[1]))
        elif match := re.fullmatch(rf"({fields})[ _\-/|](.+)", name, re.IGNORECASE):
            pairs.append((match[1], match[2]))
        else:
            pairs.append(None)
    found = {_plain(pair[0]) for pair in pairs if pair}
    others = [str(name) for name, pair in zip(columns, pairs, strict=True) if pair is None and str(name).strip() != benchmark]
    if not others and found:
        return pairs
    if len(found) > 1 or found & {"adjclose", "close", "volume"}:  # a lone "Open Text" is the name of a company
        raise ValueError(
            f"the columns {others} are no field of a ticker such as 'AAPL_Close', while others are; drop them, or "
            "name the one that is the benchmark (--benchmark)."
        )
    return None


def _flat(table: pd.DataFrame, pairs: list[tuple[str, str] | None], adjust: str) -> tuple[pd.DataFrame, str]:
    """OHLCV with flat names, and perhaps the levels of a benchmark beside them."""
    known = [pair is not None for pair in pairs]
    columns = pd.MultiIndex.from_tuples([pair for pair in pairs if pair is not None])
    closes, adjusted = _ohlcv(table.loc[:, known].set_axis(columns, axis=1), adjust)
    levels = _numbers(table.loc[:, [not flag for flag in known]])
    if both := sorted(set(levels) & set(closes)):
        raise ValueError(f"the columns {both} stand there twice")
    return pd.concat([closes, levels], axis=1), adjusted


def _ohlcv(table: pd.DataFrame, adjust: str) -> tuple[pd.DataFrame, str]:
    """Two levels of columns, field and ticker, in either order."""
    if table.columns.nlevels != 2:
        raise ValueError(f"the columns have {table.columns.nlevels} levels; expected two, field and ticker.")
    level = next((i for i in (0, 1) if {_plain(name) for name in table.columns.get_level_values(i)} <= _FIELDS), None)
    if level is None:
        raise ValueError(f"one level of the columns must name fields such as 'Close'; got {list(table.columns[:4])}.")
    plain = np.array([_plain(name) for name in table.columns.get_level_values(level)])
    field = _field(set(plain), adjust)
    closes = table.loc[:, plain == field]
    return _numbers(closes.set_axis(closes.columns.get_level_values(1 - level), axis=1)), _adjusted(field)


def _long(table: pd.DataFrame, ticker: Any, adjust: str) -> tuple[pd.DataFrame, str]:
    fields = {_plain(name): name for name in table.columns}
    try:
        field = _field(set(fields), adjust)
    except ValueError as error:
        raise ValueError(f"{error} The column '{ticker}' is taken for tickers; rename it if it is a ticker itself.") from error
    dates, names = parse_dates(table.index), table[ticker].astype(str).str.strip()
    values = _numbers(table[[fields[field]]].set_axis(dates, axis=0)).iloc[:, 0]
    pairs = pd.MultiIndex.from_arrays([dates, names])
    if (names.isin(["", "nan", "None"])).any():
        raise ValueError(f"{int(names.isin(['', 'nan', 'None']).sum())} rows have no ticker. Drop them.")
    if pairs.has_duplicates:
        date, name = pairs[pairs.duplicated()][0]
        raise ValueError(f"there are two prices of '{name}' on {date.date()}. Keep one.")
    wide = pd.Series(values.to_numpy(), index=pairs).unstack()
    return wide[list(dict.fromkeys(names))].rename_axis(index=None, columns=None), _adjusted(field)


def _field(there: set[str], adjust: str) -> str:
    for field in _CLOSE_FIELDS[adjust]:
        if field in there:
            return field
    raise ValueError(f"there is no column of closes; expected one of {_CLOSE_FIELDS[adjust]}, got {sorted(there)}.")


def _adjusted(field: str) -> str:
    return "dividends" if field in ("adjclose", "adjustedclose") else "unknown"


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Text as numbers: the shortest decimal reading, empty cells as NaN, anything else refused with its place."""
    names = pd.Index([str(name).strip() for name in table.columns])
    if names.has_duplicates:
        raise ValueError(f"the columns {sorted(set(names[names.duplicated()]))} stand there twice, blanks around them aside")
    if empty := [number for number, name in enumerate(names, 2) if name in ("", "nan")]:
        raise ValueError(f"column {empty[0]} has no name")
    return pd.DataFrame({name: parse_column(table.iloc[:, i]) for i, name in enumerate(names)}, index=table.index)


def parse_column(column: pd.Series) -> np.ndarray | pd.Series:
    if is_complex_dtype(column):
        raise ValueError(f"column '{column.name}' is not numeric: it holds complex numbers.")
    if is_numeric_dtype(column) and column.dtype != bool:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if column.dtype == bool:
        raise ValueError(f"column '{column.name}' is not numeric: it holds truth values.")
    values = np.empty(len(column))
    for row, cell in enumerate(column):
        text = str(cell).strip()
        if _NUMBER.fullmatch(text) and not isinstance(cell, bool):
            values[row] = float(text)
        elif text.lower() in _MISSING:
            values[row] = np.nan
        else:
            raise ValueError(
                f"column '{column.name}' is not numeric: found {cell!r} on {str(column.index[row])[:10]}. "
                "Give numbers with a decimal point."
            )
    return values
