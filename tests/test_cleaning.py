"""The cleaning policy: what is repaired, what is only reported, and that each is said."""

import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.evaluation.data_quality import data_lines, data_quality, data_table, shown_columns
from quantflux_sb3.evaluation.plots import save
from quantflux_sb3.market import CleaningPolicy, MarketData, MarketQuery, load_market, read_market
from quantflux_sb3.market.calendars import sessions
from quantflux_sb3.market.cleaning import FILLED, PRICED, SUSPENDED, UNLISTED, clean
from quantflux_sb3.market.quality import find_outliers, longest_run

REPAIR = CleaningPolicy("repair", max_fill=2)
DATES, _, _ = sessions(["XNYS"], pd.Timestamp("2020-01-01"), pd.Timestamp("2020-12-31"))


@pytest.fixture
def closes() -> pd.DataFrame:
    steps = np.random.default_rng(5).normal(0.0003, 0.01, (len(DATES), 4))
    return pd.DataFrame(100.0 * np.exp(steps.cumsum(axis=0)), DATES, ["A", "B", "C", "I"])


def at(closes: pd.DataFrame, column: str, rows: slice | int, value: float) -> pd.DataFrame:
    changed = closes.copy()
    changed.iloc[rows, changed.columns.get_loc(column)] = value
    return changed


def test_clean_prices_stay_as_they_are(closes):
    cleaned = clean(closes, "I", ["XNYS"], REPAIR)
    pd.testing.assert_frame_equal(cleaned.closes, closes, check_freq=False)
    assert cleaned.steps == () and (cleaned.states == PRICED).all() and cleaned.states.shape == (len(DATES), 3)


def test_gaps_are_filled_forward_up_to_the_limit_and_then_suspended(closes):
    cleaned = clean(at(closes, "B", slice(50, 55), np.nan), "I", ["XNYS"], REPAIR)
    assert cleaned.closes["B"].iloc[50] == cleaned.closes["B"].iloc[51] == closes["B"].iloc[49]
    assert cleaned.closes["B"].iloc[52:55].isna().all() and cleaned.closes["B"].iloc[55] == closes["B"].iloc[55]
    assert cleaned.states[50:55, 1].tolist() == [FILLED, FILLED, SUSPENDED, SUSPENDED, SUSPENDED]
    assert cleaned.steps == (
        "missing prices were filled with the last price: B 2",
        "sessions without a price are suspensions: B 3",
    )


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_ever_filled_from_the_future(closes, seed):
    """Change every price after a row: what stands before it must not move."""
    rng = np.random.default_rng(seed)
    holes = closes.mask(rng.random(closes.shape) < 0.2)
    holes["I"] = closes["I"]
    row = int(rng.integers(20, 200))
    changed = holes.copy()
    changed.iloc[row:, :3] *= rng.uniform(0.5, 2.0, changed.iloc[row:, :3].shape)
    before, after = (clean(table, "I", ["XNYS"], REPAIR) for table in (holes, changed))
    start = int(DATES.get_loc(before.closes.index[0]))
    pd.testing.assert_frame_equal(before.closes.iloc[: row - start], after.closes.iloc[: row - start])
    assert not before.closes.iloc[row - start :].equals(after.closes.iloc[row - start :])


def test_late_listing_and_delisting_become_the_mask(closes):
    spoilt = at(at(closes, "A", slice(0, 40), np.nan), "C", slice(200, None), np.nan)
    cleaned = clean(spoilt, "I", ["XNYS"], REPAIR)
    assert (cleaned.states[:40, 0] == UNLISTED).all() and (cleaned.states[200:, 2] == UNLISTED).all()
    assert cleaned.steps == (f"A is not listed before {DATES[40].date()}", f"C is not listed after {DATES[199].date()}")
    market = MarketData.from_prices(cleaned.closes, "I", missing="mask")
    np.testing.assert_array_equal(market.status, np.where(cleaned.states[1:] == UNLISTED, -1, 1))


@pytest.mark.parametrize("max_fill", [-1, 10**12, 1.5, "3", True])
def test_max_fill_is_a_whole_number_of_sessions(max_fill, closes):
    for cleaning in ("refuse", "repair"):
        with pytest.raises(ValueError, match=r"`max_fill` must be a whole number from 0 to 10000 \[sessions\]; got"):
            load_market(prices=closes, cleaning=cleaning, max_fill=max_fill)


