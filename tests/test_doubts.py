"""What could be wrong with a result: each sentence appears when its condition holds, and only then."""

import copy
import re

import pytest

from quantflux_sb3.evaluation.doubts import doubts

FINE = {
    "market": {
        "assets": ["A", "B"], "benchmark": "INDEX", "asset_kind": "total return", "benchmark_kind": "total return",
        "caveats": [], "test_first": "2016-01-04", "test_last": "2022-12-28", "exposure_rule": False,
    },
    "test": {"agent": {"sharpe_ratio": 1.2}, "base rule": {"sharpe_ratio": 1.0}},
    "folds": [{"year": 2016}],
    "agent": {
        "annual_turnover": 1.2, "annual_cost": 0.0012, "trades_per_year": 17.0, "distance_to_base_rule": 0.2,
        "distance_to_equal_weight_rule": 0.3,
    },
    "seeds": {str(seed): {"test_sharpe_ratio": 1.1 + seed / 100} for seed in range(5)},
    "deflated_sharpe": {"n_trials": 1, "deflated_sharpe_ratio": 0.99},
    "overfitting": {"probability": 0.2},
    "generator": {"too_near_share": 0.01},
    "data": {"assets": [{"prices": 1000, "filled": 2}]},
}  # fmt: skip

CASES = [
    ("market.caveats", ["The stocks are survivors."], "The stocks are survivors."),
    ("market.benchmark_kind", "price", "INDEX is a price index and pays no dividends"),
    ("data.assets", [{"prices": 900, "filled": 60, "suspended": 40}], "10.0 % of the prices are none of their day"),
    ("folds", [], "one window of 7.0 years: another one"),
    ("seeds", {"0": {"test_sharpe_ratio": 1.1}}, "only one training seed; it takes at least 5"),
    ("seeds", {str(seed): {"test_sharpe_ratio": 1.1} for seed in range(3)}, "only 3 training seeds"),
    ("seeds.0", {"test_sharpe_ratio": 0.9}, "The seeds disagree: 4 of 5 beat"),
    ("chosen_seed", 3, "the agent of seed 3, which did best on the validation years"),
    ("market.exposure_rule", True, "chosen by people who had seen these years"),
    ("deflated_sharpe", {"n_trials": 92, "deflated_sharpe_ratio": 0.31}, "92 settings were tried .* worthless ones is 31 %"),
    ("overfitting.probability", 0.61, "In 61 % of the ways to halve the days"),
    ("agent.annual_turnover", 7.5, "trades 7.5 times its wealth a year: .* another 0.1 % a year"),
    ("agent.distance_to_base_rule", 0.004, "holds its base rule but for 0.4 %"),
    ("agent.distance_to_equal_weight_rule", 0.004, "holds equal weights but for 0.4 %"),
    ("agent.trades_per_year", 0.3, "a policy that does nothing"),
    ("generator.too_near_share", 0.08, "8.0 % of the synthetic paths lie too near"),
]


def with_figure(key: str, value) -> dict:
    figures = copy.deepcopy(FINE)
    *path, last = key.split(".")
    target = figures
    for name in path:
        target = target[name]
    target[last] = value
    return figures


def test_a_result_beyond_doubt_raises_none():
    assert doubts(FINE) == []


@pytest.mark.parametrize(("key", "value", "expected"), CASES)
def test_a_doubt_appears_with_its_condition_alone(key, value, expected):

    (sentence,) = doubts(with_figure(key, value))
    assert re.search(expected, sentence)


def test_a_short_window_is_called_short():
    figures = with_figure("folds", [])
    figures["market"]["test_first"] = "2020-12-28"
    assert doubts(figures) == [
        "The test is one window of 2.0 years: even a Sharpe ratio of 1 needs four years to differ from 0."
    ]


def test_a_short_walk_forward_is_called_short():
    figures = with_figure("market.test_first", "2020-12-28")
    assert doubts(figures) == [
        "All folds together test 2.0 years: even a Sharpe ratio of 1 needs four years to differ from 0."
    ]


def test_what_the_data_says_of_dividends_is_not_said_twice():
    figures = with_figure("market.benchmark_kind", "price")
    figures["market"]["caveats"] = ["The index pays no dividends."]
    assert doubts(figures) == ["The index pays no dividends."]


def test_years_after_the_rules_were_chosen_are_unseen():
    figures = with_figure("market.exposure_rule", True)
    figures["market"] |= {"test_first": "2023-01-03", "test_last": "2029-12-31"}
    assert doubts(figures) == []


def test_figures_that_are_absent_raise_no_doubt():
    assert doubts({}) == []
