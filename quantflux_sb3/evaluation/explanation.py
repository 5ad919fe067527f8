"""
Why an agent asked for what it asked for: which observed features moved which weight, and what it would have done in another
regime.

Integrated gradients share the difference between a decision and the decision on a baseline observation among the features,
completely: the effects on a weight sum to that difference. What is explained are the weights asked for, after the exposure
rules of the env if it has any, before its limits and its gate. They are what the network does, not what markets do.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import LONG_SHORT
from quantflux_sb3.evaluation.observed import ObservedDecisions
from quantflux_sb3.regimes import REGIMES
from quantflux_sb3.sizing import Sizing, TimingRule

#: Effects must sum to the difference of a weight to this [fraction of wealth]; integration steps are doubled until they do.
TOLERANCE = 1e-4
FIRST_STEPS, MOST_STEPS = 32, 1024
#: Steps for each decision where many are averaged: errors of single ones cancel.
AVERAGED_STEPS = 64
#: Observations that the network sees at once.
BATCH = 4096
#: Name of the actual decision among those of the regimes.
OBSERVED = "as observed"


def explain_decision(
    model: BaseAlgorithm, decisions: ObservedDecisions, which: Any = -1, baseline: np.ndarray | None = None
) -> dict[str, Any]:
    """
    Which features moved which weight at one decision.

    The exposure that the rules of the env set is the same for decision and baseline, so that the effects are those of the
    policy; what the rules do is in :func:`regime_counterfactual`.

    Source: Sundararajan, Taly & Yan (2017), Axiomatic Attribution for Deep Networks, eq. 1 and 3; computed by captum.

    :param model: the model
    :param decisions: what it saw
    :param which: index of the decision, or a day (the last decision up to it)
    :param baseline: observation to compare with (obs_size,); the mean one if not given
    :return: ``date``, ``weights`` and ``baseline_weights`` by asset and cash, ``exposure``; ``features``: rows of ``block``,
        ``feature``, ``effects`` on each weight (those of the feature of all assets together) and ``moved`` (half the sum of
        their absolute values: the share of wealth that the feature moved), the largest first; ``inputs``: ``names``,
        ``values``, ``baseline`` and ``effects`` (obs_size, n_assets + 1) of every observed number; ``completeness_error``
        (largest difference between the sum of the effects and what they explain) [fraction of wealth]
    :raises ImportError: if captum is not installed
    """
    index = which if isinstance(which, (int, np.integer)) else decisions.at(which)
    observation = decisions.observations[index]
    baseline = decisions.observations.mean(axis=0) if baseline is None else np.asarray(baseline, dtype=np.float32)
    asked = _asked_weights(model.policy, decisions, index)
    effects, error = integrated_gradients(asked, observation, baseline, model.policy.device)
    weights, from_weights = (_evaluate(asked, obs, model.policy.device) for obs in (observation, baseline))
    names = decisions.weight_names
    return {
        "date": str(decisions.dates[index]),
        "weights": dict(zip(names, weights.tolist(), strict=True)),
        "baseline_weights": dict(zip(names, from_weights.tolist(), strict=True)),
        "exposure": float(1.0 - weights[-1]),
        "features": _feature_rows(decisions, effects),
        "inputs": {
            "names": decisions.input_names,
            "values": observation.tolist(),
            "baseline": baseline.tolist(),
            "effects": effects.tolist(),
        },
        "completeness_error": error,
    }


def feature_importance(
    model: BaseAlgorithm, decisions: ObservedDecisions, n_decisions: int = 50, baseline: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """
    How much of the portfolio each feature moves, on average over decisions spread evenly over the episode.

    :param model: the model
    :param decisions: what it saw
    :param n_decisions: how many of them to explain
    :param baseline: see :func:`explain_decision`
    :return: rows of ``block``, ``feature``, ``importance`` (mean of ``moved``) [fraction of wealth], the largest first
    :raises ValueError: if there is nothing to explain
    """
    if n_decisions < 1:
        raise ValueError(f"`n_decisions` must be at least 1; got {n_decisions}.")
    chosen = np.unique(np.linspace(0, len(decisions.rows) - 1, n_decisions).astype(int))
    baseline = decisions.observations.mean(axis=0) if baseline is None else np.asarray(baseline, dtype=np.float32)
    moved: dict[tuple[str, str], float] = {}
    for index in chosen:
        asked = _asked_weights(model.policy, decisions, int(index))
        effects, _ = integrated_gradients(asked, decisions.observations[index], baseline, model.policy.device, AVERAGED_STEPS)
        for row in _feature_rows(decisions, effects):
            key = row["block"], row["feature"]
            moved[key] = moved.get(key, 0.0) + row["moved"] / len(chosen)
    rows = [{"block": block, "feature": feature, "importance": value} for (block, feature), value in moved.items()]
    return sorted(rows, key=lambda row: -row["importance"])


def regime_counterfactual(model: BaseAlgorithm, decisions: ObservedDecisions, which: Any = -1) -> list[dict[str, Any]]:
    """
    The same day in another regime: the probabilities of the regimes replaced by one certain regime, in the observation and in
    the timing rule, everything else being equal (the days since the last change of regime, too).

    :param model: the model
    :param decisions: what it saw
    :param which: index of the decision, or a day (the last decision up to it)
    :return: rows of ``regime`` (``as observed`` first, then each of ``REGIMES``), ``weights`` asked for by asset and cash,
        ``exposure``, and ``policy_weights`` and ``policy_exposure`` before the exposure rules of the env
    :raises ValueError: if neither the observation nor an exposure rule knows of regimes
    """
    index = which if isinstance(which, (int, np.integer)) else decisions.at(which)
    timed = any(isinstance(sizing.rule, TimingRule) for sizing in decisions.core.sizing)
    if "regime" not in decisions.layout.slices and not timed:
        raise ValueError("Neither the observation nor an exposure rule knows of regimes; there is no other regime to be in.")
    rows = []
    for regime in (None, *range(len(REGIMES))):
        observation = _in_regime(decisions, index, regime)
        policy = _evaluate(lambda obs: policy_weights(model.policy, obs, decisions.core), observation, model.policy.device)
        asked = policy.copy()[None]
        for sizing in reversed(decisions.core.sizing):
            _sizing_in(sizing, regime).apply(asked, decisions.core.pool, decisions.rows[[index]] - decisions.core.rules.lag)
        rows.append(
            {
                "regime": OBSERVED if regime is None else REGIMES[regime],
                "weights": dict(zip(decisions.weight_names, asked[0].tolist(), strict=True)),
                "exposure": float(1.0 - asked[0, -1]),
                "policy_weights": dict(zip(decisions.weight_names, policy.tolist(), strict=True)),
                "policy_exposure": float(1.0 - policy[-1]),
            }
        )
    return rows


def _in_regime(decisions: ObservedDecisions, index: int, regime: int | None) -> np.ndarray:
    observation = decisions.observations[index].copy()
    if regime is not None and "regime" in decisions.layout.slices:
        scaled = decisions.normalizer
        observation = scaled.unnormalize_obs(observation) if scaled else observation
        begin = decisions.layout.slices["regime"].start
        observation[begin : begin + len(REGIMES)] = np.eye(len(REGIMES))[regime]
        observation = scaled.normalize_obs(observation) if scaled else observation
    return observation


def _sizing_in(sizing: Sizing, regime: int | None) -> Sizing:
    """The same rule where one regime is certain: every regime then has the exposure of that one."""
    if regime is None or not isinstance(sizing.rule, TimingRule):
        return sizing
    return sizing._replace(rule=replace(sizing.rule, regime_exposure=(sizing.rule.regime_exposure[regime],) * len(REGIMES)))


def policy_weights(policy: BasePolicy, observations: th.Tensor, core: PortfolioCore) -> th.Tensor:
    """
    Deterministic actions of a policy, read as weights as the kernel reads them, with gradients.

    :param policy: of any SB3 model that is not recurrent
    :param observations: (n, obs_size)
    :param core: of its env
    :return: weights, cash last (n, n_assets + 1)
    """
    actions = policy._predict(observations, deterministic=True)
    low, high = (th.as_tensor(bound, device=actions.device) for bound in (policy.action_space.low, policy.action_space.high))
    actions = low + 0.5 * (actions + 1.0) * (high - low) if policy.squash_output else actions
    actions = th.maximum(th.minimum(actions, high), low)
    if core.reading == LONG_SHORT:
        assets = actions[:, :-1]
        return th.cat([assets, 1.0 - assets.sum(dim=1, keepdim=True)], dim=1)
    total = actions.sum(dim=1, keepdim=True)
    cash = th.nn.functional.one_hot(th.tensor(actions.shape[1] - 1, device=actions.device), actions.shape[1])
    return th.where(total > 0.0, actions / th.where(total > 0.0, total, 1.0), cash.to(actions.dtype))


def _asked_weights(policy: BasePolicy, decisions: ObservedDecisions, index: int) -> Callable[[th.Tensor], th.Tensor]:
    """From observations to the weights asked for, the exposure being that of one decision."""
    policy.set_training_mode(False)
    if not decisions.core.sizing:
        return lambda observations: policy_weights(policy, observations, decisions.core)
    exposure = float(np.abs(decisions.requests[index, :-1]).sum())
    own = _evaluate(lambda obs: policy_weights(policy, obs, decisions.core), decisions.observations[index], policy.device)
    factor = exposure / max(float(np.abs(own[:-1]).sum()), 1e-12)
    replaces = any(not sizing.keep_cash for sizing in decisions.core.sizing)

    def asked(observations: th.Tensor) -> th.Tensor:
        assets = policy_weights(policy, observations, decisions.core)[:, :-1]
        scale = exposure / assets.abs().sum(dim=1, keepdim=True).clamp(min=1e-12) if replaces else factor
        return th.cat([assets * scale, 1.0 - (assets * scale).sum(dim=1, keepdim=True)], dim=1)

    return asked


def integrated_gradients(
    function: Callable[[th.Tensor], th.Tensor],
    observation: np.ndarray,
    baseline: np.ndarray,
    device: Any = "cpu",
    most_steps: int = MOST_STEPS,
) -> tuple[np.ndarray, float]:
    """
    Effects of every input on every output, with as many integration steps as they need to add up.

    :param function: from inputs (n, n_inputs) to outputs (n, n_outputs)
    :param observation: (n_inputs,)
    :param baseline: (n_inputs,)
    :param device: of the function
    :param most_steps: of the integration, where they do not add up (actions that hit their bounds have kinks)
    :return: effects (n_inputs, n_outputs), and by how much the sum of some output's effects misses what they explain
    :raises ImportError: if captum is not installed
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise ImportError("Explaining decisions needs captum: pip install 'quantflux_sb3[explain]'.") from error
    end, start = (th.as_tensor(values, dtype=th.float32, device=device)[None] for values in (observation, baseline))
    difference = (_evaluate(function, observation, device) - _evaluate(function, baseline, device)).astype(np.float64)
    outputs = th.arange(len(difference), device=device)
    steps = FIRST_STEPS
    while True:
        effects = IntegratedGradients(function).attribute(
            end.repeat(len(outputs), 1), start, target=outputs, n_steps=steps, internal_batch_size=max(BATCH, len(outputs))
        )
        table = effects.detach().cpu().numpy().astype(np.float64).T
        error = float(np.abs(table.sum(axis=0) - difference).max())
        if error <= TOLERANCE or steps >= most_steps:
            return table, error
        steps *= 2


def _feature_rows(decisions: ObservedDecisions, effects: np.ndarray) -> list[dict[str, Any]]:
    """Effects summed over the assets that a feature is observed of, the most moving feature first."""
    rows = []
    for block in decisions.layout.blocks:
        by_place = effects[decisions.layout.slices[block.name]].reshape(-1, len(block.columns), effects.shape[1])
        for column, on_weights in zip(block.columns, by_place.sum(axis=0), strict=True):
            shares = dict(zip(decisions.weight_names, on_weights.tolist(), strict=True))
            moved = float(np.abs(on_weights).sum() / 2.0)
            rows.append({"block": block.name, "feature": column, "effects": shares, "moved": moved})
    return sorted(rows, key=lambda row: -row["moved"])


def _evaluate(function: Callable[[th.Tensor], th.Tensor], observation: np.ndarray, device: Any) -> np.ndarray:
    with th.no_grad():
        outputs = function(th.as_tensor(observation, dtype=th.float32, device=device)[None])
    return outputs[0].cpu().numpy().astype(np.float64)
