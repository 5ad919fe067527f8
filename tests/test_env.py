"""The Gymnasium env: its contract, its episodes, its information, its errors, and that it sees no future."""

import copy
import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import quantflux_sb3  # noqa: F401 (registers the env)
from quantflux_sb3.config import GroupCap, LongShort
from quantflux_sb3.costs import CostModel
from quantflux_sb3.dynamics import REWARD_TERMS
from quantflux_sb3.env import QuantFluxEnv
from quantflux_sb3.info import INFO_KEYS as ORDERED_INFO_KEYS
from quantflux_sb3.market import WARMUP_DAYS, MarketData
from quantflux_sb3.regimes import REGIMES, detect_regimes
from quantflux_sb3.rewards import RewardConfig
from quantflux_sb3.wrappers import FeatureObservation, KellySizing, MarketTiming, RegimeObservation

INFO_KEYS = set(
    "date wealth weights target_weights turnover cost rebalanced trade_reason exposure regime regime_probs "
    "portfolio_return benchmark_return drawdown reward_terms".split()
)
#: SB3 would like actions in [-1, 1]; weights are not.
ALLOWED_WARNINGS = ("We recommend you to use a symmetric and normalized Box action space",)


@pytest.mark.parametrize("kwargs", [{}, dict(execution_lag=0), dict(decision_interval=5), dict(render_mode="rgb_array")])
@pytest.mark.parametrize("check", [gymnasium_check_env, sb3_check_env])
@pytest.mark.parametrize("wrapped", [True, False])
def test_checkers_of_gymnasium_and_sb3_find_nothing(check, wrapped, kwargs):
    env = gym.make("QuantFlux-v0", **kwargs)
    allowed = ALLOWED_WARNINGS
    if wrapped and check is gymnasium_check_env:
        allowed = (*allowed, "\x1b[33mWARN: The environment (<OrderEnforcing")  # it says that it prefers the unwrapped one
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(env if wrapped else env.unwrapped)
    surprising = [str(warning.message) for warning in caught if not str(warning.message).startswith(allowed)]
    assert surprising == []


def episode(env, seed=None, n_steps=10_000, action_seed=0):
    """Observations, rewards, infos and the last pair of flags of one episode with random actions."""
    rng = np.random.default_rng(action_seed)
    obs, info = env.reset(seed=seed)
    observations, rewards, infos = [obs], [], [info]
    terminated = truncated = False
    while not (terminated or truncated) and len(rewards) < n_steps:
        action = rng.uniform(size=env.action_space.shape).astype(np.float32) ** 3
        obs, reward, terminated, truncated, info = env.step(action)
        observations.append(obs)
        rewards.append(reward)
        infos.append(info)
    return np.array(observations), np.array(rewards), infos, (terminated, truncated)


def test_same_seed_same_episode_and_other_seed_another():
    a, b = gym.make("QuantFlux-v0"), gym.make("QuantFlux-v0")
    for _ in range(2):  # the second episode follows from the first one's generator
        first, second = episode(a, 7), episode(b, 7)
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
        assert first[2][0]["date"] == second[2][0]["date"]
    starts = {a.reset(seed=seed)[1]["date"] for seed in range(20)}
    assert len(starts) > 15


def test_unseeded_resets_continue_the_sequence():
    def dates(env):
        return [env.reset(seed=3)[1]["date"], *(env.reset()[1]["date"] for _ in range(5))]

    first = dates(gym.make("QuantFlux-v0"))
    assert first == dates(gym.make("QuantFlux-v0")) and len(set(first)) > 3


def test_info_has_exactly_the_documented_keys_and_terms_sum_to_the_reward(market):
    env = QuantFluxEnv(market, split="all", reward=RewardConfig(concentration=0.1), max_weight=0.5)
    _, rewards, infos, _ = episode(env, 0)
    assert all(set(info) == INFO_KEYS for info in infos)
    for reward, info in zip(rewards, infos[1:], strict=True):
        assert tuple(info["reward_terms"]) == REWARD_TERMS
        assert sum(info["reward_terms"].values()) == pytest.approx(reward, abs=1e-12)
    assert all(any(info["reward_terms"][name] != 0.0 for info in infos) for name in REWARD_TERMS)


