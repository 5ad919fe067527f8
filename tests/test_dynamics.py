"""The kernel against a slow, readable oracle, against a case worked by hand, and against the laws it must obey."""

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from quantflux_sb3 import dynamics
from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.costs import CostModel
from quantflux_sb3.dynamics import (
    BENCHMARK_RETURN,
    COST,
    DRAWDOWN,
    ENDED,
    EXPOSURE,
    PORTFOLIO_RETURN,
    REBALANCED,
    RECORD_HEAD,
    REWARD,
    REWARD_TERMS,
    RUNNING,
    TERMINATED,
    TERMS,
    TRUNCATED,
    TURNOVER,
    WEALTH,
    make_prices,
    project_capped_simplex,
    run_targets,
)
from quantflux_sb3.rewards import RewardConfig

FREE = CostModel(0.0, 0.0)
EVERY_TERM = RewardConfig(
    1.0, 3.0, 0.4, 0.02, 0.05, 0.01, 0.3, soft_max_weight=0.2, patience=6.0, regime_scale=(1.0, 2.0, 0.5, 0.0)
)


def project_by_breakpoints(values, lower, upper, total):
    """The sum of clip(values - tau) is piecewise linear in tau: find the piece between two breakpoints, solve it."""
    points = sorted([v - a for v, a in zip(values, lower, strict=True)] + [v - b for v, b in zip(values, upper, strict=True)])

    def clip(tau):
        return [min(max(v - tau, a), b) for v, a, b in zip(values, lower, upper, strict=True)]

    for left, right in pairwise(points):
        high, low = math.fsum(clip(left)), math.fsum(clip(right))
        if high >= total >= low:
            share = 0.0 if high == low else (high - total) / (high - low)
            return clip(left + share * (right - left))
    return clip(points[0] if math.fsum(clip(points[0])) <= total else points[-1])


