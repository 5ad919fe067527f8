"""How much is put at risk: the timing rule and Kelly, by their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantflux_sb3.market import WARMUP_DAYS, MarketData
from quantflux_sb3.pool import MarketPool
from quantflux_sb3.regimes import detect_regimes
from quantflux_sb3.sizing import KellyRule, TimingRule, VolatilityRule

ROWS = np.array([WARMUP_DAYS, 180, 250, 319])


def random_weights(n_rows: int, n_assets: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(n_assets), n_rows)


def plain_kelly(market, row, weights, horizons, shrinkage) -> float:
    """Mean over the look-backs of shrunk mean / variance of what the weights would have earned over cash."""
    fractions = []
    for days in horizons:
        window = slice(row - days + 1, row + 1)
        excess = market.returns[window] @ weights - market.risk_free[window]
        fractions.append(excess.mean() * days / (days + shrinkage) / excess.var())
    return float(np.mean(fractions))


@pytest.mark.parametrize("shrinkage", [0.0, 126.0])
def test_kelly_is_shrunk_mean_over_variance_on_its_windows(market, shrinkage):
    rule = KellyRule(horizons=(20, 63, 126), fraction=1e-3, shrinkage=shrinkage, min_exposure=0.0)
    weights = random_weights(len(ROWS), market.n_assets)
    exposure = rule.exposure(MarketPool.of(market), ROWS, weights)
    plain = [plain_kelly(market, row, w, (20, 63, 126), shrinkage) for row, w in zip(ROWS, weights, strict=True)]
    expected = np.clip(1e-3 * np.array(plain), 0.0, 1.0)
    np.testing.assert_allclose(exposure, expected, rtol=1e-9, atol=1e-15)
    assert 0.0 < expected.max() < 1.0  # the bounds did not decide everything


def test_kelly_with_vanishing_shrinkage_is_plain_kelly(market):
    pool, weights = MarketPool.of(market), random_weights(len(ROWS), market.n_assets)
    plain = KellyRule(fraction=1e-3, shrinkage=0.0, min_exposure=0.0).exposure(pool, ROWS, weights)
    gaps = [
        np.abs(KellyRule(fraction=1e-3, shrinkage=s, min_exposure=0.0).exposure(pool, ROWS, weights) - plain).max()
        for s in (100.0, 1.0, 1e-6)
    ]
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-9


def test_kelly_does_not_depend_on_the_exposure_asked_for(market):
    pool, weights = MarketPool.of(market), random_weights(len(ROWS), market.n_assets)
    rule = KellyRule(fraction=0.05, min_exposure=0.0)
    np.testing.assert_allclose(rule.exposure(pool, ROWS, 0.2 * weights), rule.exposure(pool, ROWS, weights), rtol=1e-9)


def test_kelly_by_portfolio_variance_equals_the_covariance_formula(bundled):
    """w'm / w'Sw with the full covariance of the window."""
    row, days, w = 3000, 126, random_weights(1, bundled.n_assets)[0]
    window = bundled.returns[row - days + 1 : row + 1]
    expected = (w @ window.mean(axis=0)) / (w @ np.cov(window.T, bias=True) @ w)
    rule = KellyRule(horizons=(days,), fraction=1e-2, shrinkage=0.0, min_exposure=0.0)
    exposure = rule.exposure(MarketPool.of(bundled), np.array([row]), w[None])
    assert expected > 0.0
    assert exposure[0] == pytest.approx(1e-2 * expected, rel=1e-9)


def test_volatility_rule_by_its_definition(market):
    """Target over the exponentially weighted root mean square of what the weights would have earned."""
    pool, weights = MarketPool.of(market), random_weights(len(ROWS), market.n_assets)
    exposure = VolatilityRule(target_volatility=0.12, halflife=10.0).exposure(pool, ROWS, 0.5 * weights)
    shares = 0.5 ** (np.arange(126) / 10.0)
    for row, w, found in zip(ROWS, weights, exposure, strict=True):
        squares = (market.returns[row - 125 : row + 1] @ w)[::-1] ** 2
        assert found == pytest.approx(min(0.12 / np.sqrt(252 * (shares @ squares) / shares.sum()), 1.0), rel=1e-12)
    assert 0.2 < exposure.min() < exposure.max() <= 1.0
    assert (VolatilityRule(target_volatility=1e-6, min_exposure=0.3).exposure(pool, ROWS, weights) == 0.3).all()
    with pytest.raises(ValueError, match="halflife > 0"):
        VolatilityRule(halflife=0.0)


def falling_market() -> MarketData:
    returns = np.random.default_rng(0).normal(-0.01, 0.001, (200, 2))
    dates = np.arange("2000-01-01", "2000-07-19", dtype="datetime64[D]")
    return MarketData(dates, ("A", "B"), returns, returns.mean(axis=1))


@pytest.mark.parametrize("least", [0.0, 0.25, 0.6])
def test_kelly_keeps_its_least_exposure_when_everything_falls(least):
    exposure = KellyRule(min_exposure=least).exposure(MarketPool.of(falling_market()), np.array([150]), np.array([[0.5, 0.5]]))
    assert exposure.tolist() == [least]


def test_timing_rule_by_its_definition_at_given_rows(market):
    rule = TimingRule(regime_exposure=(0.9, 0.2, 0.4, 0.7), target_volatility=0.12, volatility_halflife=15.0)
    probs = detect_regimes(market).probs
    keep = 0.5 ** (1.0 / 15.0)
    for row in ROWS:
        variance = 0.12**2 / 252
        for r in market.benchmark_returns[: row + 1]:
            variance = keep * variance + (1.0 - keep) * np.log1p(r) ** 2
        expected = min(probs[row] @ [0.9, 0.2, 0.4, 0.7], 0.12 / np.sqrt(252 * variance))
        exposure = rule.exposure(MarketPool.of(market), np.array([row]), np.ones((1, 4)))
        assert exposure[0] == pytest.approx(expected, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 2.0), st.floats(2.0, 200.0), st.floats(0.0, 1.0))
def test_timing_exposure_stays_within_its_bounds(market, target, halflife, least):
    table = TimingRule(target_volatility=target, volatility_halflife=halflife, min_exposure=least).table(market)
    assert table.min() >= least and table.max() <= 1.0


def test_timing_reacts_to_volatility_and_regime(bundled):
    table, dates = TimingRule().table(bundled), bundled.dates
    calm = table[(dates >= np.datetime64("2017-01-01")) & (dates <= np.datetime64("2017-12-31"))].mean()
    crisis = table[(dates >= np.datetime64("2008-10-01")) & (dates <= np.datetime64("2009-03-31"))].mean()
    assert calm > 0.95 and crisis < 0.5


@pytest.mark.parametrize("row", [WARMUP_DAYS, 200, 318])
def test_sizing_sees_no_future(market, change_future, row):
    known = np.arange(WARMUP_DAYS, row)
    weights = random_weights(len(known), market.n_assets)
    for rule in (TimingRule(), KellyRule(fraction=0.02, min_exposure=0.0)):
        full = rule.exposure(MarketPool.of(market), known, weights)
        for other in (market.window(0, row), change_future(market, row)):
            np.testing.assert_array_equal(rule.exposure(MarketPool.of(other), known, weights), full)


@pytest.mark.parametrize("rule", [TimingRule(target_volatility=0.05), KellyRule(fraction=0.02, min_exposure=0.0)])
def test_sizing_does_see_its_own_row(market, change_future, rule):
    rows, weights = np.arange(200, 319), random_weights(119, market.n_assets)
    full = rule.exposure(MarketPool.of(market), rows, weights)
    moved = [
        abs(rule.exposure(MarketPool.of(change_future(market, row)), np.array([row]), weights[i : i + 1])[0] - full[i])
        for i, row in enumerate(rows[:10])
    ]
    assert max(moved) > 1e-4


def test_two_markets_in_one_pool_are_sized_apart(market, make_market):
    other = make_market(seed=9, exogenous=True)
    pool, rows = MarketPool.of([market, other]), ROWS
    weights = random_weights(len(rows), market.n_assets)
    for rule in (TimingRule(), KellyRule(fraction=0.02, min_exposure=0.0)):
        np.testing.assert_array_equal(rule.exposure(pool, rows, weights), rule.exposure(MarketPool.of(market), rows, weights))
        second = rule.exposure(pool, rows + market.n_days, weights)
        np.testing.assert_array_equal(second, rule.exposure(MarketPool.of(other), rows, weights))


@pytest.mark.parametrize(
    ("rule", "settings", "said"),
    [
        (TimingRule, dict(regime_exposure=(1.0, 0.5)), "`regime_exposure`"),
        (TimingRule, dict(regime_exposure=(1.0, 0.5, 1.5, 1.0)), "`regime_exposure`"),
        (TimingRule, dict(target_volatility=0.0), "`target_volatility`"),
        (TimingRule, dict(volatility_halflife=float("nan")), "`volatility_halflife`"),
        (TimingRule, dict(min_exposure=2.0), "`min_exposure`"),
        (KellyRule, dict(horizons=()), "`horizons`"),
        (KellyRule, dict(horizons=(1, 30)), "`horizons`"),
        (KellyRule, dict(horizons=(30, WARMUP_DAYS + 1)), "`horizons`"),
        (KellyRule, dict(fraction=0.0), "fraction > 0"),
        (KellyRule, dict(shrinkage=-1.0), "shrinkage >= 0"),
        (KellyRule, dict(min_exposure=1.1), "min_exposure in"),
    ],
)
def test_bad_settings_are_refused_by_name(rule, settings, said):
    with pytest.raises(ValueError, match=said):
        rule(**settings)
