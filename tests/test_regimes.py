"""Regimes: probabilities, labels, causality."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantflux_sb3.regimes import (
    BEAR,
    BULL,
    REGIMES,
    SIDEWAYS,
    VOLATILE,
    RegimeTable,
    RuleRegimes,
    detect_regimes,
    sticky_filter,
)


def hamilton(log_likelihoods: np.ndarray, stay: float) -> list[np.ndarray]:
    """The textbook forward pass with its transition matrix: predict, then update (Hamilton 1989, eq. 4.5-4.6)."""
    n = log_likelihoods.shape[1]
    transition = np.full((n, n), (1 - stay) / (n - 1)) + np.eye(n) * (stay - (1 - stay) / (n - 1))
    rows, current = [], np.full(n, 1 / n)
    for row in log_likelihoods:
        joint = (current @ transition) * np.exp(row)
        current = joint / joint.sum()
        rows.append(current)
    return rows


@pytest.mark.parametrize("n_regimes", [2, 4, 5])
def test_sticky_filter_equals_textbook_loop(n_regimes):
    log_likelihoods = np.random.default_rng(n_regimes).normal(0.0, 2.0, (500, n_regimes))
    for stay in (0.6, 0.98, 0.999):
        np.testing.assert_allclose(
            sticky_filter(log_likelihoods, stay), hamilton(log_likelihoods, stay), rtol=1e-9, atol=1e-13
        )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 0.3))
def test_probabilities_are_on_the_simplex(seed, scale):
    rng = np.random.default_rng(seed)
    returns = np.maximum(scale * rng.standard_t(2, 300), -1.0)
    probs = RuleRegimes().detect(returns).probs
    assert probs.min() >= 0.0
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=0, atol=1e-12)


def test_a_market_that_stands_still_has_regimes_too():
    probs = RuleRegimes().detect(np.zeros(400)).probs
    assert np.isfinite(probs).all() and probs[-1].argmax() == SIDEWAYS


@pytest.mark.parametrize("row", [1, 60, 200, 399])
def test_later_rows_change_no_earlier_probability(row):
    rng = np.random.default_rng(1)
    returns = rng.normal(0.0003, 0.012, 400)
    full = RuleRegimes().detect(returns).probs
    np.testing.assert_array_equal(RuleRegimes().detect(returns[:row]).probs, full[:row])
    changed = returns.copy()
    changed[row:] *= rng.uniform(-5.0, 5.0, 400 - row)
    other = RuleRegimes().detect(changed).probs
    np.testing.assert_array_equal(other[:row], full[:row])
    assert np.abs(other[row] - full[row]).max() > 1e-6  # the row itself does matter


def test_regimes_of_the_bundled_index_are_causal(bundled):
    cut = 5000
    np.testing.assert_array_equal(detect_regimes(bundled.window(0, cut)).probs, detect_regimes(bundled).probs[:cut])


def phase(rng, days, drift, volatility):
    noise = rng.standard_normal(days)
    return drift + volatility * (noise - noise.mean())


def test_simulated_phases_get_their_labels():
    """A calm rise, a slide at raised volatility, wild swings without direction, and nothing at all, 250 days each."""
    rng = np.random.default_rng(7)
    phases = {
        BULL: phase(rng, 250, 0.0010, 0.007),
        BEAR: phase(rng, 250, -0.0030, 0.013),
        VOLATILE: phase(rng, 250, 0.0, 0.028),
        SIDEWAYS: phase(rng, 250, 0.0, 0.005),
    }
    labels = RuleRegimes().detect(np.concatenate([phase(rng, 500, 0.0003, 0.010), *phases.values()])).labels[500:]
    for number, regime in enumerate(phases):
        settled = labels[250 * number + 80 : 250 * (number + 1)]
        assert np.mean(settled == regime) > 0.8, (REGIMES[regime], np.bincount(settled, minlength=4))


def test_known_years_of_the_index_get_their_labels(bundled):
    labels, dates = detect_regimes(bundled).labels, bundled.dates

    def share(regimes, first, last):
        span = (dates >= np.datetime64(first)) & (dates <= np.datetime64(last))
        return np.isin(labels[span], regimes).mean()

    assert share([BEAR, VOLATILE], "2008-09-15", "2009-03-31") > 0.95
    assert share([BEAR, VOLATILE], "2020-03-01", "2020-04-30") > 0.95
    assert share([BULL, SIDEWAYS], "2017-01-01", "2017-12-31") > 0.95
    switches = detect_regimes(bundled).switches_per_year
    assert 3.0 < switches < 20.0


def test_days_in_regime_equal_a_plain_loop():
    labels = np.random.default_rng(2).integers(0, 4, 60).repeat(np.random.default_rng(3).integers(1, 9, 60))
    table = RegimeTable(np.eye(4)[labels])
    expected, days = [], -1
    for row, label in enumerate(labels):
        days = days + 1 if row and label == labels[row - 1] else 0
        expected.append(days)
    np.testing.assert_array_equal(table.days_in_regime, expected)
    np.testing.assert_array_equal(table.labels, labels)
    changes = sum(a != b for a, b in zip(labels[1:], labels[:-1], strict=True))
    assert table.switches_per_year == pytest.approx(changes / len(labels) * 252)


def test_a_wiser_filter_switches_less_often(bundled):
    loose, sticky = (RuleRegimes(stay=stay).detect(bundled.benchmark_returns) for stay in (0.9, 0.995))
    assert sticky.switches_per_year < 0.7 * loose.switches_per_year