class OracleDay:
    """One portfolio by the documentation: a dictionary-and-loop implementation that shares nothing with the kernel."""

    def __init__(self, market, config: PortfolioConfig, regime_probs):
        self.market, self.config, self.regime_probs = market, config, regime_probs
        n = market.n_assets
        self.n, self.assets = n, range(n)
        self.wealth = self.peak = 1.0
        self.weights, self.smoothed, self.held_days = [0.0] * n + [1.0], None, None
        self.minimum, self.maximum = (
            [float(x) for x in np.broadcast_to(v, n)] for v in (config.min_weight, config.max_weight)
        )
        costs = config.costs
        self.linear = [float(a + b) for a, b in zip(*(np.broadcast_to(v, n) for v in (costs.proportional, costs.slippage)))]  # noqa: B905
        self.impact = [float(x) for x in np.broadcast_to(costs.impact, n)]

    def target_of(self, request):
        if self.smoothed is None:
            self.smoothed = list(request)
        else:
            a = 2.0 / (self.config.target_smoothing + 1)
            self.smoothed = [(1 - a) * old + a * new for old, new in zip(self.smoothed, request, strict=True)]
        total = min(max(math.fsum(self.smoothed[:-1]), math.fsum(self.minimum)), math.fsum(self.maximum), 1.0)
        assets = project_by_breakpoints(self.smoothed[:-1], self.minimum, self.maximum, total)
        return [*assets, max(1.0 - math.fsum(assets), 0.0)]

    def wants_trade(self, target):
        limit = self.config.max_holding_days
        if limit is not None and (self.held_days is None or self.held_days >= limit):
            return True
        weight_drift = max(abs(target[i] - self.weights[i]) for i in self.assets)
        exposure_drift = abs(math.fsum(target[:-1]) - math.fsum(self.weights[:-1]))
        return weight_drift > self.config.rebalance_threshold or exposure_drift > self.config.exposure_threshold

    def after_trade(self, target):
        if self.config.trade_to == "target" or self.held_days is None:
            return target
        band, room = self.config.rebalance_threshold, self.config.exposure_threshold
        lower = [max(self.minimum[i], target[i] - band) for i in self.assets]
        upper = [min(self.maximum[i], target[i] + band) for i in self.assets]
        wanted, exposure = math.fsum(target[:-1]), math.fsum(self.weights[:-1])
        total = min(max(exposure, wanted - room), wanted + room)
        total = min(max(total, math.fsum(lower)), math.fsum(upper), 1.0)
        assets = project_by_breakpoints(self.weights[:-1], lower, upper, total)
        return [*assets, max(1.0 - math.fsum(assets), 0.0)]

    def price_of(self, held, left):
        trades = [abs(held[i] * left - self.weights[i]) for i in self.assets]
        paid = sum(self.linear[i] * x + self.impact[i] * x**1.5 for i, x in enumerate(trades))
        return paid + self.config.costs.fixed / self.wealth, math.fsum(trades)

    def day(self, request, row, decides=True):
        """Decide at the close of ``row``, earn the returns of ``row + 1``; the documented figures and reward terms."""
        reward, before, drawdown_before = self.config.reward, self.wealth, 1.0 - self.wealth / self.peak
        held_days, held, turnover, cost, traded, target = self.held_days, list(self.weights), 0.0, 0.0, False, None
        if decides:
            target = self.target_of(request)
            if self.wants_trade(target):
                held = self.after_trade(target)
                traded = math.fsum(abs(held[i] - self.weights[i]) for i in self.assets) > 1e-12
            if traded:
                left = brentq(lambda mu: 1.0 - self.price_of(held, mu)[0] - mu, 0.0, 1.0, xtol=1e-16, rtol=1e-15)
                cost, turnover = 1.0 - left, self.price_of(held, left)[1]
                self.wealth *= left
                self.held_days = 0
        factors = [1.0 + r for r in self.market.returns[row + 1]] + [1.0 + self.market.risk_free[row + 1]]
        growth = math.fsum(w * f for w, f in zip(held, factors, strict=True))
        self.weights = [w * f / growth for w, f in zip(held, factors, strict=True)]
        self.wealth *= growth
        self.peak = max(self.peak, self.wealth)
        if self.held_days is not None:
            self.held_days += 1
        portfolio, benchmark = self.wealth / before - 1.0, self.market.benchmark_returns[row + 1]
        drawdown = 1.0 - self.wealth / self.peak
        scale = math.fsum(
            p * s for p, s in zip(self.regime_probs[row - self.config.execution_lag], reward.regime_scale, strict=True)
        )
        hasty = 0.0
        if traded and held_days is not None and reward.patience > 0:
            hasty = max(1.0 - held_days / reward.patience, 0.0)
        terms = {
            "excess_return": reward.excess_return * (math.log(1.0 + portfolio) - math.log(1.0 + benchmark)),
            "volatility": -scale * reward.volatility / 2.0 * (portfolio**2 - benchmark**2),
            "drawdown": -scale * reward.drawdown * max(drawdown - drawdown_before, 0.0),
            "turnover": -scale * reward.turnover * turnover,
            "concentration": -scale * reward.concentration * math.fsum(w * w for w in held[:-1]),
            "overtrading": -scale * reward.overtrading * hasty,
            "soft_limit": -scale * reward.soft_limit * math.fsum(max(w - reward.soft_max_weight, 0.0) for w in held[:-1]),
        }
        terms = {name: reward.scale * value for name, value in terms.items()}
        return SimpleNamespace(
            held=held, target=target, turnover=turnover, cost=cost, traded=traded, portfolio=portfolio,
            benchmark=benchmark, drawdown=drawdown, terms=terms, exposure=1.0 - held[-1],
        )  # fmt: skip


def random_config(rng: np.random.Generator, n_assets: int, **kwargs) -> PortfolioConfig:
    """Every cost, limit and gate on, each at random."""
    per_asset = rng.uniform(size=n_assets)
    costs = CostModel(tuple(0.004 * per_asset), 0.002, tuple(0.02 * per_asset[::-1]), 0.0002)
    chosen = dict(
        split="all", episode_length=None, costs=costs, trade_to=str(rng.choice(["target", "band"])),
        min_weight=tuple(rng.uniform(0.0, 0.6 / n_assets, n_assets)),
        max_weight=tuple(rng.uniform(1.2 / n_assets, min(3.0 / n_assets, 1.0), n_assets)),
        rebalance_threshold=float(rng.choice([0.0, 0.02, 0.06])), exposure_threshold=float(rng.choice([0.0, 0.05, 0.2])),
        max_holding_days=[None, 3, 20][rng.integers(3)], target_smoothing=int(rng.choice([1, 4])),
        execution_lag=int(rng.integers(2)), reward=replace(EVERY_TERM, scale=float(rng.choice([1.0, 10.0]))),
    )  # fmt: skip
    return PortfolioConfig(**{**chosen, **kwargs})