@pytest.mark.parametrize("interval", [1, 5])
def test_info_is_consistent_with_itself_and_with_the_market(market, interval):
    env = QuantFluxEnv(market, split="all", episode_length=None, decision_interval=interval, max_weight=0.6)
    _, _, infos, _ = episode(env, 1)
    probs, wealth = detect_regimes(market).probs, 1.0
    rows = [int(np.searchsorted(market.dates, np.datetime64(info["date"]))) for info in infos]
    for before, row, info in zip(rows[:-1], rows[1:], infos[1:], strict=True):
        assert row - before == interval or row == market.n_days - 1
        wealth *= 1.0 + info["portfolio_return"]
        assert info["wealth"] == pytest.approx(wealth, rel=1e-12)
        benchmark = np.prod(1.0 + market.benchmark_returns[before + 1 : row + 1]) - 1.0
        assert info["benchmark_return"] == pytest.approx(benchmark, abs=1e-14)
        assert info["exposure"] == pytest.approx(info["weights"][:-1].sum(), abs=1e-12)
        np.testing.assert_array_equal(info["regime_probs"], probs[before - 1])  # known when the action was taken, lag 1
        assert info["regime"] == REGIMES[probs[before - 1].argmax()]
        assert 0.0 <= info["drawdown"] < 1.0 and info["turnover"] >= 0.0 <= info["cost"]
        assert info["rebalanced"] or info["turnover"] == info["cost"] == 0.0


def test_episode_is_truncated_not_terminated_at_its_length():
    for length in (1, 23):
        _, rewards, _, flags = episode(gym.make("QuantFlux-v0", episode_length=length), 0)
        assert len(rewards) == length and flags == (False, True)


def test_last_step_of_an_interval_is_cut_at_the_end_of_the_episode():
    _, rewards, infos, flags = episode(QuantFluxEnv(episode_length=23, decision_interval=5), 0)
    assert len(rewards) == 5 and flags == (False, True)
    days = np.busday_count(infos[0]["date"], infos[-1]["date"])
    assert 23 <= days <= 25  # 23 sessions, up to two holidays


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("interval", [1, 7])
def test_whole_split_covers_every_day_exactly_once(bundled, split, interval):
    env = QuantFluxEnv(split=split, episode_length=None, decision_interval=interval)
    _, info = env.reset(seed=0)
    dates, done = [], False
    start, stop = bundled.rows(split)
    assert info["date"] == str(bundled.dates[start - 1])  # the first decision stands before the first day earned
    while not done:
        _, _, _, done, info = env.step(np.ones(7, dtype=np.float32))
        dates.append(info["date"])
    expected = bundled.dates[start:stop].astype(str)
    assert dates == [*expected[interval - 1 :: interval], *([expected[-1]] if len(expected) % interval else [])]


def test_splits_do_not_overlap_and_test_begins_on_its_first_date():
    spans = {}
    for split in ("train", "validation", "test"):
        env = QuantFluxEnv(split=split, episode_length=None)
        env.reset(seed=0)
        earned = []
        done = False
        while not done:
            _, _, _, done, info = env.step(np.ones(7))
            earned.append(info["date"])
        spans[split] = (earned[0], earned[-1])
    assert spans["train"][1] == "2012-12-31" and spans["validation"] == ("2013-01-02", "2015-12-31")
    assert spans["test"] == ("2016-01-04", "2022-12-28")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_random_episodes_earn_days_of_their_split_only(bundled, split):
    env = QuantFluxEnv(split=split, episode_length=60)
    env.reset(seed=0)
    start, stop = bundled.rows(split)
    rows = []
    for _ in range(300):
        env.reset()
        rows.append(env.core.clock[0].copy())
    rows = np.array(rows)
    assert rows[:, 0].min() + 1 >= start and rows[:, 1].max() <= stop
    assert (rows[:, 1] - rows[:, 0] - 1 == 60).all()
    spread = (rows[:, 0].min() + 1 - start, stop - rows[:, 1].max())
    assert max(spread) < 0.05 * (stop - start)  # every part of the split is drawn


