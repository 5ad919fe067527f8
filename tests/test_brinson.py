"""Brinson and Fachler: effects worked by hand, identities to the last digits, against every kind of benchmark."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results import make_result

from quantflux_sb3.config import LongShort, PortfolioConfig
from quantflux_sb3.costs import CostModel
from quantflux_sb3.evaluation.backtest import WeightRule, backtest_rule
from quantflux_sb3.evaluation.baselines import equal_weights
from quantflux_sb3.evaluation.brinson import EFFECTS, brinson_effects, brinson_fachler
from quantflux_sb3.sizing import TimingRule

CONFIG = PortfolioConfig(costs=CostModel(0.002, 0.001, 0.01, 0.0001))


def played(weights, asset_returns, costs=0.0, risk_free=0.0, benchmark=None, **fields):
    """A backtest whose returns follow from its weights."""
    weights, asset_returns = np.asarray(weights, dtype=float), np.asarray(asset_returns, dtype=float)
    costs = np.broadcast_to(costs, len(weights)).astype(float)
    gross = (weights[:, :-1] * asset_returns).sum(axis=1) + weights[:, -1] * risk_free
    returns = (1.0 - costs) * (1.0 + gross) - 1.0
    fields = {"asset_returns": asset_returns, "costs": costs, **fields}
    return make_result(returns, weights, benchmark, risk_free, **fields)


def random_backtest(seed, n_days=300, n_assets=6, name="agent", scale=0.02):
    rng = np.random.default_rng(seed)
    returns = np.random.default_rng(99).normal(0.0, scale, (n_days, n_assets))  # of one market
    weights = rng.dirichlet(np.ones(n_assets + 1), n_days)
    benchmark = np.random.default_rng(98).normal(0.0, scale, n_days)
    costs = 0.01 * rng.random(n_days)
    return played(weights, returns, costs, 1e-4, benchmark, name=name, regimes=rng.integers(0, 4, n_days))


def test_one_day_worked_by_hand():
    """Two sectors: one asset in X, two in Y; equal thirds against .5, .1, .3 and a tenth of cash; costs of 1 %."""
    result = played([[0.5, 0.1, 0.3, 0.1]], [[0.06, 0.03, -0.03]], costs=0.01, risk_free=0.003)
    daily = brinson_effects(result, groups={"A0": "X", "A1": "Y", "A2": "Y"})
    benchmark = 0.02
    gross = 0.03 + 0.003 - 0.009 + 0.0003
    link = math.log(0.99 * (1 + gross) / (1 + benchmark)) / (0.99 * (1 + gross) - 1 - benchmark)
    sector_y = -0.006 / 0.4  # earned within Y; the benchmark earned 0 there
    allocation = [(0.5 - 1 / 3) * (0.06 - benchmark), (0.4 - 2 / 3) * (0.0 - benchmark), 0.1 * (0.003 - benchmark)]
    assert daily.segments == ("X", "Y", "cash")
    np.testing.assert_allclose(daily.effects[0, 0] / link, allocation, rtol=0, atol=1e-15)
    np.testing.assert_allclose(daily.effects[1, 0] / link, [0.0, 2 / 3 * sector_y, 0.0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(daily.effects[2, 0] / link, [0.0, (0.4 - 2 / 3) * sector_y, 0.0], rtol=0, atol=1e-15)
    assert daily.costs[0] / link == pytest.approx(-0.01 * (1 + gross), abs=1e-15)


def test_against_the_index_allocation_is_exposure_and_selection_is_which_assets():
    rising = played([[0.25, 0.25, 0.5]], [[0.05, 0.01]], benchmark=[0.02])
    figures = brinson_fachler(rising, "index")
    link = math.log(1.015 / 1.02) / -0.005
    assert [row["segment"] for row in figures["segments"]] == ["assets", "cash"]
    assert figures["allocation"] / link == pytest.approx(0.5 * (0.0 - 0.02), abs=1e-15)  # half of it missed the rise
    assert figures["selection"] / link == pytest.approx(0.03 - 0.02, abs=1e-15)
    assert figures["interaction"] / link == pytest.approx(-0.5 * 0.01, abs=1e-15)
    assert figures["segments"][0]["mean_benchmark_weight"] == 1.0


GROUPS = {f"A{i}": ("odd", "even")[i % 2] for i in range(6)}


@pytest.mark.parametrize("benchmark", ["equal weights", "index", "backtest"])
@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("scale", [0.02, 0.3])
def test_every_table_sums_to_the_log_excess_return(benchmark, groups, scale):
    result = random_backtest(1, scale=scale)
    against = random_backtest(2, name="other", scale=scale) if benchmark == "backtest" else benchmark
    other = {"equal weights": result.asset_returns.mean(axis=1), "index": result.benchmark_returns}
    returns = against.returns if benchmark == "backtest" else other[benchmark]
    total = math.log(np.prod(1.0 + result.returns)) - math.log(np.prod(1.0 + returns))
    figures = brinson_fachler(result, against, groups)
    assert figures["total"] == pytest.approx(total, abs=1e-10)
    assert math.fsum(figures[name] for name in (*EFFECTS, "costs")) == pytest.approx(total, abs=1e-10)
    assert math.fsum(row["total"] for row in figures["segments"]) + figures["costs"] == pytest.approx(total, abs=1e-10)
    for cut in ("regimes", "years"):
        for name in (*EFFECTS, "costs", "total"):
            assert math.fsum(row[name] for row in figures[cut]) == pytest.approx(figures[name], abs=1e-10)
        assert sum(row["days"] for row in figures[cut]) == len(result.dates)
    cumulative = np.prod(1.0 + result.returns) - np.prod(1.0 + returns)
    assert figures["total"] * figures["cumulative_factor"] == pytest.approx(cumulative, abs=1e-10)
    if groups is None and benchmark != "index":
        assert abs(figures["selection"]) + abs(figures["interaction"]) < 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 12))
def test_any_weights_add_up_short_and_absent_ones_too(seed, n_assets, n_days):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(n_days, n_assets + 1)) * rng.integers(0, 2, (n_days, n_assets + 1))
    weights[:, -1] = 1.0 - weights[:, :-1].sum(axis=1)
    result = played(weights, rng.normal(0.0, 0.05, (n_days, n_assets)), 0.01 * rng.random(n_days), 0.001)
    groups = {f"A{i}": f"G{rng.integers(2)}" for i in range(n_assets)}
    figures = brinson_fachler(result, groups=groups)
    own, other = (np.maximum(1.0 + r, 1e-12) for r in (result.returns, result.asset_returns.mean(axis=1)))
    assert figures["total"] == pytest.approx(np.log(own).sum() - np.log(other).sum(), abs=1e-10)


def test_real_backtests_add_up(all_stocks):
    rule = WeightRule("timed", equal_weights, refit_days=1, sizing=TimingRule())
    timed = backtest_rule(rule, all_stocks, "test", CONFIG)
    gated = backtest_rule(replace(rule, name="equal weight", sizing=None), all_stocks, "test", CONFIG)
    figures = brinson_fachler(timed, gated)
    assert figures["benchmark"] == "equal weight"
    assert figures["total"] == pytest.approx(math.log(timed.wealth[-1] / gated.wealth[-1]), abs=1e-10)
    cash = figures["segments"][-1]
    assert cash["segment"] == "cash" and cash["mean_weight"] > 0.1 and cash["mean_benchmark_weight"] < 0.01
    against_index = brinson_fachler(timed, "index")
    assert against_index["total"] == pytest.approx(
        math.log(timed.wealth[-1] / np.prod(1.0 + timed.benchmark_returns)), abs=1e-10
    )
    assert against_index["costs"] == pytest.approx(np.log1p(-timed.costs).sum(), rel=0.02)  # linked by days: nearly the same


def test_borrowing_is_a_cost(bundled):
    config = replace(CONFIG, long_short=LongShort(gross=2.0, borrow_cost=0.5), costs=0.0, max_weight=1.0)
    weights = np.array([0.5, -0.5, 0.5, -0.5, 0.0, 0.0])
    result = backtest_rule(WeightRule("short", lambda history: weights), bundled, "validation", config)
    figures = brinson_fachler(result)
    total = np.log1p(result.returns).sum() - np.log1p(result.asset_returns.mean(axis=1)).sum()
    assert figures["total"] == pytest.approx(total, abs=1e-10)
    years = len(result.dates) / 252
    assert figures["costs"] == pytest.approx(-0.5 * 1.0 * years, rel=0.3)  # half of wealth twice, at 50 % a year


def test_what_a_strategy_shares_with_its_benchmark_earns_nothing():
    result = random_backtest(3)
    figures = brinson_fachler(result, result, GROUPS)
    assert all(abs(figures[name]) < 1e-13 for name in (*EFFECTS, "costs", "total"))
    assert figures["cumulative_factor"] == pytest.approx(result.wealth[-1], rel=1e-12)


def test_benchmarks_and_groups_that_do_not_fit_are_refused():
    result = random_backtest(4)
    with pytest.raises(ValueError, match="'index', 'equal weights' or a backtest; got 'SP500'"):
        brinson_fachler(result, "SP500")
    with pytest.raises(ValueError, match="'other' is no backtest on the assets and days of 'agent'"):
        brinson_fachler(result, random_backtest(5, n_days=200, name="other"))
    with pytest.raises(ValueError, match=r"\['A1', 'A2', 'A3', 'A4', 'A5'\] have none"):
        brinson_fachler(result, groups={"A0": "X"})
    with pytest.raises(ValueError, match="calls a segment 'cash'"):
        brinson_fachler(result, groups=dict.fromkeys(GROUPS, "cash"))
