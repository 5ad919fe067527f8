"""
Actor-critic policies whose actions are portfolios: ``DirichletPolicy`` and ``SoftmaxPolicy``, and their recurrent twins.

They work with PPO, A2C and TRPO (the twins with sb3-contrib's RecurrentPPO), on ``QuantFlux-v0`` and on any other env whose
action is a flat ``Box`` that is read as weights. On a :class:`quantflux_sb3.layout.PortfolioBox` the network treats all assets
alike; elsewhere it is SB3's MLP, and in the recurrent ones sb3-contrib's LSTM.
"""

from functools import partial
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from quantflux_sb3.distributions import DirichletDistribution, SimplexDistribution, SoftmaxDistribution
from quantflux_sb3.networks import DEFAULT_WIDTH, AssetEquivariantExtractor, AssetLogits


class SimplexPolicy(ActorCriticPolicy):
    """
    Base of the two policies: an actor-critic with a distribution over the simplex.

    :param observation_space: Observation space
    :param action_space: flat ``Box``; read as weights
    :param lr_schedule: Learning rate schedule (could be constant)
    :param net_arch: layers of actor and critic; of the equivariant network the first is the encoder shared by all assets and
        the rest is the head. Two layers of 32 if not given (of 64 in SB3's MLP)
    :param activation_fn: Activation function
    :param equivariant: one encoder for all assets; None: where the observation space has a layout
    :param cash_logit: added to the logit of cash in the equivariant network, so that it starts nearly fully invested
    :param attention_heads: heads of an attention across assets in the equivariant network; 0: none
    :param kwargs: further arguments of SB3's ``ActorCriticPolicy``
    :raises ValueError: if the action space is no flat Box, or an equivariant network is asked for without a layout
    """

    action_net: nn.Module
    #: Whether a model can be used on another number of assets, unless it is built with ``equivariant=False``.
    equivariant_by_default = True

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.Tanh,
        equivariant: bool | None = None,
        cash_logit: float = -2.0,
        attention_heads: int = 0,
        **kwargs: Any,
    ):
        if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
            raise ValueError(f"{type(self).__name__} needs a flat Box of weights as action space; got {action_space}.")
        if kwargs.get("use_sde"):
            raise ValueError(f"{type(self).__name__} has its own exploration; use_sde=True does not apply.")
        has_layout = hasattr(observation_space, "layout")
        if equivariant and not self.equivariant_by_default:
            raise ValueError(f"The LSTM of {type(self).__name__} reads assets by position; equivariant=True does not apply.")
        if equivariant and not has_layout:
            raise ValueError("equivariant=True needs the observation space of QuantFlux-v0 (PortfolioBox); got a plain one.")
        self.equivariant = has_layout and self.equivariant_by_default if equivariant is None else equivariant
        if attention_heads and not self.equivariant:
            raise ValueError(f"attention_heads={attention_heads} belongs to the equivariant network, which is not used here.")
        if self.equivariant and net_arch is None:
            net_arch = [DEFAULT_WIDTH, DEFAULT_WIDTH]
        if kwargs.get("optimizer_kwargs") is None and kwargs.get("optimizer_class", th.optim.Adam) is th.optim.Adam:
            kwargs["optimizer_kwargs"] = {"eps": 1e-5, "fused": True}  # SB3's eps; fused is a fifth faster
        self.cash_logit, self.attention_heads = cash_logit, attention_heads
        super().__init__(observation_space, action_space, lr_schedule, net_arch, activation_fn, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        for name in ("use_sde", "full_std", "use_expln", "squash_output"):
            data.pop(name)
        data.update(equivariant=self.equivariant, cash_logit=self.cash_logit, attention_heads=self.attention_heads)
        return data

    def _make_distribution(self) -> SimplexDistribution:
        raise NotImplementedError

    def _build_mlp_extractor(self) -> None:
        if not self.equivariant:
            super()._build_mlp_extractor()
            return
        self.mlp_extractor = AssetEquivariantExtractor(
            self.observation_space.layout, self.net_arch, self.activation_fn, self.attention_heads
        )

    def _build(self, lr_schedule: Schedule) -> None:
        self._build_mlp_extractor()
        self.action_dist = self._make_distribution()
        if self.equivariant:
            self.action_net = AssetLogits(self.mlp_extractor, self.cash_logit)
        else:
            self.action_net = self.action_dist.proba_distribution_net(self.mlp_extractor.latent_dim_pi)
        self._build_exploration()
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        if self.ortho_init:
            for module, gain in ((self.features_extractor, 2**0.5), (self.mlp_extractor, 2**0.5), (self.value_net, 1.0)):
                module.apply(partial(self.init_weights, gain=gain))
        # Zero logits are equal weight: the policy begins as the rule that it is measured against.
        for parameter in self.action_net.parameters():
            nn.init.zeros_(parameter)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _build_exploration(self) -> None:
        """Parameters of the exploration, if the distribution has any."""


class DirichletPolicy(SimplexPolicy):
    """
    Policy whose weights are Dirichlet distributed; one logit per weight gives its concentration.

    :param concentration_floor: smallest concentration
    :param initial_concentration: what a logit of zero adds to it; where the signal is strong, a floor of 0.02 and 0.06 here
        make the policy explore the corners and learn faster
    """

    def __init__(self, *args: Any, concentration_floor: float = 0.7, initial_concentration: float = 1.0, **kwargs: Any):
        self.concentration_floor, self.initial_concentration = concentration_floor, initial_concentration
        super().__init__(*args, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"concentration_floor": self.concentration_floor, "initial_concentration": self.initial_concentration}
        return {**super()._get_constructor_parameters(), **own}

    def _make_distribution(self) -> DirichletDistribution:
        n_weights = int(np.prod(self.action_space.shape))
        return DirichletDistribution(n_weights, self.concentration_floor, self.initial_concentration)

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        return self.action_dist.proba_distribution(self.action_net(latent_pi))


class SoftmaxPolicy(SimplexPolicy):
    """
    Policy whose weights are the softmax of Gaussian logits (logistic-normal), with one learnt width for all logits.

    ``log_std_init`` is the log of the exploration's width in logits; what suits depends on the noise of the rewards: about
    1 on a market with a strong signal, -0.7 and below on real ones.
    """

    def __init__(self, *args: Any, log_std_init: float = -0.7, **kwargs: Any):
        super().__init__(*args, log_std_init=log_std_init, **kwargs)

    def _make_distribution(self) -> SoftmaxDistribution:
        return SoftmaxDistribution(int(np.prod(self.action_space.shape)))

    def _build_exploration(self) -> None:
        self.log_std = nn.Parameter(th.full((1,), float(self.log_std_init)))

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        return self.action_dist.proba_distribution(self.action_net(latent_pi), self.log_std)


class _RecurrentPolicy(RecurrentActorCriticPolicy):
    """sb3-contrib's recurrent policy, but saved with the arguments of its LSTM."""

    equivariant_by_default = False

    def _get_constructor_parameters(self) -> dict[str, Any]:
        layers, _, width = self.lstm_hidden_state_shape
        return {
            **super()._get_constructor_parameters(),
            "lstm_hidden_size": width, "n_lstm_layers": layers, "shared_lstm": self.shared_lstm,
            "enable_critic_lstm": self.enable_critic_lstm, "lstm_kwargs": self.lstm_kwargs,
        }  # fmt: skip


class RecurrentDirichletPolicy(DirichletPolicy, _RecurrentPolicy):
    """
    :class:`DirichletPolicy` with the memory of an LSTM, for sb3-contrib's ``RecurrentPPO``; its network is flat.

    Arguments are those of :class:`DirichletPolicy` and of sb3-contrib's ``RecurrentActorCriticPolicy`` (``lstm_hidden_size``,
    ``n_lstm_layers``, ``shared_lstm``, ``enable_critic_lstm``, ``lstm_kwargs``).
    """

    equivariant_by_default = False


class RecurrentSoftmaxPolicy(SoftmaxPolicy, _RecurrentPolicy):
    """:class:`SoftmaxPolicy` with the memory of an LSTM; see :class:`RecurrentDirichletPolicy`."""

    equivariant_by_default = False
