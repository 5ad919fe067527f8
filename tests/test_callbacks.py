"""Callbacks write what happened to SB3's logger, in the batched env and in single ones alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecNormalize

from quantflux_sb3.callbacks import (
    AllocationDiagnosticsCallback,
    EarlyStoppingOnValidation,
    EvalOnRealCallback,
    LearningHealthCallback,
    RegimeAttributionCallback,
    RegimeCurriculumCallback,
)
from quantflux_sb3.callbacks.curriculum import regime_factors
from quantflux_sb3.callbacks.diagnostics import known_regimes, step_figures
from quantflux_sb3.evaluation.backtest import backtest_in
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.market import DateSplits
from quantflux_sb3.policies import SoftmaxPolicy
from quantflux_sb3.pool import MarketPool
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


def test_eval_callback_keeps_the_best_model_of_the_validation_years(tmp_path):
    callback = EvalOnRealCallback(eval_freq=256, best_model_save_path=str(tmp_path))
    rows = train(batched(), callback, steps=512)
    logged = [row for row in rows if "validation/sharpe_ratio" in row]
    assert logged and all(np.isfinite(row["validation/sharpe_over_equal_weight"]) for row in logged)
    assert callback.best_sharpe_ratio >= max(row["validation/sharpe_ratio"] for row in logged)
    model, core = PPO.load(tmp_path / "best_model.zip"), callback._venv.core
    result = backtest_in(callback._venv, model)
    assert performance(result)["sharpe_ratio"] == pytest.approx(callback.best_sharpe_ratio, abs=1e-9)
    first, stop = core.pool.markets[0].rows("validation")
    np.testing.assert_array_equal(result.dates, core.pool.dates[first:stop])


def test_eval_callback_looks_at_real_markets_only(make_market):
    dates = {"splits": DateSplits("2008-12-31", "2009-12-31")}
    fake, real = make_market(3000, 6, 1, synthetic=True, **dates), make_market(3000, 6, 2, **dates)
    callback = EvalOnRealCallback(eval_freq=256)
    train(make_quantflux_vec_env(8, [fake, real], seed=0), callback)
    assert callback._venv.core.pool.markets == (real,)
    with pytest.raises(ValueError, match="needs a real market to choose models on"):
        train(make_quantflux_vec_env(8, [fake], seed=0), EvalOnRealCallback())


def test_early_stopping_counts_evaluations_without_a_rise():
    env = batched()
    model = PPO(SoftmaxPolicy, env, n_steps=16, batch_size=128, n_epochs=1, learning_rate=0.0, gamma=0.0, seed=3)
    callback = EarlyStoppingOnValidation(patience=2, eval_freq=128)
    model.learn(10_000, callback=callback)  # nothing is learnt: the first evaluation is the best, two more follow
    assert callback.n_evals >= 3 and model.num_timesteps == 3 * 128
    late = EarlyStoppingOnValidation(patience=2, min_evals=5, eval_freq=128)
    PPO(SoftmaxPolicy, env, n_steps=16, batch_size=128, n_epochs=1, learning_rate=0.0, seed=3).learn(10_000, callback=late)
    assert late.n_evals >= 5 > 3
    with pytest.raises(ValueError, match="`patience` must be at least 1"):
        EarlyStoppingOnValidation(patience=0)


@pytest.mark.parametrize("make", [batched, single])
def test_health_callback_warns_of_a_dead_policy_once_and_says_what_to_do(make, caplog):
    model = PPO(SoftmaxPolicy, make(), n_steps=16, batch_size=128, n_epochs=1, learning_rate=0.0, seed=3)
    record = Record()
    model.set_logger(Logger(None, [record]))
    callback = LearningHealthCallback(check_freq=128, patience=2)
    model.learn(640, callback=callback)
    warnings = [message for message in caplog.messages if "The policy is dead" in message]
    assert callback.is_dead and len(warnings) == 1
    assert "equal weight whatever it observes" in warnings[0] and "log_std_init" in warnings[0]
    row = [row for row in record.rows if "health/responsiveness" in row][-1]
    assert row["health/responsiveness"] == pytest.approx(0.0, abs=1e-6)
    assert row["health/distance_to_equal_weight"] == pytest.approx(0.0, abs=1e-5)
    assert row["health/concentration"] == pytest.approx(1 / 6, abs=1e-5) and row["health/cap_hits"] == 0.0


def test_health_callback_tells_a_fixed_portfolio_from_equal_weight_and_leaves_a_living_policy_alone(caplog):
    model = PPO(SoftmaxPolicy, batched(), n_steps=16, batch_size=128, n_epochs=1, learning_rate=0.0, seed=3,
                policy_kwargs={"equivariant": False})  # fmt: skip
    with th.no_grad():
        model.policy.action_net.bias[2] = 9.0
    model.learn(256, callback=LearningHealthCallback(check_freq=128, patience=1))
    assert "one fixed portfolio (largest share 100%)" in caplog.text and "lower the learning rate" in caplog.text
    caplog.clear()
    with th.no_grad():
        model.policy.action_net.weight[:] = th.randn(7, 64)
    alive = LearningHealthCallback(check_freq=128, patience=1)
    model.learn(256, callback=alive)
    assert not alive.is_dead and "dead" not in caplog.text


def test_regime_factors_rise_where_the_agent_trails():
    days = np.array([100.0, 100.0, 100.0, 5.0])
    mean, deviation = np.array([-0.001, 0.001, 0.0, -0.5]), 0.01
    sums = np.array([days, days * mean, days * (mean**2 + deviation**2)])
    factors = regime_factors(sums, strength=3.0)  # t = -1, 1, 0, and too few days
    np.testing.assert_allclose(factors, [3 ** (1 / 3), 3 ** (-1 / 3), 1.0, 1.0], rtol=0, atol=1e-12)
    assert regime_factors(sums * 10_000, strength=3.0)[0] == pytest.approx(3.0)


@pytest.mark.parametrize("batch", [True, False])
def test_curriculum_draws_more_of_the_markets_of_regimes_where_the_agent_trails(make_market, batch):
    """A market that rises and one that falls: the agent holds cash, trails in the bull and leads in the bear."""
    markets = []
    for seed, drift in ((1, 0.004), (2, -0.004)):
        base = make_market(400, 4, seed)
        markets.append(replace(base, returns=base.returns + drift, benchmark_returns=base.benchmark_returns + drift))
    if batch:
        env = make_quantflux_vec_env(8, markets, seed=0, episode_length=40)
    else:
        kwargs = {"market": markets, "episode_length": 40}
        env = make_vec_env("QuantFlux-v0", 8, seed=0, env_kwargs=kwargs)
    model = PPO(SoftmaxPolicy, env, n_steps=16, batch_size=128, learning_rate=0.0, seed=0, policy_kwargs={"cash_logit": 9.0})
    callback = RegimeCurriculumCallback(strength=4.0, update_freq=512)
    model.learn(2048, callback=callback)
    bull, bear = callback.factors[:2]
    assert bull > 2.0 and bear < 0.5
    core = env.unwrapped.core if batch else env.envs[0].unwrapped.core
    assert core.pool.weights[0] > 0.6 and core.pool.weights.sum() == pytest.approx(1.0)
    assert MarketPool.of(markets).weights.tolist() == [0.5, 0.5]  # other envs of these markets draw as before


def test_curriculum_refuses_a_single_market():
    with pytest.raises(ValueError, match="there is only one"):
        train(batched(), RegimeCurriculumCallback())


def test_callbacks_are_built_by_rl_zoo3_from_dotted_names():
    utils = pytest.importorskip("rl_zoo3.utils")
    names = [
        "quantflux_sb3.callbacks.RegimeCurriculumCallback",
        {"quantflux_sb3.callbacks.EarlyStoppingOnValidation": {"patience": 3, "eval_freq": 5000}},
        {"quantflux_sb3.callbacks.EvalOnRealCallback": {"eval_freq": 5000}},
        {"quantflux_sb3.callbacks.LearningHealthCallback": {"patience": 7}},
        "quantflux_sb3.callbacks.AllocationDiagnosticsCallback",
    ]
    built = utils.get_callback_list({"callback": names})
    assert [type(callback).__name__ for callback in built] == [
        (name if isinstance(name, str) else next(iter(name))).rpartition(".")[2] for name in names
    ]
    assert built[1].patience == 3 and built[2].eval_freq == 5000 and built[3].patience == 7


def test_callbacks_stand_aside_on_other_envs():
    model = PPO("MlpPolicy", make_vec_env("Pendulum-v1", 2), n_steps=16, batch_size=32, n_epochs=1)
    model.learn(64, callback=[AllocationDiagnosticsCallback(), RegimeAttributionCallback(), LearningHealthCallback(32)])
    assert model.num_timesteps == 64


def test_eval_callback_refuses_observations_that_it_cannot_rebuild():
    with pytest.raises(ValueError, match="VecNormalize"):
        train(VecNormalize(batched()), EvalOnRealCallback(eval_freq=128), steps=128)


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
