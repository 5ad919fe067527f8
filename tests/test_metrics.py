"""Figures of a backtest: by hand, by loops, by identities."""

import json
import math

import numpy as np
import pytest
from results import make_result, random_result

from quantflux_sb3.evaluation import metrics


def test_figures_worked_by_hand():
    result = make_result(
        [0.1, -0.2, 0.3, 0.0], benchmark=[0.0, -0.1, 0.2, 0.1], risk_free=0.01, periods_per_year=4,
        weights=[[0.5, 0.5, 0.0], [0.6, 0.2, 0.2], [0.0, 0.0, 1.0], [0.3, 0.1, 0.6]],
        turnover=np.array([1.0, 0.2, 0.8, 0.4]), costs=np.array([0.01, 0.002, 0.008, 0.004]),
        rebalanced=np.array([True, False, True, True]),
    )  # fmt: skip
    figures = metrics.performance(result)
    expected = {
        "cumulative_return": 0.144,  # 1.1 * 0.8 * 1.3 - 1
        "annual_return": 0.144,  # four quarters are one year
        "annual_volatility": 2 * math.sqrt(0.13 / 3),  # mean 0.05, squares .0025 + .0625 + .0625 + .0025
        "sharpe_ratio": 2 * 0.04 / math.sqrt(0.13 / 3),
        "sortino_ratio": 2 * 0.04 / math.sqrt((0.21**2 + 0.01**2) / 4),
        "max_drawdown": 0.2,
        "calmar_ratio": 0.72,
        "excess_annual_return": 0.144 - 0.188,  # benchmark: 0.9 * 1.2 * 1.1 - 1
        "tracking_error": 2 * math.sqrt(0.04 / 3),  # differences .1 -.1 .1 -.1
        "information_ratio": 0.0,
        "beta": 0.07 / 0.05,  # covariance over variance of the benchmark, both times 3
        "annual_turnover": 2.4,
        "annual_cost": 0.024,
        "trades_per_year": 3.0,
        "mean_exposure": (1.0 + 0.8 + 0.0 + 0.4) / 4,
        "effective_assets": (2.0 + 1.6 + 1.6) / 3,  # shares (.5 .5), (.75 .25), none, (.75 .25)
        "distance_to_equal_weight": (0.0 + 0.25 + 0.25) / 3,
    }
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=1e-12), name


def test_drawdown_equals_a_plain_loop():
    wealth = np.cumprod(1.0 + np.random.default_rng(0).normal(0.0, 0.02, 300))
    peak, expected = 1.0, []
    for value in wealth:
        peak = max(peak, value)
        expected.append((peak - value) / peak)
    np.testing.assert_allclose(metrics.drawdown(wealth), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(metrics.drawdown(250.0 * wealth, start=250.0), expected, rtol=0, atol=1e-12)


def test_drawdown_counts_a_loss_on_the_first_day():
    np.testing.assert_allclose(metrics.drawdown(np.array([0.9, 1.2, 0.6])), [0.1, 0.0, 0.5], atol=1e-15)


def test_leverage_scales_volatility_and_leaves_the_ratios():
    base = random_result(1)
    double = make_result(2.0 * base.returns)
    one, two = metrics.performance(base), metrics.performance(double)
    assert two["annual_volatility"] == pytest.approx(2.0 * one["annual_volatility"], rel=1e-12)
    assert two["sharpe_ratio"] == pytest.approx(one["sharpe_ratio"], rel=1e-12)
    assert two["sortino_ratio"] == pytest.approx(one["sortino_ratio"], rel=1e-12)


def test_holding_the_benchmark_has_beta_one_and_no_active_risk():
    returns = random_result(2).returns
    figures = metrics.performance(make_result(returns, benchmark=returns))
    assert figures["beta"] == pytest.approx(1.0, abs=1e-12)
    for name in ("excess_annual_return", "tracking_error", "information_ratio"):
        assert figures[name] == 0.0


def test_order_of_days_matters_to_the_drawdown_only():
    base = random_result(3)
    back = metrics.performance(make_result(np.sort(base.returns)))
    for name, value in metrics.performance(base).items():
        if name in ("max_drawdown", "calmar_ratio"):
            assert abs(back[name] - value) > 0.01
        else:
            assert back[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize(
    "returns", [[], [0.01], [50.0], [0.0] * 10, [0.001] * 10, [-1.0, 0.0], [-0.5], [0.01, -1.0, 0.02]],
    ids=["no day", "one day", "one absurd day", "cash", "steady", "ruin", "one loss", "ruin in the middle"],
)  # fmt: skip
def test_degenerate_series_give_plain_finite_numbers(returns):
    weights = np.tile([0.0, 0.0, 1.0], (len(returns), 1))
    figures = metrics.performance(make_result(returns, weights=weights, benchmark=returns))
    assert all(type(value) is float and math.isfinite(value) for value in figures.values())
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["effective_assets"] == 0.0 and figures["distance_to_equal_weight"] == 0.0


def test_steady_growth_has_no_ratio():
    figures = metrics.performance(make_result([0.001] * 252))
    assert figures["annual_return"] == pytest.approx(1.001**252 - 1.0, rel=1e-12)
    assert figures["sharpe_ratio"] == figures["sortino_ratio"] == figures["calmar_ratio"] == 0.0


def test_ruin_loses_everything():
    figures = metrics.performance(make_result([0.1, -1.0, 0.5]))
    assert figures["annual_return"] == figures["cumulative_return"] == -1.0
    assert figures["max_drawdown"] == 1.0


def test_short_positions_count_by_size():
    figures = metrics.performance(make_result([0.0, 0.0], weights=[[1.0, -1.0, 1.0]] * 2))
    assert figures["effective_assets"] == pytest.approx(2.0)
    assert figures["distance_to_equal_weight"] == pytest.approx(0.5)


def test_distance_between_counts_cash_and_is_symmetric():
    a = make_result([0.0, 0.0], weights=[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    b = make_result([0.0, 0.0], weights=[[0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
    assert metrics.distance_between(a, b) == pytest.approx((0.5 + 1.0) / 2, abs=1e-15)
    assert metrics.distance_between(b, a) == metrics.distance_between(a, b)
    assert metrics.distance_between(a, a) == 0.0


def test_distance_between_refuses_other_days():
    with pytest.raises(ValueError, match=r"same assets and days.*'agent' \(2 assets, 2020-01-01 to 2020-01-03\)"):
        metrics.distance_between(make_result([0.0] * 3), make_result([0.0] * 2))


def test_table_rows_are_sorted_by_sharpe_ratio():
    results = [random_result(4, mean=m, name=n) for m, n in ((0.0, "flat"), (0.002, "good"), (-0.002, "bad"))]
    rows = metrics.table_rows(results)
    assert [row["name"] for row in rows] == ["good", "flat", "bad"]
    assert rows[0] == {"name": "good", **metrics.performance(results[1])}
