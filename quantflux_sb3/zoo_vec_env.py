"""The batched env in the form in which rl_zoo3 builds vectorised envs: from a list of functions that make single ones."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from quantflux_sb3.layout import PortfolioBox
from quantflux_sb3.vec_env import QuantFluxVecEnv
from quantflux_sb3.wrappers import portfolio_core


class BatchedVecEnv(QuantFluxVecEnv):
    """
    Takes the place of ``DummyVecEnv``: the first function's env gives market, settings, observation and sizing, and all of
    them are stepped in one kernel call. A wrapper that changes steps in Python cannot be batched and is refused.

    :param env_fns: functions that make ``QuantFlux-v0``, wrapped or not, all alike
    :param kwargs: ignored, as by ``DummyVecEnv``
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env]], **kwargs: Any):
        first = env_fns[0]()
        core = portfolio_core(first)
        foreign = [name for name in _stepping_wrappers(first) if name not in _HARMLESS]
        if foreign:
            raise ValueError(f"--vec-env batched cannot take the wrappers {foreign}; use --vec-env dummy.")
        markets = list(zip(core.pool.markets, core.pool.weights, strict=True))
        super().__init__(len(env_fns), markets, **vars(core.config))
        self.core.adopt(core)
        self.observation_space = PortfolioBox(self.core.layout)
        first.close()


#: Wrappers that Gymnasium and SB3 put around every env and whose work the batch does itself.
_HARMLESS = ("Monitor", "PassiveEnvChecker", "OrderEnforcing")


def _stepping_wrappers(env: gym.Env) -> list[str]:
    names = []
    while isinstance(env, gym.Wrapper):
        if type(env).step is not gym.Wrapper.step:
            names.append(type(env).__name__)
        env = env.env
    return names
