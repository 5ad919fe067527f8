"""What a source of prices is asked for, what it gives, and the one method that every source has."""

import re
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from quantflux_sb3.market.data import PRICE, TOTAL_RETURN, UNKNOWN_KIND

#: How prices may be adjusted, and what returns of such prices contain.
ADJUSTMENTS = {"dividends": TOTAL_RETURN, "splits": PRICE, "unknown": UNKNOWN_KIND}


@dataclass(frozen=True)
class DataRequest:
    """
    :param tickers: symbols of the assets
    :param benchmark: symbol of the index; None: equal weight of the assets
    :param start: first date, included (ISO); None: as early as there are prices
    :param end: last date, included (ISO); None: as late as there are prices
    :param adjust: ``dividends``: prices adjusted for splits and dividends, whose returns are total returns; ``splits``:
        for splits only
    """

    tickers: tuple[str, ...]
    benchmark: str | None = None
    start: str | None = None
    end: str | None = None
    adjust: str = "dividends"

    def __post_init__(self) -> None:
        if isinstance(self.tickers, str):
            raise TypeError(f"`tickers` must be a list of symbols; got the text '{self.tickers}'.")
        tickers = tuple(self.tickers)
        object.__setattr__(self, "tickers", tickers)
        if len(set(tickers)) < len(tickers):
            raise ValueError(f"`tickers` has duplicates: {sorted({name for name in tickers if tickers.count(name) > 1})}.")
        for name in self.symbols:
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"A symbol must be a text that is not empty; got {name!r}.")
        if self.adjust not in ("dividends", "splits"):
            raise ValueError(f"`adjust` must be 'dividends' or 'splits'; got '{self.adjust}'.")
        start, end = (as_date(text) if text is not None else None for text in (self.start, self.end))
        if start is not None and end is not None and start >= end:
            raise ValueError(f"The first date {self.start} must lie before the last date {self.end}.")

    @property
    def symbols(self) -> tuple[str, ...]:
        """Everything whose prices are needed, the benchmark last."""
        return tuple(dict.fromkeys([*self.tickers, *([self.benchmark] if self.benchmark else [])]))


@dataclass(frozen=True)
class FetchedPrices:
    """
    :param closes: closing prices, dates x symbols, NaN where there is none
    :param source: where they came from, for people
    :param adjusted: how they are adjusted, a key of ``ADJUSTMENTS``
    :param notes: what happened on the way and a reader must know, one sentence each
    """

    closes: pd.DataFrame
    source: str
    adjusted: str = "unknown"
    notes: tuple[str, ...] = ()


class NoPricesError(ValueError):
    """A source answered, and has no prices of some symbols in the dates asked for."""


class Source(Protocol):
    """
    Where prices come from. Others are found by the entry-point group ``quantflux_sb3.sources``.

    ``remote``: whether it needs a network, so that its answers are kept in the cache and it is never asked with ``--offline``.
    """

    name: str
    remote: bool

    def fetch(self, request: DataRequest) -> FetchedPrices:
        """
        :param request: what is wanted
        :return: the closing prices of all symbols of the request
        :raises ValueError: if not all of them can be had, in one line
        """
        ...


def as_date(text: str) -> pd.Timestamp:
    """
    :param text: ISO date
    :raises ValueError: if it is none
    """
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", str(text)):
            return pd.Timestamp(str(text))
        raise ValueError("not ISO")
    except ValueError as error:
        raise ValueError(f"'{text}' is no date; expected ISO, such as 2012-12-31.") from error
