"""
Tables of prices as people keep them, brought into one shape: closes, dates x tickers.

Wide: one row per date, one column per ticker. Long: one row per date and ticker. Either holds prices, or open, high, low,
close and volume (OHLCV). A layout is recognised by its headings; nothing is guessed from the numbers.
"""

import re
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from quantflux_sb3.market.validation import parse_dates

_DATE_NAMES = {"date", "datetime", "time", "timestamp", "day"}
_TICKER_NAMES = {"ticker", "symbol", "asset"}
#: Fields from which closes are taken, the first one that is there, by the adjustment that was asked for.
_CLOSE_FIELDS = {
    "dividends": ("adjclose", "adjustedclose", "close", "price"),
    "splits": ("close", "price"),
}
_FIELDS = {"adjclose", "adjustedclose", "close", "price", "open", "high", "low", "volume", "dividends", "stocksplits"}
_MISSING = {"", "na", "n/a", "nan", "null", "none"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def closes_of(table: pd.DataFrame, adjust: str = "dividends") -> tuple[pd.DataFrame, str]:
    """
    :param table: wide or long, prices or OHLCV; the dates are its index or a column named "date"
    :param adjust: ``dividends`` takes adjusted closes where there are some, ``splits`` takes closes
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
        if ticker := _column(table, _TICKER_NAMES):
            return _long(table, ticker, adjust)
        table = _split_flat_names(table)
    if isinstance(table.columns, pd.MultiIndex):
        return _ohlcv(table, adjust)
    if {_plain(name) for name in table.columns} & {"close", "adjclose", "open"} and len(table.columns) > 1:
        raise ValueError(
            f"the columns {list(table.columns)} are those of one asset; a portfolio needs several: add a column 'ticker', or "
            "keep one column of closes per ticker."
        )
    return _numbers(table), "unknown"


def _plain(name: Any) -> str:
    return re.sub(r"[^a-z]", "", str(name).lower())


def _column(table: pd.DataFrame, names: set[str]) -> Any:
    return next((column for column in table.columns if str(column).strip().lower() in names), None)


def _with_dates(table: pd.DataFrame) -> pd.DataFrame:
    """The dates as index: a column of that name if there is one, else the index as it is."""
    column = _column(table, _DATE_NAMES)
    if column is None or isinstance(table.index, pd.DatetimeIndex):
        return table
    dates = table[column]
    if isinstance(dates, pd.DataFrame):
        raise ValueError(f"the column '{column}' stands there twice")
    return table.drop(columns=column).set_axis(pd.Index(dates), axis=0)


def _split_flat_names(table: pd.DataFrame) -> pd.DataFrame:
    """``AAPL_Close`` or ``Close AAPL`` as two levels, if every column is named so."""
    separators = r"[ _\-/|]"
    fields = r"adj[ _]?close|open|high|low|close|volume"
    pairs = []
    for name in map(str, table.columns):
        if match := re.fullmatch(rf"(.+?){separators}({fields})", name, re.IGNORECASE):
            pairs.append((match[2], match[1]))
        elif match := re.fullmatch(rf"({fields}){separators}(.+)", name, re.IGNORECASE):
            pairs.append((match[1], match[2]))
    if len(pairs) < len(table.columns) or not pairs:
        return table
    return table.set_axis(pd.MultiIndex.from_tuples(pairs), axis=1)


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
    field = _field(set(fields), adjust)
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
    columns = table.columns
    if columns.has_duplicates:
        raise ValueError(f"the columns {sorted(set(map(str, columns[columns.duplicated()])))} stand there twice")
    if empty := [number for number, name in enumerate(columns, 2) if str(name).strip() in ("", "nan")]:
        raise ValueError(f"column {empty[0]} has no name")
    return pd.DataFrame({str(name).strip(): parse_column(table[name]) for name in columns}, index=table.index)


def parse_column(column: pd.Series) -> np.ndarray | pd.Series:
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
