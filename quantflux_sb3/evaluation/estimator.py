"""
A trained policy as a portfolio optimiser of skfolio: where ``HierarchicalRiskParity()`` stands, it can stand too.

Nothing is trained in ``fit``: the policy decides day by day through the rows that it is given, by the same env, limits and
gate as everywhere, and ``weights_`` is what it then holds. Train it on years before those on which it is judged; no
cross-validation can do that afterwards.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from skfolio.optimization import BaseOptimization
from sklearn.utils.validation import validate_data
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.evaluation.backtest import backtest_in
from quantflux_sb3.loading import load_for_env
from quantflux_sb3.market.data import MIN_SPLIT_DAYS, WARMUP_DAYS, MarketData
from quantflux_sb3.vec_env import make_quantflux_vec_env

#: Rows that ``fit`` needs at least: the history of the features, and a few days on which the policy decides.
LEAST_ROWS = WARMUP_DAYS + MIN_SPLIT_DAYS


class QuantFluxEstimator(BaseOptimization):
    """
    ``weights_`` are the weights of the assets that the policy holds into the day after the last row, after limits and gate.
    The decision is taken at the close of the last row and, as everywhere, knows rows up to ``execution_lag`` before it.

    They need not sum to 1: the rest is cash, and nothing is scaled up, because how much to hold is part of what a policy
    decides. skfolio's ``Portfolio`` takes such weights as they are: its return is ``X @ weights_``, so that cash earns nothing
    there. It pays no costs unless told to, and by default comes back to the weights every day
    (``portfolio_params={"weight_drift": True}`` lets them drift).

    :param model: path of a saved SB3 model, or a model. A path is what works with ``n_jobs``, and an equivariant policy saved
        on one number of assets acts on any
    :param algorithm: class of the saved model; PPO if not given
    :param wrappers: Vec wrappers of the env that the model was trained in, such as ``VecMarketTiming``
    :param config: limits, costs, gate, decision interval; the defaults of the env if not given
    :param portfolio_params: see :class:`skfolio.optimization.BaseOptimization`, also of the following
    :param fallback: what to do if ``fit`` fails, on too short a history say
    :param previous_weights: for fallbacks
    :param raise_on_failure: False: a fold that fails becomes a ``FailedPortfolio``
    """

    def __init__(
        self,
        model: BaseAlgorithm | str | PathLike,
        algorithm: type[BaseAlgorithm] | None = None,
        wrappers: Sequence[Any] = (),
        config: PortfolioConfig | None = None,
        portfolio_params: dict | None = None,
        fallback: Any = None,
        previous_weights: Any = None,
        raise_on_failure: bool = True,
    ):
        super().__init__(portfolio_params, fallback, previous_weights, raise_on_failure)
        self.model, self.algorithm, self.wrappers, self.config = model, algorithm, wrappers, config

    def __sklearn_clone__(self) -> "QuantFluxEstimator":
        """Unfitted, with the same model: it is only read, and copying it would copy its env."""
        return type(self)(**self.get_params(deep=False))

    def fit(self, X: Any, y: Any = None) -> "QuantFluxEstimator":
        """
        :param X: simple returns, oldest first; an index of dates is taken as it is (n_observations, n_assets)
        :param y: returns of the benchmark, which the regimes are read from; the equal-weighted mean of X if not given
            (n_observations,) or (n_observations, 1)
        :return: itself, with ``weights_``
        :raises ValueError: if there are too few rows, or the model does not fit to the assets
        """
        dates, columns = getattr(X, "index", None), getattr(X, "columns", None)
        returns = validate_data(self, X, dtype=np.float64)
        if len(returns) < LEAST_ROWS:
            raise ValueError(f"QuantFluxEstimator needs at least {LEAST_ROWS} rows of returns to fit; got {len(returns)}.")
        assets = [f"x{number}" for number in range(returns.shape[1])] if columns is None else columns
        market = _market_of(returns, _dates(dates, len(returns)), tuple(map(str, assets)), y)
        settings = {**vars(self.config or PortfolioConfig()), "split": "all", "episode_length": None}
        venv = make_quantflux_vec_env(1, market, wrappers=self.wrappers, **settings)
        self.weights_ = backtest_in(venv, self._model_for(venv)).weights[-1, :-1].copy()
        return self

    def _model_for(self, venv: VecEnv) -> BaseAlgorithm:
        if not isinstance(self.model, BaseAlgorithm):
            return load_for_env(self.algorithm or PPO, self.model, venv)
        observed, given = (space.shape[0] for space in (self.model.observation_space, venv.observation_space))
        if observed != given:
            raise ValueError(
                f"The model observes {observed} numbers and would get {given}: other assets, wrappers or signals? "
                "Give the path of a saved model to use it on another number of assets."
            )
        return self.model


def _dates(index: Any, n_rows: int) -> np.ndarray:
    """Dates of the rows and of the day after them; business days where there is no index of dates (n_rows + 1,)."""
    if not isinstance(index, pd.DatetimeIndex):
        return pd.bdate_range("2000-01-03", periods=n_rows + 1).to_numpy()
    days = index.tz_localize(None).to_numpy().astype("datetime64[D]")
    return np.append(days, days[-1] + 1)


def _market_of(returns: np.ndarray, dates: np.ndarray, assets: tuple[str, ...], benchmark: Any) -> MarketData:
    """The rows and one more, on which nothing happens: the decision at the last close earns it and does not know it."""
    if benchmark is None:
        index = returns.mean(axis=1)
    else:
        index = np.asarray(benchmark, dtype=np.float64)
        index = index[:, 0] if index.ndim == 2 and index.shape[1] == 1 else index
        if index.shape != (len(returns),):
            raise ValueError(f"`y` must be the returns of one benchmark ({len(returns)},); got shape {index.shape}.")
    return MarketData(dates, assets, np.vstack([returns, np.zeros(len(assets))]), np.append(index, 0.0))
