"""
The evaluation of a walk-forward: every training seed is one portfolio over all test years, beside the baselines on the same
days. The figures are those of a run (:class:`quantflux_sb3.evaluation.summary.ExperimentSummary`), and the folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from quantflux_sb3.evaluation.backtest import replay_decisions
from quantflux_sb3.evaluation.baselines import AGENT, BASE_RULE, EQUAL_WEIGHT
from quantflux_sb3.evaluation.decisions import Decisions
from quantflux_sb3.evaluation.doubts import doubts
from quantflux_sb3.evaluation.metrics import sharpe_ratio, table_rows
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.statistics import Results, sharpe_difference, sharpe_interval, verdicts
from quantflux_sb3.evaluation.summary import SPOKEN, ExperimentSummary
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.walkforward.folds import Fold

#: One portfolio that asks for the mean of what the seeds ask for.
ENSEMBLE = "ensemble of seeds"


@dataclass(frozen=True)
class SeedOfFold:
    """
    :param validation_sharpe: of one seed's agent on the validation days of a fold
    :param decisions: for the test days
    """

    validation_sharpe: float
    decisions: Decisions


@dataclass(frozen=True)
class WalkForwardSummary:
    """
    :param prepared: settings, and the market whose test split is all test years
    :param folds: consecutive
    :param trained: by seed, by fold; none if only the baselines were walked
    """

    prepared: Prepared
    folds: Sequence[Fold]
    trained: Sequence[Sequence[SeedOfFold]]

    @cached_property
    def baselines(self) -> list[BacktestResult]:
        """One continuous backtest each, the index last."""
        return self.prepared.run_baselines("test")

    @cached_property
    def seeds(self) -> list[BacktestResult]:
        """The agent of each training seed, one portfolio over all test years."""
        return [self._replay(AGENT, [fold.decisions for fold in folds]) for folds in self.trained]

    @cached_property
    def agent(self) -> BacktestResult:
        """One portfolio that follows, in each fold, the seed that did best on the validation days."""
        columns = zip(*self.trained, strict=True)
        return self._replay(AGENT, [max(column, key=lambda seed: seed.validation_sharpe).decisions for column in columns])

    @cached_property
    def ensemble(self) -> BacktestResult:
        """One portfolio that asks for the mean of what the seeds ask for."""
        columns = zip(*self.trained, strict=True)
        return self._replay(ENSEMBLE, [_mean([seed.decisions for seed in column]) for column in columns])

    def _replay(self, name: str, parts: Sequence[Decisions]) -> BacktestResult:
        return replay_decisions(name, self.prepared.market, self.prepared.config, Decisions.joined(parts))

    @cached_property
    def strategies(self) -> list[BacktestResult]:
        """All portfolios of the tables and curves, the agent first and the index last."""
        return [*([self.agent] if self.trained else []), *self._others]

    @property
    def _others(self) -> list[BacktestResult]:
        """All but the agent; the ensemble of a single seed would be the agent again."""
        return [*([self.ensemble] if len(self.trained) > 1 else []), *self.baselines]

    @cached_property
    def differences(self) -> dict[str, dict[str, float]]:
        """Sharpe differences with their intervals; the agent counts with all its seeds."""
        sides: dict[str, Results] = {result.name: result for result in self.strategies}
        pairs = [(BASE_RULE, EQUAL_WEIGHT)]
        if self.trained:
            sides[AGENT] = self.seeds
            pairs = [(AGENT, EQUAL_WEIGHT), (AGENT, BASE_RULE), *pairs]
        if ENSEMBLE in sides:
            pairs += [(ENSEMBLE, EQUAL_WEIGHT), (ENSEMBLE, BASE_RULE)]
        return {f"{a} - {b}": sharpe_difference(sides[a], sides[b]) for a, b in pairs}

    @cached_property
    def verdicts(self) -> list[str]:
        """The differences in plain language."""
        return verdicts(self.differences, {**SPOKEN, ENSEMBLE: "the ensemble of its seeds"})

    def fold_rows(self) -> list[dict[str, Any]]:
        """
        :return: for each fold its days, and the Sharpe ratios on its test days: of the base rule, of equal weight and of each
            seed, with that of the seed on the validation days
        """
        return [self._fold_row(number, fold) for number, fold in enumerate(self.folds)]

    def _fold_row(self, number: int, fold: Fold) -> dict[str, Any]:
        spans = fold.spans(self.prepared.market)
        first, last = (np.datetime64(date) for date in spans["test"])
        days = (self.baselines[0].dates >= first) & (self.baselines[0].dates <= last)
        rules = {
            result.name: _sharpe_on(result, days) for result in self.baselines if result.name in (BASE_RULE, EQUAL_WEIGHT)
        }
        agents = {
            "test_sharpe": [_sharpe_on(result, days) for result in self.seeds],
            "validation_sharpe": [folds[number].validation_sharpe for folds in self.trained],
        }
        return {"fold": fold.name, **spans, **rules, **(agents if self.trained else {})}

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Every figure, ready for JSON; what a run has too is called as there."""
        own = {"sharpe_differences": self.differences, "verdicts": self.verdicts, "folds": self.fold_rows()}
        if self.trained:
            run = {**self.experiment.metrics, **own}
            del run["chosen_seed"]  # another one in each fold
            return {**run, "caveats": [*doubts(run), *self._caveats()]}
        return {
            "subtitle": self.prepared.subtitle,
            "test": {row.pop("name"): row for row in table_rows(self.baselines)},
            "sharpe_intervals": {result.name: sharpe_interval(result) for result in self.baselines},
            **own,
            "caveats": list(self.prepared.market.caveats),
        }

    @cached_property
    def experiment(self) -> ExperimentSummary:
        """The same as the summary of a run."""
        prepared, first = self.prepared, self.prepared.settings.seed
        return ExperimentSummary(
            market=prepared.market, agent=self.agent, baselines=self._others,
            seeds={first + number: self._seed_row(number) for number in range(len(self.trained))}, chosen_seed=first,
            max_weight=float(np.max(prepared.config.max_weight)), subtitle=prepared.subtitle,
            exposure_rule=prepared.timing is not None, data=prepared.report, seed_results=self.seeds,
            n_trials=prepared.settings.n_trials, costs=prepared.config.costs,
        )  # fmt: skip

    def _seed_row(self, number: int) -> dict[str, float]:
        return {
            "validation_sharpe_ratio": float(np.mean([fold.validation_sharpe for fold in self.trained[number]])),
            "test_sharpe_ratio": _sharpe_on(self.seeds[number], slice(None)),
        }

    def _caveats(self) -> tuple[str, ...]:
        choice = (
            "Tables and curves show a portfolio that follows, in each fold, the seed that did best on its validation days; "
            "the comparisons above count all seeds."
        )
        return (
            *([choice] if len(self.trained) > 1 else []),
            "The features and PPO's settings were chosen by people who had seen many of these years: a walk-forward protects "
            "from what is fitted, not from what was thought of afterwards.",
        )


def _mean(members: Sequence[Decisions]) -> Decisions:
    return replace(members[0], requests=np.mean([member.requests for member in members], axis=0))


def _sharpe_on(result: BacktestResult, days: np.ndarray | slice) -> float:
    return sharpe_ratio((result.returns - result.risk_free)[days], result.periods_per_year)
