"""Bootstrap intervals against theory, loops and rliable; seeds; sentences."""

import math

import numpy as np
import pytest
from results import make_result, random_result

from quantflux_sb3.evaluation import metrics
from quantflux_sb3.evaluation.resampling import resampled_days, sharpe_draws
from quantflux_sb3.evaluation.statistics import (
    interquartile_mean,
    seed_distribution,
    sharpe_difference,
    sharpe_interval,
    verdict,
)


def test_bootstrap_blocks_have_the_mean_length_and_wrap_around():
    rows = resampled_days(500, 400, seed=5)
    follows = (rows[:, 1:] - rows[:, :-1]) % 500 == 1
    assert 1.0 - follows.mean() == pytest.approx(1 / 21, rel=0.03)  # a new block on one day in 21
    counts = np.bincount(rows.ravel(), minlength=500)
    assert counts.min() > 200 and counts.max() < 650  # every day equally likely: 400 expected
    assert ((rows[:, 1:] == 0) & (rows[:, :-1] == 499)).any()


def test_bootstrap_with_blocks_of_one_day_draws_independently():
    rows = resampled_days(20_000, 1, seed=6, mean_block=1.0)[0]
    assert np.mean(np.diff(rows) == 1) < 0.001
    assert np.corrcoef(rows[1:], rows[:-1])[0, 1] == pytest.approx(0.0, abs=0.03)


def test_sharpe_difference_is_the_difference_of_the_sharpe_ratios():
    a, b = random_result(7, risk_free=0.0001), random_result(8, risk_free=0.0001)
    difference = sharpe_difference(a, b, n_bootstraps=300)
    figures = [metrics.performance(result)["sharpe_ratio"] for result in (a, b)]
    assert difference["difference"] == figures[0] - figures[1]
    assert [difference["sharpe_a"], difference["sharpe_b"]] == figures
    assert difference["low"] < difference["difference"] < difference["high"]


def test_interval_depends_on_the_seed_alone():
    a, b = random_result(9), random_result(10)
    assert sharpe_difference(a, b, 100, seed=3) == sharpe_difference(a, b, 100, seed=3)
    assert sharpe_difference(a, b, 100, seed=3) != sharpe_difference(a, b, 100, seed=4)


def test_interval_shrinks_when_the_strategies_share_more_of_their_noise():
    common = random_result(11)
    own = np.random.default_rng(12).normal(0.0, 0.01, len(common.returns))
    widths = []
    for share in (0.5, 0.1, 0.02, 0.0):
        interval = sharpe_difference(make_result(common.returns + share * own), common, n_bootstraps=300)
        widths.append(interval["high"] - interval["low"])
    assert widths[0] > 2 * widths[1] > 4 * widths[2] > widths[3] == 0.0


def test_interval_has_the_coverage_it_claims():
    covered = 0
    for seed in range(60):
        a, b = random_result(2 * seed, n_days=500), random_result(2 * seed + 1, n_days=500)
        interval = sharpe_difference(a, b, n_bootstraps=200, seed=seed)
        covered += interval["low"] <= 0.0 <= interval["high"]
    assert 51 <= covered <= 60  # 57 expected; the percentile interval is a little too narrow


def test_interval_of_independent_days_has_the_width_of_theory():
    a, b = random_result(13, n_days=5000), random_result(14, n_days=5000)
    interval = sharpe_difference(a, b, n_bootstraps=1000)
    expected = 2 * 1.96 * math.sqrt(2 * 252 / 5000)  # Lo (2002): variance of a daily Sharpe ratio is near 1 / n
    assert interval["high"] - interval["low"] == pytest.approx(expected, rel=0.12)


def test_sharpe_difference_refuses_other_days_and_bad_settings():
    with pytest.raises(ValueError, match=r"'agent' has 3 days and 'other' 2"):
        sharpe_difference(make_result([0.0] * 3), make_result([0.0] * 2, name="other"))
    with pytest.raises(ValueError, match="at least 1; got 0"):
        sharpe_difference(make_result([0.0] * 3), make_result([0.0] * 3), n_bootstraps=0)


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        (
            (-0.02, -0.09, 0.05),
            "no evidence that X beats Y after costs (Sharpe difference -0.02, 95 % interval -0.09 to +0.05)",
        ),
        ((0.20, 0.10, 0.31), "X was ahead of Y after costs (Sharpe difference +0.20, 95 % interval +0.10 to +0.31)"),
        ((-0.20, -0.31, -0.1), "X was behind Y after costs (Sharpe difference -0.20, 95 % interval -0.31 to -0.10)"),
        ((-0.001, -0.1, 0.0), "no evidence that X beats Y after costs (Sharpe difference 0.00, 95 % interval -0.10 to 0.00)"),
    ],
)
def test_verdict_says_what_the_interval_says(figures, sentence):
    assert verdict("X", "Y", dict(zip(("difference", "low", "high"), figures, strict=True))) == sentence


def test_draws_are_shared_and_cannot_be_changed():
    rows = resampled_days(300, 50, seed=1)
    assert resampled_days(300, 50, seed=1) is rows
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1


def test_sharpe_of_draws_equals_the_plain_loop():
    series = np.column_stack([random_result(1).returns, random_result(2).returns + 1.0, np.zeros(750)])  # one far from zero
    rows = resampled_days(750, 40, seed=2)
    expected = [[metrics.sharpe_ratio(column[drawn], 252) for column in series.T] for drawn in rows]
    np.testing.assert_allclose(sharpe_draws(series, rows, 252), expected, rtol=1e-11, atol=1e-12)


