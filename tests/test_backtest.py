"""Backtests: rules against a plain loop, and agents against the rule they start from."""

import numpy as np
import pytest
from stable_baselines3 import PPO

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.costs import CostModel
from quantflux_sb3.env import QuantFluxEnv
from quantflux_sb3.evaluation.backtest import WeightRule, backtest_model, backtest_rule, index_result
from quantflux_sb3.evaluation.baselines import baseline_rules, equal_weights
from quantflux_sb3.market import WARMUP_DAYS
from quantflux_sb3.policies import DirichletPolicy, SoftmaxPolicy
from quantflux_sb3.regimes import detect_regimes
from quantflux_sb3.sizing import KellyRule, TimingRule
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.wrappers import MarketTiming, VecKellySizing, VecMarketTiming

EQUAL = WeightRule("equal weight", equal_weights, refit_days=1)


def loop_equal_weight(returns, cost, threshold, longest):
    """Daily returns of drift-gated equal weight, by hand: one portfolio in money, one asset after the other."""
    n = returns.shape[1]
    money, cash, held, out, trades = [0.0] * n, 1.0, None, [], 0
    for day in returns:
        before = sum(money) + cash
        weights = [m / before for m in money]
        if held is None or held >= longest or max(abs(w - 1 / n) for w in weights) > threshold or cash / before > 0.05:
            after = before
            for _ in range(60):  # what is left pays for the trade that it needs
                after = before - cost * sum(abs(after / n - m) for m in money)
            money, cash, held, trades = [after / n] * n, 0.0, 0, trades + 1
        money = [m * (1.0 + r) for m, r in zip(money, day, strict=True)]
        held += 1
        out.append((sum(money) + cash) / before - 1.0)
    return np.array(out), trades


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("threshold", [0.005, 0.025])
def test_equal_weight_equals_a_plain_daily_loop(bundled, split, threshold):
    config = PortfolioConfig(costs=0.002, rebalance_threshold=threshold, max_holding_days=63)
    result = backtest_rule(EQUAL, bundled, split, config)
    start, stop = bundled.rows(split)
    expected, trades = loop_equal_weight(bundled.returns[start:stop], 0.002, threshold, 63)
    np.testing.assert_allclose(result.returns, expected, rtol=0, atol=1e-13)
    assert result.rebalanced.sum() == trades > 5
    np.testing.assert_array_equal(result.dates, bundled.dates[start:stop])


