"""The whole experiment, in its quick form, through the real command line."""

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from stable_baselines3 import PPO

from quantflux_sb3.cli import main
from quantflux_sb3.diffusion import RegimeDDPMPipeline
from quantflux_sb3.evaluation.backtest import backtest_model
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.market import load_bundled
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.settings import Settings
from quantflux_sb3.vec_wrappers import VecMarketTiming

SMALL = ["--agent.total_timesteps", "20000", "--agent.n_seeds", "2", "--synthetic.n_markets", "4"]
PICTURES = ("cumulative_returns", "drawdown", "allocation", "final_allocation", "regime_attribution")


def quantflux(*arguments: str, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        [str(Path(sys.executable).with_name("quantflux")), *arguments],
        cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two runs of the same settings, the second of them tracked; the folder that holds ``runs``."""
    root = tmp_path_factory.mktemp("experiment")
    quantflux("run", "--quick", "--name", "one", *SMALL, cwd=root)
    track = ["--track", "mlflow"] if find_spec("mlflow") else []
    quantflux("run", "--quick", "--name", "two", *SMALL, *track, cwd=root, MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlflow.db")
    return root / "runs"


@pytest.fixture(scope="module")
def metrics(folder) -> dict:
    return json.loads((folder / "one" / "metrics.json").read_text())


def test_same_seed_gives_byte_identical_metrics(folder):
    assert (folder / "one" / "metrics.json").read_bytes() == (folder / "two" / "metrics.json").read_bytes()
    for name in PICTURES:
        assert (folder / "one" / f"{name}.png").read_bytes() == (folder / "two" / f"{name}.png").read_bytes()


def test_everything_promised_is_there(folder):
    names = {path.name for path in (folder / "one").iterdir()}
    assert names >= {
        "metrics.json", "report.html", "model.zip", "generator", "config.yml", "versions.json", "timings.json",
        "daily.parquet", *(f"{name}.png" for name in PICTURES),
    }  # fmt: skip
    assert not [name for name in names if name.startswith(".partial")]


def test_metrics_are_those_of_the_saved_model(folder, metrics):
    prepared = Prepared.check(Settings())
    model = PPO.load(folder / "one" / "model.zip")
    agent = performance(backtest_model(model, prepared.market, "test", prepared.config, [VecMarketTiming]))
    assert agent == pytest.approx(metrics["test"]["agent"], abs=1e-9)


def test_agent_is_chosen_on_the_validation_years(metrics):
    seeds = metrics["seeds"]
    assert len(seeds) == 2
    best = max(seeds, key=lambda seed: seeds[seed]["validation_sharpe_ratio"])
    assert metrics["chosen_seed"] == int(best)
    assert metrics["test"]["agent"]["sharpe_ratio"] == seeds[best]["test_sharpe_ratio"]


def test_test_years_are_unseen(folder, metrics):
    assert metrics["market"]["test_first"] == "2016-01-04"
    pipeline = RegimeDDPMPipeline.from_pretrained(folder / "one" / "generator")
    assert pipeline.state.record.train_end <= "2012-12-31"
    with pytest.raises(ValueError, match="2010"):
        pipeline.check_unseen(np.array(["2010-01-05"], dtype="datetime64[D]"))


def test_report_says_what_must_be_said(folder, metrics):
    class Text(HTMLParser):
        def __init__(self):
            super().__init__()
            self.parts: list[str] = []

        def handle_data(self, data):
            self.parts.append(data)

    parser = Text()
    parser.feed((folder / "one" / "report.html").read_text())
    text = " ".join(" ".join(parser.parts).split())
    for phrase in (
        "survivors",
        "pays no dividends",
        "base rule",
        "equal weight",
        "Turnover",
        "not for live trading",
        "Trades by their reason",
        "Reward by term and regime",
        "Features that move the weights most",
        "Same day, other regime",
    ):
        assert phrase in text, phrase
    agent = metrics["test"]["agent"]
    for figure in (agent["sharpe_ratio"], metrics["test"]["equal weight"]["sharpe_ratio"]):
        assert f"{figure:.2f}" in text
    assert f"{metrics['agent']['distance_to_base_rule']:.1%}".replace("%", " %") in text
    assert f"{metrics['agent']['distance_to_equal_weight_rule']:.1%}".replace("%", " %") in text


def test_other_commands_take_what_the_run_left(folder):
    out = quantflux("evaluate", "--model", "runs/one/model.zip", "--config", "runs/one/config.yml", cwd=folder.parent)
    assert "agent" in out and "base rule" in out
    quantflux("generate", "--generator", "runs/one/generator", "--out", "paths.csv", "--paths", "3", cwd=folder.parent)
    assert (folder.parent / "paths.csv").read_text().startswith("path,day,AAPL")


def test_costs_come_from_the_region():
    assert Prepared.check(Settings()).config.costs.proportional == 0.0005
    assert Prepared.check(Settings(region="India", offline=True)).config.costs.proportional == 0.0008


def test_market_of_an_experiment_is_the_bundled_one():
    assert Prepared.check(Settings()).market.content_hash == load_bundled().content_hash


def test_a_run_is_published_with_its_figures(folder, metrics, tmp_path):
    out = tmp_path / "hub"
    assert main(["push", str(folder / "one"), "--repo-id", "someone/agent", "--out", str(out), "--dry-run"]) == 0
    card = ModelCard.load(out / "README.md")
    assert card.data.eval_results[0].metric_value == round(metrics["test"]["agent"]["sharpe_ratio"], 4)
    for sentence in (*metrics["verdicts"], *metrics["caveats"]):
        assert sentence in card.text
    assert (out / "ppo-QuantFlux-v0.zip").read_bytes() == (folder / "one" / "model.zip").read_bytes()
    hyperparams = yaml.safe_load((out / "config.yml").read_text())
    assert hyperparams["env_kwargs"] == {"target_smoothing": 5} and hyperparams["n_timesteps"] == 20_000


def test_a_tracked_run_is_told_of_from_training_to_report(folder, metrics, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.chdir(folder.parent)
    client = tracking.MlflowClient(f"sqlite:///{folder.parent}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("quantflux").experiment_id])
    assert run.info.run_name == "two" and run.info.status == "FINISHED"
    assert run.data.params["agent.total_timesteps"] == "20000" and run.data.params["env.target_smoothing"] == "5"
    for name in ("sharpe_ratio", "annual_turnover"):
        assert run.data.metrics[f"test/agent/{name}"] == pytest.approx(metrics["test"]["agent"][name])
    for seed in (0, 1):
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, f"seed-{seed}/train/value_loss")]
        assert steps == sorted(steps) and steps[-1] == 20_480
    names = {info.path for info in client.list_artifacts(run.info.run_id)}
    assert names >= {"metrics.json", "config.yml", "report.html", "model.zip", *(f"{name}.png" for name in PICTURES)}
