"""rl_zoo3 as its users call it, in an empty folder, for every shipped config."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from quantflux_sb3.settings import AgentSettings
from quantflux_sb3.zoo_configs import load_hyperparams

pytest.importorskip("rl_zoo3")
CONFIGS = {
    "ppo": "ppo", "ppo_dirichlet": "ppo", "ppo_lstm": "ppo_lstm", "a2c": "a2c", "trpo": "trpo", "sac": "sac", "tqc": "tqc",
}  # fmt: skip


def command(arguments: str, cwd: Path) -> str:
    """Run a command line of the virtual environment; its output."""
    program, *rest = arguments.split()
    result = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *rest],
        cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout + result.stderr


def test_plain_train_and_enjoy_work_verbatim(tmp_path):
    command("rl_zoo3 train --env QuantFlux-v0 -n 4096", tmp_path)
    assert (tmp_path / "logs/ppo/QuantFlux-v0_1/QuantFlux-v0.zip").is_file()
    assert "Episode Reward" in command("rl_zoo3 enjoy --env QuantFlux-v0 -f logs --no-render -n 300", tmp_path)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_shipped_config_trains(config, tmp_path):
    output = command(
        f"rl_zoo3 train --algo {CONFIGS[config]} --env QuantFlux-v0 --conf-file quantflux_sb3.zoo_configs.{config} -n 2000"
        " --eval-freq -1",
        tmp_path,
    )
    assert "Saving to" in output
    if config == "ppo":
        assert "effective_assets" in output
        command("rl_zoo3 enjoy --env QuantFlux-v0 -f logs --no-render -n 300", tmp_path)
        saved = "logs/ppo/QuantFlux-v0_1/QuantFlux-v0.zip"
        conf = "--conf-file quantflux_sb3.zoo_configs.ppo --eval-freq -1"
        assert "Loading pretrained agent" in command(f"rl_zoo3 train --env QuantFlux-v0 {conf} -n 2000 -i {saved}", tmp_path)


def test_optimisation_works_verbatim(tmp_path):
    output = command("rl_zoo3 train --env QuantFlux-v0 -optimize --n-trials 2 -n 2048 --seed 1 --no-optim-plots", tmp_path)
    assert "Number of finished trials:  2" in output


def test_quantflux_train_gives_evaluation_the_settings_of_training(tmp_path):
    output = command("quantflux train -n 2048 --eval-freq 1024", tmp_path)
    assert "eval_env_kwargs={'target_smoothing': 5, 'split': 'validation', 'episode_length': None}" in output
    command("quantflux enjoy --no-render -n 100", tmp_path)


def test_run_and_zoo_train_the_same_agent():
    zoo = load_hyperparams("quantflux_sb3.zoo_configs.ppo")["QuantFlux-v0"]
    ours = {item.name: item.default for item in fields(AgentSettings)}
    assert ours["total_timesteps"] == zoo["n_timesteps"]
    for name in ("policy", "n_envs", "n_steps", "batch_size", "n_epochs", "learning_rate", "gamma", "gae_lambda"):
        assert ours[name] == zoo[name], name
    assert f"log_std_init={ours['log_std_init']}" in zoo["policy_kwargs"]


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_hold_plain_values_only(config):
    text = (Path(__file__).parent.parent / "zoo_configs" / f"{config}.yml").read_text()
    assert set(yaml.safe_load(text)) == {"QuantFlux-v0"}
