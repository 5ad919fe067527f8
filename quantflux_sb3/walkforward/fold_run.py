"""One fold: train on its training days, look at its validation days, write down what is decided for its test days."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from quantflux_sb3.evaluation.backtest import backtest_model
from quantflux_sb3.evaluation.decisions import Decisions, play
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.run_folder import RunFolder
from quantflux_sb3.training import Training
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.walkforward.folds import Fold


def run_fold(prepared: Prepared, fold: Fold, path: Path) -> None:
    """
    Do what is not done yet. Nothing after the fold's test years is looked at, and its test years by the finished agents only.

    :param prepared: settings, and the whole history
    :param fold: which days are for what
    :param path: existing folder of the fold
    """
    folder = RunFolder(path)
    if is_done(prepared, folder):
        return
    own = replace(prepared, market=fold.market(prepared.market))
    folder.write_json("fold.json", fold.spans(prepared.market))
    training = Training(own, folder)
    training.agents(training.mix(training.synthetic(training.generator()) if own.settings.synthetic.n_markets else []))
    for number in range(own.settings.agent.n_seeds):
        if not folder.has(decisions_file(number)):
            _decide(own, training, folder, number)


def _decide(prepared: Prepared, training: Training, folder: RunFolder, number: int) -> None:
    model, market = training.agent(number), prepared.market
    validated = backtest_model(model, market, "validation", prepared.config, prepared.wrappers)
    folder.write_json(validation_file(number), performance(validated))
    settings = {**vars(prepared.config), "split": "test", "episode_length": None}
    decisions = play(model, make_quantflux_vec_env(1, market, wrappers=prepared.wrappers, **settings))
    folder.write(decisions_file(number), lambda path: np.savez(path, **vars(decisions)))


def read_decisions(folder: RunFolder, number: int) -> Decisions:
    """
    :param folder: of a fold
    :param number: of the seed
    :return: what its agent asked for in the test years
    :raises ValueError: if the file is damaged
    """
    path = folder / decisions_file(number)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Decisions(**{name: stored[name] for name in ("dates", "requests", "decides")})
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"'{path}' is damaged ({error}); delete it and resume.") from error


def is_done(prepared: Prepared, folder: RunFolder) -> bool:
    """
    :param prepared: settings
    :param folder: of a fold
    :return: whether every seed has decided
    """
    return all(folder.has(decisions_file(number)) for number in range(prepared.settings.agent.n_seeds))


def decisions_file(number: int) -> str:
    """
    :param number: of the seed
    :return: file of what its agent decided for the test years
    """
    return f"decisions/seed-{number}.npz"


def validation_file(number: int) -> str:
    """
    :param number: of the seed
    :return: file of its figures on the validation days
    """
    return f"validation/seed-{number}.json"
