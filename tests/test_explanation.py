"""Explanations: effects that add up and match a plain integral, features that do nothing, the same day in other regimes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch as th
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from quantflux_sb3.config import LongShort, PortfolioConfig
from quantflux_sb3.evaluation.backtest import backtest_model
from quantflux_sb3.evaluation.explanation import (
    explain_decision,
    feature_importance,
    integrated_gradients,
    policy_weights,
    regime_counterfactual,
)
from quantflux_sb3.evaluation.observed import observe_decisions, observe_decisions_in
from quantflux_sb3.policies import DirichletPolicy, RecurrentSoftmaxPolicy, SoftmaxPolicy
from quantflux_sb3.regimes import REGIMES, detect_regimes
from quantflux_sb3.sizing import TimingRule
from quantflux_sb3.vec_env import QuantFluxVecEnv, make_quantflux_vec_env
from quantflux_sb3.wrappers import VecKellySizing, VecMarketTiming

pytestmark = pytest.mark.usefixtures("one_thread")
DAY = "2015-08-24"
CONFIG = PortfolioConfig(decision_interval=5, costs=0.001)


def opinionated(policy, market, wrappers=(), **config):
    """A model with random weights in its last layer, so that decisions differ from day to day; actions inside the box."""
    model = PPO(policy, make_quantflux_vec_env(1, market, wrappers=wrappers, **config), seed=1, device="cpu")
    with th.no_grad():
        for name, parameter in model.policy.action_net.named_parameters():
            th.nn.init.normal_(parameter, std=0.3)
            if policy == "MlpPolicy":
                parameter.fill_(0.5) if name == "bias" else parameter.mul_(0.1)
    return model


@pytest.fixture(scope="module", params=["softmax", "dirichlet", "flat softmax", "SB3's MLP", "timed", "kelly", "both"])
def played(request, bundled):
    """A model of each kind with the decisions of its validation years."""
    policies = {"dirichlet": DirichletPolicy, "SB3's MLP": "MlpPolicy"}
    sizings = {"timed": [VecMarketTiming], "kelly": [VecKellySizing], "both": [VecKellySizing, VecMarketTiming]}
    wrappers = sizings.get(request.param, [])
    model = opinionated(policies.get(request.param, SoftmaxPolicy), bundled, wrappers)
    if request.param == "flat softmax":
        model = PPO(SoftmaxPolicy, model.env, policy_kwargs={"equivariant": False}, seed=1, device="cpu")
        th.nn.init.normal_(model.policy.action_net.weight, std=0.3)
    return model, observe_decisions(model, bundled, "validation", CONFIG, wrappers)


def test_effects_of_all_inputs_sum_to_the_difference_of_every_weight(played):
    model, decisions = played
    for which in (DAY, 0, -1):
        figures = explain_decision(model, decisions, which)
        effects = np.array(figures["inputs"]["effects"])
        moved = np.array(list(figures["weights"].values())) - np.array(list(figures["baseline_weights"].values()))
        np.testing.assert_allclose(effects.sum(axis=0), moved, rtol=0, atol=2e-4)
        assert figures["completeness_error"] == pytest.approx(np.abs(effects.sum(axis=0) - moved).max(), abs=1e-6)
        np.testing.assert_allclose(effects.sum(axis=1), 0.0, rtol=0, atol=1e-5)  # what one weight gains the others lose
        by_feature = np.array([list(row["effects"].values()) for row in figures["features"]])
        np.testing.assert_allclose(by_feature.sum(axis=0), effects.sum(axis=0), rtol=0, atol=1e-12)
        assert np.abs(moved).max() > 1e-3


def test_explained_weights_are_those_asked_for(played):
    model, decisions = played
    for which in (DAY, 3):
        index = decisions.at(which) if which == DAY else which
        weights = list(explain_decision(model, decisions, which)["weights"].values())
        np.testing.assert_allclose(weights, decisions.requests[index], rtol=0, atol=1e-6)


def test_observed_row_of_the_counterfactual_is_the_decision(played):
    model, decisions = played
    observed = regime_counterfactual(model, decisions, DAY)[0]
    np.testing.assert_allclose(list(observed["weights"].values()), decisions.requests[decisions.at(DAY)], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def softmax(bundled):
    model = opinionated(SoftmaxPolicy, bundled)
    return model, observe_decisions(model, bundled, "validation", CONFIG)


def test_effects_equal_a_plain_integral(softmax):
    """Midpoint rule over the Jacobian along the straight line, weight by weight, in a loop."""
    model, decisions = softmax
    end, start = th.as_tensor(decisions.observations[7]), th.as_tensor(decisions.observations.mean(axis=0))
    jacobian = th.zeros(len(end), decisions.core.n_assets + 1)
    for step in range(200):
        point = start + (step + 0.5) / 200 * (end - start)
        jacobian += th.autograd.functional.jacobian(
            lambda obs: policy_weights(model.policy, obs[None], decisions.core)[0], point
        ).T
    expected = (end - start)[:, None] * jacobian / 200
    effects = explain_decision(model, decisions, 7)["inputs"]["effects"]
    np.testing.assert_allclose(effects, expected, rtol=0, atol=2e-6)


def test_integrated_gradients_of_a_known_function():
    """f(x, y) = (x^2 + y, 3 y): x gives 4 and 0, y gives 2 and 6 on the way from 0 to (2, 2)."""
    effects, error = integrated_gradients(
        lambda x: th.stack([x[:, 0] ** 2 + x[:, 1], 3.0 * x[:, 1]], dim=1), np.array([2.0, 2.0]), np.zeros(2)
    )
    np.testing.assert_allclose(effects, [[4.0, 0.0], [2.0, 6.0]], rtol=0, atol=1e-5)
    assert error < 1e-5


def test_a_feature_that_the_network_ignores_moves_nothing(bundled):
    model = opinionated(SoftmaxPolicy, bundled)
    layout = model.observation_space.layout
    column = layout.blocks[0].columns.index("momentum_21")
    with th.no_grad():
        encoder, n_context = model.policy.mlp_extractor.actor, sum(b.size for b in layout.blocks if not b.n_assets)
        encoder.own.weight[:, column] = 0.0
        encoder.shared.weight[:, n_context + column] = 0.0
    decisions = observe_decisions(model, bundled, "validation", CONFIG)
    rows = {row["feature"]: row for row in explain_decision(model, decisions)["features"] if row["block"] == "assets"}
    assert rows["momentum_21"]["moved"] == 0.0 < rows["momentum_63"]["moved"]
    importance = {row["feature"]: row["importance"] for row in feature_importance(model, decisions, 3)}
    assert importance["momentum_21"] == 0.0


def test_importance_is_the_mean_over_decisions(softmax):
    model, decisions = softmax
    rows = feature_importance(model, decisions, n_decisions=2)
    first, last = (explain_decision(model, decisions, which)["features"] for which in (0, -1))
    expected = {}
    for row in (*first, *last):
        key = row["block"], row["feature"]
        expected[key] = expected.get(key, 0.0) + row["moved"] / 2
    assert {(row["block"], row["feature"]): row["importance"] for row in rows} == pytest.approx(expected, abs=1e-12)
    assert [row["importance"] for row in rows] == sorted((row["importance"] for row in rows), reverse=True)


def test_names_stand_where_the_numbers_do(softmax):
    _, decisions = softmax
    names = decisions.input_names
    assert len(names) == len(set(names)) == decisions.observations.shape[1]
    held = names.index("weights.weight[MSFT]")
    np.testing.assert_allclose(
        decisions.observations[:, held], decisions.observations[:, decisions.layout.slices["weights"]][:, 1], rtol=0
    )
    np.testing.assert_array_equal(names[decisions.layout.slices["regime"].start], "regime.prob_bull")
    assert names[0] == f"assets.{decisions.layout.blocks[0].columns[0]}[{decisions.weight_names[0]}]"


def test_decisions_are_those_of_the_backtest(bundled):
    model = opinionated(SoftmaxPolicy, bundled, [VecMarketTiming])
    config = PortfolioConfig(costs=0.0, max_weight=1.0, rebalance_threshold=0.0, exposure_threshold=0.0)
    decisions = observe_decisions(model, bundled, "validation", config, [VecMarketTiming])
    result = backtest_model(model, bundled, "validation", config, [VecMarketTiming])
    np.testing.assert_allclose(decisions.requests, result.weights, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(decisions.dates[1:], result.dates[:-1])


def test_a_day_is_that_of_the_last_decision_up_to_it(softmax):
    _, decisions = softmax
    index = decisions.at(DAY)
    assert decisions.dates[index] <= np.datetime64(DAY) < decisions.dates[index + 1]
    with pytest.raises(ValueError, match="There was no decision up to 2000-01-01"):
        decisions.at("2000-01-01")


def test_timing_in_other_regimes_is_that_of_the_rule(bundled):
    """An untrained network does not care about regimes, so exposure is min(regime's level, target / volatility)."""
    rule = TimingRule(regime_exposure=(0.9, 0.3, 0.2, 0.6))
    wrapper = [lambda venv: VecMarketTiming(venv, regime_exposure=rule.regime_exposure)]
    model = PPO(SoftmaxPolicy, make_quantflux_vec_env(1, bundled, wrappers=wrapper), device="cpu")
    decisions = observe_decisions(model, bundled, "validation", CONFIG, wrapper)
    rows = regime_counterfactual(model, decisions, DAY)
    known = decisions.rows[decisions.at(DAY)] - 1
    by_volatility = TimingRule(regime_exposure=(1.0,) * 4).table(bundled)[known]
    expected = [min(detect_regimes(bundled).probs[known] @ rule.regime_exposure, by_volatility)]
    expected += [min(level, by_volatility) for level in rule.regime_exposure]
    assert [row["regime"] for row in rows] == ["as observed", *REGIMES]
    np.testing.assert_allclose([row["exposure"] for row in rows], expected, rtol=0, atol=1e-12)
    for row in rows[1:]:
        assert row["policy_weights"] == pytest.approx(rows[0]["policy_weights"], abs=1e-7)


def test_other_regimes_reach_the_policy_and_nothing_else_changes(softmax):
    model, decisions = softmax
    before = decisions.observations.copy()
    rows = regime_counterfactual(model, decisions, 5)
    np.testing.assert_array_equal(decisions.observations, before)
    begin = decisions.layout.slices["regime"].start
    observation = before[5].copy()
    observation[begin : begin + 4] = [0.0, 0.0, 1.0, 0.0]
    expected, _ = model.predict(observation, deterministic=True)
    volatile = list(rows[1 + REGIMES.index("volatile")]["weights"].values())
    np.testing.assert_allclose(volatile, expected / expected.sum(), rtol=0, atol=1e-6)
    assert np.abs(np.array(volatile) - list(rows[0]["weights"].values())).max() > 1e-3


def test_explanations_are_ready_for_json(softmax):
    model, decisions = softmax
    everything = [
        explain_decision(model, decisions),
        feature_importance(model, decisions, 2),
        regime_counterfactual(model, decisions),
    ]
    assert json.loads(json.dumps(everything, allow_nan=False)) == everything


def test_off_policy_and_long_short_models_are_explained(bundled):
    settings = {"long_short": LongShort(), "max_weight": 0.5}
    model = SAC("MlpPolicy", make_quantflux_vec_env(1, bundled, **settings), seed=0, device="cpu")
    decisions = observe_decisions(model, bundled, "validation", PortfolioConfig(**settings))
    figures = explain_decision(model, decisions, 11)
    np.testing.assert_allclose(list(figures["weights"].values()), decisions.requests[11], rtol=0, atol=1e-6)
    assert figures["completeness_error"] < 3e-4  # SAC's network has ReLUs: gradients jump on the way


def test_scaled_observations_are_changed_in_their_own_units(bundled):
    venv = VecNormalize(make_quantflux_vec_env(1, bundled, split="validation", episode_length=None), norm_reward=False)
    model = PPO(SoftmaxPolicy, venv, n_steps=128, seed=1, device="cpu").learn(128)
    th.nn.init.normal_(model.policy.action_net.asset.weight, std=0.3)
    venv.training = False
    decisions = observe_decisions_in(venv, model)
    bull = regime_counterfactual(model, decisions, 9)[1]
    raw = venv.unnormalize_obs(decisions.observations[9])
    begin = decisions.layout.slices["regime"].start
    raw[begin : begin + 4] = [1.0, 0.0, 0.0, 0.0]
    expected, _ = model.predict(venv.normalize_obs(raw), deterministic=True)
    np.testing.assert_allclose(list(bull["weights"].values()), expected / expected.sum(), rtol=0, atol=1e-5)
    assert explain_decision(model, decisions, 9)["completeness_error"] < 1e-4


def test_what_cannot_be_explained_is_refused(bundled):
    venv = make_quantflux_vec_env(1, bundled, split="validation", episode_length=None)
    with pytest.raises(ValueError, match="RecurrentSoftmaxPolicy remembers"):
        observe_decisions_in(venv, RecurrentPPO(RecurrentSoftmaxPolicy, venv, device="cpu"))
    stacked = VecFrameStack(make_quantflux_vec_env(1, bundled, split="validation", episode_length=None), 2)
    with pytest.raises(ValueError, match=r"expected \(1, 95\): one portfolio, one day"):
        observe_decisions_in(stacked, PPO("MlpPolicy", stacked, device="cpu"))
    bare = QuantFluxVecEnv(1, bundled, split="validation", episode_length=None)
    model = PPO("MlpPolicy", bare, device="cpu")
    decisions = observe_decisions_in(bare, model)
    with pytest.raises(ValueError, match="Neither the observation nor an exposure rule knows of regimes"):
        regime_counterfactual(model, decisions)
    with pytest.raises(ValueError, match="`n_decisions` must be at least 1; got 0"):
        feature_importance(model, decisions, 0)


def test_missing_captum_is_named_with_its_extra():
    code = (
        "import sys; sys.modules['captum'] = None\n"
        "import numpy as np\n"
        "from quantflux_sb3.evaluation.explanation import integrated_gradients\n"
        "try:\n    integrated_gradients(lambda x: x, np.ones(1), np.zeros(1))\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Explaining decisions needs captum: pip install 'quantflux_sb3[explain]'."
