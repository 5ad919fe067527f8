"""Walk-forward: which days are for what, what may influence a fold, and that it does not matter who trains it, or when."""

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from stable_baselines3 import PPO

from quantflux_sb3.evaluation.backtest import backtest_rule
from quantflux_sb3.evaluation.baselines import EQUAL_WEIGHT
from quantflux_sb3.evaluation.decisions import Decisions, WeightRule
from quantflux_sb3.evaluation.report import read_run, render_report
from quantflux_sb3.evaluation.report_data import ReportData
from quantflux_sb3.market import WARMUP_DAYS
from quantflux_sb3.run_folder import RunFolder
from quantflux_sb3.settings import AgentSettings, SyntheticSettings, WalkForwardSettings
from quantflux_sb3.walkforward.fold_run import decisions_file, run_fold
from quantflux_sb3.walkforward.folds import make_folds
from quantflux_sb3.walkforward.parallel import run_tasks
from quantflux_sb3.walkforward.runner import PreparedWalk, WalkForward
from quantflux_sb3.walkforward.summary import SeedOfFold, WalkForwardSummary

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = WalkForwardSettings(
    offline=True, first=2021, baselines=("buy and hold",),
    synthetic=SyntheticSettings(n_markets=0),
    agent=AgentSettings(total_timesteps=256, n_seeds=2, n_envs=8, n_steps=16, batch_size=128, n_epochs=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> PreparedWalk:
    """Two folds, 2021 and 2022, of two seeds that hardly learn."""
    return PreparedWalk.check(TINY)


def walk(tiny: PreparedWalk, folder: Path, **where) -> bytes:
    """Run it; its figures."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(tiny.prepared.settings.to_yaml())
    WalkForward(tiny, RunFolder(folder), Console(file=io.StringIO()), **where).run()
    return (folder / "metrics.json").read_bytes()


@pytest.fixture(scope="module")
def local(tiny, tmp_path_factory) -> Path:
    """Folder of the tiny walk-forward, run in this process."""
    folder = tmp_path_factory.mktemp("walk") / "local"
    walk(tiny, folder, n_jobs=1)
    return folder


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1994, 2022), st.integers(0, 8), st.integers(1, 5), st.floats(0.25, 4.0), st.sampled_from([0, 1, 5, 63]),
)  # fmt: skip
def test_folds_never_overlap_and_keep_the_embargo(bundled, first, more, fold_years, validation_years, embargo):
    last = min(first + more, 2022)
    wanted = replace(TINY, first=first, last=last, fold_years=fold_years, validation_years=validation_years, embargo=embargo)
    tested = []
    for fold in make_folds(bundled, wanted):
        market = fold.market(bundled)
        train, validation, test = (market.rows(split) for split in ("train", "validation", "test"))
        assert WARMUP_DAYS < train[0] < train[1] == validation[0] - embargo and validation[1] == test[0] - embargo
        assert test[1] == market.n_days and validation[1] - validation[0] <= round(252 * validation_years)
        np.testing.assert_array_equal(market.dates, bundled.dates[: market.n_days])
        years = market.dates[slice(*test)].astype("datetime64[Y]").astype(int) + 1970
        assert years[0] == int(fold.name) and years[-1] == min(int(fold.name) + fold_years - 1, last)
        tested.append(market.dates[slice(*test)])
    expected = bundled.dates[(bundled.dates >= np.datetime64(f"{first}")) & (bundled.dates < np.datetime64(f"{last + 1}"))]
    np.testing.assert_array_equal(np.concatenate(tested), expected)  # every day of every year, once


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"first": 1991}, "to train on, and 252 are needed. Give a later --first"),
        ({"first": 1950}, "reach from 1990-01-03 to 2022-12-28"),
        ({"last": 2030}, "reach from 1990-01-03 to 2022-12-28"),
        ({"embargo": 2500, "first": 2000}, "Give a later --first"),
    ],
)
def test_folds_that_the_prices_do_not_allow_are_refused(bundled, changes, expected):
    with pytest.raises(ValueError, match=expected):
        make_folds(bundled, replace(TINY, **changes))


def fitted(tiny: PreparedWalk, market, folder: Path) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Weights of the first fold's first agent, and what it asks for in the test year, on another history."""
    folder.mkdir()
    run_fold(replace(tiny.prepared, market=market), tiny.folds[0], folder)
    model = PPO.load(folder / "agents/seed-0.zip", device="cpu")
    with np.load(folder / decisions_file(0)) as stored:
        return model.policy.state_dict(), stored["requests"]


def changed_from(market, row: int, change_future):
    """The same splits, other prices from a row on."""
    return replace(change_future(market, row), splits=market.splits)


def test_the_future_does_not_reach_into_a_fold(tiny, local, change_future, tmp_path):
    market, fold = tiny.prepared.market, tiny.folds[0]
    fitted(tiny, changed_from(market, fold.stop, change_future), tmp_path / "later")
    for name in (decisions_file(0), decisions_file(1), "validation/seed-0.json", "validation/seed-1.json"):
        assert (tmp_path / "later" / name).read_bytes() == (local / "folds" / fold.name / name).read_bytes()


def test_the_test_year_trains_nothing(tiny, local, change_future, tmp_path):
    market, fold = tiny.prepared.market, tiny.folds[0]
    start, _ = fold.market(market).rows("test")
    before = PPO.load(local / "folds" / fold.name / "agents/seed-0.zip", device="cpu").policy.state_dict()
    weights, requests = fitted(tiny, changed_from(market, start, change_future), tmp_path / "test")
    assert all(torch.equal(weights[name], before[name]) for name in before)
    with np.load(local / "folds" / fold.name / decisions_file(0)) as stored:
        assert not np.array_equal(requests, stored["requests"])  # but what it then sees, it answers to
    weights, _ = fitted(tiny, changed_from(market, 1000, change_future), tmp_path / "train")
    assert not all(torch.equal(weights[name], before[name]) for name in before)


@pytest.mark.parametrize("backend", ["local", "ray", "dask"])
def test_processes_of_any_backend_give_the_same_bytes(backend, tiny, local, tmp_path):
    def run_and_sign(prepared, fold, path) -> None:
        run_fold(prepared, fold, path)
        (path / "pid").write_text(str(os.getpid()))

    folders = {fold: RunFolder(tmp_path).child(f"folds/{fold.name}") for fold in tiny.folds}
    run_tasks(run_and_sign, [(tiny.prepared, fold, folder.path) for fold, folder in folders.items()], backend, n_jobs=2)
    assert str(os.getpid()) not in [(folder / "pid").read_text() for folder in folders.values()]
    summary = WalkForward(tiny, RunFolder(tmp_path), Console(file=io.StringIO())).summary()
    RunFolder(tmp_path).write_json("metrics.json", summary.metrics)
    assert (tmp_path / "metrics.json").read_bytes() == (local / "metrics.json").read_bytes()


def test_what_goes_wrong_in_a_worker_is_said_here():
    def fail() -> None:
        raise ValueError("no such day")

    with pytest.raises(ValueError, match="no such day"):
        run_tasks(fail, [(), ()], n_jobs=2)


def test_a_walk_goes_on_where_it_was_cut(tiny, local, tmp_path):
    folder, metrics = tmp_path / "cut", (local / "metrics.json").read_bytes()
    shutil.copytree(local, folder)
    kept = folder / "folds/2021/decisions/seed-0.npz"
    before = kept.stat().st_mtime_ns
    for name in ("metrics.json", "folds/2021/decisions/seed-1.npz", "folds/2021/agents/seed-1.zip"):
        (folder / name).unlink()
    shutil.rmtree(folder / "folds/2022")
    assert walk(tiny, folder, n_jobs=1) == metrics
    assert kept.stat().st_mtime_ns == before


def test_figures_of_a_walk(tiny, local):
    metrics = json.loads((local / "metrics.json").read_text())
    assert [row["fold"] for row in metrics["folds"]] == ["2021", "2022"]
    assert metrics["folds"][0]["test"] == ["2021-01-04", "2021-12-31"] and len(metrics["folds"][0]["test_sharpe"]) == 2
    assert set(metrics["test"]) >= {"agent", "ensemble of seeds", "base rule", "equal weight"}
    difference = metrics["sharpe_differences"]["agent - equal weight"]
    assert difference["n_seeds_a"] == 2
    assert difference["sharpe_a"] == pytest.approx(np.mean([s["test_sharpe_ratio"] for s in metrics["seeds"].values()]))
    assert {path.name for path in local.iterdir()} >= {"report.html", "folds.csv", "data.json", "daily.parquet"}


def test_one_portfolio_pays_for_one_entry(tiny):
    """Equal weight and all cash as the two seeds: known answers for the seeds, the chosen one and the ensemble."""
    market, config, parts = tiny.prepared.market, tiny.prepared.config, []
    row = np.append(np.full(market.n_assets, 1.0 / market.n_assets), 0.0)
    cash = np.append(np.zeros(market.n_assets), 1.0)
    for number, asked in enumerate((row, cash)):
        folds = []
        for fold in tiny.folds:
            dates = fold.market(market).dates[slice(*fold.market(market).rows("test"))]
            decisions = Decisions(dates, np.tile(asked, (len(dates), 1)), np.ones(len(dates), dtype=bool))
            folds.append(SeedOfFold(float(number), decisions))
        parts.append(folds)
    summary = WalkForwardSummary(tiny.prepared, tiny.folds, parts)
    equal = next(result for result in summary.baselines if result.name == EQUAL_WEIGHT)
    np.testing.assert_allclose(summary.seeds[0].returns, equal.returns, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(summary.agent.returns, summary.seeds[1].returns)  # the second validated better
    np.testing.assert_array_equal(summary.agent.returns, summary.agent.risk_free)
    half = backtest_rule(WeightRule("half", lambda history: row[:-1] / 2.0, refit_days=1), market, "test", config)
    np.testing.assert_allclose(summary.ensemble.returns, half.returns, rtol=0, atol=1e-15)


def test_a_single_seed_is_shown_once(tiny, local):
    """Its ensemble is the agent again, and nothing was chosen among seeds."""
    both = WalkForward(tiny, RunFolder(local), Console(file=io.StringIO())).summary()
    summary = replace(both, trained=both.trained[:1])
    metrics = summary.metrics
    assert "ensemble of seeds" not in metrics["test"] and len(metrics["verdicts"]) == 3
    assert not any("did best" in sentence for sentence in metrics["caveats"])
    html = render_report(ReportData(metrics))
    assert "ensemble of seeds" not in html and "Seeds, least to largest" not in html


def test_the_page_says_what_each_fold_trained(local):
    run = read_run(local)
    assert "Every fold trains its agents anew" in render_report(run)
    assert "quantflux walkforward --config config.yml" in render_report(run)
    html = render_report(replace(run, config_text="synthetic: {n_markets: 4}"))
    assert "Every fold trains a generator and agents anew" in html and "None were used" not in html


def test_baselines_alone_can_be_walked(tmp_path):
    alone = PreparedWalk.check(replace(TINY, first=2022, baselines_only=True))
    metrics = json.loads(walk(alone, tmp_path / "alone"))
    assert "agent" not in metrics["test"] and {"base rule", "equal weight", "SP500"} <= set(metrics["test"])
    assert not (tmp_path / "alone" / "folds").exists()
