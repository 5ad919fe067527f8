"""
Distributions over portfolios (points of the simplex), as Stable-Baselines3 ``Distribution`` classes.

Both clamp samples away from the boundary and renormalise, in ``sample`` and in ``log_prob`` alike, because float32 puts
extreme samples exactly on it, where the densities are 0 or infinite.
"""

import math
from typing import Any

import torch as th
from stable_baselines3.common.distributions import Distribution
from torch import nn
from torch.autograd.function import once_differentiable
from torch.distributions import Dirichlet, constraints, kl
from torch.distributions.utils import lazy_property

#: Smallest weight that a sample may have. Much larger, it would bias the gradient of a policy that explores the corners.
SIMPLEX_EPSILON = 1e-12
#: Logits are clamped here before they are exponentiated.
MAX_LOGIT = 12.0


def clamp_to_simplex(weights: th.Tensor) -> th.Tensor:
    """
    :param weights: points of the simplex, or near it (..., n)
    :return: weights >= about ``SIMPLEX_EPSILON`` that sum to 1 (..., n)
    """
    weights = th.nan_to_num(weights, nan=0.0).clamp(min=SIMPLEX_EPSILON)
    return weights / weights.sum(dim=-1, keepdim=True)


class LogisticNormal(th.distributions.Distribution):
    """
    Distribution of ``softmax(x)`` for ``x ~ N(loc, scale^2 I)``, symmetric in its components.

    Softmax forgets a common shift of ``x``, so the density lives on the centred log-ratios, which have n - 1 dimensions.
    (``torch.distributions.LogisticNormal`` breaks sticks instead, treats the last component apart, and has no KL.)

    Source: Aitchison and Shen (1980), Logistic-Normal Distributions, eq. 2.1, with the isotropic covariance of this case.

    :param loc: mean of the logits (..., n)
    :param scale: standard deviation of the logits, broadcastable to (..., 1)
    """

    arg_constraints = {"loc": constraints.real_vector, "scale": constraints.positive}  # noqa: RUF012 (torch's own form)
    support = constraints.simplex
    has_rsample = True

    def __init__(self, loc: th.Tensor, scale: th.Tensor, validate_args: bool | None = None):
        self.loc, self.scale = loc, scale.expand((*loc.shape[:-1], 1))
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> th.Tensor:
        """Weights at the mean of the logits: the geometric centre of the distribution, not its arithmetic mean."""
        return th.softmax(self.loc, dim=-1)

    def rsample(self, sample_shape: th.Size = th.Size()) -> th.Tensor:  # noqa: B008 (torch's signature)
        shape = self._extended_shape(sample_shape)
        return th.softmax(self.loc + self.scale * th.randn(shape, dtype=self.loc.dtype, device=self.loc.device), dim=-1)

    def log_prob(self, value: th.Tensor) -> th.Tensor:
        """
        Density with respect to the first n - 1 weights, as for the Dirichlet distribution.

        :param value: points of the simplex (..., n)
        """
        n = self.event_shape[0]
        log_value = value.log()
        deviation = _centred(log_value) - _centred(self.loc)
        log_scale = self.scale.log().squeeze(-1)
        gaussian = -0.5 * (deviation / self.scale).pow(2).sum(-1) - (n - 1) * (log_scale + 0.5 * math.log(2 * math.pi))
        return gaussian - log_value.sum(-1) - 0.5 * math.log(n)


@kl.register_kl(LogisticNormal, LogisticNormal)
def _kl_logistic_normal(p: LogisticNormal, q: LogisticNormal) -> th.Tensor:
    """KL of the centred Gaussians underneath, to which softmax is a bijection: n - 1 dimensions."""
    n = p.event_shape[0]
    ratio = (p.scale / q.scale).pow(2).squeeze(-1)
    distance = ((_centred(p.loc) - _centred(q.loc)) / q.scale).pow(2).sum(-1)
    return 0.5 * ((n - 1) * (ratio - 1.0 - ratio.log()) + distance)


def _centred(x: th.Tensor) -> th.Tensor:
    return x - x.mean(dim=-1, keepdim=True)


class _DirichletLogDensity(th.autograd.Function):
    """Its derivative by the concentration is what the logarithms of the weights are above their mean."""

    @staticmethod
    def forward(
        ctx: Any, concentration: th.Tensor, log_value: th.Tensor, log_beta: th.Tensor, mean_log: th.Tensor
    ) -> th.Tensor:
        ctx.save_for_backward(concentration, log_value, mean_log)
        return ((concentration - 1.0) * log_value).sum(-1) - log_beta

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: th.Tensor) -> tuple[th.Tensor | None, ...]:
        concentration, log_value, mean_log = ctx.saved_tensors
        gradient = gradient.unsqueeze(-1)
        by_value = gradient * (concentration - 1.0) if ctx.needs_input_grad[1] else None
        return gradient * (log_value - mean_log), by_value, None, None


