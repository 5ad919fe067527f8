"""
Batched twins of the wrappers in :mod:`quantflux_sb3.wrappers`, for :class:`quantflux_sb3.vec_env.QuantFluxVecEnv`.
"""

from typing import Any

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from quantflux_sb3.features import FeatureConfig
from quantflux_sb3.regimes import RegimeDetector, RuleRegimes
from quantflux_sb3.sizing import KellyRule, Sizing, TimingRule
from quantflux_sb3.wrappers import RegimeBlock, SignalBlock, make_rule, observe, portfolio_core


class _VecPassThrough(VecEnvWrapper):
    """A wrapper that has said what it wants to the env underneath and then stands aside."""

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        return self.venv.step_wait()


class VecFeatureObservation(_VecPassThrough):
    """Batched twin of :class:`quantflux_sb3.wrappers.FeatureObservation`."""

    def __init__(self, venv: VecEnv, features: FeatureConfig | None = None):
        observe(venv, features or FeatureConfig())
        super().__init__(venv)


class VecRegimeObservation(_VecPassThrough):
    """Batched twin of :class:`quantflux_sb3.wrappers.RegimeObservation`."""

    def __init__(self, venv: VecEnv, detector: RegimeDetector | None = None):
        observe(venv, RegimeBlock(detector or RuleRegimes()))
        super().__init__(venv)


class VecExogenousObservation(_VecPassThrough):
    """Batched twin of :class:`quantflux_sb3.wrappers.ExogenousObservation`."""

    def __init__(self, venv: VecEnv):
        observe(venv, SignalBlock())
        super().__init__(venv)


class _VecSizing(_VecPassThrough):
    rule_class: type
    keep_cash: bool

    def __init__(self, venv: VecEnv, **rule: Any):
        portfolio_core(venv).add_sizing(Sizing(make_rule(self.rule_class, rule), self.keep_cash))
        super().__init__(venv)


class VecMarketTiming(_VecSizing):
    """Batched twin of :class:`quantflux_sb3.wrappers.MarketTiming`."""

    rule_class, keep_cash = TimingRule, False


class VecKellySizing(_VecSizing):
    """Batched twin of :class:`quantflux_sb3.wrappers.KellySizing`."""

    rule_class, keep_cash = KellyRule, True