def start(market, config: PortfolioConfig) -> tuple[PortfolioCore, int]:
    core = PortfolioCore(1, market, config)
    first, stop = core.windows[0]
    core.begin(0, int(first), int(stop))
    return core, int(first) - 1


def random_actions(rng: np.random.Generator, n_days: int, n_weights: int) -> np.ndarray:
    """Slowly moving portfolios with some jumps, some all in cash, so that the gate both opens and stays shut."""
    logits = 0.15 * rng.standard_normal((n_days, n_weights)).cumsum(axis=0)
    logits += np.where(rng.uniform(size=(n_days, 1)) < 0.1, 2.0 * rng.standard_normal((n_days, n_weights)), 0.0)
    actions = np.exp(logits)
    actions[rng.uniform(size=n_days) < 0.02] = 0.0
    return actions


def compare_with_oracle(core: PortfolioCore, oracle: OracleDay, day: SimpleNamespace) -> None:
    record, n = core.records[0], core.n_assets + 1
    close = dict(rtol=1e-12, atol=1e-12)
    assert bool(record[REBALANCED]) == day.traded
    np.testing.assert_allclose(record[RECORD_HEAD : RECORD_HEAD + n], day.held, **close)
    np.testing.assert_allclose(core.weights[0], oracle.weights, **close)
    if day.target is not None:
        np.testing.assert_allclose(record[RECORD_HEAD + n :], day.target, **close)
    figures = [record[i] for i in (TURNOVER, COST, EXPOSURE, PORTFOLIO_RETURN, BENCHMARK_RETURN, DRAWDOWN)]
    expected = [day.turnover, day.cost, day.exposure, day.portfolio, day.benchmark, day.drawdown]
    np.testing.assert_allclose(figures, expected, **close)
    np.testing.assert_allclose(core.state[0, WEALTH], oracle.wealth, **close)
    np.testing.assert_allclose(record[TERMS:RECORD_HEAD], [day.terms[name] for name in REWARD_TERMS], **close)


def oracle_case(make_market, seed):
    """Both modes and both lags in turn; everything else at random."""
    rng = np.random.default_rng(seed)
    n_assets = int(rng.integers(2, 12))
    mode, lag = ("target", "band")[seed % 2], seed // 2 % 2
    return rng, make_market(330, n_assets, seed), random_config(rng, n_assets, trade_to=mode, execution_lag=lag)


@pytest.mark.parametrize("seed", range(16))
def test_kernel_equals_plain_loop_oracle(make_market, seed):
    rng, market, config = oracle_case(make_market, seed)
    n_assets = market.n_assets
    core, row = start(market, config)
    oracle = OracleDay(market, config, core.prices.regime_probs)
    traded = []
    for action in random_actions(rng, core.clock[0, 1] - 1 - row, n_assets + 1):
        request = [x / sum(action) for x in action] if sum(action) else [0.0] * n_assets + [1.0]
        core.step(action[None])
        day = oracle.day(request, row)
        compare_with_oracle(core, oracle, day)
        assert core.records[0, REWARD] == pytest.approx(sum(day.terms.values()), rel=1e-12, abs=1e-12)
        traded.append(day.traded)
        row += 1
    assert core.records[0, ENDED] == TRUNCATED
    assert np.mean(traded) > 0.02  # the accounting of trades was exercised


def test_oracle_cases_cover_open_and_shut_gate_in_both_modes(make_market):
    """The comparison above would say little if its random settings always traded, or never."""
    seen = set()
    for seed in range(16):
        rng, market, config = oracle_case(make_market, seed)
        core, row = start(market, config)
        for action in random_actions(rng, core.clock[0, 1] - 1 - row, market.n_assets + 1):
            core.step(action[None])
            seen.add((config.trade_to, config.execution_lag, bool(core.records[0, REBALANCED])))
    assert seen == {(mode, lag, traded) for mode in ("target", "band") for lag in (0, 1) for traded in (False, True)}


