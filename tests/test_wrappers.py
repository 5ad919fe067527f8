"""What the wrappers add to the observation and do to the action."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize

from quantflux_sb3 import wrappers
from quantflux_sb3.env import QuantFluxEnv
from quantflux_sb3.features import FeatureConfig
from quantflux_sb3.market import WARMUP_DAYS
from quantflux_sb3.pool import MarketPool
from quantflux_sb3.regimes import RuleRegimes, detect_regimes
from quantflux_sb3.sizing import KellyRule, TimingRule
from quantflux_sb3.vec_env import QuantFluxVecEnv
from quantflux_sb3.wrappers import (
    FeatureObservation,
    KellySizing,
    MarketTiming,
    RegimeObservation,
    VecFeatureObservation,
    VecMarketTiming,
    VecRegimeObservation,
)

FREE = dict(split="all", episode_length=None, costs=0.0, max_weight=1.0, rebalance_threshold=0.0, exposure_threshold=0.0)


def columns(env, obs, block):
    return obs[env.observation_space.layout.slices[block]]


@pytest.mark.parametrize("lag", [0, 1])
def test_observed_features_are_the_rows_of_the_tables(market, lag):
    config = FeatureConfig((5, 21), (20,), 10, 30)
    env = FeatureObservation(QuantFluxEnv(market, split="all", episode_length=None, execution_lag=lag, max_weight=0.5), config)
    (_, assets), (_, of_market) = config.blocks(market)
    obs, _ = env.reset(seed=0)
    for step in range(40):
        row = WARMUP_DAYS + step - lag
        np.testing.assert_array_equal(columns(env, obs, "assets"), assets[row])
        np.testing.assert_array_equal(columns(env, obs, "market"), of_market[row])
        obs = env.step(np.ones(5))[0]


def test_observed_regimes_are_the_rows_of_the_detector(market):
    detector = RuleRegimes(stay=0.9)
    env = RegimeObservation(QuantFluxEnv(market, split="all", episode_length=None, max_weight=0.5), detector)
    table = detect_regimes(market, detector)
    obs, _ = env.reset(seed=0)
    for step in range(60):
        row = WARMUP_DAYS + step - 1
        seen = columns(env, obs, "regime")
        np.testing.assert_allclose(seen[:4], table.probs[row], rtol=0, atol=1e-7)
        assert seen[4] == pytest.approx(min(table.days_in_regime[row], 252) / 252, abs=1e-7)
        obs = env.step(np.ones(5))[0]


def test_blocks_stand_in_the_order_of_wrapping_and_the_portfolio_last(market):
    bare = QuantFluxEnv(market, max_weight=0.5)
    assert [block.name for block in bare.core.layout.blocks] == ["weights", "portfolio"]
    env = FeatureObservation(RegimeObservation(bare))
    names = ["regime", "assets", "market", "weights", "portfolio"]
    assert [block.name for block in env.observation_space.layout.blocks] == names
    assert env.observation_space.shape == (env.observation_space.layout.size,) == env.reset(seed=0)[0].shape


@pytest.mark.parametrize("wrapper", [FeatureObservation, RegimeObservation])
def test_wrapping_twice_is_refused(wrapper):
    with pytest.raises(ValueError, match=r"has the blocks \['\w+'.*\] already; is the env wrapped twice\?"):
        wrapper(gym.make("QuantFlux-v0"))


@pytest.mark.parametrize("wrapper", [FeatureObservation, RegimeObservation])
def test_other_envs_are_refused(wrapper):
    with pytest.raises(TypeError, match="needs a QuantFlux env; got CartPoleEnv"):
        wrapper(gym.make("CartPole-v1"))


@pytest.mark.parametrize("wrapper", [MarketTiming, KellySizing])
def test_sizing_wrappers_refuse_other_envs(wrapper):
    with pytest.raises(TypeError, match="needs a QuantFlux env"):
        wrapper(gym.make("Pendulum-v1"))


@pytest.mark.parametrize(("wrapper", "rule"), [(MarketTiming, "TimingRule"), (KellySizing, "KellyRule")])
def test_unknown_settings_are_refused(market, wrapper, rule):
    with pytest.raises(TypeError, match=rf"{rule} has no setting \['halflife'\]; it has \["):
        wrapper(QuantFluxEnv(market, max_weight=0.5), halflife=3)


@pytest.mark.parametrize("lag", [0, 1])
def test_market_timing_sets_the_exposure_and_keeps_the_proportions(market, lag):
    rule = dict(target_volatility=0.06, min_exposure=0.05)
    env = MarketTiming(QuantFluxEnv(market, execution_lag=lag, **FREE), **rule)
    env.reset(seed=0)
    table, rng = TimingRule(**rule).table(market), np.random.default_rng(0)
    for step in range(60):
        action = rng.dirichlet(np.ones(5))
        held = env.step(action)[4]["weights"]
        exposure = table[WARMUP_DAYS + step - lag]
        np.testing.assert_allclose(held[:4], exposure * action[:4] / action[:4].sum(), rtol=0, atol=1e-12)
        assert held[4] == pytest.approx(1.0 - exposure, abs=1e-12)
    assert table[WARMUP_DAYS:].std() > 0.01


@pytest.mark.parametrize("lag", [0, 1])
def test_kelly_multiplies_the_exposure_asked_for(market, lag):
    rule = dict(fraction=0.02, min_exposure=0.1, horizons=[20, 60])
    env = KellySizing(QuantFluxEnv(market, execution_lag=lag, **FREE), **rule)
    env.reset(seed=0)
    sizing, pool, rng = KellyRule((20, 60), 0.02, 126.0, 0.1), MarketPool.of(market), np.random.default_rng(0)
    for step in range(60):
        action = rng.dirichlet(np.ones(5))
        held = env.step(action)[4]["weights"]
        fraction = sizing.exposure(pool, np.array([WARMUP_DAYS + step - lag]), action[None, :4])[0]
        np.testing.assert_allclose(held[:4], fraction * action[:4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("wrapper", [MarketTiming, KellySizing])
def test_all_cash_stays_all_cash(market, wrapper):
    env = wrapper(QuantFluxEnv(market, **FREE), min_exposure=0.3)
    env.reset(seed=0)
    for action in (np.zeros(5), np.array([0.0, 0.0, 0.0, 0.0, 1.0])):
        np.testing.assert_array_equal(env.step(action)[4]["target_weights"], [0, 0, 0, 0, 1])


def test_wrappers_leave_the_callers_action_alone(market):
    env = KellySizing(MarketTiming(QuantFluxEnv(market, **FREE)))
    env.reset(seed=0)
    action = np.array([0.1, 0.2, 0.3, 0.1, 0.3])
    env.step(action)
    np.testing.assert_array_equal(action, [0.1, 0.2, 0.3, 0.1, 0.3])


def test_kelly_uses_the_envs_own_cash_rate(market):
    """``risk_free`` of the env replaces the market's everywhere, so Kelly's excess returns must change with it."""
    exposures = []
    for rate in (None, -0.002):
        env = KellySizing(QuantFluxEnv(market, risk_free=rate, **FREE), fraction=0.02, min_exposure=0.0)
        env.reset(seed=0)
        exposures.append([env.step(np.array([1.0, 1.0, 1.0, 1.0, 0.0]))[4]["exposure"] for _ in range(40)])
    assert np.abs(np.subtract(*exposures)).max() > 1e-3


def test_gym_make_applies_the_documented_wrappers_and_takes_more():
    env = gym.make("QuantFlux-v0")
    names = [block.name for block in env.observation_space.layout.blocks]
    assert names == ["assets", "market", "regime", "weights", "portfolio"]
    timed = MarketTiming(env, regime_exposure=[0.0, 0.0, 0.0, 0.0])  # a list, as from YAML
    timed.reset(seed=0)
    assert timed.step(np.ones(7, dtype=np.float32))[4]["exposure"] == 0.0


def test_wrapped_env_can_be_made_again_from_its_spec():
    env = MarketTiming(gym.make("QuantFlux-v0", episode_length=9), target_volatility=0.1)
    again = gym.make(env.spec)
    for seed in (1, 2):
        np.testing.assert_array_equal(env.reset(seed=seed)[0], again.reset(seed=seed)[0])
        a, b = env.step(np.ones(7, dtype=np.float32)), again.step(np.ones(7, dtype=np.float32))
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1] == b[1]


def test_vec_twins_lie_beside_their_single_counterparts(market):
    venv = VecMarketTiming(VecRegimeObservation(VecFeatureObservation(QuantFluxVecEnv(2, market, max_weight=0.5))))
    env = MarketTiming(RegimeObservation(FeatureObservation(QuantFluxEnv(market, max_weight=0.5))))
    assert venv.observation_space == env.observation_space
    assert venv.observation_space.layout == env.observation_space.layout
    with pytest.raises(AttributeError, match="VecNothing"):
        _ = wrappers.VecNothing


def test_wrappers_that_change_the_observation_stand_outside():
    for change in (gym.wrappers.FlattenObservation, gym.wrappers.NormalizeObservation):
        with pytest.raises(ValueError, match=f"{change.__name__} changes the observation: put it around"):
            FeatureObservation(change(QuantFluxEnv()))
    for change in (VecNormalize, lambda venv: VecFrameStack(venv, 2)):
        with pytest.raises(ValueError, match="changes the observation"):
            VecFeatureObservation(change(QuantFluxVecEnv(2)))
    venv = VecFeatureObservation(VecMonitor(QuantFluxVecEnv(2)))
    assert venv.venv.observation_space == venv.observation_space == venv.unwrapped.observation_space
    stacked = VecMarketTiming(VecFrameStack(QuantFluxVecEnv(2), 2))
    assert stacked.reset().shape[1:] == stacked.observation_space.shape


def test_a_subclass_may_have_a_step_of_its_own():
    class Doubled(FeatureObservation):
        def step(self, action):
            obs, reward, *rest = super().step(action)
            return obs, 2.0 * reward, *rest

    plain, doubled = FeatureObservation(QuantFluxEnv()), Doubled(QuantFluxEnv())
    plain.reset(seed=0), doubled.reset(seed=0)
    action = np.full(7, 0.2, dtype=np.float32)
    assert doubled.step(action)[1] == 2.0 * plain.step(action)[1]
