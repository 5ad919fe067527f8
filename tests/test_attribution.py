"""Attribution: the parts are worked by hand and add up to the whole."""

import math

import numpy as np
import pytest

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.costs import CostModel
from quantflux_sb3.dynamics import REWARD_TERMS
from quantflux_sb3.env import QuantFluxEnv
from quantflux_sb3.evaluation.attribution import (
    allocation_diagnostics,
    cost_attribution,
    log_excess_returns,
    regime_attribution,
    reward_attribution,
    traded_values,
)
from quantflux_sb3.evaluation.backtest import WeightRule, backtest_rule, index_result
from quantflux_sb3.evaluation.baselines import equal_weights
from quantflux_sb3.evaluation.metrics import annual_return
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.regimes import BEAR, BULL, REGIMES, VOLATILE
from quantflux_sb3.sizing import Sizing, TimingRule


def small_result(**fields) -> BacktestResult:
    """Four days of two assets and cash; the returns are those of the weights after the costs."""
    weights = np.array([[0.5, 0.5, 0.0], [0.6, 0.2, 0.2], [0.25, 0.25, 0.5], [0.0, 0.1, 0.9]])
    asset_returns = np.array([[0.10, 0.00], [-0.05, 0.05], [0.02, -0.04], [0.50, 0.10]])
    costs, risk_free = np.array([0.01, 0.0, 0.005, 0.0]), np.full(4, 0.001)
    gross = 1.0 + (weights[:, :-1] * asset_returns).sum(axis=1) + weights[:, -1] * risk_free
    values = {
        "name": "agent", "dates": np.datetime64("2020-01-01") + np.arange(4), "assets": ("A", "B"),
        "returns": (1.0 - costs) * gross - 1.0, "benchmark_returns": np.array([0.05, 0.0, -0.01, 0.3]),
        "asset_returns": asset_returns, "risk_free": risk_free, "weights": weights, "turnover": 10 * costs, "costs": costs,
        "rebalanced": costs > 0, "regimes": np.array([BULL, BEAR, BULL, VOLATILE]), "periods_per_year": 4,
    }  # fmt: skip
    return BacktestResult(**{**values, **fields})


def long_result(seed: int, n_days: int = 2000, n_assets: int = 5) -> BacktestResult:
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.0, 0.02, n_days)
    return BacktestResult(
        "agent", np.datetime64("2010-01-01") + np.arange(n_days), tuple("ABCDE"[:n_assets]), returns,
        rng.normal(0.0, 0.02, n_days), rng.normal(0.0, 0.02, (n_days, n_assets)), np.full(n_days, 1e-4),
        rng.dirichlet(np.ones(n_assets + 1), n_days), rng.random(n_days), 0.001 * rng.random(n_days),
        rng.random(n_days) < 0.5, rng.integers(0, len(REGIMES), n_days),
    )  # fmt: skip


def test_regime_rows_worked_by_hand():
    rows = regime_attribution(small_result())
    assert [row["regime"] for row in rows] == list(REGIMES)
    bull, bear, volatile, sideways = rows
    first, third = 0.99 * 1.05 - 1.0, 0.995 * 0.9955 - 1.0  # .25 * .02 - .25 * .04 + .5 * .001 = -.0045
    assert bull == {
        "regime": "bull",
        "days": 2,
        "share_of_days": 0.5,
        "log_excess_return": pytest.approx(math.log((1 + first) * (1 + third) / (1.05 * 0.99)), abs=1e-12),
        "annual_return": pytest.approx(((1 + first) * (1 + third)) ** 2 - 1.0, abs=1e-12),
        "annual_volatility": pytest.approx(abs(first - third) / math.sqrt(2.0) * 2.0, abs=1e-12),
        "mean_exposure": pytest.approx(0.75),
        "cost": pytest.approx(0.015),
    }
    assert bear["log_excess_return"] == pytest.approx(math.log(1.0 - 0.03 + 0.01 + 0.0002), abs=1e-12)
    assert volatile["log_excess_return"] == pytest.approx(math.log(1.0109 / 1.3), abs=1e-12)
    assert volatile["annual_volatility"] == 0.0  # one day has none
    assert sideways == {"regime": "sideways", **dict.fromkeys(list(bull)[1:], 0.0)}


