"""Fitted regime detectors: causality, what the fit sees, the recursions against slow readable versions, refusals."""

from dataclasses import replace
from functools import partial
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantflux_sb3.env import QuantFluxEnv
from quantflux_sb3.pool import MarketPool
from quantflux_sb3.regimes import (
    BEAR,
    BULL,
    SIDEWAYS,
    VOLATILE,
    HMMRegimes,
    JumpRegimes,
    RegimeTable,
    RuleRegimes,
    detect_walk_forward,
)
from quantflux_sb3.regimes.hidden_markov import (
    backward_smoother,
    em_step,
    first_guesses,
    forward_filter,
    gaussian_log_likelihoods,
    sticky_transition,
)
from quantflux_sb3.regimes.jump import JumpFeatures, cheapest_path, online_costs
from quantflux_sb3.regimes.table import name_states
from quantflux_sb3.testing import balanced_accuracy, four_regimes, hardy_regimes
from quantflux_sb3.wrappers import RegimeBlock, RegimeObservation

TRAIN = 1500
RETURNS, TRUTH = four_regimes().simulate(TRAIN + 1000, 50)
FITS = {
    "rules": lambda returns: RuleRegimes(),
    "hmm 4": HMMRegimes.fit,
    "hmm 2": partial(HMMRegimes.fit, n_regimes=2),
    "jump 4": JumpRegimes.fit,
    "jump 2": partial(JumpRegimes.fit, n_regimes=2),
}
DETECTORS = {name: fit(RETURNS[:TRAIN]) for name, fit in FITS.items()}
FITTED = [name for name in FITS if name != "rules"]
every_detector = pytest.mark.parametrize("detector", DETECTORS.values(), ids=DETECTORS)
every_fit = pytest.mark.parametrize("name", FITTED)


@every_detector
@pytest.mark.parametrize("row", [1, 2, 60, TRAIN, 2400])
def test_later_rows_change_nothing_before(detector, row):
    full = detector.detect(RETURNS)
    prefix = detector.detect(RETURNS[:row])
    np.testing.assert_array_equal(prefix.probs, full.probs[:row])
    np.testing.assert_array_equal(prefix.labels, full.labels[:row])
    np.testing.assert_array_equal(prefix.days_in_regime, full.days_in_regime[:row])
    changed = RETURNS.copy()
    changed[row:] = 0.04 * np.random.default_rng(row).standard_normal(len(RETURNS) - row)
    other = detector.detect(changed)
    np.testing.assert_array_equal(other.probs[:row], full.probs[:row])
    np.testing.assert_array_equal(other.labels[:row], full.labels[:row])
    assert np.abs(other.probs[row : row + 20] - full.probs[row : row + 20]).max() > 1e-3  # what comes does matter


@every_detector
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-6, 0.5))
def test_probabilities_are_on_the_simplex(detector, seed, scale):
    returns = np.maximum(scale * np.random.default_rng(seed).standard_t(2, 300), -1.0)
    probs = detector.detect(returns).probs
    assert probs.shape == (300, 4) and probs.min() >= 0.0
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=0, atol=1e-12)


@every_detector
def test_a_market_that_stands_still_is_calm(detector):
    table = detector.detect(np.zeros(400))
    assert np.isfinite(table.probs).all() and table.labels[-1] in (BULL, SIDEWAYS)


@every_fit
def test_fit_sees_only_what_it_is_given_and_repeats_itself(name):
    changed = RETURNS.copy()
    changed[TRAIN:] = -0.5
    assert FITS[name](changed[:TRAIN]) == DETECTORS[name]
    assert hash(FITS[name](RETURNS[:TRAIN].copy())) == hash(DETECTORS[name])
    assert FITS[name](RETURNS[: TRAIN - 1]) != DETECTORS[name]
    before = RETURNS[:TRAIN].copy()
    FITS[name](before)
    np.testing.assert_array_equal(before, RETURNS[:TRAIN])


@pytest.mark.parametrize("detector_class", [HMMRegimes, JumpRegimes])
def test_only_the_seed_moves_a_fit(detector_class):
    one_start = [detector_class.fit(RETURNS[:TRAIN], n_starts=1, seed=seed) for seed in (0, 1)]
    assert one_start[0] == one_start[1]  # the first guess is not drawn
    assert detector_class.fit(RETURNS[:TRAIN], seed=3) == detector_class.fit(RETURNS[:TRAIN], seed=3)


