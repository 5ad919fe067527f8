"""
What a strategy asks for day by day, before costs, limits and gate: the requests of an agent, or those of a rule.

An agent plays its episode in an env. A rule is given its history and nothing else: ``history[:t - lag + 1]`` at the close of
row ``t``. Requests can be joined, those of agents trained year by year say, and replayed as one portfolio
(:mod:`quantflux_sb3.evaluation.backtest`).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import ROW, STOP
from quantflux_sb3.sizing import SizingRule

logger = logging.getLogger(__name__)

#: From the returns known so far (n_history, n_assets) to asset weights (n_assets,).
WeightFunction = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Decisions:
    """
    Row ``t`` was decided at the close before ``dates[t]``, whose return it earns.

    :param dates: days that are earned, as in a :class:`~quantflux_sb3.evaluation.result.BacktestResult` (n_days,) [datetime64]
    :param requests: weights asked for, cash last (n_days, n_assets + 1); between two decisions that of the last one
    :param decides: whether the strategy decides before that day (n_days,)
    """

    dates: np.ndarray
    requests: np.ndarray
    decides: np.ndarray

    @classmethod
    def joined(cls, parts: "Sequence[Decisions]") -> "Decisions":
        """
        :param parts: decisions about spans of days that follow one another
        :raises ValueError: if they do not
        """
        together = cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("dates", "requests", "decides")))
        gaps = np.diff(together.dates).astype(int)
        if (gaps <= 0).any():
            day = together.dates[1:][gaps <= 0][0]
            raise ValueError(f"Decisions to be joined must follow one another; {day} comes after a later or equal date.")
        return together


class NoWeights(ValueError):
    """Raised by a weight function that finds no weights for a history, a solver that gives up say; the last ones are kept."""


@dataclass(frozen=True)
class WeightRule:
    """
    A strategy without learning.

    :param name: shown in tables
    :param weights: from the returns known so far (n_history, n_assets) to asset weights (n_assets,); they need not sum to 1:
        the rest is cash
    :param refit_days: days between two computations of the weights; in between the target stays. None: once
    :param lookback: days of history handed over; fewer at the beginning of the data
    :param sizing: exposure rule on top
    :param decision_days: days between two decisions; in between nothing is traded
    """

    name: str
    weights: WeightFunction
    refit_days: int | None = 21
    lookback: int = 252
    sizing: SizingRule | None = None
    decision_days: int = 1

    def __post_init__(self) -> None:
        for name, least in (("refit_days", 1), ("lookback", 1), ("decision_days", 1)):
            value = getattr(self, name)
            if not (value is None and name == "refit_days") and (not isinstance(value, int | np.integer) or value < least):
                raise ValueError(f"`{name}` of '{self.name}' must be a whole number of days >= {least}; got {value!r}.")


def decide_by_rule(rule: WeightRule, core: PortfolioCore) -> Decisions:
    """
    :param rule: the strategy
    :param core: one portfolio at the start of its episode
    :return: what the rule asks for through the episode
    """
    rows = np.arange(core.clock[0, ROW], core.clock[0, STOP] - 1)
    known = rows - core.rules.lag
    targets = _fitted_targets(rule, core, known)
    if rule.sizing is not None:
        total = np.maximum(targets.sum(axis=1), 1e-12)
        targets *= (rule.sizing.exposure(core.pool, known, targets) / total)[:, None]
    requests = np.column_stack([targets, np.maximum(1.0 - targets.sum(axis=1), 0.0)])
    decides = np.arange(len(rows)) % (rule.decision_days if rule.refit_days else len(rows)) == 0
    return Decisions(core.pool.dates[rows + 1], requests, decides)


def _fitted_targets(rule: WeightRule, core: PortfolioCore, known: np.ndarray) -> np.ndarray:
    """Asset weights after each refit, held until the next (n_days, n_assets); all cash until there are any."""
    which = core.pool.market_of(int(known[0]))
    market, last = core.pool.markets[which], known - core.pool.offsets[which]
    every = rule.refit_days or len(known)
    targets, weights = np.empty((len(known), core.n_assets)), np.zeros(core.n_assets)
    failures, n_refits = [], -(-len(known) // every)
    for first in range(0, len(known), every):
        try:
            weights = _new_weights(rule, market.returns[max(last[first] + 1 - rule.lookback, 0) : last[first] + 1])
        except NoWeights as failure:
            failures.append(f"{market.dates[last[first]]}: {failure}")
        targets[first : first + every] = weights
    if len(failures) == n_refits:
        raise ValueError(f"'{rule.name}' found no weights on any of its {n_refits} refits; {failures[0]}")
    if failures:
        text = "'%s' found no weights on %d of its %d refits, and kept the last ones; %s"
        logger.warning(text, rule.name, len(failures), n_refits, failures[0])
    return targets


def _new_weights(rule: WeightRule, history: np.ndarray) -> np.ndarray:
    weights = np.asarray(rule.weights(history), dtype=np.float64)
    if weights.shape != history.shape[1:]:
        raise ValueError(f"'{rule.name}' gave weights of shape {weights.shape}; expected {history.shape[1:]}.")
    return weights


def play(model: BaseAlgorithm, venv: VecEnv) -> Decisions:
    """
    Let a model act deterministically through one episode.

    :param model: a trained SB3 model
    :param venv: a QuantFluxVecEnv of one portfolio, wrapped or not
    :return: what it asked for, after the sizing rules of the env
    """
    return play_batch([model], venv)[0]


def play_batch(models: Sequence[BaseAlgorithm], venv: VecEnv) -> list[Decisions]:
    """
    Let models act deterministically side by side, each through one episode of its share of the portfolios. Recurrent models
    keep a state per portfolio. A portfolio whose episode is over goes on unseen until all are.

    :param models: trained SB3 models; with ``k`` portfolios each, the first acts on the first ``k``, and so on
    :param venv: a QuantFluxVecEnv, wrapped or not
    :return: what was asked for in each portfolio, after the sizing rules of the env
    """
    core, shares = venv.unwrapped.core, _shares(venv.num_envs, len(models))
    obs, states, begins = venv.reset(), [None] * len(models), np.ones(venv.num_envs, dtype=np.bool_)
    first, stop = core.clock[:, ROW].copy(), core.clock[:, STOP].copy()
    diary = _Diary(first, stop - 1 - first, core.n_assets + 1)
    while len(diary.running):
        days = core.clock[:, ROW] - first
        actions = []
        for number, (model, share) in enumerate(zip(models, shares, strict=True)):
            chosen, states[number] = model.predict(obs[share], states[number], begins[share], deterministic=True)
            actions.append(chosen)
        obs, _, begins, _ = venv.step(np.concatenate(actions))
        diary.note(days, core.requests, begins)
    return [diary.decisions(env, core.pool.dates) for env in range(venv.num_envs)]


def _shares(n_envs: int, n_models: int) -> list[slice]:
    if not n_models or n_envs % n_models:
        raise ValueError(f"{n_envs} portfolios cannot be shared equally by {n_models} models.")
    each = n_envs // n_models
    return [slice(first, first + each) for first in range(0, n_envs, each)]


class _Diary:
    """
    What is asked for in many portfolios, day by day.

    :param first: rows of the pool at which the episodes begin (n_envs,)
    :param n_days: length of each episode (n_envs,)
    :param n_weights: cash included
    """

    def __init__(self, first: np.ndarray, n_days: np.ndarray, n_weights: int):
        self.first, self.n_days = first, n_days
        self.running = np.arange(len(first))
        self.requests = np.zeros((len(first), n_days.max(), n_weights))
        self.decides = np.zeros(self.requests.shape[:2], dtype=np.bool_)

    def note(self, days: np.ndarray, requests: np.ndarray, dones: np.ndarray) -> None:
        """
        :param days: of each episode (n_envs,)
        :param requests: weights asked for on them (n_envs, n_weights)
        :param dones: whether the episode ended with them (n_envs,)
        """
        at = self.running, days[self.running]
        self.requests[at], self.decides[at] = requests[self.running], True
        self.running = self.running[~dones[self.running]]

    def decisions(self, env: int, dates: np.ndarray) -> Decisions:
        """
        :param dates: of the pool's rows
        """
        begin, n_days = self.first[env] + 1, self.n_days[env]
        decides = self.decides[env, :n_days]
        latest = np.maximum.accumulate(np.where(decides, np.arange(n_days), 0))
        return Decisions(dates[begin : begin + n_days], self.requests[env, latest], decides)
