"""Baselines: each by its definition, none with a look ahead, and figures of real stocks that were computed elsewhere."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import skfolio.optimization

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.evaluation.backtest import backtest_rule
from quantflux_sb3.evaluation.baselines import BASE_RULE, BASELINES, EQUAL_WEIGHT, MIN_OF_BOTH, baseline_rules, run_baselines
from quantflux_sb3.evaluation.decisions import NoWeights, WeightRule, decide_by_rule
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.evaluation.weights import SkfolioWeights, equal_weights, momentum_weights
from quantflux_sb3.market import WARMUP_DAYS, DateSplits, load_bundled
from quantflux_sb3.sizing import KellyRule, TimingRule

FAST = (
    EQUAL_WEIGHT,
    "equal weight monthly",
    "buy and hold",
    "inverse volatility",
    "momentum 12-1",
    "volatility target",
    "Kelly",
)
#: Once a month everything is computed anew and traded to its target.
MONTHLY = PortfolioConfig(rebalance_threshold=1.0, exposure_threshold=1.0, max_holding_days=21)
SIX = ("AAPL", "MSFT", "JPM", "XOM", "WMT", "PG")
#: The figures earn 2000 to 2022; what came before is history.
FROM_2000 = DateSplits("1998-12-31", "1999-12-31")


def rule_named(name, max_weight=1.0, **changes):
    return replace(baseline_rules(max_weight, TimingRule(), [name])[-1], **changes)


def figures(name, market, config, **changes):
    return performance(backtest_rule(rule_named(name, 0.25, **changes), market, "test", config))


@pytest.fixture(scope="module")
def stocks_2000(all_stocks):
    return replace(all_stocks, splits=FROM_2000)


@pytest.mark.parametrize(
    ("name", "sharpe"),
    [("equal weight", 0.73), ("buy and hold", 0.66), ("inverse volatility", 0.69), ("HRP", 0.69), ("volatility target", 0.82)],
)
def test_figures_computed_elsewhere_on_twenty_stocks(stocks_2000, name, sharpe):
    """2000-2022, 10 bp on traded value, the default gate."""
    found = figures(name, stocks_2000, PortfolioConfig())
    assert found["sharpe_ratio"] == pytest.approx(sharpe, abs=0.02)
    if name == EQUAL_WEIGHT:
        assert found["max_drawdown"] == pytest.approx(0.48, abs=0.01)


@pytest.mark.parametrize(
    ("name", "sharpe"),
    [("equal weight monthly", 0.72), ("inverse volatility", 0.69), ("HRP", 0.69), ("minimum variance", 0.64)],
)
def test_figures_computed_elsewhere_of_monthly_strategies(stocks_2000, name, sharpe):
    """The same without a gate: traded once a month, fitted on two years."""
    assert figures(name, stocks_2000, MONTHLY, lookback=504)["sharpe_ratio"] == pytest.approx(sharpe, abs=0.02)


@pytest.mark.parametrize(("name", "sharpe"), [("equal weight", 0.68), ("volatility target", 0.84)])
def test_figures_computed_elsewhere_on_six_stocks(name, sharpe):
    market = replace(load_bundled(SIX), splits=FROM_2000)
    assert figures(name, market, PortfolioConfig())["sharpe_ratio"] == pytest.approx(sharpe, abs=0.02)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("name", [BASE_RULE, *BASELINES])
def test_no_baseline_looks_ahead(market, change_future, name, lag):
    """Requests are the same bits until the first decision that may know a changed row; then they differ."""
    rule = baseline_rules(0.6, TimingRule(), [name])[0 if name == BASE_RULE else -1]
    if rule.refit_days == 21:
        rule = replace(rule, refit_days=10, decision_days=min(rule.decision_days, 10))
    if name == "Kelly":
        rule = replace(rule, sizing=KellyRule(fraction=0.05, min_exposure=0.0))  # or it stands at its bounds
    row = WARMUP_DAYS + 95
    config = PortfolioConfig(split="all", episode_length=None, execution_lag=lag, max_weight=0.6)

    def requests(of):
        core = PortfolioCore(1, of, config)
        core.begin(0, WARMUP_DAYS + 1, of.n_days)
        return decide_by_rule(rule, core).requests

    full, changed = requests(market), requests(change_future(market, row))
    first = row + lag - WARMUP_DAYS  # of the decisions that know the changed row
    np.testing.assert_array_equal(changed[:first], full[:first])
    moves = np.abs(changed[first:] - full[first:]).max()
    assert moves == 0.0 if name in (EQUAL_WEIGHT, "equal weight monthly", "buy and hold") else moves > 1e-6


def test_momentum_by_hand():
    history = np.zeros((252, 4))
    history[0], history[230], history[231:] = [0.1, 0.0, 0.0, 0.0], [0.0, 0.05, 0.2, -0.1], [[-0.5, 0.5, -0.5, 0.9]]
    np.testing.assert_array_equal(momentum_weights(history), [0.5, 0.0, 0.5, 0.0])
    np.testing.assert_array_equal(momentum_weights(history[:, :3]), [0.5, 0.0, 0.5])


@pytest.fixture
def history(bundled):
    return bundled.returns[3000:3252]


def test_fitted_weights_by_their_definitions(history):
    """Stationarity of each problem, at the solver's accuracy; the minimum variance is not below what its cap allows."""
    covariance, mean = np.cov(history.T), history.mean(axis=0)
    weights = {
        name: rule_named(name).weights(history)
        for name in ("inverse volatility", "risk parity", "minimum variance", "maximum Sharpe")
    }
    inverse = 1.0 / history.std(axis=0)
    np.testing.assert_allclose(weights["inverse volatility"], inverse / inverse.sum(), rtol=0, atol=1e-12)
    shares = weights["risk parity"] * (covariance @ weights["risk parity"])
    np.testing.assert_allclose(shares / shares.sum(), 1 / 6, rtol=0, atol=1e-4)
    gradient, held = covariance @ weights["minimum variance"], weights["minimum variance"] > 1e-4
    np.testing.assert_allclose(gradient[held], gradient[held].mean(), rtol=1e-3)
    assert (gradient[~held] > gradient[held].mean()).all()
    others = np.random.default_rng(0).dirichlet(np.full(6, 0.3), 20_000)
    ratios = (others @ mean) / np.sqrt(np.einsum("ni,ij,nj->n", others, covariance, others))
    best = weights["maximum Sharpe"]
    assert ratios.max() <= best @ mean / np.sqrt(best @ covariance @ best) * (1 + 1e-6)


