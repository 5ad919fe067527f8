"""
Market regions: benchmark, calendar, currency, ticker suffixes, large companies and typical trading costs of each, and how
one is recognised.

Nothing here touches the network. The order of evidence: ticker suffixes, then the benchmark, then the locale and the time
zone of the machine, then the US.
"""

import locale
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quantflux_sb3.market.data import PRICE, TOTAL_RETURN, UNKNOWN_KIND


@dataclass(frozen=True)
class Region:
    """
    :param name: short name, as given to ``--region``
    :param benchmark: Yahoo symbol of the usual large-cap index
    :param benchmark_kind: what that index contains: ``price`` or ``total return``
    :param calendar: code of the exchange in ``exchange_calendars``
    :param currency: ISO 4217 code
    :param cost: typical one-way cost of a large-cap trade [fraction of traded value; 0.0005 = 5 bp]
    :param suffixes: endings of Yahoo tickers listed there; empty for the US
    :param universe: Yahoo tickers of large companies, for a first run; large today, so they are survivors
    :param countries: ISO 3166 codes by which a locale tells the region
    :param time_zones: IANA names, or their beginnings with a slash, by which a time zone tells the region
    """

    name: str
    benchmark: str
    benchmark_kind: str
    calendar: str
    currency: str
    cost: float
    suffixes: tuple[str, ...]
    universe: tuple[str, ...]
    countries: tuple[str, ...]
    time_zones: tuple[str, ...]


def _row(
    name: str, benchmark: str, kind: str, calendar: str, currency: str, cost: float, suffixes: str, universe: str,
    countries: str, time_zones: str,
) -> Region:  # fmt: skip
    """A line of the catalogue, whose lists are written with blanks between."""
    lists = (tuple(text.split()) for text in (suffixes, universe, countries, time_zones))
    return Region(name, benchmark, kind, calendar, currency, cost, *lists)


