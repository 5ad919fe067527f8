"""Settings of an experiment: one typed tree. YAML keys, command-line flags and fields have the same names."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import yaml

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.diffusion.config import GeneratorConfig
from quantflux_sb3.market.data import MIN_SPLIT_DAYS, WARMUP_DAYS
from quantflux_sb3.market.query import MarketQuery
from quantflux_sb3.sizing import TimingRule


@dataclass(frozen=True)
class SyntheticSettings:
    """
    Synthetic markets beside the real one in training.

    :param n_markets: how many; 0 trains on real prices alone and no generator is trained
    :param n_days: length of each [days]
    :param share: of the training episodes that are drawn from synthetic markets, in [0, 1]
    """

    n_markets: int = 64
    n_days: int = 630
    share: float = 0.5

    def __post_init__(self) -> None:
        least = WARMUP_DAYS + 1 + MIN_SPLIT_DAYS
        if self.n_markets < 0 or self.n_days < least or not 0.0 <= self.share <= 1.0:
            raise ValueError(f"synthetic needs n_markets >= 0, n_days >= {least} and share in [0, 1]; got {self}.")


@dataclass(frozen=True)
class AgentSettings:
    """
    PPO of Stable-Baselines3 and its policy; the same numbers as ``zoo_configs/ppo.yml``.

    :param policy: dotted name of the policy
    :param total_timesteps: env steps of each training
    :param n_seeds: trainings from different seeds; the one that does best on the validation years becomes the agent, and
        the report shows all of them
    :param n_envs: portfolios stepped together
    :param n_steps: steps of each of them between two updates
    :param batch_size: of the updates
    :param n_epochs: of the updates
    :param learning_rate: of the updates
    :param gamma: discount
    :param gae_lambda: of the advantage estimate
    :param log_std_init: log of the exploration's width in logits (SoftmaxPolicy)
    """

    policy: str = "quantflux_sb3.policies.SoftmaxPolicy"
    total_timesteps: int = 100_000
    n_seeds: int = 5
    n_envs: int = 64
    n_steps: int = 16
    batch_size: int = 1024
    n_epochs: int = 6
    learning_rate: float = 3e-4
    gamma: float = 0.0
    gae_lambda: float = 1.0
    log_std_init: float = -0.7

    def __post_init__(self) -> None:
        for name in ("total_timesteps", "n_seeds", "n_envs", "n_steps", "batch_size", "n_epochs", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"agent.{name} must be > 0; got {getattr(self, name)}.")
        if self.batch_size < 2 or self.n_envs * self.n_steps < 2:
            raise ValueError("agent.batch_size and agent.n_envs * agent.n_steps must be at least 2; PPO normalises over them.")
        if not (0.0 <= self.gamma <= 1.0 and 0.0 <= self.gae_lambda <= 1.0):
            raise ValueError(f"agent.gamma and agent.gae_lambda must lie in [0, 1]; got {self.gamma}, {self.gae_lambda}.")


@dataclass(frozen=True)
class Settings:
    """
    Everything that decides the result of ``quantflux run``.

    :param seed: of all randomness
    :param tickers: assets; six bundled US stocks if not given
    :param benchmark: index to compare with
    :param start: first date (ISO)
    :param end: last date (ISO)
    :param region: market region, for costs and the benchmark; recognised from the tickers if not given
    :param prices: CSV or Parquet file of prices, wide or long
    :param source: bundled, yahoo or the name of an added source; the bundled set where it has all, else Yahoo
    :param rates: CSV or Parquet file of exchange rates, for tickers of several currencies: a column per currency
    :param adjust: prices adjusted for dividends (total return) or for splits only
    :param cleaning: refuse or repair; by default files are refused and downloads repaired
    :param max_fill: missing prices in a row that are filled with the last price
    :param signals: CSV or Parquet file of exogenous signals: date, ticker, then a column per signal
    :param signal_lag: days from the date of a signal until it is known
    :param cache_dir: folder for downloaded prices
    :param offline: never use the network
    :param train_end: last training date (ISO)
    :param validation_end: last validation date (ISO); what follows is the test
    :param env: costs, limits, rebalancing, reward
    :param timing: exposure rule
    :param use_timing: False: the policy chooses its exposure itself
    :param generator: of the synthetic markets
    :param synthetic: how many, how long, how often
    :param agent: PPO
    :param baselines: shown beside the agent: names of ``quantflux_sb3.evaluation.baselines.BASELINES``, or dotted names of
        optimisers such as skfolio.optimization.MaximumDiversification; all of the first if not given
    :param n_trials: settings that were tried before these were kept, yours included: the more, the less a good result proves
        (the defaults were chosen after 92)
    """

    seed: int = 0
    tickers: tuple[str, ...] | None = None
    benchmark: str | None = None
    start: str | None = None
    end: str | None = None
    region: str | None = None
    prices: str | None = None
    source: str | None = None
    rates: str | None = None
    adjust: str = "dividends"
    cleaning: str | None = None
    max_fill: int = 5
    signals: str | None = None
    signal_lag: int = 1
    cache_dir: str | None = None
    offline: bool = False
    train_end: str | None = None
    validation_end: str | None = None
    env: PortfolioConfig = field(default_factory=lambda: PortfolioConfig(target_smoothing=5))
    timing: TimingRule = field(default_factory=TimingRule)
    use_timing: bool = True
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    synthetic: SyntheticSettings = field(default_factory=SyntheticSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    baselines: tuple[str, ...] | None = None
    n_trials: int = 92

    def __post_init__(self) -> None:
        if self.n_trials < 1:
            raise ValueError(f"`n_trials` counts these settings too, so it is at least 1; got {self.n_trials}.")
        if self.env.split != "train":
            raise ValueError(
                f"An experiment trains on the training split; env.split must stay 'train', got '{self.env.split}'."
            )

    @property
    def market_query(self) -> MarketQuery:
        """What to load."""
        names = {item.name for item in fields(self)}
        return MarketQuery(**{item.name: getattr(self, item.name) for item in fields(MarketQuery) if item.name in names})

    def to_yaml(self) -> str:
        """
        :return: the whole tree as YAML that ``--config`` reads back
        """
        return yaml.safe_dump(_plain(asdict(self)), sort_keys=False)


@dataclass(frozen=True)
class WalkForwardSettings(Settings):
    """
    Everything that decides the result of ``quantflux walkforward``: an experiment per fold, and the folds.

    :param first: first test year
    :param last: last test year; the last one of the prices if not given
    :param fold_years: test years of a fold
    :param validation_years: before the test years of each fold; at most 30 % of the history before them
    :param embargo: trading days left out between training and validation and between validation and test
    :param baselines_only: no agents
    """

    first: int = 2000
    last: int | None = None
    fold_years: int = 1
    validation_years: float = 3.0
    embargo: int = 5
    baselines_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_end or self.validation_end:
            raise ValueError("Each fold of a walk-forward has splits of its own; leave out train_end and validation_end.")
        if self.fold_years < 1 or not self.validation_years > 0.0 or self.embargo < 0:
            raise ValueError(
                "A walk-forward needs fold_years >= 1, validation_years > 0 and embargo >= 0; got "
                f"{self.fold_years}, {self.validation_years} and {self.embargo}."
            )
        if self.last is not None and self.last < self.first:
            raise ValueError(f"`last` must not lie before `first`; got {self.first} to {self.last}.")


#: What ``--quick`` changes: enough to see every stage work in a minute, too little to learn much.
QUICK = {
    "generator.n_train_steps": 60,
    "generator.n_calibration_samples": 500,
    "synthetic.n_markets": 8,
    "agent.total_timesteps": 50_000,
    "agent.n_seeds": 1,
}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