def test_sharpe_interval_has_the_width_of_theory():
    figures = sharpe_interval(random_result(15, n_days=5000), n_bootstraps=1000)
    assert figures["high"] - figures["low"] == pytest.approx(2 * 1.96 * math.sqrt(252 / 5000), rel=0.12)
    assert figures["low"] < figures["sharpe"] < figures["high"]
    assert figures["n_seeds"] == 1


def test_interval_is_wider_where_days_depend_on_each_other():
    noise = np.random.default_rng(16).normal(0.0, 0.01, 6000)
    trending = np.convolve(noise, np.ones(20) / 20, mode="valid")[:5000]  # runs of four weeks
    width = {}
    for block in (1, 60):
        figures = sharpe_interval(make_result(trending), 500, mean_block=block)
        width[block] = figures["high"] - figures["low"]
    assert width[60] > 2.5 * width[1]  # theory: sqrt(20) = 4.5 for long blocks


def test_one_seed_in_a_list_is_the_backtest_itself():
    a, b = random_result(17), random_result(18)
    assert sharpe_difference([a], [b], 200) == sharpe_difference(a, b, 200)
    assert sharpe_interval([a], 200) == sharpe_interval(a, 200)


def test_seeds_are_averaged_and_drawn_again():
    base = random_result(19, n_days=1000)
    seeds = [make_result(base.returns + shift) for shift in np.linspace(-1e-3, 1e-3, 5)]  # the days leave no doubt
    figures = sharpe_difference(seeds, base, 2000)
    sharpes = np.array([metrics.performance(run)["sharpe_ratio"] for run in seeds])
    assert figures["n_seeds_a"] == 5 and figures["n_seeds_b"] == 1
    assert figures["sharpe_a"] == pytest.approx(sharpes.mean(), abs=1e-12)
    assert figures["difference"] == pytest.approx(figures["sharpe_a"] - figures["sharpe_b"], abs=1e-15)
    deviation_of_mean = sharpes.std() / math.sqrt(5)  # of five values drawn with replacement
    assert figures["high"] - figures["low"] == pytest.approx(2 * 1.96 * deviation_of_mean, rel=0.15)


def test_equal_seeds_add_nothing_to_the_interval():
    a, b = random_result(20), random_result(21)
    alone, repeated = sharpe_difference(a, b, 300), sharpe_difference([a] * 5, [b] * 3, 300)
    for key in ("difference", "low", "high", "p_value"):
        assert repeated[key] == pytest.approx(alone[key], abs=1e-12)


def test_hierarchical_interval_covers_the_difference_of_the_processes():
    """Each seed adds a skill of its own to shared days: the interval holds for other days and other seeds."""
    covered = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        days = rng.normal(0.0, 0.01, 500)
        runs = [make_result(days + rng.normal(0.0, 0.01, 500) + rng.normal(0.0, 5e-4)) for _ in range(8)]
        interval = sharpe_difference(runs, make_result(days), 200, seed=trial)
        covered += interval["low"] <= 0.0 <= interval["high"]
    assert 50 <= covered <= 60  # 57 expected, a little less with eight seeds


def test_p_value_agrees_with_the_interval():
    for seed in range(8):
        figures = sharpe_difference(random_result(seed, mean=0.001), random_result(seed + 50), 500)
        outside = figures["low"] > 0.0 or figures["high"] < 0.0
        assert outside == (figures["p_value"] < 0.05) or figures["p_value"] == pytest.approx(0.05, abs=0.01)
    same = random_result(30)
    assert sharpe_difference(same, same, 100)["p_value"] == 1.0


def test_interquartile_mean_by_hand_and_as_rliable():
    from rliable.metrics import aggregate_iqm

    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 6.0, 100.0])) == 3.0
    values = np.random.default_rng(22).normal(size=11)
    assert interquartile_mean(values) == pytest.approx(aggregate_iqm(values[:, None]), abs=1e-15)


def test_seed_distribution_of_values_and_of_backtests():
    figures = seed_distribution([1.21, 1.14, 1.14, 1.21, 1.19])
    assert figures["iqm"] == pytest.approx(1.18, abs=1e-12)  # mean of 1.14, 1.19 and 1.21
    assert 1.14 <= figures["low"] <= figures["iqm"] <= figures["high"] <= 1.21
    assert (figures["min"], figures["median"], figures["max"], figures["n_seeds"]) == (1.14, 1.19, 1.21, 5)
    runs = [random_result(seed) for seed in range(3)]
    sharpes = [metrics.performance(run)["sharpe_ratio"] for run in runs]
    assert seed_distribution(runs) == seed_distribution(sharpes)
    one = seed_distribution([0.5])
    assert one["low"] == one["iqm"] == one["high"] == 0.5 and one["deviation"] == 0.0


def test_no_results_and_no_values_are_refused():
    with pytest.raises(ValueError, match="There are no backtests"):
        sharpe_interval([])
    with pytest.raises(ValueError, match="at least one value, all finite"):
        seed_distribution([])
    with pytest.raises(ValueError, match="not the same ones"):
        sharpe_difference([make_result([0.0] * 3), make_result([0.0] * 2, name="other")], make_result([0.0] * 3))


@pytest.mark.parametrize(
    ("n_a", "n_b", "words"), [(5, 1, ", 5 seeds)"), (5, 5, ", 5 seeds each)"), (5, 3, ", 5 and 3 seeds)")]
)
def test_verdict_tells_the_number_of_seeds(n_a, n_b, words):
    figures = {"difference": -0.02, "low": -0.09, "high": 0.05, "n_seeds_a": n_a, "n_seeds_b": n_b}
    assert verdict("the agent", "equal weight", figures).endswith("95 % interval -0.09 to +0.05" + words)
