"""The command line: what it refuses and how it says so. Bad input leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.cli import main
from quantflux_sb3.market import bundled_prices


@pytest.fixture
def prices_file(tmp_path):
    """Writes a table of prices as CSV; a function from a change to a path."""
    frame = bundled_prices()[0][["AAPL", "JPM", "PG", "XOM"]].iloc[-2000:]

    def write(change=lambda table: table, **kwargs) -> str:
        path = tmp_path / "prices.csv"
        change(frame.copy()).to_csv(path, **kwargs)
        return str(path)

    return write


def with_nan(table):
    table.iloc[700, 1] = np.nan
    return table


def with_text(table):
    table["JPM"] = table["JPM"].astype(object)
    table.iloc[5, 1] = "n/a?"
    return table


BAD_FILES = {
    "NaN at 1 dates": with_nan,
    "duplicate dates": lambda table: pd.concat([table.iloc[:500], table.iloc[499:]]),
    "not ascending": lambda table: table.iloc[::-1],
    "at least 2": lambda table: table[["AAPL"]],
    "not numeric: found 'n/a\\?' on \\d{4}-\\d\\d-\\d\\d": with_text,
    "zero or negative": lambda table: table * -1,
    "usable days": lambda table: table.iloc[-160:],
}


def refused(capsys, argv, folder) -> str:
    """Run a command that must be refused: exit code 2, one line on stderr, nothing on disk. That line."""
    before = sorted(folder.rglob("*"))
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith("quantflux: ") and err.count("\n") == 1 and "Traceback" not in err + out
    assert sorted(folder.rglob("*")) == before
    return err


@pytest.mark.parametrize("expected", BAD_FILES)
def test_bad_price_files_are_refused_in_one_line(expected, prices_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = prices_file(BAD_FILES[expected])
    assert re.search(expected, refused(capsys, ["run", "--prices", path], tmp_path))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("run --offline --tickers AAPL NOPE", "Unknown ticker.*NOPE"),
        ("run --env.max_wight 0.3", "max_wight"),
        ("run --env.max_weight 0.1", "cannot reach 100 %.*0.1667"),
        ("run --train_end 2022-12-20 --validation_end 2022-12-25", "Split 'validation' has 3 usable days"),
        ("run --env.split test", "must stay 'train'"),
        ("run --env.costs -0.1", "Cost `proportional`"),
        ("run --agent.n_seeds many", "agent.n_seeds"),
        ("run --generator.channels [10]", "multiples of 8"),
        ("run --output /proc/nothing", "cannot be written"),
        ("run --name a/b", "one folder name"),
        ("run --resume --name never-run", "no run"),
        ("run --prices nowhere.csv", "no prices file"),
        ("run --region Atlantis", "Unknown region"),
        ("run --start 2020-13-45", "is no date"),
        ("run --agent.policy quantflux_sb3.policies.Nope", "no class"),
        ("run --baselines momentun", "There is no baseline 'momentun'; expected some of"),
        ("evaluate --model nowhere.zip --baselines skfolio.optimization.Nope", "is no optimiser of skfolio's kind"),
        ("generate --generator . --out x.csv", "not a saved RegimeDDPMPipeline"),
        ("generate --generator . --out x.txt", "must end in"),
        ("evaluate --model nowhere.zip", "no model"),
        (f"evaluate --model {__file__}", "is no saved ppo model"),
        ("evaluate", "are required: --model"),
        ("push runs/run-001", "are required: --repo-id"),
        ("data", "needs one of"),
        ("walkforward --first 1991", "Give a later --first"),
        ("walkforward --first 2010 --last 2009", "must not lie before"),
        ("walkforward --fold_years 0", "fold_years >= 1"),
        ("walkforward --last 2030", "prices reach from 1990-01-03 to 2022-12-28"),
        ("walkforward --backend spark", "expected one of local, ray, dask"),
        ("walkforward --n_jobs 0", "n_jobs must be at least 1"),
        ("walkforward --address here:1", "needs --backend ray or dask"),
        ("walkforward --backend dask --address nowhere", "No dask cluster answers at --address nowhere"),
        ("walkforward --first 2030", "--first 2030 is after the last price, 2022-12-28"),
        ("walkforward --train_end 2010-12-31", "splits of its own"),
        ("walkforward --synthetic.n_markets 0 --agent.policy no.Policy", "no class 'no.Policy'"),
        ("walkforward --resume --name never-run", "no run"),
        ("frobnicate", "unknown command"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(expected, refused(capsys, arguments.split(), tmp_path))


def test_unknown_key_in_a_config_file_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yml").write_text("agent:\n  total_timestep: 5\n")
    err = refused(capsys, ["run", "--config", "mine.yml"], tmp_path)
    assert "'mine.yml'" in err and "total_timestep" in err


@pytest.mark.parametrize(
    ("command", "content", "other"), [("run", "baselines_only: false", "walkforward"), ("walkforward", "seed: 0", "run")]
)
def test_runs_of_the_other_kind_are_not_resumed(command, content, other, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "it").mkdir(parents=True)
    (tmp_path / "runs" / "it" / "config.yml").write_text(content)
    err = refused(capsys, [command, "--resume", "--name", "it"], tmp_path)
    assert f"go on with `quantflux {other} --resume --output runs --name it`" in err


def test_data_list_and_fetch(tmp_path, capsys):
    assert main(["data", "list"]) == 0
    assert "AAPL" in capsys.readouterr().out
    path = tmp_path / "levels.csv"
    assert main(["data", "fetch", "--tickers", "AAPL", "JPM", "--offline", "--out", str(path)]) == 0
    table = pd.read_csv(path, index_col=0)
    real = bundled_prices()[0][["AAPL", "JPM"]]
    np.testing.assert_allclose(table["AAPL"].pct_change().iloc[1:], real["AAPL"].pct_change().iloc[1:], rtol=1e-9, atol=1e-12)
    assert table.index[0] == "1990-01-02" and (table.iloc[0] == 100.0).all()


def test_ctrl_c_keeps_finished_stages_and_resume_goes_on(tmp_path):
    quantflux = str(Path(sys.executable).with_name("quantflux"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [quantflux, "run", "--quick", "--name", "cut"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs inherit that it is ignored
    )  # fmt: skip
    generator = tmp_path / "runs" / "cut" / "generator"
    deadline = time.monotonic() + 120
    while not generator.is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    resume = [quantflux, "run", "--resume", "--name", "cut"]
    second = subprocess.run(resume, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert second.returncode == 2 and "Another process is working on the run" in second.stderr
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "quantflux run --resume" in err and "Traceback" not in err
    assert generator.is_dir() and not (generator.parent / "metrics.json").exists()
    assert not list(generator.parent.glob(".*"))
    trained_at = (generator / "model_index.json").stat().st_mtime_ns

    wrong = subprocess.run(
        [quantflux, "run", "--resume", "--seed", "5"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert wrong.returncode == 2 and "differ" in wrong.stderr
    done = subprocess.run([quantflux, "run", "--resume"], cwd=tmp_path, env=environment, capture_output=True, timeout=180)
    assert done.returncode == 0
    assert (generator.parent / "metrics.json").is_file()
    assert (generator / "model_index.json").stat().st_mtime_ns == trained_at


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("env: 5\n", "`env` in .* must be a mapping"),
        ("", "must be a mapping"),
        ("[1, 2]\n", "must be a mapping"),
        ("a: [\n", "YAML"),
    ],
)
def test_config_files_that_are_no_settings_are_refused(content, text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yml").write_text(content)
    assert re.search(text, refused(capsys, ["run", "--config", "mine.yml"], tmp_path))


def test_columns_that_stand_twice_are_refused(prices_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = prices_file(lambda table: table.set_axis(["A", "B", "B", "C"], axis=1))
    assert "['B'] stand there twice" in refused(capsys, ["run", "--prices", path], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--agent.batch_size 1", "at least 2"),
        ("--agent.n_envs 1 --agent.n_steps 1", "at least 2"),
        ("--agent.policy quantflux_sb3.policies.SimplexPolicy", "is no policy for this env"),
        ("--agent.policy builtins.int", "is no policy for this env"),
        ("--seed=-1", "`seed` must lie between"),
        ("--generator.window 100000", "at least 500000 training days"),
    ],
)
def test_what_a_later_stage_needs_is_said_before_the_first(arguments, text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert text in refused(capsys, ["run", *arguments.split()], tmp_path)


def test_prices_that_never_move_are_refused_for_the_generator(prices_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "never move" in refused(capsys, ["run", "--prices", prices_file(lambda table: table.assign(JPM=5.0))], tmp_path)


@pytest.mark.parametrize("out", ["nodir/x.csv", "/proc/x.csv", "folder"])
def test_outputs_that_cannot_be_written_are_refused(out, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    err = refused(capsys, ["data", "fetch", "--offline", "--tickers", "AAPL", "MSFT", "--out", out], tmp_path)
    assert f"{out}'" in err or out.startswith("nodir")
