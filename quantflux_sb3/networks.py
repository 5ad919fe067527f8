"""
A network that treats all assets alike: one encoder shared by all of them, and the context they are in.

Permuting the assets of the observation permutes the logits; nothing in the weights depends on the number of assets.
Assets are the first axis of all arrays within, so that each asset's batch lies in one piece of memory.
"""

from itertools import pairwise

import torch as th
from torch import nn

from quantflux_sb3.layout import ObservationLayout

#: Width of a layer shared by all assets, which sees as many samples as there are assets.
DEFAULT_WIDTH = 32


class AssetEquivariantExtractor(nn.Module):
    """
    Takes the place of SB3's ``MlpExtractor`` in an actor-critic policy.

    Each asset is described by its own columns; all of them share the market, regime and portfolio columns as context. The
    actor encodes each asset with the same layers, adds what it makes of the context and of the average asset, and hands
    over one vector per asset and one for cash. The critic averages its encoding of the assets and goes on from there.

    Source: Zaheer et al. (2017), Deep Sets, lemma 3 (permutation-equivariant layers, the actor) and theorem 2 (invariant
    functions, the critic); Vaswani et al. (2017), Attention Is All You Need, eq. 1, for the optional attention.

    :param layout: of the observation
    :param net_arch: widths of actor (``pi``) and critic (``vf``), a list for both
    :param activation_fn: activation
    :param attention_heads: heads of the attention across assets in the actor; 0: the assets know of each other by the average
        asset only
    """

    def __init__(
        self,
        layout: ObservationLayout,
        net_arch: list[int] | dict[str, list[int]],
        activation_fn: type[nn.Module],
        attention_heads: int = 0,
    ):
        super().__init__()
        arch = net_arch if isinstance(net_arch, dict) else {"pi": net_arch, "vf": net_arch}
        widths_pi, widths_vf = (list(arch.get(key) or [DEFAULT_WIDTH]) for key in ("pi", "vf"))
        self.layout, self.n_assets = layout, layout.n_assets
        asset_dim = sum(len(block.columns) for block in layout.blocks if block.n_assets)
        context_dim = sum(block.size for block in layout.blocks if not block.n_assets)
        self.actor = AssetEncoder(asset_dim, context_dim, widths_pi[0], activation_fn)
        self.critic = AssetEncoder(asset_dim, context_dim, widths_vf[0], activation_fn)
        self.attention = CrossAssetAttention(widths_pi[0], attention_heads) if attention_heads else nn.Identity()
        self.actor_head, self.critic_head = mlp(widths_pi, activation_fn), mlp(widths_vf, activation_fn)
        self.latent_dim_asset = widths_pi[-1]
        self.latent_dim_pi = widths_pi[-1] * (self.n_assets + 1)
        self.latent_dim_vf = widths_vf[-1]

    def split(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param features: flat observations (n_batch, obs_size)
        :return: columns of each asset (n_assets, n_batch, asset_dim), those of the context and of the average asset
            (n_batch, context_dim + asset_dim)
        """
        assets, context = [], []
        for block in self.layout.blocks:
            columns = features[:, self.layout.slices[block.name]]
            if block.n_assets:
                assets.append(columns.reshape(len(features), block.n_assets, len(block.columns)).transpose(0, 1))
            else:
                context.append(columns)
        by_asset = th.cat(assets, dim=2)
        return by_asset, th.cat([*context, by_asset.mean(dim=0)], dim=1)

    def forward(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param features: (n_batch, obs_size)
        :return: latent of the actor, one vector per asset and one for cash (n_assets + 1, n_batch, width), which
            :class:`AssetLogits` reads, and of the critic (n_batch, latent_dim_vf)
        """
        assets, context = self.split(features)
        return self._act(assets, context), self._judge(assets, context)

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return self._act(*self.split(features))

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        return self._judge(*self.split(features))

    def _act(self, assets: th.Tensor, context: th.Tensor) -> th.Tensor:
        cash = assets.new_zeros(1, *assets.shape[1:])  # an asset of which only the context is known
        rows = self.actor(th.cat([assets, cash]), context)
        return self.actor_head(self.attention(rows))

    def _judge(self, assets: th.Tensor, context: th.Tensor) -> th.Tensor:
        return self.critic_head(self.critic(assets, context).mean(dim=0))


class AssetEncoder(nn.Module):
    """
    One layer, the same for every asset, and what they have in common added to it.

    :param asset_dim: columns of one asset
    :param context_dim: columns of the context
    :param width: of the layer
    :param activation_fn: activation
    """

    def __init__(self, asset_dim: int, context_dim: int, width: int, activation_fn: type[nn.Module]):
        super().__init__()
        self.own = nn.Linear(asset_dim, width)
        self.shared = nn.Linear(context_dim + asset_dim, width, bias=False)
        self.activation = activation_fn()

    def forward(self, assets: th.Tensor, context: th.Tensor) -> th.Tensor:
        """
        :param assets: (n_rows, n_batch, asset_dim)
        :param context: context and average asset (n_batch, context_dim + asset_dim)
        :return: one vector per row (n_rows, n_batch, width)
        """
        return self.activation(self.own(assets) + self.shared(context))


class CrossAssetAttention(nn.Module):
    """
    Every asset looks at every other one; added to what it is itself. Permutation equivariant, for any number of assets.

    :param width: of the vectors
    :param n_heads: heads
    """

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        if width % n_heads:
            raise ValueError(f"`attention_heads` {n_heads} must divide the first layer's width, {width}.")
        self.n_heads = n_heads
        self.project, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, rows: th.Tensor) -> th.Tensor:
        """
        :param rows: (n_rows, n_batch, width)
        :return: the same shape
        """
        n_rows, n_batch, width = rows.shape
        queries, keys, values = self.project(rows).view(n_rows, n_batch, 3, self.n_heads, -1).permute(2, 1, 3, 0, 4)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        return rows + self.out(mixed.permute(2, 0, 1, 3).reshape(n_rows, n_batch, width))


def mlp(widths: list[int], activation_fn: type[nn.Module]) -> nn.Sequential:
    """
    :param widths: of the vectors that go in, and of the layers
    :param activation_fn: activation
    :return: layers; none for a single width
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation_fn()]
    return nn.Sequential(*layers)


class AssetLogits(nn.Module):
    """
    One logit per asset by a layer shared by all of them, and one for cash.

    :param extractor: whose latent it reads
    :param cash_logit: constant added to the logit of cash
    """

    def __init__(self, extractor: AssetEquivariantExtractor, cash_logit: float):
        super().__init__()
        self.width, self.cash_logit = extractor.latent_dim_asset, cash_logit
        self.asset, self.cash = nn.Linear(self.width, 1), nn.Linear(self.width, 1)

    def forward(self, latent: th.Tensor) -> th.Tensor:
        """
        :param latent: of the assets and of cash (n_assets + 1, n_batch, width)
        :return: logits (n_batch, n_assets + 1)
        """
        n_assets = len(latent) - 1
        weights = th.cat([self.asset.weight.expand(n_assets, -1), self.cash.weight]).unsqueeze(2)
        biases = th.cat([self.asset.bias.expand(n_assets), self.cash.bias + self.cash_logit])
        return th.bmm(latent, weights).squeeze(2).T + biases
