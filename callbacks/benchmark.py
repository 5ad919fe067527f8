"""Evaluation on real unseen days while training goes on: against equal weight, on the validation years."""

import os
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from quantflux_sb3.evaluation.backtest import WeightRule, backtest_in, backtest_rule
from quantflux_sb3.evaluation.baselines import equal_weights
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.market import as_market
from quantflux_sb3.vec_env import QuantFluxVecEnv


class BenchmarkEvalCallback(BaseCallback):
    """
    Backtests the policy on a split of a real market every ``eval_freq`` steps, with the settings, observation and sizing of
    the training env, and logs it beside equal weight under ``benchmark/``. The best model so far is kept if a path is given.

    Never use the test split to choose a model: it is refused.

    :param market: see :func:`quantflux_sb3.market.as_market`; the bundled one if not given
    :param split: "validation" or "train"
    :param eval_freq: steps of the training env between two evaluations (of all its envs together)
    :param best_model_save_path: folder for ``best_model.zip``
    :param verbose: 1: print each evaluation
    :raises ValueError: if the split is the test split, or a wrapper of the training env changes the observation
    """

    def __init__(
        self,
        market: Any = None,
        split: str = "validation",
        eval_freq: int = 10_000,
        best_model_save_path: str | None = None,
        verbose: int = 0,
    ):
        super().__init__(verbose)
        if split not in ("validation", "train"):
            raise ValueError(f"Models are chosen on 'validation' (or 'train') only; got split '{split}'.")
        self.market, self.split, self.eval_freq = as_market(market), split, eval_freq
        self.best_model_save_path = best_model_save_path
        self.best_sharpe_ratio = -np.inf
        self._next = 0
        self._equal_weight: dict[str, float] = {}

    def _on_training_start(self) -> None:
        core = self.training_env.get_attr("core")[0]
        self._refuse_other_observations(core.layout.size)
        self._venv = QuantFluxVecEnv.like(core, 1, self.market, split=self.split, episode_length=None)
        rule = WeightRule("equal weight", equal_weights, refit_days=1)
        self._equal_weight = performance(backtest_rule(rule, self.market, self.split, self._venv.core.config))
        self._next = self.num_timesteps + self.eval_freq

    def _refuse_other_observations(self, size: int) -> None:
        normalised = self.model.get_vec_normalize_env()
        if (normalised is not None and normalised.norm_obs) or self.model.observation_space.shape != (size,):
            raise ValueError(
                "BenchmarkEvalCallback shows the policy the env's own observation; the training env changes it (VecNormalize "
                "or VecFrameStack). Train without: the features are scaled already."
            )

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next:
            self._next += self.eval_freq
            self._evaluate()
        return True

    def _on_training_end(self) -> None:
        self._evaluate()

    def _evaluate(self) -> None:
        figures = performance(backtest_in(self._venv, self.model))
        sharpe = figures["sharpe_ratio"]
        self.logger.record("benchmark/sharpe_ratio", sharpe)
        self.logger.record("benchmark/sharpe_over_equal_weight", sharpe - self._equal_weight["sharpe_ratio"])
        for name in ("annual_return", "annual_volatility", "max_drawdown", "annual_turnover", "distance_to_equal_weight"):
            self.logger.record(f"benchmark/{name}", figures[name])
        if self.verbose:
            print(f"{self.split}: Sharpe {sharpe:.3f}, equal weight {self._equal_weight['sharpe_ratio']:.3f}")
        if sharpe > self.best_sharpe_ratio:
            self.best_sharpe_ratio = sharpe
            if self.best_model_save_path:
                self.model.save(os.path.join(self.best_model_save_path, "best_model"))
