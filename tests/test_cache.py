"""The cache of downloaded prices: whole or absent, never wrong, shared by processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.cli import main
from quantflux_sb3.market import DataRequest, FetchedPrices, MarketQuery, PriceCache, cache_dir, get_source, load_market
from quantflux_sb3.market.cache import entry_key
from quantflux_sb3.market.request import NoPricesError
from quantflux_sb3.table_cache import MAX_TABLES, cached_arrays, clear_tables

REQUEST = DataRequest(("A", "B"), "I", "2020-01-01", "2021-12-31")


class TableSource:
    """A source that needs a network, and is one table: what it was asked for is kept."""

    name = "table"
    remote = True

    def __init__(self, factor: float = 1.0):
        dates = pd.bdate_range("2019-06-03", "2024-12-31")
        steps = np.random.default_rng(3).normal(0.0003, 0.01, (len(dates), 3))
        self.table = pd.DataFrame(100.0 * factor * np.exp(steps.cumsum(axis=0)), dates, ["A", "B", "I"])
        self.asked: list[DataRequest] = []

    def fetch(self, request: DataRequest) -> FetchedPrices:
        self.asked.append(request)
        part = self.table.loc[request.start : request.end, list(request.symbols)].dropna(how="all")
        if not len(part) or part.isna().all().any():
            raise NoPricesError(f"no prices of {list(request.symbols)}")
        return FetchedPrices(part, "a table", "dividends", ("a note of the source",))


@pytest.fixture
def cache(tmp_path) -> PriceCache:
    return PriceCache(tmp_path)


@pytest.fixture
def source() -> TableSource:
    return TableSource()


def files(cache: PriceCache) -> list[str]:
    return sorted(path.name for path in cache.root.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_second_time_asks_nobody_and_gives_the_same(cache, source):
    first, second = (cache.fetch(source, REQUEST) for _ in range(2))
    assert len(source.asked) == 1
    pd.testing.assert_frame_equal(first.closes, second.closes, check_exact=True, check_freq=False)
    np.testing.assert_array_equal(first.closes, source.table.loc["2020-01-01":"2021-12-31"])
    assert first.adjusted == "dividends" and first.source == "a table"
    assert first.notes[0].startswith("downloaded: prices to 2021-12-31, retrieved") and "a note of the source" in first.notes
    assert second.notes[0].startswith("from the cache: prices to 2021-12-31, retrieved")


def test_manifest_says_everything(cache, source):
    cache.fetch(source, REQUEST)
    (key,) = cache.entries()
    content = json.loads((cache.root / key / "manifest.json").read_text())
    assert content["source"] == "table" and content["adjusted"] == "dividends"
    assert content["request"] == {
        "tickers": ["A", "B"], "benchmark": "I", "start": "2020-01-01", "end": "2021-12-31", "adjust": "dividends",
    }  # fmt: skip
    assert datetime.now(UTC) - datetime.fromisoformat(content["retrieved"]) < timedelta(minutes=5)
    assert {"quantflux_sb3", "yfinance"} <= set(content["versions"])
    (name,) = content["files"]
    assert files(cache) == sorted([name, "manifest.json"]) and len(content["files"][name]) == 64


def test_key_is_that_of_the_request_but_not_of_its_end_or_order():
    same = entry_key("yahoo", REQUEST)
    assert entry_key("yahoo", DataRequest(("B", "A"), "I", "2020-01-01", "2023-01-01")) == same
    others = [
        entry_key("yahoo", DataRequest(("A", "C"), "I", "2020-01-01")),
        entry_key("yahoo", DataRequest(("A", "B"), None, "2020-01-01")),
        entry_key("yahoo", DataRequest(("A", "B"), "I", "2020-01-02")),
        entry_key("yahoo", DataRequest(("A", "B"), "I", "2020-01-01", adjust="splits")),
        entry_key("other", REQUEST),
    ]
    assert len({same, *others}) == 6


def test_shorter_request_is_cut_from_the_entry(cache, source):
    cache.fetch(source, REQUEST)
    shorter = cache.fetch(source, DataRequest(("B", "A"), "I", "2020-01-01", "2020-12-31")).closes
    assert len(source.asked) == 1 and list(shorter.columns) == ["B", "A", "I"]
    assert str(shorter.index[-1].date()) == "2020-12-31"


def test_later_end_fetches_the_new_days_and_a_few_old_ones(cache, source):
    cache.fetch(source, REQUEST)
    longer = cache.fetch(source, DataRequest(("A", "B"), "I", "2020-01-01", "2022-06-30"))
    assert [item.start for item in source.asked] == ["2020-01-01", "2021-12-21"]
    np.testing.assert_array_equal(longer.closes, source.table.loc["2020-01-01":"2022-06-30"])
    assert longer.notes[0].startswith("extended: prices to 2022-06-30") and len(files(cache)) == 2
    assert len(cache.entries()) == 1


def test_prices_that_have_been_adjusted_since_are_fetched_again(cache, source):
    """A dividend changes every adjusted price before it: old and new must not stand in one column."""
    cache.fetch(source, REQUEST)
    later = TableSource(factor=0.99)
    longer = cache.fetch(later, DataRequest(("A", "B"), "I", "2020-01-01", "2022-06-30"))
    assert [item.start for item in later.asked] == ["2021-12-21", "2020-01-01"]
    np.testing.assert_array_equal(longer.closes, later.table.loc["2020-01-01":"2022-06-30"])
    assert "adjusted since" in longer.notes[0]


def test_extension_of_a_share_that_is_gone_fetches_all_again(cache, source):
    source.table.loc["2021-12-01":, "B"] = np.nan
    cache.fetch(source, REQUEST)
    closes = cache.fetch(source, DataRequest(("A", "B"), "I", "2020-01-01", "2022-06-30")).closes
    assert str(closes["B"].dropna().index[-1].date()) == "2021-11-30" and str(closes.index[-1].date()) == "2022-06-30"


def test_open_end_is_yesterday(cache, source):
    cache.fetch(source, DataRequest(("A", "B"), "I", "2020-01-01"))
    yesterday = str((datetime.now(UTC) - timedelta(days=1)).date())
    assert source.asked[0].end == yesterday
    cache.fetch(source, DataRequest(("A", "B"), "I", "2020-01-01", "2999-01-01"))
    assert len(source.asked) == 1


def test_refresh_asks_again(cache, source):
    cache.fetch(source, REQUEST)
    cache.fetch(source, REQUEST, refresh=True)
    assert len(source.asked) == 2 and len(cache.entries()) == 1 and len(files(cache)) == 2


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_a_changed_byte_is_found_and_refused(cache, source, place):
    cache.fetch(source, REQUEST)
    (path,) = cache.root.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged and not used \(closes-.* is not the file that was written\).*data clear"):
        cache.fetch(source, REQUEST)
    assert len(source.asked) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text('{"format": 0}'),
        lambda folder: (folder / "manifest.json").write_bytes(b""),
        lambda folder: next(folder.glob("*.parquet")).unlink(),
        lambda folder: next(folder.glob("*.parquet")).write_bytes(b""),
        lambda folder: (folder / "manifest.json").unlink() or (folder / "manifest.json").mkdir(),
        lambda folder: (folder / "manifest.json").write_text(
            (folder / "manifest.json").read_text().replace("2020-01-01", "2020-01-02")
        ),
    ],
)
def test_damaged_entries_are_refused_and_can_be_cleared(cache, source, spoil):
    cache.fetch(source, REQUEST)
    (key,) = cache.entries()
    spoil(cache.root / key)
    for offline in (False, True):
        with pytest.raises(ValueError, match="damaged and not used"):
            cache.fetch(source, REQUEST, offline=offline)
    cache.clear(key)
    assert cache.entries() == [] and files(cache) == []
    assert len(cache.fetch(source, REQUEST).closes) and len(source.asked) == 2


def test_failure_of_the_source_leaves_the_old_entry(cache, source):
    cache.fetch(source, REQUEST)
    before = files(cache)
    source.table = source.table.iloc[:0]
    with pytest.raises(NoPricesError):
        cache.fetch(source, DataRequest(("A", "B"), "I", "2020-01-01", "2022-06-30"))
    assert files(cache) == before and len(cache.fetch(source, REQUEST).closes)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import quantflux_sb3.disk as disk
from quantflux_sb3.market import DataRequest, PriceCache
from test_cache import REQUEST, TableSource

class Deadly:
    def __init__(self, module): self.module, self.calls = module, 0
    def __getattr__(self, name): return getattr(self.module, name)
    def {call}(self, *args):
        self.calls += 1
        if self.calls == {number}: os.kill(os.getpid(), signal.SIGKILL)
        return self.module.{call}(*args)

cache = PriceCache({folder!r})
if {extend}: cache.fetch(TableSource(), REQUEST)
disk.os = Deadly(os)
cache.fetch(TableSource(), DataRequest(("A", "B"), "I", "2020-01-01", "2022-06-30"))
"""


