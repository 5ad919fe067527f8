"""
A batch of portfolios: settings, state, observation, episodes. Both envs are thin coats over it.

Nothing here knows Gymnasium's or Stable-Baselines3's interfaces, and none of the accounting is here: that is the kernel's.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces

from quantflux_sb3 import dynamics
from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.dynamics import (
    AS_WEIGHTS,
    FINAL_WEALTH,
    KNOWN_ROW,
    LAST_ROW,
    LONG_ONLY,
    LONG_SHORT,
    NOT_FINITE,
    PORTFOLIO_COLUMNS,
    RECORD_HEAD,
    ROW,
    STATE_HEAD,
    STEPPED,
)
from quantflux_sb3.layout import Block, ObservationLayout
from quantflux_sb3.pool import BlockSource, MarketPool
from quantflux_sb3.sizing import Sizing

_FLOAT32 = np.dtype(np.float32)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """
    For the first calls of compiled functions. numba makes very many objects as it compiles, hardly any of them garbage, and
    the collector would look through all that are there again and again: a fifth of the time, if torch is loaded.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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
        self.rules = self.config.rules(self.pool.markets[0].assets)
        self.windows = self.pool.windows(self.config.split)
        if self.config.risk_free is not None:
            self.pool = self.pool.with_risk_free(self.config.risk_free)  # which sizing rules read as well
        self.prices = self.pool.prices
        self.special = dynamics.special_limits(self.prices, self.rules)
        self.reading = LONG_SHORT if self.config.long_short else LONG_ONLY
        with without_garbage_collection():
            self.state = dynamics.new_state(n_envs, self.n_assets)
        self._opening_state = self.state[0].copy()
        self.clock = np.zeros((n_envs, 2), dtype=np.int64)
        self.desk = np.zeros((dynamics.DESK_ROWS, self.n_assets + 1))
        self._action_shape = (n_envs, self.n_assets + 1)
        self.requests = np.zeros(self._action_shape)
        self._record_shape = (n_envs, RECORD_HEAD + 2 * (self.n_assets + 1))
        self.records = np.zeros(self._record_shape)
        self.sources: tuple[BlockSource, ...] = ()
        self.sizing: tuple[Sizing, ...] = ()
        self._assigned: np.ndarray | None = None
        self._compiled = False
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

    def adopt(self, other: "PortfolioCore") -> None:
        """
        Observe and size as another core does.

        :param other: whose sources and rules to take
        """
        for source in other.sources:
            self.add_observation(source)
        for sizing in other.sizing:
            self.add_sizing(sizing)

    def assign(self, markets: Sequence[int]) -> None:
        """
        Give every portfolio a market of its own for all its episodes, rather than drawing one for each episode.

        :param markets: index into the pool's markets, one per portfolio (n_envs,)
        """
        assigned = np.asarray(markets, dtype=np.int64)
        if assigned.shape != (self.n_envs,) or not ((assigned >= 0) & (assigned < len(self.pool.markets))).all():
            raise ValueError(f"`markets` needs an index below {len(self.pool.markets)} for each of {self.n_envs} portfolios.")
        self._assigned = assigned

    def _lay_out(self) -> None:
        blocks, self.table = self.pool.observation(self.sources)
        short = self.config.long_short is not None
        limit = np.inf if short else 1.0
        portfolio = (
            Block("weights", ("weight",), self.n_assets, limit=limit, signed=short),
            Block("portfolio", PORTFOLIO_COLUMNS, limit=limit, signed=short),
        )
        self.layout = ObservationLayout((*blocks, *portfolio))
        self._obs_shape = (self.n_envs, self.layout.size)
        self._kernel_arguments = (
            self.config.decision_interval, self.prices.days, *self.rules, self.special, self.table, self.state, self.clock,
            self.desk, self.requests,
        )  # fmt: skip

    def action_space(self) -> spaces.Box:
        """
        :return: one number per asset, cash last; in [0, 1], or in [-1, 1] for long-short portfolios
        """
        low = -1.0 if self.config.long_short else 0.0
        return spaces.Box(low, 1.0, (self.n_assets + 1,), dtype=np.float32)

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
        if not self._compiled:
            self._compile()
        if self._assigned is not None:
            which = int(self._assigned[env])
        else:
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
        self.state[env] = self._opening_state
        self.clock[env] = start - 1, stop

    def opening_record(self, env: int) -> np.ndarray:
        """
        :return: what a record says before the first step of an episode: nothing held but cash (record_size,)
        """
        record, row = np.zeros(self._record_shape[1]), self.clock[env, ROW]
        record[FINAL_WEALTH], record[LAST_ROW], record[KNOWN_ROW] = 1.0, row, row - self.rules.lag
        record[[RECORD_HEAD + self.n_assets, -1]] = 1.0
        return record

    def observe(self, env: int) -> np.ndarray:
        """
        :return: observation of one env, a fresh array (obs_size,)
        """
        obs = np.empty(self.layout.size, dtype=np.float32)
        dynamics.observe(self.table[self.clock[env, ROW] - self.rules.lag], self.state[env], obs)
        return obs

    def step(self, actions: np.ndarray) -> np.ndarray:
        """
        Step every env; ``records`` is then a fresh array with what happened.

        :param actions: (n_envs, n_assets + 1), not negative; divided by their sum, all zeros are all cash
        :return: fresh observations (n_envs, obs_size)
        :raises TypeError: if an action is not made of numbers
        :raises ValueError: if an action has the wrong shape or is not finite
        :raises RuntimeError: if an episode has ended or not begun
        """
        if actions.dtype is not _FLOAT32 or actions.shape != self._action_shape or not actions.flags.carray:
            actions = self._check(actions)
        reading = self._size(actions) if self.sizing else self.reading
        obs = np.empty(self._obs_shape, _FLOAT32)
        records = np.empty(self._record_shape)
        status = dynamics.step_batch(self.requests if self.sizing else actions, reading, *self._kernel_arguments, records, obs)
        if status != STEPPED:
            self._refuse(actions, status)
        self.records = records
        return obs

    def _compile(self) -> None:
        """Have the step compiled, or found in numba's cache, by a step of no env at all."""
        actions = np.empty(self._action_shape, np.float64 if self.sizing else _FLOAT32)[:0]
        obs, records = np.empty(self._obs_shape, _FLOAT32), np.empty(self._record_shape)
        with without_garbage_collection():
            dynamics.step_batch(actions, self.reading, *self._kernel_arguments, records, obs)
        self._compiled = True

    def _size(self, actions: np.ndarray) -> int:
        """Read actions as requests and size those; tells how the kernel reads what comes out."""
        if not dynamics.read_actions(actions, self.reading, self.requests):
            self._refuse(actions, NOT_FINITE)
        for sizing in reversed(self.sizing):
            sizing.apply(self.requests, self.pool, self.observed_rows)
        return AS_WEIGHTS

    def _check(self, actions: np.ndarray) -> np.ndarray:
        if actions.dtype.kind not in "fiub":
            raise TypeError(f"Actions must be finite numbers; got an array of {actions.dtype}.")
        if actions.shape != self.requests.shape:
            given, expected = actions.shape, self.requests.shape
            if self.n_envs == 1 and given[:1] == (1,):  # the first dimension is that of the batch, not the caller's
                given, expected = given[1:], expected[1:]
            raise ValueError(f"Actions have shape {given}; expected {expected}: one weight per asset, then cash.")
        return np.array(actions, dtype=np.float64, order="C")

    def _refuse(self, actions: np.ndarray, status: int) -> None:
        if status == NOT_FINITE:
            finite = np.isfinite(np.abs(actions, dtype=np.float64).sum(axis=1))
            raise ValueError(f"Actions must be finite numbers; got {actions[~finite][0]}.")
        raise RuntimeError("An episode has ended or not begun: call reset() before step().")
