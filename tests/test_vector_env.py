"""The Gymnasium VectorEnv and the batched env of rl_zoo3 are the same portfolios as everywhere else."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

import quantflux_sb3  # noqa: F401
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.wrappers import MarketTiming
from quantflux_sb3.zoo_vec_env import BatchedVecEnv


def test_vector_env_steps_the_same_portfolios_as_the_vec_env():
    ours = gym.make_vec("QuantFlux-v0", 5, vectorization_mode="vector_entry_point", episode_length=40)
    theirs = make_quantflux_vec_env(5, seed=11, episode_length=40, full_info=True)
    obs, _ = ours.reset(seed=11)
    np.testing.assert_array_equal(obs, theirs.reset())
    rng = np.random.default_rng(0)
    for _ in range(100):
        actions = rng.random((5, 7)).astype(np.float32)
        obs, rewards, terminations, truncations, info = ours.step(actions)
        expected, their_rewards, dones, infos = theirs.step(actions)
        np.testing.assert_array_equal(obs, expected)
        np.testing.assert_array_equal(rewards.astype(np.float32), their_rewards)
        np.testing.assert_array_equal(terminations | truncations, dones)
        assert info["turnover"].tolist() == [one["turnover"] for one in infos]
        for env in np.flatnonzero(dones):
            np.testing.assert_array_equal(info["final_obs"][env], infos[env]["terminal_observation"])
            assert info["final_info"]["_wealth"][env] and info["final_info"]["wealth"][env] == infos[env]["wealth"]
    assert ours.observation_space.contains(obs) and ours.action_space.contains(actions)


def test_batched_env_of_the_zoo_equals_dummy_envs():
    kwargs = dict(wrapper_class=MarketTiming, env_kwargs=dict(target_smoothing=5, decision_interval=2), seed=4)
    dummy = make_vec_env("QuantFlux-v0", 3, **kwargs)
    batched = make_vec_env("QuantFlux-v0", 3, vec_env_cls=BatchedVecEnv, **kwargs)
    assert dummy.observation_space == batched.observation_space
    np.testing.assert_array_equal(dummy.reset(), batched.reset())
    rng = np.random.default_rng(1)
    for _ in range(300):
        actions = rng.random((3, 7)).astype(np.float32)
        for ours, theirs in zip(batched.step(actions)[:3], dummy.step(actions)[:3], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_wrappers_that_change_steps_cannot_be_batched():
    with pytest.raises(ValueError, match=r"cannot take the wrappers \['ClipAction'\]"):
        BatchedVecEnv([lambda: gym.wrappers.ClipAction(gym.make("QuantFlux-v0"))])
