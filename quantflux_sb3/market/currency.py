"""Prices of several currencies in one: only with exchange rates that the user gives."""

from collections.abc import Mapping

import pandas as pd

from quantflux_sb3.market.validation import parse_dates


def check_rates(currencies: Mapping[str, str], base: str, given: bool) -> set[str]:
    """
    :param currencies: ISO 4217 code by symbol
    :param base: code of the currency wanted
    :param given: whether there are exchange rates
    :return: the other currencies
    :raises ValueError: if there are other currencies and no rates
    """
    needed = set(currencies.values()) - {base}
    if needed and not given:
        raise ValueError(
            f"The prices are in {sorted({*needed, base})}; give --rates with a table of exchange rates (a column per "
            f"currency: its price in {base}), or tickers and a benchmark of one region."
        )
    return needed


def convert(
    closes: pd.DataFrame, currencies: Mapping[str, str], base: str, rates: pd.DataFrame | None, max_fill: int = 5
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """
    Prices in the base currency, each at the last rate that was known on its date.

    :param closes: dates x symbols, each in its own currency, rows in any order
    :param currencies: ISO 4217 code by symbol
    :param base: code of the currency wanted
    :param rates: dates x codes: price of one unit in the base currency (base USD: the column EUR holds about 1.1)
    :param max_fill: dates in a row for which the last rate serves
    :return: converted prices; what was done, one sentence each
    :raises ValueError: if a rate is missing, with the place
    """
    needed = check_rates({name: currencies[name] for name in closes.columns}, base, rates is not None)
    if not needed or rates is None:
        return closes, ()
    rates = rates.set_axis([str(name).upper() for name in rates.columns], axis=1).set_axis(parse_dates(rates.index), axis=0)
    if unknown := sorted(needed - set(rates.columns)):
        raise ValueError(f"The exchange rates have no column for {unknown}; their columns are {list(rates.columns)}.")
    if rates.index.has_duplicates or (rates[list(needed)] <= 0.0).any(axis=None):
        raise ValueError("The exchange rates must be positive, one row a date.")
    dates = parse_dates(closes.index)
    known = rates.sort_index().reindex(rates.index.union(dates.unique()))
    known = known.ffill(limit=max_fill) if max_fill else known
    converted = closes.copy()
    for name in closes.columns:
        if currencies[name] == base:
            continue
        factor = known[currencies[name]].loc[dates].to_numpy()
        gap = pd.isna(factor) & closes[name].notna().to_numpy()
        if gap.any():
            raise ValueError(f"There is no exchange rate of {currencies[name]} for {dates[gap][0].date()} or shortly before.")
        converted[name] = closes[name].to_numpy() * factor
    pairs = ", ".join(f"{name} ({currencies[name]})" for name in closes.columns if currencies[name] != base)
    return converted, (f"converted to {base} at the rates given: {pairs}",)
