"""What an agent saw at each of its decisions, and what it asked for: what explanations are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import ROW
from quantflux_sb3.evaluation.brinson import CASH
from quantflux_sb3.layout import ObservationLayout
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.vec_env import make_quantflux_vec_env


@dataclass(frozen=True)
class ObservedDecisions:
    """
    What an agent saw at each decision of an episode, and what it asked for.

    :param core: of the env it acted in
    :param rows: of the closes at which it traded (n_decisions,)
    :param observations: (n_decisions, obs_size)
    :param requests: weights asked for, exposure rules applied, cash last (n_decisions, n_assets + 1)
    :param normalizer: what scaled the observations, if anything did
    """

    core: PortfolioCore
    rows: np.ndarray
    observations: np.ndarray
    requests: np.ndarray
    normalizer: VecNormalize | None = None

    @property
    def dates(self) -> np.ndarray:
        """Days at whose close it traded (n_decisions,)."""
        return self.core.pool.dates[self.rows]

    @property
    def layout(self) -> ObservationLayout:
        return self.core.layout

    @property
    def weight_names(self) -> tuple[str, ...]:
        """Assets, then cash."""
        return (*self.core.pool.markets[0].assets, CASH)

    @property
    def input_names(self) -> list[str]:
        """Every observed number (obs_size,): ``block.feature`` and, for a feature of an asset, ``[asset]``."""
        names = []
        for block in self.layout.blocks:
            places = [f"[{asset}]" for asset in self.weight_names[:-1]] if block.n_assets else [""]
            names += [f"{block.name}.{column}{place}" for place in places for column in block.columns]
        return names

    def at(self, date: Any) -> int:
        """
        :param date: a day, as text or ``datetime64``
        :return: index of the last decision up to that day
        :raises ValueError: if the first one was later
        """
        index = int(np.searchsorted(self.dates, np.datetime64(date, "D"), side="right")) - 1
        if index < 0:
            raise ValueError(f"There was no decision up to {date}; the first one was at {self.dates[0]}.")
        return index


def observe_decisions(
    model: BaseAlgorithm, market: MarketData, split: str, config: PortfolioConfig, wrappers: Sequence[Any] = ()
) -> ObservedDecisions:
    """
    Let a model act through a split, deterministically, and keep what it saw. The arguments are those of
    :func:`quantflux_sb3.evaluation.backtest.backtest_model`.

    :raises ValueError: if the policy is recurrent: what it does depends on what it remembers
    """
    settings = {**vars(config), "split": split, "episode_length": None}
    return observe_decisions_in(make_quantflux_vec_env(1, market, wrappers=wrappers, **settings), model)


def observe_decisions_in(venv: VecEnv, model: BaseAlgorithm) -> ObservedDecisions:
    """
    :param venv: a QuantFluxVecEnv of one portfolio, wrapped or not; one episode is played
    :param model: a trained SB3 model
    :return: what it saw and asked for
    :raises ValueError: if the policy is recurrent, or the env shows more than one portfolio and day at once
    """
    if hasattr(model.policy, "lstm_actor"):
        raise ValueError(f"A {type(model.policy).__name__} remembers; its decisions cannot be explained by one observation.")
    core: PortfolioCore = venv.unwrapped.core
    obs, done = venv.reset(), False
    if obs.shape != (1, core.layout.size):
        raise ValueError(f"Observations have shape {obs.shape}; expected {(1, core.layout.size)}: one portfolio, one day.")
    rows, observations, requests = [], [], []
    while not done:
        rows.append(int(core.clock[0, ROW]))
        observations.append(obs[0])
        obs, _, dones, _ = venv.step(model.predict(obs, deterministic=True)[0])
        requests.append(core.requests[0].copy())
        done = bool(dones[0])
    return ObservedDecisions(core, np.array(rows), np.stack(observations), np.stack(requests), unwrap_vec_normalize(venv))
