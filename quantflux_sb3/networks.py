"""
A network that treats all assets alike: one encoder shared by all of them, and the context they are in.

Permuting the assets of the observation permutes the logits; nothing in the weights depends on the number of assets.
"""

from itertools import pairwise

import torch as th
from torch import nn

from quantflux_sb3.layout import ObservationLayout


class AssetEquivariantExtractor(nn.Module):
    """
    Takes the place of SB3's ``MlpExtractor`` in an actor-critic policy.

    Each asset is described by its own columns; all of them share the market, regime and portfolio columns as context. The
    actor encodes each asset with the same layers, adds what it makes of the context and of the average asset, and hands
    over one vector per asset and one for cash. The critic averages its encoding of the assets.

    Source: Zaheer et al. (2017), Deep Sets, lemma 3 (permutation-equivariant layers).

    :param layout: of the observation
    :param net_arch: widths of actor (``pi``) and critic (``vf``), a list for both
    :param activation_fn: activation
    """

    def __init__(self, layout: ObservationLayout, net_arch: list[int] | dict[str, list[int]], activation_fn: type[nn.Module]):
        super().__init__()
        arch = net_arch if isinstance(net_arch, dict) else {"pi": net_arch, "vf": net_arch}
        widths_pi, widths_vf = (list(arch.get(key) or [64]) for key in ("pi", "vf"))
        self.layout, self.n_assets = layout, layout.n_assets
        asset_dim = sum(len(block.columns) for block in layout.blocks if block.n_assets)
        context_dim = sum(block.size for block in layout.blocks if not block.n_assets)
        self.actor = SharedEncoder(asset_dim, context_dim, widths_pi, activation_fn)
        self.critic = SharedEncoder(asset_dim, context_dim, widths_vf, activation_fn)
        self.latent_dim_asset = widths_pi[-1]
        self.latent_dim_pi = widths_pi[-1] * (self.n_assets + 1)
        self.latent_dim_vf = widths_vf[-1]

    def split(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param features: flat observations (n_batch, obs_size)
        :return: columns of each asset (n_batch, n_assets, asset_dim), context (n_batch, context_dim)
        """
        assets, context = [], []
        for block in self.layout.blocks:
            columns = features[:, self.layout.slices[block.name]]
            if block.n_assets:
                assets.append(columns.reshape(len(features), block.n_assets, len(block.columns)))
            else:
                context.append(columns)
        return th.cat(assets, dim=2), th.cat(context, dim=1)

    def forward(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param features: (n_batch, obs_size)
        :return: latent of the actor (n_batch, latent_dim_pi) and of the critic (n_batch, latent_dim_vf)
        """
        assets, context = self.split(features)
        return self.actor(assets, context).flatten(1), self.critic(assets, context).mean(dim=1)

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return self.actor(*self.split(features)).flatten(1)

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        return self.critic(*self.split(features)).mean(dim=1)


class SharedEncoder(nn.Module):
    """
    The same layers for every asset; cash goes through them too, as an asset of which only the context is known.

    :param asset_dim: columns of one asset
    :param context_dim: columns of the context
    :param widths: of the layers
    :param activation_fn: activation
    """

    def __init__(self, asset_dim: int, context_dim: int, widths: list[int], activation_fn: type[nn.Module]):
        super().__init__()
        self.own = nn.Linear(asset_dim, widths[0])
        self.shared = nn.Linear(context_dim + asset_dim, widths[0], bias=False)
        layers: list[nn.Module] = [activation_fn()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), activation_fn()]
        self.head = nn.Sequential(*layers)

    def forward(self, assets: th.Tensor, context: th.Tensor) -> th.Tensor:
        """
        :param assets: (n_batch, n_assets, asset_dim)
        :param context: (n_batch, context_dim)
        :return: one vector per asset, then one for cash (n_batch, n_assets + 1, width)
        """
        with_average = th.cat([context, assets.mean(dim=1)], dim=1)
        cash = th.zeros_like(assets[:, :1])
        return self.head(self.own(th.cat([assets, cash], dim=1)) + self.shared(with_average).unsqueeze(1))


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
        :param latent: (n_batch, (n_assets + 1) * width)
        :return: logits (n_batch, n_assets + 1)
        """
        rows = latent.reshape(len(latent), -1, self.width)
        logits = self.asset(rows[:, :-1]).squeeze(-1)
        return th.cat([logits, self.cash(rows[:, -1]) + self.cash_logit], dim=1)
