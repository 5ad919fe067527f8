"""
Tunes the shipped configurations with ``rl_zoo3 -optimize`` and compares settings of them on fresh seeds.

All training is on the training years and all judgement on the validation years; the test years are not looked at.

``python benchmarks/tuning.py search ppo --n-trials 12 --timesteps 49152`` runs a study and writes its trials to
docs/tuning/ppo.csv. ``python benchmarks/tuning.py compare ppo --try learning_rate=1e-3 n_timesteps=300000`` trains what is
shipped, the best trial of the study and any other settings from the same new seeds.
"""

import argparse
import ast
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch as th
from rl_zoo3 import ALGOS, hyperparams_opt
from stable_baselines3.common.evaluation import evaluate_policy

from quantflux_sb3.evaluation.backtest import backtest_in
from quantflux_sb3.evaluation.controls import mean_interval
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.preparation import load_by_name
from quantflux_sb3.tuning import install_search_spaces, parse_kwargs
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.vec_wrappers import VecMarketTiming
from quantflux_sb3.zoo_configs import load_hyperparams

ALGORITHMS = {"ppo_dirichlet": "ppo"}
#: Settings of a configuration that are not the algorithm's.
_NOT_THE_ALGORITHMS = ("n_envs", "n_timesteps", "policy", "env_wrapper", "env_kwargs", "callback", "policy_kwargs")
FIRST_SEED = 100


def study_file(config: str) -> Path:
    return Path("docs/tuning") / f"{config}.csv"


def search(config: str, n_trials: int, timesteps: int) -> None:
    """Run the study; its trials as CSV."""
    with tempfile.TemporaryDirectory() as folder:
        storage = str(Path(folder) / "study.log")
        command = [
            str(Path(sys.executable).with_name("quantflux")), "train", "-optimize", "--algo", ALGORITHMS.get(config, config),
            "--conf-file", f"quantflux_sb3.zoo_configs.{config}", "--n-trials", str(n_trials), "-n", str(timesteps),
            "--vec-env", "batched", "--no-optim-plots", "--seed", "1", "--storage", storage, "--study-name", config,
            "--verbose", "0",
        ]  # fmt: skip
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        backend = optuna.storages.journal.JournalFileBackend(storage)
        study = optuna.load_study(study_name=config, storage=optuna.storages.JournalStorage(backend))
        study_file(config).parent.mkdir(parents=True, exist_ok=True)
        frame = study.trials_dataframe(attrs=("number", "value", "params", "state"))
        frame.to_csv(study_file(config), index=False, float_format="%.6g")


def best_trial(config: str) -> dict[str, Any]:
    """Parameters of the best trial of a study."""
    with study_file(config).open(encoding="utf-8") as file:
        best = max((row for row in csv.DictReader(file) if row["value"]), key=lambda row: float(row["value"]))
    params = {name.removeprefix("params_"): text for name, text in best.items() if name.startswith("params_")}
    return {name: text if name == "net_arch" else ast.literal_eval(text) for name, text in params.items()}


def train_and_judge(algorithm: str, hyperparams: dict[str, Any], seed: int) -> dict[str, float]:
    """
    Train on the training years; judge by one episode over the validation years.

    :return: reward, Sharpe ratio, turnover a year, CPU time of the training [s]
    """
    settings = hyperparams.get("env_kwargs", {})
    venv = make_quantflux_vec_env(hyperparams["n_envs"], seed=seed, wrappers=[VecMarketTiming], **settings)
    kwargs = {name: value for name, value in hyperparams.items() if name not in _NOT_THE_ALGORITHMS}
    policy, begin = hyperparams["policy"], time.process_time()
    model = ALGOS[algorithm](
        load_by_name(policy) if "." in policy else policy, venv, seed=seed, device="cpu",
        policy_kwargs=parse_kwargs(hyperparams["policy_kwargs"]), **kwargs,
    )  # fmt: skip
    model.learn(int(hyperparams["n_timesteps"]))
    seconds = time.process_time() - begin
    judge = make_quantflux_vec_env(
        1, seed=0, wrappers=[VecMarketTiming], **{**settings, "split": "validation", "episode_length": None}
    )
    figures = performance(backtest_in(judge, model))
    return {
        "reward": float(evaluate_policy(model, judge, n_eval_episodes=1)[0]), "sharpe_ratio": figures["sharpe_ratio"],
        "annual_turnover": figures["annual_turnover"], "cpu_seconds": seconds,
    }  # fmt: skip


def compare(config: str, timesteps: int, tries: list[list[str]], n_seeds: int) -> dict[str, Any]:
    """Mean, interval and paired difference to what is shipped, of each of the settings."""
    algorithm = ALGORITHMS.get(config, config)
    shipped = load_hyperparams(f"quantflux_sb3.zoo_configs.{config}")["QuantFlux-v0"]
    candidates = {"shipped": shipped}
    if study_file(config).is_file():
        install_search_spaces(shipped)
        found = hyperparams_opt.HYPERPARAMS_CONVERTER[algorithm](best_trial(config))
        candidates["best trial"] = {**shipped, **found, "n_timesteps": timesteps}
    for pairs in tries:
        changes = dict(pair.split("=", 1) for pair in pairs)
        candidates[", ".join(pairs)] = {**shipped, **{name: _value(text) for name, text in changes.items()}}
    results: dict[str, Any] = {}
    for name, settings in candidates.items():
        runs = [train_and_judge(algorithm, settings, FIRST_SEED + seed) for seed in range(n_seeds)]
        results[name] = {key: [run[key] for run in runs] for key in runs[0]}
        print(_line(config, name, int(settings["n_timesteps"]), results[name], results["shipped"]), flush=True)
    return results


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text  # a dotted name, or dict(...) of policy_kwargs


def _line(config: str, name: str, timesteps: int, result: dict[str, list[float]], shipped: dict[str, list[float]]) -> str:
    reward, half = mean_interval(result["reward"])
    difference, half_difference = mean_interval(np.subtract(result["reward"], shipped["reward"]).tolist())
    sharpe, turnover, seconds = (np.mean(result[key]) for key in ("sharpe_ratio", "annual_turnover", "cpu_seconds"))
    return (
        f"| {config} | {name} | {timesteps:,} | {reward:.1f} ± {half:.1f} | {difference:+.1f} ± {half_difference:.1f} | "
        f"{sharpe:.3f} | {turnover:.0%} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("search", "compare"))
    parser.add_argument("config", help="a module of quantflux_sb3.zoo_configs")
    parser.add_argument("--n-trials", type=int, default=12)
    parser.add_argument("--timesteps", type=int, default=49_152, help="of each trial, and of the best one when it is compared")
    parser.add_argument("--try", dest="tries", nargs="+", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the figures of each seed")
    options = parser.parse_args()
    th.set_num_threads(1)
    if options.part == "search":
        search(options.config, options.n_trials, options.timesteps)
        return
    results = compare(options.config, options.timesteps, options.tries, options.seeds)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
