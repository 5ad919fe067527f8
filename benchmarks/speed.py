"""
Speed of the envs, beside CartPole-v1 and an env of the same spaces that does nothing, in one process and one run.

Machines differ and are shared, so what counts are the ratios, of CPU time. Every pair is measured in turn, several times, and
the median of the ratios is reported.

Usage: ``python benchmarks/speed.py [--out speed.json] [--rounds 5] [--ppo-steps 65536]``
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

import quantflux_sb3  # noqa: F401
from quantflux_sb3.env import QuantFluxEnv
from quantflux_sb3.vec_env import QuantFluxVecEnv, make_quantflux_vec_env


class DoNothing(gym.Env):
    """The spaces of ``QuantFlux-v0`` and its episode length; the observation is always the same."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None):
        env = gym.make("QuantFlux-v0")
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._obs, self._steps = np.zeros(env.observation_space.shape, dtype=np.float32), 0

    def reset(self, *, seed=None, options=None):
        self._steps = 0
        return self._obs.copy(), {}

    def step(self, action):
        self._steps += 1
        return self._obs.copy(), 0.0, False, self._steps >= 252, {}


class DoNothingVec(QuantFluxVecEnv):
    """The batched env without its step; its episodes end too, because SB3 then asks for the value of the last observation."""

    def reset(self):
        self._steps = 0
        return np.zeros((self.num_envs, *self.observation_space.shape), dtype=np.float32)

    def step_wait(self):
        n, self._steps = self.num_envs, self._steps + 1
        obs = np.zeros((n, *self.observation_space.shape), dtype=np.float32)
        dones = np.full(n, self._steps % 252 == 0)
        infos: list[dict] = [{} for _ in range(n)]
        for env in np.flatnonzero(dones):
            infos[env] = {"terminal_observation": obs[env].copy(), "TimeLimit.truncated": True}
        return obs, np.zeros(n, dtype=np.float32), dones, infos


def steps_per_second(env: gym.Env, n_steps: int = 20_000) -> float:
    """Single env, actions drawn beforehand, episodes reset as they end."""
    env.reset(seed=0)
    actions = [env.action_space.sample() for _ in range(64)]
    begin = time.process_time()
    for step in range(n_steps):
        *_, terminated, truncated, _ = env.step(actions[step % 64])
        if terminated or truncated:
            env.reset()
    return n_steps / (time.process_time() - begin)


def batched_steps_per_second(venv: VecEnv, n_steps: int = 100) -> float:
    """Steps of all envs together."""
    venv.reset()
    actions = np.random.default_rng(0).random((venv.num_envs, *venv.action_space.shape)).astype(np.float32)
    begin = time.process_time()
    for _ in range(n_steps):
        venv.step(actions)
    return n_steps * venv.num_envs / (time.process_time() - begin)


def ppo_steps_per_second(venv: VecEnv, n_steps: int) -> float:
    """SB3's PPO with its MlpPolicy, 64 envs, batches of 512."""
    model = PPO("MlpPolicy", venv, n_steps=64, batch_size=512, n_epochs=4, device="cpu", seed=0)
    model.learn(4096)
    begin = time.process_time()
    model.learn(n_steps)
    return n_steps / (time.process_time() - begin)


def measure(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> dict[str, float]:
    """Both in turn; medians of the speeds and of the ratios of neighbours."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return {
        "ours": statistics.median(a for a, _ in pairs),
        "theirs": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
    }


def first_step_seconds() -> float:
    begin = time.perf_counter()
    env = gym.make("QuantFlux-v0")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ppo-steps", type=int, default=65_536)
    options = parser.parse_args()
    th.set_num_threads(1)
    first = first_step_seconds()
    cartpole, ours = gym.make("CartPole-v1"), gym.make("QuantFlux-v0")
    bare, batch = QuantFluxEnv(), make_quantflux_vec_env(1024, seed=0)
    gym.register("DoNothing-v0", entry_point=DoNothing)  # so that gym.make wraps it as it wraps ours
    dummy = [make_vec_env(name, 64, seed=0) for name in ("QuantFlux-v0", "DoNothing-v0")]
    vec = [make_quantflux_vec_env(64, seed=0)]
    vec.append(DoNothingVec.like(vec[0].unwrapped.core, 64, None))
    bare.reset(seed=0)
    steps_per_second(ours, 2000)

    def cartpole_speed() -> float:
        return steps_per_second(cartpole)

    rows = {
        "gym.make against CartPole-v1": measure(lambda: steps_per_second(ours), cartpole_speed, options.rounds),
        "bare env against CartPole-v1": measure(lambda: steps_per_second(bare), cartpole_speed, options.rounds),
        "QuantFluxVecEnv(1024) against CartPole-v1, per env": measure(
            lambda: batched_steps_per_second(batch), cartpole_speed, options.rounds
        ),
        "PPO on make_vec_env against do-nothing": measure(
            lambda: ppo_steps_per_second(dummy[0], options.ppo_steps),
            lambda: ppo_steps_per_second(dummy[1], options.ppo_steps),
            max(options.rounds // 2, 1),
        ),
        "PPO on QuantFluxVecEnv against do-nothing": measure(
            lambda: ppo_steps_per_second(vec[0], options.ppo_steps),
            lambda: ppo_steps_per_second(vec[1], options.ppo_steps),
            max(options.rounds // 2, 1),
        ),
    }
    print(f"first gym.make, reset and step: {first:.2f} s")
    for name, row in rows.items():
        print(f"{name:<52} {row['ours']:>12,.0f} /s  {row['theirs']:>12,.0f} /s  ratio {row['ratio']:.2f}")
    if options.out:
        options.out.write_text(json.dumps({"first_step_seconds": first, **rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
