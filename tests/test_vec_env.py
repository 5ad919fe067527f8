"""The batched env is n single envs, bit for bit, and its arrays belong to the caller."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from quantflux_sb3.env import QuantFluxEnv
from quantflux_sb3.vec_env import QuantFluxVecEnv, make_quantflux_vec_env
from quantflux_sb3.wrappers import (
    FeatureObservation,
    KellySizing,
    MarketTiming,
    RegimeObservation,
    VecFeatureObservation,
    VecKellySizing,
    VecMarketTiming,
    VecRegimeObservation,
)

N_ENVS, SEED = 5, 40

STACKS = {
    "bare": ([], []),
    "observing": ([FeatureObservation, RegimeObservation], [VecFeatureObservation, VecRegimeObservation]),
    "timing": (
        [FeatureObservation, RegimeObservation, MarketTiming],
        [VecFeatureObservation, VecRegimeObservation, VecMarketTiming],
    ),
    "kelly": ([FeatureObservation, KellySizing], [VecFeatureObservation, VecKellySizing]),
}


def build(stack, market, **settings):
    single, batched = STACKS[stack]
    envs = [QuantFluxEnv(market, **settings) for _ in range(N_ENVS)]
    for wrapper in single:
        envs = [wrapper(env) for env in envs]
    venv = QuantFluxVecEnv(N_ENVS, market, full_info=True, **settings)
    for wrapper in batched:
        venv = wrapper(venv)
    return envs, venv


def assert_same(a, b) -> None:
    """Infos, compared to the bit."""
    assert set(a) == set(b)
    for key, value in a.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, b[key])
        else:
            assert value == b[key], key


@pytest.mark.parametrize("interval", [1, 5])
@pytest.mark.parametrize("stack", STACKS)
def test_batch_equals_single_envs_bit_for_bit_through_resets(all_stocks, stack, interval):
    settings = dict(
        split="validation", episode_length=23, decision_interval=interval, execution_lag=int(interval == 1),
        trade_to="band" if interval == 5 else "target", target_smoothing=2,
    )  # fmt: skip
    envs, venv = build(stack, all_stocks, **settings)
    venv.seed(SEED)
    obs = venv.reset()
    expected = [env.reset(seed=SEED + i)[0] for i, env in enumerate(envs)]
    np.testing.assert_array_equal(obs, expected)
    rng, finished = np.random.default_rng(0), 0
    totals = np.zeros(N_ENVS)
    for _ in range(80 if interval == 1 else 20):
        actions = rng.dirichlet(np.full(21, 0.3), N_ENVS).astype(np.float32)
        actions[rng.uniform(size=N_ENVS) < 0.05] = 0.0
        obs, rewards, dones, infos = venv.step(actions)
        for i, env in enumerate(envs):
            single, reward, terminated, truncated, info = env.step(actions[i])
            totals[i] += reward
            extra = {
                key: infos[i].pop(key) for key in ("terminal_observation", "TimeLimit.truncated", "episode") if key in infos[i]
            }
            assert bool(dones[i]) == (terminated or truncated) == bool(extra)
            assert rewards[i] == np.float32(reward)
            assert_same(info, infos[i])
            if dones[i]:
                np.testing.assert_array_equal(extra["terminal_observation"], single)
                assert extra["TimeLimit.truncated"] == truncated
                assert extra["episode"]["r"] == pytest.approx(totals[i], abs=1e-12)
                assert extra["episode"]["l"] == (23 if interval == 1 else 5)
                totals[i], finished = 0.0, finished + 1
                single = env.reset()[0]
            np.testing.assert_array_equal(obs[i], single)
    assert finished >= 3 * N_ENVS


def test_make_quantflux_vec_env_observes_what_gym_make_does(bundled):
    venv = make_quantflux_vec_env(3, seed=11, episode_length=30)
    env = gym.make("QuantFlux-v0", episode_length=30)
    assert venv.observation_space == env.observation_space and venv.action_space == env.action_space
    assert venv.observation_space.layout == env.observation_space.layout
    obs = venv.reset()
    np.testing.assert_array_equal(obs[1], env.reset(seed=12)[0])
    assert venv.unwrapped.assets == env.unwrapped.assets == bundled.assets


def test_batch_equals_sb3s_own_vec_env_of_single_envs():
    """DummyVecEnv over gym.make, as rl_zoo3 builds it: same seeds, same episodes."""
    ours, theirs = (
        make_quantflux_vec_env(3, seed=2, episode_length=10),
        make_vec_env("QuantFlux-v0", 3, seed=2, env_kwargs={"episode_length": 10}),
    )
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    rng = np.random.default_rng(1)
    for _ in range(25):
        actions = rng.uniform(size=(3, 7)).astype(np.float32)
        a, b = ours.step(actions), theirs.step(actions)
        for mine, other in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(mine, other)
            assert mine.dtype == other.dtype
        for mine, other in zip(a[3], b[3], strict=True):
            assert mine.get("TimeLimit.truncated", False) == other["TimeLimit.truncated"]
            if "terminal_observation" in other:
                np.testing.assert_array_equal(mine["terminal_observation"], other["terminal_observation"])
                assert mine["episode"]["r"] == pytest.approx(other["episode"]["r"], abs=1e-5)
                assert mine["episode"]["l"] == other["episode"]["l"]


def test_list_of_markets_has_the_same_episodes_in_both(make_market):
    markets = [(make_market(seed=1), 0.3), (make_market(seed=2), 0.7)]
    settings = dict(episode_length=6, max_weight=0.5)
    venv, envs = QuantFluxVecEnv(4, markets, **settings), [QuantFluxEnv(markets, **settings) for _ in range(4)]
    venv.seed(0)
    venv.reset()
    for i, env in enumerate(envs):
        env.reset(seed=i)
    for _ in range(20):
        venv.step(np.ones((4, 5)))
        for env in envs:
            if env.step(np.ones(5))[3]:
                env.reset()
        np.testing.assert_array_equal(venv.core.clock, [env.core.clock[0] for env in envs])
        np.testing.assert_array_equal(venv.core.state, [env.core.state[0] for env in envs])


def test_returned_arrays_are_the_callers(market):
    """A VecEnv that hands out its buffer makes PPO store tomorrow's observation."""
    venv = make_quantflux_vec_env(3, market, seed=0, episode_length=7, max_weight=0.5, full_info=True)
    twin = make_quantflux_vec_env(3, market, seed=0, episode_length=7, max_weight=0.5, full_info=True)
    kept = [venv.reset()]
    copies = [kept[0].copy()]
    twin.reset()[:] = 99.0
    for _ in range(20):
        actions = np.random.default_rng(0).uniform(size=(3, 5))
        out, spoilt = venv.step(actions), twin.step(actions.copy())
        np.testing.assert_array_equal(out[0], spoilt[0])
        np.testing.assert_array_equal(out[1], spoilt[1])
        for array in (*out[:3], *(info["weights"] for info in out[3])):
            kept.append(array)
            copies.append(array.copy())
        for array in spoilt[:3]:
            array[:] = 1
        for info in spoilt[3]:
            info["weights"][:] = info["target_weights"][:] = info["regime_probs"][:] = 0.5
            if "terminal_observation" in info:
                info["terminal_observation"][:] = 5.0
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_only_finished_episodes_have_infos_unless_all_are_asked_for(market):
    venv = QuantFluxVecEnv(2, market, episode_length=3, max_weight=0.5)
    venv.seed(0)
    venv.reset()
    for step in range(1, 7):
        _, _, dones, infos = venv.step(np.ones((2, 5)))
        assert dones.tolist() == [step % 3 == 0] * 2
        assert [bool(info) for info in infos] == dones.tolist()
    assert {"episode", "terminal_observation", "TimeLimit.truncated", "wealth", "reward_terms"} <= set(infos[0])


