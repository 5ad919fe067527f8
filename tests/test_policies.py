"""Distributions on the simplex by their identities, and policies that train, save, load, and learn what is there."""

import json
import subprocess
import sys
from hashlib import sha256
from math import lgamma, log, pi

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.distributions import kl_divergence
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from torch.distributions import ComposeTransform, Dirichlet, Independent, Normal, TransformedDistribution
from torch.distributions.transforms import Transform

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.distributions import (
    DirichletDistribution,
    FastDirichlet,
    LogisticNormal,
    SoftmaxDistribution,
    clamp_to_simplex,
)
from quantflux_sb3.evaluation.backtest import WeightRule, backtest_model, backtest_rule
from quantflux_sb3.evaluation.baselines import equal_weights
from quantflux_sb3.layout import Block, ObservationLayout, PortfolioBox
from quantflux_sb3.loading import load_for_env
from quantflux_sb3.market import MarketData
from quantflux_sb3.policies import DirichletPolicy, RecurrentDirichletPolicy, RecurrentSoftmaxPolicy, SoftmaxPolicy
from quantflux_sb3.vec_env import QuantFluxVecEnv, make_quantflux_vec_env

POLICIES = [SoftmaxPolicy, DirichletPolicy]


pytestmark = pytest.mark.usefixtures("one_thread")


def distribution(kind: type, logits: th.Tensor, log_std: float = -0.3):
    if kind is SoftmaxPolicy:
        return SoftmaxDistribution(logits.shape[-1]).proba_distribution(logits, th.tensor([log_std], dtype=logits.dtype))
    return DirichletDistribution(logits.shape[-1]).proba_distribution(logits)


def simplex_grid(n: int) -> tuple[th.Tensor, float]:
    """Midpoints of a grid over the triangle of the first two weights, and the area of a cell."""
    first, second = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n)
    inside = first + second < 1.0 - 1e-9
    points = np.stack([first[inside], second[inside]], axis=1)
    return th.from_numpy(np.column_stack([points, 1.0 - points.sum(axis=1)])), 1.0 / n**2


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("logits", [[0.0, 0.0, 0.0], [0.8, -0.3, 0.2]])
def test_density_integrates_to_one_on_the_simplex(kind, logits):
    points, area = simplex_grid(1500)
    dist = distribution(kind, th.tensor([logits], dtype=th.float64).expand(len(points), 3))
    assert dist.log_prob(points).exp().sum().item() * area == pytest.approx(1.0, abs=0.02)


class AdditiveLogRatio(Transform):
    """From n - 1 free numbers to the first n - 1 weights; its Jacobian by automatic differentiation, not by a formula."""

    domain, codomain, bijective = th.distributions.constraints.real_vector, th.distributions.constraints.real_vector, True

    def _call(self, x):
        return th.softmax(th.cat([x, th.zeros_like(x[..., :1])], dim=-1), dim=-1)[..., :-1]

    def _inverse(self, y):
        return y.log() - (1.0 - y.sum(-1, keepdim=True)).log()

    def log_abs_det_jacobian(self, x, y):
        rows = [th.autograd.functional.jacobian(self._call, row) for row in x.reshape(-1, x.shape[-1])]
        return th.linalg.slogdet(th.stack(rows))[1].reshape(x.shape[:-1])


@pytest.mark.parametrize("n", [2, 3, 6])
def test_logistic_normal_equals_change_of_variables(n):
    """log-ratios to the last weight are Gaussian with covariance s^2 (I + 11'), by linearity; the rest is the Jacobian."""
    generator = th.Generator().manual_seed(n)
    loc = th.randn(n, generator=generator, dtype=th.float64)
    scale = 0.7
    covariance = scale**2 * (th.eye(n - 1, dtype=th.float64) + 1.0)
    base = Independent(Normal(th.zeros(n - 1, dtype=th.float64), 1.0), 1)
    affine = LowerTriangular(loc[:-1] - loc[-1], th.linalg.cholesky(covariance))
    reference = TransformedDistribution(base, ComposeTransform([affine, AdditiveLogRatio()]), validate_args=False)
    points = th.softmax(th.randn(50, n, generator=generator, dtype=th.float64), dim=-1)
    ours = LogisticNormal(loc.expand(50, n), th.tensor([scale], dtype=th.float64)).log_prob(points)
    np.testing.assert_allclose(ours, reference.log_prob(points[:, :-1]), rtol=0, atol=1e-9)


