"""Session dates of exchanges, from ``exchange_calendars``."""

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
