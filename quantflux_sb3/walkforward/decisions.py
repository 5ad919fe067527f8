"""What the agents of a walk-forward asked for, day by day: kept per fold and seed, and joined over the test years."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.evaluation.backtest import _core_on, replay
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.market.data import MarketData


@dataclass(frozen=True)
class Decisions:
    """
    :param dates: day that earns what was decided at the close before it (n_days,) [datetime64[D]]
    :param requests: weights asked for, cash last (n_days, n_assets + 1)
    :param decides: False on days without a decision (n_days,)
    """

    dates: np.ndarray
    requests: np.ndarray
    decides: np.ndarray

    def save(self, path: Path) -> None:
        """
        :param path: of an ``.npz`` file
        """
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "Decisions":
        """
        :param path: of an ``.npz`` file
        :raises ValueError: if it is none, or damaged
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{name: stored[name] for name in ("dates", "requests", "decides")})
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"'{path}' is damaged ({error}); delete it and resume.") from error

    @classmethod
    def join(cls, parts: Sequence["Decisions"]) -> "Decisions":
        """
        :param parts: one after the other
        """
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("dates", "requests", "decides")))

    @classmethod
    def mean(cls, members: Sequence["Decisions"]) -> "Decisions":
        """
        :param members: decisions on the same days
        :return: what they ask for on average
        """
        return cls(members[0].dates, np.mean([member.requests for member in members], axis=0), members[0].decides)

    def replay(self, name: str, market: MarketData, config: PortfolioConfig) -> BacktestResult:
        """
        One portfolio through all the days, under real costs: nothing is sold and bought again where folds meet.

        :param name: of the strategy
        :param market: whose test split is these days
        :param config: costs, limits, gate
        :raises ValueError: if the days are not those of the test split
        """
        start, stop = market.rows("test")
        if not np.array_equal(self.dates, market.dates[start:stop]):
            raise ValueError(
                f"'{name}' decided for {len(self.dates)} days, {self.dates[0]} to {self.dates[-1]}; the test years have "
                f"{stop - start}, {market.dates[start]} to {market.dates[stop - 1]}."
            )
        return replay(name, _core_on(market, "test", config), self.requests, self.decides)
