"""Market data: what is refused and how, what is kept, where it comes from."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.market import (
    DEFAULT_TICKERS,
    MIN_SPLIT_DAYS,
    REGIONS,
    WARMUP_DAYS,
    DateSplits,
    MarketData,
    as_market,
    bundled_prices,
    detect_region,
    get_region,
    load_bundled,
    load_market,
    load_prices_file,
)


def put(prices: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    changed = prices.astype(object) if isinstance(value, str) else prices.copy()
    changed.iloc[row, changed.columns.get_loc(column)] = value
    return changed


def with_date(prices: pd.DataFrame, row: int, like: int) -> pd.DataFrame:
    dates = list(prices.index)
    dates[row] = dates[like]
    return prices.set_axis(pd.DatetimeIndex(dates))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: put(p, 7, "B", np.nan), r"NaN at 1 dates, first 2010-01-13 \(asset 'B'\)\. Drop or fill"),
        (lambda p: put(p, 7, "C", 0.0), r"zero or negative prices at 1 dates, first 2010-01-13 \(asset 'C'\)"),
        (lambda p: put(p, 7, "C", -3.0), r"zero or negative prices"),
        (lambda p: put(p, 7, "A", np.inf), r"infinite prices at 1 dates, first 2010-01-13 \(asset 'A'\)"),
        (lambda p: put(p, 7, "A", "12,5"), r"column 'A' is not numeric: found '12,5'"),
        (lambda p: with_date(p, 8, 7), r"1 duplicate dates, first 2010-01-13"),
        (lambda p: p.iloc[[0, 2, 1, *range(3, 300)]], r"not ascending: 2010-01-05 follows 2010-01-06"),
        (lambda p: p.set_axis(p.index.where(p.index != p.index[4])), r"empty date"),
        (lambda p: p[["A"]], r"at least 2 columns of assets; got \['A'\]"),
        (lambda p: p.iloc[:1], r"at least 2 dates; got 1"),
        (lambda p: p.set_axis(["A", "A", "B"], axis=1), r"duplicate columns: \['A'\]"),
        (lambda p: p.reset_index(drop=True), r"must hold dates; got numbers such as"),
        (lambda p: p.set_axis([f"day {i}" for i in range(300)]), r"must hold ISO dates such as 2012-12-31; got 'day 0'"),
        (lambda p: p.astype(complex), r"column 'A' is not numeric: it holds complex"),
        (lambda p: p > 100.0, r"column 'A' is not numeric"),
    ],
)
def test_unclean_prices_are_refused_with_place_and_remedy(prices, spoil, said):
    with pytest.raises(ValueError, match=said):
        MarketData.from_prices(spoil(prices))


def test_prices_must_be_a_table(prices):
    with pytest.raises(TypeError, match="pandas DataFrame"):
        MarketData.from_prices(prices.to_numpy())


def test_returns_are_simple_and_the_first_date_is_dropped(prices):
    market = MarketData.from_prices(prices)
    assert market.n_days == 299 and market.dates[0] == np.datetime64("2010-01-05")
    expected = [[prices.iloc[t, i] / prices.iloc[t - 1, i] - 1.0 for i in range(3)] for t in range(1, 300)]
    np.testing.assert_allclose(market.returns, expected, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(market.benchmark_returns, np.mean(expected, axis=1), rtol=1e-12, atol=1e-16)
    assert market.benchmark == "equal-weight index"


def test_a_column_can_be_the_benchmark_and_then_is_no_asset(prices):
    market = MarketData.from_prices(prices, "B")
    assert market.assets == ("A", "C") and market.benchmark == "B"
    np.testing.assert_allclose(market.benchmark_returns, prices["B"].pct_change().to_numpy()[1:], rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="'D' is no column"):
        MarketData.from_prices(prices, "D")


def test_benchmark_must_have_the_dates_of_the_assets(prices):
    benchmark = prices["A"].rename("index")
    with pytest.raises(ValueError, match=r"'index' has no price on 2 dates of the assets, first 2010-01-08"):
        MarketData.from_prices(prices, benchmark.drop(benchmark.index[[4, 9]]))
    longer = pd.concat([pd.Series([90.0], index=[prices.index[0] - pd.Timedelta(days=3)]), benchmark]).rename("index")
    np.testing.assert_array_equal(
        MarketData.from_prices(prices, longer).benchmark_returns, MarketData.from_prices(prices, benchmark).benchmark_returns
    )


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_dates_with_time_zone_keep_their_local_day(prices, zone):
    aware = prices.set_axis(prices.index.tz_localize(zone) + pd.Timedelta(hours=16))
    market = MarketData.from_prices(aware)
    np.testing.assert_array_equal(market.dates, MarketData.from_prices(prices).dates)


def test_file_with_time_zones_is_read_like_one_without(prices, tmp_path):
    """A file saved from yfinance holds New York midnights, whose offset changes with the season."""
    prices.to_csv(tmp_path / "plain.csv")
    prices.set_axis(prices.index.tz_localize("America/New_York")).to_csv(tmp_path / "aware.csv")
    plain, aware = (load_prices_file(tmp_path / name) for name in ("plain.csv", "aware.csv"))
    np.testing.assert_array_equal(plain.dates, aware.dates)
    assert plain.content_hash == aware.content_hash


def test_scaling_prices_changes_nothing(prices):
    market = MarketData.from_prices(prices)
    doubled = MarketData.from_prices(prices * np.array([2.0, 1024.0, 0.25]))  # powers of two are exact
    assert doubled.content_hash == market.content_hash
    scaled = MarketData.from_prices(prices * np.array([3.7, 1e4, 1e-3]))
    np.testing.assert_allclose(scaled.returns, market.returns, rtol=0, atol=1e-14)


def arrays(n_days=200, n_assets=3):
    rng = np.random.default_rng(0)
    dates = pd.bdate_range("2010-01-04", periods=n_days).to_numpy().astype("datetime64[D]")
    return dates, ("A", "B", "C")[:n_assets], rng.normal(0, 0.01, (n_days, n_assets)), rng.normal(0, 0.01, n_days)


@pytest.mark.parametrize("name", ["dates", "returns", "benchmark_returns", "risk_free"])
def test_arrays_are_read_only(bundled, name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(bundled, name)[0] = getattr(bundled, name)[1]


def test_exogenous_arrays_are_read_only(market):
    for values in (*market.asset_features.values(), *market.market_features.values()):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0.0


def test_a_market_does_not_share_memory_with_what_it_was_built_from():
    dates, assets, returns, benchmark = arrays()
    views, first = [array[:] for array in (returns, benchmark)], returns[0].copy()
    market = MarketData(dates, assets, returns, benchmark)
    assert returns.flags.writeable and benchmark.flags.writeable and dates.flags.writeable
    for view in views:
        view[0] = 0.5
    np.testing.assert_array_equal(market.returns[0], first)


def test_equal_content_has_equal_hash_and_any_change_another():
    dates, assets, returns, benchmark = arrays()

    def content_hash(**kwargs):
        fields = dict(dates=dates, assets=assets, returns=returns, benchmark_returns=benchmark)
        return MarketData(**{**fields, **kwargs}).content_hash

    same = content_hash()
    assert content_hash(returns=returns.copy(), source="elsewhere") == same
    other = returns.copy()
    other[17, 1] += 1e-12
    changed = [
        content_hash(returns=other), content_hash(benchmark_returns=benchmark * 1.0001), content_hash(risk_free=1e-5),
        content_hash(assets=("A", "B", "D")), content_hash(dates=dates + np.timedelta64(1, "D")),
        content_hash(market_features={"mood": benchmark}), content_hash(market_features={"temper": benchmark}),
        content_hash(asset_features={"signal": returns}), content_hash(benchmark="index"),
    ]  # fmt: skip
    assert len({same, *changed}) == len(changed) + 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(assets=("A", "B", "B")), "unique"),
        (dict(assets=("A", "B")), r"`returns` has shape \(200, 3\); expected \(200, 2\)"),
        (dict(benchmark_returns=np.zeros(9)), r"`benchmark_returns` has shape \(9,\)"),
        (dict(returns=np.full((200, 3), np.nan)), "finite and >= -1"),
        (dict(returns=np.full((200, 3), -1.5)), "finite and >= -1"),
        (dict(dates=arrays()[0][::-1]), "unique and ascending"),
        (dict(asset_features={"signal": np.zeros(200)}), "'signal' has shape"),
        (dict(market_features={"mood": np.full(200, np.inf)}), "'mood' has NaN or infinite"),
        (dict(risk_free=np.nan), "risk_free"),
        (dict(risk_free=np.zeros(9)), "risk_free"),
        (dict(risk_free=5.0), "`risk_free` must be simple returns per row of at most 1; got 5"),
        (dict(returns=np.full((200, 3), 1e200)), r"`returns` .* at most 1e\+06; got 1e\+200"),
        (dict(status=np.full((200, 3), 257)), "-1, 0 or 1 for every date and asset; got 257"),
        (dict(periods_per_year=0), "`periods_per_year` must be a whole number > 0, such as 252"),
        (dict(periods_per_year="x"), "`periods_per_year`"),
        (dict(periods_per_year=12.5), "`periods_per_year`"),
    ],
)
def test_bad_arrays_are_refused(fields, said):
    dates, assets, returns, benchmark = arrays()
    good = dict(dates=dates, assets=assets, returns=returns, benchmark_returns=benchmark)
    with pytest.raises(ValueError, match=said):
        MarketData(**{**good, **fields})


def test_splits_must_be_splits(prices):
    with pytest.raises(TypeError, match="`splits` must be DateSplits"):
        MarketData.from_prices(prices, splits=("2016-01-01", "2017-01-01"))


@pytest.mark.parametrize("fields", [dict(tickers=[1, 2]), dict(region=5), dict(benchmark=3), dict(rates=pd.Series([1.0]))])
def test_settings_of_the_wrong_type_are_refused(fields, prices):
    with pytest.raises(TypeError, match=f"`{next(iter(fields))}` must be"):
        load_market(prices=prices, **fields)


def test_bad_returns_are_reported_with_their_date():
    dates, assets, returns, benchmark = arrays()
    returns[30, 2] = np.nan
    with pytest.raises(ValueError, match=str(dates[30])):
        MarketData(dates, assets, returns, benchmark)


def test_splits_are_chronological_and_cover_every_day_once(bundled, market):
    for one in (bundled, market):
        bounds = [one.splits.rows(split, one.dates) for split in ("train", "validation", "test")]
        assert [bounds[0][1], bounds[1][1]] == [bounds[1][0], bounds[2][0]]
        assert (bounds[0][0], bounds[2][1]) == (0, one.n_days) == one.splits.rows("all", one.dates)


def test_default_splits_are_the_documented_years(bundled):
    bounds = {split: bundled.rows(split) for split in ("train", "validation", "test")}
    first = {split: str(bundled.dates[start]) for split, (start, _) in bounds.items()}
    last = {split: str(bundled.dates[stop - 1]) for split, (_, stop) in bounds.items()}
    assert (last["train"], first["validation"]) == ("2012-12-31", "2013-01-02")
    assert (last["validation"], first["test"], last["test"]) == ("2015-12-31", "2016-01-04", "2022-12-28")
    assert bounds["train"][0] == WARMUP_DAYS + 1


def test_fractions_split_any_history_by_its_rows():
    dates = pd.bdate_range("2000-01-03", periods=1001).to_numpy().astype("datetime64[D]")
    splits = DateSplits.by_fraction(dates)
    days = [stop - start for start, stop in (splits.rows(name, dates) for name in ("train", "validation", "test"))]
    np.testing.assert_allclose(days, [701, 100, 200], atol=1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("2015-12-31", "2012-12-31"), "train_end must lie before validation_end"),
        (("2015-12-31", "2015-12-31"), "train_end must lie before validation_end"),
        (("yesterday", "2012-12-31"), "ISO dates"),
    ],
)
def test_bad_split_dates_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        DateSplits(*fields)


def test_unknown_and_short_splits_are_refused(bundled, market):
    with pytest.raises(ValueError, match=r"Unknown split 'holdout'; expected one of \['all', 'test', 'train', 'validation'\]"):
        bundled.rows("holdout")
    short = market.window(0, WARMUP_DAYS + 1 + MIN_SPLIT_DAYS - 1)
    with pytest.raises(ValueError, match="'all' has 20 usable days after 128 days of warm-up; at least 21"):
        short.rows("all")
    assert market.window(0, WARMUP_DAYS + 1 + MIN_SPLIT_DAYS).rows("all") == (129, 150)


def test_two_prices_are_too_few_and_the_text_says_so(prices):
    """There is nothing to split in one return; the dates of the splits are not the user's fault."""
    with pytest.raises(ValueError, match="at least"):
        MarketData.from_prices(prices.iloc[:2])


