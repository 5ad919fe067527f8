"""
A batch of portfolios: settings, state, observation, episodes. Both envs are thin coats over it.

Nothing here knows Gymnasium's or Stable-Baselines3's interfaces, and none of the accounting is here: that is the kernel's.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit

from quantflux_sb3 import dynamics
from quantflux_sb3.costs import CostModel
from quantflux_sb3.dynamics import PORTFOLIO_COLUMNS, RECORD_HEAD, ROW, STATE_HEAD, STOP
from quantflux_sb3.layout import Block, ObservationLayout
from quantflux_sb3.pool import BlockSource, MarketPool
from quantflux_sb3.rewards import RewardConfig
from quantflux_sb3.sizing import Sizing


@dataclass(frozen=True)
class PortfolioConfig:
    """
    Every setting of the environment but the market; see :class:`quantflux_sb3.env.QuantFluxEnv` for what each means.
    """

    split: str = "train"
    episode_length: int | None = 252
    decision_interval: int = 1
    execution_lag: int = 1
    costs: CostModel | float | None = None
    min_weight: float | tuple[float, ...] = 0.0
    max_weight: float | tuple[float, ...] = 0.25
    rebalance_threshold: float = 0.025
    exposure_threshold: float = 0.05
    max_holding_days: int | None = 63
    trade_to: str = "target"
    target_smoothing: int = 1
    risk_free: float | None = None
    reward: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self) -> None:
        _require(self.execution_lag in (0, 1), "execution_lag", self.execution_lag, "0 or 1")
        _require(self.trade_to in ("target", "band"), "trade_to", self.trade_to, "'target' or 'band'")
        for name in ("decision_interval", "target_smoothing", "episode_length", "max_holding_days"):
            value = getattr(self, name)
            optional = name in ("episode_length", "max_holding_days")
            valid = (value is None and optional) or (isinstance(value, (int, np.integer)) and value >= 1)
            _require(valid, name, value, "a whole number of days >= 1" + (" or None" if optional else ""))
        for name in ("rebalance_threshold", "exposure_threshold"):
            value = getattr(self, name)
            _require(_is_number(value) and value >= 0, name, value, "a weight >= 0")
        _require(isinstance(self.reward, RewardConfig), "reward", self.reward, "a RewardConfig")
        priced = self.costs is None or isinstance(self.costs, CostModel) or _is_number(self.costs)
        _require(priced, "costs", self.costs, "a CostModel or a fraction of traded value (0.001 = 10 bp)")
        if self.risk_free is not None:
            valid = _is_number(self.risk_free) and -0.01 < self.risk_free < 0.01
            _require(valid, "risk_free", self.risk_free, "a daily rate between -1 % and 1 %")

    def rules(self, n_assets: int) -> dynamics.Rules:
        """
        :param n_assets: number of assets
        :return: the settings as the kernel reads them
        :raises ValueError: if the limits on the weights cannot be met
        """
        lower, upper = (_per_asset(name, getattr(self, name), n_assets) for name in ("min_weight", "max_weight"))
        if not ((lower >= 0) & (lower <= upper) & (upper <= 1)).all():  # so that NaN is refused too
            raise ValueError(f"Weights need 0 <= min_weight <= max_weight <= 1; got {self.min_weight} and {self.max_weight}.")
        if upper.sum() < 1.0 - 1e-12:
            raise ValueError(
                f"`max_weight` {self.max_weight} of {n_assets} assets cannot reach 100 %: give at least "
                f"{np.ceil(1e4 / n_assets) / 1e4:.4f} or more assets."
            )
        if lower.sum() > 1.0 + 1e-12:
            raise ValueError(f"`min_weight` {self.min_weight} of {n_assets} assets is more than 100 % in all.")
        costs = CostModel.of(self.costs)
        linear, impact = costs.rates(n_assets)
        return dynamics.Rules(
            lower, upper, linear, impact, float(costs.fixed), float(self.rebalance_threshold),
            float(self.exposure_threshold), float(self.max_holding_days or np.inf), self.trade_to == "band",
            2.0 / (self.target_smoothing + 1.0), int(self.execution_lag), self.reward.weights(),
            np.asarray(self.reward.regime_scale, dtype=np.float64), float(self.reward.soft_max_weight),
            float(self.reward.patience),
        )  # fmt: skip


class PortfolioCore:
    """
    :param n_envs: number of portfolios
    :param market: see :meth:`quantflux_sb3.pool.MarketPool.of`
    :param config: settings
    """

    def __init__(self, n_envs: int, market: Any = None, config: PortfolioConfig | None = None):
        self.config = config or PortfolioConfig()
        self.pool = MarketPool.of(market)
        self.n_envs, self.n_assets = n_envs, self.pool.n_assets
        self.rules = self.config.rules(self.n_assets)
        self.windows = self.pool.windows(self.config.split)
        if self.config.risk_free is not None:
            self.pool = self.pool.with_risk_free(self.config.risk_free)  # which sizing rules read as well
        self.prices = self.pool.prices
        self.state = dynamics.new_state(n_envs, self.n_assets)
        self.clock = np.zeros((n_envs, 2), dtype=np.int64)
        self.records = np.zeros((n_envs, RECORD_HEAD + 2 * (self.n_assets + 1)))
        self.requests = np.zeros((n_envs, self.n_assets + 1))
        self.known_rows = np.zeros(n_envs, dtype=np.int64)  # last row known to the last decision of each env
        self.sources: tuple[BlockSource, ...] = ()
        self.sizing: tuple[Sizing, ...] = ()
        self._lay_out()

    def add_observation(self, source: BlockSource) -> None:
        """
        Observe more: the source's blocks come before the portfolio's.

        :param source: of the blocks
        :raises ValueError: if a block of that name is observed already
        """
        names = {block.name for block in self.layout.blocks}
        twice = [block.name for block, _ in source.blocks(self.pool.markets[0]) if block.name in names]
        if twice:
            raise ValueError(f"The observation has the blocks {twice} already; is the env wrapped twice?")
        self.sources = (*self.sources, source)
        self._lay_out()

    def add_sizing(self, sizing: Sizing) -> None:
        """
        Let a rule set the exposure of every decision. As with wrappers, the last one added acts first.

        :param sizing: the rule
        :raises ValueError: if a rule of that kind sizes them already
        """
        if any(type(other.rule) is type(sizing.rule) for other in self.sizing):
            raise ValueError(f"Decisions are sized by a {type(sizing.rule).__name__} already; is the env wrapped twice?")
        self.sizing = (*self.sizing, sizing)

    def _lay_out(self) -> None:
        blocks, self.table = self.pool.observation(self.sources)
        portfolio = (
            Block("weights", ("weight",), self.n_assets, limit=1.0, signed=False),
            Block("portfolio", PORTFOLIO_COLUMNS, limit=1.0, signed=False),
        )
        self.layout = ObservationLayout((*blocks, *portfolio))

    @property
    def observed_rows(self) -> np.ndarray:
        """Last row of the pool that each env's next decision may know (n_envs,)."""
        return self.clock[:, ROW] - self.rules.lag

    @property
    def weights(self) -> np.ndarray:
        """Drifted weights now, cash last (n_envs, n_assets + 1)."""
        return self.state[:, STATE_HEAD : STATE_HEAD + self.n_assets + 1]

    def reset(self, env: int, generator: np.random.Generator) -> None:
        """
        Begin an episode: draw a market by its weight and a window of the split uniformly.

        :param env: which portfolio
        :param generator: source of randomness of that env
        """
        which = int(generator.choice(len(self.pool.markets), p=self.pool.weights)) if len(self.pool.markets) > 1 else 0
        start, stop = self.windows[which]
        length = self.config.episode_length
        if length is not None and length < stop - start:
            start = int(generator.integers(start, stop - length + 1))
            stop = start + length
        self.begin(env, int(start), int(stop))

    def begin(self, env: int, start: int, stop: int) -> None:
        """
        Begin an episode on given rows: the first decision is at ``start - 1`` so that ``start`` is the first return earned.

        :param env: which portfolio
        :param start: first row that earns
        :param stop: one past the last row that earns
        """
        self.state[env] = dynamics.new_state(1, self.n_assets)[0]
        self.clock[env, ROW], self.clock[env, STOP] = start - 1, stop

    def observe(self, env: int) -> np.ndarray:
        """
        :return: observation of one env, a fresh array (obs_size,)
        """
        obs = np.empty(self.layout.size, dtype=np.float32)
        dynamics.observe(self.table, self.rules.lag, self.state[env], self.clock[env], obs)
        return obs

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        :param actions: (n_envs, n_assets + 1), not negative; divided by their sum, all zeros are all cash
        :return: fresh observations (n_envs, obs_size), rewards (n_envs,), ruined and ended (n_envs, 2)
        :raises ValueError: if an action has the wrong shape or is not finite
        :raises RuntimeError: if an episode has ended or not begun
        """
        actions = np.asarray(actions)
        if actions.dtype.kind not in "fiub":
            raise TypeError(f"Actions must be finite numbers; got an array of {actions.dtype}.")
        if actions.dtype.kind == "b":
            actions = actions.astype(np.float64)
        if actions.shape != self.requests.shape:
            raise ValueError(
                f"Actions have shape {actions.shape}; expected {self.requests.shape}: one weight per asset, then cash."
            )
        if not to_weights(actions, self.requests):
            raise ValueError(f"Actions must be finite numbers; got {actions[~np.isfinite(actions).all(axis=1)][0]}.")
        self.known_rows = self.observed_rows
        for sizing in reversed(self.sizing):
            sizing.apply(self.requests, self.pool, self.known_rows)
        obs = np.empty((self.n_envs, self.layout.size), dtype=np.float32)
        rewards, dones = np.empty(self.n_envs), np.empty((self.n_envs, 2), dtype=np.bool_)
        running = dynamics.step_batch(
            self.requests, self.config.decision_interval, self.prices, self.rules, self.table, self.state, self.clock,
            self.records, obs, rewards, dones,
        )  # fmt: skip
        if not running:
            raise RuntimeError("An episode has ended or not begun: call reset() before step().")
        return obs, rewards, dones


@njit(cache=True)
def to_weights(actions, out):
    """
    Divide each action by its sum; what is below zero counts as zero, and all zeros are all cash.

    :param actions: (n, n_assets + 1)
    :param out: receives weights (n, n_assets + 1), rows sum to 1
    :return: whether every action was finite
    """
    for b in range(actions.shape[0]):
        total = 0.0
        for i in range(actions.shape[1]):
            if not np.isfinite(actions[b, i]):
                return False
            out[b, i] = max(float(actions[b, i]), 0.0)
            total += out[b, i]
        if total <= 0.0:
            out[b, -1] = 1.0
        else:
            for i in range(actions.shape[1]):
                out[b, i] /= total
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(np.isfinite(value))


def _require(valid: bool, name: str, value: Any, expected: str) -> None:
    if not valid:
        raise ValueError(f"`{name}` must be {expected}; got {value!r}.")


def _per_asset(name: str, value: Any, n_assets: int) -> np.ndarray:
    try:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (n_assets,)).copy()
    except ValueError as error:
        raise ValueError(f"`{name}` has {np.size(value)} numbers; expected one, or one per asset ({n_assets}).") from error
