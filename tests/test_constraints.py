"""Groups, turnover, short selling, suspended and unlisted assets: what is allowed is obeyed to the last digit."""

import warnings

import cvxpy
import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.config import GroupCap, LongShort, PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.costs import CostModel
from quantflux_sb3.dynamics import (
    COST,
    LONG_SHORT,
    REASON,
    REBALANCED,
    RECORD_HEAD,
    TRADE_REASONS,
    TURNOVER,
    WEALTH,
    project_gross,
    project_grouped,
    read_actions,
)  # fmt: skip
from quantflux_sb3.env import QuantFluxEnv
from quantflux_sb3.evaluation.backtest import replay
from quantflux_sb3.market import MarketData

COSTS = CostModel(0.001, 0.0005, 0.002, 0.0001)


def solve(objective, constraints) -> None:
    """As exactly as the solver can: where it gives up on the tightest tolerance, the next one."""
    problem = cvxpy.Problem(cvxpy.Minimize(objective), constraints)
    for tolerance in (1e-14, 1e-12, 1e-10):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
        if problem.status == cvxpy.OPTIMAL:
            return
    raise AssertionError(problem.status)


@pytest.mark.parametrize("seed", range(350))
def test_grouped_projection_equals_cvxpy(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 12))
    groups = rng.integers(-1, 3, n).astype(float)
    values, upper = rng.dirichlet(np.ones(n)) * rng.uniform(0.5, 1.5), rng.uniform(0.2, 0.6, n)
    lower, group_max = np.zeros(n), rng.uniform(0.2, 0.7, 3)
    most = upper[groups < 0].sum() + sum(min(upper[groups == g].sum(), group_max[g]) for g in range(3))
    total, out, w = min(1.0, 0.95 * most), np.empty(n), cvxpy.Variable(n)
    project_grouped(values, lower, upper, total, groups, group_max, out)
    limits = [cvxpy.sum(w[np.flatnonzero(groups == g)]) <= group_max[g] for g in range(3) if (groups == g).any()]
    solve(cvxpy.sum_squares(w - values), [w >= lower, w <= upper, cvxpy.sum(w) == total, *limits])
    np.testing.assert_allclose(out, w.value, rtol=0, atol=1e-8)
    assert out.sum() == pytest.approx(total, abs=1e-12)
    assert ((out - values) ** 2).sum() <= ((w.value - values) ** 2).sum() + 1e-8


