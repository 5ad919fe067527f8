"""
A local HTTP server that speaks Yahoo's chart protocol, in the shapes that yfinance parses, and a way to point the real
yfinance at it: every request of its curl session goes to this server, whatever host it names.

Run as a script it points yfinance at a port and runs the command line: ``python yahoo_server.py PORT run --tickers ...``
"""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd

ZONES = {".DE": ("Europe/Berlin", "EUR"), ".NS": ("Asia/Kolkata", "INR"), "": ("America/New_York", "USD")}


def make_history(symbol: str, first: str = "2009-06-01", last: str = "2025-01-31") -> pd.DataFrame:
    """Closes, adjusted closes, dividends and splits of a share on business days, the same for the same symbol."""
    dates = pd.bdate_range(first, last)
    rng = np.random.default_rng(list(symbol.encode()))
    common = np.random.default_rng(7).normal(0.0003, 0.008, len(dates))
    own = rng.normal(0.0001, 0.011, len(dates)) * (not symbol.startswith("^"))
    history = pd.DataFrame({"close": 50.0 * np.exp(np.cumsum(common + own))}, index=dates)
    history["dividend"] = 0.0
    if not symbol.startswith("^"):
        history.iloc[30::63, 1] = 0.005 * history["close"].iloc[30::63]
    history["split"] = 0.0
    return adjust(history)


def adjust(history: pd.DataFrame) -> pd.DataFrame:
    """Adjusted closes as Yahoo makes them: earlier prices times (1 - dividend / close before)."""
    factors = 1.0 - history["dividend"] / history["close"].shift(1)
    later = factors.fillna(1.0)[::-1].cumprod()[::-1].shift(-1, fill_value=1.0)
    return history.assign(adjclose=history["close"] * later)


