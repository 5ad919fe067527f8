"""
Exogenous signals (news sentiment, fundamentals): from dated tables to features that are known at the close of their row.

The one rule: a value that is dated ``d`` becomes known at ``d + lag``; row ``t`` of a feature holds what is known at the close
of session ``t``. A date without a time of day counts as known at that day's close. The closes are those of the market's
exchanges (``MarketData.calendars``); where these are not known it is :data:`CLOSE`, and times with a zone are refused.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from quantflux_sb3.market.calendars import session_closes
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.market.files import read_table
from quantflux_sb3.market.layouts import parse_column
from quantflux_sb3.market.validation import parse_instants

#: Time of day at which a session closes where the exchange is not known: later news belong to the next session.
CLOSE = pd.Timedelta(hours=16)
#: Longest lag [days]: a century.
_LONGEST_LAG = 36_525


def align_signal(
    table: pd.DataFrame, market: MarketData, lag: int | pd.Timedelta = 1, how: str = "last", max_age: int | None = None,
    fill: float = 0.0, close: pd.Timedelta | None = None,
) -> np.ndarray:  # fmt: skip
    """
    A date x ticker table as an exogenous feature of a market.

    :param table: values by date (index, with or without a time of day, which is the exchange's unless it has a zone) and
        ticker (columns); NaN says nothing; tickers that the market does not have are left out
    :param market: whose sessions and assets count
    :param lag: from the date of a value to its publication [calendar days, or a Timedelta]
    :param how: ``last``: each row holds the newest value that is known, for levels such as fundamentals; ``mean``: the mean of
        what became known since the close before, for events such as headlines
    :param max_age: sessions for which a value stands with ``last``; for ever if not given
    :param fill: where nothing is known
    :param close: local time of day of the close; that of each session of the market's exchanges if not given
    :return: feature (n_days, n_assets), row ``t`` known at the close of ``market.dates[t]``
    :raises ValueError: if no asset of the market is in the table, or the settings make no sense
    """
    if how not in ("last", "mean"):
        raise ValueError(f"`how` must be 'last' or 'mean'; got '{how}'.")
    delay = lag if isinstance(lag, pd.Timedelta) else pd.Timedelta(days=min(lag, _LONGEST_LAG + 1))
    if delay > pd.Timedelta(days=_LONGEST_LAG):
        raise ValueError(f"`lag` must be at most {_LONGEST_LAG} days; got {lag}.")
    if delay < pd.Timedelta(0):
        raise ValueError(f"`lag` must not be negative, or a value would be known before its date; got {lag}.")
    if (max_age is not None and max_age < 1) or not np.isfinite(fill):
        raise ValueError(f"`max_age` must be >= 1 and `fill` finite; got {max_age} and {fill}.")
    if not set(market.assets) & set(map(str, table.columns)):
        raise ValueError(
            f"The signal has none of the assets {list(market.assets)}; its columns are {list(table.columns)[:8]}."
        )
    table = table.set_axis(parse_instants(table.index), axis=0).sort_index(kind="stable")
    rows = first_row_known(table.index, market, delay, close)
    daily = table.set_axis(map(str, table.columns), axis=1).reindex(columns=list(market.assets)).astype(np.float64)
    daily = daily.replace([np.inf, -np.inf], np.nan).set_axis(rows, axis=0)
    daily = daily[daily.index < market.n_days]  # the others become known after the last row
    grouped = daily.groupby(level=0).mean() if how == "mean" else daily.groupby(level=0).last()
    known = grouped.reindex(range(market.n_days))
    if how == "last" and max_age != 1:
        known = known.ffill(limit=None if max_age is None else max_age - 1)
    return known.fillna(fill).to_numpy()


def first_row_known(
    stamps: pd.DatetimeIndex, market: MarketData, delay: pd.Timedelta, close: pd.Timedelta | None = None
) -> np.ndarray:
    """
    :param stamps: dates or times of values: the exchange's, or in any zone
    :param market: whose sessions count
    :param delay: from the date to the publication
    :param close: local time of day of the close; that of each session if not given
    :return: first row of the market whose close is not before the publication (n,); ``n_days`` if none is
    :raises ValueError: if the stamps have a zone and the exchange of the market is not known
    """
    if market.calendars:
        local, instants = session_closes(market.calendars, pd.DatetimeIndex(market.dates), close)
        closes = local if stamps.tz is None else instants
    elif stamps.tz is None:
        closes = pd.DatetimeIndex(market.dates) + (CLOSE if close is None else close)
    else:
        raise ValueError(
            f"The times of the signal have a zone, such as {stamps[0]}, and the exchange of the market is not known. Give "
            "times of the exchange without a zone, or name it (--region; MarketData: `calendars`)."
        )
    return closes.as_unit("ns").searchsorted((stamps + delay).as_unit("ns"), side="left")


def add_signals(
    market: MarketData, signals: Mapping[str, pd.DataFrame], lag: int | pd.Timedelta = 1, **kwargs: object
) -> MarketData:
    """
    :param market: the market
    :param signals: date x ticker tables by name
    :param lag: from the date of a value to its publication [calendar days, or a Timedelta]
    :param kwargs: of :func:`align_signal`
    :return: the market with these exogenous features, which the observation then holds
    """
    aligned = {name: align_signal(table, market, lag, **kwargs) for name, table in signals.items()}
    return replace(market, asset_features={**market.asset_features, **aligned})


def add_signals_file(market: MarketData, path: str | Path, lag: int = 1) -> MarketData:
    """
    :param market: the market
    :param path: CSV or Parquet file with the columns date, ticker, and one per signal
    :param lag: days from the date of a value to its publication
    :raises ValueError: if it is no such table
    """
    try:
        return add_signals(market, read_signals(read_table(path, "signals")), lag)
    except ValueError as error:
        raise ValueError(f"The signals of '{path}' cannot be used: {error}") from error


def read_signals(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """
    :param table: columns date, ticker, and one per signal
    :return: date x ticker tables by the name of the signal
    """
    lower = {str(name).strip().lower(): name for name in table.columns}
    if not {"date", "ticker"} <= set(lower) or len(lower) < 3:
        raise ValueError(f"expected the columns date, ticker and at least one signal; got {list(table.columns)}.")
    stamps = parse_instants(table[lower["date"]])
    tickers = table[lower["ticker"]].astype(str).str.strip()
    if pd.MultiIndex.from_arrays([stamps, tickers]).has_duplicates:
        raise ValueError("there are two rows for one date and ticker; keep one.")
    values = {
        str(name): pd.Series(parse_column(table[name]), index=[stamps, tickers]).unstack()
        for key, name in lower.items()
        if key not in ("date", "ticker")
    }
    return {name: frame.rename_axis(index=None, columns=None) for name, frame in values.items()}
