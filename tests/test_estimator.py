"""A trained policy as an optimiser of skfolio: the weights of its backtest, through skfolio's own cross-validation."""

import pickle

import numpy as np
import pandas as pd
import pytest
from models import scrambled
from sb3_contrib import RecurrentPPO
from skfolio.model_selection import WalkForward, cross_val_predict
from skfolio.optimization import EqualWeighted
from skfolio.portfolio import FailedPortfolio
from sklearn.base import clone
from stable_baselines3 import PPO

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.evaluation.backtest import backtest_model
from quantflux_sb3.evaluation.estimator import LEAST_ROWS, QuantFluxEstimator
from quantflux_sb3.policies import RecurrentSoftmaxPolicy, SoftmaxPolicy
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.wrappers import VecMarketTiming

CONFIG = PortfolioConfig(max_weight=0.4, rebalance_threshold=0.01)
TIMED = {"wrappers": (VecMarketTiming,), "config": CONFIG}


def untrained(market, algorithm=PPO, policy=SoftmaxPolicy, **kwargs):
    venv = make_quantflux_vec_env(1, market, wrappers=[VecMarketTiming], **vars(CONFIG))
    model = algorithm(policy, venv, n_steps=8, batch_size=8, seed=0, device="cpu", **kwargs)
    return scrambled(model)


@pytest.fixture(scope="module")
def model(bundled):
    return untrained(bundled)


@pytest.fixture(scope="module")
def returns(bundled):
    return pd.DataFrame(bundled.returns, bundled.dates, list(bundled.assets)).iloc[:1_200]


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("recurrent", [False, True])
def test_weights_are_those_that_the_backtest_holds_after_the_last_row(bundled, returns, lag, recurrent):
    """As a backtest over the same days and one more; that day's return changes nothing."""
    kwargs = {"policy_kwargs": {"lstm_hidden_size": 8}} if recurrent else {}
    algorithm, policy = (RecurrentPPO, RecurrentSoftmaxPolicy) if recurrent else (PPO, SoftmaxPolicy)
    model = untrained(bundled, algorithm, policy, **kwargs)
    config = PortfolioConfig(max_weight=0.4, rebalance_threshold=0.01, execution_lag=lag)
    estimator = QuantFluxEstimator(model, wrappers=[VecMarketTiming], config=config)
    index = bundled.benchmark_returns
    for n_rows in (300, 301, 302):
        estimator.fit(returns.iloc[:n_rows], index[:n_rows])
        result = backtest_model(model, bundled.window(0, n_rows + 1), "all", config, [VecMarketTiming])
        assert result.dates[-1] == bundled.dates[n_rows]
        np.testing.assert_array_equal(estimator.weights_, result.weights[-1, :-1])
    assert estimator.weights_.max() <= 0.4 + 1e-9 and estimator.weights_.sum() < 1.0


def test_skfolio_cross_validates_it(model, returns):
    """Every fold holds the weights of its own training window; what is not invested earns nothing."""
    estimator = QuantFluxEstimator(model, **TIMED)
    folds = WalkForward(train_size=252, test_size=200)
    prediction = cross_val_predict(estimator, returns, cv=folds)
    assert len(prediction) == len(list(folds.split(returns))) == 4
    for portfolio, (train, test) in zip(prediction, folds.split(returns), strict=True):
        weights = clone(estimator).fit(returns.iloc[train]).weights_
        np.testing.assert_array_equal(portfolio.weights, weights)
        np.testing.assert_allclose(portfolio.returns, returns.iloc[test].to_numpy() @ weights, rtol=0, atol=1e-14)
    sums = [portfolio.weights.sum() for portfolio in prediction]
    assert min(sums) < 0.9 and max(sums) <= 1.0 + 1e-9
    assert not hasattr(estimator, "weights_")


def test_a_saved_model_can_be_sent_to_other_processes(model, returns, tmp_path):
    model.save(tmp_path / "model.zip")
    sent = pickle.loads(pickle.dumps(QuantFluxEstimator(tmp_path / "model.zip", **TIMED)))
    folds = WalkForward(train_size=252, test_size=400)
    expected = cross_val_predict(QuantFluxEstimator(model, **TIMED), returns, cv=folds)
    np.testing.assert_array_equal(cross_val_predict(sent, returns, cv=folds).returns, expected.returns)


def test_a_saved_equivariant_model_acts_on_other_assets(model, all_stocks, returns, tmp_path):
    model.save(tmp_path / "model.zip")
    estimator = QuantFluxEstimator(str(tmp_path / "model.zip"), **TIMED).fit(all_stocks.returns[:200])
    assert estimator.weights_.shape == (20,) and estimator.n_features_in_ == 20
    assert estimator.weights_.std() > 0.0
    with pytest.raises(ValueError, match="Give the path of a saved model to use it on another number of assets"):
        QuantFluxEstimator(model, **TIMED).fit(all_stocks.returns[:200])


def test_a_clone_shares_the_model_and_nothing_fitted(model, returns):
    estimator = QuantFluxEstimator(model, **TIMED, portfolio_params={"name": "agent"}).fit(returns.iloc[:200])
    copy = clone(estimator)
    assert copy.model is model and copy.get_params() == estimator.get_params()
    assert not hasattr(copy, "weights_") and estimator.predict(returns.iloc[200:300]).name == "agent"


def test_arrays_and_frames_give_the_same_weights(model, returns):
    """The features do not read the dates."""
    frame = QuantFluxEstimator(model, **TIMED).fit(returns.iloc[:200])
    array = QuantFluxEstimator(model, **TIMED).fit(returns.iloc[:200].to_numpy())
    np.testing.assert_array_equal(frame.weights_, array.weights_)
    assert list(frame.feature_names_in_) == list(returns.columns)
    other = QuantFluxEstimator(model, **TIMED).fit(returns.iloc[:200], 3.0 * returns.iloc[:200].mean(axis=1))
    assert np.abs(other.weights_ - frame.weights_).max() > 1e-3  # another benchmark, other regimes


def test_too_short_a_history_is_said_in_one_line(model, returns):
    with pytest.raises(ValueError, match=f"needs at least {LEAST_ROWS} rows of returns to fit; got {LEAST_ROWS - 1}"):
        QuantFluxEstimator(model, **TIMED).fit(returns.iloc[: LEAST_ROWS - 1])
    assert QuantFluxEstimator(model, **TIMED).fit(returns.iloc[:LEAST_ROWS]).weights_.sum() > 0.1
    with pytest.raises(ValueError, match=r"`y` must be the returns of one benchmark \(200,\); got shape \(200, 2\)"):
        QuantFluxEstimator(model, **TIMED).fit(returns.iloc[:200], returns.iloc[:200, :2])


def test_skfolios_ways_with_failures_work(model, returns):
    short = returns.iloc[:50]
    fallen_back = QuantFluxEstimator(model, **TIMED, fallback=EqualWeighted()).fit(short)
    np.testing.assert_allclose(fallen_back.weights_, 1 / 6, rtol=0, atol=1e-12)
    with pytest.warns(UserWarning, match="needs at least"):
        failed = QuantFluxEstimator(model, **TIMED, raise_on_failure=False).fit(short)
    assert isinstance(failed.predict(short), FailedPortfolio)
