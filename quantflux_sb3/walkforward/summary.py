"""
The evaluation of a walk-forward: every training seed is one portfolio over all test years, beside the baselines on the same
days. Figures only; the page is another module's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from quantflux_sb3.evaluation.backtest import replay_decisions
from quantflux_sb3.evaluation.baselines import AGENT, BASE_RULE, EQUAL_WEIGHT, run_baselines
from quantflux_sb3.evaluation.decisions import Decisions
from quantflux_sb3.evaluation.metrics import performance, sharpe_ratio
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.statistics import Results, seed_distribution, sharpe_difference, sharpe_interval, verdict
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.walkforward.folds import Fold

#: What the decisions of the seeds become, beside each for itself.
ENSEMBLE, CHOSEN = "ensemble of seeds", "seed chosen in each fold"
#: How the verdicts call them.
SPOKEN = {AGENT: "the agent", ENSEMBLE: "the ensemble of its seeds", BASE_RULE: "its base rule", EQUAL_WEIGHT: "equal weight"}


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
    :param agents: by seed, by fold; none if only the baselines were walked
    """

    prepared: Prepared
    folds: Sequence[Fold]
    agents: Sequence[Sequence[SeedOfFold]]

    @cached_property
    def baselines(self) -> list[BacktestResult]:
        """One continuous backtest each, the index last."""
        return run_baselines(self.prepared.market, "test", self.prepared.config, self.prepared.timing)

    @cached_property
    def seeds(self) -> list[BacktestResult]:
        """The agent, one portfolio per training seed."""
        return [self._replay(AGENT, [fold.decisions for fold in folds]) for folds in self.agents]

    @cached_property
    def ensemble(self) -> BacktestResult:
        """One portfolio that asks for the mean of what the seeds ask for."""
        columns = zip(*self.agents, strict=True)
        return self._replay(ENSEMBLE, [_mean([seed.decisions for seed in column]) for column in columns])

    @cached_property
    def chosen(self) -> BacktestResult:
        """One portfolio that follows, in each fold, the seed that did best on the validation days."""
        columns = zip(*self.agents, strict=True)
        return self._replay(CHOSEN, [max(column, key=lambda seed: seed.validation_sharpe).decisions for column in columns])

    def _replay(self, name: str, parts: Sequence[Decisions]) -> BacktestResult:
        return replay_decisions(name, self.prepared.market, self.prepared.config, Decisions.joined(parts))

    @cached_property
    def strategies(self) -> dict[str, Results]:
        """Everything in the tables, by name; the agent is several backtests."""
        agents: dict[str, Results] = {AGENT: self.seeds, ENSEMBLE: self.ensemble, CHOSEN: self.chosen} if self.agents else {}
        return {**agents, **{result.name: result for result in self.baselines}}

    @cached_property
    def differences(self) -> dict[str, dict[str, float]]:
        """Sharpe differences with their intervals: agent, its base rule and equal weight, each against each."""
        firsts = (AGENT, ENSEMBLE) if self.agents else ()
        pairs = [(first, second) for first in firsts for second in (EQUAL_WEIGHT, BASE_RULE)]
        return {
            f"{a} - {b}": sharpe_difference(self.strategies[a], self.strategies[b])
            for a, b in [*pairs, (BASE_RULE, EQUAL_WEIGHT)]
        }

    @cached_property
    def verdicts(self) -> list[str]:
        """The differences in plain language."""
        pairs = ((pair.split(" - "), difference) for pair, difference in self.differences.items())
        return [verdict(SPOKEN[a], SPOKEN[b], difference) for (a, b), difference in pairs]

    def rows(self) -> list[dict[str, Any]]:
        """
        :return: figures of each strategy, means over the seeds of an agent, the highest Sharpe ratio first
        """
        rows = [
            {"name": name, **mean_performance(results), **_interval_keys(results)} for name, results in self.strategies.items()
        ]
        return sorted(rows, key=lambda row: row["sharpe_ratio"], reverse=True)

    def fold_rows(self) -> list[dict[str, Any]]:
        """
        :return: for each fold its days, and Sharpe ratios there: of each seed on its validation and test days, of the base
            rule and of equal weight on its test days
        """
        market, dates = self.prepared.market, self.baselines[0].dates
        rows = []
        for number, fold in enumerate(self.folds):
            days = np.isin(dates, fold.market(market).dates[slice(*fold.market(market).rows("test"))])
            own = {
                result.name: _sharpe_on(result, days) for result in self.baselines if result.name in (BASE_RULE, EQUAL_WEIGHT)
            }
            agents = {
                "test_sharpe": [_sharpe_on(result, days) for result in self.seeds],
                "validation_sharpe": [folds[number].validation_sharpe for folds in self.agents],
            }
            rows.append({"fold": fold.name, **fold.spans(market), **own, **(agents if self.agents else {})})
        return rows

    def metrics(self) -> dict[str, Any]:
        """
        :return: every figure, ready for JSON
        """
        market = self.prepared.market
        figures = {
            "market": {
                "assets": list(market.assets), "benchmark": market.benchmark, "source": market.source,
                "asset_kind": market.asset_kind, "benchmark_kind": market.benchmark_kind,
                "content_hash": market.content_hash,
                "test_first": str(self.baselines[0].dates[0]), "test_last": str(self.baselines[0].dates[-1]),
            },
            "test": {row.pop("name"): row for row in self.rows()},
            "sharpe_differences": self.differences,
            "verdicts": self.verdicts,
            "folds": self.fold_rows(),
            "caveats": [*market.caveats, *self.caveats],
        }  # fmt: skip
        return {**figures, "seeds": seed_distribution(self.seeds)} if self.agents else figures

    @property
    def caveats(self) -> tuple[str, ...]:
        """What the reader must know beside the caveats of the data."""
        n_seeds = len(self.agents)
        few = (
            (f"{n_seeds} training seeds: at least 5 are needed to judge the spread between them.",) if 0 < n_seeds < 5 else ()
        )
        return (
            *few,
            "The exposure rule, the features and PPO's settings were chosen by people who had seen many of these years; a "
            "walk-forward protects from what is fitted, not from what was thought of afterwards.",
            "A gain that comes from the exposure rule is the rule's; the agent's own is its difference to the base rule.",
        )


def mean_performance(results: Results) -> dict[str, float]:
    """
    :param results: one backtest, or those of several seeds
    :return: figures, each the mean over the seeds
    """
    figures = [performance(result) for result in ([results] if isinstance(results, BacktestResult) else results)]
    return {name: float(np.mean([each[name] for each in figures])) for name in figures[0]}


def _interval_keys(results: Results) -> dict[str, float]:
    interval = sharpe_interval(results)
    return {"sharpe_low": interval["low"], "sharpe_high": interval["high"]}


def _mean(members: Sequence[Decisions]) -> Decisions:
    return replace(members[0], requests=np.mean([member.requests for member in members], axis=0))


def _sharpe_on(result: BacktestResult, days: np.ndarray) -> float:
    return sharpe_ratio((result.returns - result.risk_free)[days], result.periods_per_year)
