"""A whole evaluation of simple rules on the bundled test years, without any training: what the tests of the page look at."""

import json
from pathlib import Path

import numpy as np

from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.summary import ExperimentSummary
from quantflux_sb3.market import load_bundled
from quantflux_sb3.regimes import detect_regimes


def backtest(name: str, power: float, cost: float = 0.001, exposure: float = 0.9) -> BacktestResult:
    """Weights by volatility to a power, set every month on the bundled test years, traded daily at a cost."""
    market = load_bundled()
    start, stop = market.rows("test")
    weights = np.empty((stop - start, market.n_assets + 1))
    for row, day in enumerate(range(start, stop)):
        if row % 21 == 0:
            tilt = market.returns[day - 63 : day - 1].std(axis=0) ** power
            weights[row:] = np.append(exposure * tilt / tilt.sum(), 1.0 - exposure)
    turnover = np.abs(np.diff(weights[:, :-1], axis=0, prepend=0.0)).sum(axis=1)
    returns = (1 - cost * turnover) * (1 + (weights[:, :-1] * market.returns[start:stop]).sum(axis=1)) - 1
    return BacktestResult(
        name, market.dates[start:stop], market.assets, returns, market.benchmark_returns[start:stop],
        market.returns[start:stop], market.risk_free[start:stop], weights, turnover, cost * turnover, turnover > 0,
        detect_regimes(market).labels[start - 1 : stop - 1],
    )  # fmt: skip


def evaluation() -> ExperimentSummary:
    """An agent of two seeds, a base rule, equal weight, two other rules and the index."""
    market = load_bundled()
    agents = [backtest("agent", -1.0), backtest("agent", -1.3)]
    index = backtest(market.benchmark, 0.0)
    index = BacktestResult(**{**vars(index), "returns": index.benchmark_returns, "weights": np.zeros_like(index.weights)})
    rules = [
        backtest("base rule", 0.0, exposure=0.7), backtest("equal weight", 0.0, exposure=1.0),
        backtest("inverse <volatility> & more", -2.0), backtest("wild", 2.0), index,
    ]  # fmt: skip
    return ExperimentSummary(
        market, agents[0], rules, {7: {"validation_sharpe_ratio": 0.8, "test_sharpe_ratio": 1.0},
        8: {"validation_sharpe_ratio": 0.7, "test_sharpe_ratio": 1.1}}, 7, 0.25,
        generator={"real_std": 0.0184, "synthetic_std": 0.0171, "acf_error": 0.0312, "too_near_share": 0.05},
        subtitle="six stocks, 2016-2022, 10 bp", seed_results=agents, n_trials=92,
    )  # fmt: skip


def write_run(folder: Path, summary: ExperimentSummary, settings: str = "seed: 7\nagent:\n  gamma: 0\n") -> Path:
    """The folder that a run of this evaluation would leave, without models."""
    folder.mkdir()
    (folder / "config.yml").write_text(settings)
    (folder / "versions.json").write_text('{"numpy": "9.9.9"}')
    summary.write(folder)
    (folder / "metrics.json").write_text(json.dumps(summary.metrics))
    return folder
