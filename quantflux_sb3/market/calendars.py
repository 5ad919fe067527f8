"""Session dates and closes of exchanges, from ``exchange_calendars``."""

from collections.abc import Sequence
from functools import lru_cache

import pandas as pd


def sessions(
    calendars: Sequence[str], first: pd.Timestamp, last: pd.Timestamp
) -> tuple[pd.DatetimeIndex, pd.Timestamp, pd.Timestamp]:
    """
    :param calendars: codes such as ``XNYS``
    :param first: first date
    :param last: last date
    :return: dates on which at least one of the exchanges has a session, without time zone; the first and the last date
        between which all of the calendars are known (their holidays are recorded from some year to some other)
    :raises ValueError: if there is no such calendar
    """
    dates = pd.DatetimeIndex([])
    for code in calendars:
        own, known_from, known_to = _sessions(code, first.year, last.year)
        dates, first, last = dates.union(own), max(first, known_from), min(last, known_to)
    return dates[(dates >= first) & (dates <= last)], first, last


def session_closes(
    calendars: Sequence[str], dates: pd.DatetimeIndex, close: pd.Timedelta | None = None
) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """
    When each row of a market is known: at the first close of its exchanges.

    :param calendars: codes such as ``XTKS``, at least one
    :param dates: of the rows, without time zone (n_days,)
    :param close: local time of day of all closes; by the calendars if not given, on days that they have not the earliest usual
    :return: first close on the clocks of the exchanges, without time zone (n_days,); first close in UTC (n_days,)
    """
    columns = [_closes(code, dates, close) for code in calendars]
    local = pd.concat([column.dt.tz_localize(None) for column in columns], axis=1).min(axis=1)
    instant = pd.concat([column.dt.tz_convert("UTC") for column in columns], axis=1).min(axis=1)
    return pd.DatetimeIndex(local), pd.DatetimeIndex(instant)


def _closes(code: str, dates: pd.DatetimeIndex, close: pd.Timedelta | None) -> pd.Series:
    from exchange_calendars import get_calendar

    own, first, last = _sessions(code, dates[0].year, dates[-1].year)
    calendar = get_calendar(code)
    usual = min(pd.Timedelta(hours=time.hour, minutes=time.minute) for _, time in calendar.close_times)
    zoned = pd.Series((dates + (close or usual)).tz_localize(calendar.tz, nonexistent="shift_forward", ambiguous=True), dates)
    known = dates.intersection(own)
    if close is None and len(known):
        exact = get_calendar(code, start=first, end=last).closes
        zoned[known] = exact[known].dt.tz_convert(calendar.tz)
    return zoned


@lru_cache(maxsize=32)
def _sessions(code: str, first_year: int, last_year: int) -> tuple[pd.DatetimeIndex, pd.Timestamp, pd.Timestamp]:
    from exchange_calendars import errors, get_calendar

    start, end = pd.Timestamp(first_year, 1, 1), pd.Timestamp(last_year, 12, 31)
    try:
        return get_calendar(code, start=start, end=end).sessions, start, end
    except errors.InvalidCalendarName as error:
        raise ValueError(f"There is no exchange calendar '{code}'; expected one of exchange_calendars.") from error
    except ValueError:  # the years reach beyond what it knows
        calendar = get_calendar(code)
        start, end = max(start, calendar.bound_min() or start), min(end, calendar.bound_max() or end)
    if start >= end:
        return pd.DatetimeIndex([]), start, end
    return get_calendar(code, start=start, end=end).sessions, start, end
