"""Evaluation on real unseen days while training goes on: against equal weight, on the validation years."""

import os
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure

from quantflux_sb3.callbacks.cores import first_core
from quantflux_sb3.evaluation import plots
from quantflux_sb3.evaluation.backtest import WeightRule, backtest_in, backtest_rule
from quantflux_sb3.evaluation.baselines import equal_weights
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.market import MarketData, as_market
from quantflux_sb3.vec_env import QuantFluxVecEnv

#: What is logged of a backtest, beside the Sharpe ratios.
_FIGURES = ("annual_return", "annual_volatility", "max_drawdown", "annual_turnover", "distance_to_equal_weight")


class EvalOnRealCallback(BaseCallback):
    """
    Backtests the policy on the validation years of a real market every ``eval_freq`` steps, with the settings, observation and
    sizing of the training env, and logs it beside equal weight under ``validation/``. The best model so far is kept if a path
    is given. Models are never chosen on the test years, nor on synthetic markets, whatever the agent trains on.

    :param market: see :func:`quantflux_sb3.market.as_market`; the first real market of the training env if not given
    :param eval_freq: steps of the training env between two evaluations (of all its envs together)
    :param best_model_save_path: folder for ``best_model.zip``
    :param figures: also log what was held, and in which regimes it earned, as pictures (TensorBoard, MLflow, W&B show them)
    :param verbose: 1: print each evaluation
    :raises ValueError: if there is no real market, or a wrapper of the training env changes the observation
    """

    def __init__(
        self,
        market: Any = None,
        eval_freq: int = 10_000,
        best_model_save_path: str | None = None,
        figures: bool = False,
        verbose: int = 0,
    ):
        super().__init__(verbose)
        if eval_freq < 1:
            raise ValueError(f"`eval_freq` must be at least 1 step; got {eval_freq}.")
        self.market = None if market is None else as_market(market)
        self.eval_freq, self.best_model_save_path, self.figures = eval_freq, best_model_save_path, figures
        self.best_sharpe_ratio, self.last_sharpe_ratio = -np.inf, -np.inf
        self._next = 0
        self._equal_weight: dict[str, float] = {}

    def _on_training_start(self) -> None:
        core = first_core(self.training_env)
        if core is None:
            raise ValueError(f"{type(self).__name__} needs a QuantFlux-v0 training env, single or batched.")
        self._refuse_other_observations(core.layout.size)
        market = self._real_market(core.pool.markets)
        self._venv = QuantFluxVecEnv.like(core, 1, market, split="validation", episode_length=None)
        rule = WeightRule("equal weight", equal_weights, refit_days=1)
        self._equal_weight = performance(backtest_rule(rule, market, "validation", self._venv.core.config))
        self._next = self.num_timesteps + self.eval_freq

    def _real_market(self, markets: tuple[MarketData, ...]) -> MarketData:
        candidates = markets if self.market is None else (self.market,)
        real = [market for market in candidates if not market.synthetic]
        if not real:
            raise ValueError(f"{type(self).__name__} needs a real market to choose models on; give `market=`.")
        return real[0]

    def _refuse_other_observations(self, size: int) -> None:
        normalised = self.model.get_vec_normalize_env()
        if (normalised is not None and normalised.norm_obs) or self.model.observation_space.shape != (size,):
            raise ValueError(
                f"{type(self).__name__} shows the policy the env's own observation; the training env changes it (VecNormalize "
                "or VecFrameStack). Train without: the features are scaled already."
            )

    def _on_step(self) -> bool:
        if self.num_timesteps < self._next:
            return True
        self._next += self.eval_freq
        return self._evaluate()

    def _on_training_end(self) -> None:
        self._evaluate()

    def _evaluate(self) -> bool:
        """Returns whether training shall go on."""
        result = backtest_in(self._venv, self.model)
        figures = performance(result)
        sharpe, reference = figures["sharpe_ratio"], self._equal_weight["sharpe_ratio"]
        self.last_sharpe_ratio = sharpe
        self.logger.record("validation/sharpe_ratio", sharpe)
        self.logger.record("validation/sharpe_over_equal_weight", sharpe - reference)
        for name in _FIGURES:
            self.logger.record(f"validation/{name}", figures[name])
        if self.figures:
            self._log_figures(result)
        if self.verbose:
            print(f"validation: Sharpe {sharpe:.3f}, equal weight {reference:.3f}")
        if sharpe > self.best_sharpe_ratio:
            self.best_sharpe_ratio = sharpe
            if self.best_model_save_path:
                self.model.save(os.path.join(self.best_model_save_path, "best_model"))
        return True

    def _log_figures(self, result: BacktestResult) -> None:
        for name, draw in (("allocation", plots.allocation), ("regimes", plots.regime_attribution)):
            self.logger.record(
                f"validation/{name}", Figure(draw(result), close=True), exclude=("stdout", "log", "json", "csv")
            )


class EarlyStoppingOnValidation(EvalOnRealCallback):
    """
    Stops the training when the Sharpe ratio on the validation years has not risen for some evaluations. What is logged and
    kept is that of :class:`EvalOnRealCallback`.

    :param patience: evaluations without a rise after which the training ends
    :param min_delta: a smaller rise does not count
    :param min_evals: evaluations that are made in any case
    :param kwargs: of :class:`EvalOnRealCallback`
    """

    def __init__(self, patience: int = 5, min_delta: float = 0.0, min_evals: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        if patience < 1 or min_delta < 0.0:
            raise ValueError(f"`patience` must be at least 1 and `min_delta` >= 0; got {patience} and {min_delta}.")
        self.patience, self.min_delta, self.min_evals = patience, min_delta, min_evals
        self.n_evals, self._without_rise, self._to_beat = 0, 0, -np.inf

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.n_evals, self._without_rise, self._to_beat = 0, 0, -np.inf

    def _evaluate(self) -> bool:
        super()._evaluate()
        self.n_evals += 1
        rises = self.last_sharpe_ratio > self._to_beat + self.min_delta
        self._to_beat = self.last_sharpe_ratio if rises else self._to_beat
        self._without_rise = 0 if rises else self._without_rise + 1
        stops = self._without_rise >= self.patience and self.n_evals >= self.min_evals
        if stops and self.verbose:
            print(f"no rise of the Sharpe ratio on the validation years in {self._without_rise} evaluations: training ends")
        return not stops