def test_until_ends_with_its_split(bundled):
    train = bundled.until("train")
    assert str(train.dates[-1]) == "2012-12-31" and train.n_days == bundled.rows("train")[1]
    np.testing.assert_array_equal(train.returns, bundled.returns[: train.n_days])
    assert train.splits == bundled.splits


def test_window_keeps_everything_but_the_other_days(market):
    part = market.window(50, 250)
    assert (part.benchmark, part.splits, part.assets) == (market.benchmark, market.splits, market.assets)
    for name in ("dates", "returns", "benchmark_returns", "risk_free"):
        np.testing.assert_array_equal(getattr(part, name), getattr(market, name)[50:250])
    np.testing.assert_array_equal(part.asset_features["signal"], market.asset_features["signal"][50:250])
    np.testing.assert_array_equal(part.market_features["mood"], market.market_features["mood"][50:250])


def test_pickle_keeps_the_content(market):
    assert pickle.loads(pickle.dumps(market)).content_hash == market.content_hash


@pytest.mark.parametrize("region", REGIONS.values(), ids=lambda region: region.name)
def test_every_row_of_the_catalogue_is_recognised(region):
    for suffix in region.suffixes or ("",):
        assert detect_region([f"ABC{suffix}", f"xyz{suffix.lower()}"]) is region
    assert detect_region(benchmark=region.benchmark) is region
    assert get_region(region.name.upper()) is region
    assert len(region.currency) == 3 and 1e-4 <= region.cost <= 2e-3