def test_short_gap_at_the_end_is_no_delisting(closes):
    cleaned = clean(at(closes, "C", slice(-2, None), np.nan), "I", ["XNYS"], REPAIR)
    assert cleaned.states[-2:, 2].tolist() == [FILLED, FILLED]


def test_zero_negative_and_infinite_prices_are_missing(closes):
    spoilt = at(at(at(closes, "A", 10, 0.0), "A", 20, -3.0), "B", 30, np.inf)
    cleaned = clean(spoilt, "I", ["XNYS"], REPAIR)
    assert cleaned.removed == {"A": 2, "B": 1}
    assert cleaned.steps[0] == "zero, negative or infinite prices were taken as missing: A 2, B 1"
    assert cleaned.closes["A"].iloc[10] == closes["A"].iloc[9] and cleaned.states[30, 1] == FILLED


def test_rows_in_disorder_are_sorted_and_repeated_ones_kept_once(closes):
    spoilt = pd.concat([closes.iloc[100:], closes.iloc[:101]])
    cleaned = clean(spoilt, "I", ["XNYS"], REPAIR)
    pd.testing.assert_frame_equal(cleaned.closes, closes, check_freq=False)
    assert cleaned.steps == (
        "the rows were not in the order of their dates and were sorted",
        "1 rows that stood there twice were dropped",
    )
    with pytest.raises(ValueError, match=f"two rows of different prices for {DATES[100].date()}"):
        clean(at(spoilt, "A", 0, 1.0), "I", ["XNYS"], REPAIR)


def test_times_with_a_zone_become_session_dates(closes):
    aware = closes.set_axis(closes.index.tz_localize("America/New_York") + pd.Timedelta(hours=16), axis=0)
    pd.testing.assert_frame_equal(clean(aware, "I", ["XNYS"], REPAIR).closes, closes, check_freq=False)


def test_days_are_the_sessions_of_the_exchange(closes):
    extra = pd.concat([closes, closes.iloc[[3]].set_axis([pd.Timestamp("2020-07-04")], axis=0)]).sort_index()
    cleaned = clean(extra.drop(DATES[60]), "I", ["XNYS"], REPAIR)
    np.testing.assert_array_equal(cleaned.closes.index, DATES)
    assert cleaned.steps[:2] == (
        "1 rows on days that are no session of XNYS were dropped, first 2020-07-04",
        f"1 sessions of XNYS have no row and were put in as missing, first {DATES[60].date()}",
    )
    assert (cleaned.states[60] == FILLED).all()


def test_exchanges_with_other_holidays_are_aligned_on_all_of_their_sessions():
    paris, _, _ = sessions(["XPAR"], DATES[0], DATES[-1])
    union, _, _ = sessions(["XNYS", "XPAR"], DATES[0], DATES[-1])
    rng = np.random.default_rng(0)
    closes = pd.DataFrame(
        {
            "A": pd.Series(rng.uniform(9, 11, len(DATES)), DATES),
            "B": pd.Series(rng.uniform(9, 11, len(DATES)), DATES),
            "C.PA": pd.Series(rng.uniform(9, 11, len(paris)), paris),
        }
    )
    cleaned = clean(closes, None, ["XNYS", "XPAR"], REPAIR)
    np.testing.assert_array_equal(cleaned.closes.index, union)
    closed = np.isin(union, DATES.difference(paris))
    assert closed.any() and (cleaned.states[closed, 2] == FILLED).all() and (cleaned.states[closed, 0] == PRICED).all()


def test_dates_that_are_not_sessions_at_all_are_taken_as_they_are(closes):
    weekly = closes.iloc[::5]
    cleaned = clean(weekly, "I", ["XNYS"], REPAIR)
    np.testing.assert_array_equal(cleaned.closes.index, weekly.index)
    assert "the dates are not the sessions of XNYS" in cleaned.steps[0]


def test_history_begins_with_the_benchmark_and_two_assets_and_ends_with_the_benchmark(closes):
    spoilt = at(at(closes, "I", slice(0, 7), np.nan), "I", slice(-20, None), np.nan)
    cleaned = clean(spoilt, "I", ["XNYS"], REPAIR)
    assert (cleaned.closes.index[0], cleaned.closes.index[-1]) == (DATES[7], DATES[-19])  # two sessions filled
    assert "rows in which the benchmark or all but one asset has no price" in cleaned.steps[0]
    late = at(at(closes, "A", slice(0, 30), np.nan), "B", slice(0, 40), np.nan)
    assert clean(late, "I", ["XNYS"], REPAIR).closes.index[0] == DATES[30]