@pytest.mark.parametrize("seed", range(350))
def test_gross_projection_equals_cvxpy(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    values, cap, gross = rng.uniform(-1, 1, n), rng.uniform(0.2, 1.0, n), rng.uniform(0.5, 2.0)
    out, w = np.empty(n), cvxpy.Variable(n)
    project_gross(values, -cap, cap, gross, out)
    solve(cvxpy.sum_squares(w - values), [w >= -cap, w <= cap, cvxpy.norm1(w) <= gross])
    np.testing.assert_allclose(out, w.value, rtol=0, atol=1e-8)
    assert np.abs(out).sum() <= gross + 1e-12


def episode(market, n_steps=200, seed=0, **settings):
    """Random actions; the core and, per step, weights before and after the trade, wealth before, and the record."""
    core = PortfolioCore(1, market, PortfolioConfig(split="all", episode_length=None, **settings))
    start, stop = core.windows[0]
    core.begin(0, int(start), int(stop))
    rng, steps, n = np.random.default_rng(seed), [], core.n_assets + 1
    for _ in range(min(n_steps, stop - start)):
        drifted, wealth = core.weights[0].copy(), core.state[0, WEALTH]
        low = -1.0 if settings.get("long_short") else 0.0
        core.step(rng.uniform(low, 1.0, (1, n)) ** 3)
        record = core.records[0].copy()
        steps.append((drifted, record[RECORD_HEAD : RECORD_HEAD + n], wealth, record))
    return core, steps


def test_groups_keep_their_caps_at_every_trade(make_market):
    market = make_market(400, 6, 3)
    a = market.assets
    caps = (GroupCap((a[0], a[1], a[2]), 0.4), GroupCap((a[3], a[5]), 0.3))
    _, steps = episode(market, max_weight=0.35, group_caps=caps, costs=COSTS)
    traded = [held for _, held, _, record in steps if record[REBALANCED]]
    assert len(traded) > 50
    held = np.array(traded)
    assert held[:, :3].sum(axis=1).max() <= 0.4 + 1e-9 and held[:, [3, 5]].sum(axis=1).max() <= 0.3 + 1e-9
    assert held[:, :3].sum(axis=1).max() > 0.399
    np.testing.assert_allclose(held.sum(axis=1), 1.0, atol=1e-12)


def test_turnover_stays_under_its_limit(make_market):
    _, steps = episode(make_market(400, 5, 4), max_weight=1.0, max_turnover=0.2, costs=0.0, rebalance_threshold=0.0)
    turnover = np.array([record[TURNOVER] for *_, record in steps])
    assert turnover.max() <= 0.2 + 1e-9 and (turnover > 0.19).mean() > 0.5


def test_there_is_no_trade_within_the_minimum_holding_time(make_market):
    _, steps = episode(make_market(400, 5, 5), max_weight=1.0, min_holding_days=7, max_holding_days=None)
    days = np.flatnonzero([record[REBALANCED] for *_, record in steps])
    assert len(days) > 10 and np.diff(days).min() == 7
    reasons = {TRADE_REASONS[int(record[REASON])] for *_, record in steps}
    assert "traded too recently" in reasons and reasons & {"weight drift", "exposure drift"}


def test_long_short_portfolios_conserve_wealth_and_pay_for_borrowing(make_market):
    market = make_market(400, 5, 6)
    settings = dict(max_weight=0.6, long_short=LongShort(gross=1.4, borrow_cost=0.03), costs=COSTS)
    core, steps = episode(market, **settings)
    for drifted, held, wealth, record in steps:
        assert held.sum() == pytest.approx(1.0, abs=1e-12)
        if record[REBALANCED]:
            assert np.abs(held[:-1]).sum() <= 1.4 + 1e-9 and np.abs(held[:-1]).max() <= 0.6 + 1e-9
            mu = 1.0 - record[COST]
            trades = np.abs(held[:-1] * mu - drifted[:-1])
            paid = (trades * 0.0015 + 0.002 * trades**1.5).sum() + 0.0001 / wealth
            assert record[COST] == pytest.approx(paid, abs=1e-12)
    assert min(held[:-1].min() for _, held, *_ in steps) < -0.2
    dear = PortfolioConfig(**{**settings, "long_short": LongShort(1.4, 0.5)})
    assert dear.rules(market.assets).numbers[7] == pytest.approx(0.5 / 252)
    dearer, _ = episode(market, **{**settings, "long_short": LongShort(1.4, 0.5)})
    assert dearer.state[0, WEALTH] < core.state[0, WEALTH]


def test_long_short_growth_is_that_of_a_plain_sum(make_market):
    market = make_market(400, 3, 7)
    core, steps = episode(market, 30, max_weight=1.0, long_short=LongShort(2.0, 0.05), costs=0.0, rebalance_threshold=0.0)
    first = core.windows[0][0]
    for day, (_, held, _, record) in enumerate(steps):
        row = first + day
        expected = held[:-1] @ market.returns[row] + held[-1] * market.risk_free[row]
        expected += np.minimum(held[:-1], 0.0).sum() * 0.05 / 252
        assert record[4] == pytest.approx(expected, abs=1e-13)


@pytest.fixture
def patchy():
    """Five assets: one lists late, one is delisted, one is suspended for three weeks."""
    rng = np.random.default_rng(8)
    prices = pd.DataFrame(
        100 * np.exp(rng.normal(3e-4, 0.015, (420, 5)).cumsum(axis=0)),
        pd.bdate_range("2012-01-02", periods=420),
        list("ABCDE"),
    )
    prices.iloc[:250, 0] = np.nan
    prices.iloc[300:, 1] = np.nan
    prices.iloc[200:215, 2] = np.nan
    return MarketData.from_prices(prices, missing="mask")


def test_missing_prices_become_a_status(patchy):
    status = patchy.status
    assert (status[:249, 0] == -1).all() and (status[249:, 0] == 1).all()
    assert (status[299:, 1] == -1).all() and (status[:299, 1] == 1).all()
    assert (status[199:214, 2] == 0).all() and status[214, 2] == 1
    assert (patchy.returns[199:214, 2] == 0).all() and patchy.returns[214, 2] != 0
    with pytest.raises(ValueError, match="NaN"):
        MarketData.from_prices(pd.DataFrame({"A": [1.0, np.nan, 2.0], "B": 1.0}, pd.bdate_range("2012-01-02", periods=3)))


@pytest.mark.parametrize("trade_to", ["target", "band"])
def test_weights_are_frozen_while_suspended_and_zero_while_unlisted(patchy, trade_to):
    core, steps = episode(patchy, 290, max_weight=0.5, rebalance_threshold=0.0, trade_to=trade_to, costs=COSTS)
    first = core.windows[0][0]
    for day, (drifted, held, _, record) in enumerate(steps):
        status = patchy.status[first + day - 1]  # at the close of the decision
        assert (held[:-1][status == -1] == 0.0).all()
        np.testing.assert_allclose(
            held[:-1][status == 0], drifted[:-1][status == 0] / (1 - record[COST]), rtol=2e-3, atol=1e-12
        )
        assert held.sum() == pytest.approx(1.0, abs=1e-12)


def test_delisting_turns_the_weight_into_cash_and_keeps_wealth(patchy):
    core = PortfolioCore(1, patchy, PortfolioConfig(split="all", episode_length=None, max_weight=1.0, costs=0.0))
    core.begin(0, 298, 420)
    core.step(np.array([[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]]))
    assert core.weights[0, 1] == 1.0
    wealth = core.state[0, WEALTH]
    core.step(np.array([[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]]))
    assert core.weights[0, 1] == 0.0 and core.weights[0, -1] == 1.0
    assert core.state[0, WEALTH] == pytest.approx(wealth, abs=1e-15)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (dict(group_caps=(GroupCap(("AAPL", "NOPE"), 0.5),)), "must name assets of the market"),
        (dict(group_caps=(GroupCap(("AAPL",), 0.5), GroupCap(("AAPL",), 0.4))), "one group only"),
        (dict(group_caps=(GroupCap(("AAPL", "MSFT", "JPM", "XOM"), 0.3),)), "cannot reach 100 %"),
        (dict(min_weight=0.1, group_caps=(GroupCap(("AAPL", "MSFT"), 0.1),)), "sum of its assets' min_weight"),
        (dict(max_turnover=0.0), "`max_turnover`"),
        (dict(min_holding_days=-1), "`min_holding_days`"),
        (dict(long_short=1.5), "`long_short`"),
        (dict(long_short=LongShort(), group_caps=(GroupCap(("AAPL",), 0.5),)), "`group_caps`"),
    ],
)
def test_limits_that_cannot_be_met_are_refused_with_the_reason(settings, text):
    with pytest.raises(ValueError, match=text):
        QuantFluxEnv(**settings)


