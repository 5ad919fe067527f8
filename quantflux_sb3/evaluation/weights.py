"""
Weight functions of classical strategies: from the returns known so far to asset weights. Where an optimiser is needed it is
skfolio's.
"""

from functools import cached_property
from importlib import import_module

import numpy as np

from quantflux_sb3.evaluation.decisions import NoWeights

#: Days of the momentum's window that are left out at its end: prices of the last month rather turn back.
SKIPPED_DAYS = 21
_SKFOLIO = "skfolio.optimization"


def equal_weights(history: np.ndarray) -> np.ndarray:
    """
    :param history: returns so far (n_history, n_assets)
    :return: the same weight for every asset (n_assets,)
    """
    return np.full(history.shape[1], 1.0 / history.shape[1])


def momentum_weights(history: np.ndarray) -> np.ndarray:
    """
    The half of the assets that rose most over the history without its last month, in equal parts; with 252 days that is
    "12-1" momentum.

    Source: Jegadeesh & Titman (1993), Returns to Buying Winners and Selling Losers, their 12-month winners, long only; the
    month left out is that of Fama & French (1996), and half of the assets stands for the top tenth of thousands.

    :param history: returns so far (n_history, n_assets), more than 21 days
    :return: weights (n_assets,)
    """
    growth = np.log1p(np.maximum(history[:-SKIPPED_DAYS], -0.999999)).sum(axis=0)
    winners = np.argsort(-growth, kind="stable")[: (len(growth) + 1) // 2]
    weights = np.zeros(len(growth))
    weights[winners] = 1.0 / len(winners)
    return weights


class SkfolioWeights:
    """
    Weights of an optimiser of skfolio, or of any class of its kind, refitted on the history it is given. Assets that did not
    move at all are left out: they were not listed or not traded.

    :param estimator: class name in ``skfolio.optimization``, or a dotted name such as
        ``skfolio.optimization.MaximumDiversification``
    :param max_weight: upper limit, one or one per asset (n_assets,); told to optimisers that can respect it
    :param kwargs: further arguments of the class; the name of an objective may stand for it (``MAXIMIZE_RATIO``)
    :raises ValueError: if there is no such optimiser, or it takes no such arguments
    """

    def __init__(self, estimator: str, max_weight: float | np.ndarray = 1.0, **kwargs):
        self.estimator, self.max_weight, self.kwargs = estimator, max_weight, kwargs
        self._class = _optimiser(estimator)
        if unknown := sorted(set(kwargs) - set(self._class._get_param_names())):
            raise ValueError(f"{estimator} takes no {unknown}; its arguments are {sorted(self._class._get_param_names())}.")

    def __call__(self, history: np.ndarray) -> np.ndarray:
        """
        :param history: returns so far (n_history, n_assets)
        :return: weights (n_assets,)
        :raises NoWeights: if the optimiser finds none
        """
        moves = history.std(axis=0) > 0.0
        if not moves.any():
            raise NoWeights("no asset moved")
        weights = np.zeros(history.shape[1])
        try:
            weights[moves] = self._make(moves).fit(history[:, moves]).weights_
        except Exception as error:  # solvers have many ways to give up
            raise NoWeights(f"{type(error).__name__}: {str(error).partition('. ')[0]}") from error
        if not np.isfinite(weights).all():
            raise NoWeights("the weights are not finite")
        return weights

    def _make(self, moves: np.ndarray):
        """A new optimiser of the assets that moved."""
        limits = np.broadcast_to(self.max_weight, moves.shape)[moves]
        known = (
            {"max_weights": np.maximum(limits, 1.0 / len(limits))} if "max_weights" in self._class._get_param_names() else {}
        )
        return self._class(**{**known, **self._arguments})

    @cached_property
    def _arguments(self) -> dict:
        from skfolio.optimization import ObjectiveFunction

        objective = self.kwargs.get("objective_function")
        named = {"objective_function": ObjectiveFunction[objective]} if isinstance(objective, str) else {}
        return {**self.kwargs, **named}


def _optimiser(name: str) -> type:
    from skfolio.optimization import BaseOptimization

    module, _, attribute = (name if "." in name else f"{_SKFOLIO}.{name}").rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        found = None
    if not (isinstance(found, type) and issubclass(found, BaseOptimization)):
        raise ValueError(
            f"'{name}' is no optimiser of skfolio's kind; expected a name such as {_SKFOLIO}.MaximumDiversification."
        )
    return found