class _DirichletEntropy(th.autograd.Function):
    """Its derivative is not computed where nothing depends on it: PPO differentiates the entropy even if ``ent_coef`` is 0."""

    @staticmethod
    def forward(ctx: Any, concentration: th.Tensor, log_beta: th.Tensor, mean_log: th.Tensor) -> th.Tensor:
        ctx.save_for_backward(concentration)
        return log_beta - ((concentration - 1.0) * mean_log).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: th.Tensor) -> tuple[th.Tensor | None, ...]:
        if not gradient.any():
            return None, None, None
        (concentration,) = ctx.saved_tensors
        total, n = concentration.sum(-1, keepdim=True), concentration.shape[-1]
        slope = (total - n) * th.polygamma(1, total) - (concentration - 1.0) * th.polygamma(1, concentration)
        return gradient.unsqueeze(-1) * slope, None, None


class FastDirichlet(Dirichlet):
    """
    torch's Dirichlet in fewer operations, for the inside of the simplex: log density and entropy share what they need. Its KL
    divergence is torch's.

    Source: Kotz, Balakrishnan and Johnson (2000), Continuous Multivariate Distributions 1, chapter 49.

    :param concentration: (..., n), > 0
    """

    @lazy_property
    def log_beta(self) -> th.Tensor:
        """Logarithm of the normalising multivariate beta function (...), without a derivative."""
        a = self.concentration.detach()
        return th.lgamma(a).sum(-1) - th.lgamma(a.sum(-1))

    @lazy_property
    def mean_log(self) -> th.Tensor:
        """Means of the logarithms of the weights (..., n), without a derivative."""
        a = self.concentration.detach()
        return th.digamma(a) - th.digamma(a.sum(-1, keepdim=True))

    def log_prob(self, value: th.Tensor) -> th.Tensor:
        """
        :param value: points of the simplex, all weights > 0 (..., n)
        """
        if not th.is_grad_enabled():
            return ((self.concentration - 1.0) * value.log()).sum(-1) - self.log_beta
        return _DirichletLogDensity.apply(self.concentration, value.log(), self.log_beta, self.mean_log)

    def entropy(self) -> th.Tensor:
        return _DirichletEntropy.apply(self.concentration, self.log_beta, self.mean_log)


class SimplexDistribution(Distribution):
    """
    What the two distributions over portfolios share.

    :param action_dim: number of weights
    """

    def __init__(self, action_dim: int):
        super().__init__()
        self.action_dim = action_dim

    def proba_distribution_net(self, latent_dim: int) -> nn.Module:
        """
        :param latent_dim: size of the policy's last layer
        :return: the layer that gives one logit per weight
        """
        return nn.Linear(latent_dim, self.action_dim)

    def log_prob(self, actions: th.Tensor) -> th.Tensor:
        """
        :param actions: points of the simplex (n_batch, action_dim); the boundary is allowed
        :return: (n_batch,)
        """
        return self.distribution.log_prob(clamp_to_simplex(actions))

    def sample(self) -> th.Tensor:
        return clamp_to_simplex(self.distribution.rsample())

    def mode(self) -> th.Tensor:
        """The mean weights: the mode of a Dirichlet is not defined at concentrations below 1."""
        return clamp_to_simplex(self.distribution.mean)

    def actions_from_params(self, *args, deterministic: bool = False) -> th.Tensor:
        self.proba_distribution(*args)
        return self.get_actions(deterministic=deterministic)

    def log_prob_from_params(self, *args) -> tuple[th.Tensor, th.Tensor]:
        actions = self.actions_from_params(*args)
        return actions, self.log_prob(actions)


class DirichletDistribution(SimplexDistribution):
    """
    Dirichlet with concentration ``floor + initial * exp(logit)``. Both together say how widely an untrained policy explores:
    about 1 is the whole simplex, far below 1 its corners. The floor also bounds how decided a policy can become: the others
    keep at least ``floor``. ``exp`` learns faster than ``softplus``.

    :param action_dim: number of weights
    :param floor: smallest concentration
    :param initial: what a logit of zero adds to it
    """

    distribution: FastDirichlet

    def __init__(self, action_dim: int, floor: float = 0.7, initial: float = 1.0):
        super().__init__(action_dim)
        if not (floor > 0.0 and initial > 0.0):
            raise ValueError(f"Concentrations must be > 0; got floor {floor} and initial concentration {initial}.")
        self.floor, self.initial = floor, initial

    def proba_distribution(self, logits: th.Tensor) -> "DirichletDistribution":
        """
        :param logits: (n_batch, action_dim)
        """
        concentration = self.floor + self.initial * th.exp(nn.functional.hardtanh(logits, -MAX_LOGIT, MAX_LOGIT))
        self.distribution = FastDirichlet(concentration, validate_args=False)
        return self

    def entropy(self) -> th.Tensor:
        """
        :return: (n_batch,)
        """
        return self.distribution.entropy()


class SoftmaxDistribution(SimplexDistribution):
    """
    Logistic-normal: softmax of Gaussian logits. Zero logits are equal weight.

    :param action_dim: number of weights
    """

    distribution: LogisticNormal

    def proba_distribution(self, logits: th.Tensor, log_std: th.Tensor) -> "SoftmaxDistribution":
        """
        :param logits: mean logits (n_batch, action_dim)
        :param log_std: log of the standard deviation of every logit, one number
        """
        scale = log_std.clamp(-MAX_LOGIT, MAX_LOGIT).exp()
        self.distribution = LogisticNormal(logits.clamp(-MAX_LOGIT, MAX_LOGIT), scale, validate_args=False)
        return self

    def entropy(self) -> None:
        """No closed form; SB3 then uses the mean of ``-log_prob``."""
        return None
