"""
Prices from Yahoo Finance, by yfinance: one batched request, explicit adjustment, patience with rate limits.

Closes and adjusted closes are asked for side by side (``auto_adjust=False``), whatever yfinance's defaults are this year, so
that prices which Yahoo has not adjusted are noticed. Either every symbol comes back with prices, or one line says why not.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from time import sleep
from typing import Any

import pandas as pd

from quantflux_sb3.market.request import DataRequest, FetchedPrices, NoPricesError, as_date

#: Seconds after which one request is given up.
TIMEOUT = 20.0
#: Attempts, and seconds before the second one; each further pause is twice as long.
ATTEMPTS, PAUSE = 5, 3.0
_OFFLINE_HINT = "Without a network use --offline with cached or bundled tickers, or --prices FILE."
_RATE_LIMIT = ("ratelimit", "rate limit", "too many requests", "429")
_NETWORK = (
    "timeout", "timed out", "connection", "curl:", "resolve", "connect", "chunked", "jsondecode", "currently down", "ssl",
    "httperror", "http error", "expecting value", "dnserror", "proxy",
)  # fmt: skip


class YahooSource:
    """
    :param timeout: of one request [s]
    :param attempts: how often symbols that a limit or the network kept back are asked for
    :param pause: before the second attempt; doubles with each [s]
    """

    name = "yahoo"
    remote = True

    def __init__(self, timeout: float | None = None, attempts: int | None = None, pause: float | None = None):
        self.timeout = TIMEOUT if timeout is None else timeout
        self.attempts = ATTEMPTS if attempts is None else attempts
        self.pause = PAUSE if pause is None else pause

    def fetch(self, request: DataRequest) -> FetchedPrices:
        if not request.tickers:
            raise ValueError("Yahoo Finance needs the symbols of the assets; give --tickers.")
        if blanks := [symbol for symbol in request.symbols if not re.fullmatch(r"\S+", symbol)]:
            raise ValueError(f"A symbol of Yahoo Finance must be a word without blanks; got '{blanks[0]}'.")
        parts: list[pd.DataFrame] = []
        left, reasons = [symbol.upper() for symbol in request.symbols], {}
        for attempt in range(self.attempts):
            if attempt:
                sleep(self.pause * 2 ** (attempt - 1))
            table, reasons = self._download(left, request)
            parts.append(table)
            left = [symbol for symbol in left if not _has_prices(table, symbol)]
            if not any(_is_transient(reasons.get(symbol, "")) for symbol in left):
                break
        if left:
            raise _refusal(left, reasons, request, attempt + 1)
        return _closes(_together(parts), request)

    def _download(self, symbols: Sequence[str], request: DataRequest) -> tuple[pd.DataFrame, dict[str, str]]:
        """One batched request: a table with a level of fields and one of symbols, and what was wrong by symbol."""
        import yfinance

        _forget_answers()
        end = str((as_date(request.end) + timedelta(days=1)).date()) if request.end else None  # which yfinance excludes
        span: dict[str, Any] = {"start": request.start or "1900-01-01", "end": end}
        with _overheard() as messages:
            try:
                table = yfinance.download(
                    list(symbols), **span, interval="1d", auto_adjust=False, back_adjust=False, actions=True, repair=False,
                    group_by="column", ignore_tz=True, multi_level_index=True, progress=False, timeout=self.timeout,
                )  # fmt: skip
            except Exception as error:  # whatever curl, JSON or pandas made of the answer
                return pd.DataFrame(), dict.fromkeys(symbols, f"{type(error).__name__}: {error}")
        return field_first(table, symbols), {symbol: _reason(symbol, messages) for symbol in symbols}


def field_first(table: pd.DataFrame | None, symbols: Sequence[str]) -> pd.DataFrame:
    """
    The table of any version of yfinance: fields above symbols, symbols above fields, or one symbol without a level.

    :param table: what ``yfinance.download`` returned
    :param symbols: that it was asked for
    :return: columns (field, symbol)
    """
    if table is None or not len(table):
        return pd.DataFrame()
    if not isinstance(table.columns, pd.MultiIndex):
        return table.set_axis(pd.MultiIndex.from_product([table.columns, symbols[:1]]), axis=1)
    if "Close" in table.columns.get_level_values(1):
        table = table.swaplevel(axis=1)
    return table


def _has_prices(table: pd.DataFrame, symbol: str) -> bool:
    return ("Close", symbol) in table.columns and bool(table["Close", symbol].notna().any())


def _together(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables of several attempts side by side, of each symbol the columns that hold its prices."""
    kept = [part.loc[:, [_has_prices(part, name) for name in part.columns.get_level_values(1)]] for part in parts if len(part)]
    return pd.concat(kept, axis=1).sort_index()