class YahooServer:
    """
    :param histories: by symbol; symbols that are not there get :func:`make_history`, those of ``unknown`` an error
    """

    def __init__(self):
        self.histories: dict[str, pd.DataFrame] = {}
        self.unknown: set[str] = set()
        self.faults: list[str] = []  # of the next answers about prices, one each
        self.always = ""  # the fault of every answer after these
        self.with_adjclose = True
        self.strict = False  # whether faults begin with the first question, that for the time zone
        self.asked: list[tuple[str, dict]] = []
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.http.server_address[1]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def history(self, symbol: str) -> pd.DataFrame:
        if symbol not in self.histories:
            self.histories[symbol] = make_history(symbol)
        return self.histories[symbol]

    def next_fault(self) -> str:
        with self.lock:
            return self.faults.pop(0) if self.faults else self.always

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                if url.path.startswith("/v8/finance/chart/"):
                    return server.answer_chart(self, url.path.rsplit("/", 1)[1].replace("%5E", "^"), query)
                if url.path == "/v1/test/getcrumb":
                    return send(self, 200, b"crumb")
                if url.path.startswith("/v10/") or url.path.startswith("/v7/"):
                    return send(self, 404, json.dumps({"quoteSummary": {"result": None, "error": NOT_FOUND}}).encode())
                return send(self, 200, b"<html></html>")

        return Handler

    def answer_chart(self, handler, symbol: str, query: dict) -> None:
        if "period1" not in query and not self.strict:  # the question for the time zone that comes first
            if symbol in self.unknown:
                return send(handler, 404, chart(None, NOT_FOUND))
            return send(handler, 200, chart(result(symbol, self.history(symbol).tail(1), True)))
        self.asked.append((symbol, query))
        fault = self.next_fault()
        if fault == "429":
            return send(handler, 429, b"Too Many Requests\r\n")
        if fault == "500":
            return send(handler, 500, b"<html>Internal Server Error</html>")
        if fault == "hang":
            time.sleep(2.0)
            return None
        if symbol in self.unknown or fault == "unknown":
            return send(handler, 404, chart(None, NOT_FOUND))
        if "period1" not in query:
            return send(handler, 200, chart(result(symbol, self.history(symbol).tail(1), True)))
        span = self.history(symbol)
        seconds = span.index.tz_localize(zone_of(symbol)[0]).astype("int64") // 10**9
        span = span[(seconds >= int(query["period1"])) & (seconds < int(query["period2"]))]
        body = chart(result(symbol, span.iloc[:0] if fault == "empty" else span, self.with_adjclose))
        if fault == "cut":
            return send(handler, 200, body, length=len(body), part=body[: len(body) // 2])
        return send(handler, 200, body)


NOT_FOUND = {"code": "Not Found", "description": "No data found, symbol may be delisted"}


def chart(answer: dict | None, error: dict | None = None) -> bytes:
    return json.dumps({"chart": {"result": None if answer is None else [answer], "error": error}}).encode()


def zone_of(symbol: str) -> tuple[str, str]:
    return next(zone for suffix, zone in ZONES.items() if symbol.endswith(suffix))


def result(symbol: str, history: pd.DataFrame, with_adjclose: bool) -> dict:
    """One element of ``chart.result``; a session is stamped with its opening."""
    zone, currency = zone_of(symbol)
    stamps = ((history.index + pd.Timedelta(hours=9, minutes=30)).tz_localize(zone).astype("int64") // 10**9).tolist()
    kind = "INDEX" if symbol.startswith("^") else "EQUITY"
    answer = {
        "meta": {
            "currency": currency, "symbol": symbol, "exchangeName": "NMS", "instrumentType": kind, "gmtoffset": -18000,
            "timezone": "EST", "exchangeTimezoneName": zone, "regularMarketPrice": 1.0, "regularMarketTime": 1735000000,
            "chartPreviousClose": 1.0, "priceHint": 2, "dataGranularity": "1d", "range": "",
            "currentTradingPeriod": {
                name: {"timezone": "EST", "start": 1735000000, "end": 1735020000, "gmtoffset": -18000}
                for name in ("pre", "regular", "post")
            },
            "validRanges": ["1d", "5d", "1mo", "1y", "max"],
        }
    }  # fmt: skip
    if not len(history):
        return {**answer, "indicators": {"quote": [{}]}}
    close = [None if np.isnan(value) else value for value in history["close"]]
    volume = [None if value is None else 1000 for value in close]
    answer["timestamp"] = stamps
    answer["indicators"] = {"quote": [{"open": close, "high": close, "low": close, "close": close, "volume": volume}]}
    if with_adjclose:
        adjusted = [None if np.isnan(value) else value for value in history["adjclose"]]
        answer["indicators"]["adjclose"] = [{"adjclose": adjusted}]
    events = {
        "dividends": {
            str(s): {"amount": float(d), "date": s} for s, d in zip(stamps, history["dividend"], strict=True) if d > 0
        },
        "splits": {
            str(s): {"date": s, "numerator": float(r), "denominator": 1.0, "splitRatio": f"{r:g}:1"}
            for s, r in zip(stamps, history["split"], strict=True) if r > 0
        },
    }  # fmt: skip
    if any(events.values()):
        answer["events"] = {name: values for name, values in events.items() if values}
    return answer


def send(handler, status: int, body: bytes, length: int | None = None, part: bytes | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body if part is None else part)
    if part is not None:
        handler.close_connection = True


@contextmanager
def yfinance_at(port: int, folder: str):
    """
    Every request of yfinance goes to this port of this machine, and its own cache is in this folder.

    :param port: of a :class:`YahooServer`
    :param folder: for yfinance's cache of time zones
    """
    import curl_cffi.requests
    import yfinance
    from yfinance.data import SingletonMeta

    real = curl_cffi.requests.Session

    class LocalSession(real):
        def request(self, method, url, *args, **kwargs):
            parts = urlsplit(url)
            return super().request(method, parts._replace(scheme="http", netloc=f"127.0.0.1:{port}").geturl(), *args, **kwargs)

    SingletonMeta._instances.clear()  # it holds a session
    curl_cffi.requests.Session = LocalSession
    yfinance.set_tz_cache_location(folder)
    try:
        yield
    finally:
        curl_cffi.requests.Session = real
        SingletonMeta._instances.clear()


if __name__ == "__main__":
    import sys
    import tempfile

    from quantflux_sb3.cli import main

    with tempfile.TemporaryDirectory() as scratch, yfinance_at(int(sys.argv[1]), scratch):
        sys.exit(main(sys.argv[2:]))
