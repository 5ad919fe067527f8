"""Markets with a known answer: the answer is right, the yardsticks are fair, and agents are measured by them."""

import itertools
import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from quantflux_sb3.cli import main
from quantflux_sb3.evaluation.controls import (
    LEARNERS,
    Judge,
    bayes_policy,
    best_gate,
    daily_growth,
    history,
    learning_curve,
    mean_interval,
    new_agent,
)
from quantflux_sb3.evaluation.known_markets import FavouredAssetMarket, shuffled

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def judge():
    return Judge("free", seed=11)


@pytest.mark.parametrize("read_returns", [False, True])
def test_filter_equals_the_sum_over_all_paths_of_the_regime(read_returns):
    process = FavouredAssetMarket(n_assets=3, stay=0.8, drift_gap=0.02, indicator_noise=1.5)
    market = process.simulate(5, seed=1)
    indicator, returns, n = market.asset_features["indicator"], market.returns, 3
    totals = np.zeros(n)
    for path in itertools.product(range(n), repeat=6):  # five days seen, and tomorrow
        moves = [process.stay if a == b else (1 - process.stay) / (n - 1) for a, b in itertools.pairwise(path)]
        density = np.prod(moves) / n
        for day, regime in enumerate(path[:5]):
            mean = np.eye(n)[regime]
            density *= multivariate_normal.pdf(indicator[day], mean, process.indicator_noise**2 * np.eye(n))
            if read_returns:
                density *= multivariate_normal.pdf(returns[day], process.drift_gap * mean, process.covariance)
        totals[path[-1]] += density
    np.testing.assert_allclose(process.beliefs(market, read_returns)[-1], totals / totals.sum(), rtol=1e-10)


def test_filter_and_features_know_nothing_of_the_future():
    process = FavouredAssetMarket()
    market = process.simulate(400, seed=2)
    part = market.window(0, 300)
    np.testing.assert_array_equal(process.beliefs(part), process.beliefs(market)[:300])
    again = process._features(market.asset_features["indicator"][:300])
    for name, values in again.items():
        np.testing.assert_allclose(values, market.asset_features[name][:300], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("gap", "own"), [(0.0003, 0.02), (0.002, 0.01)])
def test_optimal_weights_are_those_of_a_general_optimiser(gap, own):
    """With the small gap the optimum holds several assets and cash, with the large one it is nearly one asset."""
    process = FavouredAssetMarket(drift_gap=gap, common_volatility=0.005, own_volatility=own)
    beliefs = np.random.default_rng(3).dirichlet(np.full(4, 3.0), size=6)
    nodes, masses = np.polynomial.hermite_e.hermegauss(40)

    def loss(weights, belief):
        deviation = np.sqrt(weights[:4] @ process.covariance @ weights[:4] + 1e-18)
        logs = np.log(1.0 + gap * weights[:4, None] + deviation * nodes)
        return -1e4 * belief @ (logs @ masses / masses.sum())

    ours = process.optimal_weights(beliefs)
    np.testing.assert_allclose(ours.sum(axis=1), 1.0, rtol=0, atol=1e-9)
    assert ours.min() >= 0.0
    constraint = {"type": "eq", "fun": lambda weights: weights.sum() - 1.0}
    for belief, weights in zip(beliefs, ours, strict=True):
        best = minimize(loss, np.full(5, 0.2), (belief,), bounds=[(0, 1)] * 5, constraints=constraint, tol=1e-13)
        assert loss(weights, belief) <= best.fun + 1e-7
        np.testing.assert_allclose(weights, best.x, rtol=0, atol=5e-3)
    if gap == 0.0003:
        assert ours[:, 4].min() > 0.05 and (ours[:, :4] > 0.01).sum(axis=1).min() >= 2


def test_market_has_the_moments_it_says():
    process = FavouredAssetMarket()
    market = process.simulate(200_000, seed=4)
    favoured = process.beliefs(market).argmax(axis=1)[:-1]
    ahead = market.returns[1:]
    gap = ahead[np.arange(len(ahead)), favoured].mean() - ahead.mean()
    assert 0.0010 < gap < 0.0015  # 0.75 of the gap of .002 if the filter always knew
    np.testing.assert_allclose(np.cov(market.returns.T), process.covariance, rtol=0, atol=3e-6)
    assert abs(market.asset_features["indicator"].mean() - 0.25) < 0.01
    np.testing.assert_allclose(market.benchmark_returns, market.returns.mean(axis=1))


def test_shuffling_keeps_the_returns_and_loses_the_signal():
    process = FavouredAssetMarket()
    market = process.simulate(100_000, seed=5)
    mixed = shuffled(market, seed=0)
    np.testing.assert_array_equal(np.sort(mixed.returns, axis=0), np.sort(market.returns, axis=0))

    def signal(of):
        relative = of.returns[1:] - of.returns[1:].mean(axis=1, keepdims=True)
        return np.corrcoef(of.asset_features["indicator_5"][:-1].ravel(), relative.ravel())[0, 1]

    assert signal(market) > 0.05 and abs(signal(mixed)) < 0.01


