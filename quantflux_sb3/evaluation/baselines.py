"""
What a user would pick instead of an agent: classical strategies, every one of them through the same costs, limits and gate.

===================== ====================================================================================================
Name                  Strategy
===================== ====================================================================================================
base rule             equal weight under the agent's exposure rule, without an agent
equal weight          traded back to equal weight when the gate opens; a decision a day
equal weight monthly  the same with a decision every 21 days
buy and hold          equal weight on the first day, then nothing is traded
inverse volatility    weights proportional to 1 / volatility
risk parity           equal contributions to the variance (Maillard, Roncalli & Teiletche 2010)
minimum variance      the portfolio of least variance (Markowitz 1952)
maximum Sharpe        the portfolio of the highest ratio of mean to standard deviation in the past (Sharpe 1966)
HRP                   hierarchical risk parity (Lopez de Prado 2016)
momentum 12-1         the half of the assets that rose most over a year without its last month (Jegadeesh & Titman 1993)
volatility target     equal weight, exposure 15 % / its own volatility, at most 1
regime timing         equal weight, exposure by the regime: 1, 0.5, 0.5, 1 in bull, bear, volatile, sideways markets
min of both           equal weight, exposure the smaller of the regime's and 15 % / volatility of the benchmark
Kelly                 equal weight, exposure half of Kelly's fraction averaged over 30, 63 and 126 days
===================== ====================================================================================================

What is fitted is fitted every 21 days on the last 252; decisions are daily unless said otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.evaluation.backtest import backtest_rules, index_result
from quantflux_sb3.evaluation.decisions import WeightRule
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.weights import SkfolioWeights, equal_weights, momentum_weights
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.sizing import KellyRule, TimingRule, VolatilityRule

AGENT = "agent"
EQUAL_WEIGHT = "equal weight"
BASE_RULE = "base rule"
MIN_OF_BOTH = "min of both"
#: A target that no volatility comes near: the regime alone decides.
_NO_TARGET = 100.0


def _sized(rule) -> Callable[..., WeightRule]:
    return lambda name, limit: WeightRule(name, equal_weights, refit_days=1, sizing=rule)


def _fitted(estimator: str, **kwargs) -> Callable[..., WeightRule]:
    return lambda name, limit: WeightRule(name, SkfolioWeights(estimator, limit, **kwargs))


#: From a name and the upper limit on weights to a strategy, in the order of tables.
_STRATEGIES: dict[str, Callable[..., WeightRule]] = {
    EQUAL_WEIGHT: _sized(None),
    "equal weight monthly": lambda name, limit: WeightRule(name, equal_weights, decision_days=21),
    "buy and hold": lambda name, limit: WeightRule(name, equal_weights, refit_days=None),
    "inverse volatility": _fitted("InverseVolatility"),
    "risk parity": lambda name, limit: WeightRule(name, SkfolioWeights("RiskBudgeting")),  # under a limit risks are not equal
    "minimum variance": _fitted("MeanRisk"),
    "maximum Sharpe": _fitted("MeanRisk", objective_function="MAXIMIZE_RATIO"),
    "HRP": _fitted("HierarchicalRiskParity"),
    "momentum 12-1": lambda name, limit: WeightRule(name, momentum_weights),
    "volatility target": _sized(VolatilityRule()),
    "regime timing": _sized(TimingRule(target_volatility=_NO_TARGET)),
    MIN_OF_BOTH: _sized(TimingRule()),
    "Kelly": _sized(KellyRule()),
}
#: Every baseline but the base rule and the index, which stand beside an agent in any case.
BASELINES = tuple(_STRATEGIES)


def baseline_rules(
    max_weight: float | np.ndarray = 1.0, timing: TimingRule | None = None, names: Sequence[str] | None = None
) -> list[WeightRule]:
    """
    :param max_weight: hard upper limit, one or one per asset, told to the optimisers that can respect it themselves
    :param timing: exposure rule of the base rule; none: the base rule is equal weight
    :param names: of ``BASELINES``, or dotted names of further optimisers of skfolio's kind; all of ``BASELINES`` if not given,
        without "min of both" where that is the base rule
    :return: the base rule, equal weight, then the others as named
    :raises ValueError: if there is no such baseline
    """
    if names is None:
        names = [name for name in BASELINES if name != MIN_OF_BOTH or timing != TimingRule()]
    unknown = [name for name in names if name not in (*BASELINES, BASE_RULE) and "." not in name]
    if unknown:
        raise ValueError(
            f"There is no baseline {unknown[0]!r}; expected some of {list(BASELINES)}, or a dotted name such as "
            "skfolio.optimization.MaximumDiversification."
        )
    chosen = [name for name in dict.fromkeys((EQUAL_WEIGHT, *names)) if name != BASE_RULE]
    base = WeightRule(BASE_RULE, equal_weights, refit_days=1, sizing=timing)
    return [base, *(_STRATEGIES.get(name, _fitted(name))(name, max_weight) for name in chosen)]


def run_baselines(
    market: MarketData,
    split: str,
    config: PortfolioConfig,
    timing: TimingRule | None = None,
    names: Sequence[str] | None = None,
) -> list[BacktestResult]:
    """
    :param market: the market
    :param split: the days that are to be earned
    :param config: costs, limits and gate, the same for all
    :param timing: exposure rule of the base rule
    :param names: see :func:`baseline_rules`
    :return: the base rule, equal weight, the others as named, the index last
    """
    limit = np.broadcast_to(np.asarray(config.max_weight, dtype=np.float64), (market.n_assets,))
    results = [row[0] for row in backtest_rules(baseline_rules(limit, timing, names), [market], split, config)]
    index = index_result(market, split, config)
    if index.name in (AGENT, *(result.name for result in results)):
        index = replace(index, name=f"{index.name} (index)")
    return [*results, index]