class LowerTriangular(Transform):
    """x -> shift + L x."""

    domain = codomain = th.distributions.constraints.real_vector
    bijective = True

    def __init__(self, shift, lower):
        super().__init__()
        self.shift, self.lower = shift, lower

    def _call(self, x):
        return self.shift + x @ self.lower.T

    def _inverse(self, y):
        return th.linalg.solve_triangular(self.lower, (y - self.shift).unsqueeze(-1), upper=False).squeeze(-1)

    def log_abs_det_jacobian(self, x, y):
        return self.lower.diagonal().log().sum().expand(x.shape[:-1])


def test_dirichlet_density_equals_the_formula():
    logits, x = np.array([0.5, -1.0, 0.2]), np.array([0.2, 0.3, 0.5])
    a = 0.7 + np.exp(logits)
    expected = lgamma(a.sum()) - sum(map(lgamma, a)) + ((a - 1) * np.log(x)).sum()
    dist = distribution(DirichletPolicy, th.tensor(logits[None]))
    assert dist.log_prob(th.tensor(x[None])).item() == pytest.approx(expected, abs=1e-9)


def test_logistic_normal_of_two_weights_equals_the_known_density():
    """logit(w) ~ N(m1 - m2, 2 s^2)."""
    w, gap, variance = 0.3, 0.4, 2 * 0.6**2
    z = log(w / (1 - w)) - gap
    expected = -0.5 * z * z / variance - 0.5 * log(2 * pi * variance) - log(w * (1 - w))
    dist = LogisticNormal(th.tensor([[0.4, 0.0]]), th.tensor([0.6]))
    assert dist.log_prob(th.tensor([[w, 1 - w]])).item() == pytest.approx(expected, abs=1e-5)


def sample_many(dist, n=200_000):
    th.manual_seed(0)
    return dist.distribution.rsample((n,)).squeeze(1)


@pytest.mark.parametrize("kind", POLICIES)
def test_kl_is_the_expected_log_ratio(kind):
    p = distribution(kind, th.tensor([[0.5, -0.4, 0.1, 0.3]], dtype=th.float64), -0.2)
    q = distribution(kind, th.tensor([[0.1, 0.2, -0.5, 0.0]], dtype=th.float64), 0.1)
    x = sample_many(p)
    ratio = p.distribution.log_prob(x) - q.distribution.log_prob(x)
    error = ratio.std().item() / len(ratio) ** 0.5
    kl = kl_divergence(p, q).item()
    assert kl > 0.05 and abs(kl - ratio.mean().item()) < 5 * error
    assert kl_divergence(p, p).abs().item() < 1e-12


def test_dirichlet_entropy_is_minus_the_expected_log_density():
    dist = distribution(DirichletPolicy, th.tensor([[0.5, -0.4, 0.1, 0.3]], dtype=th.float64))
    log_probs = dist.distribution.log_prob(sample_many(dist))
    assert abs(dist.entropy().item() + log_probs.mean().item()) < 5 * log_probs.std().item() / len(log_probs) ** 0.5
    assert distribution(SoftmaxPolicy, th.zeros(1, 4)).entropy() is None


def test_fast_dirichlet_and_its_derivatives_are_those_of_torch():
    generator = th.Generator().manual_seed(3)
    concentration = (0.05 + 6 * th.rand(40, 5, generator=generator, dtype=th.float64)).requires_grad_()
    points = th.softmax(2 * th.randn(40, 5, generator=generator, dtype=th.float64), dim=-1).requires_grad_()
    gradients = []
    for kind in (FastDirichlet, Dirichlet):
        dist = kind(concentration, validate_args=False)
        values = [dist.log_prob(points), dist.entropy()]
        slopes = [th.autograd.grad(value.sum(), concentration, retain_graph=True)[0] for value in values]
        gradients.append([*values, *slopes, th.autograd.grad(values[0].sum(), points)[0]])
    for ours, torchs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours.detach(), torchs.detach(), rtol=1e-12, atol=1e-10)
    assert th.autograd.gradcheck(lambda a: FastDirichlet(a, validate_args=False).entropy(), concentration)
    # PPO differentiates 0 * entropy
    dist = FastDirichlet(concentration, validate_args=False)
    with th.no_grad():
        np.testing.assert_allclose(dist.log_prob(points), gradients[0][0].detach(), rtol=1e-12)
    with_entropy = th.autograd.grad((dist.log_prob(points) + 0.0 * dist.entropy()).sum(), concentration)[0]
    np.testing.assert_array_equal(with_entropy, th.autograd.grad(dist.log_prob(points).sum(), concentration)[0])


