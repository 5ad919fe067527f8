"""
Market regions: benchmark, currency, ticker suffixes and typical trading costs of each, and how one is recognised.

Nothing here touches the network. The order of evidence: ticker suffixes, then the benchmark, then the default (US).
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """
    :param name: short name, as given to ``--region``
    :param benchmark: Yahoo symbol of the usual large-cap index
    :param currency: ISO 4217 code
    :param suffixes: endings of Yahoo tickers listed there; empty for the US
    :param cost: typical one-way cost of a large-cap trade [fraction of traded value; 0.0005 = 5 bp]
    """

    name: str
    benchmark: str
    currency: str
    suffixes: tuple[str, ...]
    cost: float


REGIONS = {
    region.name: region
    for region in (
        Region("US", "^GSPC", "USD", (), 0.0005),
        Region("India", "^NSEI", "INR", (".NS", ".BO"), 0.0008),
        Region("UK", "^FTSE", "GBP", (".L",), 0.0006),
        Region("Eurozone", "^STOXX50E", "EUR", (".MI", ".MC", ".BR", ".LS", ".HE", ".VI", ".IR"), 0.0006),
        Region("Germany", "^GDAXI", "EUR", (".DE", ".F"), 0.0006),
        Region("France", "^FCHI", "EUR", (".PA",), 0.0006),
        Region("Netherlands", "^AEX", "EUR", (".AS",), 0.0006),
        Region("Switzerland", "^SSMI", "CHF", (".SW",), 0.0008),
        Region("Japan", "^N225", "JPY", (".T",), 0.0004),
        Region("Hong Kong", "^HSI", "HKD", (".HK",), 0.0008),
        Region("Australia", "^AXJO", "AUD", (".AX",), 0.0008),
        Region("Canada", "^GSPTSE", "CAD", (".TO", ".V"), 0.0008),
        Region("Brazil", "^BVSP", "BRL", (".SA",), 0.0008),
        Region("Korea", "^KS11", "KRW", (".KS", ".KQ"), 0.0008),
    )
}


def detect_region(tickers: Sequence[str] = (), benchmark: str | None = None) -> Region:
    """
    Recognise the market that a universe is listed in.

    :param tickers: Yahoo tickers; a suffix such as ``.NS`` tells the exchange, none means the US
    :param benchmark: Yahoo symbol of the index, used where the tickers do not tell
    :return: the region; the US where nothing tells
    :raises ValueError: if the tickers are listed in more than one region
    """
    found = {_region_of_ticker(ticker).name for ticker in tickers}
    if len(found) > 1 and {REGIONS[name].currency for name in found} == {"EUR"}:
        return REGIONS["Eurozone"]
    if len(found) > 1:
        raise ValueError(f"The tickers are listed in several regions, {sorted(found)}; give tickers of one, or --region.")
    if found:
        return REGIONS[found.pop()]
    return next((region for region in REGIONS.values() if region.benchmark == benchmark), REGIONS["US"])


def get_region(name: str) -> Region:
    """
    :param name: a key of ``REGIONS``, in any case
    :raises ValueError: if there is no such region
    """
    for key, region in REGIONS.items():
        if key.lower() == name.lower():
            return region
    raise ValueError(f"Unknown region '{name}'; expected one of {list(REGIONS)}.")


def _region_of_ticker(ticker: str) -> Region:
    matches = [region for region in REGIONS.values() if ticker.upper().endswith(region.suffixes or ("\0",))]
    return matches[0] if matches else REGIONS["US"]