def test_action_space_and_observation_of_long_short(make_market):
    env = QuantFluxEnv(make_market(400, 5, 9), split="all", long_short=LongShort(1.5), max_weight=0.5)
    obs, _ = env.reset(seed=0)
    env.action_space.seed(0)
    assert env.action_space.low.min() == -1.0 and env.observation_space.contains(obs)
    held = []
    for _ in range(50):
        obs, reward, *_, info = env.step(env.action_space.sample())
        held.append(info["weights"][:-1])
        assert env.observation_space.contains(obs) and np.isfinite(reward)
    assert np.min(held) < -0.2


def test_backtest_of_a_long_short_agent_keeps_its_short_positions(make_market):
    settings = dict(split="all", episode_length=None, max_weight=0.6, long_short=LongShort(1.5, 0.02), costs=COSTS)
    market = make_market(400, 4, 10)
    core, steps = episode(market, 150, **{k: v for k, v in settings.items() if k not in ("split", "episode_length")})
    rng, low = np.random.default_rng(0), -1.0
    requests = np.empty((len(steps), 5))
    read_actions(np.concatenate([rng.uniform(low, 1.0, (1, 5)) ** 3 for _ in steps]), LONG_SHORT, requests)
    fresh = PortfolioCore(1, market, PortfolioConfig(**settings))
    start, stop = fresh.windows[0]
    fresh.begin(0, int(start), int(stop))
    result = replay("short", fresh, requests, np.ones(len(steps), dtype=bool))
    np.testing.assert_array_equal(result.weights, [held for _, held, *_ in steps])
    assert result.weights[:, :-1].min() < -0.2
    assert result.wealth[-1] == pytest.approx(core.state[0, WEALTH], rel=1e-12)
