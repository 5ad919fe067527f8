"""A batch of portfolios as a Gymnasium ``VectorEnv``, behind ``gym.make_vec``; the same core as the other two envs."""

from typing import Any

import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import (
    BENCHMARK_RETURN,
    COST,
    ENDED,
    EXPOSURE,
    FINAL_WEALTH,
    PORTFOLIO_RETURN,
    REWARD,
    RUNNING,
    TERMINATED,
    TRUNCATED,
    TURNOVER,
)
from quantflux_sb3.features import FeatureConfig
from quantflux_sb3.layout import PortfolioBox
from quantflux_sb3.wrappers import RegimeBlock

#: Columns of the record that are given as arrays in every step's information.
_FIGURES = {
    "wealth": FINAL_WEALTH, "turnover": TURNOVER, "cost": COST, "exposure": EXPOSURE,
    "portfolio_return": PORTFOLIO_RETURN, "benchmark_return": BENCHMARK_RETURN,
}  # fmt: skip


class QuantFluxVectorEnv(VectorEnv):
    """
    ``num_envs`` portfolios with features and regimes observed, as ``gym.make_vec("QuantFlux-v0", num_envs,
    vectorization_mode="vector_entry_point")`` makes it. Finished portfolios are reset within the step (``SAME_STEP``).

    The information of a step holds arrays: wealth, turnover, cost, exposure, portfolio_return, benchmark_return, of the step
    just made also where it was the last of its episode; there ``final_obs`` and ``final_info`` are filled as Gymnasium does.

    :param num_envs: number of portfolios
    :param market: see :class:`quantflux_sb3.env.QuantFluxEnv`
    :param render_mode: must be None
    :param settings: fields of :class:`quantflux_sb3.config.PortfolioConfig`
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self, num_envs: int = 1, market: Any = None, *, render_mode: str | None = None, **settings: Any):
        if num_envs < 1 or render_mode is not None:
            raise ValueError(f"A batch needs num_envs >= 1 and no render_mode; got {num_envs} and {render_mode!r}.")
        self.core = PortfolioCore(num_envs, market, PortfolioConfig.of(settings))
        self.core.add_observation(FeatureConfig())
        self.core.add_observation(RegimeBlock())
        self.num_envs = num_envs
        self.single_observation_space = PortfolioBox(self.core.layout)
        self.single_action_space = self.core.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [np_random(None)[0] for _ in range(num_envs)]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """
        :param seed: of the first portfolio, the others follow; or one for each
        :param options: not used
        :return: observations (num_envs, obs_size), information
        """
        seeds = [seed + env for env in range(self.num_envs)] if isinstance(seed, (int, np.integer)) else seed or []
        for env, own in enumerate(seeds):
            if own is not None:
                self._generators[env] = np_random(own)[0]
        return np.stack([self._restart(env) for env in range(self.num_envs)]), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """
        :param actions: (num_envs, n_assets + 1)
        :return: observations, rewards, terminations, truncations, information; fresh arrays
        """
        obs, records = self.core.step(np.asarray(actions)), self.core.records
        info: dict[str, Any] = {name: records[:, column].copy() for name, column in _FIGURES.items()}
        ended = records[:, ENDED]
        done = ended != RUNNING
        if done.any():
            final = np.full(self.num_envs, None, dtype=object)
            for env in np.flatnonzero(done):
                final[env] = obs[env].copy()
            info["final_info"] = {**info, **{f"_{name}": done for name in _FIGURES}}
            info |= {"final_obs": final, "_final_obs": done, "_final_info": done}
            for env in np.flatnonzero(done):
                obs[env] = self._restart(int(env))
        return obs, records[:, REWARD].copy(), ended == TERMINATED, ended == TRUNCATED, info

    def _restart(self, env: int) -> np.ndarray:
        self.core.reset(env, self._generators[env])
        return self.core.observe(env)