def test_forward_filter_equals_the_textbook_loop():
    rng = np.random.default_rng(0)
    likelihoods, transition = rng.normal(0.0, 2.0, (300, 4)), rng.dirichlet(np.ones(4), 4)
    expected, total, predicted = [], 0.0, np.full(4, 0.25)
    for row in likelihoods:
        joint = predicted * np.exp(row)
        total += np.log(joint.sum())
        expected.append(joint / joint.sum())
        predicted = expected[-1] @ transition
    probs, log_likelihood = forward_filter(likelihoods, transition)
    np.testing.assert_allclose(probs, expected, rtol=1e-9, atol=1e-13)
    assert log_likelihood == pytest.approx(total, rel=1e-12)


def test_filter_and_smoother_equal_the_sum_over_all_paths():
    rng = np.random.default_rng(1)
    likelihoods, transition = rng.normal(0.0, 1.0, (6, 2)), np.array([[0.9, 0.1], [0.3, 0.7]])
    weights = {}
    for path in product(range(2), repeat=6):
        moves = np.prod([transition[a, b] for a, b in pairwise(path)])
        weights[path] = 0.5 * moves * np.exp(sum(likelihoods[day, state] for day, state in enumerate(path)))
    whole = sum(weights.values())
    expected = [[sum(w for path, w in weights.items() if path[day] == k) / whole for k in range(2)] for day in range(6)]
    moves_expected = [
        [sum(w * sum(pair == (a, b) for pair in pairwise(p)) for p, w in weights.items()) / whole
         for b in range(2)]
        for a in range(2)
    ]  # fmt: skip
    probs, log_likelihood = forward_filter(likelihoods, transition)
    smoothed, counts = backward_smoother(probs, transition)
    assert log_likelihood == pytest.approx(np.log(whole), rel=1e-12)
    np.testing.assert_allclose(smoothed, expected, rtol=1e-10)
    np.testing.assert_allclose(counts, moves_expected, rtol=1e-10)


@pytest.mark.parametrize("n_states", [2, 4])
@pytest.mark.parametrize("prior_days", [1.0, 3000.0])
def test_every_em_step_increases_the_posterior(n_states, prior_days):
    daily = np.log1p(RETURNS[:TRAIN])
    prior = prior_days * sticky_transition(n_states, 0.995)
    for parameters in first_guesses(daily, n_states, 3, np.random.default_rng(0)):
        objectives = []
        for _ in range(60):
            parameters, objective = em_step(daily, parameters, prior)
            objectives.append(objective)
        assert np.diff(objectives).min() > -1e-7 and objectives[-1] > objectives[0] + 1.0


def test_em_recovers_the_parameters_of_hardys_market():
    process = hardy_regimes()
    returns, _ = process.simulate(40 * 252, 1)
    fitted = HMMRegimes.fit(returns, 2)
    np.testing.assert_allclose(fitted.volatilities, process.volatilities, rtol=0.05)
    np.testing.assert_allclose(fitted.means, process.means, atol=8e-4)
    assert fitted.regimes == (BULL, VOLATILE)


@pytest.mark.parametrize("seed", range(5))
def test_online_states_equal_brute_force_over_all_paths(seed):
    rng = np.random.default_rng(seed)
    losses, penalty = rng.exponential(1.0, (7, 3)), 0.7

    def cost(path):
        jumps = sum(a != b for a, b in pairwise(path))
        return sum(losses[day, state] for day, state in enumerate(path)) + penalty * jumps

    costs = online_costs(losses, penalty)
    for day in range(7):
        paths = list(product(range(3), repeat=day + 1))
        expected = [min(cost(path) for path in paths if path[-1] == state) for state in range(3)]
        np.testing.assert_allclose(costs[day], expected, rtol=1e-12)
        best = min(paths, key=cost)
        assert costs[day].argmin() == best[-1]
        np.testing.assert_array_equal(cheapest_path(costs[: day + 1], penalty), best)