def hand_market():
    returns = np.array([[0.0, 0.0], [0.10, -0.05], [0.00, 0.04], [-0.10, 0.20]])
    regimes = np.tile([1.0, 0.0, 0.0, 0.0], (4, 1))
    return make_prices(returns, np.array([0.0, 0.02, 0.01, -0.03]), np.array([0.0, 0.001, 0.001, 0.001]), regimes)


def test_case_worked_by_hand():
    """
    Two assets and cash for three days, 1 % of traded value, always asking for (50, 30, 20) %.

    Day 1, from cash: left = 1 / (1 + 0.01 * 0.8) = 1 / 1.008, then 0.5 * 1.1 + 0.3 * 0.95 + 0.2 * 1.001 = 1.0352.
    Day 2: the first asset has drifted to 0.55 / 1.0352 = 53.1 %, more than 2.5 points off: trade. The first is sold, the
    second bought, so left = (1 - 0.01 * (0.53129830 - 0.27530912)) / (1 - 0.01 * 0.2) = 0.99943899; growth 1.0122.
    Day 3: 0.5 / 1.0122 = 49.4 % and 0.312 / 1.0122 = 30.8 % are near enough: no trade, no cost.
    """
    reward = RewardConfig(1.0, 2.0, 0.5, 0.1, 0.1, 0.2, 0.3, soft_max_weight=0.4, patience=4.0, scale=1.0)
    config = PortfolioConfig(
        execution_lag=0, costs=0.01, max_weight=1.0, rebalance_threshold=0.025, exposure_threshold=0.05, reward=reward
    )
    state, clock = dynamics.new_state(1, 2)[0], np.array([0, 4])
    requests = np.tile([0.5, 0.3, 0.2], (3, 1))
    records = run_targets(requests, np.ones(3, dtype=bool), hand_market(), config.rules(range(2)), state, clock)
    assert records.shape == (3, RECORD_HEAD + 6)
    close = dict(rtol=0, atol=1e-14)
    np.testing.assert_allclose(records[:, REBALANCED], [1, 1, 0], **close)
    np.testing.assert_allclose(records[:, TURNOVER], [0.7936507936507936, 0.056101383601824976, 0.0], **close)
    np.testing.assert_allclose(records[:, COST], [0.007936507936507936, 0.0005610138360182498, 0.0], **close)
    returns = [0.026984126984126985, 0.011632141795182328, 0.012448330369492196]
    np.testing.assert_allclose(records[:, PORTFOLIO_RETURN], returns, **close)
    np.testing.assert_allclose(state[WEALTH], 1.0518630977331647, **close)
    held = records[:, RECORD_HEAD : RECORD_HEAD + 3]
    np.testing.assert_allclose(held[:2], [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], **close)
    np.testing.assert_allclose(held[2], [0.4939735230191662, 0.3082394783639597, 0.19778699861687413], **close)
    drifted = [0.43910998456089295, 0.3653395071546629, 0.19555050828444412]
    np.testing.assert_allclose(state[dynamics.STATE_HEAD : dynamics.STATE_HEAD + 3], drifted, **close)
    expected = [
        [0.0068238478191423695, -0.00032814310909549005, 0.0, -0.07936507936507936, -0.034, 0.0, -0.03],
        [0.0016146776815101852, -3.530672274322754e-05, 0.0, -0.005610138360182498, -0.034, -0.15, -0.03],
        [0.042830694447267656, 0.0007450390710119783, 0.0, 0.0, -0.03390214174660527, 0.0, -0.02819205690574985],
    ]
    np.testing.assert_allclose(records[:, TERMS:RECORD_HEAD], expected, **close)


