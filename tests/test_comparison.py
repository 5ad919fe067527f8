"""Runs side by side: what differs is said, curves are of common days, and mistakes are one line."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluations import evaluation, write_run

from quantflux_sb3.cli import main
from quantflux_sb3.evaluation.comparison import common_days, differing_facts, differing_settings, read_runs, render_comparison
from quantflux_sb3.evaluation.figures import format_figure
from quantflux_sb3.evaluation.statistics import sharpe_difference, verdict


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two runs whose agents and settings differ."""
    root, one = tmp_path_factory.mktemp("runs"), evaluation()
    write_run(root / "one", one)
    other = replace(one, agent=one.seed_results[1], seed_results=one.seed_results[::-1], chosen_seed=8)
    write_run(root / "two", other, "seed: 7\nagent:\n  gamma: 0.5\n")
    return root


def altered(runs: Path, target: Path, **market) -> Path:
    """A copy of the second run whose market differs."""
    shutil.copytree(runs / "two", target)
    metrics = json.loads((target / "metrics.json").read_text())
    metrics["market"] |= market
    (target / "metrics.json").write_text(json.dumps(metrics))
    return target


def test_agents_are_compared_on_common_days_in_plain_language(runs):
    both = read_runs([runs / "one", runs / "two"])
    html, summary = render_comparison(both), evaluation()
    a, b = summary.seed_results
    sentence = verdict("the agent of one", "that of two", sharpe_difference(a, b))
    days = f"{a.dates[0]} to {a.dates[-1]}"
    assert f"{sentence.replace(' %', chr(160) + '%')}, on the days {days}, the chosen seed of each." in html
    assert f"days that all runs have ({days})" in html  # trading days, not the point before the first return
    assert '<th scope="col">one</th>' in html
    for name, run in both.items():
        row = run.metrics["test"]["agent"]
        pattern = rf"{name}: agent</th>.*?</tr>"
        shown = re.search(pattern, html, re.DOTALL).group()
        assert f"<td>{format_figure('sharpe_ratio', row['sharpe_ratio'])}</td>" in shown
    assert "All runs have the same test years, assets and prices." in html
    assert html.count('class="chart"') == 2


def test_settings_that_differ_are_a_table(runs):
    rows = differing_settings(read_runs([runs / "one", runs / "two"]))
    assert rows == [{"setting": "agent.gamma", "one": "0", "two": "0.5"}]


def test_other_years_assets_and_prices_are_said(runs, tmp_path):
    other = altered(runs, tmp_path / "other", test_first="2018-01-02", assets=["AAPL", "XOM"], content_hash="f00")
    sentences = differing_facts(read_runs([runs / "one", other]))
    assert len(sentences) == 3
    assert sentences[0] == "The test years differ: one 2016-01-04 to 2022-12-28; other 2018-01-02 to 2022-12-28."
    assert "other AAPL, XOM" in sentences[1] and "the index earned the same" in sentences[2]


def test_prices_differ_where_their_source_or_the_index_does(runs, tmp_path):
    both = read_runs([runs / "one", altered(runs, tmp_path / "other", content_hash="f00")])
    daily = both["other"].daily
    moved = {name: values + (name == both["other"].index) * 1e-4 for name, values in daily.returns.items()}
    both["other"] = replace(both["other"], daily=replace(daily, returns=moved))
    assert differing_facts(both) == ["The prices differ, or their sources."]
    both = read_runs([runs / "one", altered(runs, tmp_path / "elsewhere", content_hash="f00", source="a file")])
    assert differing_facts(both) == ["The prices differ, or their sources."]


def test_curves_are_of_the_days_that_all_runs_have(runs):
    both = read_runs([runs / "one", runs / "two"])
    daily = both["two"].daily
    later = replace(
        daily, dates=daily.dates[500:], risk_free=daily.risk_free[500:], regimes=daily.regimes[500:],
        returns={name: values[500:] for name, values in daily.returns.items()},
    )  # fmt: skip
    both["two"] = replace(both["two"], daily=later)
    common = common_days(both)
    np.testing.assert_array_equal(common.dates, daily.dates[500:])
    np.testing.assert_array_equal(common.returns["one"], both["one"].daily.returns["agent"][500:])
    np.testing.assert_array_equal(common.returns["two"], later.returns["agent"])
    both["two"] = replace(both["two"], daily=None)
    assert common_days(both) is None and "there are no common curves" in render_comparison(both)


def test_command_writes_pages_and_rewrites_them(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--compare", str(runs / "one"), str(runs / "two"), "--out", "both.html"]) == 0
    assert (tmp_path / "both.html").read_text() == render_comparison(read_runs([runs / "one", runs / "two"]))
    page = runs / "one" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert main(["report", str(runs / "one")]) == 0
    assert page.read_bytes() == before
    assert f"wrote {page}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "Give the folder of one run, or --compare"),
        ("RUNS/one --compare RUNS/one RUNS/two", "Give the folder of one run, or --compare"),
        ("nowhere", "no finished run in 'nowhere'"),
        ("--compare RUNS/one", "at least two different runs"),
        ("--compare RUNS/one RUNS/../RUNSNAME/one", "at least two different runs"),
        ("--compare RUNS/one nowhere", "no finished run in 'nowhere'"),
        ("RUNS/one --out page.pdf", "must end in .html"),
        ("RUNS/one --out nowhere/page.html", "There is no folder"),
    ],
)
def test_mistakes_are_one_line(arguments, expected, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = arguments.replace("RUNSNAME", runs.name).replace("RUNS", str(runs)).split()
    assert main(["report", *words]) == 2
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