def test_jump_labels_are_the_cheapest_online_states():
    detector = DETECTORS["jump 4"]
    points = (detector.features.of(np.log1p(RETURNS)) - detector.location) / detector.scale
    costs = np.zeros(4)
    expected = []
    for day, point in enumerate(points):
        losses = np.array([0.5 * ((point - centre) ** 2).sum() for centre in np.array(detector.centres)])
        costs = losses + (np.minimum(costs, costs.min() + detector.jump_penalty) if day else 0.0)
        expected.append(detector.regimes[int(np.argmin(costs))])
    np.testing.assert_array_equal(detector.detect(RETURNS).labels, expected)


def test_a_higher_price_makes_fewer_jumps():
    cheap, dear = (JumpRegimes.fit(RETURNS[:TRAIN], jump_penalty=price).detect(RETURNS) for price in (0.5, 20.0))
    assert dear.switches_per_year < 0.5 * cheap.switches_per_year


def test_states_are_named_by_volatility_then_trend():
    assert name_states(np.array([0.4, 0.1, 0.2, 0.12]), np.array([0.9, 0.0, 0.5, 0.1])) == (VOLATILE, SIDEWAYS, BEAR, BULL)
    assert name_states(np.array([0.4, 0.1, 0.2, 0.12]), np.array([0.9, 0.2, 0.5, 0.1])) == (VOLATILE, BULL, BEAR, SIDEWAYS)
    assert name_states(np.array([0.1, 0.2]), np.array([0.1, 0.3])) == (BULL, VOLATILE)
    assert name_states(np.array([0.2, 0.1]), np.array([0.1, -0.1])) == (VOLATILE, SIDEWAYS)


def test_the_label_is_held_until_its_probability_falls():
    calm = np.array([0.9, 0.45, 0.35, 0.25, 0.45, 0.75, 0.9])
    probs = np.column_stack([calm, np.zeros(7), 1.0 - calm, np.zeros(7)])
    np.testing.assert_array_equal(RegimeTable(probs).labels, [0, 2, 2, 2, 2, 0, 0])
    np.testing.assert_array_equal(RegimeTable(probs, 0.3).labels, [0, 0, 0, 2, 2, 0, 0])
    np.testing.assert_array_equal(RegimeTable(probs, 0.3).days_in_regime, [0, 1, 2, 0, 1, 0, 1])
    np.testing.assert_array_equal(RegimeTable(np.zeros((0, 4)), 0.3).labels, [])


def test_hysteresis_at_a_half_is_the_most_probable_regime():
    probs = np.random.default_rng(0).dirichlet(np.full(4, 0.3), 2000)
    np.testing.assert_array_equal(RegimeTable(probs, 0.5 - 1e-12).labels, probs.argmax(axis=1))


@pytest.mark.parametrize("name", ["hmm 4", "jump 4"])
def test_fitted_detectors_find_simulated_regimes(name):
    labels = DETECTORS[name].detect(RETURNS).labels[TRAIN:]
    rules = RuleRegimes().detect(RETURNS).labels[TRAIN:]
    accuracy = balanced_accuracy(labels, TRUTH[TRAIN:])
    assert balanced_accuracy(rules, TRUTH[TRAIN:]) < accuracy < 0.99 and accuracy > 0.6


def test_walk_forward_equals_separate_fits():
    rows = [1000, 1400, 2200]
    fit = partial(HMMRegimes.fit, n_starts=1)
    table = detect_walk_forward(RETURNS, fit, rows)
    pieces = [fit(RETURNS[:a]).detect(RETURNS[:b]).probs[a:] for a, b in zip(rows, [*rows[1:], len(RETURNS)], strict=True)]
    np.testing.assert_array_equal(table.probs, np.concatenate(pieces))
    np.testing.assert_array_equal(detect_walk_forward(RETURNS[:2000], fit, rows[:2]).labels, table.labels[:1000])


def test_simulated_markets_are_what_they_say():
    process = four_regimes()
    returns, truth = process.simulate(150_000, 0)
    for regime, mean, volatility, row in zip(
        process.regimes, process.means, process.volatilities, process.transition, strict=True
    ):
        days = returns[truth == regime]
        assert days.mean() == pytest.approx(mean, abs=4 * volatility / len(days) ** 0.5)
        assert days.std() == pytest.approx(volatility, rel=0.02)
        stays = np.mean(truth[1:][truth[:-1] == regime] == regime)
        assert 1.0 - stays == pytest.approx(1.0 - max(row), rel=0.15)
    daily = np.array(hardy_regimes().transition)
    np.testing.assert_allclose(np.linalg.matrix_power(daily, 20), [[0.9629, 0.0371], [0.2101, 0.7899]], rtol=1e-9)


