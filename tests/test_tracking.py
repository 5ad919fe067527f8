"""Runs are tracked by the real packages, offline: MLflow in a SQLite file, Weights & Biases in a folder."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from quantflux_sb3 import tracking
from quantflux_sb3.callbacks import EvalOnRealCallback, MLflowCallback
from quantflux_sb3.cli import main
from quantflux_sb3.evaluation.drawing import new_figure
from quantflux_sb3.policies import SoftmaxPolicy
from quantflux_sb3.tracking import Tracker, flat_numbers, tracked
from quantflux_sb3.vec_env import make_quantflux_vec_env

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = {"seed": 3, "agent": {"learning_rate": 0.001, "policy": "mine"}}


def agent(**kwargs) -> PPO:
    env = make_quantflux_vec_env(8, seed=3)
    return PPO(SoftmaxPolicy, env, n_steps=16, batch_size=128, n_epochs=1, gamma=0.0, seed=3, device="cpu", **kwargs)


def program(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(Path(sys.executable).with_name("quantflux")), *arguments], cwd=cwd, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """What a finished run leaves behind, in small."""
    folder = tmp_path / "runs" / "mine"
    (folder / "generator").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"test": {"equal weight": {"sharpe_ratio": 0.7}}, "verdicts": ["none"]}))
    (folder / "config.yml").write_text("seed: 3\n")
    (folder / "report.html").write_text("<p>report</p>")
    (folder / "generator" / "weights.bin").write_bytes(b"large")
    new_figure(2.0).savefig(folder / "allocation.png")
    return folder


def test_numbers_are_flattened_and_others_left_out():
    content = {"a": {"b c": 1, "d": "text", "e": None, "f": float("nan")}, "g": np.float32(2.5), "h": [1, 2], "i": np.inf}
    assert flat_numbers(content) == {"a/b c": 1.0, "g": 2.5}


def test_without_a_tracker_nothing_is_written(tmp_path, monkeypatch, run_folder):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with tracked(None, "mine", SETTINGS) as tracker:
        assert type(tracker) is Tracker and tracker.callback() is None
        tracker.log_folder(run_folder)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """A database of MLflow, which takes seconds to create."""
    pytest.importorskip("mlflow")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def mlflow_client(store, tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # artifacts lie beside it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"of {tmp_path.name}")
    return MlflowClient(store)


def runs_of(client, tmp_path):
    experiment = client.get_experiment_by_name(f"of {tmp_path.name}")
    return client.search_runs([experiment.experiment_id], order_by=["start_time"])


def test_mlflow_callback_keeps_what_sb3_logs(mlflow_client, tmp_path):
    callbacks = [EvalOnRealCallback(eval_freq=256, figures=True), MLflowCallback(run_name="first")]
    model = agent()
    model.learn(512, callback=callbacks)
    assert not model.logger.output_formats  # it leaves the logger as it was
    (run,) = runs_of(mlflow_client, tmp_path)
    assert run.info.run_name == "first" and run.info.status == "FINISHED"
    params = run.data.params
    assert params["algorithm"] == "PPO" and params["policy"] == "SoftmaxPolicy" and params["n_steps"] == "16"
    history = mlflow_client.get_metric_history(run.info.run_id, "time/total_timesteps")
    assert [(metric.step, metric.value) for metric in history] == [(step, step) for step in (128, 256, 384, 512)]
    assert np.isfinite(run.data.metrics["validation/sharpe_ratio"]) and "train/value_loss" in run.data.metrics
    pictures = {info.path for info in mlflow_client.list_artifacts(run.info.run_id, "validation")}
    assert pictures == {f"validation/{name}_000000{step}.png" for name in ("allocation", "regimes") for step in (256, 512)}


def test_mlflow_run_ends_with_the_word_for_how_it_ended(mlflow_client, tmp_path, run_folder):
    with tracked("mlflow", "good", SETTINGS) as tracker:
        tracker.log_folder(run_folder)
    with pytest.raises(KeyboardInterrupt), tracked("mlflow", "cut", SETTINGS):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), tracked("mlflow", "bad", SETTINGS):
        _ = 1 / 0
    runs = runs_of(mlflow_client, tmp_path)
    statuses = {run.info.run_name: run.info.status for run in runs}
    assert statuses == {"good": "FINISHED", "cut": "KILLED", "bad": "FAILED"}
    good = next(run for run in runs if run.info.run_name == "good")
    assert good.data.metrics == {"test/equal weight/sharpe_ratio": 0.7}
    assert good.data.params == {"seed": "3", "agent.learning_rate": "0.001", "agent.policy": "mine"}
    names = {info.path for info in mlflow_client.list_artifacts(good.info.run_id)}
    assert names == {"metrics.json", "config.yml", "report.html", "allocation.png"}


def wandb_records(path: Path) -> bytes:
    """The records of W&B's offline file, without the headers of the parts that they are cut into (LevelDB's log format)."""
    data, position, records = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        records += data[position + 7 : position + 7 + length]
        position += 7 + length
    return records


def test_wandb_run_is_kept_offline(tmp_path, monkeypatch, run_folder):
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with tracked("wandb", "mine", SETTINGS) as tracker:
        for seed in (0, 1):  # the second agent begins at step 0 again
            agent().learn(256, callback=[EvalOnRealCallback(figures=True), tracker.callback(f"seed-{seed}/")])
        tracker.log_folder(run_folder)
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    expected = (b"learning_rate", b"seed-0/time/fps", b"seed-1/global_step", b"test/equal weight/sharpe_ratio", b"run-mine")
    deadline = time.monotonic() + 30  # W&B writes in a process of its own
    while missing := [text for text in expected if text not in wandb_records(next(run.glob("run-*.wandb")))]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.1)
    assert len(list((run / "files" / "media" / "images").rglob("*allocation*.png"))) == 3


def test_tensorboard_shows_the_pictures(tmp_path):
    model = agent()
    model.set_logger(Logger(str(tmp_path), [TensorBoardOutputFormat(str(tmp_path))]))
    model.learn(384, callback=EvalOnRealCallback(eval_freq=128, figures=True))
    model.logger.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["images"]) == {"validation/allocation", "validation/regimes"}
    assert "validation/sharpe_ratio" in events.Tags()["scalars"]


def test_quantflux_train_hands_over_to_rl_zoo3s_tracking(tmp_path):
    pytest.importorskip("rl_zoo3")
    result = program("train", "-n", "1024", "--eval-freq", "-1", "--vec-env", "batched", "--track", cwd=tmp_path,
                     WANDB_MODE="offline", WANDB_SILENT="true")  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("--track mlflow", "pip install 'quantflux_sb3[tracking]'"), ("--track comet", "--track must be one of wandb, mlflow")],
)
def test_trackers_that_are_not_there_are_refused_in_one_line(arguments, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    assert main(["run", *arguments.split()]) == 2
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_store_that_does_not_start_leaves_no_run_behind(tmp_path, capsys, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://server")
    assert main(["run", "--track", "mlflow", "--name", "mine"]) == 2
    err = capsys.readouterr().err
    assert "MLflow does not start" in err and err.count("\n") == 1 and not list((tmp_path / "runs").iterdir())
