"""Backtests that the tests make up."""

import numpy as np

from quantflux_sb3.evaluation.result import BacktestResult


def make_result(returns, weights=None, benchmark=None, risk_free=0.0, name="agent", **fields) -> BacktestResult:
    """A backtest of two assets around literal returns; half in each unless weights are given."""
    returns = np.asarray(returns, dtype=float)
    n_days = len(returns)
    weights = np.tile([0.5, 0.5, 0.0], (n_days, 1)) if weights is None else np.asarray(weights, dtype=float)
    defaults = {
        "dates": np.datetime64("2020-01-01") + np.arange(n_days),
        "assets": tuple(f"A{i}" for i in range(weights.shape[1] - 1)),
        "benchmark_returns": np.zeros(n_days) if benchmark is None else np.asarray(benchmark, dtype=float),
        "asset_returns": np.tile(returns[:, None], (1, weights.shape[1] - 1)),
        "risk_free": np.full(n_days, risk_free),
        "weights": weights,
        "turnover": np.zeros(n_days),
        "costs": np.zeros(n_days),
        "rebalanced": np.zeros(n_days, dtype=bool),
        "regimes": np.zeros(n_days, dtype=int),
    }
    return BacktestResult(name=name, returns=returns, **{**defaults, **fields})


def random_result(seed: int, n_days: int = 750, mean: float = 0.0005, noise: float = 0.01, **fields) -> BacktestResult:
    return make_result(np.random.default_rng(seed).normal(mean, noise, n_days), **fields)
