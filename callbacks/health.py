"""Is the policy alive? Most agents in this field end as equal weight, or as one fixed portfolio, and nobody notices."""

import logging
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from quantflux_sb3.callbacks.cores import first_core
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import read_actions

logger = logging.getLogger(__name__)

#: Observations on which the policy is asked what it would do.
N_PROBES = 512


class LearningHealthCallback(BaseCallback):
    """
    Asks the policy at the end of every ``check_freq`` steps what it would do, without exploration, on observations it has just
    seen, and logs under ``health/``:

    - ``distance_to_equal_weight``: half the absolute distance of the assets' shares to 1 / n;
    - ``concentration``: sum of squared shares; ``effective_assets``: one over it;
    - ``responsiveness``: standard deviation of a weight across observations, mean over the assets; near 0 the policy holds the
      same portfolio whatever it sees: it is dead;
    - ``cap_hits``: share of the weights that ask for the hard cap or more; ``exposure``: share of wealth in assets.

    A policy that is dead at ``patience`` checks in a row is warned about once, with what to do.

    :param check_freq: steps of the training env between two checks (of all its envs together)
    :param patience: checks after which a dead policy is warned about
    :param least_responsiveness: below it a policy counts as dead
    :param verbose: not used
    """

    def __init__(self, check_freq: int = 10_000, patience: int = 5, least_responsiveness: float = 0.002, verbose: int = 0):
        super().__init__(verbose)
        if check_freq < 1 or patience < 1 or least_responsiveness < 0.0:
            raise ValueError(
                "LearningHealthCallback needs check_freq >= 1, patience >= 1 and least_responsiveness >= 0; got "
                f"{check_freq}, {patience} and {least_responsiveness}."
            )
        self.check_freq, self.patience, self.least_responsiveness = check_freq, patience, least_responsiveness
        self.is_dead = False
        self._seen: list[np.ndarray] = []
        self._next, self._dead_checks = 0, 0

    def _on_training_start(self) -> None:
        self._next = self.num_timesteps + self.check_freq

    def _on_step(self) -> bool:
        observed = self.locals.get("new_obs")
        if isinstance(observed, np.ndarray):
            self._seen.append(observed)
            while sum(map(len, self._seen)) > N_PROBES + len(observed):
                self._seen.pop(0)
        if self.num_timesteps >= self._next and self._seen:
            self._next += self.check_freq
            self._check(first_core(self.training_env))
        return True

    def _check(self, core: PortfolioCore | None) -> None:
        if core is None:
            return
        probes = np.concatenate(self._seen)[-N_PROBES:]
        actions, _ = self.model.predict(probes, deterministic=True)
        weights = np.empty(actions.shape)
        read_actions(actions, core.reading, weights)
        for name, value in _figures(weights[:, :-1], core.rules.max_weight).items():
            self.logger.record(f"health/{name}", value)
        responsiveness = float(weights.std(axis=0).mean())
        self.logger.record("health/responsiveness", responsiveness)
        self._dead_checks = self._dead_checks + 1 if responsiveness < self.least_responsiveness else 0
        was_dead, self.is_dead = self.is_dead, self._dead_checks >= self.patience
        if self.is_dead and not was_dead:
            logger.warning(advice(weights.mean(axis=0)[:-1], self.num_timesteps, self.least_responsiveness))


def _figures(assets: np.ndarray, caps: np.ndarray) -> dict[str, float]:
    gross = np.abs(assets).sum(axis=1)
    invested = gross > 1e-9
    shares = np.abs(assets[invested]) / gross[invested, None]
    herfindahl = (shares**2).sum(axis=1)
    values: dict[str, Any] = {"cap_hits": np.abs(assets) >= caps - 1e-6, "exposure": gross}
    if invested.any():
        distance = 0.5 * np.abs(shares - 1.0 / assets.shape[1]).sum(axis=1)
        values |= {"distance_to_equal_weight": distance, "concentration": herfindahl, "effective_assets": 1.0 / herfindahl}
    return {name: float(np.mean(value)) for name, value in values.items()}


def advice(weights: np.ndarray, n_timesteps: int, least_responsiveness: float) -> str:
    """
    :param weights: mean weights of the assets (n_assets,)
    :param n_timesteps: of training so far
    :param least_responsiveness: below which a policy counts as dead
    :return: what is the matter with a dead policy, and what to do
    """
    share = weights / max(np.abs(weights).sum(), 1e-12)
    equal = 0.5 * np.abs(share - 1.0 / len(share)).sum() < 0.1
    what = "equal weight" if equal else f"one fixed portfolio (largest share {np.abs(share).max():.0%})"
    cure = (
        "explore more widely (log_std_init of SoftmaxPolicy, or initial_concentration below 1 of DirichletPolicy), use "
        "smaller rollouts, each one minibatch (1,024 steps), raise the learning rate, and lower gamma to 0"
        if equal
        else "lower the learning rate, raise ent_coef, and see that the reward is relative to the benchmark"
    )
    return (
        f"The policy is dead after {n_timesteps:,} steps: it holds {what} whatever it observes (its weights move by less than "
        f"{least_responsiveness:g}). What to do: {cure}. If that changes nothing, there may be nothing to learn from: "
        "`quantflux control` shows that these settings learn where there is something."
    )