def test_caps_reach_the_optimisers(history):
    limits = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    for name in ("minimum variance", "maximum Sharpe", "HRP"):
        weights = rule_named(name, limits).weights(history)
        assert (weights <= limits + 1e-6).all() and weights.sum() == pytest.approx(1.0), name


def test_assets_that_stand_still_get_nothing(history):
    """They are not listed yet, or suspended."""
    still = np.where(np.arange(6) < 2, 0.0, history)
    for name in ("inverse volatility", "minimum variance", "HRP"):
        weights = rule_named(name, 0.25).weights(still)
        assert (weights[:2] == 0.0).all() and weights.sum() == pytest.approx(1.0), name
    with pytest.raises(NoWeights, match="no asset moved"):
        rule_named("HRP").weights(0.0 * history)


def test_any_optimiser_of_skfolio_by_its_dotted_name(bundled, history):
    name = "skfolio.optimization.MaximumDiversification"
    expected = skfolio.optimization.MaximumDiversification(max_weights=0.25).fit(history).weights_
    np.testing.assert_allclose(SkfolioWeights(name, 0.25)(history), expected, rtol=0, atol=1e-12)
    results = run_baselines(bundled, "validation", PortfolioConfig(), names=[name])
    assert [result.name for result in results] == [BASE_RULE, EQUAL_WEIGHT, name, "SP500"]


@pytest.mark.parametrize("name", ["skfolio.optimization.Nothing", "no.such.module", "pathlib.Path", "skfolio."])
def test_names_that_are_no_optimisers_are_refused(name):
    with pytest.raises(ValueError, match="is no optimiser of skfolio's kind; expected a name such as"):
        baseline_rules(names=[name])


def test_mistaken_names_and_arguments_are_refused():
    with pytest.raises(ValueError, match="There is no baseline 'momentun'; expected some of"):
        baseline_rules(names=["momentun"])
    with pytest.raises(ValueError, match=r"takes no \['risk_aversio'\]"):
        SkfolioWeights("MeanRisk", risk_aversio=1.0)
    with pytest.raises(ValueError, match="`refit_days` of 'x' must be a whole number of days >= 1; got 0"):
        WeightRule("x", equal_weights, refit_days=0)


