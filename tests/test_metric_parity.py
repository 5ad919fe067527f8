"""Our figures beside those of empyrical and quantstats, on real backtests; where they differ, by how much and why."""

import warnings

import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.evaluation.backtest import WeightRule, backtest_rule, index_result
from quantflux_sb3.evaluation.baselines import equal_weights
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.evaluation.overfitting import deflated_sharpe_ratio
from quantflux_sb3.sizing import TimingRule

with warnings.catch_warnings():  # of theirs
    warnings.simplefilter("ignore")
    import empyrical
    import quantstats.stats as quantstats

EQUAL = WeightRule("equal weight", equal_weights, refit_days=1)


@pytest.fixture(scope="module", params=["equal weight", "timed", "buy and hold", "index", "with interest"])
def backtest(request, all_stocks):
    """Twenty stocks, 33 years, after costs; cash earns something in the last one."""
    config = PortfolioConfig(costs=0.001, risk_free=0.0001 if request.param == "with interest" else None)
    if request.param == "index":
        return index_result(all_stocks, "all", config)
    refit_days = None if request.param == "buy and hold" else 1
    sizing = TimingRule() if request.param in ("timed", "with interest") else None
    return backtest_rule(WeightRule(request.param, equal_weights, refit_days, sizing=sizing), all_stocks, "all", config)


def series(result):
    """Returns, excess returns and active returns as both libraries take them."""
    days = pd.DatetimeIndex(result.dates)
    parts = (result.returns, result.returns - result.risk_free, result.returns - result.benchmark_returns)
    return tuple(pd.Series(part, index=days) for part in parts)


def test_figures_agree_with_empyrical(backtest):
    returns, excess, active = series(backtest)
    benchmark = pd.Series(backtest.benchmark_returns - backtest.risk_free, index=returns.index)
    expected = {
        "annual_return": empyrical.annual_return(returns),
        "annual_volatility": empyrical.annual_volatility(returns),
        "cumulative_return": empyrical.cum_returns_final(returns),
        "sharpe_ratio": empyrical.sharpe_ratio(returns, risk_free=backtest.risk_free[0]),
        "max_drawdown": -empyrical.max_drawdown(returns),
        "calmar_ratio": empyrical.calmar_ratio(returns),
        "excess_annual_return": empyrical.annual_return(returns) - empyrical.annual_return(backtest.benchmark_returns),
        "tracking_error": empyrical.annual_volatility(active),
        "beta": empyrical.beta(excess, benchmark),
    }
    figures = performance(backtest)
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_figures_agree_with_quantstats(backtest):
    returns, excess, active = series(backtest)
    benchmark = pd.Series(backtest.benchmark_returns - backtest.risk_free, index=returns.index)
    expected = {
        "annual_return": quantstats.cagr(returns),
        "annual_volatility": quantstats.volatility(returns),
        "cumulative_return": quantstats.comp(returns),
        "sharpe_ratio": quantstats.sharpe(excess),
        "sortino_ratio": quantstats.sortino(excess),
        "max_drawdown": -quantstats.max_drawdown(returns),
        "calmar_ratio": quantstats.calmar(returns),
        "tracking_error": quantstats.volatility(active),
        "beta": quantstats.greeks(excess, benchmark)["beta"],
    }
    figures = performance(backtest)
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_their_information_ratio_is_per_day_and_ours_per_year(backtest):
    returns, _, active = series(backtest)
    if not active.any():  # the index against itself: 0 here, not a number there
        assert performance(backtest)["information_ratio"] == 0.0
        return
    benchmark = pd.Series(backtest.benchmark_returns, index=returns.index)
    ours = performance(backtest)["information_ratio"]
    assert ours == pytest.approx(empyrical.excess_sharpe(returns, benchmark) * 252**0.5, rel=1e-9)
    assert ours == pytest.approx(quantstats.information_ratio(returns, benchmark) * 252**0.5, rel=1e-9)


def test_a_daily_interest_is_an_annual_one_to_quantstats(backtest):
    returns, _, _ = series(backtest)
    annual = (1.0 + backtest.risk_free[0]) ** 252 - 1.0
    assert performance(backtest)["sharpe_ratio"] == pytest.approx(quantstats.sharpe(returns, rf=annual), rel=1e-9)


def test_probabilistic_sharpe_ratio_differs_by_the_bias_of_the_moments(backtest):
    _, excess, _ = series(backtest)
    ours = deflated_sharpe_ratio(backtest, n_trials=1)["probabilistic_sharpe_ratio"]
    assert ours == pytest.approx(quantstats.probabilistic_sharpe_ratio(excess), abs=1e-5)


def test_exposure_of_quantstats_counts_days(all_stocks):
    config = PortfolioConfig(costs=0.001)
    timed = backtest_rule(WeightRule("timed", equal_weights, 1, sizing=TimingRule()), all_stocks, "test", config)
    assert quantstats.exposure(series(timed)[0]) == 1.0 > performance(timed)["mean_exposure"] + 0.1


def test_standing_still_is_zero_here_and_no_number_there(all_stocks):
    idle = backtest_rule(WeightRule("idle", lambda history: np.zeros(20), 1), all_stocks, "test", PortfolioConfig())
    returns = series(idle)[0]
    assert performance(idle)["sharpe_ratio"] == performance(idle)["calmar_ratio"] == 0.0
    assert np.isnan(empyrical.sharpe_ratio(returns)) and np.isnan(empyrical.calmar_ratio(returns))
    with np.errstate(invalid="ignore"):
        assert np.isnan(quantstats.sharpe(returns))
