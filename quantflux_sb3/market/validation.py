"""Checks of price tables. Each refuses, and says what came, where, and what to do; none repairs."""

import numpy as np
import pandas as pd
from pandas.api.types import is_complex_dtype, is_numeric_dtype

#: Rows a year of markets that are closed at weekends, and of those that never are.
SESSIONS_A_YEAR, DAYS_A_YEAR = 252, 365
#: Fewer gaps between rows tell nothing of their spacing; a shorter span [days] nothing of the rows a year.
_FEWEST_GAPS, _SHORTEST_SPAN = 10, 180


def check_price_frame(prices: pd.DataFrame, allow_missing: bool = False) -> pd.DataFrame:
    """
    :param prices: adjusted closes, dates x tickers
    :param allow_missing: whether prices may be missing (but not a whole asset's)
    :return: the same prices as float64 with a daily, time-zone-free index
    :raises TypeError: if it is no DataFrame
    :raises ValueError: if dates or prices are not clean
    """
    if not isinstance(prices, pd.DataFrame):
        raise TypeError(f"`prices` must be a pandas DataFrame (dates x tickers); got {type(prices).__name__}.")
    if prices.shape[1] < 2:
        raise ValueError(f"`prices` needs at least 2 columns of assets; got {list(prices.columns)}.")
    if len(prices) < 2:
        raise ValueError(f"`prices` needs at least 2 dates; got {len(prices)}.")
    if prices.columns.has_duplicates:
        raise ValueError(f"`prices` has duplicate columns: {sorted(set(prices.columns[prices.columns.duplicated()]))}.")
    prices = prices.set_axis(check_dates(prices.index), axis=0)
    for column in prices.columns:
        _check_numeric(prices[column])
    prices = prices.astype(np.float64)
    if allow_missing and prices.isna().all().any():
        raise ValueError(f"`prices` has no price at all of {list(prices.columns[prices.isna().all()])}. Drop them.")
    known = prices.ffill().bfill() if allow_missing else prices  # for the checks only
    _check_levels(known.to_numpy(), prices.index, [str(column) for column in prices.columns])
    prices = prices.rename(columns=str)
    if prices.columns.has_duplicates:
        repeated = sorted(set(prices.columns[prices.columns.duplicated()]))
        raise ValueError(f"`prices` has columns that differ only in their type: {repeated}. Give each asset its own name.")
    return prices


