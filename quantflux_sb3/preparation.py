"""
What the settings of an experiment mean: the market, the costs, and everything that would fail later, checked before anything
is written.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.costs import CostModel
from quantflux_sb3.diffusion.config import MIN_TRAIN_DAYS
from quantflux_sb3.evaluation.baselines import baseline_rules, run_baselines
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.market import DataReport, DateSplits, MarketData, Region, read_market
from quantflux_sb3.market.data import check_prices_move
from quantflux_sb3.market.signals import add_signals_file
from quantflux_sb3.run_folder import RunFolder
from quantflux_sb3.settings import Settings
from quantflux_sb3.sizing import TimingRule
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.vec_wrappers import VecMarketTiming

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
        prepared = cls.read(settings)
        settings, market = prepared.settings, prepared.market
        if settings.train_end or settings.validation_end:
            ends = {key: value for key in ("train_end", "validation_end") if (value := getattr(settings, key))}
            market = replace(market, splits=replace(market.splits, **ends) if market.splits else DateSplits(**ends))
        return prepared.on(market)

    @classmethod
    def read(cls, settings: Settings) -> "Prepared":
        """
        Load the prices; what is fitted on which days is not looked at yet.

        :raises ValueError: if they cannot be had, or the costs and limits do not fit them
        """
        loaded = read_market(settings.market_query)
        market, region = loaded.market, loaded.region
        if loaded.remote and settings.end is None:  # or a run could not be resumed tomorrow
            settings = replace(settings, end=str(market.dates[-1]))
        if settings.signals:
            market = add_signals_file(market, settings.signals, settings.signal_lag)
        costs = settings.env.costs if settings.env.costs is not None else CostModel(proportional=region.cost)
        config = replace(settings.env, costs=costs)
        config.rules(market.assets)
        if settings.baselines:
            baseline_rules(names=settings.baselines)
        return cls(settings, region, market, config, loaded.report)

    def on(self, market: MarketData) -> "Prepared":
        """
        The same on another market, or on the same one split otherwise.

        :param market: with the same assets
        :raises ValueError: if an agent could not be trained, chosen and tested on it
        """
        for split in ("train", "validation", "test"):
            market.rows(split)
        _check_trainable(self.settings, market, self.config)
        return replace(self, market=market)

    def record(self, folder: RunFolder) -> None:
        """
        Say in a run's folder what it runs on.

        :param folder: of the run
        :raises ValueError: if it was begun on other prices
        """
        market, region = self.market, self.region
        if folder.has("data.json") and folder.read_json("data.json")["content_hash"] != market.content_hash:
            raise ValueError(f"The prices changed since '{folder.path}' was begun; start a new run.")
        folder.write_json(
            "data.json",
            {
                "region": region.name, "currency": region.currency, "source": market.source, "assets": list(market.assets),
                "benchmark": market.benchmark, "asset_kind": market.asset_kind, "benchmark_kind": market.benchmark_kind,
                "first": str(market.dates[0]), "last": str(market.dates[-1]),
                "days": market.n_days, "splits": vars(market.splits), "content_hash": market.content_hash,
                "caveats": list(market.caveats),
            },
        )  # fmt: skip
        folder.write_json("versions.json", versions())
        folder.write_json("data_report.json", self.report.to_dict())

    @property
    def timing(self) -> TimingRule | None:
        """Exposure rule of the agent and of its base rule; None if the policy chooses its exposure."""
        return self.settings.timing if self.settings.use_timing else None

    def run_baselines(self, split: str) -> list[BacktestResult]:
        """
        :param split: the days that are to be earned
        :return: the baselines of the settings, the index last
        """
        return run_baselines(self.market, split, self.config, self.timing, self.settings.baselines)

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
        check_prices_move(train)
    policy = load_by_name(agent.policy)
    venv = make_quantflux_vec_env(1, market, **vars(config))
    try:
        policy(venv.observation_space, venv.action_space, lambda _: agent.learning_rate)
    except Exception as error:
        raise ValueError(
            f"`agent.policy` {agent.policy} is no policy for this env ({type(error).__name__}: {error})."
        ) from error


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
