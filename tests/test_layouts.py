"""Files and tables of prices in every layout that people keep them in: the same market from each."""

import io

import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.market import MarketData, MarketQuery, as_market, load_market, load_prices_file, read_market

FIELDS = ("Adj Close", "Close", "High", "Low", "Open", "Volume")


def ohlcv(prices: pd.DataFrame) -> pd.DataFrame:
    """As yfinance gives it without auto_adjust: the adjusted closes are the prices, the closes are twice as high."""
    factors = {"Adj Close": 1.0, "Close": 2.0, "High": 2.1, "Low": 1.9, "Open": 2.0, "Volume": 10.0}
    table = pd.concat({field: prices * factor for field, factor in factors.items()}, axis=1)
    return table.rename_axis(columns=["Price", "Ticker"], index="Date")


def long(prices: pd.DataFrame, **columns: str) -> pd.DataFrame:
    names = {"date": "date", "ticker": "ticker", "close": "close", **columns}
    table = prices.rename_axis(index="date", columns="ticker").stack().rename("close").reset_index()
    return table.rename(columns=names)


LAYOUTS = {
    "wide": lambda prices: prices,
    "wide with a date column": lambda prices: prices.rename_axis(index="Date").reset_index(),
    "OHLCV field first": ohlcv,
    "OHLCV ticker first": lambda prices: ohlcv(prices).swaplevel(axis=1).sort_index(axis=1),
    "OHLCV flat names": lambda prices: ohlcv(prices).pipe(
        lambda table: table.set_axis([f"{ticker}_{field}" for field, ticker in table.columns], axis=1)
    ),
    "long": long,
    "long with an index of both": lambda prices: long(prices).set_index(["date", "ticker"]),
    "long OHLCV": lambda prices: long(prices, close="Adj Close").assign(Close=lambda t: 2.0 * t["Adj Close"], Volume=1),
    "long with other names": lambda prices: long(prices, date="Timestamp", ticker="Symbol", close="price").sample(
        frac=1.0, random_state=0
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_frame_is_the_same_market(layout, prices):
    market = as_market(LAYOUTS[layout](prices))
    assert market.assets == ("A", "B", "C") or set(market.assets) == {"A", "B", "C"}
    order = [market.assets.index(name) for name in "ABC"]
    np.testing.assert_allclose(market.returns[:, order], MarketData.from_prices(prices).returns, rtol=0, atol=1e-12)
    assert market.asset_kind == ("total return" if "OHLCV" in layout else "unknown")


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_file_is_the_same_market(layout, suffix, prices, tmp_path):
    table, path = LAYOUTS[layout](prices), tmp_path / f"prices.{suffix}"
    plain = isinstance(table.index, pd.RangeIndex) or (table.index.names == [None] and "long" in layout)
    if suffix == "parquet":
        table.to_parquet(path, index=not plain)
    else:
        table.to_csv(path, index=not plain)
    market = load_prices_file(path)
    order = [market.assets.index(name) for name in "ABC"]
    np.testing.assert_allclose(market.returns[:, order], MarketData.from_prices(prices).returns, rtol=0, atol=1e-12)


def test_closes_that_are_adjusted_for_splits_only_can_be_asked_for(prices):
    table = ohlcv(prices)
    table.iloc[100:, table.columns.get_level_values(0) == "Close"] *= 1.5
    np.testing.assert_allclose(as_market(table).returns[99], prices.pct_change().iloc[100], rtol=1e-9)
    plain = load_market(prices=table, adjust="splits")
    np.testing.assert_allclose(plain.returns[99] + 1.0, 1.5 * (prices.pct_change().iloc[100] + 1.0), rtol=1e-9)
    assert plain.asset_kind == "unknown"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date,Open,High,Low,Close\n2020-01-02,1,2,3,4\n2020-01-03,1,2,3,4\n", "those of one asset.*add a column 'ticker'"),
        ("date,ticker,open\n2020-01-02,A,1\n", "no column of closes; expected one of"),
        ("date,ticker,close\n2020-01-02,A,1\n2020-01-02,A,2\n2020-01-02,B,2\n", "two prices of 'A' on 2020-01-02"),
        ("date,ticker,close\n2020-01-02,,1\n", "1 rows have no ticker"),
        ("date,A,\n2020-01-02,1,2\n", "column 3 has no name"),
        ("date,A,B\n2020-01-02,1\n", "row 2 has 2 cells and the heading has 3"),
        ('date,A,B\n2020-01-02,"1,2\n', "cannot be read"),
        ("date;A;B\n2020-01-02;1,5;2,5\n2020-01-03;1,6;2,6\n", "'A' is not numeric: found '1,5' on 2020-01-02"),
        ("date,A,B\n20200102,1,2\n20200103,1,2\n20200106,1,2\n", "ISO dates such as 2012-12-31; got '20200102'"),
    ],
)
def test_tables_that_are_none_are_refused_with_the_reason(text, said, tmp_path):
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        load_prices_file(path)


