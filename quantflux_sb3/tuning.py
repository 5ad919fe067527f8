"""
Search spaces for ``quantflux train -optimize``: rl_zoo3 samples from them in place of its own.

rl_zoo3's spaces replace ``policy_kwargs`` as a whole and know nothing of portfolios: gamma is near 1, and rollouts are up to
4,096 steps of every env. These keep what the configuration says of the policy and look where the literature of this package
found something (docs/policies.md).
"""

import ast
from collections.abc import Callable
from typing import Any

import optuna
from torch import nn

#: What rl_zoo3 calls a sampler: (trial, n_actions, n_envs, additional arguments) to arguments of the algorithm.
Sampler = Callable[[optuna.Trial, int, int, dict], dict[str, Any]]
WIDTHS = {"32": [32], "64": [64], "32-32": [32, 32], "64-64": [64, 64]}
GAMMAS = (0.0, 0.3, 0.6, 0.9)
ON_POLICY, OFF_POLICY = ("ppo", "a2c", "trpo", "ppo_lstm"), ("sac", "tqc")


def install_search_spaces(hyperparams: dict[str, Any]) -> None:
    """
    Put these spaces in the place of rl_zoo3's for this process.

    :param hyperparams: of the configuration; what it says of ``policy`` and ``policy_kwargs`` is kept
    """
    from rl_zoo3 import hyperparams_opt

    base, n_envs = parse_kwargs(hyperparams.get("policy_kwargs", {})), int(hyperparams.get("n_envs", 1))
    for algorithm in (*ON_POLICY, *OFF_POLICY):
        explores = "Softmax" in str(hyperparams.get("policy", "")) or "log_std_init" in base
        sampler = _off_policy if algorithm in OFF_POLICY else _on_policy(algorithm, explores)
        hyperparams_opt.HYPERPARAMS_SAMPLER[algorithm] = _keeping(base, sampler)
        hyperparams_opt.HYPERPARAMS_CONVERTER[algorithm] = _replaying(base, sampler, n_envs)


def parse_kwargs(text: Any) -> dict[str, Any]:
    """
    :param text: ``policy_kwargs`` as configurations hold them: a mapping, or ``"dict(name=literal, ...)"``
    :raises ValueError: if it is anything else
    """
    if isinstance(text, dict):
        return dict(text)
    try:
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "dict" and not call.args:
            return {item.arg: _value(item.value) for item in call.keywords if item.arg}
    except (SyntaxError, TypeError, ValueError):
        pass
    raise ValueError(f"policy_kwargs must be a mapping or 'dict(name=value, ...)' of plain values; got {text!r}.")


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return parse_kwargs(ast.unparse(node))
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "nn":
        return getattr(nn, node.attr)
    return ast.literal_eval(node)


def _keeping(base: dict[str, Any], sampler: Callable[[Any, int], dict[str, Any]]) -> Sampler:
    def sample(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict) -> dict[str, Any]:
        sampled = sampler(trial, n_envs)
        return {**sampled, "policy_kwargs": {**base, **sampled["policy_kwargs"]}}

    return sample


def _replaying(
    base: dict[str, Any], sampler: Callable[[Any, int], dict[str, Any]], n_envs: int
) -> Callable[[dict], dict[str, Any]]:
    """What rl_zoo3 makes of a saved trial (``--trial-id``)."""

    def convert(params: dict[str, Any]) -> dict[str, Any]:
        return _keeping(base, sampler)(optuna.trial.FixedTrial(params), 0, n_envs, {})

    return convert


def _on_policy(algorithm: str, explores: bool) -> Callable[[Any, int], dict[str, Any]]:
    def sample(trial: Any, n_envs: int) -> dict[str, Any]:
        rollout = 2 ** trial.suggest_int("rollout_pow", 9, 11)
        kwargs: dict[str, Any] = {"net_arch": WIDTHS[trial.suggest_categorical("net_arch", list(WIDTHS))]}
        if explores:
            kwargs["log_std_init"] = trial.suggest_float("log_std_init", -2.0, 0.5)
        params = {
            "n_steps": max(rollout // n_envs, 2),
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 4e-3, log=True),
            "gamma": trial.suggest_categorical("gamma", list(GAMMAS)),
            "gae_lambda": trial.suggest_categorical("gae_lambda", [0.9, 1.0]),
            "policy_kwargs": kwargs,
        }
        if algorithm == "a2c":
            return params
        params["batch_size"] = max(rollout // n_envs, 2) * n_envs
        if algorithm == "trpo":
            return {**params, "target_kl": trial.suggest_float("target_kl", 0.003, 0.05, log=True)}
        epochs = trial.suggest_int("n_epochs", 3, 10)
        return {**params, "n_epochs": epochs, "ent_coef": trial.suggest_float("ent_coef", 1e-5, 1e-2, log=True)}

    return sample


def _off_policy(trial: Any, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 2e-3, log=True),
        "gamma": trial.suggest_categorical("gamma", list(GAMMAS)),
        "tau": trial.suggest_categorical("tau", [0.005, 0.01, 0.02, 0.05]),
        "batch_size": trial.suggest_categorical("batch_size", [128, 256, 512]),
        "policy_kwargs": {"net_arch": WIDTHS[trial.suggest_categorical("net_arch", list(WIDTHS))]},
    }
