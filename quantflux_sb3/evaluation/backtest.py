"""
Backtests of rules and agents on real days, by the one dynamics kernel, under the same costs, limits and gate.

An agent plays its decisions in an env; they are then replayed day by day through the kernel, which also tells the days
between two decisions. A rule is given its history and nothing else: ``history[:t - lag + 1]`` at the close of row ``t``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from quantflux_sb3 import dynamics
from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import COST, PORTFOLIO_RETURN, REASON, REBALANCED, RECORD_HEAD, ROW, STOP, TERMS, TURNOVER
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.sizing import SizingRule
from quantflux_sb3.vec_env import make_quantflux_vec_env

#: From the returns known so far (n_history, n_assets) to asset weights (n_assets,).
WeightFunction = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class WeightRule:
    """
    A strategy without learning.

    :param name: shown in tables
    :param weights: from the returns known so far (n_history, n_assets) to asset weights (n_assets,); they need not sum to 1:
        the rest is cash
    :param refit_days: days between two computations of the weights; in between the target stays. None: once
    :param lookback: days of history handed over
    :param sizing: exposure rule on top
    """

    name: str
    weights: WeightFunction
    refit_days: int | None = 21
    lookback: int = 252
    sizing: SizingRule | None = None


def backtest_rule(rule: WeightRule, market: MarketData, split: str, config: PortfolioConfig) -> BacktestResult:
    """
    :param rule: the strategy
    :param market: the market
    :param split: the days that are to be earned
    :param config: costs, limits and gate; the episode is the whole split, and decisions are daily
    :return: what it did
    """
    core = _core_on(market, split, config)
    rows = np.arange(core.clock[0, ROW], core.clock[0, STOP] - 1)
    known = rows - core.rules.lag
    every = rule.refit_days or len(rows)
    targets = np.empty((len(rows), core.n_assets))
    for first in range(0, len(rows), every):
        history = market.returns[max(known[first] + 1 - rule.lookback, 0) : known[first] + 1]
        weights = np.asarray(rule.weights(history), dtype=np.float64)
        if weights.shape != (core.n_assets,):
            raise ValueError(f"'{rule.name}' gave weights of shape {weights.shape}; expected ({core.n_assets},).")
        targets[first : first + every] = weights
    if rule.sizing is not None:
        total = np.maximum(targets.sum(axis=1), 1e-12)
        targets *= (rule.sizing.exposure(core.pool, known, targets) / total)[:, None]
    requests = np.column_stack([targets, np.maximum(1.0 - targets.sum(axis=1), 0.0)])
    decides = np.ones(len(rows), dtype=np.bool_) if rule.refit_days else np.arange(len(rows)) == 0
    return replay(rule.name, core, requests, decides)


def backtest_model(
    model: BaseAlgorithm,
    market: MarketData,
    split: str,
    config: PortfolioConfig,
    wrappers: Sequence[Any] = (),
    name: str = "agent",
) -> BacktestResult:
    """
    :param model: a trained SB3 model; it acts deterministically
    :param market: the market
    :param split: the days that are to be earned
    :param config: costs, limits, gate, decision interval; the episode is the whole split
    :param wrappers: Vec wrappers around the env, such as ``VecMarketTiming``
    :param name: shown in tables
    :return: what it did
    """
    settings = {**vars(config), "split": split, "episode_length": None}
    return backtest_in(make_quantflux_vec_env(1, market, wrappers=wrappers, **settings), model, name)


def backtest_in(venv: VecEnv, model: BaseAlgorithm, name: str = "agent") -> BacktestResult:
    """
    :param venv: a QuantFluxVecEnv of one portfolio and one market, wrapped or not, whose episode is the whole split
    :param model: a trained SB3 model; it acts deterministically
    :param name: shown in tables
    :return: what it did
    """
    core = venv.unwrapped.core
    requests, decides = _play(model, venv)
    return replay(name, _core_on(core.pool.markets[0], core.config.split, core.config), requests, decides)


def replay(name: str, core: PortfolioCore, requests: np.ndarray, decides: np.ndarray) -> BacktestResult:
    """
    :param name: of the strategy
    :param core: one portfolio at the start of its episode
    :param requests: weights asked for, one row a day (n_days, n_assets + 1)
    :param decides: False on days without a decision (n_days,)
    :return: what happened
    """
    weights = np.empty_like(requests)
    if not dynamics.read_actions(requests, core.reading, weights):
        raise ValueError(f"'{name}' asked for weights that are not finite.")
    first = int(core.clock[0, ROW])
    records = dynamics.run_targets(weights, decides, core.prices, core.rules, core.state[0], core.clock[0])
    earned, n = np.arange(first + 1, first + 1 + len(records)), core.n_assets + 1
    market = core.pool.markets[0]
    return BacktestResult(
        name=name,
        dates=core.pool.dates[earned],
        assets=market.assets,
        returns=records[:, PORTFOLIO_RETURN],
        benchmark_returns=core.prices.benchmark[earned],
        asset_returns=core.prices.returns[earned],
        risk_free=core.prices.risk_free[earned],
        weights=records[:, RECORD_HEAD : RECORD_HEAD + n],
        turnover=records[:, TURNOVER],
        costs=records[:, COST],
        rebalanced=records[:, REBALANCED] > 0.0,
        regimes=core.prices.regime_probs[earned - 1 - core.rules.lag].argmax(axis=1),
        periods_per_year=market.periods_per_year,
        reward_terms=records[:, TERMS:RECORD_HEAD],
        reasons=records[:, REASON].astype(np.int64),
    )


def index_result(market: MarketData, split: str, config: PortfolioConfig) -> BacktestResult:
    """
    The benchmark itself, which trades nothing and costs nothing. Its weights in the assets are zero.

    :param market: the market
    :param split: the days that are to be earned
    :param config: gives the lag of the regimes
    """
    core = _core_on(market, split, config)
    n_days = int(core.clock[0, STOP] - core.clock[0, ROW]) - 1
    held = replay(market.benchmark, core, np.zeros((n_days, core.n_assets + 1)), np.zeros(n_days, dtype=np.bool_))
    nothing = {"weights": np.zeros_like(held.weights), "reward_terms": None, "reasons": None}
    return replace(held, returns=held.benchmark_returns, **nothing)


def _core_on(market: MarketData, split: str, config: PortfolioConfig) -> PortfolioCore:
    core = PortfolioCore(1, market, replace(config, split=split, episode_length=None))
    start, stop = core.windows[0]
    core.begin(0, int(start), int(stop))
    return core


def _play(model: BaseAlgorithm, venv: VecEnv) -> tuple[np.ndarray, np.ndarray]:
    """Let a model act through one episode; the weights asked for by day, and on which days it decided."""
    core = venv.unwrapped.core
    obs, state, start = venv.reset(), None, np.ones(1, dtype=bool)
    first, stop = (int(value) for value in core.clock[0, :2])
    requests = np.zeros((stop - 1 - first, core.n_assets + 1))
    decides = np.zeros(len(requests), dtype=np.bool_)
    while True:
        day = int(core.clock[0, ROW]) - first
        actions, state = model.predict(obs, state=state, episode_start=start, deterministic=True)
        obs, _, dones, _ = venv.step(actions)
        requests[day:], decides[day] = core.requests[0], True
        start = dones
        if dones[0]:
            return requests, decides