@pytest.mark.parametrize("trade_to", ["target", "band"])
def test_wealth_before_is_wealth_after_plus_cost_and_weights_keep_their_limits(make_market, trade_to):
    rng = np.random.default_rng(3)
    market = make_market(330, 7, 3)
    config = random_config(rng, 7, trade_to=trade_to, rebalance_threshold=0.01, exposure_threshold=0.02)
    core, row = start(market, config)
    rules, n = core.rules, 7
    for action in random_actions(rng, core.clock[0, 1] - 1 - row, n + 1):
        before, drifted = core.state[0, WEALTH], core.weights[0].copy()
        core.step(action[None])
        record, row = core.records[0], row + 1
        held = record[RECORD_HEAD : RECORD_HEAD + n + 1]
        factors = np.append(1.0 + market.returns[row], 1.0 + market.risk_free[row])
        after = core.state[0, WEALTH] / (held @ factors)
        assert after + record[COST] * before == pytest.approx(before, abs=1e-12)
        for weights in (held, record[RECORD_HEAD + n + 1 :], core.weights[0]):
            assert weights.sum() == pytest.approx(1.0, abs=1e-12)
            assert weights.min() >= 0.0
        if not record[REBALANCED]:
            assert record[TURNOVER] == record[COST] == 0.0
            continue
        assert (held[:n] <= rules.max_weight + 1e-9).all() and (held[:n] >= rules.min_weight - 1e-9).all()
        trades = np.abs(held[:n] * (after / before) - drifted[:n])
        rates, impact = rules.assets[[dynamics.COST_RATE, dynamics.IMPACT]]
        paid = trades @ rates + (trades**1.5) @ impact + rules.numbers[dynamics.FIXED_FEE] / before
        assert record[COST] == pytest.approx(paid, abs=1e-12)
        assert record[TURNOVER] == pytest.approx(trades.sum(), abs=1e-12)


def test_self_financing_equation_is_solved_at_the_highest_costs():
    """0.24 + 0.24 + impact 0.24 is the edge of what CostModel accepts."""
    rules = PortfolioConfig(costs=CostModel(0.24, 0.24, 0.24), max_weight=1.0).rules(range(2))
    drifted, held = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    left, turnover = dynamics.settle(drifted, held, 1.0, *rules)
    trades = np.abs(held[:2] * left - drifted[:2])
    assert left == pytest.approx(1.0 - (0.48 * trades + 0.24 * trades**1.5).sum(), abs=1e-12)
    assert turnover == pytest.approx(trades.sum(), abs=1e-12)


def project(values, lower, upper, total):
    out = np.empty(len(values))
    project_capped_simplex(*(np.asarray(x, dtype=np.float64) for x in (values, lower, upper)), total, out)
    return out


def random_projection(rng: np.random.Generator):
    n = int(rng.integers(1, 12))
    lower = rng.uniform(0.0, 0.5, n) * (rng.uniform(size=n) < 0.5)
    upper = lower + rng.uniform(0.0, 0.7, n) * (rng.uniform(size=n) < 0.9)
    total = lower.sum() + rng.uniform() * (upper.sum() - lower.sum())
    return rng.normal(0.2, rng.choice([0.1, 1.0, 10.0]), n), lower, upper, total


def test_projection_equals_cvxpy():
    rng = np.random.default_rng(11)
    for _ in range(350):
        values, lower, upper, total = random_projection(rng)
        ours = project(values, lower, upper, total)
        w = cvxpy.Variable(len(values))
        problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(w - values)), [w >= lower, w <= upper, cvxpy.sum(w) == total])
        problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
        np.testing.assert_allclose(ours, w.value, rtol=0, atol=1e-8)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_projection_meets_its_optimality_conditions(seed):
    """Free weights share one shift tau; what is at a limit would cross it under that shift."""
    values, lower, upper, total = random_projection(np.random.default_rng(seed))
    w = project(values, lower, upper, total)
    assert (w >= lower).all() and (w <= upper).all()
    assert w.sum() == pytest.approx(total, abs=1e-12)
    shift, gap = values - w, 1e-9
    at_lower, at_upper = w <= lower + 1e-12, w >= upper - 1e-12
    least = shift[~at_lower].min(initial=np.inf)  # what is above its lower limit was shifted by tau at least
    most = shift[~at_upper].max(initial=-np.inf)  # what is below its upper limit was shifted by tau at most
    assert most <= least + gap
    np.testing.assert_allclose(w, project_by_breakpoints(values.tolist(), lower, upper, total), rtol=0, atol=1e-11)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.integers(0, 100))
