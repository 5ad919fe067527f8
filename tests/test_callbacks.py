"""Callbacks write what happened to SB3's logger, in the batched env and in single ones alike."""

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecNormalize

from quantflux_sb3.callbacks import AllocationDiagnosticsCallback, BenchmarkEvalCallback, RegimeAttributionCallback
from quantflux_sb3.callbacks.diagnostics import known_regimes, step_figures
from quantflux_sb3.policies import SoftmaxPolicy
from quantflux_sb3.regimes import REGIMES
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.vec_wrappers import VecMarketTiming
from quantflux_sb3.wrappers import MarketTiming


class Record(KVWriter):
    """Keeps everything that is logged."""

    def __init__(self):
        self.rows: list[dict] = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append(dict(key_values))


def train(env, callbacks, steps: int = 256) -> list[dict]:
    model = PPO(SoftmaxPolicy, env, n_steps=16, batch_size=128, n_epochs=1, gamma=0.0, seed=3)
    record = Record()
    model.set_logger(Logger(None, [record]))
    model.learn(steps, callback=callbacks)
    return record.rows


def batched(n_envs: int = 8):
    return make_quantflux_vec_env(n_envs, seed=3, wrappers=[VecMarketTiming])


def single(n_envs: int = 8):
    return make_vec_env("QuantFlux-v0", n_envs, seed=3, wrapper_class=MarketTiming)


@pytest.mark.parametrize("make", [batched, single])
def test_diagnostics_are_those_of_a_policy_near_equal_weight(make):
    rows = train(make(), [AllocationDiagnosticsCallback(), RegimeAttributionCallback()])
    row = rows[-1]
    assert 4.0 < row["allocation/effective_assets"] <= 6.0
    assert 0.0 < row["allocation/distance_to_equal_weight"] < 0.5
    assert 0.3 < row["allocation/exposure"] <= 1.0
    assert 0.0 < row["allocation/turnover"] < 2.0
    assert 0.0 <= row["allocation/cap_hits"] < 1.0
    assert np.isclose(row["allocation/cost"], 0.001 * row["allocation/turnover"], rtol=1e-2)
    shares = [row[f"regime/{name}_share"] for name in REGIMES]
    assert np.isclose(sum(shares), 1.0)


def test_batched_and_single_envs_log_the_same():
    callbacks = [AllocationDiagnosticsCallback(), RegimeAttributionCallback()]
    ours, theirs = (train(make(), callbacks, steps=128)[-1] for make in (batched, single))
    names = [name for name in ours if name.startswith(("allocation/", "regime/"))]
    assert len(names) > 10
    for name in names:
        assert np.isclose(ours[name], theirs[name], rtol=1e-9), name


def test_benchmark_callback_keeps_the_best_model(tmp_path):
    callback = BenchmarkEvalCallback(eval_freq=256, best_model_save_path=str(tmp_path))
    rows = train(batched(), callback, steps=512)
    logged = [row for row in rows if "benchmark/sharpe_ratio" in row]
    assert logged and all(np.isfinite(row["benchmark/sharpe_over_equal_weight"]) for row in logged)
    assert callback.best_sharpe_ratio >= max(row["benchmark/sharpe_ratio"] for row in logged)
    assert PPO.load(tmp_path / "best_model.zip").policy is not None


def test_benchmark_callback_refuses_the_test_years():
    with pytest.raises(ValueError, match="validation"):
        BenchmarkEvalCallback(split="test")


def test_callbacks_stand_aside_on_other_envs():
    model = PPO("MlpPolicy", make_vec_env("Pendulum-v1", 2), n_steps=16, batch_size=32, n_epochs=1)
    model.learn(64, callback=[AllocationDiagnosticsCallback(), RegimeAttributionCallback()])
    assert model.num_timesteps == 64


def test_benchmark_callback_refuses_observations_that_it_cannot_rebuild():
    with pytest.raises(ValueError, match="VecNormalize"):
        train(VecNormalize(batched()), BenchmarkEvalCallback(eval_freq=128), steps=128)


def test_what_callbacks_read_of_a_batch_is_what_single_envs_tell_through_resets():
    batch = make_quantflux_vec_env(3, seed=5, episode_length=20)
    single = make_vec_env("QuantFlux-v0", 3, seed=5, env_kwargs={"episode_length": 20})
    batch.reset(), single.reset()
    for actions in np.random.default_rng(0).random((70, 3, 7)).astype(np.float32):
        infos = [env.step(actions)[3] for env in (batch, single)]
        np.testing.assert_array_equal(known_regimes(batch, infos[0]), known_regimes(single, infos[1]))
        ours, theirs = step_figures(batch, infos[0]), step_figures(single, infos[1])
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