@pytest.mark.parametrize("extend", [False, True])
@pytest.mark.parametrize(("call", "number"), [("fsync", 1), ("replace", 1), ("fsync", 2), ("replace", 2)])
def test_kill_9_in_the_middle_of_a_write(tmp_path, call, number, extend):
    """Before each of the four system calls that make an entry; the next run works and finds the old or no entry."""
    code = KILLED.format(tests=str(Path(__file__).parent), call=call, number=number, folder=str(tmp_path), extend=extend)
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -signal.SIGKILL
    cache, source = PriceCache(tmp_path), TableSource()
    for key in cache.entries():
        assert cache.verify(key).last == "2021-12-31"
    assert len(cache.entries()) == int(extend)
    closes = cache.fetch(source, DataRequest(("A", "B"), "I", "2020-01-01", "2022-06-30")).closes
    np.testing.assert_array_equal(closes, source.table.loc["2020-01-01":"2022-06-30"])
    assert len(files(cache)) == 2  # what the killed one left is gone


def test_cache_folder_is_the_argument_then_the_variable_then_the_platforms(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTFLUX_CACHE_DIR", str(tmp_path / "variable"))
    assert cache_dir(tmp_path / "argument") == tmp_path / "argument"
    assert cache_dir() == tmp_path / "variable"
    monkeypatch.delenv("QUANTFLUX_CACHE_DIR")
    assert cache_dir().parts[-1] == "quantflux_sb3" or "quantflux_sb3" in cache_dir().parts


@pytest.fixture
def added_source(tmp_path, monkeypatch):
    """Another package with an entry point, as pip would have installed it."""
    package = tmp_path / "site"
    (package / "others-1.0.dist-info").mkdir(parents=True)
    (package / "others-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (package / "others-1.0.dist-info" / "entry_points.txt").write_text(
        "[quantflux_sb3.sources]\ntable = others:Table\nlame = others:Lame\n"
    )
    (package / "others.py").write_text("from test_cache import TableSource as Table\nclass Lame: name = 'lame'\n")
    monkeypatch.syspath_prepend(package)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("QUANTFLUX_CACHE_DIR", str(tmp_path / "cache"))
    return package


def test_sources_of_other_packages_are_found_by_entry_point(added_source):
    market = load_market(["A", "B"], "I", "2020-01-01", "2021-12-31", source="table")
    assert market.source == "a table" and market.assets == ("A", "B") and len(PriceCache().entries()) == 1
    with pytest.raises(ValueError, match=r"Unknown source 'nope'; expected one of \['bundled', 'yahoo', 'lame', 'table'\]"):
        get_source("nope")
    with pytest.raises(TypeError, match=r"The source 'lame' of others:Lame has no \['remote', 'fetch'\]"):
        get_source("lame")


def test_data_commands(added_source, tmp_path, capsys):
    fetch = ["data", "fetch", "--source", "table", "--tickers", "A", "B", "--benchmark", "I", "--start", "2020-01-01"]
    assert main([*fetch, "--end", "2021-12-31", "--out", str(tmp_path / "levels.parquet")]) == 0
    out = capsys.readouterr().out
    assert "a table" in out and "longest run unchanged" in " ".join(out.lower().split())
    levels = pd.read_parquet(tmp_path / "levels.parquet")
    assert list(levels.columns) == ["A", "B", "I"] and str(levels.index[-1])[:10] == "2021-12-31"
    assert main(["data", "list"]) == 0
    (key,) = PriceCache().entries()
    out = capsys.readouterr().out
    assert key in out and "A B I, 2020-01-01 to 2021-12-31, adjusted for dividends" in out
    assert main(["data", "verify"]) == 0 and f"{key}: whole" in capsys.readouterr().out
    (path,) = PriceCache().root.rglob("*.parquet")
    path.write_bytes(b"x" + path.read_bytes())
    assert main(["data", "verify", key]) == 2
    assert "1 cached entries are damaged" in capsys.readouterr().err
    assert main(["data", "clear"]) == 2 and "needs the keys" in capsys.readouterr().err
    assert main(["data", "clear", "nothing"]) == 2 and "No cached entries begin with" in capsys.readouterr().err
    assert main(["data", "clear", key[:10]]) == 0 and PriceCache().entries() == []
    assert main(["data", "clear", "--all"]) == 0
    assert main(["data", "verify"]) == 0 and "nothing is cached in" in capsys.readouterr().out


def test_files_of_levels_are_what_their_names_say(tmp_path, capsys):
    fetch = ["data", "fetch", "--offline", "--tickers", "AAPL", "JPM", "--start", "2022-01-01", "--out"]
    tables = []
    for name, read in (("a.pq", pd.read_parquet), ("a.csv.gz", pd.read_csv), ("a.csv", pd.read_csv)):
        assert main([*fetch, str(tmp_path / name)]) == 0
        tables.append(read(tmp_path / name)[["AAPL", "JPM", "SP500"]])
        assert load_market(prices=tmp_path / name, benchmark="SP500").assets == ("AAPL", "JPM")
        np.testing.assert_allclose(tables[0], tables[-1], rtol=1e-12)
    capsys.readouterr()
    for name, said in ((".", "is a folder; --out needs the name of a file"), ("a.xlsx", "--out must end in .csv, .csv.gz")):
        assert main([*fetch, str(tmp_path / name)]) == 2 and said in capsys.readouterr().err


def test_a_benchmark_that_is_an_asset_is_written_once(added_source, tmp_path):
    out = tmp_path / "levels.csv"
    fetch = ["data", "fetch", "--source", "table", "--tickers", "A", "B", "--benchmark", "B", "--start", "2020-01-01"]
    assert main([*fetch, "--end", "2021-12-31", "--out", str(out)]) == 0
    assert list(pd.read_csv(out).columns) == ["date", "A", "B"]


def test_what_cannot_be_deleted_is_said_and_stops_nothing_else(cache, source, monkeypatch, capsys):
    for request in (REQUEST, replace(REQUEST, start="2020-02-03")):
        cache.fetch(source, request)
    stuck, other = cache.entries()
    whole = shutil.rmtree

    def rmtree(path, *args, **kwargs):
        if Path(path).name == stuck:
            raise PermissionError(13, "Permission denied")
        whole(path, *args, **kwargs)

    monkeypatch.setattr("shutil.rmtree", rmtree)
    assert main(["data", "clear", "--all", "--cache_dir", str(cache.root.parent)]) == 2
    out, err = capsys.readouterr()
    assert "deleted 1 cached entries" in out
    assert "1 of 2 cached entries are still there" in err and f"{stuck}' cannot be deleted (Permission denied)" in err
    assert not (cache.root / other).exists() and (cache.root / stuck).exists()


def test_offline_and_refresh_exclude_each_other():
    with pytest.raises(ValueError, match="exclude each other"):
        MarketQuery(offline=True, refresh=True)


def test_tables_are_computed_once_and_damaged_ones_again(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return [np.arange(6.0).reshape(2, 3), np.ones(4, dtype=np.float32)]

    first, second = (cached_arrays("key", compute, tmp_path) for _ in range(2))
    assert len(calls) == 1
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    (path,) = (tmp_path / "tables").glob("*.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(cached_arrays("key", compute, tmp_path)[0], first[0])
    assert len(calls) == 2
    for number in range(MAX_TABLES + 3):
        cached_arrays(f"other-{number}", compute, tmp_path)
    assert len(list((tmp_path / "tables").glob("*.npz"))) == MAX_TABLES
    assert clear_tables(tmp_path) == MAX_TABLES


def test_tables_need_no_writeable_folder(tmp_path):
    (tmp_path / "tables").write_text("a file where the folder should be")
    np.testing.assert_array_equal(cached_arrays("key", lambda: [np.ones(3)], tmp_path)[0], np.ones(3))


def test_features_from_disk_are_those_computed(all_stocks, tmp_path, monkeypatch):
    from dataclasses import replace

    from quantflux_sb3.features import FeatureConfig

    monkeypatch.setenv("QUANTFLUX_CACHE_DIR", str(tmp_path))
    config = FeatureConfig(momentum_days=(7, 30))
    computed, read = (config.blocks(replace(all_stocks, source=str(i))) for i in range(2))
    assert len(os.listdir(tmp_path / "tables")) == 1
    for (layout, table), (layout_read, table_read) in zip(computed, read, strict=True):
        assert layout == layout_read and not table_read.flags.writeable
        np.testing.assert_array_equal(table, table_read)
    other = all_stocks.window(0, all_stocks.n_days - 1)
    np.testing.assert_array_equal(config.blocks(other)[0][1], computed[0][1][:-1])
    assert len(os.listdir(tmp_path / "tables")) == 2