def test_the_catalogue_has_no_row_twice():
    for values in (
        [region.benchmark for region in REGIONS.values()],
        [suffix for region in REGIONS.values() for suffix in region.suffixes],
    ):
        assert len(set(values)) == len(values)


def test_tickers_tell_more_than_the_benchmark_and_nothing_means_us():
    assert detect_region(["RELIANCE.NS"], benchmark="^GSPC").name == "India"
    assert detect_region().name == detect_region(benchmark="^UNKNOWN").name == "US"
    assert detect_region(["BRK.B", "AAPL"]).name == "US"


def test_euro_countries_mix_and_other_regions_do_not():
    assert detect_region(["SAP.DE", "MC.PA"]).name == detect_region(["ENI.MI", "ASML.AS"]).name == "Eurozone"
    with pytest.raises(ValueError, match=r"several regions, \['India', 'US'\]"):
        detect_region(["AAPL", "TCS.NS"])
    with pytest.raises(ValueError, match="several regions"):
        detect_region(["SAP.DE", "VOD.L"])
    with pytest.raises(ValueError, match="Unknown region 'Mars'; expected one of"):
        get_region("Mars")


def test_bundled_set_is_real_and_shared():
    stocks, index = bundled_prices()
    assert stocks.shape[1] == 20 and len(index.loc[stocks.index]) == len(stocks)
    assert load_bundled() is load_bundled() is load_market() is as_market(None)
    assert load_bundled().assets == DEFAULT_TICKERS
    assert len(load_bundled().caveats) == 2 and not load_bundled().synthetic
    np.testing.assert_allclose(load_bundled().returns[0, 0], stocks["AAPL"].iloc[1] / stocks["AAPL"].iloc[0] - 1, rtol=1e-12)


