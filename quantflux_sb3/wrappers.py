"""
Wrappers that compose with any policy: what is observed, and how much is put at risk.

Each exists twice, for a single env and for :class:`quantflux_sb3.vec_env.QuantFluxVecEnv`, on the same table and the same
formula: ``FeatureObservation`` / ``VecFeatureObservation`` and so on. They ask the env underneath to observe more columns,
or to size its decisions by a rule, so that a step costs no more for being wrapped. The Vec twins
are in :mod:`quantflux_sb3.vec_wrappers`, because they need Stable-Baselines3 and with it torch; they can be imported from here
too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import gymnasium as gym
import numpy as np

from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.features import FeatureConfig
from quantflux_sb3.layout import Block, PortfolioBox
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.pool import BlockSource
from quantflux_sb3.regimes import REGIMES, RegimeDetector, RuleRegimes, detect_regimes
from quantflux_sb3.sizing import KellyRule, Sizing, SizingRule, TimingRule


@dataclass(frozen=True)
class RegimeBlock:
    """
    Regime probabilities and days in the regime as a block of the observation.

    :param detector: of the regimes
    """

    detector: RegimeDetector = field(default_factory=RuleRegimes)

    def blocks(self, market: MarketData) -> list[tuple[Block, np.ndarray]]:
        """See :class:`quantflux_sb3.pool.BlockSource`."""
        regimes = detect_regimes(market, self.detector)
        days = np.minimum(regimes.days_in_regime, 252) / 252.0
        table = np.column_stack([regimes.probs, days]).astype(np.float32)
        return [(Block("regime", (*(f"prob_{name}" for name in REGIMES), "days_in_regime"), limit=1.0, signed=False), table)]


@dataclass(frozen=True)
class SignalBlock:
    """
    The user's own signals as blocks of the observation, without the built-in features.

    :param limit: signals are clipped here
    """

    limit: float = 1e6

    def blocks(self, market: MarketData) -> list[tuple[Block, np.ndarray]]:
        """See :class:`quantflux_sb3.pool.BlockSource`."""
        blocks = []
        if market.asset_features:
            table = np.stack(list(market.asset_features.values()), axis=2).reshape(market.n_days, -1)
            names = tuple(market.asset_features)
            blocks.append((Block("signals", names, market.n_assets, limit=self.limit), self._clip(table)))
        if market.market_features:
            table = np.column_stack(list(market.market_features.values()))
            blocks.append((Block("market_signals", tuple(market.market_features), limit=self.limit), self._clip(table)))
        if not blocks:
            raise ValueError("The market has no exogenous features; give asset_features or market_features to MarketData.")
        return blocks

    def _clip(self, table: np.ndarray) -> np.ndarray:
        return np.clip(table, -self.limit, self.limit).astype(np.float32)


class CoreWrapper(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """
    Base of the wrappers that change what the core underneath does. There is nothing left to do at a step, so that the step of
    a wrapped env is the step of the env, without a call in between.

    :param env: a QuantFluxEnv, wrapped or not
    """

    def __init__(self, env: gym.Env):
        gym.Wrapper.__init__(self, env)
        if type(self).step is gym.Wrapper.step:  # a subclass may have something to do
            self.step = env.step  # type: ignore[method-assign]


class ExogenousObservation(CoreWrapper):
    """
    Adds the user's own signals to the observation. ``FeatureObservation`` does so too, unless it is told not to
    (``FeatureConfig(exogenous=False)``); this one is for envs that observe nothing else.

    :param env: a QuantFluxEnv, wrapped or not
    """

    def __init__(self, env: gym.Env):
        gym.utils.RecordConstructorArgs.__init__(self)
        CoreWrapper.__init__(self, env)
        observe(env, SignalBlock())


class FeatureObservation(CoreWrapper):
    """
    Adds the per-asset and the market features to the observation.

    :param env: a QuantFluxEnv, wrapped or not
    :param features: which
    """

    def __init__(self, env: gym.Env, features: FeatureConfig | None = None):
        gym.utils.RecordConstructorArgs.__init__(self, features=features)
        CoreWrapper.__init__(self, env)
        observe(env, features or FeatureConfig())


class RegimeObservation(CoreWrapper):
    """
    Adds the regime probabilities and the days in the regime to the observation.

    :param env: a QuantFluxEnv, wrapped or not
    :param detector: of the regimes
    """

    def __init__(self, env: gym.Env, detector: RegimeDetector | None = None):
        gym.utils.RecordConstructorArgs.__init__(self, detector=detector)
        CoreWrapper.__init__(self, env)
        observe(env, RegimeBlock(detector or RuleRegimes()))


class SizingWrapper(CoreWrapper):
    """
    Base of the wrappers that size.

    :param env: a QuantFluxEnv, wrapped or not
    :param rule: settings of the rule
    """

    rule_class: type
    keep_cash: bool

    def __init__(self, env: gym.Env, **rule: Any):
        gym.utils.RecordConstructorArgs.__init__(self, **rule)
        CoreWrapper.__init__(self, env)
        portfolio_core(env).add_sizing(Sizing(make_rule(self.rule_class, rule), self.keep_cash))


class MarketTiming(SizingWrapper):
    """
    Exposure by rule, outside the policy: the policy says which assets, the rule how much; the rest is cash.

    Keyword arguments are those of :class:`quantflux_sb3.sizing.TimingRule`.
    """

    rule_class, keep_cash = TimingRule, False


class KellySizing(SizingWrapper):
    """
    Multiplies the exposure that the policy asks for by its multi-timeframe Kelly fraction.

    Keyword arguments are those of :class:`quantflux_sb3.sizing.KellyRule`.
    """

    rule_class, keep_cash = KellyRule, True


def observe(env: Any, source: BlockSource) -> None:
    """
    Ask the env underneath to observe more.

    :param env: a QuantFluxEnv or QuantFluxVecEnv, wrapped or not
    :param source: of the blocks
    :raises TypeError: if it is another env
    :raises ValueError: if a wrapper in between changes the observation
    """
    core, layers = portfolio_core(env), list(_layers(env))
    for layer in layers:
        if hasattr(layer, "obs_rms") or not isinstance(layer.observation_space, PortfolioBox):
            name = type(layer).__name__
            raise ValueError(f"{name} changes the observation: put it around this wrapper, not between it and the env.")
    core.add_observation(source)
    env.unwrapped.observation_space = PortfolioBox(core.layout)
    for layer in layers:
        if hasattr(layer, "venv"):  # SB3's wrappers keep a space of their own
            layer.observation_space = env.unwrapped.observation_space


def _layers(env: Any) -> Iterator[Any]:
    """The wrappers around the innermost env, from the outside."""
    while env is not env.unwrapped:
        yield env
        env = env.venv if hasattr(env, "venv") else env.env


def portfolio_core(env: Any) -> PortfolioCore:
    """
    :param env: a QuantFluxEnv or QuantFluxVecEnv, wrapped or not
    :return: its core
    :raises TypeError: if it is another env
    """
    core = getattr(env.unwrapped, "core", None)
    if not isinstance(core, PortfolioCore):
        raise TypeError(f"This wrapper needs a QuantFlux env; got {type(env.unwrapped).__name__}.")
    return core


def make_rule(rule_class: type, settings: dict[str, Any]) -> SizingRule:
    """
    Build a sizing rule from the keyword arguments of a wrapper, which may come from YAML, where a tuple is a list.

    :param rule_class: the rule
    :param settings: its settings
    :raises TypeError: if a setting is unknown
    """
    known = {setting.name for setting in fields(rule_class)}
    if unknown := set(settings) - known:
        raise TypeError(f"{rule_class.__name__} has no setting {sorted(unknown)}; it has {sorted(known)}.")
    return rule_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})


def __getattr__(name: str) -> Any:
    if name.startswith("Vec"):
        from quantflux_sb3 import vec_wrappers

        return getattr(vec_wrappers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
