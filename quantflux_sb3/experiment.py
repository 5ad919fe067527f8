"""
The whole experiment: data, generator, synthetic markets, agents, evaluation on unseen real years.

Each stage leaves its result in the run's folder, whole or not at all, so that an interrupted run goes on where it stopped.
Nothing that is fitted sees a day after the training years; the agent is chosen on the validation years; the test years are
looked at once, at the end.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from stable_baselines3 import PPO

from quantflux_sb3.diffusion import RegimeDDPMPipeline, summary
from quantflux_sb3.evaluation.backtest import backtest_models
from quantflux_sb3.evaluation.data_quality import data_lines
from quantflux_sb3.evaluation.metrics import performance, table_rows
from quantflux_sb3.evaluation.report import results_table
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.summary import AGENT, ExperimentSummary
from quantflux_sb3.evaluation.why import explanation
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.run_folder import LAST_FILE, RunFolder
from quantflux_sb3.tracking import Tracker
from quantflux_sb3.training import Training, agent_file


class Experiment:
    """
    :param prepared: checked settings and data
    :param folder: of the run
    :param console: for progress
    """

    def __init__(self, prepared: Prepared, folder: RunFolder, console: Console):
        self.prepared, self.folder, self.console = prepared, folder, console
        self.settings, self.market = prepared.settings, prepared.market
        self.training = Training(prepared, folder, sys.stderr.isatty())
        self.stage = "data"
        self.tracker = Tracker()
        self.timings: dict[str, float] = folder.read_json("timings.json") if folder.has("timings.json") else {}

    def run(self) -> ExperimentSummary:
        """
        Run every stage that is not done yet.

        :return: the evaluation
        """
        training, synthetic, quality = self.training, [], {}
        with self._timed("data"):
            self._write_data()
        if self.settings.synthetic.n_markets:
            with self._timed("generator"):
                pipeline = training.generator()
            with self._timed("synthetic markets"):
                synthetic, quality = training.synthetic(pipeline), self._quality(pipeline)
        with self._timed("agents"):
            training.agents(training.mix(synthetic), self.tracker)
        with self._timed("evaluation"):
            result = self._evaluate(quality)
        self.console.print(results_table(table_rows([result.agent, *result.baselines]), AGENT))
        return result

    @contextmanager
    def _timed(self, stage: str):
        self.stage = stage
        self.console.print(f"[bold]{stage}[/bold] ...")
        begin = time.perf_counter()
        yield
        self.timings[stage] = round(self.timings.get(stage, 0.0) + time.perf_counter() - begin, 2)
        self.folder.write_json("timings.json", self.timings)
        self.console.print(f"  {stage}: {self.timings[stage]:.1f} s")

    def _write_data(self) -> None:
        self.prepared.record(self.folder)
        for line in data_lines(self.prepared.report):
            self.console.print(f"  {line}", highlight=False)

    def _quality(self, pipeline: RegimeDDPMPipeline) -> dict[str, Any]:
        if not self.folder.has("generator_quality.json"):
            figures = summary(pipeline, self.market.until("train"), seed=self.settings.seed)
            self.folder.write_json("generator_quality.json", figures)
        return self.folder.read_json("generator_quality.json")

    def _backtests(self, agents: Sequence[PPO], split: str) -> list[BacktestResult]:
        results = backtest_models(agents, [self.market], split, self.prepared.config, self.prepared.wrappers)
        return [result for (result,) in results]

    def _evaluate(self, quality: dict[str, Any]) -> ExperimentSummary:
        numbers = range(self.settings.agent.n_seeds)
        agents = [self.training.agent(number) for number in numbers]
        validation = [performance(result)["sharpe_ratio"] for result in self._backtests(agents, "validation")]
        chosen = max(numbers, key=validation.__getitem__)
        test = self._backtests(agents, "test")
        result = ExperimentSummary(
            market=self.market, agent=test[chosen],
            baselines=self.prepared.run_baselines("test"),
            seeds={
                self.settings.seed + number: {
                    "validation_sharpe_ratio": validation[number],
                    "test_sharpe_ratio": performance(test[number])["sharpe_ratio"],
                }
                for number in numbers
            },
            chosen_seed=self.settings.seed + chosen, max_weight=float(np.max(self.prepared.config.max_weight)),
            generator=quality, subtitle=self.prepared.subtitle, exposure_rule=self.prepared.timing is not None,
            data=self.prepared.report, seed_results=test, n_trials=self.settings.n_trials,
            costs=self.prepared.config.costs, explanation=self._explain(agents[chosen]),
        )  # fmt: skip
        self._write_results(result, chosen)
        return result

    def _explain(self, agent: PPO) -> dict[str, Any]:
        return explanation(agent, self.market, "test", self.prepared.config, self.prepared.wrappers)

    def _write_results(self, result: ExperimentSummary, chosen: int) -> None:
        self.folder.write("model.zip", lambda path: path.write_bytes((self.folder / agent_file(chosen)).read_bytes()))
        result.write(self.folder.path)
        self.folder.write_json(LAST_FILE, result.metrics)
