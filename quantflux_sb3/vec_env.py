"""A batch of portfolios as a Stable-Baselines3 ``VecEnv``: one kernel call for all of them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium.utils.seeding import np_random
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import ENDED, REWARD, RUNNING, TRUNCATED
from quantflux_sb3.info import StepInfo
from quantflux_sb3.layout import PortfolioBox


class QuantFluxVecEnv(VecEnv):
    """
    ``n_envs`` portfolios stepped together; the same episodes as ``n_envs`` single envs seeded ``seed + i``, bit for bit.

    Its observation is that of the bare :class:`quantflux_sb3.env.QuantFluxEnv`; :func:`make_quantflux_vec_env` adds what
    ``gym.make("QuantFlux-v0")`` adds. Of the ``infos`` only those of finished episodes are filled (with SB3's ``episode``,
    ``terminal_observation`` and ``TimeLimit.truncated``), because thousands of dictionaries a step would cost more than
    the step; ``full_info=True`` fills all.

    :param n_envs: number of portfolios
    :param market: see :class:`quantflux_sb3.env.QuantFluxEnv`
    :param full_info: every info in full
    :param render_mode: must be None
    :param settings: fields of :class:`quantflux_sb3.config.PortfolioConfig`
    """

    def __init__(
        self, n_envs: int, market: Any = None, *, full_info: bool = False, render_mode: str | None = None, **settings: Any
    ):
        if not isinstance(n_envs, (int, np.integer)) or n_envs < 1:
            raise ValueError(f"`n_envs` must be a whole number >= 1; got {n_envs!r}.")
        if render_mode is not None:
            raise ValueError("A batch of portfolios is not rendered; render one QuantFlux-v0 env.")
        self.core = PortfolioCore(n_envs, market, PortfolioConfig.of(settings))
        self.render_mode = None  # before super().__init__, which asks for it
        self.full_info = full_info
        self._generators = [np_random(None)[0] for _ in range(n_envs)]
        self._episode_rewards, self._episode_steps = np.zeros(n_envs), np.zeros(n_envs, dtype=np.int64)
        self._actions: np.ndarray | None = None
        super().__init__(n_envs, PortfolioBox(self.core.layout), self.core.action_space())

    @classmethod
    def like(cls, core: PortfolioCore, n_envs: int, market: Any, **changes: Any) -> "QuantFluxVecEnv":
        """
        Another batch with the settings, observation and sizing of a given one: to evaluate a model on another market or split.

        :param core: whose settings to take
        :param n_envs: number of portfolios
        :param market: the market
        :param changes: settings that differ
        """
        venv = cls(n_envs, market, **{**vars(core.config), **changes})
        venv.core.adopt(core)
        venv.observation_space = PortfolioBox(venv.core.layout)
        return venv

    @property
    def assets(self) -> tuple[str, ...]:
        """Tickers, in the order of the action (n_assets,)."""
        return self.core.pool.markets[0].assets

    def reset(self) -> VecEnvObs:
        """
        :return: observations (n_envs, obs_size)
        """
        for env, seed in enumerate(self._seeds):
            if seed is not None:
                self._generators[env] = np_random(seed)[0]
        self._episode_rewards[:], self._episode_steps[:] = 0.0, 0
        obs = np.stack([self._restart(env) for env in range(self.num_envs)])
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """
        :return: observations (fresh arrays), rewards float32, dones, infos; finished envs are reset already
        """
        obs = self.core.step(np.asarray(self._actions))
        rewards, ended = self.core.records[:, REWARD].copy(), self.core.records[:, ENDED]
        dones = ended != RUNNING
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._episode_rewards += rewards
        self._episode_steps += 1
        filled = range(self.num_envs) if self.full_info else np.flatnonzero(dones)
        for env in filled:
            infos[env] = StepInfo(self.core, int(env))
        for env in np.flatnonzero(dones):
            infos[env]["terminal_observation"] = obs[env].copy()
            infos[env]["TimeLimit.truncated"] = bool(ended[env] == TRUNCATED)
            infos[env]["episode"] = {"r": float(self._episode_rewards[env]), "l": int(self._episode_steps[env]), "t": 0.0}
            self._episode_rewards[env], self._episode_steps[env] = 0.0, 0
            obs[env] = self._restart(env)
        return obs, rewards.astype(np.float32), dones, infos

    def _restart(self, env: int) -> np.ndarray:
        self.core.reset(int(env), self._generators[env])
        return self.core.observe(int(env))

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise NotImplementedError("The portfolios of a batch share their settings; make another QuantFluxVecEnv.")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError(f"A batch has no single envs to call '{method_name}' on.")

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        # Episode statistics are reported as Monitor does, so that SB3 does not warn that there are none.
        from stable_baselines3.common.monitor import Monitor

        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]


def make_quantflux_vec_env(
    n_envs: int, market: Any = None, *, seed: int | None = None, wrappers: Iterable[Any] = (), **kwargs: Any
) -> VecEnv:
    """
    The batched counterpart of ``make_vec_env("QuantFlux-v0", n_envs)``.

    :param n_envs: number of portfolios
    :param market: see :class:`QuantFluxVecEnv`
    :param seed: of the first env; the others follow
    :param wrappers: further Vec wrappers, applied in order
    :param kwargs: of :class:`QuantFluxVecEnv`
    """
    from quantflux_sb3.vec_wrappers import VecFeatureObservation, VecRegimeObservation

    venv: VecEnv = QuantFluxVecEnv(n_envs, market, **kwargs)
    for wrapper in (VecFeatureObservation, VecRegimeObservation, *wrappers):
        venv = wrapper(venv)
    if seed is not None:
        venv.seed(seed)
    return venv