def test_semicolons_and_tabs_separate_too(prices, tmp_path):
    for separator in ";\t":
        prices.to_csv(tmp_path / "prices.csv", sep=separator)
        assert load_prices_file(tmp_path / "prices.csv").content_hash == MarketData.from_prices(prices).content_hash


def test_numbers_are_read_to_the_last_bit(tmp_path):
    """pandas' fast parser is off by one unit in the last place now and then."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform(1.0, 1000.0, (400, 3)), pd.bdate_range("2020-01-01", periods=400), list("ABC"))
    table.to_csv(tmp_path / "prices.csv")
    assert load_prices_file(tmp_path / "prices.csv").content_hash == MarketData.from_prices(table).content_hash


def test_parquet_page_whose_checksum_is_wrong_is_refused(prices, tmp_path):
    buffer = io.BytesIO()
    prices.to_parquet(buffer, compression=None, use_dictionary=False, write_page_checksum=True)
    content = bytearray(buffer.getvalue())
    place = bytes(content).index(prices["B"].to_numpy().tobytes()[:64])
    content[place + 6] ^= 1  # one bit of the first price
    (tmp_path / "prices.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read as a table of prices: .*CRC"):
        load_prices_file(tmp_path / "prices.parquet")


def test_report_on_a_file_says_where_it_came_from(prices, tmp_path):
    prices.to_csv(tmp_path / "mine.csv")
    loaded = read_market(MarketQuery(prices=tmp_path / "mine.csv", benchmark="B"))
    assert loaded.report.facts["source"] == "mine.csv" and loaded.report.facts["prices"] == "unknown"
    assert [item.asset for item in loaded.report.assets] == ["A", "C", "B"]
    assert loaded.market.benchmark_label == "B (not known whether with dividends)"


def test_only_daily_prices_are_loaded_and_the_year_is_read_from_the_dates(prices):
    assert load_market(prices=prices).periods_per_year == 252
    every_day = prices.set_axis(pd.date_range("2010-01-04", periods=len(prices)), axis=0)
    assert load_market(prices=every_day).periods_per_year == 365
    for thin, said in (
        (prices.resample("W-FRI").last(), "7 days apart"),
        (prices.resample("ME").last(), "days apart"),
        (prices[prices.index.dayofweek < 3], "rows a year .*expected daily prices"),
        (prices.drop(prices.index[50:250]), "rows a year .*expected daily prices"),
    ):
        with pytest.raises(ValueError, match=said):
            load_market(prices=thin)


def flat(prices: pd.DataFrame) -> pd.DataFrame:
    return LAYOUTS["OHLCV flat names"](prices)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: flat(p).assign(INDEX=p["A"]), r"\['INDEX'\] are no field of a ticker .*--benchmark"),
        (lambda p: flat(p).assign(A_VWAP=p["A"]), r"\['A_VWAP'\] are no field of a ticker"),
        (lambda p: p.assign(Volume=10.0), "'Volume' has the name of a field of prices"),
        (lambda p: p.set_axis(["A", "A ", "B"], axis=1), r"\['A'\] stand there twice"),
        (lambda p: p.set_axis([1, "1", "B"], axis=1), r"\['1'\] stand there twice"),
        (lambda p: ohlcv(p).rename(columns={"B": "A "}, level=1), r"\['A'\] stand there twice"),
    ],
)
def test_columns_that_would_become_other_assets_are_refused(spoil, said, prices):
    with pytest.raises(ValueError, match=said):
        load_market(prices=spoil(prices))


def test_a_named_benchmark_may_stand_plain_beside_flat_ohlcv(prices):
    market = load_market(prices=flat(prices).assign(INDEX=3.0 * prices["C"]), benchmark="INDEX")
    assert set(market.assets) == {"A", "B", "C"} and market.benchmark == "INDEX"
    np.testing.assert_allclose(market.benchmark_returns, prices["C"].pct_change().iloc[1:], rtol=0, atol=1e-12)
    assert load_market(prices=prices.set_axis(["Open Text", "LOW", "HIGH"], axis=1)).assets == ("Open Text", "LOW", "HIGH")


@pytest.mark.parametrize("cleaning", ["refuse", "repair"])
@pytest.mark.parametrize("layout", ["wide", "long", "csv"])
def test_utc_times_that_shift_the_session_are_refused(layout, cleaning, prices, tmp_path):
    tokyo = prices.tz_localize("Asia/Tokyo")
    utc = tokyo.tz_convert("UTC")
    table = {"wide": utc, "long": long(utc), "csv": tmp_path / "utc.csv"}[layout]
    if layout == "csv":
        utc.to_csv(table)
    with pytest.raises(ValueError, match=r"have a time of day, first 2010-01-03 15:00:00\+00:00.*date of each session"):
        load_market(prices=table, cleaning=cleaning)
    assert load_market(prices=tokyo, cleaning=cleaning).dates[0] == np.datetime64("2010-01-05")


def test_local_times_of_day_are_dropped_by_repair_alone(prices):
    late = prices.set_axis(prices.index.tz_localize("America/New_York") + pd.Timedelta(hours=16), axis=0)
    with pytest.raises(ValueError, match="have a time of day"):
        load_market(prices=late)
    np.testing.assert_array_equal(load_market(prices=late, cleaning="repair").dates, MarketData.from_prices(prices).dates)


def test_columns_with_blanks_or_the_names_of_headings_are_assets_like_others(prices, tmp_path):
    table = prices.assign(D=prices["A"] * 2.0).set_axis(["S&P 500", "Deutsche Bank", "TIME", "DAY"], axis=1)
    table.to_csv(tmp_path / "prices.csv")
    for given in (table, tmp_path / "prices.csv"):
        assert load_market(prices=given).assets == ("S&P 500", "Deutsche Bank", "TIME", "DAY")
        market = load_market(["Deutsche Bank", "TIME"], "S&P 500", prices=given)
        assert market.assets == ("Deutsche Bank", "TIME") and market.benchmark == "S&P 500"


@pytest.mark.parametrize(
    ("name", "said"),
    [("OPEN", "'OPEN' has the name of a field of prices, .*rename it"), ("ASSET", "'ASSET' is taken for tickers; rename it")],
)
def test_a_ticker_that_is_a_heading_is_named_in_the_error(name, said, prices):
    with pytest.raises(ValueError, match=said):
        load_market(prices=prices.rename(columns={"B": name}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("date,A,B".encode("utf-16"), "it is text in UTF-16; save it as CSV"),
        (b"PK\x03\x04rest", "a ZIP archive or an Excel workbook; save it as CSV"),
        (b"\x1f\x8b\x08rest", "gzipped \\(its name must then end in .gz\\)"),
        (b"date,A,B\n\n2020-01-02,1\n", "row 3 has 2 cells"),
    ],
)
def test_files_of_other_kinds_are_named(content, said, tmp_path):
    (tmp_path / "prices.csv").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        load_prices_file(tmp_path / "prices.csv")
