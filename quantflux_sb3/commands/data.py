"""``quantflux data list | fetch``: what prices there are, and prices into a file."""

from jsonargparse import ArgumentParser

from quantflux_sb3.commands.parsing import parse


def data(argv: list[str]) -> int:
    """
    :param argv: arguments after ``data``
    :return: exit code
    """
    actions = {"list": _list, "fetch": _fetch}
    if not argv or argv[0] not in actions:
        raise ValueError(f"`quantflux data` needs one of {', '.join(actions)}; got {argv[0] if argv else 'nothing'}.")
    return actions[argv[0]](argv[1:])


def _list(argv: list[str]) -> int:
    parse(ArgumentParser(prog="quantflux data list", exit_on_error=False), argv)
    from quantflux_sb3.market import REGIONS, bundled_prices

    stocks, index = bundled_prices()
    print(f"bundled (skfolio, offline): {stocks.index[0].date()} to {stocks.index[-1].date()}")
    print(f"  stocks: {' '.join(stocks.columns)}")
    print(f"  index:  {index.name}")
    print("regions (benchmark, currency, typical cost of a trade):")
    for region in REGIONS.values():
        print(f"  {region.name:<12} {region.benchmark:<10} {region.currency}  {region.cost * 1e4:.0f} bp")
    return 0


def _fetch(argv: list[str]) -> int:
    parser = ArgumentParser(prog="quantflux data fetch", exit_on_error=False, description="Prices into a CSV file.")
    parser.add_argument("--tickers", nargs="+", type=str, required=True, help="symbols")
    parser.add_argument("--benchmark", type=str, default=None, help="symbol of the index")
    parser.add_argument("--start", type=str, default=None, help="first date (ISO)")
    parser.add_argument("--end", type=str, default=None, help="last date (ISO)")
    parser.add_argument("--offline", action="store_true", help="only the bundled set")
    parser.add_argument("--out", type=str, required=True, help="CSV file to write")
    options = parse(parser, argv)
    import numpy as np
    import pandas as pd

    from quantflux_sb3.disk import write_whole
    from quantflux_sb3.market import load_market

    market = load_market(options.tickers, options.benchmark, options.start, options.end, offline=options.offline)
    series = np.column_stack([market.returns, market.benchmark_returns])
    levels = 100.0 * np.cumprod(1.0 + series, axis=0)
    table = pd.DataFrame(levels, index=pd.Index(market.dates, name="date"), columns=[*market.assets, market.benchmark])
    write_whole(options.out, table.to_csv().encode())
    print(
        f"wrote {len(table)} days of {len(market.assets)} assets and {market.benchmark} to {options.out} (levels, not quotes)"
    )
    return 0
