"""
Batched twins of the wrappers in :mod:`quantflux_sb3.wrappers`, for :class:`quantflux_sb3.vec_env.QuantFluxVecEnv`.
"""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from quantflux_sb3.features import FeatureConfig
from quantflux_sb3.regimes import RuleRegimes
from quantflux_sb3.sizing import KellyRule, TimingRule
from quantflux_sb3.wrappers import RegimeBlock, make_rule, observe, scale_exposure


class VecFeatureObservation(VecEnvWrapper):
    """Batched twin of :class:`FeatureObservation`."""

    def __init__(self, venv: VecEnv, features: FeatureConfig | None = None):
        observe(venv, features or FeatureConfig())
        super().__init__(venv, observation_space=venv.unwrapped.observation_space)

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        return self.venv.step_wait()


class VecRegimeObservation(VecEnvWrapper):
    """Batched twin of :class:`RegimeObservation`."""

    def __init__(self, venv: VecEnv, detector: RuleRegimes | None = None):
        observe(venv, RegimeBlock(detector or RuleRegimes()))
        super().__init__(venv, observation_space=venv.unwrapped.observation_space)

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        return self.venv.step_wait()


class _VecSizing(VecEnvWrapper):
    rule_class: type
    keep_cash: bool

    def __init__(self, venv: VecEnv, **rule: Any):
        super().__init__(venv)
        self.rule = make_rule(self.rule_class, rule)

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        self.venv.step_async(scale_exposure(actions, self.venv.unwrapped.core, self.rule, self.keep_cash))

    def step_wait(self) -> VecEnvStepReturn:
        return self.venv.step_wait()


class VecMarketTiming(_VecSizing):
    """Batched twin of :class:`MarketTiming`."""

    rule_class, keep_cash = TimingRule, False


class VecKellySizing(_VecSizing):
    """Batched twin of :class:`KellySizing`."""

    rule_class, keep_cash = KellyRule, True