def test_all_zeros_are_all_cash_and_numbers_are_divided_by_their_sum(market):
    env = QuantFluxEnv(market, max_weight=1.0, costs=0.0)
    env.reset(seed=0)
    info = env.step(np.zeros(5))[4]
    np.testing.assert_array_equal(info["weights"], [0, 0, 0, 0, 1])
    assert info["exposure"] == 0.0 and info["turnover"] == 0.0
    info = env.step(np.array([1.0, 2.0, 3.0, 0.0, 4.0]))[4]
    np.testing.assert_allclose(info["weights"], [0.1, 0.2, 0.3, 0.0, 0.4], rtol=0, atol=1e-15)
    info = env.step(np.array([-5.0, 1.0, 0.0, 0.0, 1.0]))[4]
    np.testing.assert_allclose(info["weights"], [0.0, 0.5, 0.0, 0.0, 0.5], rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32, bool, list])
def test_actions_of_any_numeric_kind_are_taken(market, dtype):
    env = QuantFluxEnv(market, max_weight=1.0)
    env.reset(seed=0)
    action = [1, 0, 1, 0, 0]
    info = env.step(action if dtype is list else np.array(action, dtype=dtype))[4]
    np.testing.assert_allclose(info["target_weights"], [0.5, 0, 0.5, 0, 0], atol=1e-15)


@pytest.mark.parametrize("wrap", [lambda env: env, MarketTiming, KellySizing])
@pytest.mark.parametrize(
    ("action", "said"),
    [
        (np.full(5, np.nan), "must be finite"),
        (np.array([1.0, np.inf, 0.0, 0.0, 0.0]), "must be finite"),
        (np.ones(4), r"shape \(4,\); expected \(5,\): one weight per asset, then cash"),
        (np.ones(9), r"shape \(9,\)"),
        (np.ones((1, 5)), r"shape \(1, 5\)"),
        (0.5, "shape"),
        (None, "shape|number"),
        (np.array(list("abcde")), "number"),
        (np.array([None] * 5), "number"),
    ],
)
def test_bad_actions_are_refused_in_plain_words(market, wrap, action, said):
    env = wrap(QuantFluxEnv(market, max_weight=0.5))
    env.reset(seed=0)
    with pytest.raises((ValueError, TypeError), match=said):
        env.step(action)


