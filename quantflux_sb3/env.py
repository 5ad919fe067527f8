"""The Gymnasium environment ``QuantFlux-v0``: a batch of one over :class:`quantflux_sb3.core.PortfolioCore`."""

import logging
from typing import Any

import gymnasium as gym
import numpy as np

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import ENDED, REWARD, TERMINATED, TRUNCATED
from quantflux_sb3.info import StepInfo
from quantflux_sb3.layout import PortfolioBox

logger = logging.getLogger(__name__)


class QuantFluxEnv(gym.Env):
    """
    ## Description
    A portfolio of stocks and cash on real daily prices, after costs, against a benchmark. Each step is one decision: the
    agent says which weights it wants; the rebalancing engine brings them within the limits, decides whether the difference
    is worth a trade, trades at the close and pays; then the portfolio earns the next day's returns and drifts.

    ## Action Space
    ``Box(0, 1, (n_assets + 1,))``: one number per asset, cash last. Weights are the numbers divided by their sum; all zeros
    are all cash. Negative numbers count as zero.

    ## Observation Space
    A flat float32 :class:`quantflux_sb3.layout.PortfolioBox`; its ``layout`` says what stands where. As made by
    ``gym.make("QuantFlux-v0")``:

    | block     | size                  | what                                                                          |
    |-----------|-----------------------|-------------------------------------------------------------------------------|
    | assets    | n_assets * n_features | momentum, volatility, SMA distance, RSI, trend score; the user's own signals   |
    | market    | n_features            | the same of the benchmark, shape of the correlation matrix, drawdown           |
    | regime    | 5                     | probability of bull, bear, volatile, sideways; days in the regime [years]      |
    | weights   | n_assets              | weight of each asset                                                           |
    | portfolio | 4                     | cash, drawdown, days since the last trade [years], exposure                    |

    With ``execution_lag=1`` all of it ends at the close before the one at which the action trades; with 0 at that close.

    ## Rewards
    Benchmark-relative mean-variance utility with penalties, in per cent; see :class:`quantflux_sb3.rewards.RewardConfig`.
    ``info["reward_terms"]`` has every term, and they sum to the reward.

    ## Starting State
    All in cash with wealth 1, at a date drawn uniformly from the split (or its first, if ``episode_length`` is None).

    ## Episode End
    Terminated: ruin (wealth below a millionth). Truncated: end of the episode or of the split.

    ## Information
    ``date wealth weights target_weights turnover cost rebalanced trade_reason exposure regime regime_probs
    portfolio_return benchmark_return drawdown reward_terms``; ``weights`` are those held into ``date``, the last day earned
    (after the trade, if a step is one day); ``trade_reason`` says why there was a trade or none; ``regime`` is the one known
    when the action was taken; returns and costs are those of the step.

    ## Arguments
    :param market: a MarketData, a DataFrame of prices, a path of a file of prices, or a list of those (or of pairs with
        sampling weights); six bundled US stocks if not given
    :param render_mode: "human" or "rgb_array"
    :param settings: fields of :class:`quantflux_sb3.config.PortfolioConfig`:
        ``split`` ("train", "validation", "test", "all");
        ``episode_length`` (252) [days], None runs the whole split;
        ``decision_interval`` (1) [days per step];
        ``execution_lag`` (1) [days between the last row seen and the trade];
        ``costs`` (None: 5 bp + 5 bp) a CostModel, or the fraction of traded value;
        ``min_weight`` (0), ``max_weight`` (0.25) hard limits at every trade, one number or one per asset; prices may carry a
        weight beyond them until the next trade;
        ``rebalance_threshold`` (0.025), ``exposure_threshold`` (0.05) drifts that are let be [weight];
        ``max_holding_days`` (63) [days], None for no such limit; ``min_holding_days`` (0) without a further trade;
        ``max_turnover`` (None) of one trade [sum of absolute trades over wealth]; the limits on weights come first;
        ``group_caps`` (none) GroupCaps: limits on several assets together;
        ``long_short`` (None) a LongShort: actions in [-1, 1] are weights, limited in gross exposure, shorts pay for borrowing;
        ``trade_to`` ("target" or "band");
        ``target_smoothing`` (1) span of the average over successive targets [decisions];
        ``risk_free`` (None: the market's) [per day];
        ``reward`` a RewardConfig
    :raises ValueError: if a setting is out of range, the limits cannot be met, or the split is too short
    :raises TypeError: if a setting is unknown

    ## Version History
    * v0: first version
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 12}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self, market: Any = None, *, render_mode: str | None = None, **settings: Any):
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"`render_mode` must be one of {self.metadata['render_modes']} or None; got {render_mode!r}.")
        self.core = PortfolioCore(1, market, PortfolioConfig.of(settings))
        self.render_mode = render_mode
        self.action_space = self.core.action_space()
        self.observation_space = PortfolioBox(self.core.layout)
        self._canvas: Any = None
        self._episode: list[np.ndarray] = []

    @property
    def assets(self) -> tuple[str, ...]:
        """Tickers, in the order of the action (n_assets,)."""
        return self.core.pool.markets[0].assets

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        :param seed: begins a new sequence of episodes
        :param options: not used
        :return: observation and information
        """
        super().reset(seed=seed)
        self.core.reset(0, self.np_random)
        self.core.records = self.core.opening_record(0)[None]
        if self.render_mode is not None:
            self._episode = [self.core.records]
            if self.render_mode == "human":
                self.render()
        return self.core.observe(0), StepInfo(self.core, 0)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        :param action: (n_assets + 1,), cash last
        :return: observation, reward, terminated, truncated, information
        :raises ValueError: if the action has the wrong shape or is not finite
        """
        core = self.core
        obs = core.step(np.asarray(action)[None])
        record = core.records
        if self.render_mode is not None:  # as in most envs that SB3 makes, although nobody looks at them
            self._episode.append(record)
            if self.render_mode == "human":
                self.render()
        ended = record.item(ENDED)
        return obs[0], record.item(REWARD), ended == TERMINATED, ended == TRUNCATED, StepInfo(core, 0)

    def render(self) -> np.ndarray | None:
        """
        :return: a picture (height, width, 3) uint8 in mode "rgb_array"
        """
        if not self._episode:
            logger.warning("render() needs gym.make(..., render_mode='human' or 'rgb_array') and a reset().")
            return None
        if self._canvas is None:
            from quantflux_sb3.rendering import EpisodeCanvas

            self._canvas = EpisodeCanvas(self.assets, self.core.pool.markets[0].benchmark)
        draw = self._canvas.frame if self.render_mode == "rgb_array" else self._canvas.show
        return draw(np.concatenate(self._episode), StepInfo(self.core, 0))

    def close(self) -> None:
        if self._canvas is not None:
            self._canvas.close()
            self._canvas = None


def make_env(market: Any = None, **kwargs: Any) -> gym.Env:
    """
    What ``gym.make("QuantFlux-v0")`` makes: the env with features and regimes observed.

    :param market: see :class:`QuantFluxEnv`
    :param kwargs: see :class:`QuantFluxEnv`
    """
    from quantflux_sb3.wrappers import FeatureObservation, RegimeObservation

    return RegimeObservation(FeatureObservation(QuantFluxEnv(market, **kwargs)))