@pytest.mark.parametrize("kind", POLICIES)
def test_samples_have_the_documented_mean(kind):
    dist = distribution(kind, th.tensor([[1.0, 0.0, -1.0]], dtype=th.float64), -2.0)
    samples = sample_many(dist)
    weights = 0.7 + np.exp([1.0, 0.0, -1.0]) if kind is DirichletPolicy else np.exp([1.0, 0.0, -1.0])
    np.testing.assert_allclose(dist.mode()[0], weights / weights.sum(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(samples.mean(0), weights / weights.sum(), rtol=0, atol=5e-3)


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("size", [1.0, 30.0, 1e4])
def test_log_prob_and_gradients_are_finite_at_extreme_logits_and_on_the_boundary(kind, size):
    generator = th.Generator().manual_seed(1)
    n_batch, n = 150_000, 7  # a million logits
    logits = (size * (2 * th.rand(n_batch, n, generator=generator) - 1)).requires_grad_()
    actions = th.softmax(10 * th.randn(n_batch, n, generator=generator), dim=-1)
    actions[: n_batch // 4] = th.eye(n)[th.randint(n, (n_batch // 4,), generator=generator)]
    actions[n_batch // 4 : n_batch // 3] = 0.0  # what SB3 would store of an all-zero action
    log_std = th.tensor([-1.0], requires_grad=True)
    if kind is SoftmaxPolicy:
        dist = SoftmaxDistribution(n).proba_distribution(logits, log_std)
    else:
        dist = DirichletDistribution(n).proba_distribution(logits)
    log_prob = dist.log_prob(actions)
    assert th.isfinite(log_prob).all()
    log_prob.sum().backward()
    assert th.isfinite(logits.grad).all()
    if kind is SoftmaxPolicy:
        assert th.isfinite(log_std.grad).all()
    samples = dist.sample()
    assert th.isfinite(samples).all() and (samples > 0).all()
    np.testing.assert_allclose(samples.detach().sum(-1), 1.0, rtol=0, atol=1e-5)
    assert th.isfinite(dist.log_prob(samples)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0, width=32), min_size=2, max_size=9))
def test_clamped_weights_are_inside_the_simplex(values):
    weights = clamp_to_simplex(th.tensor(values))
    assert weights.min() > 0.0
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-5)
    total = sum(values)
    if min(values) > 1e-3:
        np.testing.assert_allclose(weights, np.array(values) / total, rtol=1e-5)


def trained(algorithm, policy, env, steps=512, seed=0, **kwargs):
    sizes = dict(n_steps=64) if algorithm is not A2C else {}
    if algorithm is PPO:
        sizes["batch_size"] = 64
    return algorithm(policy, env, seed=seed, device="cpu", **{**sizes, **kwargs}).learn(steps)


@pytest.fixture(scope="module")
def small_market(make_market):
    return make_market(300, 5, 3)


def small_env(market, n_envs=2, **kwargs):
    return make_quantflux_vec_env(n_envs, market, seed=0, **{"episode_length": 40, "max_weight": 0.5, **kwargs})


@pytest.mark.parametrize("policy", POLICIES)
def test_untrained_policy_is_equal_weight_with_the_documented_cash(small_market, policy):
    """cash_logit -2: e^-2 beside 1 for every asset; for the Dirichlet policy 0.7 + e^-2 beside 0.7 + 1."""
    env = small_env(small_market)
    obs = env.reset()
    for cash_logit in (-2.0, 0.0):
        model = PPO(policy, env, policy_kwargs={"cash_logit": cash_logit}, device="cpu")
        actions, _ = model.predict(obs, deterministic=True)
        cash, asset = np.exp(cash_logit), 1.0
        if policy is DirichletPolicy:
            cash, asset = cash + 0.7, asset + 0.7
        expected = np.append(np.full(5, asset), cash) / (5 * asset + cash)
        np.testing.assert_allclose(actions, np.tile(expected, (2, 1)), rtol=0, atol=1e-6)


def permuted(space, obs: np.ndarray, order: list[int]) -> np.ndarray:
    out = obs.copy()
    for block in space.layout.blocks:
        if block.n_assets:
            columns = space.layout.slices[block.name]
            rows = obs[:, columns].reshape(len(obs), block.n_assets, -1)
            out[:, columns] = rows[:, order].reshape(len(obs), -1)
    return out


@pytest.mark.parametrize("policy", POLICIES)
def test_permuting_the_assets_of_the_observation_permutes_the_action(small_market, policy):
    env = small_env(small_market)
    model = trained(PPO, policy, env, 256, learning_rate=0.02)
    obs = np.concatenate([env.reset(), *(env.step(np.ones((2, 6)))[0] for _ in range(20))])
    order = [3, 0, 4, 2, 1]
    plain, _ = model.predict(obs, deterministic=True)
    moved, _ = model.predict(permuted(env.observation_space, obs, order), deterministic=True)
    np.testing.assert_allclose(moved, plain[:, [*order, 5]], rtol=0, atol=1e-6)
    assert plain[:, :5].std(axis=1).max() > 1e-3  # the assets are told apart, so that there is something to permute
    values = [
        model.policy.predict_values(th.as_tensor(o)).detach().numpy()
        for o in (obs, permuted(env.observation_space, obs, order))
    ]
    np.testing.assert_allclose(values[0], values[1], rtol=0, atol=1e-5)


def test_one_network_serves_another_number_of_assets(make_market):
    model = PPO(SoftmaxPolicy, small_env(make_market(300, 5, 3)), device="cpu")
    th.nn.init.normal_(model.policy.action_net.asset.weight)
    other = PPO(SoftmaxPolicy, small_env(make_market(300, 8, 3)), device="cpu")
    other.policy.load_state_dict(model.policy.state_dict())
    actions, _ = other.predict(other.env.reset(), deterministic=True)
    assert actions.shape == (2, 9) and actions.std() > 1e-4


@pytest.mark.parametrize("policy", POLICIES)
def test_evaluate_actions_equals_get_distribution(small_market, policy):
    env = small_env(small_market)
    model = trained(PPO, policy, env, 128)
    obs = th.as_tensor(env.reset())
    with th.no_grad():
        actions, values, log_prob = model.policy(obs)
        again_values, again, entropy = model.policy.evaluate_actions(obs, actions)
        direct = model.policy.get_distribution(obs)
    np.testing.assert_allclose(again, log_prob, rtol=0, atol=1e-5)
    np.testing.assert_allclose(direct.log_prob(actions), log_prob, rtol=0, atol=1e-5)
    np.testing.assert_allclose(again_values, values, rtol=0, atol=1e-6)
    if policy is DirichletPolicy:
        np.testing.assert_allclose(entropy, direct.entropy(), rtol=0, atol=1e-6)
    deterministic = model.policy.get_distribution(obs).get_actions(deterministic=True).detach()
    np.testing.assert_allclose(model.predict(obs.numpy(), deterministic=True)[0], deterministic, rtol=0, atol=1e-6)


class MixEnv(gym.Env):
    """A simplex env of somebody else: mix colours to a recipe that the observation shows."""

    observation_space = spaces.Box(0.0, 1.0, (3,), np.float32)
    action_space = spaces.Box(0.0, 1.0, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.recipe = 16, self.np_random.dirichlet(np.ones(3)).astype(np.float32)
        return self.recipe, {}

    def step(self, action):
        assert self.action_space.contains(action)
        assert abs(action.sum() - 1.0) < 1e-5
        reward = -float(np.square(action - self.recipe).sum())
        self.left, self.recipe = self.left - 1, self.np_random.dirichlet(np.ones(3)).astype(np.float32)
        return self.recipe, reward, False, self.left == 0, {}


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_work_on_a_foreign_env_without_layout(policy):
    model = trained(PPO, policy, make_vec_env(MixEnv, 2, seed=0), 256)
    assert not model.policy.equivariant
    action, _ = model.predict(np.array([0.2, 0.3, 0.5], dtype=np.float32))
    assert action.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_untrained_policy_on_a_foreign_env_is_equal_weight(policy):
    model = PPO(policy, make_vec_env(MixEnv, 1), device="cpu")
    action, _ = model.predict(np.array([0.2, 0.3, 0.5], dtype=np.float32), deterministic=True)
    np.testing.assert_allclose(action, 1 / 3, rtol=0, atol=1e-6)


ALGORITHMS = {
    **{(algorithm, policy): {"n_steps": 64} for algorithm in (PPO, TRPO) for policy in POLICIES},
    **{(A2C, policy): {"n_steps": 16} for policy in POLICIES},
    **{
        (RecurrentPPO, policy): {"n_steps": 64, "n_epochs": 2, "policy_kwargs": {"lstm_hidden_size": 16}}
        for policy in (RecurrentDirichletPolicy, RecurrentSoftmaxPolicy)
    },
}
CONTINUE = """
import json, sys
import numpy as np
from quantflux_sb3.preparation import load_by_name
from quantflux_sb3.vec_env import make_quantflux_vec_env
env = make_quantflux_vec_env(2, seed=1, episode_length=40)
for name, algorithm in json.load(open("models.json")).items():
    model = load_by_name(algorithm).load(name, env=env, device="cpu")
    np.save(f"{name}.again.npy", model.predict(np.load("obs.npy"), deterministic=True)[0])
    before = model.num_timesteps
    model.learn(256, reset_num_timesteps=False)
    assert model.num_timesteps >= before + 256, (name, before, model.num_timesteps)
    print(name, type(model.policy).__name__)
"""


def test_every_policy_trains_loads_in_a_fresh_process_acts_the_same_and_goes_on(tmp_path):
    env = make_quantflux_vec_env(2, seed=0, episode_length=40)
    obs, models, expected = env.reset(), {}, {}
    np.save(tmp_path / "obs.npy", obs)
    for (algorithm, policy), kwargs in ALGORITHMS.items():
        name = f"{algorithm.__name__}-{policy.__name__}"
        sizes = {"batch_size": 64} if algorithm is not A2C else {}
        model = algorithm(policy, env, seed=0, device="cpu", learning_rate=0.01, **kwargs, **sizes)
        untrained = model.predict(obs, deterministic=True)[0]
        expected[name] = model.learn(256).predict(obs, deterministic=True)[0]
        assert np.abs(expected[name] - untrained).max() > 1e-6, name
        assert all(th.isfinite(value).all() for value in model.policy.state_dict().values()), name
        model.save(tmp_path / name)
        models[name] = f"{algorithm.__module__.partition('.')[0]}.{algorithm.__name__}"
    (tmp_path / "models.json").write_text(json.dumps(models))
    result = subprocess.run([sys.executable, "-c", CONTINUE], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [word for name in models for word in (name, name.partition("-")[2])]
    for name, actions in expected.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.again.npy"), actions)


def weights_hash(seed: int, policy: type, n_threads: int) -> str:
    th.set_num_threads(n_threads)
    env = make_quantflux_vec_env(32, seed=seed)
    kwargs = {"net_arch": [64, 64]}
    model = PPO(policy, env, n_steps=16, batch_size=512, n_epochs=3, seed=seed, device="cpu", policy_kwargs=kwargs).learn(2048)
    th.set_num_threads(1)
    digest = sha256()
    for name, value in model.policy.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("policy", POLICIES)
def test_same_seed_gives_the_same_weights_bit_for_bit(policy, n_threads):
    first = weights_hash(5, policy, n_threads)
    assert weights_hash(5, policy, n_threads) == first != weights_hash(6, policy, n_threads)


@pytest.mark.parametrize("policy", POLICIES)
def test_policy_alone_is_saved_and_loaded(small_market, policy, tmp_path):
    env = small_env(small_market)
    model = trained(PPO, policy, env, 128, policy_kwargs={"cash_logit": -1.5, "net_arch": [8]})
    model.policy.save(tmp_path / "policy.pt")
    loaded = policy.load(tmp_path / "policy.pt", device="cpu")
    obs = env.reset()
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])
    assert loaded.cash_logit == -1.5


def test_settings_that_do_not_fit_are_refused(small_market):
    env = small_env(small_market)
    with pytest.raises(ValueError, match="use_sde=True does not apply"):
        PPO(SoftmaxPolicy, env, use_sde=True)
    with pytest.raises(ValueError, match="equivariant=True needs the observation space of QuantFlux-v0"):
        PPO(SoftmaxPolicy, make_vec_env(MixEnv, 1), policy_kwargs={"equivariant": True})
    with pytest.raises(ValueError, match="needs a flat Box of weights as action space"):
        SoftmaxPolicy(spaces.Box(0, 1, (3,)), spaces.Discrete(3), lambda _: 1e-3)
    assert issubclass(SoftmaxPolicy, ActorCriticPolicy)


def test_plain_mlp_can_be_asked_for_on_the_portfolio_env(small_market):
    model = trained(PPO, SoftmaxPolicy, small_env(small_market), 128, policy_kwargs={"equivariant": False})
    assert not model.policy.equivariant
    assert model.predict(model.env.reset())[0].sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def market_with_signal(n_days=1500, n_assets=6, seed=0) -> MarketData:
    """Next-day returns: 1 % noise and 0.8 % times a feature that is known the day before."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n_days, n_assets))
    returns = 0.01 * rng.standard_normal((n_days, n_assets))
    returns[1:] += 0.008 * signal[:-1]
    dates = np.datetime64("2000-01-01") + np.arange(n_days)
    names = [f"asset {i}" for i in range(n_assets)]
    return MarketData(dates, names, returns, returns.mean(axis=1), asset_features={"signal": signal}, synthetic=True)


def test_policy_learns_a_planted_signal_and_leaves_equal_weight():
    market = market_with_signal()
    settings = dict(execution_lag=0, costs=0.0, rebalance_threshold=0.0, exposure_threshold=0.0, max_weight=1.0)
    venv = make_quantflux_vec_env(64, market, seed=0, episode_length=64, **settings)
    model = PPO(
        SoftmaxPolicy, venv, n_steps=16, batch_size=1024, n_epochs=6, learning_rate=2e-3, gamma=0.0, gae_lambda=1.0,
        policy_kwargs={"log_std_init": 0.0}, seed=0, device="cpu",
    ).learn(60_000)  # fmt: skip
    config = PortfolioConfig(**settings)
    agent = backtest_model(model, market, "test", config)
    equal = backtest_rule(WeightRule("equal weight", equal_weights, refit_days=1), market, "test", config)
    first = market.n_days - len(agent.returns)
    signal = market.asset_features["signal"][first - 1 : -1]
    correlation = np.corrcoef(agent.weights[:, :-1].ravel(), signal.ravel())[0, 1]
    assert correlation > 0.5
    growth = [np.log1p(result.returns).mean() for result in (agent, equal)]
    perfect = np.log1p((market.returns[first:] * (signal == signal.max(axis=1, keepdims=True))).sum(axis=1)).mean()
    assert growth[0] - growth[1] > 0.6 * (perfect - growth[1]) > 0.002


@pytest.mark.parametrize("policy", [RecurrentDirichletPolicy, RecurrentSoftmaxPolicy])
def test_recurrent_policies_remember_train_and_are_saved_with_their_lstm(small_market, policy, tmp_path):
    env = small_env(small_market)
    kwargs = {"lstm_hidden_size": 12, "n_lstm_layers": 2, "enable_critic_lstm": False, "net_arch": [8]}
    model = RecurrentPPO(policy, env, n_steps=32, batch_size=32, n_epochs=2, seed=0, device="cpu", policy_kwargs=kwargs)
    before = model.policy.action_net.weight.clone()
    model.learn(256)
    assert not th.equal(before, model.policy.action_net.weight)
    obs = env.reset()
    first, state = model.predict(obs, deterministic=True)
    second, _ = model.predict(obs, state=state, deterministic=True)
    assert first.sum(axis=1) == pytest.approx(1.0, abs=1e-5) and np.abs(first - second).max() > 1e-8
    model.policy.save(tmp_path / "policy.pt")
    loaded = policy.load(tmp_path / "policy.pt", device="cpu")
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], first)
    assert loaded.lstm_actor.num_layers == 2 and loaded.lstm_actor.hidden_size == 12


@pytest.mark.parametrize("policy", [RecurrentDirichletPolicy, RecurrentSoftmaxPolicy])
def test_recurrent_evaluate_actions_equals_get_distribution(small_market, policy):
    env = small_env(small_market)
    model = RecurrentPPO(policy, env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(128)
    obs, starts = th.as_tensor(env.reset()), th.zeros(2)
    states = model._last_lstm_states
    with th.no_grad():
        actions, values, log_prob, _ = model.policy(obs, states, starts)
        again_values, again, _ = model.policy.evaluate_actions(obs, actions, states, starts)
        direct, _ = model.policy.get_distribution(obs, states.pi, starts)
    np.testing.assert_allclose(again, log_prob, rtol=0, atol=1e-5)
    np.testing.assert_allclose(direct.log_prob(actions), log_prob, rtol=0, atol=1e-5)
    np.testing.assert_allclose(again_values, values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_attention_across_assets_is_equivariant_and_serves_another_number_of_assets(make_market, policy, tmp_path):
    env, larger = small_env(make_market(300, 5, 3)), small_env(make_market(300, 8, 3))
    kwargs = {"attention_heads": 4, "net_arch": [16, 8]}
    model = trained(PPO, policy, env, 256, learning_rate=0.02, policy_kwargs=kwargs)
    obs = np.concatenate([env.reset(), env.step(np.ones((2, 6)))[0]])
    order = [3, 0, 4, 2, 1]
    plain, _ = model.predict(obs, deterministic=True)
    moved, _ = model.predict(permuted(env.observation_space, obs, order), deterministic=True)
    np.testing.assert_allclose(moved, plain[:, [*order, 5]], rtol=0, atol=1e-6)
    # Without the attention the same weights act otherwise: it is really used.
    model.policy.mlp_extractor.attention = th.nn.Identity()
    assert np.abs(model.predict(obs, deterministic=True)[0] - plain).max() > 1e-5
    trained(PPO, policy, env, 128, policy_kwargs=kwargs).save(tmp_path / "model.zip")
    assert load_for_env(PPO, tmp_path / "model.zip", larger).predict(larger.reset())[0].shape == (2, 9)


@pytest.mark.parametrize("policy", POLICIES)
def test_saved_model_acts_and_trains_on_another_number_of_assets(make_market, policy, tmp_path):
    """Twenty assets that are four copies of five: each copy gets the share of its original."""
    market = make_market(300, 5, 3)
    model = trained(PPO, policy, small_env(market), 256, learning_rate=0.02)
    model.save(tmp_path / "model.zip")
    copies = MarketData(
        market.dates, tuple(f"asset {i}" for i in range(20)), np.tile(market.returns, 4), market.benchmark_returns,
        market.benchmark, market.risk_free,
    )  # fmt: skip
    env = small_env(copies, max_weight=0.5)
    loaded = load_for_env(PPO, tmp_path / "model.zip", env)
    weights, _ = loaded.predict(env.reset(), deterministic=True)
    assert weights.shape == (2, 21)
    np.testing.assert_allclose(weights[:, :20].reshape(2, 4, 5).std(axis=1), 0.0, rtol=0, atol=1e-7)
    assert weights[:, :5].std(axis=1).min() > 1e-4
    loaded.learn(128)
    assert loaded.policy.optimizer.state_dict()["state"][0]["step"] > model.policy.optimizer.state_dict()["state"][0]["step"]


def test_models_that_do_not_fit_the_env_are_refused_in_one_line(make_market, tmp_path):
    market = make_market(300, 5, 3)
    trained(PPO, SoftmaxPolicy, small_env(market), 128).save(tmp_path / "softmax.zip")
    trained(PPO, "MlpPolicy", small_env(market), 128).save(tmp_path / "mlp.zip")
    larger = small_env(make_market(300, 8, 3))
    with pytest.raises(ValueError, match=r"trained on 5 assets and its network reads them by position; it cannot act on 8"):
        load_for_env(PPO, tmp_path / "mlp.zip", larger)
    bare = QuantFluxVecEnv(2, market, max_weight=0.5)
    with pytest.raises(ValueError, match=r"another observation; it expects: assets\*\.momentum_5"):
        load_for_env(PPO, tmp_path / "softmax.zip", bare)
    signals = small_env(make_market(300, 8, 3, exogenous=True))
    with pytest.raises(ValueError, match=r"another observation; it does not know: assets\*\.signal, market\.mood"):
        load_for_env(PPO, tmp_path / "softmax.zip", signals)
    with pytest.raises(ValueError) as error:  # SB3's own way to load says it briefly too
        PPO.load(tmp_path / "softmax.zip", env=larger)
    assert "PortfolioBox(assets 5x11" in str(error.value) and len(str(error.value)) < 400


def test_spaces_with_other_columns_differ_even_if_their_bounds_agree():
    a, b = (PortfolioBox(ObservationLayout((Block("assets", (name,), 3),))) for name in ("momentum", "value"))
    assert a == PortfolioBox(a.layout) and a != b and repr(a) != repr(b)
    assert a == spaces.Box(a.low, a.high, dtype=np.float32)