def test_projection_of_an_allowed_portfolio_is_itself(values, seed):
    n = len(values)
    inside = np.random.default_rng(seed).dirichlet(np.ones(n))
    np.testing.assert_allclose(project(inside, np.zeros(n), np.ones(n), 1.0), inside, rtol=0, atol=1e-15)
    once = project(values, np.zeros(n), np.full(n, 0.8), 1.0)
    np.testing.assert_allclose(project(once, np.zeros(n), np.full(n, 0.8), 1.0), once, rtol=0, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    field=st.sampled_from(["proportional", "slippage", "impact", "fixed"]),
    low=st.floats(0.0, 0.1),
    more=st.floats(1e-6, 0.1),
)
def test_dearer_costs_leave_less_wealth(seed, field, low, more):
    rng = np.random.default_rng(seed)
    drifted, target = rng.dirichlet(np.ones(5), 2)

    def left(value):
        rules = PortfolioConfig(costs=replace(CostModel(0.001, 0.001, 0.01, 0.001), **{field: value}), max_weight=1.0).rules(
            range(4)
        )
        return dynamics.settle(drifted, target, 1.0, *rules)[0]

    assert left(low + more) < left(low) < 1.0


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 1000), st.sampled_from(["target", "band"]))
def test_permuting_the_assets_permutes_the_results(order, seed, trade_to):
    rng = np.random.default_rng(seed)
    n, days, order = 5, 30, list(order)
    config = random_config(rng, n, trade_to=trade_to, execution_lag=0)
    returns = rng.normal(0.0, 0.02, (days + 1, n))
    common = returns.mean(axis=1), np.full(days + 1, 1e-4), rng.dirichlet(np.ones(4), days + 1)
    prices = make_prices(returns, *common)
    requests = random_actions(rng, days, n + 1) + 1e-9
    requests /= requests.sum(axis=1, keepdims=True)
    rules = config.rules(range(n))
    with_cash = [*order, n]
    plain = run(requests, prices, rules)
    moved = run(
        np.ascontiguousarray(requests[:, with_cash]),
        make_prices(returns[:, order], *common),
        rules._replace(assets=np.ascontiguousarray(rules.assets[:, order])),
    )
    np.testing.assert_allclose(moved[:, :RECORD_HEAD], plain[:, :RECORD_HEAD], rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        moved[:, RECORD_HEAD : RECORD_HEAD + n + 1], plain[:, RECORD_HEAD:][:, with_cash], rtol=0, atol=1e-11
    )


def run(requests, prices, rules, decides=None) -> np.ndarray:
    """Records of one portfolio through given targets, from the first row."""
    n_days, n = requests.shape
    decides = np.ones(n_days, dtype=bool) if decides is None else decides
    return run_targets(requests, decides, prices, rules, dynamics.new_state(1, n - 1)[0], np.array([0, n_days + 1]))


def flat_prices(returns):
    returns = np.vstack([np.zeros_like(returns[:1]), returns]).astype(np.float64)
    days = len(returns)
    return make_prices(returns, np.zeros(days), np.zeros(days), np.tile([1.0, 0.0, 0.0, 0.0], (days, 1)))


def gate_rules(**kwargs):
    chosen = dict(
        execution_lag=0, costs=FREE, max_weight=1.0, rebalance_threshold=0.03, exposure_threshold=0.08, max_holding_days=None
    )
    return PortfolioConfig(**{**chosen, **kwargs}).rules(range(2))


def test_gate_opens_on_drift_of_a_weight_and_not_before():
    still = np.zeros((3, 2))
    requests = np.array([[0.5, 0.3, 0.2], [0.5295, 0.2705, 0.2], [0.5305, 0.2695, 0.2]])
    records = run(requests, flat_prices(still), gate_rules())
    assert records[:, REBALANCED].tolist() == [1, 0, 1]
    np.testing.assert_allclose(records[1, RECORD_HEAD : RECORD_HEAD + 3], [0.5, 0.3, 0.2], atol=1e-15)
    np.testing.assert_allclose(records[2, RECORD_HEAD : RECORD_HEAD + 3], [0.5305, 0.2695, 0.2], atol=1e-15)