def test_oracle_beats_what_can_be_read_off_the_indicators(judge):
    shares = {}
    for name, values in judge.market.asset_features.items():
        weights = np.hstack([np.eye(4)[values.argmax(axis=1)], np.zeros((len(values), 1))])
        growth = daily_growth(lambda _, rows, weights=weights: weights[rows], judge.market).mean()
        shares[name] = (growth - judge.equal_weight.mean()) / (judge.oracle.mean() - judge.equal_weight.mean())
    assert shares["indicator"] < 0.6 < shares["indicator_2"] and max(shares.values()) < 1.0
    assert judge.oracle.mean() > judge.equal_weight.mean() + 0.001


class Fixed:
    """A 'model' with the same answer to everything."""

    def __init__(self, weights):
        self.weights = np.asarray(weights, dtype=np.float32)

    def predict(self, obs, deterministic=True):
        return np.tile(self.weights, (len(obs), 1)), None


def test_equal_weight_is_zero_and_the_oracle_a_hundred_per_cent(judge):
    assert judge.share_of_oracle(Fixed([1, 1, 1, 1, 0])) == pytest.approx(0.0, abs=1e-9)
    assert judge.sharpe_difference(Fixed([1, 1, 1, 1, 0])) == pytest.approx(0.0, abs=1e-9)
    one_asset = judge.share_of_oracle(Fixed([1, 0, 0, 0, 0]))
    assert -15.0 < one_asset < 5.0  # no more growth than equal weight, and more variance
    cash = judge.share_of_oracle(Fixed([0, 0, 0, 0, 1]))
    growth = judge.equal_weight.mean()
    assert cash == pytest.approx(-100.0 * growth / (judge.oracle.mean() - growth))


def test_bayes_policy_trades_less_behind_a_gate_and_earns_more_where_trading_costs():
    market = history("costs", 32 * 512, seed=77)
    requests = {}
    for gate in (0.0, 0.4, 2.0):
        act = bayes_policy(market, gate)
        requests[gate] = np.array([act(np.empty((1, 0)), np.array([row])) for row in range(200, 1200)])[:, 0]
    trades = {gate: np.abs(np.diff(rows, axis=0)).sum() for gate, rows in requests.items()}
    assert trades[0.0] > 1.3 * trades[0.4] > 0.0 and trades[2.0] == 0.0
    growth = {gate: daily_growth(bayes_policy(market, gate), market, 0.001, n_paths=32).mean() for gate in (0.0, 0.4, 2.0)}
    assert growth[0.4] > growth[0.0] > growth[2.0]
    assert best_gate(0.0) == 0.0


def test_agents_learn_and_are_judged_on_histories_they_have_not_seen():
    curve, seconds = learning_curve("free", LEARNERS["softmax"], seed=200, steps=(5_000, 25_000))
    assert curve[0] < curve[1] and 85.0 < curve[1] < 101.0
    assert 0.0 < seconds < 60.0
    model = new_agent("free", LEARNERS["softmax"], seed=200)
    trained_on = model.get_env().unwrapped.core.pool.markets[0]
    assert trained_on.content_hash != Judge("free", 200).market.content_hash


@pytest.mark.parametrize("learner", LEARNERS)
def test_nothing_is_found_where_nothing_is(learner):
    curve, _ = learning_curve("shuffled", LEARNERS[learner], seed=201, steps=(15_000,))
    assert curve[0] < 0.1


def test_interval_is_students():
    mean, half = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0 and half == pytest.approx(2.776445 * np.sqrt(2.5 / 5), abs=1e-5)
    assert mean_interval([7.0]) == (7.0, 0.0)


def test_command_prints_and_writes_a_figure_per_seed(tmp_path, capsys):
    out = tmp_path / "control.json"
    arguments = ["control", "--markets", "free", "--seeds", "2", "--timesteps", "4096", "--out", str(out)]
    assert main(arguments) == 0
    result = json.loads(out.read_text())["free"]
    printed = capsys.readouterr().out
    assert result["timesteps"] == [4096] and np.shape(result["figures"]) == (2, 1)
    assert all(f"{row[0]:.1f}" in printed for row in result["figures"])
    assert result["mean"][0] == pytest.approx(np.mean(result["figures"]))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--markets free nowhere", "--markets takes free, costs, shuffled; got nowhere"),
        ("--policy gaussian", "--policy must be one of softmax, dirichlet; got 'gaussian'"),
        ("--seeds 0", "--seeds must be >= 1"),
        ("--timesteps 100", "--timesteps must be at least 4,096"),
        ("--out nowhere/control.json", "no folder"),
    ],
)
def test_command_refuses_in_one_line(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["control", *arguments.split()]) == 2
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1


def test_parameters_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least 2 assets"):
        FavouredAssetMarket(n_assets=1)
    with pytest.raises(ValueError, match="must be > 0"):
        FavouredAssetMarket(indicator_noise=0.0)
    with pytest.raises(ValueError, match="Unknown control 'lucky'"):
        history("lucky", 100, 0)