@pytest.mark.parametrize(
    ("kwargs", "error", "said"),
    [
        (dict(max_weight=0.1), ValueError, r"`max_weight` 0.1 of 6 assets cannot reach 100 %: give at least 0.1667 or more"),
        (dict(max_weight=1.2), ValueError, "min_weight <= max_weight <= 1"),
        (dict(min_weight=0.3), ValueError, "min_weight <= max_weight"),
        (dict(min_weight=0.2), ValueError, "more than 100 %"),
        (dict(min_weight=-0.1), ValueError, "0 <= min_weight"),
        (dict(max_weight=(0.5, 0.5)), ValueError, "`max_weight` has 2 numbers; expected one, or one per asset"),
        (dict(max_weight=float("nan")), ValueError, "max_weight"),
        (dict(min_weight=float("nan")), ValueError, "min_weight"),
        (dict(split="holdout"), ValueError, "Unknown split 'holdout'; expected one of"),
        (dict(execution_delay=1), TypeError, "execution_delay"),
        (dict(execution_lag=2), ValueError, "`execution_lag` must be 0 or 1; got 2"),
        (dict(costs=-0.001), ValueError, r"must lie in \[0, 0.25\) as a fraction"),
        (dict(costs=10), ValueError, r"0.001 = 10 bp"),
        (dict(costs="cheap"), (ValueError, TypeError), "costs"),
        (dict(costs=CostModel(proportional=(0.001, 0.001))), ValueError, "does not fit 6 assets"),
        (dict(episode_length=0), ValueError, "`episode_length` must be a whole number of days >= 1 or None; got 0"),
        (dict(episode_length=21.5), ValueError, "`episode_length`"),
        (dict(decision_interval=0), ValueError, "`decision_interval`"),
        (dict(max_holding_days=0), ValueError, "`max_holding_days`"),
        (dict(target_smoothing=0), ValueError, "`target_smoothing`"),
        (dict(rebalance_threshold=-0.1), ValueError, "`rebalance_threshold`"),
        (dict(exposure_threshold=float("nan")), ValueError, "`exposure_threshold`"),
        (dict(rebalance_threshold="small"), (ValueError, TypeError), "rebalance_threshold"),
        (dict(trade_to="edge"), ValueError, "`trade_to` must be 'target' or 'band'"),
        (dict(risk_free=0.05), ValueError, "daily rate"),
        (dict(risk_free="2 %"), (ValueError, TypeError), "risk_free"),
        (dict(reward={"volatility": 1.0}), (ValueError, TypeError), "RewardConfig"),
        (dict(render_mode="ansi"), ValueError, "`render_mode` must be one of"),
        (dict(market=[]), ValueError, "empty list"),
        (dict(market=3), TypeError, "must be MarketData, a DataFrame of prices or a path"),
        (dict(market="nowhere.csv"), ValueError, "no prices file"),
    ],
)
def test_bad_settings_are_refused_by_name(kwargs, error, said):
    with pytest.raises(error, match=said):
        QuantFluxEnv(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        (dict(volatility=-1.0), "volatility"),
        (dict(scale=float("inf")), "scale"),
        (dict(regime_scale=(1.0, 1.0)), "`regime_scale` needs one number"),
        (dict(regime_scale=(1.0, 1.0, -1.0, 1.0)), "`regime_scale`"),
        (dict(regime_scale=(1.0, 1.0, float("inf"), 1.0)), "`regime_scale`"),
    ],
)
def test_bad_reward_settings_are_refused_by_name(kwargs, said):
    with pytest.raises(ValueError, match=said):
        RewardConfig(**kwargs)


@pytest.mark.parametrize("split", ["test", "train"])
def test_stepping_past_the_end_is_refused(split):
    """There is no next day to earn: the rows after the window belong to another split, or to nobody."""
    env = QuantFluxEnv(split=split, episode_length=None if split == "test" else 5)
    episode(env, 0)
    with pytest.raises((RuntimeError, ValueError), match="reset"):
        env.step(np.ones(7))


def test_stepping_before_reset_is_refused():
    with pytest.raises((RuntimeError, ValueError), match="reset"):
        QuantFluxEnv().step(np.ones(7))


def test_stepping_after_ruin_is_refused(market):
    env = QuantFluxEnv(market, max_weight=1.0, costs=CostModel(fixed=0.2), max_holding_days=1)
    _, _, _, flags = episode(env, 0)
    assert flags == (True, False)
    with pytest.raises((RuntimeError, ValueError), match="reset"):
        env.step(np.ones(5))


def test_list_of_markets_is_drawn_by_weight(make_market):
    markets = [make_market(seed=seed) for seed in range(3)]
    env = QuantFluxEnv([(markets[0], 0.2), (markets[1], 0.0), (markets[2], 0.6)], max_weight=1.0, episode_length=5)
    env.reset(seed=0)
    drawn = []
    for _ in range(400):
        env.reset()
        drawn.append(int(np.searchsorted(env.core.pool.offsets, env.core.clock[0, 0], side="right")) - 1)
    shares = np.bincount(drawn, minlength=3) / 400
    np.testing.assert_allclose(shares, [0.25, 0.0, 0.75], atol=0.07)