def test_gate_opens_on_drift_of_the_exposure_and_not_before():
    """Every weight moves by less than its own threshold, so that only the sum can open the gate."""
    requests = np.array([[0.4, 0.3, 0.3], [0.425, 0.325, 0.25], [0.428, 0.329, 0.243]])
    still = flat_prices(np.zeros((3, 2)))
    assert run(requests, still, gate_rules(exposure_threshold=0.055))[:, REBALANCED].tolist() == [1, 0, 1]
    assert run(requests, still, gate_rules(exposure_threshold=0.06))[:, REBALANCED].tolist() == [1, 0, 0]


def test_gate_opens_after_the_longest_holding_time():
    requests = np.tile([0.4, 0.3, 0.3], (8, 1))
    records = run(requests, flat_prices(np.tile([1e-3, -1e-3], (8, 1))), gate_rules(max_holding_days=3))
    assert records[:, REBALANCED].tolist() == [1, 0, 0, 1, 0, 0, 1, 0]
    assert ((records[:, TURNOVER] > 0) == (records[:, REBALANCED] > 0)).all()


def test_what_is_held_already_is_no_trade_and_costs_no_fee():
    requests = np.tile([0.4, 0.3, 0.3], (5, 1))
    rules = gate_rules(max_holding_days=1, costs=CostModel(fixed=0.01))
    records = run(requests, flat_prices(np.zeros((5, 2))), rules)
    assert records[:, REBALANCED].tolist() == [1, 0, 0, 0, 0]
    assert (records[1:, [TURNOVER, COST]] == 0).all() and records[0, COST] > 0.01
    all_cash = run(np.tile([0.0, 0.0, 1.0], (3, 1)), flat_prices(np.zeros((3, 2))), rules)
    assert (all_cash[:, [TURNOVER, COST, REBALANCED]] == 0).all()


def test_gate_stays_shut_on_days_without_a_decision():
    drift = np.tile([0.1, -0.1], (6, 1))
    decides = np.array([True, False, False, False, True, False])
    records = run(np.tile([0.5, 0.5, 0.0], (6, 1)), flat_prices(drift), gate_rules(max_holding_days=2), decides)
    assert records[:, REBALANCED].tolist() == [1, 0, 0, 0, 1, 0]


def test_smoothing_is_an_exponential_average_of_targets():
    requests = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    records = run(requests, flat_prices(np.zeros((3, 2))), gate_rules(target_smoothing=3))
    targets = records[:, RECORD_HEAD + 3 :]
    np.testing.assert_allclose(targets, [[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.75, 0]], atol=1e-15)


def test_band_mode_trades_less_and_lands_inside_the_band_and_the_caps(make_market):
    market, thresholds = make_market(600, 6, 8), dict(rebalance_threshold=0.02, exposure_threshold=0.03)
    chosen = dict(split="all", episode_length=None, max_weight=0.22, max_holding_days=None, **thresholds)
    traded = {}
    for mode in ("target", "band"):
        core, row = start(market, PortfolioConfig(trade_to=mode, **chosen))
        rng, total = np.random.default_rng(1), 0.0
        actions = np.exp(0.1 * rng.standard_normal((core.clock[0, 1] - 1 - row, 7)).cumsum(axis=0))
        for day, action in enumerate(actions):
            core.step(action[None])
            record = core.records[0]
            held, target = record[RECORD_HEAD : RECORD_HEAD + 7], record[RECORD_HEAD + 7 :]
            if day:
                total += record[TURNOVER]
            if record[REBALANCED]:
                assert (held[:6] <= 0.22 + 1e-9).all()
                assert np.abs(held - target)[:6].max() <= 0.02 + 1e-9 and abs(held[6] - target[6]) <= 0.03 + 1e-9
        traded[mode] = total
    assert traded["band"] < 0.8 * traded["target"]


def test_band_edge_is_the_nearest_allowed_point():
    """0.40 is 7 points above its target of 0.33: it is sold to 0.35, and no further."""
    requests = np.array([[0.4, 0.3, 0.3], [0.33, 0.3, 0.37]])
    rules = gate_rules(trade_to="band", rebalance_threshold=0.02, exposure_threshold=0.05)
    records = run(requests, flat_prices(np.zeros((2, 2))), rules)
    np.testing.assert_allclose(records[1, RECORD_HEAD : RECORD_HEAD + 3], [0.35, 0.32, 0.33], atol=1e-14)


