"""Regions: the catalogue row by row, how a region is recognised, and prices of several currencies in one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.market import REGIONS, MarketQuery, detect_region, load_market, read_market
from quantflux_sb3.market.calendars import sessions
from quantflux_sb3.market.currency import convert
from quantflux_sb3.market.regions import (
    MixedRegionsError,
    benchmark_kind,
    calendars_of,
    currency_of,
    machine_region,
    region_of_ticker,
)
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.settings import Settings

#: Benchmark, what it contains, calendar, currency, cost [bp], a locale, a time zone.
CATALOGUE = {
    "US": ("^GSPC", "price", "XNYS", "USD", 5, "es_US", "America/New_York"),
    "India": ("^NSEI", "price", "XBOM", "INR", 8, "hi_IN", "Asia/Kolkata"),
    "UK": ("^FTSE", "price", "XLON", "GBP", 6, "en_GB", "Europe/London"),
    "Eurozone": ("^STOXX50E", "price", "XETR", "EUR", 6, "it_IT", "Europe/Madrid"),
    "Germany": ("^GDAXI", "total return", "XETR", "EUR", 6, "de_DE", "Europe/Berlin"),
    "France": ("^FCHI", "price", "XPAR", "EUR", 6, "fr_FR", "Europe/Paris"),
    "Netherlands": ("^AEX", "price", "XAMS", "EUR", 6, "nl_NL", "Europe/Amsterdam"),
    "Switzerland": ("^SSMI", "price", "XSWX", "CHF", 8, "de_CH", "Europe/Zurich"),
    "Japan": ("^N225", "price", "XTKS", "JPY", 4, "ja_JP", "Asia/Tokyo"),
    "Hong Kong": ("^HSI", "price", "XHKG", "HKD", 8, "zh_HK", "Asia/Hong_Kong"),
    "Australia": ("^AXJO", "price", "XASX", "AUD", 8, "en_AU", "Australia/Sydney"),
    "Canada": ("^GSPTSE", "price", "XTSE", "CAD", 8, "fr_CA", "America/Toronto"),
    "Brazil": ("^BVSP", "total return", "BVMF", "BRL", 8, "pt_BR", "America/Sao_Paulo"),
    "Korea": ("^KS11", "price", "XKRX", "KRW", 8, "ko_KR", "Asia/Seoul"),
}


def test_catalogue_is_complete():
    assert list(REGIONS) == list(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_row(name):
    region, (benchmark, kind, calendar, currency, cost, language, zone) = REGIONS[name], CATALOGUE[name]
    assert (region.benchmark, region.benchmark_kind, region.calendar, region.currency) == (benchmark, kind, calendar, currency)
    assert region.cost == pytest.approx(cost * 1e-4)
    assert detect_region(region.universe) is region and len(set(region.universe)) >= 6
    assert detect_region(benchmark=benchmark) is region and benchmark_kind(benchmark) == kind
    assert machine_region(language, "") is machine_region("en_US", zone) is region
    assert currency_of(benchmark, "?") == currency_of(region.universe[0], "?") == currency
    days, _, _ = sessions([calendar], pd.Timestamp("2023-01-01"), pd.Timestamp("2023-12-31"))
    assert 240 < len(days) < 260 and pd.Timestamp("2023-01-01") not in days


@pytest.mark.parametrize("name", CATALOGUE)
def test_run_takes_the_costs_of_the_region(name, prices):
    table = prices.set_axis([f"A{REGIONS[name].universe[0][-3:] if name != 'US' else ''}", "B", "C"], axis=1)
    query = MarketQuery(prices=table, region=name)
    assert read_market(query).region.cost == pytest.approx(CATALOGUE[name][4] * 1e-4)


def test_tickers_then_benchmark_then_machine_then_us():
    assert detect_region(["SAP.DE"], "^GSPC").name == "Germany"
    assert detect_region((), "^N225").name == "Japan"
    assert machine_region("de_DE", "Asia/Tokyo").name == "Germany"
    assert machine_region("en_US", "Asia/Tokyo").name == machine_region("C", "Asia/Tokyo").name == "Japan"
    assert machine_region("xx_YY", "Mars/Olympus") is None and machine_region("", "") is None


def test_machine_is_asked_where_nothing_is_given(monkeypatch):
    monkeypatch.setattr("locale.getlocale", lambda: ("C", "UTF-8"))
    monkeypatch.setenv("TZ", "Australia/Perth")
    assert detect_region().name == detect_region(benchmark="^UNKNOWN").name == "Australia"
    monkeypatch.setattr("locale.getlocale", lambda: ("ko_KR", "UTF-8"))
    assert detect_region().name == "Korea"
    assert detect_region(["AAPL"]).name == "US"


def test_default_market_does_not_depend_on_the_machine(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    prepared = Prepared.check(Settings())
    assert prepared.region.name == "US" and prepared.config.costs.proportional == 0.0005


def test_settings_reach_the_query():
    assert {"source", "rates", "adjust", "cleaning", "max_fill", "cache_dir"} <= set(Settings.__dataclass_fields__)
    assert Prepared.check(Settings(env=PortfolioConfig(costs=0.002))).config.costs == 0.002


@pytest.mark.parametrize("tickers", [["AAPL", "SAP.DE"], ["VOD.L", "7203.T", "SAP.DE"], ["RELIANCE.NS", "BHP.AX"]])
def test_mixed_currencies_are_refused_with_the_remedy(tickers):
    with pytest.raises(MixedRegionsError, match=r"listed in several regions, .*--rates .* --region"):
        detect_region(tickers)
    with pytest.raises(ValueError, match="several regions"):
        load_market(tickers)


def test_named_region_does_not_hide_mixed_currencies(tmp_path):
    rates = pd.DataFrame({"EUR": [1.1]}, index=pd.DatetimeIndex(["2020-01-02"]))
    dates = pd.bdate_range("2020-01-01", periods=5)
    closes = pd.DataFrame(1.0, dates, ["AAPL", "SAP.DE"])
    with pytest.raises(ValueError, match=r"prices are in \['EUR', 'USD'\]; give --rates"):
        convert(closes, {"AAPL": "USD", "SAP.DE": "EUR"}, "USD", None)
    with pytest.raises(ValueError, match="no exchange rate of EUR for 2020-01-01 or shortly before"):
        convert(closes, {"AAPL": "USD", "SAP.DE": "EUR"}, "USD", rates)
    with pytest.raises(ValueError, match=r"no column for \['EUR'\]; their columns are \['GBP'\]"):
        convert(closes, {"AAPL": "USD", "SAP.DE": "EUR"}, "USD", rates.rename(columns={"EUR": "GBP"}))
    with pytest.raises(ValueError, match="must be positive"):
        convert(closes, {"AAPL": "USD", "SAP.DE": "EUR"}, "USD", -rates)


@pytest.mark.parametrize(
    ("ticker", "name"), [("BRK.B", "US"), ("BRK-B", "US"), ("BTC-USD", "US"), ("^GSPC", "US"), ("7203.t", "Japan")]
)
def test_unusual_tickers(ticker, name):
    assert region_of_ticker(ticker).name == name


def test_unknown_suffix_is_refused():
    with pytest.raises(ValueError, match=r"'ABC.XX' has the suffix '.XX' of no known region; give --region"):
        detect_region(["ABC.XX"])
    with pytest.raises(ValueError, match="of no known region"):
        load_market(["AAPL", "ABC.XX"])


def test_empty_inputs():
    assert detect_region([], "").name in REGIONS
    assert calendars_of([], REGIONS["Japan"]) == ("XTKS",)
    assert (
        calendars_of(["AAPL", "SAP.DE"], REGIONS["US"]) == calendars_of(["AAPL", "SAP.DE"], REGIONS["UK"]) == ("XNYS", "XETR")
    )
    assert calendars_of(["SAP.DE", "MC.PA", "SIE.DE"], REGIONS["Eurozone"]) == ("XETR", "XPAR")


@pytest.fixture
def mixed():
    """An American and a German share and what a euro costs in dollars."""
    rng = np.random.default_rng(1)
    dates = pd.bdate_range("2020-01-01", periods=300)
    closes = pd.DataFrame(100.0 * np.exp(rng.normal(0, 0.01, (300, 2)).cumsum(axis=0)), dates, ["AAPL", "SAP.DE"])
    rates = pd.DataFrame({"EUR": 1.1 * np.exp(rng.normal(0, 0.005, 300).cumsum())}, dates)
    return closes, rates


def test_mixed_prices_are_converted_at_the_rates_given(mixed, tmp_path):
    closes, rates = mixed
    with pytest.raises(ValueError, match="several regions"):
        load_market(prices=closes)
    loaded = read_market(MarketQuery(prices=closes, region="US", rates=rates))
    local, euro = closes.pct_change().to_numpy()[1:], rates["EUR"].pct_change().to_numpy()[1:]
    np.testing.assert_allclose(loaded.market.returns[:, 0], local[:, 0], atol=1e-14)
    np.testing.assert_allclose(loaded.market.returns[:, 1], (1 + local[:, 1]) * (1 + euro) - 1, atol=1e-13)
    assert "converted to USD at the rates given: SAP.DE (EUR)" in loaded.report.remarks
    rates.to_csv(tmp_path / "rates.csv")
    assert load_market(prices=closes, region="US", rates=tmp_path / "rates.csv").content_hash == loaded.market.content_hash
    in_euro = load_market(prices=closes, region="Germany", rates=(1 / rates["EUR"]).to_frame("USD"))
    np.testing.assert_allclose(in_euro.returns[:, 1], local[:, 1], atol=1e-14)
    np.testing.assert_allclose(in_euro.returns[:, 0], (1 + local[:, 0]) / (1 + euro) - 1, atol=1e-13)


def test_conversion_uses_the_last_known_rate_only(mixed):
    closes, rates = mixed
    currencies = {"AAPL": "USD", "SAP.DE": "EUR"}
    holes = rates.drop(rates.index[[50, 51]])
    converted, _ = convert(closes, currencies, "USD", holes)
    assert converted["SAP.DE"].iloc[51] == closes["SAP.DE"].iloc[51] * rates["EUR"].iloc[49]
    with pytest.raises(ValueError, match=f"no exchange rate of EUR for {closes.index[50].date()} or shortly before"):
        convert(closes, currencies, "USD", holes, max_fill=0)
    pd.testing.assert_frame_equal(
        convert(closes, currencies, "USD", rates, 0)[0], convert(closes, currencies, "USD", rates)[0]
    )
    later = rates.copy()
    later.iloc[120:] *= 2.0
    changed, _ = convert(closes, currencies, "USD", later)
    whole, _ = convert(closes, currencies, "USD", rates)
    pd.testing.assert_frame_equal(changed.iloc[:120], whole.iloc[:120])
    assert not np.isclose(changed["SAP.DE"].iloc[120:], whole["SAP.DE"].iloc[120:]).any()


def test_one_currency_needs_no_rates(prices):
    table = prices.set_axis(["SAP.DE", "MC.PA", "ENEL.MI"], axis=1)
    loaded = read_market(MarketQuery(prices=table))
    assert loaded.region.name == "Eurozone" and loaded.report.facts["calendar"] == "XETR XPAR"


def test_manual_page_has_the_catalogue():
    text = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    lines = text.partition("<!-- regions -->\n")[2].partition("<!-- end -->")[0].splitlines()[2:]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] == [
        [
            region.name, region.benchmark, region.benchmark_kind, region.calendar, region.currency,
            f"{region.cost * 1e4:.0f} bp", " ".join(region.suffixes),
        ]
        for region in REGIONS.values()
    ]  # fmt: skip


def test_the_kind_of_other_benchmarks():
    assert benchmark_kind("^SP500TR") == "total return" and benchmark_kind("^XYZ", "total return") == "unknown"
    assert benchmark_kind("SPY", "total return") == "total return" and benchmark_kind("SPY", "price") == "price"
    assert benchmark_kind(None) == "unknown"
