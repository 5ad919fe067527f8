"""More of the markets in which the agent is behind."""

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from quantflux_sb3.callbacks.cores import own_cores
from quantflux_sb3.callbacks.diagnostics import known_regimes, step_figures
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import N_REGIMES
from quantflux_sb3.regimes import REGIMES


class RegimeCurriculumCallback(BaseCallback):
    """
    Draws training markets more often from the regimes where the agent trails the benchmark.

    For each regime it follows the agent's log return over the benchmark and its t statistic; the worse it is, the larger the
    regime's factor, between ``1 / strength`` and ``strength``. A market's sampling weight is its weight at the start of the
    training times the mean factor of its days. The factors are logged under ``curriculum/``. It needs several training
    markets, as the synthetic ones of ``quantflux run``; their days are drawn as before.

    :param strength: largest factor, > 1
    :param update_freq: steps of the training env between two updates (of all its envs together)
    :param memory: share of the statistics that is kept at an update, in [0, 1)
    :param verbose: not used
    """

    def __init__(self, strength: float = 3.0, update_freq: int = 10_000, memory: float = 0.8, verbose: int = 0):
        super().__init__(verbose)
        if not strength > 1.0 or update_freq < 1 or not 0.0 <= memory < 1.0:
            raise ValueError(
                "RegimeCurriculumCallback needs strength > 1, update_freq >= 1 and memory in [0, 1); got "
                f"{strength}, {update_freq} and {memory}."
            )
        self.strength, self.update_freq, self.memory = strength, update_freq, memory
        self.factors = np.ones(N_REGIMES)
        self._sums = np.zeros((3, N_REGIMES))  # days, excess, squared excess
        self._next = 0

    def _on_training_start(self) -> None:
        cores = self._cores()
        pool = cores[0].pool
        if len(pool.markets) < 2:
            raise ValueError(
                "RegimeCurriculumCallback chooses among training markets and there is only one; give the env a list of them."
            )
        self._start = pool.weights.copy()
        shares = [pool.prices.regime_probs[first:stop].mean(axis=0) for first, stop in cores[0].windows]
        self._shares = np.array(shares)
        self._next = self.num_timesteps + self.update_freq

    def _cores(self) -> list[PortfolioCore]:
        cores = own_cores(self.training_env)
        if not cores:
            raise ValueError(
                "RegimeCurriculumCallback needs QuantFlux envs in this process, in a QuantFluxVecEnv or a DummyVecEnv."
            )
        return cores

    def _on_step(self) -> bool:
        infos: list[dict[str, Any]] = self.locals.get("infos", [])
        figures, regimes = step_figures(self.training_env, infos), known_regimes(self.training_env, infos)
        excess = np.log1p(figures["portfolio_return"]) - np.log1p(figures["benchmark_return"])
        for row, values in enumerate((np.ones_like(excess), excess, excess**2)):
            self._sums[row] += np.bincount(regimes, weights=values, minlength=N_REGIMES)
        if self.num_timesteps >= self._next:
            self._next += self.update_freq
            self._update()
        return True

    def _update(self) -> None:
        self.factors = regime_factors(self._sums, self.strength)
        self._sums *= self.memory
        weights = self._start * (self._shares @ self.factors)
        for core in self._cores():
            core.pool = core.pool.with_weights(weights / weights.sum())
        for name, factor in zip(REGIMES, self.factors, strict=True):
            self.logger.record(f"curriculum/{name}_factor", float(factor))


def regime_factors(sums: np.ndarray, strength: float) -> np.ndarray:
    """
    :param sums: days, excess log returns and their squares by regime (3, n_regimes)
    :param strength: largest factor
    :return: ``strength ** (-t / 3)`` with the t statistic of the excess clipped to [-3, 3]; 1 on fewer than 30 days
        (n_regimes,)
    """
    days, excess, squares = sums
    mean = excess / np.maximum(days, 1.0)
    variance = np.maximum(squares / np.maximum(days, 1.0) - mean**2, 0.0)
    t = mean * np.sqrt(np.maximum(days, 1.0) / np.maximum(variance, 1e-16))
    return np.where(days >= 30.0, strength ** (-np.clip(t, -3.0, 3.0) / 3.0), 1.0)
