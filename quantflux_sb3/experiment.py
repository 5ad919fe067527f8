"""
The whole experiment: data, generator, synthetic markets, agents, evaluation on unseen real years.

Each stage leaves its result in the run's folder, whole or not at all, so that an interrupted run goes on where it stopped.
Nothing that is fitted sees a day after the training years; the agent is chosen on the validation years; the test years are
looked at once, at the end.
"""

import logging
import platform
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from rich.console import Console
from stable_baselines3 import PPO

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.costs import CostModel
from quantflux_sb3.diffusion import RegimeDDPMPipeline, summary, synthetic_markets, train_generator
from quantflux_sb3.diffusion.config import MIN_TRAIN_DAYS
from quantflux_sb3.evaluation.backtest import backtest_model
from quantflux_sb3.evaluation.baselines import run_baselines
from quantflux_sb3.evaluation.data_quality import data_lines
from quantflux_sb3.evaluation.metrics import performance, table_rows
from quantflux_sb3.evaluation.report import results_table
from quantflux_sb3.evaluation.summary import AGENT, ExperimentSummary
from quantflux_sb3.market import DataReport, DateSplits, MarketData, Region, read_market
from quantflux_sb3.market.signals import add_signals_file
from quantflux_sb3.run_folder import LAST_FILE, RunFolder
from quantflux_sb3.settings import Settings
from quantflux_sb3.sizing import TimingRule
from quantflux_sb3.tracking import Tracker
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.vec_wrappers import VecMarketTiming

logger = logging.getLogger(__name__)

LIBRARIES = (
    "quantflux_sb3",
    "stable_baselines3",
    "gymnasium",
    "torch",
    "diffusers",
    "numpy",
    "numba",
    "pandas",
    "ta",
    "skfolio",
)


@dataclass(frozen=True)
class Prepared:
    """
    What the settings mean, checked before anything is written.

    :param settings: of the experiment
    :param region: of the market
    :param market: real prices
    :param config: of the env, with the region's costs filled in
    :param report: on the quality of the prices
    """

    settings: Settings
    region: Region
    market: MarketData
    config: PortfolioConfig
    report: DataReport

    @classmethod
    def check(cls, settings: Settings) -> "Prepared":
        """
        :raises ValueError: for anything that would fail later
        """
        loaded = read_market(settings.market_query)
        market, region = loaded.market, loaded.region
        if loaded.remote and settings.end is None:  # or a run could not be resumed tomorrow
            settings = replace(settings, end=str(market.dates[-1]))
        if settings.signals:
            market = add_signals_file(market, settings.signals, settings.signal_lag)
        if settings.train_end or settings.validation_end:
            ends = {key: value for key in ("train_end", "validation_end") if (value := getattr(settings, key))}
            market = replace(market, splits=replace(market.splits, **ends) if market.splits else DateSplits(**ends))
        for split in ("train", "validation", "test"):
            market.rows(split)
        costs = settings.env.costs if settings.env.costs is not None else CostModel(proportional=region.cost)
        config = replace(settings.env, costs=costs)
        config.rules(market.assets)
        _check_trainable(settings, market, config)
        return cls(settings, region, market, config, loaded.report)

    @property
    def timing(self) -> TimingRule | None:
        """Exposure rule of the agent and of its base rule; None if the policy chooses its exposure."""
        return self.settings.timing if self.settings.use_timing else None

    @property
    def wrappers(self) -> list[Callable]:
        """Vec wrappers of the agent's env."""
        return [partial(VecMarketTiming, **vars(self.timing))] if self.timing else []

    @property
    def subtitle(self) -> str:
        """Assets, years, benchmark and costs in one line."""
        linear, _ = CostModel.of(self.config.costs).rates(self.market.n_assets)
        start, stop = self.market.rows("test")
        years = f"{str(self.market.dates[start])[:4]}-{str(self.market.dates[stop - 1])[:4]}"
        return (
            f"{', '.join(self.market.assets)} against {self.market.benchmark_label}; unseen years {years}, "
            f"after {linear.mean() * 1e4:.0f} bp of costs on traded value"
        )


