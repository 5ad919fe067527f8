"""Fresh synthetic markets while training goes on, so that the policy cannot learn one set of paths by heart."""

from typing import TYPE_CHECKING

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.vec_env import QuantFluxVecEnv

if TYPE_CHECKING:
    from quantflux_sb3.diffusion import SyntheticMarkets


class SyntheticPoolCallback(BaseCallback):
    """
    Gives the batched training env a fresh set of synthetic markets every ``refresh_freq`` steps, between two rollouts. All
    episodes begin anew then. Logs ``synthetic/refreshes``.

    :param source: of the markets
    :param refresh_freq: steps of the training env between two sets (of all its envs together)
    :param verbose: 1: print each refresh
    :raises ValueError: if ``refresh_freq`` is not positive, or (when training starts) the algorithm or env does not fit
    """

    def __init__(self, source: "SyntheticMarkets", refresh_freq: int = 100_000, verbose: int = 0):
        super().__init__(verbose)
        if refresh_freq < 1:
            raise ValueError(f"`refresh_freq` must be >= 1 step; got {refresh_freq}.")
        self.source, self.refresh_freq, self.n_refreshes, self._next = source, refresh_freq, 0, 0

    def _on_training_start(self) -> None:
        if not isinstance(self.training_env.unwrapped, QuantFluxVecEnv) or not isinstance(self.model, OnPolicyAlgorithm):
            raise ValueError(
                "SyntheticPoolCallback needs an on-policy algorithm (PPO, A2C, TRPO) on make_quantflux_vec_env(...); got "
                f"{type(self.model).__name__} on {type(self.training_env.unwrapped).__name__}."
            )
        self._next = self.num_timesteps + self.refresh_freq

    def _on_rollout_start(self) -> None:
        if self.num_timesteps < self._next:
            return
        self._next += self.refresh_freq
        self.n_refreshes += 1
        venv = self.training_env.unwrapped
        core = PortfolioCore(venv.num_envs, self.source.draw(self.n_refreshes), venv.core.config)
        core.adopt(venv.core)
        venv.core = core
        self.model._last_obs = self.training_env.reset()  # as SB3 does when learning begins
        self.model._last_episode_starts = np.ones(venv.num_envs, dtype=bool)
        self.logger.record("synthetic/refreshes", self.n_refreshes)
        if self.verbose:
            print(f"step {self.num_timesteps}: fresh synthetic markets, set {self.n_refreshes}")

    def _on_step(self) -> bool:
        return True