@pytest.mark.parametrize("seed", range(5))
def test_regimes_sum_to_the_total_log_excess_return(seed):
    result = long_result(seed)
    rows = regime_attribution(result)
    total = math.log(np.prod(1.0 + result.returns)) - math.log(np.prod(1.0 + result.benchmark_returns))
    assert math.fsum(row["log_excess_return"] for row in rows) == pytest.approx(total, abs=1e-12)
    assert math.fsum(row["cost"] for row in rows) == pytest.approx(result.costs.sum(), abs=1e-12)
    assert sum(row["days"] for row in rows) == len(result.dates)
    exposure = sum(row["mean_exposure"] * row["share_of_days"] for row in rows)
    assert exposure == pytest.approx(result.exposure.mean(), abs=1e-12)


def test_one_regime_all_the_time_is_the_whole_result():
    result = small_result(regimes=np.full(4, BEAR))
    row = regime_attribution(result)[BEAR]
    assert row["share_of_days"] == 1.0
    assert row["annual_return"] == pytest.approx(annual_return(result.returns, 4), abs=1e-15)


def test_ruin_stays_finite():
    result = small_result(returns=np.array([0.0, -1.0, 0.0, 0.0]))
    assert np.isfinite(log_excess_returns(result)).all()
    assert regime_attribution(result)[BEAR]["log_excess_return"] < -20.0


def test_unknown_regimes_are_refused():
    with pytest.raises(ValueError, match=r"`regimes` of 'agent' holds \[0 4\]; expected 0 to 3"):
        regime_attribution(small_result(regimes=np.array([0, 4, 0, 0])))


def test_allocation_worked_by_hand():
    figures = allocation_diagnostics(small_result(), max_weight=0.5)
    a, b = figures["assets"]
    assert a == {
        "asset": "A",
        "mean_weight": pytest.approx(0.3375),
        "min_weight": 0.0,
        "max_weight": 0.6,
        "contribution": pytest.approx(0.05 - 0.03 + 0.005, abs=1e-15),
        "cap_hits": 0.5,
    }
    assert b["contribution"] == pytest.approx(0.01 - 0.01 + 0.01, abs=1e-15)
    assert b["cap_hits"] == 0.25
    assert figures["cap_hits"] == 0.5
    assert figures["mean_cash"] == pytest.approx(0.4)
    assert figures["cash_contribution"] == pytest.approx(0.0016, abs=1e-15)
    assert figures["herfindahl"] == pytest.approx((0.5 + 0.625 + 0.5 + 1.0) / 4)
    assert figures["cost_contribution"] == pytest.approx(-0.01 * 1.05 - 0.005 * 0.9955, abs=1e-15)


def test_contributions_sum_to_the_sum_of_returns():
    result = long_result(6)
    figures = allocation_diagnostics(result)
    parts = [row["contribution"] for row in figures["assets"]]
    total = math.fsum([*parts, figures["cash_contribution"], figures["cost_contribution"]])
    assert total == pytest.approx(result.returns.sum(), abs=1e-12)
    assert "cap_hits" not in figures and "cap_hits" not in figures["assets"][0]


def test_a_weight_at_its_cap_up_to_rounding_is_a_hit():
    weights = np.array([[0.25 - 1e-9, 0.1, 0.65], [0.2499, 0.1, 0.6501], [0.1, 0.3, 0.6], [0.0, 0.0, 1.0]])
    figures = allocation_diagnostics(small_result(weights=weights), max_weight=0.25)
    assert [row["cap_hits"] for row in figures["assets"]] == [0.25, 0.25]
    assert figures["cap_hits"] == 0.5


def test_all_cash_has_no_concentration():
    figures = allocation_diagnostics(small_result(weights=np.tile([0.0, 0.0, 1.0], (4, 1))))
    assert figures["herfindahl"] == 0.0
    assert figures["mean_cash"] == 1.0


def test_no_days_are_refused():
    result = small_result()
    fields = ("dates", "returns", "benchmark_returns", "asset_returns", "risk_free", "weights", "turnover", "costs", "regimes")
    empty = small_result(**{name: getattr(result, name)[:0] for name in fields})
    with pytest.raises(ValueError, match="'agent' has no days"):
        allocation_diagnostics(empty)
    assert all(row["days"] == 0 and row["log_excess_return"] == 0.0 for row in regime_attribution(empty))


def gated(market, **kwargs):
    """Equal weight as the kernel plays it, with every kind of cost."""
    config = PortfolioConfig(costs=CostModel(0.001, 0.0005, 0.02, 0.00002), **kwargs)
    rule = WeightRule("equal weight", equal_weights, refit_days=1, sizing=TimingRule())
    return backtest_rule(rule, market, "test", config), config.costs


