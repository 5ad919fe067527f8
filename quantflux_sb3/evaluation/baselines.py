"""What a user would pick instead of an agent: classical rules, by skfolio's optimisers where they need one."""

from dataclasses import replace

import numpy as np

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.evaluation.backtest import WeightRule, backtest_rule, index_result
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.sizing import TimingRule

AGENT = "agent"
EQUAL_WEIGHT = "equal weight"
BASE_RULE = "base rule"


def equal_weights(history: np.ndarray) -> np.ndarray:
    """
    :param history: returns so far (n_history, n_assets)
    :return: the same weight for every asset (n_assets,)
    """
    return np.full(history.shape[1], 1.0 / history.shape[1])


class SkfolioWeights:
    """
    Weights of a skfolio optimiser, refitted on the history it is given.

    :param estimator: class name in ``skfolio.optimization``
    :param kwargs: its arguments
    """

    def __init__(self, estimator: str, **kwargs):
        self.estimator, self.kwargs = estimator, kwargs

    def __call__(self, history: np.ndarray) -> np.ndarray:
        """
        :param history: returns so far (n_history, n_assets)
        :return: weights (n_assets,)
        """
        import skfolio.optimization

        return np.asarray(getattr(skfolio.optimization, self.estimator)(**self.kwargs).fit(history).weights_)


def baseline_rules(max_weight: float = 1.0, timing: TimingRule | None = None) -> list[WeightRule]:
    """
    :param max_weight: hard upper limit, told to the optimisers that can respect it themselves
    :param timing: exposure rule of the base rule; none: the base rule is equal weight
    :return: base rule first
    """
    return [
        WeightRule(BASE_RULE, equal_weights, refit_days=1, sizing=timing),
        WeightRule(EQUAL_WEIGHT, equal_weights, refit_days=1),
        WeightRule("buy and hold", equal_weights, refit_days=None),
        WeightRule("inverse volatility", SkfolioWeights("InverseVolatility")),
        WeightRule("minimum variance", SkfolioWeights("MeanRisk", max_weights=max_weight)),
        WeightRule("hierarchical risk parity", SkfolioWeights("HierarchicalRiskParity", max_weights=max_weight)),
    ]


def run_baselines(
    market: MarketData, split: str, config: PortfolioConfig, timing: TimingRule | None = None
) -> list[BacktestResult]:
    """
    :param market: the market
    :param split: the days that are to be earned
    :param config: costs, limits and gate, the same for all
    :param timing: exposure rule of the base rule
    :return: every baseline, the index last
    """
    rules = baseline_rules(float(np.max(config.max_weight)), timing)
    results = [backtest_rule(rule, market, split, config) for rule in rules]
    index = index_result(market, split, config)
    if index.name in (AGENT, *(result.name for result in results)):
        index = replace(index, name=f"{index.name} (index)")
    return [*results, index]