#: Costs: what a patient order in a large company pays, commission and half spread, by the project's own rule of thumb.
REGIONS = {
    region.name: region
    for region in (
        _row("US", "^GSPC", PRICE, "XNYS", "USD", 0.0005, "", "AAPL MSFT AMZN GOOGL JPM XOM", "US",
             "America/New_York America/Chicago America/Denver America/Los_Angeles America/Phoenix America/Detroit US/"),
        _row("India", "^NSEI", PRICE, "XBOM", "INR", 0.0008, ".NS .BO",
             "RELIANCE.NS TCS.NS HDFCBANK.NS INFY.NS ICICIBANK.NS HINDUNILVR.NS", "IN", "Asia/Kolkata Asia/Calcutta"),
        _row("UK", "^FTSE", PRICE, "XLON", "GBP", 0.0006, ".L",
             "AZN.L SHEL.L HSBA.L ULVR.L BP.L GSK.L", "GB", "Europe/London"),
        _row("Eurozone", "^STOXX50E", PRICE, "XETR", "EUR", 0.0006, ".MI .MC .BR .LS .HE .VI .IR",
             "ASML.AS MC.PA SAP.DE SAN.MC ENEL.MI TTE.PA", "IT ES BE PT FI AT IE",
             "Europe/Rome Europe/Madrid Europe/Brussels Europe/Lisbon Europe/Helsinki Europe/Vienna Europe/Dublin"),
        _row("Germany", "^GDAXI", TOTAL_RETURN, "XETR", "EUR", 0.0006, ".DE .F",
             "SAP.DE SIE.DE ALV.DE DTE.DE BAS.DE BMW.DE", "DE", "Europe/Berlin Europe/Busingen"),
        _row("France", "^FCHI", PRICE, "XPAR", "EUR", 0.0006, ".PA",
             "MC.PA OR.PA TTE.PA SAN.PA AIR.PA BNP.PA", "FR", "Europe/Paris"),
        _row("Netherlands", "^AEX", PRICE, "XAMS", "EUR", 0.0006, ".AS",
             "ASML.AS INGA.AS AD.AS HEIA.AS PHIA.AS KPN.AS", "NL", "Europe/Amsterdam"),
        _row("Switzerland", "^SSMI", PRICE, "XSWX", "CHF", 0.0008, ".SW",
             "NESN.SW ROG.SW NOVN.SW UBSG.SW ZURN.SW ABBN.SW", "CH", "Europe/Zurich"),
        _row("Japan", "^N225", PRICE, "XTKS", "JPY", 0.0004, ".T",
             "7203.T 6758.T 9432.T 8306.T 6861.T 7974.T", "JP", "Asia/Tokyo Japan"),
        _row("Hong Kong", "^HSI", PRICE, "XHKG", "HKD", 0.0008, ".HK",
             "0700.HK 0005.HK 0939.HK 1299.HK 0941.HK 0388.HK", "HK", "Asia/Hong_Kong Hongkong"),
        _row("Australia", "^AXJO", PRICE, "XASX", "AUD", 0.0008, ".AX",
             "CBA.AX BHP.AX CSL.AX NAB.AX WBC.AX WES.AX", "AU", "Australia/"),
        _row("Canada", "^GSPTSE", PRICE, "XTSE", "CAD", 0.0008, ".TO .V",
             "RY.TO TD.TO ENB.TO CNR.TO BNS.TO SU.TO", "CA",
             "America/Toronto America/Vancouver America/Montreal America/Edmonton America/Winnipeg America/Halifax Canada/"),
        _row("Brazil", "^BVSP", TOTAL_RETURN, "BVMF", "BRL", 0.0008, ".SA",
             "PETR4.SA VALE3.SA ITUB4.SA BBDC4.SA ABEV3.SA B3SA3.SA", "BR",
             "America/Sao_Paulo America/Bahia America/Fortaleza America/Manaus America/Recife Brazil/"),
        _row("Korea", "^KS11", PRICE, "XKRX", "KRW", 0.0008, ".KS .KQ",
             "005930.KS 000660.KS 005380.KS 035420.KS 051910.KS 055550.KS", "KR", "Asia/Seoul ROK"),
    )
}  # fmt: skip

#: Indices that are no region's first benchmark, and what they contain.
_OTHER_INDICES = {"SP500": PRICE, "^SP500TR": TOTAL_RETURN, "^DJI": PRICE, "^IXIC": PRICE, "^NDX": PRICE, "^RUT": PRICE,
                  "^BSESN": PRICE, "^STOXX": PRICE, "^FTMC": PRICE}  # fmt: skip
#: Locales that say nothing: the default of installations everywhere.
_SILENT_LOCALES = {"", "C", "POSIX", "en_US"}


class MixedRegionsError(ValueError):
    """The tickers are listed in regions with different currencies."""


def detect_region(tickers: Sequence[str] = (), benchmark: str | None = None) -> Region:
    """
    Recognise the market that a universe is listed in.

    :param tickers: Yahoo tickers; a suffix such as ``.NS`` tells the exchange, none means the US
    :param benchmark: Yahoo symbol of the index, used where there are no tickers
    :return: the region; that of the machine's locale or time zone where nothing is given, else the US
    :raises MixedRegionsError: if the tickers are listed in regions with different currencies
    :raises ValueError: if the suffix of a ticker is that of no region
    """
    found = {region_of_ticker(ticker).name for ticker in tickers}
    if len(found) == 1:
        return REGIONS[found.pop()]
    if len({REGIONS[name].currency for name in found}) > 1:
        raise MixedRegionsError(
            f"The tickers are listed in several regions, {sorted(found)}; give tickers of one, or --rates with a table of "
            "exchange rates and --region for the currency to count in."
        )
    if found:
        return REGIONS["Eurozone"]
    return region_of_benchmark(benchmark) or machine_region() or REGIONS["US"]


