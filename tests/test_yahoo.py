"""The real yfinance against a local server that speaks Yahoo's protocol: a correct frame or one line."""

import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yahoo_server
from yahoo_server import YahooServer, adjust, make_history, yfinance_at

from quantflux_sb3.cli import main
from quantflux_sb3.market import DataRequest, MarketQuery, PriceCache, load_yahoo, read_market
from quantflux_sb3.market import yahoo as yahoo_module
from quantflux_sb3.market.request import NoPricesError
from quantflux_sb3.market.yahoo import YahooSource, field_first
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.settings import Settings

SIX = ("AAPL", "MSFT", "AMZN", "GOOGL", "JPM", "XOM")
SEED = DataRequest(SIX, "^GSPC", "2010-01-01", "2024-12-31")
SHORT = DataRequest(SIX, "^GSPC", "2023-01-01", "2024-12-31")


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTFLUX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(yahoo_module, "PAUSE", 0.01)
    running = YahooServer()
    with yfinance_at(running.port, str(tmp_path)):
        yield running
    running.close()


@pytest.fixture
def source():
    return YahooSource(timeout=5.0, attempts=3, pause=0.01)


def expected(server: YahooServer, request: DataRequest, field: str = "adjclose") -> pd.DataFrame:
    """What the server holds, without any of the code under test."""
    columns = {symbol: server.history(symbol)[field] for symbol in request.symbols}
    return pd.DataFrame(columns).loc[request.start : request.end]


def assert_same(closes: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert list(closes.columns) == list(wanted.columns) and closes.index.tz is None
    np.testing.assert_array_equal(closes.index, wanted.index)
    np.testing.assert_allclose(closes.to_numpy(), wanted.to_numpy(), rtol=1e-12)


def test_one_batched_call_gives_the_frame_with_both_ends(server, source):
    fetched = source.fetch(SEED)
    assert_same(fetched.closes, expected(server, SEED))
    assert fetched.adjusted == "dividends"
    assert sorted(symbol for symbol, _ in server.asked) == sorted(SEED.symbols)  # one question each
    assert str(fetched.closes.index[-1].date()) == "2024-12-31"


def test_prices_without_dividends_are_the_closes(server, source):
    fetched = source.fetch(DataRequest(SIX, "^GSPC", "2023-01-01", "2024-12-31", adjust="splits"))
    assert_same(fetched.closes, expected(server, SHORT, "close"))
    assert fetched.adjusted == "splits"


@pytest.mark.parametrize("fault", ["429", "500", "cut"])
def test_faults_that_pass_are_waited_for_and_only_the_rest_is_asked_again(server, source, fault):
    # yfinance itself asks once more after an error status; two answers keep one symbol back for one attempt.
    server.faults = [fault] * (1 if fault == "cut" else 4)
    assert_same(source.fetch(SHORT).closes, expected(server, SHORT))
    assert len(server.asked) < 2 * len(SHORT.symbols)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("429", r"3 attempts with 'too many requests' \(HTTP 429\) for \['AAPL', .*--offline"),
        ("500", r"could not be reached in 3 attempts.*--offline"),
        ("cut", r"could not be reached in 3 attempts.*curl: \(18\)"),
        ("empty", r"no prices of \['AAPL', 'MSFT', 'AMZN', 'GOOGL', 'JPM', 'XOM', '\^GSPC'\] from 2023-01-01 to 2024-12-31"),
    ],
)
def test_faults_that_stay_end_in_one_line(server, source, fault, said):
    server.always = fault
    with pytest.raises(ValueError, match=said) as caught:
        source.fetch(SHORT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("fault", "said"), [("429", "HTTP 429"), ("500", "could not be reached"), ("cut", "could not be")])
def test_faults_from_the_first_question_on(server, source, fault, said):
    server.strict, server.always = True, fault
    with pytest.raises(ValueError, match=said):
        source.fetch(SHORT)
    server.always, server.faults = "", [fault] * 2
    assert_same(source.fetch(SHORT).closes, expected(server, SHORT))


