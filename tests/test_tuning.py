"""Search spaces for rl_zoo3: they keep the policy's arguments, and several processes share one study."""

import os
import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from quantflux_sb3.tuning import install_search_spaces, parse_kwargs
from quantflux_sb3.zoo_configs import load_hyperparams

hyperparams_opt = pytest.importorskip("rl_zoo3.hyperparams_opt")
CONFIGS = {
    "ppo": "ppo",
    "ppo_dirichlet": "ppo",
    "ppo_lstm": "ppo_lstm",
    "a2c": "a2c",
    "trpo": "trpo",
    "sac": "sac",
    "tqc": "tqc",
}


@pytest.fixture(autouse=True)
def own_spaces_only_here(monkeypatch):
    monkeypatch.setattr(hyperparams_opt, "HYPERPARAMS_SAMPLER", dict(hyperparams_opt.HYPERPARAMS_SAMPLER))
    monkeypatch.setattr(hyperparams_opt, "HYPERPARAMS_CONVERTER", dict(hyperparams_opt.HYPERPARAMS_CONVERTER))


@pytest.mark.parametrize("config", CONFIGS)
def test_sampled_settings_keep_what_the_config_says_of_the_policy(config):
    algorithm, hyperparams = CONFIGS[config], load_hyperparams(f"quantflux_sb3.zoo_configs.{config}")["QuantFlux-v0"]
    base = parse_kwargs(hyperparams["policy_kwargs"])
    install_search_spaces(hyperparams)
    study, n_envs = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), hyperparams["n_envs"]
    for _ in range(20):
        trial = study.ask()
        sampled = hyperparams_opt.HYPERPARAMS_SAMPLER[algorithm](trial, 7, n_envs, {})
        kept = {name: value for name, value in base.items() if name not in ("net_arch", "log_std_init")}
        assert kept.items() <= sampled["policy_kwargs"].items()
        assert 0.0 <= sampled["gamma"] <= 0.9 and "net_arch" in sampled["policy_kwargs"]
        if "n_steps" in sampled:
            assert 512 <= sampled["n_steps"] * n_envs <= 2048
            assert sampled.get("batch_size", sampled["n_steps"] * n_envs) == sampled["n_steps"] * n_envs
        # --trial-id: rl_zoo3 turns the saved numbers into the same settings
        assert hyperparams_opt.HYPERPARAMS_CONVERTER[algorithm](trial.params) == sampled


def test_policy_kwargs_are_read_as_configs_write_them():
    text = "dict(log_std_init=-0.7, optimizer_kwargs=dict(fused=True), net_arch=dict(pi=[64], vf=[64]))"
    expected = {"log_std_init": -0.7, "optimizer_kwargs": {"fused": True}, "net_arch": {"pi": [64], "vf": [64]}}
    assert parse_kwargs(text) == expected == parse_kwargs(expected)
    for bad in ("__import__('os').getcwd()", "dict(a=open('x'))", "dict([('a', 1)])", 3):
        with pytest.raises(ValueError, match="policy_kwargs must be a mapping"):
            parse_kwargs(bad)


def test_two_processes_share_one_study_in_a_journal_file(tmp_path):
    program = str(Path(sys.executable).with_name("quantflux"))
    command = [program, "train", "-optimize", "--n-trials", "2", "-n", "1024", "--vec-env", "batched", "--no-optim-plots",
               "--storage", "study.log", "--study-name", "shared"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, "--seed", str(seed), "-f", f"logs-{seed}"], cwd=tmp_path, env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for seed in (1, 2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    finished = [{int(number) for number in re.findall(r"Trial (\d+) finished", output)} for output in outputs]
    assert len(finished[0]) == len(finished[1]) == 2 and not finished[0] & finished[1]
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
    study = optuna.load_study(study_name="shared", storage=optuna.storages.JournalStorage(backend))
    assert {trial.number for trial in study.trials} == {0, 1, 2, 3} == finished[0] | finished[1]
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 4
    assert list(tmp_path.glob("logs-1/ppo/report_*.csv"))