def test_default_set_has_every_strategy_once():
    for timing in (None, TimingRule(), TimingRule(target_volatility=0.1)):
        names = [rule.name for rule in baseline_rules(timing=timing)]
        assert names[:2] == [BASE_RULE, EQUAL_WEIGHT] and len(set(names)) == len(names)
        assert set(BASELINES) - set(names) == ({MIN_OF_BOTH} if timing == TimingRule() else set())
    both = [rule.sizing for rule in baseline_rules(timing=TimingRule(), names=[BASE_RULE, MIN_OF_BOTH])]
    assert both == [TimingRule(), None, TimingRule()]


def giving_up_at(refits):
    """Weights that tell the number of the refit, but for some refits."""
    calls = iter(range(1_000))

    def weights(history):
        call = next(calls)
        if call in refits:
            raise NoWeights("no solution")
        return np.full(history.shape[1], 0.001 * (call + 1))

    return weights


def test_last_weights_are_kept_when_a_refit_fails(market, caplog):
    core = PortfolioCore(1, market, PortfolioConfig(split="all", episode_length=None, max_weight=1.0))
    core.begin(0, WARMUP_DAYS + 1, market.n_days)
    with caplog.at_level(logging.WARNING):
        decisions = decide_by_rule(WeightRule("shaky", giving_up_at({0, 3, 4}), refit_days=10), core)
    held = decisions.requests[:70:10, 0]
    np.testing.assert_allclose(held, [0.0, 0.002, 0.003, 0.003, 0.003, 0.006, 0.007], rtol=0, atol=1e-12)
    assert decisions.requests[0, -1] == 1.0
    (record,) = caplog.records
    known = market.dates[WARMUP_DAYS - 1]
    assert (
        record.getMessage() == f"'shaky' found no weights on 3 of its 20 refits, and kept the last ones; {known}: no solution"
    )


def test_a_rule_that_never_finds_weights_is_refused(market):
    rule = WeightRule("hopeless", giving_up_at(range(1_000)), refit_days=10)
    with pytest.raises(ValueError, match=r"'hopeless' found no weights on any of its 20 refits; .*no solution"):
        backtest_rule(rule, market, "all", PortfolioConfig(max_weight=1.0))


def test_a_solver_that_fails_is_no_weights(history):
    with pytest.raises(NoWeights, match=r"ConvexOptimizationError|ValueError"):
        rule_named("maximum Sharpe").weights(history - 0.02)  # no asset beats cash: there is no best ratio


def test_monthly_decisions_trade_on_their_days_only(bundled):
    result = backtest_rule(rule_named("equal weight monthly"), bundled, "test", MONTHLY)
    np.testing.assert_array_equal(np.flatnonzero(result.rebalanced), np.arange(0, len(result.dates), 21))


def test_dearer_costs_lower_the_wealth_of_every_baseline(bundled):
    names = (*FAST, "minimum variance")
    cheap, dear = (run_baselines(bundled, "validation", PortfolioConfig(costs=c), TimingRule(), names) for c in (0.0, 0.003))
    assert [result.name for result in cheap] == [BASE_RULE, *names, "SP500"]
    for low, high in zip(cheap[:-1], dear[:-1], strict=True):
        assert high.wealth[-1] < low.wealth[-1], low.name
    assert cheap[-1].wealth[-1] == dear[-1].wealth[-1]


def test_no_baseline_exceeds_the_cap_when_it_trades(bundled):
    cap = (0.2, 0.3, 0.4, 0.5, 0.6, 0.2)
    results = run_baselines(bundled, "validation", PortfolioConfig(max_weight=cap))
    assert [result.name for result in results] == [BASE_RULE, *BASELINES, "SP500"]
    for result in results[:-1]:
        assert (result.weights[result.rebalanced, :-1] <= np.asarray(cap) + 1e-9).all(), result.name


def test_an_index_never_takes_the_name_of_a_strategy(make_market):
    for name in ("equal weight", "agent", "base rule"):
        market = replace(make_market(400, 4, 1), benchmark=name)
        names = [result.name for result in run_baselines(market, "all", PortfolioConfig(max_weight=1.0), names=FAST)]
        assert len(set(names)) == len(names) and names[-1] == f"{name} (index)"


def test_backtests_share_no_arrays(bundled):
    first, second = run_baselines(bundled, "validation", PortfolioConfig(), names=["buy and hold"])[1:3]
    for name in ("weights", "returns", "asset_returns", "benchmark_returns", "risk_free", "turnover", "costs"):
        assert not np.shares_memory(getattr(first, name), getattr(second, name)), name
        assert not np.shares_memory(getattr(first, name), bundled.returns), name