def returns_and_status(prices: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """
    Simple returns, and whether each asset trades. Over a gap the return is 0 and the whole move comes at its end.

    :param prices: checked prices (n_days + 1, n_assets), NaN where there is none
    :return: returns (n_days, n_assets); status (n_days, n_assets): 1 trades, 0 suspended, -1 not listed (yet, or any more)
    """
    known = prices.notna().to_numpy()
    listed = np.maximum.accumulate(known, axis=0) & np.maximum.accumulate(known[::-1], axis=0)[::-1]
    levels = prices.ffill().to_numpy()
    with np.errstate(invalid="ignore"):
        returns = np.where(listed[1:] & listed[:-1], levels[1:] / levels[:-1] - 1.0, 0.0)
    return returns, np.where(listed, np.where(known, 1, 0), -1)[1:]


def check_price_series(prices: pd.Series, index: pd.DatetimeIndex) -> np.ndarray:
    """
    :param prices: benchmark prices
    :param index: the dates that they must have
    :return: prices (n_days,) on those dates
    :raises ValueError: if a date is missing or a price is not clean
    """
    prices = prices.set_axis(check_dates(prices.index))
    missing = index.difference(prices.index)
    if len(missing):
        raise ValueError(
            f"The benchmark '{prices.name}' has no price on {len(missing)} dates of the assets, first {missing[0].date()}. "
            "Drop those dates from the assets or complete the benchmark."
        )
    levels = prices.reindex(index).to_numpy(dtype=np.float64)
    _check_levels(levels[:, None], index, [str(prices.name)])
    return levels


def check_dates(index: pd.Index) -> pd.DatetimeIndex:
    """
    :param index: what stands in the date column
    :return: normalised, time-zone-free dates
    :raises ValueError: if they are no dates, not ascending, or duplicate
    """
    index = parse_dates(index)
    if index.has_duplicates:
        repeated = index[index.duplicated()]
        raise ValueError(f"The prices have {len(repeated)} duplicate dates, first {repeated[0].date()}. Keep one row a date.")
    if not index.is_monotonic_increasing:
        row = int(np.argmax(np.diff(index.to_numpy()).astype(np.int64) < 0)) + 1
        raise ValueError(
            f"The dates of the prices are not ascending: {index[row].date()} follows {index[row - 1].date()}. Sort them."
        )
    return index


def parse_dates(index: pd.Index) -> pd.DatetimeIndex:
    """
    :param index: what stands in the date column; of times with a zone the local day counts
    :return: normalised, time-zone-free dates, in the same order
    :raises ValueError: if they are no dates
    """
    if not isinstance(index, pd.DatetimeIndex) and is_numeric_dtype(index):
        raise ValueError(f"The index of the prices must hold dates; got numbers such as {index[0]!r}.")
    return parse_stamps(index, "The index of the prices").normalize()


def check_session_dates(index: pd.Index, times: bool = False) -> None:
    """
    Refuse times from which the date of the session cannot be told: midnight in Tokyo is the day before in UTC.

    :param index: what stands in the date column of prices
    :param times: whether local times of day are fine, of which the date counts; those in UTC never are, but for midnight
    :raises ValueError: if they are no dates, or have a time of day
    """
    days, stamps = parse_dates(index), parse_stamps(index)
    late = days.to_numpy() != stamps.to_numpy()
    if not late.any() or (times and not _all_utc(index)):
        return
    raise ValueError(
        f"the dates have a time of day, first {index[int(np.argmax(late))]}; expected the date of each session. Convert "
        "times to the exchange's time zone and keep the date (pandas: `index.tz_convert(zone).tz_localize(None).normalize()`)."
    )


def parse_instants(values: pd.Index | pd.Series, what: str = "The date column") -> pd.DatetimeIndex:
    """
    :param values: dates or times, ISO, all with a time zone or all without
    :param what: they are, for the error
    :return: times in UTC if they have a zone, else time-zone-free
    :raises ValueError: if one is missing or no date, or some have a zone and others have none
    """
    local = parse_stamps(values, what)
    if pd.api.types.is_datetime64_any_dtype(values):
        index = pd.DatetimeIndex(values)
        return local if index.tz is None else index.tz_convert("UTC")
    text = pd.Series(values, dtype=object).astype(str).str.strip()
    zoned = text.str.contains(_OFFSET, regex=True).to_numpy(dtype=bool)
    if not zoned.any():
        return local
    if not zoned.all():
        raise ValueError(
            f"{what} has times with a zone and times without, such as {text[~zoned].iloc[0]!r}; give all of one kind."
        )
    return pd.DatetimeIndex(pd.to_datetime(text, format="ISO8601", utc=True))


def parse_stamps(values: pd.Index | pd.Series, what: str = "The date column") -> pd.DatetimeIndex:
    """
    :param values: dates or times, ISO; of times with a zone the local time counts
    :param what: they are, for the error
    :return: the same as time-zone-free times
    :raises ValueError: if one is missing or no date
    """
    index = pd.DatetimeIndex(values) if pd.api.types.is_datetime64_any_dtype(values) else None
    if index is None:
        local = pd.Series(values, dtype=object).astype(str).str.strip().str.replace(_OFFSET, "", regex=True)
        bad = ~local.str.fullmatch(_ISO_DATE).to_numpy(dtype=bool)
        if bad.any():
            raise ValueError(f"{what} must hold ISO dates such as 2012-12-31; got {local[bad].iloc[0]!r}.")
        try:
            index = pd.DatetimeIndex(pd.to_datetime(local, format="ISO8601"))
        except ValueError as error:
            reason = str(error).partition(",")[0].splitlines()[0]
            raise ValueError(f"{what} has a date that there is not: {reason}.") from error
    if index.hasnans:
        raise ValueError(f"{what} has an empty date. Drop that row.")
    return index.tz_localize(None) if index.tz is not None else index


def rows_per_year(dates: np.ndarray) -> int:
    """
    By how many rows a year daily returns are annualised: 252 for sessions of exchanges, 365 where every day is one.

    :param dates: ascending dates (n_days,)
    :raises ValueError: if they are not those of daily prices
    """
    days = pd.DatetimeIndex(dates)
    gaps = np.diff(days.to_numpy().astype("datetime64[D]")).astype(int)
    if len(gaps) < _FEWEST_GAPS:
        return SESSIONS_A_YEAR
    if (gap := float(np.median(gaps))) > 1.0:
        raise ValueError(
            f"The rows of the prices are {gap:g} days apart (median); expected daily prices, one row per session. "
            "Give daily closes: weekly or monthly ones would be annualised as if they were daily."
        )
    every_day = min((days.dayofweek == 5).mean(), (days.dayofweek == 6).mean()) > 0.1
    low, high = (330.0, 366.0) if every_day else (200.0, 270.0)
    rate = len(gaps) / gaps.sum() * 365.25
    if gaps.sum() >= _SHORTEST_SPAN and not low <= rate <= high:
        raise ValueError(
            f"The prices have {rate:.0f} rows a year from {days[0].date()} to {days[-1].date()}; expected daily prices, "
            f"that is {low:.0f} to {high:.0f}. Give one row per session without long gaps, or choose dates that have no gap."
        )
    return DAYS_A_YEAR if every_day else SESSIONS_A_YEAR


def _all_utc(index: pd.Index) -> bool:
    """Whether the times have a zone and it is UTC throughout."""
    if isinstance(index, pd.DatetimeIndex):
        return index.tz is not None and all(stamp.utcoffset() == pd.Timedelta(0) for stamp in index)
    return bool(pd.Series(index, dtype=object).astype(str).str.strip().str.contains(_UTC, regex=True).all())


_OFFSET = r"(?<=:\d\d)(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)$"
_UTC = r"(?<=:\d\d)(?:\.\d+)?(?:Z|[+-]00:?00)$"
_ISO_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?"


def _check_numeric(prices: pd.Series) -> None:
    if is_complex_dtype(prices):
        raise ValueError(f"`prices` column '{prices.name}' is not numeric: it holds complex numbers.")
    if is_numeric_dtype(prices) and prices.dtype != bool:
        return
    text = prices.notna() & pd.to_numeric(prices.astype(str), errors="coerce").isna()
    where = f"{prices[text].iloc[0]!r} on {prices.index[text][0].date()}" if text.any() else f"numbers kept as {prices.dtype}"
    raise ValueError(f"`prices` column '{prices.name}' is not numeric: found {where}. Give numbers with a decimal point.")


def _check_levels(values: np.ndarray, index: pd.DatetimeIndex, names: list[str]) -> None:
    for problem, bad in (
        ("NaN", np.isnan(values)),
        ("infinite prices", np.isinf(values)),
        ("zero or negative prices", values <= 0),
    ):
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(
                f"`prices` has {problem} at {int(bad.any(axis=1).sum())} dates, first {index[row].date()} "
                f"(asset '{names[column]}'). Drop or fill them before building MarketData."
            )