@every_detector
def test_detectors_serve_as_observations(detector, market):
    pool = MarketPool.of(market)
    source = RegimeBlock(detector)
    assert hash(source) == hash(RegimeBlock(detector)) and source == RegimeBlock(detector)
    (block,), table = pool.observation([source])
    assert pool.observation([RegimeBlock(detector)])[1] is table  # computed once
    np.testing.assert_allclose(table[:, :4], detector.detect(market.benchmark_returns).probs, rtol=0, atol=1e-7)
    assert block.name == "regime"


@every_detector
def test_detectors_serve_in_an_env(detector):
    env = RegimeObservation(QuantFluxEnv(), detector=detector)
    obs, _ = env.reset(seed=0)
    env.action_space.seed(0)
    assert env.observation_space.contains(obs)
    obs, *_ = env.step(env.action_space.sample())
    assert np.isfinite(obs).all()
    env.close()


GOOD = RETURNS[:300]


@pytest.mark.parametrize("detector_class", [HMMRegimes, JumpRegimes])
@pytest.mark.parametrize(
    "returns, settings, text",
    [
        (GOOD, {"n_regimes": 3}, "`n_regimes` must be 2"),
        (GOOD[:249], {}, "at least 250 days; got shape"),
        (GOOD[:, None], {}, "one column"),
        (np.append(GOOD, np.nan), {}, "1 values that are not finite"),
        (np.zeros(300), {}, "never changes"),
        (GOOD, {"n_starts": 0}, "`n_starts` must be positive"),
    ],
)
def test_what_cannot_be_fitted_is_refused(detector_class, returns, settings, text):
    with pytest.raises(ValueError, match=text) as caught:
        detector_class.fit(returns, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "build, text",
    [
        (lambda: HMMRegimes.fit(GOOD, expected_duration=1.0), "`expected_duration` must be above 1"),
        (lambda: HMMRegimes.fit(GOOD, prior_days=0.0), "`prior_days` must be positive"),
        (lambda: HMMRegimes.fit(GOOD, leave_below=0.6), "`leave_below` must be"),
        (lambda: JumpRegimes.fit(GOOD, jump_penalty=-1.0), "`jump_penalty` must be positive"),
        (lambda: JumpFeatures(volatility_halflife=0.0), "`volatility_halflife` must be positive"),
        (lambda: replace(DETECTORS["hmm 4"], means=(0.0, 0.0)), "2 or 4 states"),
        (lambda: replace(DETECTORS["hmm 2"], volatilities=(0.01, -0.01)), "`volatilities` positive"),
        (lambda: replace(DETECTORS["hmm 2"], transition=((1.0, 0.0), (0.1, 0.9))), "Rows of `transition`"),
        (lambda: replace(DETECTORS["jump 2"], location=(0.0,)), "`centres`, `location`, `scale`"),
        (lambda: replace(DETECTORS["jump 2"], centres=((0.0, np.nan), (1.0, 0.0))), "must be finite"),
        (lambda: replace(DETECTORS["jump 2"], scale=(1.0, 0.0)), "`least_scale` must be positive"),
        (lambda: detect_walk_forward(GOOD, HMMRegimes.fit, [280, 270]), "`refit_rows` must increase"),
        (lambda: detect_walk_forward(GOOD, HMMRegimes.fit, []), "`refit_rows` must increase"),
    ],
)
def test_bad_settings_are_refused_in_one_line(build, text):
    with pytest.raises(ValueError, match=text) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_gaussian_log_likelihoods_by_hand():
    # log N(0.02; 0, 0.01) = -2 - log 0.01 - log(2 pi) / 2
    found = gaussian_log_likelihoods(np.array([0.02]), np.array([0.0, 0.02]), np.array([0.01, 0.02]))
    np.testing.assert_allclose(found, [[1.686231652, 2.993084472]], rtol=1e-9)