@pytest.mark.parametrize("trade_to", ["target", "band"])
def test_decision_interval_equals_that_many_days_replayed(make_market, trade_to):
    market, rng = make_market(400, 5, 4), np.random.default_rng(4)
    config = random_config(rng, 5, trade_to=trade_to, decision_interval=5, target_smoothing=3)
    core, _ = start(market, config)
    daily, _ = start(market, config)
    state, clock = daily.state[0].copy(), daily.clock[0].copy()
    for action in random_actions(rng, 60, 6):
        core.step(action[None])
        days = min(5, int(clock[1] - 1 - clock[0]))
        decides = np.arange(days) == 0
        requests = np.tile(core.requests[0], (days, 1))
        records = run_targets(requests, decides, core.prices, core.rules, state, clock)
        np.testing.assert_array_equal(core.state[0], state)
        np.testing.assert_array_equal(core.clock[0, :2], clock[:2])
        step = core.records[0]
        np.testing.assert_allclose(step[TERMS:RECORD_HEAD], records[:, TERMS:RECORD_HEAD].sum(axis=0), rtol=0, atol=1e-13)
        np.testing.assert_allclose(core.records[0, REWARD], records[:, TERMS:RECORD_HEAD].sum(), rtol=0, atol=1e-13)
        np.testing.assert_allclose(step[[TURNOVER, COST]], records[:, [TURNOVER, COST]].sum(axis=0), rtol=0, atol=1e-15)
        for column in (PORTFOLIO_RETURN, BENCHMARK_RETURN):
            np.testing.assert_allclose(1 + step[column], (1 + records[:, column]).prod(), rtol=1e-14)
        if core.records[0, ENDED] != RUNNING:
            assert days == (core.windows[0][1] - core.windows[0][0] - 1) % 5 + 1
            return
    raise AssertionError("the episode did not end")


def test_ruin_terminates_and_does_not_truncate(make_market):
    calm = make_market(330, 2, 2)
    returns = calm.returns.copy()
    returns[140] = -1.0  # everything is lost at row 140
    market = type(calm)(calm.dates, calm.assets, returns, calm.benchmark_returns)
    core, row = start(market, PortfolioConfig(split="all", episode_length=None, max_weight=1.0, max_holding_days=None))
    while row < 140:
        core.step(np.array([[0.5, 0.5, 0.0]]))
        row += 1
        assert core.records[0, ENDED] == (TERMINATED if row == 140 else RUNNING)
    assert core.state[0, WEALTH] == 0.0
    assert np.isfinite(core.records[0, REWARD])
    assert core.records[0, PORTFOLIO_RETURN] == -1.0


def test_ruin_by_fees_costs_no_more_than_there_is(make_market):
    """Conservation holds on the last day too: the cost of a trade is at most the wealth before it."""
    core, _ = start(
        make_market(330, 2, 2), PortfolioConfig(split="all", costs=CostModel(fixed=0.2), max_weight=1.0, max_holding_days=1)
    )
    for _ in range(6):
        core.step(np.array([[0.5, 0.5, 0.0]]))
        assert 0.0 <= core.records[0, COST] <= 1.0
        if core.records[0, ENDED] != RUNNING:
            break
    assert core.records[0, ENDED] == TERMINATED


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_weights_stay_on_simplex_and_wealth_finite_under_extreme_returns(seed):
    rng = np.random.default_rng(seed)
    n, days = int(rng.integers(2, 9)), 40
    returns = np.where(
        rng.uniform(size=(days + 1, n)) < 0.05, rng.uniform(-0.95, 5.0, (days + 1, n)), rng.normal(0, 0.03, (days + 1, n))
    )
    prices = make_prices(returns, returns.mean(axis=1), rng.normal(0, 1e-4, days + 1), rng.dirichlet(np.ones(4), days + 1))
    requests = rng.dirichlet(np.full(n + 1, 0.3), days)
    records = run(requests, prices, random_config(rng, n, execution_lag=0).rules(range(n)))
    assert np.isfinite(records).all()
    for weights in (records[:, RECORD_HEAD : RECORD_HEAD + n + 1], records[:, RECORD_HEAD + n + 1 :]):
        assert weights.min() >= 0.0
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=0, atol=1e-12)