def test_gap_of_the_benchmark_beyond_the_limit_is_refused(closes):
    with pytest.raises(ValueError, match=f"benchmark 'I' has no price for more than 2 sessions from {DATES[82].date()}"):
        clean(at(closes, "I", slice(80, 90), np.nan), "I", ["XNYS"], REPAIR)
    with pytest.raises(ValueError, match=r"no price at all of \['B'\]"):
        clean(closes.assign(B=np.nan), "I", ["XNYS"], REPAIR)


def test_policy_is_checked():
    with pytest.raises(ValueError, match="'refuse' or 'repair'; got 'guess'"):
        CleaningPolicy("guess")
    with pytest.raises(ValueError, match="max_fill"):
        CleaningPolicy(max_fill=-1)


def test_files_are_refused_or_repaired_as_asked(closes, tmp_path):
    path = tmp_path / "prices.csv"
    at(closes, "B", slice(50, 55), np.nan).to_csv(path)
    with pytest.raises(ValueError, match=f"NaN at 5 dates, first {DATES[50].date()}"):
        load_market(prices=path, benchmark="I")
    market = load_market(prices=path, benchmark="I", cleaning="repair", max_fill=2)
    assert (market.status == 0).sum() == 3 and market.status.min() == 0


def test_outliers_are_reported_with_a_hint_and_not_repaired(closes):
    closes.iloc[100, 0] *= 3.1  # a wrong price
    closes.iloc[150:, 1] *= 0.25  # a split of 4 to 1 that was not adjusted for
    closes.iloc[200:, 2] *= 1.45
    found = [(item.asset, item.date, item.hint.partition(":")[0]) for name in "ABC" for item in find_outliers(closes[name])]
    assert found == [
        ("A", str(DATES[100].date()), "undone the next day"),
        ("A", str(DATES[101].date()), ""),
        ("B", str(DATES[150].date()), "about 4 to 1"),
        ("C", str(DATES[200].date()), ""),
    ]
    assert find_outliers(closes["I"]) == []
    loaded = read_market(MarketQuery(prices=closes, benchmark="I"))
    np.testing.assert_allclose(loaded.market.returns, closes[list("ABC")].pct_change().to_numpy()[1:], atol=1e-12)
    assert any("2 daily moves look like errors and were left as they are, first A" in text for text in loaded.report.remarks)


def test_stale_runs_are_reported_and_not_repaired(closes):
    closes.iloc[100:115, 0] = 77.0
    loaded = read_market(MarketQuery(prices=closes, benchmark="I"))
    assert loaded.report.assets[0].longest_stale == 15
    assert any("unchanged closes for 10 sessions or more, left as they are: A (15)" in text for text in loaded.report.remarks)
    assert not loaded.market.returns[100:114, 0].any()


@pytest.mark.parametrize(
    ("values", "length"), [([1.0], 1), ([1, 1, 1], 3), ([1, 2, 3], 1), ([1, 2, 2, 3], 2), ([5, 5, 1, 5], 2)]
)
def test_longest_run(values, length):
    assert longest_run(np.array(values, dtype=float)) == length


def test_bundled_prices_pass_the_report(all_stocks):
    loaded = read_market(MarketQuery(tickers=all_stocks.assets))
    assert loaded.market is load_market(all_stocks.assets)
    report = loaded.report
    assert report.facts["benchmark_kind"] == "price" and report.facts["prices"] == "total return"
    assert len(report.assets) == 21 and all(item.prices == 8313 for item in report.assets)
    assert {item.asset for item in report.outliers if item.hint} == {"RRC"}  # of 1990, when its price moved in thirds


def test_picture_table_and_lines_of_the_report(closes, tmp_path):
    spoilt = at(at(at(closes, "A", slice(0, 40), np.nan), "B", slice(50, 62), np.nan), "C", 99, 0.0)
    loaded = read_market(MarketQuery(prices=spoilt, benchmark="I", cleaning="repair", max_fill=3))
    assert save(data_quality(loaded.report), tmp_path / "data.png").stat().st_size > 5_000
    assert set(shown_columns(loaded.report)) >= {"filled", "suspended", "unlisted", "removed"}
    assert data_table(loaded.report).row_count == 4
    lines = data_lines(loaded.report)
    assert "benchmark I: not known whether with dividends" in lines[0]
    content = loaded.report.to_dict()
    assert content["assets"][1]["filled"] == 3 and content["assets"][1]["suspended"] == 9
    assert any("zero, negative" in remark for remark in content["remarks"])
