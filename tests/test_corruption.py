"""
Random damage to files of prices: a clear error or a correct load, never a wrong number in silence.

What a damaged file says is read by a reference that shares no code with the package. Whatever the package loads must be what
the reference reads; what the reference refuses must be refused. ``QUANTFLUX_CORRUPTIONS=10000`` runs the full number.
"""

import io
import os
import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from quantflux_sb3.market import MarketData, load_prices_file

NUMBER = int(os.environ.get("QUANTFLUX_CORRUPTIONS", "400"))
TICKERS = ["AAPL", "JPM", "XOM", "^GSPC"]
JUNK = [
    "", "abc", "1,5", "-1", "0", "inf", "-inf", "NaN", "1e400", "0x10", "1_000", "\u0663", "\uff11", "12.5.1", "1e2", "+7.5",
    ".5", "5.", "1 2", "--", "TRUE", "$12", "12%", "2020-01-02", "null", '"', '"12.5"', " 12.5 ", "\t", "\r", "\n", "\0",
    "\u00a012",
]  # fmt: skip
#: Dates and prices of each ticker as a file says them; None: it says nothing that may be loaded.
Table = tuple[list[date], dict[str, list[float]]] | None


def make_table(rng: np.random.Generator, n_days: int = 12) -> pd.DataFrame:
    prices = np.round(100.0 * np.exp(rng.normal(0.0, 0.02, (n_days, len(TICKERS))).cumsum(axis=0)), 4)
    return pd.DataFrame(prices, pd.bdate_range("2020-01-01", periods=n_days, name="date"), TICKERS)


def parse_number(cell: object) -> float:
    text = str(cell).strip(" \t\n\r\x0b\x0c\u00a0\x1c\x1d\x1e\x1f\x85")
    if isinstance(cell, bool) or not text.isascii() or "_" in text or text.lower().lstrip("+-")[:1] in ("i", "n", "s", ""):
        raise ValueError(cell)
    value = float(Decimal(text))
    if not 0.0 < value < float("inf"):
        raise ValueError(cell)
    return value


def parse_date(cell: object) -> date:
    if isinstance(cell, datetime):
        return cell.date()
    text = str(cell).strip()
    if not text.isascii() or len(text) < 10:
        raise ValueError(cell)
    return datetime.fromisoformat(text).date()


def checked(dates: list[object], columns: dict[str, list[object]]) -> Table:
    try:
        days = [parse_date(cell) for cell in dates]
        prices = {name: [parse_number(cell) for cell in cells] for name, cells in columns.items()}
    except (ValueError, InvalidOperation, OverflowError):
        return None
    ascending = all(a < b for a, b in pairwise(days))
    return (days, prices) if ascending and len(prices) == len(columns) >= 2 else None


def cells_of(text: str) -> list[list[str]] | None:
    """CSV by hand, one character after the other; None for quotes that make no sense."""
    rows, row, cell, state = [], [], "", "start"
    for c in [*re.sub(r"\r\n?", "\n", text), "\n"]:
        if state == "quoted":
            cell, state = (cell, "closed") if c == '"' else (cell + c, state)
        elif state == "closed" and c == '"':
            cell, state = cell + c, "quoted"
        elif c == '"' and state == "start":
            state = "quoted"
        elif c in ",\n":
            row, cell, state = [*row, cell], "", "start"
            if c == "\n":
                rows, row = ([*rows, row] if row != [""] else rows), []
        elif state == "closed":
            return None
        else:
            cell, state = cell + c, "plain"
    return rows if state == "start" and not row else None