def test_time_out_ends_in_one_line(server):
    server.always = "hang"
    with pytest.raises(ValueError, match=r"could not be reached in 2 attempts.*timed out"):
        YahooSource(timeout=0.2, attempts=2, pause=0.01).fetch(SHORT)


def test_time_out_that_passes_is_waited_for(server):
    server.faults = ["hang"]
    assert_same(YahooSource(timeout=0.5, attempts=2, pause=0.01).fetch(SHORT).closes, expected(server, SHORT))


def test_no_server_at_all_ends_in_one_line(tmp_path):
    with socket.socket() as nobody:  # bound and not listening: refused, and no other test's server can get the port
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with yfinance_at(port, str(tmp_path)), pytest.raises(ValueError, match="could not be reached in 2 attempts"):
            YahooSource(timeout=1.0, attempts=2, pause=0.01).fetch(SHORT)


def test_one_unknown_ticker_of_six_is_named_and_not_dropped(server, source):
    server.unknown = {"XOM"}
    with pytest.raises(
        NoPricesError, match=r"no prices of \['XOM'\] from .*; it has those of the other 6\. Check the symbols"
    ):
        source.fetch(SHORT)


def test_pauses_double(server, monkeypatch):
    pauses = []
    monkeypatch.setattr(yahoo_module, "sleep", pauses.append)
    server.always = "429"
    with pytest.raises(ValueError, match="4 attempts"):
        YahooSource(timeout=5.0, attempts=4, pause=1.5).fetch(SHORT)
    assert pauses == [1.5, 3.0, 6.0]


def test_dividends_without_adjusted_closes_are_refused(server, source):
    server.with_adjclose = False
    with pytest.raises(ValueError, match=r"names dividends of \['AAPL'.*--adjust splits"):
        source.fetch(SHORT)


def test_a_split_leaves_no_jump(server, source):
    """Yahoo's closes are adjusted for splits; the split itself is an event beside them."""
    history = make_history("AAPL")
    history.loc["2024-06-10", "split"] = 10.0
    server.histories["AAPL"] = history
    closes = source.fetch(SHORT).closes
    assert_same(closes, expected(server, SHORT))
    assert closes["AAPL"].pct_change().abs().max() < 0.1


def test_missing_days_are_filled_up_to_the_limit_and_said(server):
    history = make_history("JPM")
    session = history.index.get_loc("2024-03-04")
    history.iloc[session : session + 2, history.columns.get_loc("close")] = np.nan  # filled
    history.iloc[session + 40 : session + 50, history.columns.get_loc("close")] = np.nan  # beyond the limit
    server.histories["JPM"] = adjust(history).assign(adjclose=lambda t: t["adjclose"].where(t["close"].notna()))
    loaded = read_market(MarketQuery(SIX, "^GSPC", "2023-01-01", "2024-12-31"))
    row = next(item for item in loaded.report.assets if item.asset == "JPM")
    assert (row.filled, row.suspended) == (2 + 5, 5)
    column, dates = loaded.market.assets.index("JPM"), loaded.market.dates
    assert (loaded.market.status[:, column] == 0).sum() == 5
    first = np.searchsorted(dates, np.datetime64("2024-03-04"))
    assert not loaded.market.returns[first : first + 2, column].any() and loaded.market.returns[first + 2, column] != 0.0
    assert any("filled with the last price: JPM 7" in step for step in loaded.report.remarks)


def test_sessions_are_those_of_the_exchange(server):
    """The server has prices on every business day; New York rests on Thanksgiving."""
    loaded = read_market(MarketQuery(SIX, "^GSPC", "2023-01-01", "2024-12-31"))
    assert np.datetime64("2024-11-28") not in loaded.market.dates and np.datetime64("2024-11-27") in loaded.market.dates
    assert any("no session of XNYS were dropped" in step for step in loaded.report.remarks)


