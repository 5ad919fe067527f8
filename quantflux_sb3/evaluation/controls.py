"""
Does the agent learn what is there, and nothing where nothing is? SB3's PPO on markets with a known answer.

- ``free``: trading costs nothing; 100 % is the log-optimal policy under the exact Bayes filter.
- ``costs``: 10 bp of traded value; 100 % is that policy behind the no-trade gate that suits it best.
- ``shuffled``: the returns stand in random order, there is nothing to know, and equal weight must not be beaten.

0 % is equal weight under the same costs. An agent is trained on one simulated history and judged on fresh ones, acting
deterministically, by the kernel that trains and backtests.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
from scipy import stats
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from quantflux_sb3.dynamics import PORTFOLIO_RETURN
from quantflux_sb3.evaluation.known_markets import FavouredAssetMarket, shuffled
from quantflux_sb3.evaluation.metrics import sharpe_ratio
from quantflux_sb3.market.data import WARMUP_DAYS, MarketData
from quantflux_sb3.policies import DirichletPolicy, SoftmaxPolicy
from quantflux_sb3.rewards import RewardConfig
from quantflux_sb3.vec_env import QuantFluxVecEnv
from quantflux_sb3.vec_wrappers import VecExogenousObservation

#: From observations (n_paths, obs_size) and the rows known (n_paths,) to weights asked for (n_paths, n_assets + 1).
Act = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Costs by kind of control [fraction of traded value].
COSTS = {"free": 0.0, "costs": 0.001, "shuffled": 0.0}
#: Gain of probability below which the Bayes policy does not trade; it takes the best of these.
GATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
#: Drift below which equal weight does not trade where trading costs something; without it, it would pay for nothing.
EQUAL_WEIGHT_GATE = {"rebalance_threshold": 0.025, "exposure_threshold": 0.05}
N_PATHS, TRAIN_DAYS, TEST_DAYS = 64, 40_000, 64 * 512
#: Growth of log wealth over that of equal weight is the only reward.
GROWTH_REWARD = RewardConfig(volatility=0.0, drawdown=0.0, turnover=0.0, overtrading=0.0, soft_limit=0.0)
#: Histories of different purposes never share a seed.
_TEST_SEED, _GATE_SEED, _SHUFFLE_SEED = 1_000_000, 2_000_000, 3_000_000


@dataclass(frozen=True)
class Learner:
    """
    What is trained: a policy and PPO's settings for it.

    :param policy: class of the policy
    :param policy_kwargs: its arguments
    :param ppo: arguments of PPO that differ from :data:`PPO_SETTINGS`
    :param policy_kwargs_with_costs: further arguments of the policy where trading costs something
    :param ppo_with_costs: further arguments of PPO there
    :param wrappers: Vec wrappers around the env, in training and judgement
    """

    policy: type[Any] | str
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    ppo: dict[str, Any] = field(default_factory=dict)
    policy_kwargs_with_costs: dict[str, Any] = field(default_factory=dict)
    ppo_with_costs: dict[str, Any] = field(default_factory=dict)
    wrappers: tuple[Any, ...] = ()


N_ENVS = 64
#: Small rollouts, each one minibatch; without costs a decision has no consequences beyond its day.
PPO_SETTINGS = {"n_steps": 8, "batch_size": 512, "n_epochs": 6, "gamma": 0.0, "gae_lambda": 1.0}
LARGER_ROLLOUTS = {"n_steps": 16, "batch_size": 1024}
WITH_COSTS = {**LARGER_ROLLOUTS, "gamma": 0.9, "gae_lambda": 0.95, "learning_rate": LinearSchedule(1.5e-3, 1e-4, 1.0)}
LEARNERS = {
    "softmax": Learner(
        SoftmaxPolicy, {"log_std_init": 1.0, "net_arch": [64, 64]}, {"learning_rate": LinearSchedule(1.2e-3, 1e-4, 1.0)},
        {"net_arch": [32, 32]}, WITH_COSTS,
    ),
    "dirichlet": Learner(
        DirichletPolicy, {"concentration_floor": 0.02, "initial_concentration": 0.06, "net_arch": [64, 64]},
        {**LARGER_ROLLOUTS, "learning_rate": LinearSchedule(1.5e-3, 2e-4, 1.0)}, {"net_arch": [32, 32]}, WITH_COSTS,
    ),
}  # fmt: skip


def control_env(
    market: MarketData, n_envs: int, seed: int, costs: float = 0.0, wrappers: Sequence[Any] = (), **settings: Any
) -> VecEnv:
    """
    :param market: of :class:`FavouredAssetMarket`
    :param n_envs: portfolios
    :param seed: of the first of them
    :param costs: of traded value [fraction]
    :param wrappers: further Vec wrappers, applied in order
    :param settings: further fields of :class:`quantflux_sb3.config.PortfolioConfig`
    :return: long only, no cap, no gate, decided and traded at the same close
    """
    plain = {"rebalance_threshold": 0.0, "exposure_threshold": 0.0, "max_holding_days": None, "max_weight": 1.0}
    config = {"execution_lag": 0, "costs": costs, "episode_length": 256, "reward": GROWTH_REWARD, **plain, **settings}
    venv: VecEnv = QuantFluxVecEnv(n_envs, market, **config)
    for wrapper in (VecExogenousObservation, *wrappers):
        venv = wrapper(venv)
    venv.seed(seed)
    return venv


def learning_curve(kind: str, learner: Learner, seed: int, steps: Sequence[int]) -> tuple[list[float], float]:
    """
    Train an agent and judge it on the way.

    :param kind: a key of ``COSTS``
    :param learner: what to train
    :param seed: of the market, the env and PPO; the judge's history has another
    :param steps: ascending env steps at which it is judged, each rounded down to a whole rollout
    :return: at each of them :meth:`Judge.figure`, and the CPU time of the training alone [s]
    """
    begin = time.process_time()
    model = new_agent(kind, learner, seed)
    rollout = model.n_steps * model.n_envs
    whole = [max(step // rollout, 1) * rollout for step in steps]
    judging = _JudgingCallback(Judge(kind, seed, learner.wrappers), whole)
    model.learn(judging.steps[-1], callback=judging)
    return judging.figures, time.process_time() - begin - judging.seconds


class _JudgingCallback(BaseCallback):
    """Judges the agent when the update that follows the given steps is done."""

    def __init__(self, judge: "Judge", steps: list[int]):
        super().__init__()
        self.judge, self.steps, self.figures, self.seconds = judge, steps, [], 0.0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        begin = time.process_time()
        while len(self.figures) < len(self.steps) and self.num_timesteps >= self.steps[len(self.figures)]:
            self.figures.append(self.judge.figure(self.model))
        self.seconds += time.process_time() - begin

    _on_training_end = _on_rollout_start


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """
    :param values: one per seed (n_seeds,)
    :return: mean, and half the width of its 95 % interval by Student's t; 0 for a single value
    """
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(half)


def new_agent(kind: str, learner: Learner, seed: int) -> PPO:
    """
    :return: an untrained agent on its training env; see :func:`learning_curve`
    """
    market = history(kind, TRAIN_DAYS, seed)
    settings, policy_kwargs = {**PPO_SETTINGS, **learner.ppo}, {"optimizer_kwargs": {"fused": True}, **learner.policy_kwargs}
    if COSTS[kind]:
        settings, policy_kwargs = settings | learner.ppo_with_costs, policy_kwargs | learner.policy_kwargs_with_costs
    venv = control_env(market, N_ENVS, seed, COSTS[kind], learner.wrappers)
    return PPO(learner.policy, venv, policy_kwargs=policy_kwargs, seed=seed, device="cpu", **settings)


def history(kind: str, n_days: int, seed: int, antithetic: bool = False) -> MarketData:
    """
    :param kind: a key of ``COSTS``
    :param n_days: length without the warm-up
    :param seed: of the history
    :param antithetic: see :meth:`FavouredAssetMarket.simulate`
    """
    if kind not in COSTS:
        raise ValueError(f"Unknown control '{kind}'; expected one of {', '.join(COSTS)}.")
    simulated = FavouredAssetMarket().simulate(n_days + 2 * (WARMUP_DAYS + 1), seed, antithetic)
    return shuffled(simulated, seed + _SHUFFLE_SEED) if kind == "shuffled" else simulated


class Judge:
    """
    Judges agents of one kind of control on one fresh history.

    :param kind: a key of ``COSTS``
    :param seed: of the history, which no training has seen
    :param wrappers: of the agents' env
    """

    def __init__(self, kind: str, seed: int = 0, wrappers: Sequence[Any] = ()):
        self.wrappers = wrappers
        self.market = history(kind, TEST_DAYS, _TEST_SEED + seed, antithetic=True)
        self.kind, self.costs = kind, COSTS[kind]

    def figure(self, model: BaseAlgorithm) -> float:
        """
        :return: per cent of the oracle's growth, or the Sharpe difference where there is nothing to know
        """
        return self.sharpe_difference(model) if self.kind == "shuffled" else self.share_of_oracle(model)

    @cached_property
    def equal_weight(self) -> np.ndarray:
        """Daily log returns of equal weight (n_days, n_paths)."""
        n = self.market.n_assets
        row = np.append(np.full(n, 1.0 / n), 0.0)
        gate = EQUAL_WEIGHT_GATE if self.costs else {}
        return daily_growth(lambda obs, _: np.tile(row, (len(obs), 1)), self.market, self.costs, **gate)

    @cached_property
    def oracle(self) -> np.ndarray:
        """Daily log returns of the best policy (n_days, n_paths)."""
        return daily_growth(bayes_policy(self.market, best_gate(self.costs)), self.market, self.costs)

    def share_of_oracle(self, model: BaseAlgorithm) -> float:
        """
        :return: growth on the way from equal weight (0) to the oracle (100) [per cent]
        """
        floor = self.equal_weight.mean()
        return float(100.0 * (self._growth(model).mean() - floor) / (self.oracle.mean() - floor))

    def sharpe_difference(self, model: BaseAlgorithm) -> float:
        """
        :return: annualised Sharpe ratio of the agent minus that of equal weight
        """
        return sharpe_ratio(np.expm1(self._growth(model)).ravel()) - sharpe_ratio(np.expm1(self.equal_weight).ravel())

    def _growth(self, model: BaseAlgorithm) -> np.ndarray:
        def act(obs: np.ndarray, _: np.ndarray) -> np.ndarray:
            return model.predict(obs, deterministic=True)[0]

        return daily_growth(act, self.market, self.costs, wrappers=self.wrappers)


def daily_growth(act: Act, market: MarketData, costs: float = 0.0, n_paths: int = N_PATHS, **settings: Any) -> np.ndarray:
    """
    :param act: the policy
    :param market: fresh; it is cut into paths of the same length that are walked side by side
    :param costs: of traded value [fraction]
    :param n_paths: number of paths
    :param settings: see :func:`control_env`
    :return: log returns (n_days, n_paths)
    """
    venv = control_env(market, n_paths, 0, costs, episode_length=None, **settings)
    core = venv.unwrapped.core
    venv.reset()
    start, stop = market.rows("train")
    n_days = (stop - start) // n_paths
    for path in range(n_paths):
        core.begin(path, start + path * n_days, start + (path + 1) * n_days)
    obs = np.stack([core.observe(path) for path in range(n_paths)])
    growth = np.empty((n_days, n_paths))
    for day in range(n_days):
        obs, *_ = venv.step(act(obs, core.observed_rows))
        growth[day] = np.log1p(core.records[:, PORTFOLIO_RETURN])
    return growth


def bayes_policy(market: MarketData, gate: float = 0.0, model: FavouredAssetMarket = FavouredAssetMarket()) -> Act:  # noqa: B008
    """
    The log-optimal portfolio under the exact filter; it is changed only if the new one is likelier to hold the favoured
    asset by more than the gate.

    :param market: simulated by ``model``
    :param gate: gain of probability, weighted with the portfolio
    :param model: whose parameters the filter knows
    :return: the policy, for one walk through the market
    """
    beliefs = model.beliefs(market)
    weights = model.optimal_weights(beliefs)
    held = np.zeros((0, market.n_assets + 1))

    def act(obs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        nonlocal held
        held = held if len(held) == len(rows) else weights[rows]
        gain = ((weights[rows] - held)[:, :-1] * beliefs[rows]).sum(axis=1)
        held = np.where((gain > gate)[:, None], weights[rows], held)
        return held

    return act


@cache
def best_gate(costs: float) -> float:
    """
    :param costs: of traded value [fraction]
    :return: the gate under which the Bayes policy grows fastest, on a history of its own
    """
    if costs == 0.0:
        return 0.0
    market = history("costs", TEST_DAYS, _GATE_SEED)
    return max(GATES, key=lambda gate: daily_growth(bayes_policy(market, gate), market, costs).mean())