def reference_csv(content: bytes) -> Table:
    try:
        rows = cells_of(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None
    if not rows or len({len(row) for row in rows}) != 1:
        return None
    names = [name.strip() for name in rows[0][1:]]
    if len(set(names)) < len(names) or "" in names:
        return None
    return checked([row[0] for row in rows[1:]], {name: [row[i] for row in rows[1:]] for i, name in enumerate(names, 1)})


def reference_parquet(content: bytes) -> Table:
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read().to_pydict()
    except Exception:
        return None
    dates = next((name for name in table if name.lower() in ("date", "__index_level_0__")), None)
    if dates is None:
        dates = next(iter(table), None)
    return None if dates is None else checked(table.pop(dates), {name.strip(): cells for name, cells in table.items()})


def assert_says_the_same(path, reference: Table) -> MarketData | None:
    """Load a file, if it can be loaded. What does not work ends in a ValueError of one line."""
    try:
        market = load_prices_file(path)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        return None
    assert reference is not None, f"loaded what it should not: {path.read_bytes()!r}"
    dates, prices = reference
    assert market.dates.tolist() == dates[1:]
    assert list(market.assets) == list(prices)
    for i, values in enumerate(prices.values()):
        expected = [values[t] / values[t - 1] - 1.0 for t in range(1, len(values))]
        np.testing.assert_allclose(market.returns[:, i], expected, rtol=0, atol=1e-14)
    return market


def damage_text(rng: np.random.Generator, content: bytes) -> bytes:
    """One random accident: to a byte, a cell, a line, or the end of the file."""
    place = int(rng.integers(len(content)))
    lines = content.split(b"\n")
    line, other = rng.integers(len(lines), size=2)
    cells = lines[line].split(b",")
    kind = rng.integers(11)
    if kind == 0:
        return content[:place] + bytes([rng.integers(256)]) + content[place + 1 :]
    if kind == 1:
        return content[:place] + content[place + 1 :]
    if kind == 2:
        return content[:place] + bytes([rng.choice(list(b'0123456789.,;-+eE"\n\r\t x\0'))]) + content[place:]
    if kind == 3:
        return content[:place]
    if kind == 4:
        lines.insert(other, lines[line])
    elif kind == 5:
        del lines[line]
    elif kind == 6:
        lines[line], lines[other] = lines[other], lines[line]
    elif kind == 7:
        cells[rng.integers(len(cells))] = JUNK[rng.integers(len(JUNK))].encode()
        lines[line] = b",".join(cells)
    elif kind == 8:
        del cells[rng.integers(len(cells))]
        lines[line] = b",".join(cells)
    elif kind == 9:
        a, b = rng.integers(len(cells), size=2)
        cells[a], cells[b] = cells[b], cells[a]
        lines[line] = b",".join(cells)
    else:
        a, b = sorted(rng.integers(len(content), size=2))
        return content[:a] + content[b : b + rng.integers(1, 9)] + content[a:]
    return b"\n".join(lines)


def damage_values(rng: np.random.Generator, table: pd.DataFrame) -> pd.DataFrame:
    """A table that is whole as a file and wrong, or only unusual, in what it says."""
    row, column = int(rng.integers(len(table))), int(rng.integers(table.shape[1]))
    name, kind = table.columns[column], rng.integers(12)
    if kind <= 2:
        table.iloc[row, column] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -5.0, 1e-300, 1e300])
    elif kind == 3:
        table[name] = table[name].astype(str)
        table.iloc[row, column] = JUNK[rng.integers(len(JUNK))].replace("\0", "0")
    elif kind == 4:
        table[name] = table[name].astype("float32")
    elif kind == 5:
        table[name] = [Decimal(str(value)) for value in table[name]]
    elif kind == 6:
        table[name] = table[name].astype(int).astype(rng.choice(["int8", "int32", "int64"]))
    elif kind == 7:
        table = table.iloc[rng.permutation(len(table))]
    elif kind == 8:
        table = table.iloc[np.sort(np.append(np.arange(len(table)), row))]
    elif kind == 9:
        table = table.set_axis(table.index.tz_localize(rng.choice(["UTC", "Asia/Tokyo"])), axis=0)
    elif kind == 10:
        table[name] = table[name] > 100.0
    else:
        dates = table.index.strftime("%Y-%m-%d").tolist()
        dates[row] = rng.choice(["2020-01", "2020-13-01", "", "20200102", "2020-01-0", "01/02/2020", dates[row]])
        table = table.set_axis(pd.Index(dates, name="date"), axis=0)
    return table


def test_damaged_csv_files(tmp_path):
    path, loaded = tmp_path / "prices.csv", 0
    for number in range(NUMBER // 2):
        rng = np.random.default_rng([1, number])
        content = make_table(rng).to_csv().encode()
        for _ in range(rng.integers(1, 3)):
            content = damage_text(rng, content) if len(content) > 1 else content
        path.write_bytes(content)
        loaded += assert_says_the_same(path, reference_csv(content)) is not None
    assert loaded > 0.05 * NUMBER / 2  # else nothing is shown


def test_damaged_parquet_files(tmp_path):
    path, loaded = tmp_path / "prices.parquet", 0
    for number in range(NUMBER // 4):
        rng = np.random.default_rng([2, number])
        buffer = io.BytesIO()
        table = make_table(rng)
        table.to_parquet(buffer, write_page_checksum=True)
        content = bytearray(buffer.getvalue())
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            content[place] = rng.integers(256)
        if rng.random() < 0.1:
            del content[int(rng.integers(len(content))) :]
        path.write_bytes(content)
        market = assert_says_the_same(path, reference_parquet(bytes(content)))
        if market is not None:  # a name may have changed; with checksums no number can have
            loaded += 1
            np.testing.assert_array_equal(market.dates, table.index[1:])
            np.testing.assert_allclose(market.returns, table.pct_change().iloc[1:], rtol=0, atol=1e-14)
    assert loaded > 0.02 * NUMBER / 4


def test_wrong_and_unusual_values_in_parquet_files(tmp_path):
    path, loaded = tmp_path / "prices.parquet", 0
    for number in range(NUMBER // 4):
        rng = np.random.default_rng([3, number])
        damage_values(rng, make_table(rng)).to_parquet(path)
        loaded += assert_says_the_same(path, reference_parquet(path.read_bytes())) is not None
    assert loaded > 0.2 * NUMBER / 4


def test_whole_files_load(tmp_path):
    table = make_table(np.random.default_rng(0))
    table.to_csv(tmp_path / "prices.csv")
    table.to_parquet(tmp_path / "prices.parquet")
    assert assert_says_the_same(tmp_path / "prices.csv", reference_csv((tmp_path / "prices.csv").read_bytes()))
    assert assert_says_the_same(tmp_path / "prices.parquet", reference_parquet((tmp_path / "prices.parquet").read_bytes()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("2020-01-03", "2020-01"), "ISO dates"),
        (lambda text: text.replace("2020-01-03", "2020-01-32"), "2020-01-32|date that there is not"),
        (lambda text: text.rstrip("\n").rpartition(",")[0], "row 13 has 4 cells and the heading has 5"),
        (lambda text: text.replace(",JPM", ",JPM,JPM"), r"row 2 has 5 cells|stand there twice"),
        (lambda text: text.replace(".", ","), "cells and the heading has|not numeric"),
        (lambda text: text.replace("\n2020-01-06", "\0\n2020-01-06"), "zero byte"),
    ],
)
def test_what_pandas_would_have_read_somehow_is_refused(tmp_path, change, said):
    path = tmp_path / "prices.csv"
    path.write_text(change(make_table(np.random.default_rng(0)).to_csv()))
    with pytest.raises(ValueError, match=said):
        load_prices_file(path)
