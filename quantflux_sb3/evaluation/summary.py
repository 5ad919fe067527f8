"""The evaluation of one experiment as a whole: its figures, days and pictures, from which the page is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from quantflux_sb3.costs import CostModel
from quantflux_sb3.evaluation import plots
from quantflux_sb3.evaluation.attribution import (
    allocation_diagnostics,
    cost_attribution,
    regime_attribution,
    reward_attribution,
)
from quantflux_sb3.evaluation.baselines import AGENT, BASE_RULE, EQUAL_WEIGHT
from quantflux_sb3.evaluation.brinson import INDEX, brinson_fachler
from quantflux_sb3.evaluation.daily import DAILY_FILE, DailySeries
from quantflux_sb3.evaluation.data_quality import data_lines, data_quality, shown_columns
from quantflux_sb3.evaluation.doubts import doubts
from quantflux_sb3.evaluation.metrics import distance_between, performance, table_rows
from quantflux_sb3.evaluation.overfitting import (
    deflated_sharpe_ratio,
    probability_of_backtest_overfitting,
    superior_predictive_ability,
)
from quantflux_sb3.evaluation.report import PAGE_FILE, read_run, write_report
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.statistics import seed_distribution, sharpe_difference, sharpe_interval, verdicts
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.market.quality import DataReport

#: Fewer days than these are not cut into halves to look for overfitting.
LEAST_DAYS_TO_SPLIT = 252
#: How the verdicts call the strategies.
SPOKEN = {AGENT: "the agent", BASE_RULE: "its base rule", EQUAL_WEIGHT: "equal weight"}


@dataclass(frozen=True)
class ExperimentSummary:
    """
    :param market: the real market
    :param agent: what the agent did on the test years
    :param baselines: what the baselines did there, the index last
    :param seed_results: what the agents of all training seeds did on the test years; the agent alone if not given
    :param seeds: per training seed, figures of the agent on the validation and the test years
    :param chosen_seed: the seed whose agent this is
    :param max_weight: hard upper limit, for the cap hits
    :param generator: quality of the synthetic markets, empty if there are none
    :param subtitle: assets, years, benchmark and costs in one line
    :param exposure_rule: whether a rule sets the agent's exposure
    :param n_trials: settings that were tried before these were kept
    :param costs: that the agent was charged, for their attribution
    :param explanation: of :func:`quantflux_sb3.evaluation.why.explanation`
    :param data: report on the quality of the prices
    """

    market: MarketData
    agent: BacktestResult
    baselines: Sequence[BacktestResult]
    seeds: dict[int, dict[str, float]]
    chosen_seed: int
    max_weight: float
    generator: dict[str, Any] = field(default_factory=dict)
    subtitle: str = ""
    exposure_rule: bool = True
    data: DataReport | None = None
    seed_results: Sequence[BacktestResult] = ()
    n_trials: int = 1
    costs: CostModel | float | None = None
    explanation: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, BacktestResult]:
        results = {result.name: result for result in (self.agent, *self.baselines)}
        if len(results) != 1 + len(self.baselines):
            raise ValueError(f"Two strategies have one name among {[self.agent.name, *(r.name for r in self.baselines)]}.")
        return results

    @cached_property
    def differences(self) -> dict[str, dict[str, float]]:
        """Sharpe differences with their intervals: agent, its base rule and equal weight, each against each."""
        sides = {**self.by_name, AGENT: self.seed_results or self.agent}
        pairs = ((AGENT, EQUAL_WEIGHT), (AGENT, BASE_RULE), (BASE_RULE, EQUAL_WEIGHT))
        return {f"{a} - {b}": sharpe_difference(sides[a], sides[b]) for a, b in pairs}

    @cached_property
    def verdicts(self) -> list[str]:
        """The differences in plain language."""
        return verdicts(self.differences, SPOKEN)

    @cached_property
    def chances(self) -> dict[str, Any]:
        """How much of the result could be luck: of the seed, of the choice of settings, of the best of many strategies."""
        figures: dict[str, Any] = {
            "deflated_sharpe": deflated_sharpe_ratio(self.agent, self.n_trials),
            "seed_distribution": seed_distribution(self.seed_results or [self.agent]),
        }
        tested = [result for result in (self.agent, *self.baselines[:-1]) if result.name != EQUAL_WEIGHT]
        equal_weight = self.by_name[EQUAL_WEIGHT]
        if any((result.returns != equal_weight.returns).any() for result in tested):
            figures["superior_ability"] = superior_predictive_ability(equal_weight, tested)
        if len(equal_weight.returns) >= LEAST_DAYS_TO_SPLIT:
            figures["overfitting"] = probability_of_backtest_overfitting([equal_weight, *tested])
        return figures

    @cached_property
    def origins(self) -> dict[str, Any]:
        """What the agent's decisions, its trades and the terms of its reward amount to."""
        against = {self.market.benchmark: INDEX, BASE_RULE: self.by_name[BASE_RULE]}
        figures: dict[str, Any] = {
            "brinson": {name: brinson_fachler(self.agent, benchmark) for name, benchmark in against.items()},
            "costs": cost_attribution(self.agent, self.costs),
        }
        if self.agent.reward_terms is not None:
            figures["reward"] = reward_attribution(self.agent)
        return figures

    @cached_property
    def diagnostics(self) -> dict[str, float]:
        """What the agent did, in figures: how far from equal weight and from its own base rule it went, at what cost."""
        figures = performance(self.agent)
        names = ("annual_turnover", "annual_cost", "trades_per_year", "mean_exposure", "effective_assets")
        allocation = allocation_diagnostics(self.agent, self.max_weight)
        return {
            "distance_to_base_rule": distance_between(self.agent, self.by_name[BASE_RULE]),
            "distance_to_equal_weight_rule": distance_between(self.agent, self.by_name[EQUAL_WEIGHT]),
            **{name: figures[name] for name in names},
            **{name: value for name, value in allocation.items() if isinstance(value, float)},
        }

    @cached_property
    def daily(self) -> DailySeries:
        """The days of all strategies, the agent first and the index last."""
        return DailySeries.of([self.agent, *self.baselines])

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Every figure of the page, ready for JSON; see docs/evaluation.md."""
        figures = {
            "subtitle": self.subtitle,
            "market": self._market(),
            "test": {row.pop("name"): row for row in table_rows([self.agent, *self.baselines])},
            "sharpe_intervals": {name: sharpe_interval(result) for name, result in self.by_name.items()},
            "sharpe_differences": self.differences,
            "verdicts": self.verdicts,
            "agent": self.diagnostics,
            "allocation": allocation_diagnostics(self.agent, self.max_weight)["assets"],
            "regimes": regime_attribution(self.agent),
            **self.origins,
            "explanation": self.explanation,
            "seeds": {str(seed): figures for seed, figures in self.seeds.items()},
            "chosen_seed": self.chosen_seed,
            **self.chances,
            "generator": self.generator,
            "data": self._data(),
        }
        return {**figures, "caveats": doubts(figures)}

    def _market(self) -> dict[str, Any]:
        market = self.market
        return {
            "assets": list(market.assets), "benchmark": market.benchmark, "source": market.source,
            "asset_kind": market.asset_kind, "benchmark_kind": market.benchmark_kind, "content_hash": market.content_hash,
            "caveats": list(market.caveats), "test_first": str(self.agent.dates[0]), "test_last": str(self.agent.dates[-1]),
            "exposure_rule": self.exposure_rule,
        }  # fmt: skip

    def _data(self) -> dict[str, Any]:
        if self.data is None:
            return {}
        shown = shown_columns(self.data)
        return {"lines": data_lines(self.data), "assets": [{key: row[key] for key in shown} for row in self.data.rows]}

    def write(self, folder: Path) -> None:
        """
        Write the days, the pictures and the page; ``metrics.json`` is left to the caller, as the last file of a run.

        :param folder: of the run, which may hold its configuration and versions
        """
        self.daily.write(folder / DAILY_FILE)
        self.write_pictures(folder)
        write_report(folder / PAGE_FILE, read_run(folder, self.metrics))

    def write_pictures(self, folder: Path) -> None:
        """
        :param folder: existing folder, for PNG files by the names that the page knows
        """
        shown = [self.agent, *(self.by_name[name] for name in (BASE_RULE, EQUAL_WEIGHT))]
        figures = {
            "cumulative_returns": plots.cumulative_returns(shown, self.market.benchmark),
            "drawdown": plots.drawdown([*shown, self.baselines[-1]]),
            "exposure": plots.exposure(shown),
            "allocation": plots.allocation(self.agent),
            "final_allocation": plots.final_allocation(self.agent),
            "regime_attribution": plots.regime_attribution(self.agent),
        }
        if len(self.agent.dates) > self.agent.periods_per_year:
            figures["rolling_sharpe"] = plots.rolling_sharpe([*shown, self.baselines[-1]])
        if self.data is not None:
            figures["data_report"] = data_quality(self.data)
        for name, figure in figures.items():
            plots.save(figure, folder / f"{name}.png")
