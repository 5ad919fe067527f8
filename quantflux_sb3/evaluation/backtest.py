"""
Backtests of rules and agents, by the one dynamics kernel, under the same costs, limits and gate.

What a strategy asks for (:mod:`quantflux_sb3.evaluation.decisions`) is replayed day by day through the kernel, which tells
the days between two decisions too. Several models, several markets, or both are backtested side by side.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from quantflux_sb3 import dynamics
from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import COST, PORTFOLIO_RETURN, REASON, REBALANCED, RECORD_HEAD, ROW, STOP, TERMS, TURNOVER
from quantflux_sb3.evaluation.decisions import Decisions, WeightFunction, WeightRule, decide_by_rule, play_batch
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.market.data import WARMUP_DAYS, MarketData
from quantflux_sb3.vec_env import make_quantflux_vec_env

__all__ = [
    "WeightFunction",
    "WeightRule",
    "backtest_in",
    "backtest_model",
    "backtest_models",
    "backtest_rule",
    "backtest_rules",
    "index_result",
    "replay",
    "replay_decisions",
]


def backtest_rule(rule: WeightRule, market: MarketData, split: str, config: PortfolioConfig) -> BacktestResult:
    """
    :param rule: the strategy
    :param market: the market
    :param split: the days that are to be earned
    :param config: costs, limits and gate; the episode is the whole split, and decisions are daily
    :return: what it did
    """
    return backtest_rules([rule], [market], split, config)[0][0]


def backtest_rules(
    rules: Sequence[WeightRule], markets: Sequence[MarketData], split: str, config: PortfolioConfig
) -> list[list[BacktestResult]]:
    """
    :param rules: strategies
    :param markets: with the same assets, generated ones say
    :param split: the days that are to be earned
    :param config: costs, limits and gate; the episode is the whole split, and decisions are daily
    :return: what each rule did in each market, a list per rule
    """
    core = _one_portfolio(list(markets), split, config)

    def backtest(rule: WeightRule, which: int) -> BacktestResult:
        _begin(core, which)
        decisions = decide_by_rule(rule, core)
        return replay(rule.name, core, decisions.requests, decisions.decides)

    return [[backtest(rule, which) for which in range(len(markets))] for rule in rules]


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
    return backtest_models([model], [market], split, config, wrappers, [name])[0][0]


def backtest_models(
    models: Sequence[BaseAlgorithm],
    markets: Sequence[MarketData],
    split: str,
    config: PortfolioConfig,
    wrappers: Sequence[Any] = (),
    names: Sequence[str] | None = None,
) -> list[list[BacktestResult]]:
    """
    Several models (seeds), several markets (scenarios), or both in one batched env: a portfolio for each pair.

    Models in one market do what they do alone to the last bit. In several markets a network sees several observations at
    once, and its weights differ in the seventh digit, as float32 rounds.

    :param models: trained SB3 models; they act deterministically
    :param markets: with the same assets, generated ones say
    :param split: the days that are to be earned
    :param config: costs, limits, gate, decision interval; an episode is the whole split
    :param wrappers: Vec wrappers around the env, such as ``VecMarketTiming``
    :param names: of the models in tables; "agent" for all if not given
    :return: what each model did in each market, a list per model
    """
    names = ["agent"] * len(models) if names is None else names
    settings = {**vars(config), "split": split, "episode_length": None}
    venv = make_quantflux_vec_env(len(models) * len(markets), list(markets), wrappers=wrappers, **settings)
    venv.unwrapped.core.assign(np.tile(np.arange(len(markets)), len(models)))
    results = iter(_replay_played(venv, models, np.repeat(names, len(markets)).tolist()))
    return [[next(results) for _ in markets] for _ in models]


def backtest_in(venv: VecEnv, model: BaseAlgorithm, name: str = "agent") -> BacktestResult:
    """
    :param venv: a QuantFluxVecEnv of one portfolio and one market, wrapped or not, whose episode is the whole split
    :param model: a trained SB3 model; it acts deterministically
    :param name: shown in tables
    :return: what it did
    """
    return _replay_played(venv, [model], [name])[0]


def _replay_played(venv: VecEnv, models: Sequence[BaseAlgorithm], names: Sequence[str]) -> list[BacktestResult]:
    played, among = play_batch(models, venv), venv.unwrapped.core
    core = _one_portfolio(among.pool, among.config.split, among.config)
    results = []
    for env, (name, decisions) in enumerate(zip(names, played, strict=True)):
        _begin(core, among.pool.market_of(int(among.clock[env, ROW])))
        results.append(replay(name, core, decisions.requests, decisions.decides))
    return results


def replay_decisions(name: str, market: MarketData, config: PortfolioConfig, decisions: Decisions) -> BacktestResult:
    """
    One portfolio through days that need not be a split: the joined decisions of agents trained year by year, say. It starts in
    cash at the close before the first of them.

    :param name: of the strategy
    :param market: the market
    :param config: costs, limits and gate
    :param decisions: about consecutive days of the market
    :return: what happened
    :raises ValueError: if the days are not consecutive days of the market, or begin within its warm-up
    """
    core = PortfolioCore(1, market, replace(config, episode_length=None))
    start = int(np.searchsorted(market.dates, decisions.dates[0]))
    stop = start + len(decisions.dates)
    if not np.array_equal(market.dates[start:stop], decisions.dates):
        raise ValueError(f"The decisions of '{name}' are about days that are no consecutive days of {market}.")
    if start <= WARMUP_DAYS:
        raise ValueError(f"The first day of '{name}' must come after {WARMUP_DAYS} days of warm-up; it is row {start}.")
    core.begin(0, start, stop)
    return replay(name, core, decisions.requests, decisions.decides)


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
    market = core.pool.markets[core.pool.market_of(first)]
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
    core = _one_portfolio(market, split, config)
    _begin(core, 0)
    n_days = int(core.clock[0, STOP] - core.clock[0, ROW]) - 1
    held = replay(market.benchmark, core, np.zeros((n_days, core.n_assets + 1)), np.zeros(n_days, dtype=np.bool_))
    nothing = {"weights": np.zeros_like(held.weights), "reward_terms": None, "reasons": None}
    return replace(held, returns=held.benchmark_returns, **nothing)


def _one_portfolio(market: Any, split: str, config: PortfolioConfig) -> PortfolioCore:
    return PortfolioCore(1, market, replace(config, split=split, episode_length=None))


def _begin(core: PortfolioCore, which: int) -> None:
    """Go to the start of the split in one of the markets."""
    start, stop = core.windows[which]
    core.begin(0, int(start), int(stop))
