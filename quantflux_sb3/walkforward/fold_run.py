"""One fold: train on its training days, look at its validation days, write down what is decided for its test days."""

from dataclasses import replace
from pathlib import Path

from quantflux_sb3.evaluation.backtest import _play, backtest_model
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.run_folder import RunFolder
from quantflux_sb3.training import Training
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.walkforward.decisions import Decisions
from quantflux_sb3.walkforward.folds import Fold


def run_fold(prepared: Prepared, fold: Fold, path: Path) -> None:
    """
    Do what is not done yet. Nothing after the fold's test years is looked at, and its test years by the finished agents only.

    :param prepared: settings, and the whole history
    :param fold: which days are for what
    :param path: existing folder of the fold
    """
    folder = RunFolder(path)
    if is_done(prepared, path):
        return
    own = replace(prepared, market=fold.market(prepared.market))
    folder.write_json("fold.json", fold.spans(prepared.market))
    training, synthetic = Training(own, folder), []
    if own.settings.synthetic.n_markets:
        synthetic = training.synthetic(training.generator())
    training.agents(training.mix(synthetic))
    for number in range(own.settings.agent.n_seeds):
        if not folder.has(decisions_file(number)):
            _decide(own, training, folder, number)


def _decide(prepared: Prepared, training: Training, folder: RunFolder, number: int) -> None:
    model, market = training.agent(number), prepared.market
    validated = backtest_model(model, market, "validation", prepared.config, prepared.wrappers)
    folder.write_json(validation_file(number), performance(validated))
    settings = {**vars(prepared.config), "split": "test", "episode_length": None}
    requests, decides = _play(model, make_quantflux_vec_env(1, market, wrappers=prepared.wrappers, **settings))
    start, stop = market.rows("test")
    folder.write(decisions_file(number), Decisions(market.dates[start:stop], requests, decides).save)


def is_done(prepared: Prepared, path: Path) -> bool:
    """
    :param prepared: settings
    :param path: folder of the fold
    :return: whether every seed has decided
    """
    return all((path / decisions_file(number)).is_file() for number in range(prepared.settings.agent.n_seeds))


def decisions_file(number: int) -> str:
    """
    :param number: of the seed
    """
    return f"decisions/seed-{number}.npz"


def validation_file(number: int) -> str:
    """
    :param number: of the seed
    :return: file of its figures on the validation days
    """
    return f"validation/seed-{number}.json"
