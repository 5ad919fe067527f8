"""What the policy does while it learns: its allocation, and in which regimes it earns."""

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from quantflux_sb3.callbacks.cores import batched_core, first_core
from quantflux_sb3.dynamics import (
    BENCHMARK_RETURN,
    COST,
    EXPOSURE,
    KNOWN_ROW,
    PORTFOLIO_RETURN,
    REBALANCED,
    RECORD_HEAD,
    TURNOVER,
)  # fmt: skip
from quantflux_sb3.regimes import REGIMES

#: What is read of a step of every env, beside the weights.
_FIGURES = {
    "turnover": TURNOVER, "cost": COST, "rebalanced": REBALANCED, "exposure": EXPOSURE,
    "portfolio_return": PORTFOLIO_RETURN, "benchmark_return": BENCHMARK_RETURN,
}  # fmt: skip


def step_figures(env: VecEnv, infos: list[dict[str, Any]]) -> dict[str, np.ndarray] | None:
    """
    The last step of every env, from the arrays of a batched env or from the infos of single ones.

    :param env: the training env
    :param infos: of the step
    :return: figures by name (n_envs,), and ``weights`` (n_envs, n_assets + 1); None if the env is no QuantFlux env
    """
    core = batched_core(env)
    if core is not None:
        figures = {name: core.records[:, column].copy() for name, column in _FIGURES.items()}
        return {**figures, "weights": core.records[:, RECORD_HEAD : RECORD_HEAD + core.n_assets + 1].copy()}
    if not infos or "weights" not in infos[0]:
        return None
    return {name: np.array([info[name] for info in infos], dtype=np.float64) for name in (*_FIGURES, "weights")}


def known_regimes(env: VecEnv, infos: list[dict[str, Any]]) -> np.ndarray | None:
    """
    :param env: the training env
    :param infos: of the step
    :return: regime known to each env's decision (n_envs,), index into ``REGIMES``; None if the env is no QuantFlux env
    """
    core = batched_core(env)
    if core is not None:
        return core.prices.regime_probs[core.records[:, KNOWN_ROW].astype(int)].argmax(axis=1)
    if not infos or "regime" not in infos[0]:
        return None
    return np.array([REGIMES.index(info["regime"]) for info in infos])


class _RolloutCallback(BaseCallback):
    """Gathers something at every step and logs its summary at the end of every rollout, or every ``log_freq`` steps."""

    def __init__(self, log_freq: int = 1000, verbose: int = 0):
        super().__init__(verbose)
        self.log_freq = log_freq
        self._steps: list[Any] = []

    def _gather(self) -> Any:
        raise NotImplementedError

    def _summary(self, steps: list[Any]) -> dict[str, float]:
        raise NotImplementedError

    def _on_step(self) -> bool:
        step = self._gather()
        if step is not None:
            self._steps.append(step)
        if len(self._steps) >= self.log_freq:
            self._on_rollout_end()
        return True

    def _on_rollout_end(self) -> None:
        if self._steps:
            for name, value in self._summary(self._steps).items():
                self.logger.record(name, float(value))
            self._steps = []


class AllocationDiagnosticsCallback(_RolloutCallback):
    """
    Logs under ``allocation/``: effective number of assets, distance to equal weight, turnover, cost, share of steps with a
    trade, exposure, share of weights at the cap, concentration (Herfindahl index).

    :param log_freq: steps after which a summary is logged even if no rollout has ended
    :param verbose: not used
    """

    def _gather(self) -> dict[str, np.ndarray] | None:
        return step_figures(self.training_env, self.locals.get("infos", []))

    def _summary(self, steps: list[Any]) -> dict[str, float]:
        figures = {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}
        assets = figures["weights"][:, :-1]
        invested = assets.sum(axis=1) > 1e-9
        shares = assets[invested] / assets[invested].sum(axis=1, keepdims=True)
        herfindahl = (shares**2).sum(axis=1)
        equal = 1.0 / assets.shape[1]
        return {
            "allocation/effective_assets": _mean(1.0 / herfindahl),
            "allocation/distance_to_equal_weight": _mean(0.5 * np.abs(shares - equal).sum(axis=1)),
            "allocation/concentration": _mean(herfindahl),
            "allocation/turnover": _mean(figures["turnover"]),
            "allocation/cost": _mean(figures["cost"]),
            "allocation/trade_share": _mean(figures["rebalanced"]),
            "allocation/exposure": _mean(figures["exposure"]),
            "allocation/cap_hits": _mean(assets >= self._caps() - 1e-9),
        }

    def _caps(self) -> np.ndarray:
        return first_core(self.training_env).rules.max_weight


class RegimeAttributionCallback(_RolloutCallback):
    """
    Logs under ``regime/``, for each regime: its share of the steps, and the mean log return over the benchmark in it.

    :param log_freq: steps after which a summary is logged even if no rollout has ended
    :param verbose: not used
    """

    def _gather(self) -> tuple[np.ndarray, np.ndarray] | None:
        infos = self.locals.get("infos", [])
        figures, regimes = step_figures(self.training_env, infos), known_regimes(self.training_env, infos)
        if figures is None or regimes is None:
            return None
        return regimes, np.log1p(figures["portfolio_return"]) - np.log1p(figures["benchmark_return"])

    def _summary(self, steps: list[Any]) -> dict[str, float]:
        regimes, excess = (np.concatenate(parts) for parts in zip(*steps, strict=True))
        summary = {}
        for index, name in enumerate(REGIMES):
            summary[f"regime/{name}_share"] = _mean(regimes == index)
            if (regimes == index).any():
                summary[f"regime/{name}_excess_log_return"] = _mean(excess[regimes == index])
        return summary


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if np.size(values) else 0.0
