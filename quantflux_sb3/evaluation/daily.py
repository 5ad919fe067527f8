"""
The days of an evaluation as one table: what every strategy earned, and what the agent held.

``quantflux run`` leaves it in the run's folder, so that the page can be written again and runs can be compared without
training anything anew. It is plain Parquet: a row per day, columns such as ``return: agent``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from quantflux_sb3.disk import write_whole
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.regimes import REGIMES

DAILY_FILE = "daily.parquet"
RETURN, EXPOSURE, WEIGHT = "return", "exposure", "weight"


@dataclass(frozen=True, eq=False)
class DailySeries:
    """
    :param dates: on which each return was earned (n_days,) [datetime64[D]]
    :param returns: simple returns after costs, by strategy, the agent first, each (n_days,)
    :param risk_free: simple return of cash (n_days,)
    :param exposure: share of wealth in assets, by strategy; strategies that hold no assets are left out
    :param weights: the agent's weights by asset, cash last, each (n_days,)
    :param regimes: known when the agent's weights were decided (n_days,), index into ``REGIMES``
    :param periods_per_year: rows per year
    """

    dates: np.ndarray
    returns: Mapping[str, np.ndarray]
    risk_free: np.ndarray
    exposure: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]
    regimes: np.ndarray
    periods_per_year: int = 252

    @classmethod
    def of(cls, results: Sequence[BacktestResult]) -> "DailySeries":
        """
        :param results: backtests on the same days, the agent first
        """
        agent = results[0]
        return cls(
            agent.dates, {result.name: result.returns for result in results}, agent.risk_free,
            {result.name: result.exposure for result in results if result.weights[:, :-1].any()},
            dict(zip([*agent.assets, "cash"], agent.weights.T, strict=True)), agent.regimes, agent.periods_per_year,
        )  # fmt: skip

    def write(self, path: str | Path) -> Path:
        """
        :param path: ``.parquet`` file in an existing folder; replaced if there
        """
        groups = {RETURN: self.returns, EXPOSURE: self.exposure, WEIGHT: self.weights}
        columns = {f"{group}: {name}": values for group, series in groups.items() for name, values in series.items()}
        table = pd.DataFrame({"date": self.dates.astype("datetime64[ms]"), "risk_free": self.risk_free, **columns})
        table["regime"] = pd.Categorical.from_codes(self.regimes, REGIMES).astype(str)
        table.attrs["periods_per_year"] = self.periods_per_year
        content = BytesIO()
        table.to_parquet(content, index=False)
        return write_whole(path, content.getvalue())

    @classmethod
    def read(cls, path: str | Path) -> "DailySeries":
        """
        :param path: file written by :meth:`write`
        :raises ValueError: if it is none
        """
        try:
            table = pd.read_parquet(path)
            groups: dict[str, dict[str, np.ndarray]] = {RETURN: {}, EXPOSURE: {}, WEIGHT: {}}
            for column in table.columns:
                group, colon, name = column.partition(": ")
                if colon:
                    groups[group][name] = table[column].to_numpy()
            return cls(
                table["date"].to_numpy().astype("datetime64[D]"), groups[RETURN], table["risk_free"].to_numpy(),
                groups[EXPOSURE], groups[WEIGHT], pd.Categorical(table["regime"], REGIMES).codes,
                table.attrs["periods_per_year"],
            )  # fmt: skip
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"'{path}' does not hold the days of a run ({type(error).__name__}: {error}).") from error
