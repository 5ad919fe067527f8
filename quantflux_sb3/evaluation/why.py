"""Why an agent held what it held, in the figures that a report shows."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.evaluation.explanation import explain_decision, feature_importance, regime_counterfactual
from quantflux_sb3.evaluation.observed import observe_decisions
from quantflux_sb3.market.data import MarketData


def explanation(
    model: BaseAlgorithm, market: MarketData, split: str, config: PortfolioConfig, wrappers: Sequence[Any] = ()
) -> dict[str, Any]:
    """
    The last decision of a split, and which features mattered over all of it. The arguments are those of
    :func:`quantflux_sb3.evaluation.backtest.backtest_model`.

    :return: ``date``, ``counterfactual`` where anything depends on the regime, and, if captum is installed, ``decision``
        and ``importance``; see :mod:`quantflux_sb3.evaluation.explanation`
    """
    decisions = observe_decisions(model, market, split, config, wrappers)
    figures: dict[str, Any] = {"date": str(decisions.dates[-1])}
    if wrappers or "regime" in decisions.layout.slices:
        figures["counterfactual"] = regime_counterfactual(model, decisions)
    if find_spec("captum"):
        decision = explain_decision(model, decisions)
        figures["decision"] = {key: value for key, value in decision.items() if key != "inputs"}
        figures["importance"] = feature_importance(model, decisions)
    return figures