def _check_trainable(settings: Settings, market: MarketData, config: PortfolioConfig) -> None:
    """What the later stages need, said before the first one."""
    agent, train = settings.agent, market.until("train")
    if not 0 <= settings.seed < 2**32 - agent.n_seeds:
        raise ValueError(f"`seed` must lie between 0 and {2**32 - agent.n_seeds - 1}; got {settings.seed}.")
    if settings.synthetic.n_markets:
        least = max(MIN_TRAIN_DAYS, 5 * settings.generator.window)
        if train.n_days < least:
            raise ValueError(f"The generator needs at least {least} training days; there are {train.n_days}. Give a longer "
                             "history, or --synthetic.n_markets 0 to train on real prices alone.")  # fmt: skip
        still = [name for name, moves in zip(market.assets, train.returns.std(axis=0) > 0.0, strict=True) if not moves]
        if still:
            raise ValueError(f"The prices of {still} never move in the training years; drop them.")
    policy = load_by_name(agent.policy)
    venv = make_quantflux_vec_env(1, market, **vars(config))
    try:
        policy(venv.observation_space, venv.action_space, lambda _: agent.learning_rate)
    except Exception as error:
        raise ValueError(
            f"`agent.policy` {agent.policy} is no policy for this env ({type(error).__name__}: {error})."
        ) from error