def test_result_is_consistent_with_itself(all_stocks):
    config = PortfolioConfig(costs=CostModel(0.001, 0.001, 0.01, 0.0001))
    result = backtest_rule(baseline_rules(timing=TimingRule())[0], all_stocks, "test", config)
    start, stop = all_stocks.rows("test")
    np.testing.assert_array_equal(result.asset_returns, all_stocks.returns[start:stop])
    np.testing.assert_array_equal(result.benchmark_returns, all_stocks.benchmark_returns[start:stop])
    factors = np.column_stack([1.0 + result.asset_returns, 1.0 + result.risk_free])
    earned = (1.0 - result.costs) * (result.weights * factors).sum(axis=1) - 1.0
    np.testing.assert_allclose(result.returns, earned, rtol=0, atol=1e-13)
    np.testing.assert_allclose(result.weights.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.exposure, result.weights[:, :-1].sum(axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.wealth[-1], np.exp(np.log1p(result.returns).sum()), rtol=1e-10)
    assert (result.costs[~result.rebalanced] == 0.0).all() and (result.turnover[~result.rebalanced] == 0.0).all()
    known = np.arange(start, stop) - 2  # decided at the close before, with lag 1 on the row before that
    np.testing.assert_array_equal(result.regimes, detect_regimes(all_stocks).labels[known])


def test_buy_and_hold_trades_once(bundled):
    rule = WeightRule("buy and hold", equal_weights, refit_days=None)
    result = backtest_rule(rule, bundled, "test", PortfolioConfig(costs=0.001))
    assert result.rebalanced.tolist() == [True] + [False] * (len(result.returns) - 1)
    start, stop = bundled.rows("test")
    growth = np.cumprod(1.0 + bundled.returns[start:stop], axis=0).mean(axis=1)
    np.testing.assert_allclose(result.wealth, growth / 1.001, rtol=1e-12)


def test_index_is_the_benchmark_and_costs_nothing(bundled):
    result = index_result(bundled, "test", PortfolioConfig())
    start, stop = bundled.rows("test")
    np.testing.assert_array_equal(result.returns, bundled.benchmark_returns[start:stop])
    assert result.name == "SP500" and result.costs.sum() == result.turnover.sum() == 0.0


def momentum_weights(history):
    """Something that depends on every row that it is given."""
    score = np.exp(20.0 * history.mean(axis=0) + history[-1])
    return score / score.sum()


@pytest.mark.parametrize("lag", [0, 1])
def test_a_rule_is_given_its_past_and_nothing_else(market, lag):
    seen = []

    def spy(history):
        seen.append(history.copy())
        return momentum_weights(history)

    config = PortfolioConfig(execution_lag=lag, max_weight=0.6)
    backtest_rule(WeightRule("spy", spy, refit_days=5, lookback=50), market, "all", config)
    for call, history in enumerate(seen):
        known = WARMUP_DAYS + 5 * call - lag
        np.testing.assert_array_equal(history, market.returns[known - 49 : known + 1])
    assert len(seen) == -(-(market.n_days - WARMUP_DAYS - 1) // 5)


@pytest.mark.parametrize("sizing", [None, TimingRule(), KellyRule(fraction=0.05, min_exposure=0.0)])
@pytest.mark.parametrize("lag", [0, 1])
def test_future_rows_change_no_earlier_target(market, change_future, sizing, lag):
    row = 220
    rule = WeightRule("momentum", momentum_weights, refit_days=3, lookback=60, sizing=sizing)
    config = PortfolioConfig(execution_lag=lag, max_weight=0.6, rebalance_threshold=0.0, exposure_threshold=0.0)
    full, changed = (backtest_rule(rule, m, "all", config) for m in (market, change_future(market, row + 1 - lag)))
    decided = row + 1 - (WARMUP_DAYS + 1) + 1  # weights held into row + 1 were decided at the close of row
    np.testing.assert_array_equal(changed.weights[: decided - lag], full.weights[: decided - lag])
    np.testing.assert_allclose(changed.weights[:decided], full.weights[:decided], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(changed.returns[: decided - 1 - lag], full.returns[: decided - 1 - lag])
    assert np.abs(changed.weights[decided:] - full.weights[decided:]).max() > 1e-3


def test_weights_below_one_leave_the_rest_in_cash(market):
    rule = WeightRule("half", lambda history: np.full(4, 0.125), refit_days=1)
    result = backtest_rule(rule, market, "all", PortfolioConfig(max_weight=0.5, rebalance_threshold=0.0))
    np.testing.assert_allclose(result.weights[0], [0.125] * 4 + [0.5], rtol=0, atol=1e-12)
    assert result.exposure.mean() == pytest.approx(0.5, abs=0.01)


def test_a_rule_that_gives_no_numbers_is_named(market):
    rule = WeightRule("broken", lambda history: np.full(4, np.nan), refit_days=1)
    with pytest.raises(ValueError, match="'broken' asked for weights that are not finite"):
        backtest_rule(rule, market, "all", PortfolioConfig(max_weight=0.5))


def test_a_rule_of_the_wrong_size_is_named(market):
    rule = WeightRule("too short", lambda history: np.full(3, 1 / 3), refit_days=1)
    with pytest.raises(ValueError, match="too short"):
        backtest_rule(rule, market, "all", PortfolioConfig(max_weight=0.5))


@pytest.mark.parametrize("policy", [SoftmaxPolicy, DirichletPolicy])
@pytest.mark.parametrize("smoothing", [1, 5])
def test_untrained_agent_under_market_timing_is_the_base_rule(bundled, policy, smoothing):
    """Its tilts are zero and its exposure is the rule's: what training adds to this is the agent's."""
    config = PortfolioConfig(target_smoothing=smoothing)
    model = PPO(policy, make_quantflux_vec_env(1, bundled, wrappers=[VecMarketTiming]), device="cpu")
    agent = backtest_model(model, bundled, "test", config, wrappers=[VecMarketTiming])
    rule = backtest_rule(baseline_rules(timing=TimingRule())[0], bundled, "test", config)
    np.testing.assert_array_equal(agent.dates, rule.dates)
    np.testing.assert_allclose(agent.weights, rule.weights, rtol=0, atol=1e-5)
    np.testing.assert_allclose(agent.wealth, rule.wealth, rtol=1e-5)
    np.testing.assert_array_equal(agent.rebalanced, rule.rebalanced)


def drifting_model(market, **config):
    """An untrained network with random logits, so that its decisions differ from day to day."""
    import torch as th

    model = PPO(SoftmaxPolicy, make_quantflux_vec_env(1, market, **config), seed=1, device="cpu")
    th.nn.init.normal_(model.policy.action_net.asset.weight, std=1.0)
    return model


@pytest.mark.parametrize("interval", [1, 5])
@pytest.mark.parametrize("lag", [0, 1])
def test_backtest_of_an_agent_equals_its_episode_in_the_env(bundled, interval, lag):
    config = PortfolioConfig(decision_interval=interval, execution_lag=lag, target_smoothing=3, trade_to="band")
    model = drifting_model(bundled)
    result = backtest_model(model, bundled, "validation", config)
    env = make_quantflux_vec_env(
        1, bundled, split="validation", episode_length=None, full_info=True, decision_interval=interval, execution_lag=lag,
        target_smoothing=3, trade_to="band",
    )  # fmt: skip
    obs, done, infos = env.reset(), [False], []
    while not done[0]:
        obs, _, done, info = env.step(model.predict(obs, deterministic=True)[0])
        infos.append(info[0])
    assert infos[-1]["wealth"] == pytest.approx(result.wealth[-1], rel=1e-12)
    ends = np.searchsorted(result.dates, [np.datetime64(info["date"]) for info in infos])
    np.testing.assert_allclose(result.wealth[ends], [info["wealth"] for info in infos], rtol=1e-12)
    starts = np.append(0, ends[:-1] + 1)
    np.testing.assert_allclose(np.add.reduceat(result.turnover, starts), [info["turnover"] for info in infos], atol=1e-14)
    np.testing.assert_allclose(np.add.reduceat(result.costs, starts), [info["cost"] for info in infos], atol=1e-14)
    assert result.weights.std(axis=0).max() > 0.005


def test_backtest_of_an_agent_uses_the_sizing_wrapper(bundled):
    model = drifting_model(bundled)
    plain, timed, kelly = (
        backtest_model(model, bundled, "validation", PortfolioConfig(), wrappers=wrappers)
        for wrappers in ([], [VecMarketTiming], [VecKellySizing])
    )
    first, stop = bundled.rows("validation")
    table = TimingRule().table(bundled)[first - 2 : stop - 2]  # decided at the close before, known one row earlier
    np.testing.assert_allclose(timed.exposure[timed.rebalanced], table[timed.rebalanced], rtol=0, atol=1e-9)
    assert np.abs(plain.exposure - timed.exposure).max() > 0.1 and table.std() > 0.02
    assert abs(kelly.exposure.mean() - plain.exposure.mean()) > 0.01


def test_rule_and_env_agree_on_the_same_decisions(bundled):
    """The base rule played by hand through the env under MarketTiming gives the backtest's wealth."""
    env = MarketTiming(QuantFluxEnv(bundled, split="validation", episode_length=None))
    env.reset(seed=0)
    done = False
    while not done:
        *_, done, info = env.step(np.array([1.0] * 6 + [0.0]))
    result = backtest_rule(baseline_rules(timing=TimingRule())[0], bundled, "validation", PortfolioConfig())
    assert info["wealth"] == pytest.approx(result.wealth[-1], rel=1e-12)


def test_config_of_the_backtest_is_not_changed_by_it(bundled):
    config = PortfolioConfig(split="train", episode_length=21)
    backtest_rule(EQUAL, bundled, "validation", config)
    assert (config.split, config.episode_length) == ("train", 21)