def test_episode_of_one_market_in_a_list_is_that_markets_own(make_market):
    markets = [make_market(seed=seed) for seed in (1, 2)]
    kwargs = dict(max_weight=1.0, split="all", episode_length=None)
    for which in (0, 1):
        weights = [float(i == which) for i in range(2)]
        listed = RegimeObservation(FeatureObservation(QuantFluxEnv(list(zip(markets, weights, strict=True)), **kwargs)))
        alone = RegimeObservation(FeatureObservation(QuantFluxEnv(markets[which], **kwargs)))
        a, b = episode(listed, 0), episode(alone, 0)
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0)])
def test_bad_sampling_weights_are_refused(make_market, weights):
    with pytest.raises(ValueError, match="Sampling weights"):
        QuantFluxEnv(list(zip([make_market(seed=1), make_market(seed=2)], weights, strict=True)), max_weight=1.0)


def test_markets_that_do_not_fit_together_are_refused(make_market):
    with pytest.raises(ValueError, match="same assets"):
        QuantFluxEnv([make_market(n_assets=4), make_market(n_assets=5)])
    with pytest.raises(ValueError, match="same asset_features"):
        QuantFluxEnv([make_market(), make_market(exogenous=True)])


def test_prices_as_frame_file_and_market_make_the_same_env(prices, tmp_path):
    prices.to_csv(tmp_path / "prices.csv")
    kwargs = dict(split="all", episode_length=None, max_weight=0.6)
    sources = (MarketData.from_prices(prices), prices, tmp_path / "prices.csv", str(tmp_path / "prices.csv"))
    episodes = [episode(gym.make("QuantFlux-v0", market=source, **kwargs), 0) for source in sources]
    for other in episodes[1:]:
        np.testing.assert_allclose(other[0], episodes[0][0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(other[1], episodes[0][1], rtol=0, atol=1e-9)
    assert gym.make("QuantFlux-v0", market=prices, **kwargs).unwrapped.assets == ("A", "B", "C")


def test_unclean_prices_are_refused_by_the_env(prices):
    prices.iloc[5, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN at 1 dates, first 2010-01-11 \(asset 'B'\)"):
        gym.make("QuantFlux-v0", market=prices)


def test_short_history_is_refused(prices):
    with pytest.raises(ValueError, match=r"Split 'train' has \d+ usable days after 128 days of warm-up"):
        QuantFluxEnv(prices.iloc[:150], max_weight=0.5)


def test_constant_risk_free_setting_is_what_cash_earns(market):
    env = QuantFluxEnv(market, split="all", risk_free=0.0002, costs=0.0)
    env.reset(seed=0)
    for _ in range(3):
        assert env.step(np.zeros(5))[4]["portfolio_return"] == pytest.approx(0.0002, abs=1e-15)
    env = QuantFluxEnv(market, split="all", costs=0.0, episode_length=None)
    env.reset(seed=0)
    for row in range(3):
        expected = market.risk_free[WARMUP_DAYS + 1 + row]
        assert env.step(np.zeros(5))[4]["portfolio_return"] == pytest.approx(expected, abs=1e-15)


def test_picture_is_drawn_without_a_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    env = gym.make("QuantFlux-v0", render_mode="rgb_array")
    env.reset(seed=0)
    env.action_space.seed(0)
    first = env.render()
    for _ in range(30):
        env.step(env.action_space.sample())
    last = env.render()
    env.close()
    for picture in (first, last):
        assert picture.dtype == np.uint8 and picture.shape == (400, 640, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10  # not blank
    assert (first != last).any()


def test_no_picture_is_asked_for_none_is_made(caplog):
    env = QuantFluxEnv()
    env.reset(seed=0)
    assert env.render() is None
    assert "render_mode" in caplog.text


def test_rendering_changes_nothing_in_the_episode():
    drawn, plain = episode(gym.make("QuantFlux-v0", render_mode="rgb_array"), 1, 20), episode(gym.make("QuantFlux-v0"), 1, 20)
    np.testing.assert_array_equal(drawn[0], plain[0])
    np.testing.assert_array_equal(drawn[1], plain[1])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda space: pickle.loads(pickle.dumps(space))])
def test_copies_of_the_space_keep_its_layout(duplicate):
    space = gym.make("QuantFlux-v0").observation_space
    twin = duplicate(space)
    assert twin == space and twin.layout == space.layout
    assert twin.layout.slices == space.layout.slices


def test_observations_stay_inside_the_space(all_stocks):
    env = gym.make("QuantFlux-v0", market=all_stocks, split="all", episode_length=None)
    observations, *_ = episode(env, 0, n_steps=1500)
    low, high = env.observation_space.low, env.observation_space.high
    assert (observations >= low).all() and (observations <= high).all()
    assert observations.dtype == np.float32


def test_portfolio_part_of_the_observation_is_the_portfolio_before_the_last_return(market):
    """Lag 1: the weights after the last trade; lag 0: the same, drifted with the return of the day."""
    for lag in (0, 1):
        env = QuantFluxEnv(market, split="all", execution_lag=lag, max_weight=0.7, rebalance_threshold=0.1)
        observations, _, infos, _ = episode(env, 0, 60)
        for obs, info in zip(observations[1:], infos[1:], strict=True):
            row = int(np.searchsorted(market.dates, np.datetime64(info["date"])))
            expected = info["weights"].copy()
            if lag == 0:
                expected *= np.append(1.0 + market.returns[row], 1.0 + market.risk_free[row])
                expected /= expected.sum()
                assert obs[5] == pytest.approx(info["drawdown"], abs=1e-6)
            np.testing.assert_allclose(obs[:5], expected, rtol=0, atol=1e-6)
            assert obs[7] == pytest.approx(expected[:4].sum(), abs=1e-6)


def test_first_observation_says_nothing_was_ever_traded_alike_for_both_lags(market):
    first = [QuantFluxEnv(market, split="all", episode_length=None, execution_lag=lag).reset(seed=0)[0] for lag in (0, 1)]
    np.testing.assert_array_equal(first[0], first[1])


def wrapped(market, lag):
    env = FeatureObservation(QuantFluxEnv(market, split="all", episode_length=None, execution_lag=lag, max_weight=0.6))
    return KellySizing(MarketTiming(RegimeObservation(env), min_exposure=0.1), min_exposure=0.1)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("steps", [1, 2, 40, 150])
def test_observations_know_nothing_of_the_future(market, change_future, lag, steps):
    """The k-th decision stands at the close of row 128 + k. Everything later, and with lag 1 that row too, may change."""
    last = WARMUP_DAYS + steps
    full = episode(wrapped(market, lag), 0, steps)
    changed = episode(wrapped(change_future(market, last + 1 - lag), lag), 0, steps)
    np.testing.assert_array_equal(changed[0], full[0])
    np.testing.assert_array_equal(changed[1][: steps - lag], full[1][: steps - lag])
    keys = ("weights", "target_weights", "turnover", "cost", "regime_probs")
    for a, b in zip(changed[2][: steps + 1 - lag], full[2][: steps + 1 - lag], strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in keys)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("steps", [1, 40])
def test_prefix_of_the_market_gives_the_same_observations(market, lag, steps):
    steps += 20  # the shortest split an env takes has 21 days
    full = episode(wrapped(market, lag), 0, steps)
    short = episode(wrapped(market.window(0, WARMUP_DAYS + steps + 1), lag), 0)
    np.testing.assert_array_equal(short[0], full[0])
    np.testing.assert_array_equal(short[1], full[1])
    assert short[3] == (False, True)


@pytest.mark.parametrize("steps", [2, 40])
def test_same_day_return_is_seen_with_lag_0_only_and_earned_with_both(market, change_future, steps):
    """So that the tests above can fail: the row of the last decision is read with lag 0, and it pays the last reward."""
    row = WARMUP_DAYS + steps
    for lag in (0, 1):
        full, changed = (episode(wrapped(m, lag), 0, steps) for m in (market, change_future(market, row)))
        seen = np.abs(full[0][-1] - changed[0][-1]) > 1e-6
        assert seen.mean() > 0.5 if lag == 0 else not seen.any()
        assert abs(full[1][-1] - changed[1][-1]) > 1e-6
        np.testing.assert_array_equal(full[1][:-1], changed[1][:-1])


@pytest.mark.parametrize("lag", [0, 1])
def test_next_day_return_changes_the_reward_of_the_decision(market, change_future, lag):
    steps = 30
    full = episode(wrapped(market, lag), 0, steps + 1)
    changed = episode(wrapped(change_future(market, WARMUP_DAYS + steps + 1), lag), 0, steps + 1)
    np.testing.assert_array_equal(full[0][: steps + 1], changed[0][: steps + 1])
    np.testing.assert_array_equal(full[1][:steps], changed[1][:steps])
    assert abs(full[1][steps] - changed[1][steps]) > 1e-4


def test_exogenous_signal_is_seen_as_early_as_the_lag_allows(market):
    for lag in (0, 1):
        env = FeatureObservation(QuantFluxEnv(market, split="all", episode_length=None, execution_lag=lag, max_weight=0.6))
        layout = env.observation_space.layout
        observations, *_ = episode(env, 0, 20)
        block = observations[:, layout.slices["assets"]].reshape(21, market.n_assets, -1)
        rows = WARMUP_DAYS - lag + np.arange(21)
        np.testing.assert_array_equal(block[:, :, -1], market.asset_features["signal"][rows].astype(np.float32))


def test_frame_with_unsorted_dates_is_refused(prices):
    with pytest.raises(ValueError, match="not ascending"):
        QuantFluxEnv(prices.sort_index(ascending=False))


def test_an_info_is_a_dictionary_to_everybody_and_copies_are_independent():
    env = gym.make("QuantFlux-v0", disable_env_checker=True)
    env.reset(seed=0)
    env.action_space.seed(0)
    infos = [env.step(env.action_space.sample())[4] for _ in range(8)]
    whole = dict(infos[0].items())
    assert tuple(whole) == ORDERED_INFO_KEYS
    assert set(json.loads(json.dumps(infos[1], default=str))) == set(INFO_KEYS)
    assert set(infos[2] | {"mine": 1}) == {*INFO_KEYS, "mine"} == set({"mine": 1} | infos[3])
    assert infos[4].setdefault("cost", -1) >= 0.0
    del infos[5]["regime"]
    assert "regime" not in infos[5] and list(reversed(infos[5]))[-1] == "date"
    twin = copy.deepcopy(infos[6])
    twin["weights"][:] = 0.0
    twin["mine"] = 1
    assert infos[6]["weights"].sum() == pytest.approx(1.0) and "mine" not in infos[6]
    other = copy.deepcopy(infos[7])
    assert {key: str(value) for key, value in other.items()} == {key: str(value) for key, value in infos[7].items()}
    infos[7].clear()
    assert len(infos[7]) == 0 and "wealth" not in infos[7]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"foo": 1}, r"no setting \['foo'\]; the settings are \['split'"),
        ({"group_caps": None}, "tuple of GroupCap"),
        ({"group_caps": [{"assets": ("AAPL",)}]}, "tuple of GroupCap"),
        ({"max_weight": {"AAPL": 0.3}}, "one number per asset"),
        ({"max_weight": "0.3"}, "one number per asset"),
        ({"execution_lag": np.array([0, 1])}, "`execution_lag` must be 0 or 1"),
        ({"decision_interval": True}, "`decision_interval` must be a whole number"),
    ],
)
def test_settings_of_another_kind_are_refused_in_plain_words(settings, said):
    with pytest.raises((ValueError, TypeError), match=said):
        QuantFluxEnv(**settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GroupCap("AAPL", 0.3),
        lambda: GroupCap(("AAPL",), "0.5"),
        lambda: LongShort(gross="1"),
        lambda: RewardConfig(volatility="5"),
    ],
)
def test_parts_of_settings_are_refused_in_plain_words(make):
    with pytest.raises(ValueError, match="got"):
        make()
