"""``quantflux evaluate``: backtest a saved model on unseen real days, beside the baselines."""

import json
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from rich.console import Console

from quantflux_sb3.commands.parsing import parse, settings_parser, to_settings

ALGORITHMS = {
    "ppo": "stable_baselines3.PPO",
    "a2c": "stable_baselines3.A2C",
    "sac": "stable_baselines3.SAC",
    "td3": "stable_baselines3.TD3",
    "ddpg": "stable_baselines3.DDPG",
    "trpo": "sb3_contrib.TRPO",
    "tqc": "sb3_contrib.TQC",
    "ppo_lstm": "sb3_contrib.RecurrentPPO",
}


def evaluate(argv: list[str]) -> int:
    """
    :param argv: arguments after ``evaluate``
    :return: exit code
    """
    parser = settings_parser("quantflux evaluate", "Backtest a saved model beside the baselines, after costs.")
    parser.add_argument("--model", type=str, required=True, help="zip of a Stable-Baselines3 model trained on QuantFlux-v0")
    parser.add_argument("--algo", type=str, default="ppo", help=f"algorithm of the model: {', '.join(ALGORITHMS)}")
    parser.add_argument("--split", type=str, default="test", help="train, validation or test")
    parser.add_argument("--out", type=str, default=None, help="JSON file for the figures")
    options = parse(parser, argv)
    if options.out and not Path(options.out).resolve().parent.is_dir():
        raise ValueError(f"There is no folder '{Path(options.out).resolve().parent}' to write --out into.")
    from quantflux_sb3.disk import write_whole
    from quantflux_sb3.evaluation.backtest import backtest_model
    from quantflux_sb3.evaluation.metrics import table_rows
    from quantflux_sb3.evaluation.report import results_table
    from quantflux_sb3.preparation import Prepared
    from quantflux_sb3.vec_env import make_quantflux_vec_env

    prepared = Prepared.check(to_settings(options))
    settings = {**vars(prepared.config), "split": options.split, "episode_length": None}
    venv = make_quantflux_vec_env(1, prepared.market, wrappers=prepared.wrappers, **settings)
    model = load_model(options.model, options.algo, venv)
    agent = backtest_model(model, prepared.market, options.split, prepared.config, prepared.wrappers)
    rows = table_rows([agent, *prepared.run_baselines(options.split)])
    if options.out:
        write_whole(options.out, (json.dumps(rows, indent=2) + "\n").encode())
    console = Console()
    console.print(prepared.subtitle.replace("unseen years", f"{options.split} years; test years are"), highlight=False)
    console.print(results_table(rows, agent.name))
    return 0


def load_model(path: str, algorithm: str, env: Any):
    """
    :param path: zip of the model
    :param algorithm: a key of ``ALGORITHMS``
    :param env: on which it is to act; it may have another number of assets
    :raises ValueError: if there is no such file or algorithm, or the file holds no such model, or it does not fit the env
    """
    from quantflux_sb3.loading import load_for_env
    from quantflux_sb3.preparation import load_by_name

    if algorithm not in ALGORITHMS:
        raise ValueError(f"Unknown --algo '{algorithm}'; expected one of {', '.join(ALGORITHMS)}.")
    if not Path(path).is_file():
        raise ValueError(f"There is no model '{path}'.")
    if not is_zipfile(path):
        raise ValueError(f"'{path}' is no saved {algorithm} model.")
    try:
        return load_for_env(load_by_name(ALGORITHMS[algorithm]), path, env)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"'{path}' is no saved {algorithm} model ({type(error).__name__}: {error}).") from error
