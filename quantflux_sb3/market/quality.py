"""The data report: what is known about the quality of prices. It judges nothing and changes nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from quantflux_sb3.market.cleaning import FILLED, PRICED, SUSPENDED, UNLISTED, Cleaned, CleaningPolicy

#: A daily move is an outlier beyond this size, and beyond this many robust standard deviations of its asset.
OUTLIER_RETURN, OUTLIER_DEVIATIONS = 0.25, 8.0
#: A move of this size that is undone the next day looks like a wrong price; JPMorgan moved by a fifth and back in 2009 [log].
_ERROR_MOVE = 0.4
_SPLIT_RATIOS = (2.0, 3.0, 4.0, 5.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 50.0, 100.0)


@dataclass(frozen=True)
class AssetQuality:
    """
    :param asset: its name
    :param first: date of its first price (ISO)
    :param last: date of its last price (ISO)
    :param prices: dates with a price of its own
    :param filled: dates on which the last price before was taken
    :param suspended: dates without a price between the first and the last, beyond what is filled
    :param unlisted: dates of the market before the first price or after the last
    :param removed: impossible prices that were taken as missing
    :param longest_stale: longest run of unchanged closes [sessions]
    :param outliers: number of daily moves that are outliers
    """

    asset: str
    first: str
    last: str
    prices: int
    filled: int
    suspended: int
    unlisted: int
    removed: int
    longest_stale: int
    outliers: int


@dataclass(frozen=True)
class Outlier:
    """
    :param asset: its name
    :param date: of the move (ISO)
    :param move: simple return
    :param hint: what it looks like
    """

    asset: str
    date: str
    move: float
    hint: str = ""


@dataclass(frozen=True, eq=False)
class DataReport:
    """
    :param facts: where the data came from and what it is, by heading
    :param steps: what was done to it, one sentence each
    :param assets: the quality of each asset, the benchmark last
    :param outliers: the largest daily moves, reported and not repaired
    :param dates: of the market (n_dates,)
    :param states: of the assets on these dates (n_dates, n_assets), see :mod:`quantflux_sb3.market.cleaning`
    """

    facts: Mapping[str, Any]
    steps: tuple[str, ...]
    assets: tuple[AssetQuality, ...]
    outliers: tuple[Outlier, ...]
    dates: np.ndarray
    states: np.ndarray
    stale_days: int = field(default=10)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table: one row per asset."""
        return [asdict(item) for item in self.assets]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was done and what is suspicious, one sentence each."""
        stale = [f"{item.asset} ({item.longest_stale})" for item in self.assets if item.longest_stale >= self.stale_days]
        remarks = list(self.steps)
        if stale:
            remarks.append(f"unchanged closes for {self.stale_days} sessions or more, left as they are: {', '.join(stale)}")
        if hinted := [item for item in self.outliers if item.hint]:
            first = hinted[0]
            remarks.append(
                f"{len(hinted)} daily moves look like errors and were left as they are, first {first.asset} on {first.date} "
                f"({first.move:+.0%}, {first.hint})"
            )
        if plain := len(self.outliers) - len(hinted):
            other = "other " if hinted else ""
            remarks.append(f"{plain} {other}daily moves are outliers, left as they are")
        return tuple(remarks)

    def to_dict(self) -> dict[str, Any]:
        """
        :return: everything but the state of each day, as plain values
        """
        return {
            **self.facts, "remarks": list(self.remarks), "assets": self.rows,
            "outliers": [asdict(item) for item in self.outliers],
        }  # fmt: skip


def report_on(cleaned: Cleaned, benchmark: str | None, facts: Mapping[str, Any], policy: CleaningPolicy) -> DataReport:
    """
    :param cleaned: what the cleaning gave
    :param benchmark: column of the benchmark
    :param facts: where the data came from and what it is
    :param policy: of the cleaning
    """
    names = [name for name in cleaned.closes.columns if name != benchmark]
    outliers = tuple(item for name in cleaned.observed.columns for item in find_outliers(cleaned.observed[name]))
    counts = {name: sum(item.asset == name for item in outliers) for name in cleaned.observed.columns}
    assets = []
    for name in [*names, *([benchmark] if benchmark else [])]:
        states = cleaned.states[:, names.index(name)] if name in names else _states_of(cleaned.observed[name])
        known = cleaned.observed[name].dropna()
        number = {state: int((states == state).sum()) for state in (PRICED, FILLED, SUSPENDED, UNLISTED)}
        assets.append(
            AssetQuality(
                str(name), str(known.index[0].date()), str(known.index[-1].date()), number[PRICED], number[FILLED],
                number[SUSPENDED], number[UNLISTED], cleaned.removed.get(name, 0), longest_run(known.to_numpy()), counts[name],
            )
        )  # fmt: skip
    dates = cleaned.closes.index.to_numpy().astype("datetime64[D]")
    return DataReport(facts, cleaned.steps, tuple(assets), outliers, dates, cleaned.states, policy.stale_days)


def _states_of(levels: pd.Series) -> np.ndarray:
    return np.where(levels.notna(), PRICED, FILLED)


def longest_run(values: np.ndarray) -> int:
    """
    :param values: closes (n,)
    :return: length of the longest run of equal values
    """
    changes = np.flatnonzero(np.diff(values) != 0.0)
    return int(np.diff(np.concatenate([[-1], changes, [len(values) - 1]])).max())


def find_outliers(closes: pd.Series) -> list[Outlier]:
    """
    Daily moves that are larger than :data:`OUTLIER_RETURN` and :data:`OUTLIER_DEVIATIONS` robust standard deviations.

    :param closes: prices of one asset by date, NaN where there is none
    :return: the moves in the order of their dates, with a hint at those that look like an unadjusted split or a wrong price
    """
    known = closes.dropna()
    logs = np.diff(np.log(known.to_numpy()))
    if not len(logs):
        return []
    deviation = 1.4826 * np.median(np.abs(logs - np.median(logs)))
    limit = max(np.log1p(OUTLIER_RETURN), OUTLIER_DEVIATIONS * deviation)
    return [
        Outlier(str(closes.name), str(known.index[i + 1].date()), float(np.expm1(logs[i])), _hint(logs, i))
        for i in np.flatnonzero(np.abs(logs) > limit)
    ]


def _hint(logs: np.ndarray, i: int) -> str:
    after = logs[i + 1] if i + 1 < len(logs) else 0.0
    if abs(logs[i]) > _ERROR_MOVE and abs(logs[i] + after) < 0.2 * abs(logs[i]):
        return "undone the next day: a wrong price?"
    ratio = next((ratio for ratio in _SPLIT_RATIOS if abs(abs(logs[i]) - np.log(ratio)) < 0.01), None)
    return f"about {ratio:g} to 1: a split that is not adjusted for?" if ratio else ""