def _closes(table: pd.DataFrame, request: DataRequest) -> FetchedPrices:
    table = table.set_axis(pd.DatetimeIndex(table.index).tz_localize(None).normalize(), axis=0)
    symbols = [symbol.upper() for symbol in request.symbols]
    field = "Close" if request.adjust == "splits" or "Adj Close" not in table else "Adj Close"
    closes = (
        table[field].reindex(columns=symbols).set_axis(list(request.symbols), axis=1).rename_axis(index=None, columns=None)
    )
    notes: tuple[str, ...] = ()
    if field == "Adj Close" and (unadjusted := [s for s in symbols if _is_unadjusted(table, s)]):
        raise ValueError(
            f"Yahoo Finance names dividends of {unadjusted} and gives prices that are not adjusted for them. Ask for prices "
            "without dividends (--adjust splits), or try again later."
        )
    if "Adj Close" not in table:
        notes = ("Yahoo Finance gave no adjusted closes; these are adjusted for splits only.",)
    return FetchedPrices(closes.astype(float), "Yahoo Finance", "dividends" if field == "Adj Close" else "splits", notes)


def _is_unadjusted(table: pd.DataFrame, symbol: str) -> bool:
    """Dividends were paid after the first price, and closes and adjusted closes are the same."""
    if ("Dividends", symbol) not in table.columns or ("Adj Close", symbol) not in table.columns:
        return False
    prices = table.xs(symbol, axis=1, level=1).dropna(subset=["Close"])
    paid = (prices["Dividends"].iloc[1:] > 0.0).any()
    return bool(paid and (prices["Close"] == prices["Adj Close"]).all())


def _reason(symbol: str, messages: Sequence[str]) -> str:
    """yfinance's messages are ``['A', 'B']: text``; what stands before the text may look like anything."""
    for message in messages:
        names, colon, text = message.partition("]: ")
        if colon and f"'{symbol}'" in names:
            return text
    return ""


def _is_transient(reason: str) -> bool:
    return any(word in reason.lower() for word in (*_RATE_LIMIT, *_NETWORK))


def _refusal(left: Sequence[str], reasons: dict[str, str], request: DataRequest, attempts: int) -> ValueError:
    texts = [reasons.get(symbol, "").lower() for symbol in left]
    if any(word in text for text in texts for word in _RATE_LIMIT):
        return ValueError(
            f"Yahoo Finance refused {attempts} attempts with 'too many requests' (HTTP 429) for {list(left)}. "
            f"Wait some minutes before the next. {_OFFLINE_HINT}"
        )
    if any(map(_is_transient, texts)):
        reason = next(reasons[symbol] for symbol in left if _is_transient(reasons[symbol]))
        return ValueError(
            f"Yahoo Finance could not be reached in {attempts} attempts for {list(left)} ({_short(reason)}). {_OFFLINE_HINT}"
        )
    rest = len(request.symbols) - len(left)
    return NoPricesError(
        f"Yahoo Finance has no prices of {list(left)} from {request.start or 'any date'} to {request.end or 'today'}"
        + (f"; it has those of the other {rest}" if rest else "")
        + ". Check the symbols (a share outside the US needs its suffix, such as SAP.DE) and the dates."
    )


def _short(reason: str, longest: int = 160) -> str:
    """One line of a message that may be that of several libraries."""
    text = " ".join(reason.split())
    return text if len(text) <= longest else f"{text[:longest]}..."


def _forget_answers() -> None:
    """yfinance keeps what the server answered for past dates in memory, errors too; a retry must ask again."""
    from yfinance.data import YfData

    clear: Callable[[], None] | None = getattr(YfData.cache_get, "cache_clear", None)
    if clear is not None:
        clear()


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """yfinance tells what was wrong with a symbol in its log alone: collect that, and keep it off the terminal."""
    import yfinance

    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    log, collector = logging.getLogger("yfinance"), Collector(logging.ERROR)
    handlers, propagate = log.handlers[:], log.propagate
    hidden, yfinance.config.debug.hide_exceptions = yfinance.config.debug.hide_exceptions, False  # or all are "delisted"
    log.handlers, log.propagate = [collector], False
    try:
        yield messages
    finally:
        log.handlers, log.propagate = handlers, propagate
        yfinance.config.debug.hide_exceptions = hidden
