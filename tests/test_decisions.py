"""Decisions of agents, apart from what becomes of them: side by side as one at a time, joined, and replayed."""

from dataclasses import fields, replace

import numpy as np
import pytest
from models import scrambled
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.evaluation.backtest import (
    WeightRule,
    backtest_model,
    backtest_models,
    backtest_rule,
    backtest_rules,
    replay_decisions,
)
from quantflux_sb3.evaluation.baselines import equal_weights
from quantflux_sb3.evaluation.decisions import Decisions, play, play_batch
from quantflux_sb3.policies import RecurrentSoftmaxPolicy, SoftmaxPolicy
from quantflux_sb3.sizing import TimingRule
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.wrappers import VecMarketTiming

CONFIG = PortfolioConfig(max_weight=0.5, decision_interval=3, target_smoothing=2)
KINDS = ["softmax", "mlp", "recurrent", "sac"]


def make_model(kind, market, seed):
    """An untrained network with random weights, so that its decisions differ from day to day."""
    venv = make_quantflux_vec_env(1, market, wrappers=[VecMarketTiming], **vars(CONFIG))
    if kind == "recurrent":
        kwargs = {"lstm_hidden_size": 8, "net_arch": [8]}
        model = RecurrentPPO(RecurrentSoftmaxPolicy, venv, n_steps=8, seed=seed, policy_kwargs=kwargs, device="cpu")
    elif kind == "sac":
        model = SAC("MlpPolicy", venv, seed=seed, buffer_size=10, policy_kwargs={"net_arch": [8]}, device="cpu")
    else:
        model = PPO(
            SoftmaxPolicy if kind == "softmax" else "MlpPolicy", venv, n_steps=8, batch_size=8, seed=seed, device="cpu"
        )
    return scrambled(model)


@pytest.fixture(scope="module")
def scenarios(make_market):
    """Markets of different lengths, with the same assets."""
    return [make_market(n_days, seed=seed) for seed, n_days in enumerate((260, 200, 320))]


def equal(first, second, atol):
    """:param atol: in shares of wealth"""
    for item in fields(first):
        a, b = getattr(first, item.name), getattr(second, item.name)
        if atol and isinstance(a, np.ndarray) and a.dtype == np.float64:
            unit = 100.0 if item.name == "reward_terms" else 1.0  # rewards are in per cent
            np.testing.assert_allclose(a, b, rtol=0, atol=atol * unit, err_msg=item.name)
        else:
            np.testing.assert_array_equal(a, b, err_msg=item.name)


@pytest.mark.parametrize("kind", KINDS)
def test_models_side_by_side_equal_one_at_a_time(kind, scenarios):
    """Seeds in one market: to the last bit."""
    models = [make_model(kind, scenarios[0], seed) for seed in range(3)]
    together = backtest_models(models, scenarios[:1], "all", CONFIG, [VecMarketTiming], ["a", "b", "c"])
    for model, name, (result,) in zip(models, "abc", together, strict=True):
        equal(result, backtest_model(model, scenarios[0], "all", CONFIG, [VecMarketTiming], name), 0.0)
    assert np.abs(together[0][0].weights - together[1][0].weights).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("risk_free", [None, 1e-4])
def test_markets_side_by_side_equal_one_at_a_time(kind, scenarios, risk_free):
    """Several observations in one pass through a network: float32 rounds otherwise, and nothing else differs."""
    config = replace(CONFIG, risk_free=risk_free)
    models = [make_model(kind, scenarios[0], seed) for seed in range(2)]
    together = backtest_models(models, scenarios, "all", config, [VecMarketTiming])
    for model, row in zip(models, together, strict=True):
        for market, result in zip(scenarios, row, strict=True):
            equal(result, backtest_model(model, market, "all", config, [VecMarketTiming]), 2e-6)
            assert len(result.returns) == market.n_days - 129
    assert np.abs(together[0][0].weights[:70] - together[0][1].weights[:70]).max() > 0.01


def test_rules_side_by_side_equal_one_at_a_time(scenarios):
    rules = [
        WeightRule("newest", lambda history: np.exp(10 * history[-1]) / np.exp(10 * history[-1]).sum(), refit_days=4),
        WeightRule("timed", equal_weights, refit_days=1, sizing=TimingRule()),
    ]
    for rule, row in zip(rules, backtest_rules(rules, scenarios, "all", CONFIG), strict=True):
        for market, result in zip(scenarios, row, strict=True):
            equal(result, backtest_rule(rule, market, "all", CONFIG), 0.0)


def test_decisions_replayed_are_the_backtest(bundled):
    model = make_model("softmax", bundled, 0)
    decisions = play(model, episode(bundled, "validation"))
    expected = backtest_model(model, bundled, "validation", CONFIG, [VecMarketTiming])
    equal(replay_decisions("agent", bundled, CONFIG, decisions), expected, 0.0)
    np.testing.assert_array_equal(np.flatnonzero(decisions.decides), np.arange(0, len(decisions.dates), 3))
    np.testing.assert_array_equal(decisions.requests[1::3], decisions.requests[0::3][: len(decisions.requests[1::3])])
    np.testing.assert_allclose(decisions.requests.sum(axis=1), 1.0, rtol=0, atol=1e-6)


def episode(market, split):
    settings = {**vars(CONFIG), "split": split, "episode_length": None}
    return make_quantflux_vec_env(1, market, wrappers=[VecMarketTiming], **settings)


def test_joined_decisions_are_one_portfolio(bundled):
    """What two agents asked for, one after the other, is traded by one portfolio that does not start anew."""
    first, second = (
        play(make_model("softmax", bundled, seed), episode(bundled, split))
        for seed, split in enumerate(("validation", "test"))
    )
    whole = replay_decisions("agent", bundled, CONFIG, Decisions.joined([first, second]))
    start, stop = bundled.rows("validation")[0], bundled.rows("test")[1]
    np.testing.assert_array_equal(whole.dates, bundled.dates[start:stop])
    equal(
        replay_decisions("agent", bundled, CONFIG, first),
        replace(
            whole, **{item.name: getattr(whole, item.name)[: len(first.dates)] for item in fields(whole)[1:] if rows(item)}
        ),
        0.0,
    )
    assert whole.turnover[len(first.dates)] < 0.9  # from what was held, not from cash
    with pytest.raises(ValueError, match="must follow one another"):
        Decisions.joined([second, first])
    with pytest.raises(ValueError, match="no consecutive days"):
        replay_decisions("agent", bundled.window(0, 6000), CONFIG, second)
    with pytest.raises(ValueError, match="128 days of warm-up"):
        replay_decisions("agent", bundled.window(start, bundled.n_days), CONFIG, first)


def rows(item):
    return item.name not in ("assets", "periods_per_year")


def test_models_and_portfolios_must_fit_together(scenarios):
    models = [make_model("mlp", scenarios[0], seed) for seed in range(2)]
    with pytest.raises(ValueError, match="3 portfolios cannot be shared equally by 2 models"):
        play_batch(models, make_quantflux_vec_env(3, scenarios, **vars(replace(CONFIG, split="all"))))
    with pytest.raises(ValueError, match="index below 3 for each of 2"):
        PortfolioCore(2, scenarios, replace(CONFIG, split="all")).assign([0, 3])
