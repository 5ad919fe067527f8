"""
The settings of a portfolio: what is allowed, what it costs, when it is rebalanced. Checked here, obeyed by the kernel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from quantflux_sb3 import dynamics
from quantflux_sb3.costs import CostModel
from quantflux_sb3.rewards import RewardConfig


@dataclass(frozen=True)
class GroupCap:
    """
    Upper limit on the weight of several assets together, a sector say.

    :param assets: tickers; an asset can be in one group
    :param max_weight: of all of them together
    """

    assets: tuple[str, ...]
    max_weight: float

    def __post_init__(self) -> None:
        if isinstance(self.assets, str) or not self.assets or not all(isinstance(asset, str) for asset in self.assets):
            raise ValueError(f"A GroupCap needs the tickers of its assets; got {self.assets!r}.")
        if not _is_number(self.max_weight):
            raise ValueError(f"`max_weight` of a GroupCap must be a number; got {self.max_weight!r}.")


@dataclass(frozen=True)
class LongShort:
    """
    Permission to sell short: weights in ``[-max_weight, max_weight]``, and cash is what is left.

    :param gross: upper limit on the sum of absolute weights
    :param borrow_cost: paid on short positions [per year]
    """

    gross: float = 1.0
    borrow_cost: float = 0.01

    def __post_init__(self) -> None:
        if not (_is_number(self.gross) and _is_number(self.borrow_cost)):
            raise ValueError(f"`gross` and `borrow_cost` of LongShort must be numbers; got {self}.")
        if not (0.0 < self.gross <= 3.0 and 0.0 <= self.borrow_cost < 1.0):
            raise ValueError(f"LongShort needs gross in (0, 3] and borrow_cost in [0, 1); got {self}.")


@dataclass(frozen=True)
class PortfolioConfig:
    """
    Every setting of the environment but the market; see :class:`quantflux_sb3.env.QuantFluxEnv` for what each means.
    """

    split: str = "train"
    episode_length: int | None = 252
    decision_interval: int = 1
    execution_lag: int = 1
    costs: CostModel | float | None = None
    min_weight: float | tuple[float, ...] = 0.0
    max_weight: float | tuple[float, ...] = 0.25
    rebalance_threshold: float = 0.025
    exposure_threshold: float = 0.05
    max_holding_days: int | None = 63
    min_holding_days: int = 0
    max_turnover: float | None = None
    group_caps: tuple[GroupCap, ...] = ()
    long_short: LongShort | None = None
    trade_to: str = "target"
    target_smoothing: int = 1
    risk_free: float | None = None
    reward: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self) -> None:
        _require(
            _is_number(self.execution_lag) and self.execution_lag in (0, 1), "execution_lag", self.execution_lag, "0 or 1"
        )
        trade_known = isinstance(self.trade_to, str) and self.trade_to in ("target", "band")
        _require(trade_known, "trade_to", self.trade_to, "'target' or 'band'")
        grouped = isinstance(self.group_caps, Sequence) and all(isinstance(cap, GroupCap) for cap in self.group_caps)
        _require(grouped, "group_caps", self.group_caps, "a tuple of GroupCap")
        for name in ("decision_interval", "target_smoothing", "episode_length", "max_holding_days"):
            value = getattr(self, name)
            optional = name in ("episode_length", "max_holding_days")
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            valid = (value is None and optional) or (whole and value >= 1)
            _require(valid, name, value, "a whole number of days >= 1" + (" or None" if optional else ""))
        for name in ("rebalance_threshold", "exposure_threshold", "min_holding_days"):
            value = getattr(self, name)
            _require(_is_number(value) and value >= 0, name, value, "a number >= 0")
        if self.max_turnover is not None:
            _require(
                _is_number(self.max_turnover) and self.max_turnover > 0,
                "max_turnover",
                self.max_turnover,
                "a number > 0 or None",
            )
        _require(isinstance(self.long_short, LongShort | None), "long_short", self.long_short, "a LongShort or None")
        _require(not (self.long_short and self.group_caps), "group_caps", self.group_caps, "empty for long-short portfolios")
        _require(isinstance(self.reward, RewardConfig), "reward", self.reward, "a RewardConfig")
        priced = self.costs is None or isinstance(self.costs, CostModel) or _is_number(self.costs)
        _require(priced, "costs", self.costs, "a CostModel or a fraction of traded value (0.001 = 10 bp)")
        if self.risk_free is not None:
            valid = _is_number(self.risk_free) and -0.01 < self.risk_free < 0.01
            _require(valid, "risk_free", self.risk_free, "a daily rate between -1 % and 1 %")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "PortfolioConfig":
        """
        :param settings: fields by name
        :raises TypeError: if there is no such setting; the text names all
        """
        known = [item.name for item in fields(cls)]
        if unknown := sorted(set(settings) - set(known)):
            raise TypeError(f"There is no setting {unknown}; the settings are {known}.")
        return cls(**settings)

    def rules(self, assets: Sequence[str]) -> dynamics.Rules:
        """
        :param assets: tickers
        :return: the settings as the kernel reads them
        :raises ValueError: if the limits on the weights cannot be met
        """
        n_assets = len(assets)
        lower, upper = (_per_asset(name, getattr(self, name), n_assets) for name in ("min_weight", "max_weight"))
        if not ((lower >= 0) & (lower <= upper) & (upper <= 1)).all():  # so that NaN is refused too
            raise ValueError(f"Weights need 0 <= min_weight <= max_weight <= 1; got {self.min_weight} and {self.max_weight}.")
        groups, group_max = self._groups(assets, lower)
        self._check_reachable(lower, upper, groups, group_max)
        costs, short = CostModel.of(self.costs), self.long_short
        linear, impact = costs.rates(n_assets)
        return dynamics.make_rules(
            min_weight=-upper if short else lower, max_weight=upper, cost_rates=linear, impact=impact,
            fixed_fee=float(costs.fixed), rebalance_threshold=float(self.rebalance_threshold),
            exposure_threshold=float(self.exposure_threshold), max_holding_days=float(self.max_holding_days or np.inf),
            min_holding_days=float(self.min_holding_days), max_turnover=float(self.max_turnover or np.inf),
            groups=groups, group_max=group_max, gross_limit=float(short.gross) if short else 0.0,
            borrow_rate=short.borrow_cost / 252.0 if short else 0.0, to_band=self.trade_to == "band",
            smoothing=2.0 / (self.target_smoothing + 1.0), lag=int(self.execution_lag), reward_weights=self.reward.weights(),
            regime_scale=np.asarray(self.reward.regime_scale, dtype=np.float64),
            soft_max_weight=float(self.reward.soft_max_weight), patience=float(self.reward.patience),
        )  # fmt: skip

    def _groups(self, assets: Sequence[str], lower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        groups = np.full(len(assets), -1, dtype=np.int64)
        for number, cap in enumerate(self.group_caps):
            members = [index for index, asset in enumerate(assets) if asset in cap.assets]
            if len(members) != len(set(cap.assets)) or (groups[members] >= 0).any():
                raise ValueError(
                    f"{cap} must name assets of the market, each in one group only; the assets are {list(assets)}."
                )
            if not lower[members].sum() <= cap.max_weight <= 1.0:
                raise ValueError(f"{cap} must lie between the sum of its assets' min_weight, {lower[members].sum():g}, and 1.")
            groups[members] = number
        return groups, np.array([float(cap.max_weight) for cap in self.group_caps])

    def _check_reachable(self, lower: np.ndarray, upper: np.ndarray, groups: np.ndarray, group_max: np.ndarray) -> None:
        most = upper[groups < 0].sum() + sum(min(upper[groups == g].sum(), cap) for g, cap in enumerate(group_max))
        if most < 1.0 - 1e-12 and not self.long_short:
            limits = f"`max_weight` {self.max_weight}" + (" under these group_caps" if self.group_caps else "")
            least = np.ceil(1e4 / len(lower)) / 1e4
            more = "more assets, or higher group_caps" if self.group_caps else "more assets"
            raise ValueError(f"{limits} of {len(lower)} assets cannot reach 100 %: give at least {least:.4f} or {more}.")
        if lower.sum() > 1.0 + 1e-12:
            raise ValueError(f"`min_weight` {self.min_weight} of {len(lower)} assets is more than 100 % in all.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _require(valid: bool, name: str, value: Any, expected: str) -> None:
    if not valid:
        raise ValueError(f"`{name}` must be {expected}; got {value!r}.")


def _per_asset(name: str, value: Any, n_assets: int) -> np.ndarray:
    if isinstance(value, (str, Mapping)):
        raise ValueError(f"`{name}` must be a number, or one number per asset in the order of the assets; got {value!r}.")
    try:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (n_assets,)).copy()
    except (ValueError, TypeError) as error:
        raise ValueError(f"`{name}` has {np.size(value)} numbers; expected one, or one per asset ({n_assets}).") from error