class Experiment:
    """
    :param prepared: checked settings and data
    :param folder: of the run
    :param console: for progress
    :param tracker: that is told of the training
    """

    def __init__(self, prepared: Prepared, folder: RunFolder, console: Console, tracker: Tracker = Tracker()):  # noqa: B008
        self.prepared, self.folder, self.console, self.tracker = prepared, folder, console, tracker
        self.settings, self.market = prepared.settings, prepared.market
        self.progress = sys.stderr.isatty()
        self.stage = "data"
        self.timings: dict[str, float] = folder.read_json("timings.json") if folder.has("timings.json") else {}

    def run(self) -> ExperimentSummary:
        """
        Run every stage that is not done yet.

        :return: the evaluation
        """
        torch.set_num_threads(1)  # faster for networks this small, and the same result on every machine of one kind
        with self._timed("data"):
            self._write_data()
        markets: list[Any] = [self.market]
        quality: dict[str, Any] = {}
        if self.settings.synthetic.n_markets:
            with self._timed("generator"):
                pipeline = self._generator()
            with self._timed("synthetic markets"):
                synthetic, quality = self._synthetic(pipeline)
            markets = self._mix(synthetic)
        with self._timed("agents"):
            self._train_agents(markets)
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
        market, region = self.market, self.prepared.region
        if self.folder.has("data.json") and self.folder.read_json("data.json")["content_hash"] != market.content_hash:
            raise ValueError(f"The prices changed since '{self.folder.path}' was begun; start a new run.")
        self.folder.write_json(
            "data.json",
            {
                "region": region.name, "currency": region.currency, "source": market.source, "assets": list(market.assets),
                "benchmark": market.benchmark, "asset_kind": market.asset_kind, "benchmark_kind": market.benchmark_kind,
                "first": str(market.dates[0]), "last": str(market.dates[-1]),
                "days": market.n_days, "splits": vars(market.splits), "content_hash": market.content_hash,
                "caveats": list(market.caveats),
            },
        )  # fmt: skip
        self.folder.write_json("versions.json", versions())
        self.folder.write_json("data_report.json", self.prepared.report.to_dict())
        for line in data_lines(self.prepared.report):
            self.console.print(f"  {line}", highlight=False)

    def _generator(self) -> RegimeDDPMPipeline:
        if not self.folder.has("generator"):
            pipeline = train_generator(
                self.market.until("train"), self.settings.generator, seed=self.settings.seed, progress=self.progress
            )
            self.folder.write("generator", pipeline.save_pretrained)
        pipeline = RegimeDDPMPipeline.from_pretrained(self.folder / "generator")
        for split in ("validation", "test"):
            start, stop = self.market.rows(split)
            pipeline.check_unseen(self.market.dates[start:stop])
        return pipeline

    def _synthetic(self, pipeline: RegimeDDPMPipeline) -> tuple[list[MarketData], dict[str, Any]]:
        wanted, seed = self.settings.synthetic, self.settings.seed
        markets = synthetic_markets(pipeline, wanted.n_markets, wanted.n_days, seed, self.market, self.progress)
        if not self.folder.has("generator_quality.json"):
            self.folder.write_json("generator_quality.json", summary(pipeline, self.market.until("train"), seed=seed))
        return markets, self.folder.read_json("generator_quality.json")

    def _mix(self, synthetic: list[MarketData]) -> list[tuple[MarketData, float]]:
        share = self.settings.synthetic.share
        each = share / len(synthetic)
        return [(self.market, 1.0 - share), *((market, each) for market in synthetic)]

    def _train_agents(self, markets: list[Any]) -> None:
        for number in range(self.settings.agent.n_seeds):
            name = f"agents/seed-{number}.zip"
            if not self.folder.has(name):
                model = self._train_agent(markets, self.settings.seed + number)
                self.folder.write(name, model.save)

    def _train_agent(self, markets: list[Any], seed: int) -> PPO:
        agent, prepared = self.settings.agent, self.prepared
        venv = make_quantflux_vec_env(agent.n_envs, markets, seed=seed, wrappers=prepared.wrappers, **vars(prepared.config))
        policy_kwargs: dict[str, Any] = {"optimizer_kwargs": {"fused": True}}
        if agent.policy.endswith("SoftmaxPolicy"):
            policy_kwargs["log_std_init"] = agent.log_std_init
        model = PPO(
            load_by_name(agent.policy), venv, learning_rate=agent.learning_rate, n_steps=agent.n_steps,
            batch_size=agent.batch_size, n_epochs=agent.n_epochs, gamma=agent.gamma, gae_lambda=agent.gae_lambda,
            policy_kwargs=policy_kwargs, seed=seed, device="cpu",
        )  # fmt: skip
        callback = self.tracker.callback(f"seed-{seed}/")
        return model.learn(agent.total_timesteps, callback=callback, progress_bar=self.progress)

    def _backtest(self, number: int, split: str):
        model = PPO.load(self.folder / f"agents/seed-{number}.zip", device="cpu")
        return backtest_model(model, self.market, split, self.prepared.config, self.prepared.wrappers, AGENT)

    def _evaluate(self, quality: dict[str, Any]) -> ExperimentSummary:
        numbers = range(self.settings.agent.n_seeds)
        validation = {number: performance(self._backtest(number, "validation"))["sharpe_ratio"] for number in numbers}
        chosen = max(numbers, key=validation.__getitem__)
        test = {number: self._backtest(number, "test") for number in numbers}
        result = ExperimentSummary(
            market=self.market, agent=test[chosen],
            baselines=run_baselines(self.market, "test", self.prepared.config, self.prepared.timing),
            seeds={
                self.settings.seed + number: {
                    "validation_sharpe_ratio": validation[number],
                    "test_sharpe_ratio": performance(test[number])["sharpe_ratio"],
                }
                for number in numbers
            },
            chosen_seed=self.settings.seed + chosen, max_weight=float(np.max(self.prepared.config.max_weight)),
            generator=quality, caveats=self._caveats(chosen, validation), data=self.prepared.report,
        )  # fmt: skip
        self._write_results(result, chosen)
        return result

    def _write_results(self, result: ExperimentSummary, chosen: int) -> None:
        self.folder.write("model.zip", lambda path: path.write_bytes((self.folder / f"agents/seed-{chosen}.zip").read_bytes()))
        pictures = result.write_pictures(self.folder.path)
        text = (self.folder / "config.yml").read_text(encoding="utf-8")
        result.write_page(self.folder / "report.html", pictures, text, versions(), self.prepared.subtitle)
        self.folder.write_json(LAST_FILE, result.metrics())

    def _caveats(self, chosen: int, validation: dict[int, float]) -> tuple[str, ...]:
        n_seeds, market = self.settings.agent.n_seeds, self.market
        start, stop = market.rows("test")
        years = (stop - start) / market.periods_per_year
        sharpes = ", ".join(f"{sharpe:.2f}" for sharpe in validation.values())
        return (
            f"One test window of {years:.1f} years: another one could have gone the other way.",
            f"{n_seeds} training seed{'s' if n_seeds > 1 else ''}: the spread between seeds is part of the uncertainty."
            + (" At least 5 are needed to judge it." if n_seeds < 5 else ""),
            f"The agent is that of seed {self.settings.seed + chosen}, chosen by the Sharpe ratio on the validation years "
            f"({sharpes}); the test years had no part in it.",
            "The exposure rule was chosen by people who had seen these years; a gain that comes from it is the rule's.",
        )


def load_by_name(name: str) -> type:
    """
    :param name: dotted name of a class
    :raises ValueError: if there is none
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"There is no class '{name}'; expected a name such as quantflux_sb3.policies.SoftmaxPolicy."
        ) from error


def versions() -> dict[str, str]:
    """
    :return: versions of Python and of the libraries that decide the result
    """
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
