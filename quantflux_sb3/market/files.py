"""
Prices from files: CSV or Parquet, wide or long, prices or OHLCV (the layouts: :mod:`quantflux_sb3.market.layouts`).

A file is read to the letter or refused: a row with a missing or a spare cell, text among the numbers, a date that is cut
short, or a Parquet page whose checksum is wrong ends in one line that says where.
"""

import csv
import io
from pathlib import Path

import pandas as pd

from quantflux_sb3.market.layouts import closes_of
from quantflux_sb3.market.request import DataRequest, FetchedPrices

PARQUET_SUFFIXES = {".parquet", ".pq"}
#: First bytes of what is often given for a CSV file.
_OTHER_KINDS = {
    b"PK": "a ZIP archive or an Excel workbook", b"\xff\xfe": "text in UTF-16", b"\xfe\xff": "text in UTF-16",
    b"\x1f\x8b": "gzipped (its name must then end in .gz)", b"PAR1": "Parquet (its name must then end in .parquet or .pq)",
}  # fmt: skip
_SEPARATORS = ",;\t"


class FileSource:
    """
    :param path: CSV (``.csv``, ``.txt``, gzipped or not) or Parquet file
    :param times: whether its dates may have a time of day, which is dropped
    """

    remote = False

    def __init__(self, path: str | Path, times: bool = False):
        self.path, self.times = Path(path), times
        self.name = self.path.name

    def fetch(self, request: DataRequest) -> FetchedPrices:
        return fetch_from_table(read_table(self.path), request, self.name, str(self.path), self.times)


class FrameSource:
    """
    :param table: DataFrame in one of the layouts
    :param times: whether its dates may have a time of day, which is dropped
    """

    name = "DataFrame"
    remote = False

    def __init__(self, table: pd.DataFrame, times: bool = False):
        self.table, self.times = table, times

    def fetch(self, request: DataRequest) -> FetchedPrices:
        return fetch_from_table(self.table, request, self.name, "the DataFrame", self.times)


def fetch_from_table(table: pd.DataFrame, request: DataRequest, source: str, place: str, times: bool = False) -> FetchedPrices:
    """
    :param table: prices in one of the layouts
    :param request: symbols and dates wanted; no tickers means all columns
    :param source: where the table came from, for people
    :param place: the same for error messages
    :param times: whether the dates may have a time of day, which is dropped
    :raises ValueError: if it is no table of prices, or a symbol is not in it
    """
    try:
        closes, adjusted = closes_of(table, request.adjust, request.benchmark, times)
    except ValueError as error:
        raise ValueError(f"'{place}' cannot be read as a table of prices: {error}") from error
    wanted = list(request.symbols) if request.tickers else list(closes.columns)
    if unknown := [name for name in wanted if name != request.benchmark and name not in closes.columns]:
        raise ValueError(f"Unknown ticker(s) {unknown} in {place}; its columns are {list(closes.columns)}.")
    if request.benchmark is not None and request.benchmark not in closes.columns:
        raise ValueError(f"Unknown benchmark '{request.benchmark}' in {place}; its columns are {list(closes.columns)}.")
    return FetchedPrices(closes[wanted], source, adjusted)


def read_table(path: str | Path, what: str = "prices") -> pd.DataFrame:
    """
    :param path: CSV or Parquet file
    :param what: it should hold, for the error
    :return: its table; the cells of a CSV file as text
    :raises ValueError: if there is no such file or it holds no table
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no {what} file '{path}'.")
    try:
        table = _read_parquet(path) if path.suffix.lower() in PARQUET_SUFFIXES else _read_csv(path)
    except Exception as error:  # what a damaged Parquet file raises has no common class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"'{path}' cannot be read as a table of {what}: {reason}") from error
    if not len(table):
        raise ValueError(f"'{path}' has no rows of prices; expected a date column, then one column per ticker.")
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path, engine="pyarrow", page_checksum_verification=True)
    if isinstance(table.index, pd.RangeIndex) and len(table.columns):
        first = table.columns[0]  # without an index, the first column holds the dates as in a CSV file
        if not isinstance(first, tuple) and not {"date", "datetime"} & {str(name).lower() for name in table.columns}:
            return table.set_index(first)
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        import gzip

        content = gzip.decompress(content)
    if kind := next((name for magic, name in _OTHER_KINDS.items() if content.startswith(magic)), None):
        raise ValueError(f"it is {kind}; save it as CSV (UTF-8) or Parquet")
    text = content.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("there is a zero byte in it; it is no text")
    first_line = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=first_line.count)
    numbered = [
        (number, row)
        for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), 1)
        if row
    ]
    if not numbered:
        raise ValueError("it is empty")
    header = [name.strip() for name in numbered[0][1]]
    for number, row in numbered:
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells and the heading has {len(header)}")
    return _named(header, [row for _, row in numbered[1:]])


def _named(header: list[str], rows: list[list[str]]) -> pd.DataFrame:
    """A heading of two lines, field and ticker, as yfinance's tables are saved, or of one."""
    if rows and rows[0][0].strip().lower() in ("ticker", "symbol", "price", "") and not _is_number(rows[0][1:]):
        columns: pd.Index = pd.MultiIndex.from_arrays([header[1:], [name.strip() for name in rows[0][1:]]])
        rows = rows[1:]
        if rows and not any(cell.strip() for cell in rows[0][1:]):  # the line with the name of the index
            rows = rows[1:]
        return pd.DataFrame([row[1:] for row in rows], index=[row[0] for row in rows], columns=columns)
    if repeated := {name for name in header if header.count(name) > 1}:
        raise ValueError(f"the columns {sorted(repeated)} stand there twice")
    frame = pd.DataFrame(rows, columns=header)
    lower = {name.lower() for name in header}
    return frame if lower & {"ticker", "symbol", "asset"} else frame.set_index(header[0])


def _is_number(cells: list[str]) -> bool:
    try:
        return all(not cell.strip() or float(cell) is not None for cell in cells)
    except ValueError:
        return False