def test_bundled_set_equals_what_skfolio_loads():
    from skfolio.datasets import load_sp500_dataset, load_sp500_index

    stocks, index = bundled_prices()
    pd.testing.assert_frame_equal(stocks, load_sp500_dataset(), check_exact=True)
    pd.testing.assert_series_equal(index, load_sp500_index()["SP500"], check_exact=True)


def test_bundled_set_is_read_without_importing_skfolio():
    code = "import sys; from quantflux_sb3.market import load_bundled; load_bundled(); print('skfolio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("benchmark", [None, "SP500", "^GSPC"])
def test_bundled_tickers_need_no_network(benchmark):
    market = load_market(["KO", "PEP", "GE"], benchmark)
    assert market.assets == ("KO", "PEP", "GE") and market.benchmark == "SP500"
    assert market.source == "skfolio S&P 500 set"


def test_part_of_the_bundled_years_is_split_by_fraction():
    market = load_market(["KO", "PEP"], start="2001-01-01", end="2005-12-30", offline=True)
    assert str(market.dates[0]) == "2001-01-03" and str(market.dates[-1]) == "2005-12-30"
    assert market.splits != DateSplits() and market.rows("test")[1] == market.n_days


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        (dict(tickers=["AAPL", "FOO"]), r"Unknown ticker\(s\) \['FOO'\] in the bundled set; it has \['AAPL'"),
        (dict(tickers=["AAPL", "KO"], benchmark="^FTSE"), r"no benchmark '\^FTSE'"),
        (dict(start="2030-01-01"), "the data spans 1990-01-02 to 2022-12-28"),
        (dict(start="2012-13-45"), "'2012-13-45' is no date"),
        (dict(end="soon"), "'soon' is no date"),
        (dict(tickers=["AAPL"]), "at least 2"),
        (dict(tickers=["AAPL", "AAPL"]), "duplicate"),
        (dict(benchmark=""), "`benchmark` must name an index"),
        (dict(adjust="splits"), "adjusted for dividends and cannot be had for splits only"),
        (dict(tickers=["KO", "PEP"], source="bundled", adjust="splits"), "adjusted for dividends"),
        (dict(prices="nowhere.csv"), "no prices file 'nowhere.csv'"),
    ],
)
def test_what_cannot_be_had_offline_is_refused(kwargs, said):
    with pytest.raises(ValueError, match=said):
        load_market(**kwargs, offline=True)