def test_total_return_and_price_index_are_told_apart(server):
    market = load_yahoo(SIX, "^GSPC", "2023-01-01", "2024-12-31")
    assert (market.asset_kind, market.benchmark_kind) == ("total return", "price")
    assert any("benchmark pays no dividends" in caveat for caveat in market.caveats)
    fund = load_yahoo(SIX, "SPY", "2023-01-01", "2024-12-31")
    assert fund.benchmark_kind == "total return" and len(fund.caveats) == 1
    plain = load_yahoo(SIX, "^GSPC", "2023-01-01", "2024-12-31", adjust="splits")
    assert plain.asset_kind == "price"
    np.testing.assert_array_less(plain.returns.sum(axis=0), market.returns.sum(axis=0))


def test_shares_of_two_currencies_need_rates_and_are_asked_for_only_then(server):
    query = dict(tickers=["AAPL", "SAP.DE"], benchmark="^GSPC", start="2023-01-02", end="2024-12-31")
    for named in (None, "US"):
        with pytest.raises(ValueError, match="--rates"):
            read_market(MarketQuery(**query, region=named))
    with pytest.raises(ValueError, match=r"prices are in \['INR', 'USD'\]; give --rates"):
        read_market(MarketQuery(["AAPL", "MSFT"], start="2023-01-02", region="India"))
    assert not server.asked
    dates = server.history("SAP.DE").index
    rates = pd.DataFrame({"EUR": np.linspace(1.0, 1.3, len(dates))}, dates)
    loaded = read_market(MarketQuery(**query, rates=rates))
    assert loaded.region.name == "US" and loaded.report.facts["calendar"] == "XNYS XETR"
    day = pd.Timestamp("2024-06-05")
    row = int(np.searchsorted(loaded.market.dates, np.datetime64("2024-06-05")))
    dollars = server.history("SAP.DE")["adjclose"] * rates["EUR"]
    expected_return = dollars[day] / dollars[day - pd.Timedelta(days=1)] - 1.0
    assert loaded.market.returns[row, 1] == pytest.approx(expected_return, abs=1e-12)


def test_a_region_brings_its_benchmark_and_tickers(server):
    loaded = read_market(MarketQuery(region="India", start="2023-01-02", end="2024-12-31"))
    assert loaded.market.benchmark == "^NSEI" and loaded.market.assets[0] == "RELIANCE.NS"
    assert loaded.report.facts["currency"] == "INR" and loaded.report.facts["calendar"] == "XBOM"
    by_ticker = read_market(MarketQuery(tickers=loaded.market.assets, start="2023-01-02", end="2024-12-31"))
    assert by_ticker.market.content_hash == loaded.market.content_hash


def old_shapes():
    dates = pd.bdate_range("2020-01-01", periods=3, name="Date")
    fields = ["Adj Close", "Close", "High", "Low", "Open", "Volume"]
    by_field = pd.MultiIndex.from_product([fields, ["A", "B"]])
    values = np.arange(36.0).reshape(3, 12)
    return dates, fields, pd.DataFrame(values, dates, by_field)


@pytest.mark.parametrize("shape", ["field first", "ticker first", "named levels"])
def test_old_and_new_column_shapes_are_one(shape):
    _, _, table = old_shapes()
    given = {
        "field first": table,
        "ticker first": table.swaplevel(axis=1).sort_index(axis=1),
        "named levels": table.rename_axis(columns=["Price", "Ticker"]),
    }[shape]
    pd.testing.assert_frame_equal(field_first(given, ["A", "B"])[table.columns], table, check_names=False)


def test_one_symbol_without_a_level_of_symbols():
    dates, fields, table = old_shapes()
    flat = pd.DataFrame(table.xs("A", axis=1, level=1).to_numpy(), dates, fields)
    np.testing.assert_array_equal(field_first(flat, ["A"])["Close", "A"], table["Close", "A"])
    assert field_first(None, ["A"]).empty and field_first(pd.DataFrame(), ["A"]).empty


@pytest.mark.parametrize("fault", ["429", "500", "cut", "empty", "unknown"])
def test_failures_leave_no_entry_and_the_next_run_works(server, fault):
    query = MarketQuery(SIX, "^GSPC", "2023-01-01", "2024-12-31")
    server.always = fault
    with pytest.raises(ValueError, match="Yahoo Finance"):
        read_market(query)
    cache = PriceCache()
    assert cache.entries() == [] and not list(cache.root.rglob("*.parquet"))
    server.always = ""
    assert read_market(query).market.n_assets == 6 and len(cache.entries()) == 1