def test_traded_values_are_those_of_the_kernel(all_stocks):
    result, _ = gated(all_stocks, max_weight=0.06)
    np.testing.assert_allclose(np.abs(traded_values(result)).sum(axis=1), result.turnover, rtol=0, atol=1e-12)


def test_costs_by_asset_are_those_of_the_kernel(all_stocks):
    result, costs = gated(all_stocks)
    exact, shared = cost_attribution(result, costs), cost_attribution(result)
    fees = (0.00002 / np.concatenate([[1.0], result.wealth[:-1]])[result.rebalanced]).sum()
    assert exact["fixed_fees"] == pytest.approx(fees, abs=1e-10)
    for figures in (exact, shared):
        by_asset = math.fsum(row["cost"] for row in figures["assets"]) + figures["fixed_fees"]
        assert by_asset == pytest.approx(figures["cost"], abs=1e-12)
        assert math.fsum(row["turnover"] for row in figures["assets"]) == pytest.approx(figures["turnover"], abs=1e-12)
        for cut in ("regimes", "years", "reasons"):
            for key in ("turnover", "cost"):
                assert math.fsum(row[key] for row in figures[cut]) == pytest.approx(figures[key], abs=1e-12)
            assert sum(row["trades"] for row in figures[cut]) == result.rebalanced.sum()
            assert sum(row["days"] for row in figures[cut]) == len(result.dates)
    trades = {row["reason"]: row["trades"] for row in exact["reasons"]}
    assert trades["no decision"] == trades["within thresholds"] == 0 < trades["exposure drift"]


def test_costs_worked_by_hand():
    """Buy half of A and half of B; A doubles; sell a third of what is A, buy B for it, at 1 % of traded value."""
    result = small_result(
        weights=np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]] * 2),
        asset_returns=np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
        risk_free=np.zeros(4), costs=np.array([0.01, 0.003, 0.0, 0.0]), turnover=np.array([0.99, 0.3, 0.0, 0.0]),
        rebalanced=np.array([True, True, False, False]),
    )  # fmt: skip
    drifted, left = 2.0 / 3.0, 0.997
    np.testing.assert_allclose(
        traded_values(result)[:2],
        [[0.495, 0.495], [0.5 * left - drifted, 0.5 * left - 1.0 + drifted]],
        rtol=0,
        atol=1e-15,
    )
    assets = cost_attribution(result, 0.01)["assets"]
    assert assets[0]["cost"] == pytest.approx(0.01 * (0.495 + drifted - 0.5 * left), abs=1e-15)
    assert cost_attribution(result)["log_cost"] == pytest.approx(-math.log(0.99 * 0.997), abs=1e-15)


def test_reward_terms_sum_to_the_reward_of_the_episode(bundled):
    """The kernel's own reward of the same targets, step by step in an env, is the oracle."""
    result, costs = gated(bundled)
    figures = reward_attribution(result)
    env = QuantFluxEnv(bundled, split="test", episode_length=None, costs=costs, execution_lag=1)
    env.core.add_sizing(Sizing(TimingRule(), keep_cash=False))
    env.reset(seed=0)
    total, terms, done = 0.0, dict.fromkeys(REWARD_TERMS, 0.0), False
    while not done:
        _, reward, _, done, info = env.step(np.array([1.0] * 6 + [0.0], dtype=np.float32))
        total += reward
        terms = {name: terms[name] + value for name, value in info["reward_terms"].items()}
    assert figures["total"] == pytest.approx(total, abs=1e-10)
    assert figures["terms"] == pytest.approx(terms, abs=1e-10)
    for cut in ("regimes", "years"):
        assert math.fsum(row["total"] for row in figures[cut]) == pytest.approx(figures["total"], abs=1e-10)
        for name in REWARD_TERMS:
            parts = math.fsum(row["terms"][name] for row in figures[cut])
            assert parts == pytest.approx(figures["terms"][name], abs=1e-10)


def test_the_index_was_not_rewarded(bundled):
    index = index_result(bundled, "test", PortfolioConfig())
    assert index.reward_terms is None and index.reasons is None
    with pytest.raises(ValueError, match="'SP500' has no `reward_terms`"):
        reward_attribution(index)


def test_regimes_of_a_real_backtest_sum_to_its_log_excess_return(all_stocks):
    result, _ = gated(all_stocks)
    total = math.log(result.wealth[-1] / np.prod(1.0 + result.benchmark_returns))
    assert math.fsum(row["log_excess_return"] for row in regime_attribution(result)) == pytest.approx(total, abs=1e-10)