def test_price_files_are_routed_and_cut(prices, tmp_path):
    path = tmp_path / "mine.csv"
    prices.to_csv(path)
    whole = load_market(prices=path)
    assert whole.assets == ("A", "B", "C") and whole.source == "mine.csv"
    np.testing.assert_allclose(whole.returns, MarketData.from_prices(prices).returns, rtol=0, atol=1e-14)
    part = load_market(["A", "C"], "B", "2010-03-01", "2010-06-30", prices=path)
    assert part.assets == ("A", "C") and part.benchmark == "B"
    assert str(part.dates[0]) == "2010-03-02" and str(part.dates[-1]) == "2010-06-30"
    with pytest.raises(ValueError, match=r"Unknown ticker\(s\) \['Z'\].*its columns are \['A', 'B', 'C'\]"):
        load_market(["A", "Z"], prices=path)
    for table in (path, prices):
        with pytest.raises(ValueError, match=r"Unknown benchmark 'Z' in .*its columns are \['A', 'B', 'C'\]"):
            load_market(prices=table, benchmark="Z")


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "cannot be read|no rows"), ("date,A,B\n", "no rows"), ("date,A,B\n2010-01-04,1,2\n2010-01-05,1,\n", "NaN")],
)
def test_broken_files_are_refused(tmp_path, content, said):
    path = tmp_path / "broken.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        load_prices_file(path)


@pytest.mark.parametrize("value", [5, np.ones((300, 3)), {"A": [1.0]}])
def test_as_market_says_what_it_takes(value):
    with pytest.raises(TypeError, match="must be MarketData, a DataFrame of prices or a path"):
        as_market(value)


def test_real_returns_are_plausible(all_stocks):
    """A guard against a wrong column or a shifted index in the data: the figures of the documented set."""
    assert (all_stocks.n_assets, str(all_stocks.dates[0])) == (20, "1990-01-03")
    volatility = all_stocks.benchmark_returns.std() * 252**0.5
    assert 0.17 < volatility < 0.20
    correlation = np.corrcoef(all_stocks.benchmark_returns, all_stocks.returns.mean(axis=1))[0, 1]
    assert correlation > 0.9
