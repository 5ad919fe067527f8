"""Random markets, settings and actions: a clear error or a valid step, never NaN. ``QUANTFLUX_FUZZ=100000`` tries more."""

import os
import warnings

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantflux_sb3.config import GroupCap, LongShort
from quantflux_sb3.costs import CostModel
from quantflux_sb3.env import QuantFluxEnv
from quantflux_sb3.market import WARMUP_DAYS, MarketData

CLEAR_ERRORS = (ValueError, TypeError)

numbers = st.one_of(st.floats(-2.0, 2.0), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e300, -1e300]))
fractions = st.one_of(st.floats(0.0, 1.0), st.sampled_from([-0.1, 1.5, np.nan, 0.25]))
days = st.one_of(st.integers(1, 40), st.sampled_from([0, -1, None, 2.5]))
SETTINGS = {
    "execution_lag": st.sampled_from([0, 1, 1, 2]),
    "decision_interval": st.one_of(st.integers(1, 7), st.sampled_from([0, 1.5])),
    "episode_length": days,
    "max_weight": fractions,
    "min_weight": st.sampled_from([0.0, 0.0, 0.05, 0.3, -1.0]),
    "rebalance_threshold": st.sampled_from([0.0, 0.025, 0.5, -0.1, np.nan]),
    "max_holding_days": days,
    "min_holding_days": st.sampled_from([0, 3, -2]),
    "max_turnover": st.sampled_from([None, 0.1, 1.0, 0.0, np.nan]),
    "trade_to": st.sampled_from(["target", "band", "moon"]),
    "target_smoothing": st.sampled_from([1, 5, 0]),
    "costs": st.sampled_from([None, 0.0, 0.01, CostModel(0.2, 0.04, 0.2, 0.1), -1.0]),
    "long_short": st.sampled_from([None, None, LongShort(2.0, 0.1)]),
    "group_caps": st.sampled_from([(), (), (GroupCap(("A0", "A1"), 0.3),), (GroupCap(("A9",), 0.3),)]),
    "risk_free": st.sampled_from([None, 0.0, 1e-4, 0.5]),
}


def random_market(rng: np.random.Generator) -> MarketData:
    """Calm to violent returns, crashes to -100 %, suspended and unlisted assets."""
    n_days, n_assets = WARMUP_DAYS + 40, int(rng.integers(2, 6))
    returns = np.maximum(rng.standard_t(2.5, (n_days, n_assets)) * rng.choice([1e-3, 0.02, 0.3]), -1.0)
    status = rng.choice([1, 0, -1], (n_days, n_assets), p=rng.choice([[1.0, 0.0, 0.0], [0.9, 0.07, 0.03]]))
    dates = np.datetime64("2010-01-04") + np.arange(n_days)
    names = tuple(f"A{i}" for i in range(n_assets))
    return MarketData(dates, names, np.where(status == 1, returns, 0.0), returns.mean(axis=1), status=status)


@settings(max_examples=int(os.environ.get("QUANTFLUX_FUZZ", "250")), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    chosen=st.fixed_dictionaries({}, optional=SETTINGS),
    actions=st.lists(st.lists(numbers, min_size=2, max_size=7), min_size=1, max_size=12),
)
def test_every_step_is_valid_or_refused(seed, chosen, actions):
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            env = QuantFluxEnv(random_market(rng), split="all", **chosen)
        except CLEAR_ERRORS as error:
            assert 10 < len(str(error)) and "\n" not in str(error)
            return
        obs, _ = env.reset(seed=seed)
        assert env.observation_space.contains(obs)
        for action in [*actions, *rng.random((12, env.action_space.shape[0]))]:
            try:
                obs, reward, terminated, truncated, info = env.step(np.array(action))
            except CLEAR_ERRORS as error:
                assert "Actions" in str(error)
                continue
            assert np.isfinite(obs).all() and np.isfinite(reward)
            assert env.observation_space.contains(obs) or chosen.get("long_short")
            assert np.isfinite(info["weights"]).all() and abs(info["weights"].sum() - 1.0) < 1e-9
            assert abs(sum(info["reward_terms"].values()) - reward) < 1e-9 * max(1.0, abs(reward))
            if terminated or truncated:
                env.reset()
