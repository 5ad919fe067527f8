"""
The cleaning policy: what is done to prices on their way into a market, and said about it.

``refuse`` (files and DataFrames): nothing is changed; what is not clean is refused by :meth:`MarketData.from_prices`.
``repair`` (downloads), in this order:

1. Dates lose their time zone and time of day; rows are sorted; rows that stand there twice with the same prices are kept
   once, with different prices they are refused.
2. Zero, negative and infinite prices are taken as missing.
3. Rows on days that are no session of the assets' exchanges are dropped, sessions without a row are put in as missing.
4. The history begins where the benchmark and two assets have prices and ends where the benchmark ends.
5. A missing price is filled with the last one before it for up to ``max_fill`` sessions; never with a later one. Beyond, the
   asset is suspended until its next price. Before its first price, and after its last one if that is more than
   ``max_fill`` sessions before the end, it is not listed.

Stale runs and outliers are reported, never changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from quantflux_sb3.market.calendars import sessions
from quantflux_sb3.market.validation import parse_dates

#: State of an asset on a date: its own price, the last one before, suspended, not listed.
PRICED, FILLED, SUSPENDED, UNLISTED = range(4)
#: A calendar that misses more than this share of the rows, or has as many sessions without a row, is not that of the data.
_MISFIT = 0.2
#: Upper bound of the policy's counts [sessions]: four decades.
_MOST_SESSIONS = 10_000


@dataclass(frozen=True)
class CleaningPolicy:
    """
    :param mode: ``refuse`` or ``repair``
    :param max_fill: missing prices in a row that are filled with the last price [sessions]
    :param stale_days: unchanged closes in a row from which on a run is reported [sessions]
    """

    mode: str = "refuse"
    max_fill: int = 5
    stale_days: int = 10

    def __post_init__(self) -> None:
        if self.mode not in ("refuse", "repair"):
            raise ValueError(f"`cleaning` must be 'refuse' or 'repair'; got '{self.mode}'.")
        for name, least in (("max_fill", 0), ("stale_days", 2)):
            value = getattr(self, name)
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not whole or not least <= value <= _MOST_SESSIONS:
                raise ValueError(
                    f"`{name}` must be a whole number from {least} to {_MOST_SESSIONS} [sessions]; got {value!r}."
                )


@dataclass(frozen=True)
class Cleaned:
    """
    :param closes: clean prices, dates x symbols; NaN where an asset is suspended or not listed
    :param observed: the same before missing prices were filled
    :param states: per date and asset (n_dates, n_assets); the benchmark is not among them
    :param removed: impossible prices taken as missing, by symbol
    :param steps: what was done, one sentence each
    """

    closes: pd.DataFrame
    observed: pd.DataFrame
    states: np.ndarray
    removed: dict[str, int] = field(default_factory=dict)
    steps: tuple[str, ...] = ()


def clean(
    closes: pd.DataFrame, benchmark: str | None = None, calendars: Sequence[str] = (), policy: CleaningPolicy | None = None
) -> Cleaned:
    """
    :param closes: prices as they came, dates x symbols
    :param benchmark: column of the benchmark
    :param calendars: codes of the exchanges of the assets; none: the dates are taken as they are
    :param policy: what to do about what is not clean
    :raises ValueError: if that cannot be mended by the policy, with the place
    """
    policy = policy or CleaningPolicy()
    if policy.mode == "refuse":
        return Cleaned(closes, closes, np.full((len(closes), closes.shape[1] - (benchmark in closes)), PRICED))
    steps: list[str] = []
    closes = _ordered(closes, steps)
    closes, removed = _without_impossible(closes, steps)
    closes = _aligned(closes, calendars, steps)
    closes = _cut(closes, benchmark, policy, steps)
    filled, states = _fill(closes, policy.max_fill)
    if benchmark is not None:
        _check_benchmark(filled[benchmark], policy)
    assets = [name != benchmark for name in closes.columns]
    _say_states(states[:, assets], [name for name in closes.columns if name != benchmark], closes.index, steps)
    return Cleaned(filled, closes, states[:, assets], removed, tuple(steps))


def _ordered(closes: pd.DataFrame, steps: list[str]) -> pd.DataFrame:
    closes = closes.set_axis(parse_dates(closes.index), axis=0)
    if not closes.index.is_monotonic_increasing:
        steps.append("the rows were not in the order of their dates and were sorted")
        closes = closes.sort_index(kind="stable")
    if closes.index.has_duplicates:
        rows = len(closes)
        whole = closes.reset_index(names="date").drop_duplicates().set_index("date").rename_axis(None)
        if whole.index.has_duplicates:
            date = whole.index[whole.index.duplicated()][0].date()
            raise ValueError(f"There are two rows of different prices for {date}; keep one row a date.")
        steps.append(f"{rows - len(whole)} rows that stood there twice were dropped")
        closes = whole
    return closes.astype(np.float64)


def _without_impossible(closes: pd.DataFrame, steps: list[str]) -> tuple[pd.DataFrame, dict[str, int]]:
    bad = (closes <= 0.0) | np.isinf(closes)
    removed = {str(name): int(count) for name, count in bad.sum().items() if count}
    if removed:
        steps.append(f"zero, negative or infinite prices were taken as missing: {_counts(removed)}")
    return closes.mask(bad), removed


def _aligned(closes: pd.DataFrame, calendars: Sequence[str], steps: list[str]) -> pd.DataFrame:
    if not calendars:
        return closes
    dates = closes.dropna(how="all").index
    if not len(dates):
        return closes
    own, known_from, known_to = sessions(calendars, dates[0], dates[-1])
    within = dates[(dates >= known_from) & (dates <= known_to)]
    extra, absent = within.difference(own), own.difference(within)
    name = " and ".join(calendars)
    if len(extra) > _MISFIT * max(len(within), 1) or len(absent) > _MISFIT * max(len(own), 1):
        steps.append(
            f"the dates are not the sessions of {name} ({len(extra)} of {len(within)} rows are no session, {len(absent)} of "
            f"{len(own)} sessions have no row) and were taken as they are"
        )
        return closes
    if len(extra):
        steps.append(f"{len(extra)} rows on days that are no session of {name} were dropped, first {extra[0].date()}")
    if len(absent):
        steps.append(f"{len(absent)} sessions of {name} have no row and were put in as missing, first {absent[0].date()}")
    return closes.reindex(dates.difference(extra).union(absent))


def _cut(closes: pd.DataFrame, benchmark: str | None, policy: CleaningPolicy, steps: list[str]) -> pd.DataFrame:
    """From the first date with a benchmark and two assets to the last of the benchmark, but for a short gap at the end."""
    assets = closes.drop(columns=benchmark) if benchmark is not None else closes
    if empty := list(closes.columns[closes.isna().all()]):
        raise ValueError(f"There is no price at all of {empty}. Drop them or check the symbols.")
    listed = assets.ffill().notna().sum(axis=1) >= min(2, assets.shape[1])
    first, last = closes.index[listed.to_numpy().argmax()], assets.dropna(how="all").index[-1]
    if benchmark is not None:
        known = closes[benchmark].dropna().index
        first = max(first, known[0])
        end = closes.index.get_loc(known[-1]) + policy.max_fill
        last = min(last, closes.index[min(end, len(closes) - 1)])
    cut = closes.loc[first:last]
    if len(cut) < len(closes):
        steps.append(
            f"{len(closes) - len(cut)} rows in which the benchmark or all but one asset has no price yet, or no price any "
            f"more, were cut off: the history is {first.date()} to {last.date()}"
        )
    return cut


def _fill(closes: pd.DataFrame, max_fill: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Forward fill within the limit, and the state of every cell."""
    known = closes.notna().to_numpy()
    started = np.maximum.accumulate(known, axis=0)
    filled = closes.ffill(limit=max_fill) if max_fill else closes
    last = len(known) - 1 - known[::-1].argmax(axis=0)
    rows = np.arange(len(known))[:, None]
    gone = (rows > last) & (len(known) - 1 - last > max_fill)
    filled = filled.mask(gone)
    states = np.where(known, PRICED, np.where(filled.notna(), FILLED, SUSPENDED))
    return filled, np.where(~started | gone, UNLISTED, states)


def _check_benchmark(levels: pd.Series, policy: CleaningPolicy) -> None:
    if levels.isna().any():
        raise ValueError(
            f"The benchmark '{levels.name}' has no price for more than {policy.max_fill} sessions from "
            f"{levels.index[levels.isna()][0].date()}; choose another, other dates, or a larger --max_fill."
        )


def _say_states(states: np.ndarray, names: list[str], dates: pd.DatetimeIndex, steps: list[str]) -> None:
    texts = {FILLED: "missing prices were filled with the last price", SUSPENDED: "sessions without a price are suspensions"}
    for state, text in texts.items():
        counts = {name: int(count) for name, count in zip(names, (states == state).sum(axis=0), strict=True) if count}
        if counts:
            steps.append(f"{text}: {_counts(counts)}")
    for row, text in ((0, "not listed before"), (-1, "not listed after")):
        for column, name in enumerate(names):
            if states[row, column] == UNLISTED:
                there = np.flatnonzero(states[:, column] != UNLISTED)
                if len(there):
                    steps.append(f"{name} is {text} {dates[there[0 if row == 0 else -1]].date()}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
