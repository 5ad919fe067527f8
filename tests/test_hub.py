"""What is published of an agent can be fetched by rl_zoo3, says how the agent did, and a video can be made of it."""

import runpy
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, constants
from requests.exceptions import HTTPError

from quantflux_sb3.cli import main
from quantflux_sb3.commands.push import of_zoo
from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.hub import plain_env_kwargs, timing_wrapper
from quantflux_sb3.sizing import TimingRule

pytest.importorskip("rl_zoo3")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    """What rl_zoo3 leaves behind of a short training."""
    root = tmp_path_factory.mktemp("zoo")
    small = ["n_envs:2", "n_steps:64", "batch_size:128", "n_epochs:1"]
    arguments = ["-n", "256", "--eval-freq", "-1", "--seed", "1", "-f", str(root / "logs"), "-params", *small]
    assert main(["train", *arguments]) == 0
    return root / "logs"


@pytest.fixture(scope="module")
def published(logs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("hub") / "agent"
    assert main(["push", "-f", str(logs), "--repo-id", "someone/agent", "--out", str(out), "--dry-run"]) == 0
    return out


def test_card_says_what_it_is_how_it_did_and_what_could_be_wrong(published):
    card = ModelCard.load(published / "README.md")
    assert card.data.library_name == "stable-baselines3" and "QuantFlux-v0" in card.data.tags
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert f"| **agent** | {100 * figures['annual_return']:.1f} %" in card.text
    for text in (
        "equal weight",
        "base rule",
        "survivors",
        "One model of one seed",
        "not for live trading",
        "unseen days, 2016",
    ):
        assert text in card.text
    settings = yaml.safe_load(card.text.partition("```yaml\n")[2].partition("```")[0])
    assert card.text.count("target_smoothing") == 1
    assert settings["env_wrapper"] == "quantflux_sb3.wrappers.MarketTiming" and settings["n_steps"] == 64
    assert "-orga someone -name agent" in card.text


def test_rl_zoo3_fetches_what_was_published_and_plays_it(published, tmp_path, monkeypatch):
    load_from_hub = pytest.importorskip("rl_zoo3.load_from_hub")

    def local(repo_id: str, name: str) -> str:
        if not (published / name).is_file():
            raise HTTPError(f"no {name}")
        return str(published / name)

    monkeypatch.setattr(load_from_hub, "load_from_hub", local)
    env_name = load_from_hub.EnvironmentName("QuantFlux-v0")
    load_from_hub.download_from_hub("ppo", env_name, 0, str(tmp_path), "someone", "agent")
    assert main(["enjoy", "-f", str(tmp_path), "--no-render", "-n", "20"]) == 0
    card = ModelCard.load(published / "README.md")
    agent = next(row for row in of_zoo(str(tmp_path), "ppo").rows if row["name"] == "agent")
    assert round(agent["sharpe_ratio"], 4) == card.data.eval_results[0].metric_value
    assert list((tmp_path / "ppo" / "QuantFlux-v0_1").glob("*.monitor.csv"))


def test_folder_holds_the_model_and_plain_yaml(published, logs):
    with zipfile.ZipFile(published / "ppo-QuantFlux-v0.zip") as archive:
        assert "policy.pth" in archive.namelist()
    for name in ("config.yml", "args.yml", "env_kwargs.yml"):
        assert isinstance(yaml.safe_load((published / name).read_text()), dict)
    assert yaml.safe_load((published / "env_kwargs.yml").read_text()) == {"target_smoothing": 5}


def test_video_of_an_agent(logs, tmp_path, monkeypatch):
    imageio = pytest.importorskip("imageio.v3")
    shutil.copytree(logs, tmp_path / "logs")
    monkeypatch.chdir(tmp_path)
    command = "record_video --env QuantFlux-v0 --algo ppo -f logs -o videos -n 5 --env-kwargs split:'validation'"
    monkeypatch.setattr(sys, "argv", command.split())
    runpy.run_module("rl_zoo3.record_video", run_name="__main__")
    (video,) = (tmp_path / "videos").glob("*.mp4")
    frames = imageio.imread(video, plugin="FFMPEG")
    assert frames.shape == (5, 400, 640, 3)
    assert frames[0].std() > 10.0 and (frames[0] != frames[-1]).any()  # a picture, and it moves


def test_only_plain_settings_that_differ_are_published():
    config = PortfolioConfig(target_smoothing=5, max_weight=0.4, costs=0.002, min_weight=(0.1, 0.0))
    assert plain_env_kwargs(config, PortfolioConfig()) == {"target_smoothing": 5, "max_weight": 0.4, "costs": 0.002}
    name = "quantflux_sb3.wrappers.MarketTiming"
    assert timing_wrapper(None) is None and timing_wrapper(TimingRule()) == name
    assert timing_wrapper(TimingRule(min_exposure=0.2)) == {name: {"min_exposure": 0.2}}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--repo-id a/b", "one of them"),
        ("nowhere --repo-id a/b", "There is no finished run in 'nowhere'"),
        ("-f nowhere --repo-id a/b --exp-id one", "exp_id"),
        ("-f nowhere --repo-id a/b", "There is no ppo model of QuantFlux-v0 in 'nowhere'"),
        ("-f LOGS --repo-id agent", "--repo-id must be ORGANIZATION/NAME; got 'agent'"),
        ("-f LOGS --repo-id a/b --out .", "There is a '.' already"),
    ],
)
def test_what_cannot_be_published_is_refused_in_one_line(arguments, expected, logs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["push", *arguments.replace("LOGS", str(logs)).split(), "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_hub_that_does_not_answer_is_said_and_the_folder_kept(logs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["push", "-f", str(logs), "--repo-id", "someone/agent"]) == 2
    err = capsys.readouterr().err
    assert "The Hub did not take 'hub/agent'" in err and err.count("\n") == 1
    card = tmp_path / "hub" / "agent" / "README.md"
    assert card.is_file()
    assert main(["push", "-f", str(logs), "--repo-id", "someone/agent", "--dry-run"]) == 0  # its own folder, written again
    card.write_text("mine")
    assert main(["push", "-f", str(logs), "--repo-id", "someone/agent", "--dry-run"]) == 2
    assert "delete it, or choose another --out" in capsys.readouterr().err and card.read_text() == "mine"


def test_a_walk_forward_or_damaged_figures_are_not_published(tmp_path, capsys):
    for text, expected in (("{", "metrics.json' is damaged"), ('{"test": 5}', "does not hold the figures of a run")):
        (tmp_path / "metrics.json").write_text(text)
        assert main(["push", str(tmp_path), "--repo-id", "a/b", "--out", str(tmp_path / "out")]) == 2
        assert expected in capsys.readouterr().err
        assert main(["report", str(tmp_path)]) == 2
        assert expected in capsys.readouterr().err
    (tmp_path / "metrics.json").write_text('{"test": {"equal weight": {}}, "folds": []}')
    (tmp_path / "config.yml").write_text("baselines_only: true")
    assert main(["push", str(tmp_path), "--repo-id", "a/b", "--out", str(tmp_path / "out")]) == 2
    assert "is a walk-forward; push takes a run of `quantflux run`" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "is a walk-forward of baselines only; it has no page" in capsys.readouterr().err