def test_seeds_make_episodes_and_are_used_once(market):
    def starts(seed):
        venv = QuantFluxVecEnv(2, market, episode_length=5, max_weight=0.5)
        venv.seed(seed)
        return [tuple(venv.reset().shape) and tuple(venv.core.clock[:, 0]) for _ in range(4)]

    assert starts(3) == starts(3)
    assert len(set(starts(3))) > 1 and starts(3) != starts(4)


def test_sb3s_own_wrappers_fit_around(market):
    venv = make_quantflux_vec_env(4, market, seed=0, episode_length=9, max_weight=0.5)
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):  # episodes are reported without it
        venv = VecNormalize(VecMonitor(venv))
    obs = venv.reset()
    assert np.isfinite(obs).all()
    for _ in range(12):
        obs, rewards, _, _ = venv.step(np.ones((4, 5)))
    assert np.isfinite(obs).all() and np.isfinite(rewards).all()
    assert venv.env_is_wrapped(Monitor) == [True] * 4
    assert venv.get_attr("assets") == [market.assets] * 4


def test_another_batch_like_one_observes_and_sizes_the_same(market, make_market):
    venv = make_quantflux_vec_env(2, market, max_weight=0.6, wrappers=[VecMarketTiming], decision_interval=3)
    other = make_market(seed=5, exogenous=True)
    twin = QuantFluxVecEnv.like(venv.unwrapped.core, 2, other, split="all")
    again = make_quantflux_vec_env(2, other, max_weight=0.6, wrappers=[VecMarketTiming], decision_interval=3, split="all")
    assert twin.observation_space == venv.observation_space and twin.observation_space.layout == again.observation_space.layout
    for batch in (twin, again):
        batch.seed(4)
    np.testing.assert_array_equal(twin.reset(), again.reset())
    for _ in range(20):
        a, b = twin.step(np.ones((2, 5))), again.step(np.ones((2, 5)))
        for mine, expected in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (np.ones((2, 4)), r"shape \(2, 4\); expected \(2, 5\)"),
        (np.ones(5), r"shape \(5,\)"),
        (np.full((2, 5), np.nan), "finite"),
        (np.array([list("abcde")] * 2), "number"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda venv: venv, VecMarketTiming, VecKellySizing])
def test_bad_actions_are_refused_in_plain_words(market, actions, said, wrap):
    venv = wrap(QuantFluxVecEnv(2, market, max_weight=0.5))
    venv.reset()
    with pytest.raises((ValueError, TypeError), match=said):
        venv.step(actions)


def test_bad_settings_are_refused(market):
    with pytest.raises(ValueError, match="`n_envs` must be a whole number >= 1; got 0"):
        QuantFluxVecEnv(0, market)
    with pytest.raises(ValueError, match="not rendered"):
        QuantFluxVecEnv(2, market, render_mode="rgb_array")
    with pytest.raises(TypeError, match="lookback"):
        QuantFluxVecEnv(2, market, lookback=3)
    with pytest.raises(NotImplementedError, match="share their settings"):
        QuantFluxVecEnv(2, market, max_weight=0.5).set_attr("core", None)


def test_memory_of_a_market_is_shared_by_its_envs(bundled):
    one, many, env = QuantFluxVecEnv(2), QuantFluxVecEnv(3, bundled), QuantFluxEnv()
    assert one.core.pool is many.core.pool is env.core.pool