def test_offline_uses_the_cache_and_says_so(server, capsys, tmp_path):
    query = dict(tickers=SIX, benchmark="^GSPC", start="2023-01-01", end="2024-12-31")
    with pytest.raises(ValueError, match="Unknown ticker"):
        read_market(MarketQuery(**query, offline=True))
    with pytest.raises(ValueError, match=r"no cached prices of AAPL .*--offline forbids"):
        read_market(MarketQuery(**query, offline=True, source="yahoo"))
    online = read_market(MarketQuery(**query)).market
    server.asked.clear()
    offline = read_market(MarketQuery(**query, offline=True))
    assert not server.asked and offline.market.content_hash == online.content_hash
    assert any(step.startswith("offline, from the cache: prices to 2024-12-31, retrieved") for step in offline.report.remarks)
    with pytest.raises(ValueError, match=r"end on 2024-12-31 and --offline forbids to fetch those up to 2025-06-30"):
        read_market(MarketQuery(**{**query, "end": "2025-06-30"}, offline=True))


SEED_COMMAND = "run --tickers AAPL MSFT AMZN GOOGL JPM XOM --benchmark ^GSPC --start 2010-01-01 --end 2024-12-31"
SMALL = (
    "--agent.total_timesteps 5000 --synthetic.n_markets 2 --generator.n_train_steps 10 --generator.n_calibration_samples 100"
)


def test_seed_configuration_end_to_end(server, tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"quantflux {SEED_COMMAND}" in readme
    monkeypatch.chdir(tmp_path)
    assert main([*SEED_COMMAND.split(), "--quick", *SMALL.split(), "--name", "seed"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Yahoo Finance" in out and "benchmark ^GSPC: price only" in out
    folder = tmp_path / "runs" / "seed"
    data = json.loads((folder / "data.json").read_text())
    assert (data["region"], data["currency"], data["benchmark_kind"]) == ("US", "USD", "price")
    assert (data["first"], data["last"]) == ("2010-01-05", "2024-12-31")
    report = json.loads((folder / "data_report.json").read_text())
    assert [item["asset"] for item in report["assets"]] == [*SIX, "^GSPC"]
    assert any("downloaded: prices to 2024-12-31" in remark for remark in report["remarks"])
    assert (folder / "data_report.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "^GSPC (price only, without dividends)" in page and "benchmark ^GSPC: price only" in page
    assert json.loads((folder / "metrics.json").read_text())["market"]["benchmark_kind"] == "price"


def test_open_end_of_an_experiment_is_pinned_so_that_it_can_be_resumed_later(server):
    prepared = Prepared.check(Settings(tickers=SIX, start="2015-01-01"))
    assert prepared.settings.end == str(prepared.market.dates[-1]) == "2025-01-31"
    again = Prepared.check(Settings(tickers=SIX, start="2015-01-01", end="2025-01-31"))
    assert again.market.content_hash == prepared.market.content_hash


def test_command_line_says_one_line_when_yahoo_fails(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    server.always = "429"
    assert main(SEED_COMMAND.split()) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(r"quantflux: Yahoo Finance refused 5 attempts .*\n", err) and "Traceback" not in out + err
    assert not (tmp_path / "runs").exists() and PriceCache().entries() == []


def test_two_processes_fetch_the_same_request_at_once(server, tmp_path):
    arguments = [
        sys.executable, yahoo_server.__file__, str(server.port), "data", "fetch", "--tickers", *SIX, "--start", "2020-01-01",
        "--end", "2024-12-31",
    ]  # fmt: skip
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(subprocess.run(arguments, capture_output=True, text=True, timeout=120)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.returncode for result in results] == [0, 0], [result.stderr for result in results]
    assert len(PriceCache().entries()) == 1 and len(server.asked) == 7  # the second waited, and read what the first wrote
    assert sorted(("from the cache" in result.stdout, "downloaded" in result.stdout) for result in results) == [
        (False, True),
        (True, False),
    ]
