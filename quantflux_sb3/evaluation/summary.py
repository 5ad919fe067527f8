"""The evaluation of one experiment as a whole: figures, pictures and the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from quantflux_sb3.evaluation import plots
from quantflux_sb3.evaluation.attribution import allocation_diagnostics, regime_attribution
from quantflux_sb3.evaluation.baselines import AGENT, BASE_RULE, EQUAL_WEIGHT
from quantflux_sb3.evaluation.data_quality import data_lines, data_quality, shown_columns
from quantflux_sb3.evaluation.metrics import distance_between, performance, table_rows
from quantflux_sb3.evaluation.report import ReportData, write_report
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.statistics import sharpe_difference, verdict
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.market.quality import DataReport


@dataclass(frozen=True)
class ExperimentSummary:
    """
    :param market: the real market
    :param agent: what the agent did on the test years
    :param baselines: what the baselines did there, the index last
    :param seeds: per training seed, figures of the agent on the validation and the test years
    :param chosen_seed: the seed whose agent this is
    :param max_weight: hard upper limit, for the cap hits
    :param generator: quality of the synthetic markets, empty if there are none
    :param caveats: what the reader must know beside the caveats of the data
    :param data: report on the quality of the prices
    """

    market: MarketData
    agent: BacktestResult
    baselines: Sequence[BacktestResult]
    seeds: dict[int, dict[str, float]]
    chosen_seed: int
    max_weight: float
    generator: dict[str, Any] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    data: DataReport | None = None

    @cached_property
    def by_name(self) -> dict[str, BacktestResult]:
        results = {result.name: result for result in (self.agent, *self.baselines)}
        if len(results) != 1 + len(self.baselines):
            raise ValueError(f"Two strategies have one name among {[self.agent.name, *(r.name for r in self.baselines)]}.")
        return results

    @cached_property
    def differences(self) -> dict[str, dict[str, float]]:
        """Sharpe differences with their intervals: agent, its base rule and equal weight, each against each."""
        pairs = ((AGENT, EQUAL_WEIGHT), (AGENT, BASE_RULE), (BASE_RULE, EQUAL_WEIGHT))
        return {f"{a} - {b}": sharpe_difference(self.by_name[a], self.by_name[b]) for a, b in pairs}

    @cached_property
    def verdicts(self) -> list[str]:
        """The differences in plain language."""
        spoken = {AGENT: "the agent", BASE_RULE: "its base rule", EQUAL_WEIGHT: "equal weight"}
        pairs = ((pair.split(" - "), difference) for pair, difference in self.differences.items())
        return [verdict(spoken[a], spoken[b], difference) for (a, b), difference in pairs]

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

    def metrics(self) -> dict[str, Any]:
        """
        :return: every figure of the page, ready for JSON
        """
        return {
            "market": {
                "assets": list(self.market.assets), "benchmark": self.market.benchmark, "source": self.market.source,
                "asset_kind": self.market.asset_kind, "benchmark_kind": self.market.benchmark_kind,
                "content_hash": self.market.content_hash,
                "test_first": str(self.agent.dates[0]), "test_last": str(self.agent.dates[-1]),
            },
            "test": {row.pop("name"): row for row in table_rows([self.agent, *self.baselines])},
            "sharpe_differences": self.differences,
            "verdicts": self.verdicts,
            "agent": self.diagnostics,
            "allocation": allocation_diagnostics(self.agent, self.max_weight)["assets"],
            "regimes": regime_attribution(self.agent),
            "seeds": {str(seed): figures for seed, figures in self.seeds.items()},
            "chosen_seed": self.chosen_seed,
            "generator": self.generator,
            "caveats": list(self.all_caveats),
        }  # fmt: skip

    @property
    def all_caveats(self) -> tuple[str, ...]:
        return (*self.market.caveats, *self.caveats)

    def write_pictures(self, folder: Path) -> dict[str, Path]:
        """
        :param folder: existing folder
        :return: PNG files by caption
        """
        shown = [self.agent, *(self.by_name[name] for name in (BASE_RULE, EQUAL_WEIGHT))]
        figures = {
            ("cumulative_returns.png", "The agent, its base rule, equal weight and the index"): plots.cumulative_returns(
                shown, self.market.benchmark
            ),
            ("drawdown.png", "How far below the peak"): plots.drawdown([*shown, self.baselines[-1]]),
            ("allocation.png", "What the agent held"): plots.allocation(self.agent),
            ("final_allocation.png", "What it held on the last day"): plots.final_allocation(self.agent),
            ("regime_attribution.png", "In which markets it earned"): plots.regime_attribution(self.agent),
        }
        if self.data is not None:
            figures["data_report.png", "Where each asset had a price of its own"] = data_quality(self.data)
        return {caption: plots.save(figure, folder / name) for (name, caption), figure in figures.items()}

    def write_page(
        self, path: Path, pictures: dict[str, Path], config_text: str, versions: dict[str, str], subtitle: str
    ) -> Path:
        """
        :param path: of the HTML file
        :param pictures: PNG files by caption
        :param config_text: settings as YAML
        :param versions: of the libraries
        :param subtitle: assets, years, benchmark, costs in one line
        """
        data = ReportData(
            title="QuantFlux experiment", subtitle=subtitle, verdicts=self.verdicts,
            rows=table_rows([self.agent, *self.baselines]), agent_name=AGENT, pictures=pictures,
            diagnostics=self.diagnostics, regime_rows=regime_attribution(self.agent),
            generator_figures=side_by_side(self.generator),
            seeds={seed: figures["test_sharpe_ratio"] for seed, figures in self.seeds.items()},
            caveats=self.all_caveats, config_text=config_text, versions=versions,
            data_lines=data_lines(self.data) if self.data else (), data_rows=self._data_rows(),
        )  # fmt: skip
        return write_report(path, data)

    def _data_rows(self) -> list[dict[str, Any]]:
        if self.data is None:
            return []
        return [{key: row[key] for key in shown_columns(self.data)} for row in self.data.rows]


def side_by_side(figures: dict[str, float]) -> dict[str, Any]:
    """
    :param figures: of a generator; some named ``real_...`` and ``synthetic_...``
    :return: the same with such pairs as columns, the others as they are
    """
    paired: dict[str, Any] = {}
    for name, value in figures.items():
        kind, _, figure = name.partition("_")
        if kind in ("real", "synthetic"):
            paired.setdefault(figure, {}).update({kind: value})
        else:
            paired[name] = value
    return paired
