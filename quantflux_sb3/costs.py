"""What trading costs."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CostModel:
    """
    Costs of a trade. The default, 5 bp of commission and 5 bp of slippage, is what retail orders in large US stocks cost
    over the bundled years; see :data:`quantflux_sb3.market.REGIONS` for other markets.

    :param proportional: commission and taxes, one number or one per asset [fraction of traded value; 0.0005 = 5 bp]
    :param slippage: half of the bid-ask spread, one number or one per asset [fraction of traded value]
    :param impact: square-root market impact: trading a fraction x of wealth costs ``impact * x ** 1.5`` of wealth
    :param fixed: per rebalancing [fraction of initial wealth]
    """

    proportional: float | tuple[float, ...] = 0.0005
    slippage: float | tuple[float, ...] = 0.0005
    impact: float | tuple[float, ...] = 0.0
    fixed: float = 0.0

    def __post_init__(self) -> None:
        for name in ("proportional", "slippage", "impact", "fixed"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if not (np.isfinite(value).all() and (value >= 0).all() and (value < 0.25).all()):
                raise ValueError(
                    f"Cost `{name}` must lie in [0, 0.25) as a fraction (0.001 = 10 bp); got {getattr(self, name)}."
                )

    @classmethod
    def of(cls, costs: "CostModel | float | None") -> "CostModel":
        """
        :param costs: a cost model, or one number: the fraction of traded value that a trade costs in all
        """
        if costs is None:
            return cls()
        return costs if isinstance(costs, CostModel) else cls(proportional=float(costs), slippage=0.0)

    def rates(self, n_assets: int) -> tuple[np.ndarray, np.ndarray]:
        """
        :return: linear rate and impact coefficient of each asset (n_assets,), (n_assets,)
        :raises ValueError: if there is one number per asset, of another number of assets
        """
        try:
            linear = np.broadcast_to(self.proportional, n_assets) + np.broadcast_to(self.slippage, n_assets)
            return linear.astype(np.float64), np.broadcast_to(self.impact, n_assets).astype(np.float64)
        except ValueError as error:
            raise ValueError(f"{self} does not fit {n_assets} assets: give one number or one per asset.") from error