def get_region(name: str) -> Region:
    """
    :param name: a key of ``REGIONS``, in any case
    :raises ValueError: if there is no such region
    """
    for key, region in REGIONS.items():
        if key.lower() == name.lower():
            return region
    raise ValueError(f"Unknown region '{name}'; expected one of {list(REGIONS)}.")


def region_of_ticker(ticker: str) -> Region:
    """
    :param ticker: Yahoo ticker; one letter after a dot that is no exchange is a class of US shares, as in ``BRK.B``
    :raises ValueError: if its suffix is that of no region
    """
    stem, dot, ending = ticker.upper().rpartition(".")
    suffix = f".{ending}" if dot and stem else ""
    for region in REGIONS.values():
        if suffix in region.suffixes:
            return region
    if re.fullmatch(r"\.[A-Z]{2,3}", suffix):
        raise ValueError(f"The ticker '{ticker}' has the suffix '{suffix}' of no known region; give --region.")
    return REGIONS["US"]


def has_region_suffix(ticker: str) -> bool:
    """
    :param ticker: a name that may be a Yahoo ticker
    :return: whether it ends in the suffix of a region's exchange
    """
    return any(ticker.upper().endswith(region.suffixes) for region in REGIONS.values() if region.suffixes)


def region_of_benchmark(benchmark: str | None) -> Region | None:
    """
    :param benchmark: Yahoo symbol of an index
    :return: the region whose benchmark it is; None if it is no region's
    """
    return next((region for region in REGIONS.values() if region.benchmark == benchmark), None)


def machine_region(language: str | None = None, time_zone: str | None = None) -> Region | None:
    """
    :param language: name of a locale such as ``de_DE``; the machine's if not given
    :param time_zone: IANA name such as ``Asia/Tokyo``; the machine's if not given
    :return: the region that they tell; None if they tell none
    """
    language = (locale.getlocale()[0] or "") if language is None else language
    language = language.partition(".")[0]
    if language not in _SILENT_LOCALES:
        country = language.rpartition("_")[2].upper()
        for region in REGIONS.values():
            if country in region.countries:
                return region
    zone = _machine_time_zone() if time_zone is None else time_zone
    for region in REGIONS.values():
        if any(zone == name or (name.endswith("/") and zone.startswith(name)) for name in region.time_zones):
            return region
    return None


def benchmark_kind(symbol: str | None, asset_kind: str = UNKNOWN_KIND) -> str:
    """
    :param symbol: of the benchmark
    :param asset_kind: what the prices of the assets contain, which a fund or a stock as a benchmark shares
    :return: ``price``, ``total return`` or ``unknown``
    """
    region = region_of_benchmark(symbol)
    if region is not None:
        return region.benchmark_kind
    if symbol in _OTHER_INDICES:
        return _OTHER_INDICES[symbol]
    return UNKNOWN_KIND if symbol is None or symbol.startswith("^") else asset_kind


def currency_of(symbol: str, default: str) -> str:
    """
    :param symbol: Yahoo symbol of a share or an index
    :param default: currency of symbols that do not tell
    :return: ISO 4217 code of the currency it is quoted in
    """
    index = region_of_benchmark(symbol)
    if index is not None:
        return index.currency
    try:
        return default if symbol.startswith("^") else region_of_ticker(symbol).currency
    except ValueError:  # the suffix of no known region: the user has named one
        return default


def calendars_of(symbols: Iterable[str], region: Region) -> tuple[str, ...]:
    """
    :param symbols: Yahoo tickers of the assets
    :param region: of the market, for symbols none of which has the suffix of an exchange
    :return: codes of the exchanges that they trade on, in order of appearance
    """
    symbols = list(symbols)
    if not any(map(has_region_suffix, symbols)):
        return (region.calendar,)
    return tuple(dict.fromkeys(region_of_ticker(symbol).calendar for symbol in symbols))


def _machine_time_zone() -> str:
    if zone := os.environ.get("TZ", "").lstrip(":"):
        return zone
    try:
        return os.readlink("/etc/localtime").partition("zoneinfo/")[2]
    except OSError:
        return ""
