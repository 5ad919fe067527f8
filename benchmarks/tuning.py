"""
Tunes a shipped configuration with ``rl_zoo3 -optimize`` and compares the best trial to what is shipped, on fresh seeds.

The trials train on the training years and are judged on the validation years; the test years are not looked at. The study
lands in docs/tuning/CONFIG.csv. Both settings are then trained with new seeds, and the figure is the benchmark-relative reward
of the whole validation split, the one that the trials were judged by.

Usage: ``python benchmarks/tuning.py ppo --n-trials 12 --timesteps 32768``
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch as th
from rl_zoo3 import ALGOS, hyperparams_opt
from stable_baselines3.common.evaluation import evaluate_policy

from quantflux_sb3.evaluation.controls import mean_interval
from quantflux_sb3.preparation import load_by_name
from quantflux_sb3.tuning import install_search_spaces, parse_kwargs
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.vec_wrappers import VecMarketTiming
from quantflux_sb3.zoo_configs import load_hyperparams

ALGORITHMS = {"ppo_dirichlet": "ppo"}
#: Settings of a configuration that are not the algorithm's.
_NOT_THE_ALGORITHMS = ("n_envs", "n_timesteps", "policy", "env_wrapper", "env_kwargs", "callback", "policy_kwargs")


def search(config: str, algorithm: str, n_trials: int, timesteps: int, out: Path) -> dict[str, Any]:
    """Run the study; the parameters of its best trial."""
    with tempfile.TemporaryDirectory() as folder:
        storage = str(Path(folder) / "study.log")
        command = [
            str(Path(sys.executable).with_name("quantflux")), "train", "-optimize", "--algo", algorithm, "--conf-file",
            f"quantflux_sb3.zoo_configs.{config}", "--n-trials", str(n_trials), "-n", str(timesteps), "--vec-env", "batched",
            "--no-optim-plots", "--seed", "1", "--storage", storage, "--study-name", config, "--verbose", "0",
        ]  # fmt: skip
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        backend = optuna.storages.journal.JournalFileBackend(storage)
        study = optuna.load_study(study_name=config, storage=optuna.storages.JournalStorage(backend))
        out.parent.mkdir(parents=True, exist_ok=True)
        frame = study.trials_dataframe(attrs=("number", "value", "params", "state"))
        frame.to_csv(out, index=False, float_format="%.6g")
        return study.best_params


def validation_reward(algorithm: str, hyperparams: dict[str, Any], timesteps: int, seed: int) -> float:
    """Train on the training years; mean reward of one episode over the validation years."""
    settings = hyperparams.get("env_kwargs", {})
    venv = make_quantflux_vec_env(hyperparams["n_envs"], seed=seed, wrappers=[VecMarketTiming], **settings)
    kwargs = {name: value for name, value in hyperparams.items() if name not in _NOT_THE_ALGORITHMS}
    policy = hyperparams["policy"]
    model = ALGOS[algorithm](
        load_by_name(policy) if "." in policy else policy, venv, seed=seed, device="cpu",
        policy_kwargs=parse_kwargs(hyperparams["policy_kwargs"]), **kwargs,
    )  # fmt: skip
    model.learn(timesteps)
    years = {"split": "validation", "episode_length": None}
    judge = make_quantflux_vec_env(1, seed=0, wrappers=[VecMarketTiming], **{**settings, **years})
    return float(evaluate_policy(model, judge, n_eval_episodes=1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a module of quantflux_sb3.zoo_configs")
    parser.add_argument("--n-trials", type=int, default=12)
    parser.add_argument("--timesteps", type=int, default=32_768)
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    th.set_num_threads(1)
    algorithm = ALGORITHMS.get(options.config, options.config)
    shipped = load_hyperparams(f"quantflux_sb3.zoo_configs.{options.config}")["QuantFlux-v0"]
    out = Path("docs/tuning") / f"{options.config}.csv"
    best = search(options.config, algorithm, options.n_trials, options.timesteps, out)
    install_search_spaces(shipped)
    tuned = {**shipped, **hyperparams_opt.HYPERPARAMS_CONVERTER[algorithm](best)}
    rewards = {
        name: [validation_reward(algorithm, settings, options.timesteps, 100 + seed) for seed in range(options.seeds)]
        for name, settings in (("shipped", shipped), ("tuned", tuned))
    }
    difference = mean_interval(np.subtract(rewards["tuned"], rewards["shipped"]).tolist())
    result = {"best": best, **{name: mean_interval(values) for name, values in rewards.items()}, "difference": difference}
    print(options.config, json.dumps(result))


if __name__ == "__main__":
    main()
