"""``quantflux data list | fetch | verify | clear``: what prices there are, and prices into the cache or a file."""

from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console

from quantflux_sb3.commands.parsing import parse

#: Endings of files of levels: what they are is told by them.
_ENDINGS = (".csv", ".csv.gz", ".parquet", ".pq")


def data(argv: list[str]) -> int:
    """
    :param argv: arguments after ``data``
    :return: exit code
    """
    actions = {"list": _list, "fetch": _fetch, "verify": _verify, "clear": _clear}
    if not argv or argv[0] not in actions:
        raise ValueError(f"`quantflux data` needs one of {', '.join(actions)}; got {argv[0] if argv else 'nothing'}.")
    return actions[argv[0]](argv[1:])


def _parser(action: str, description: str) -> ArgumentParser:
    parser = ArgumentParser(prog=f"quantflux data {action}", exit_on_error=False, description=description)
    parser.add_argument("--cache_dir", type=str, default=None, help="folder of the cache (default: of this user)")
    return parser


def _list(argv: list[str]) -> int:
    options = parse(_parser("list", "What prices there are, and the regions."), argv)
    from quantflux_sb3.market import REGIONS, PriceCache, bundled_prices

    stocks, index = bundled_prices()
    print(f"bundled (skfolio, offline): {stocks.index[0].date()} to {stocks.index[-1].date()}")
    print(f"  stocks: {' '.join(stocks.columns)}")
    print(f"  index:  {index.name}")
    cache = PriceCache(options.cache_dir)
    print(f"cached in {cache.root}:{'' if cache.entries() else ' nothing'}")
    for key in cache.entries():
        print(f"  {key}  {_entry(cache, key)}")
    print("regions (benchmark and what it contains, calendar, currency, typical cost of a trade, suffixes):")
    for region in REGIONS.values():
        print(
            f"  {region.name:<12} {region.benchmark:<10} {region.benchmark_kind:<12} {region.calendar} {region.currency}  "
            f"{region.cost * 1e4:.0f} bp  {' '.join(region.suffixes)}"
        )
    return 0


def _entry(cache, key: str) -> str:
    try:
        manifest = cache.manifest(key)
    except ValueError as error:
        return str(error)
    symbols = " ".join(manifest.request.symbols)
    return (
        f"{manifest.source_text}: {symbols}, {manifest.first} to {manifest.last}, adjusted for {manifest.adjusted}, "
        f"retrieved {manifest.retrieved}"
    )


def _fetch(argv: list[str]) -> int:
    parser = _parser("fetch", "Prices into the cache, and into a file if --out is given.")
    parser.add_argument("--tickers", nargs="+", type=str, default=None, help="symbols (default: the region's)")
    parser.add_argument("--benchmark", type=str, default=None, help="symbol of the index")
    parser.add_argument("--start", type=str, default=None, help="first date (ISO)")
    parser.add_argument("--end", type=str, default=None, help="last date, included (ISO)")
    parser.add_argument("--region", type=str, default=None, help="market region, recognised if not given")
    parser.add_argument("--source", type=str, default=None, help="bundled, yahoo or the name of an added source")
    parser.add_argument("--rates", type=str, default=None, help="file of exchange rates")
    parser.add_argument("--adjust", type=str, default="dividends", help="dividends (total return) or splits (price only)")
    parser.add_argument("--cleaning", type=str, default=None, help="refuse or repair")
    parser.add_argument("--max_fill", type=int, default=5, help="missing prices in a row that are filled")
    parser.add_argument("--offline", action="store_true", help="only the cache and the bundled set")
    parser.add_argument("--refresh", action="store_true", help="download even what is in the cache")
    parser.add_argument("--out", type=str, default=None, help="CSV or Parquet file to write the clean levels into")
    options = vars(parse(parser, argv))
    out = options.pop("out")
    if out:
        _check_out(Path(out))
    from quantflux_sb3.evaluation.data_quality import data_lines, data_table
    from quantflux_sb3.market import MarketQuery, read_market

    loaded = read_market(MarketQuery(**options))
    if out:
        _write_levels(loaded.market, loaded.report, Path(out))
    console = Console(soft_wrap=True)
    for line in data_lines(loaded.report):
        console.print(f"- {line}", highlight=False)
    console.print(data_table(loaded.report))
    return 0


def _check_out(out: Path) -> None:
    if out.is_dir():
        raise ValueError(f"'{out}' is a folder; --out needs the name of a file, such as '{out / 'prices.csv'}'.")
    if not out.name.lower().endswith(_ENDINGS):
        raise ValueError(f"--out must end in {', '.join(_ENDINGS)}; got '{out.name}'.")
    if not out.resolve().parent.is_dir():
        raise ValueError(f"There is no folder '{out.resolve().parent}' to write '{out.name}' into.")


def _write_levels(market, report, out: Path) -> None:
    """Prices from 100 on the first date; an asset that is not listed has none."""
    import gzip

    import numpy as np
    import pandas as pd

    from quantflux_sb3.disk import write_whole
    from quantflux_sb3.market.cleaning import UNLISTED
    from quantflux_sb3.market.files import PARQUET_SUFFIXES

    growth = np.cumprod(1.0 + np.column_stack([market.returns, market.benchmark_returns]), axis=0)
    levels = 100.0 * np.vstack([np.ones(market.n_assets + 1), growth])
    levels[:, :-1][np.vstack([report.states[:1] == UNLISTED, market.status < 0])] = np.nan
    dates = pd.Index([report.dates[0], *market.dates], name="date")
    table = pd.DataFrame(levels, index=dates, columns=[*market.assets, market.benchmark])
    table = table.loc[:, ~table.columns.duplicated()]  # the benchmark may be one of the assets
    content = table.to_parquet() if out.suffix.lower() in PARQUET_SUFFIXES else table.to_csv().encode()
    write_whole(out, gzip.compress(content, mtime=0) if out.suffix.lower() == ".gz" else content)
    print(f"wrote {len(table)} days of {market.n_assets} assets and {market.benchmark} to {out} (levels, not quotes)")


def _verify(argv: list[str]) -> int:
    parser = _parser("verify", "Check the cached files against their manifests.")
    parser.add_argument("entries", nargs="*", type=str, help="entries (default: all)")
    options = parse(parser, argv)
    from quantflux_sb3.market import PriceCache

    cache = PriceCache(options.cache_dir)
    if not options.entries and not cache.entries():
        print(f"nothing is cached in {cache.root}")
    damaged = []
    for key in options.entries or cache.entries():
        try:
            manifest = cache.verify(key)
            print(f"{manifest.key}: whole, {manifest.first} to {manifest.last}")
        except ValueError as error:
            damaged.append(key)
            print(f"{key}: {error}")
    if damaged:
        raise ValueError(f"{len(damaged)} cached entries are damaged or not there: {', '.join(damaged)}.")
    return 0


def _clear(argv: list[str]) -> int:
    parser = _parser("clear", "Delete cached prices and feature tables.")
    parser.add_argument("entries", nargs="*", type=str, help="entries to delete")
    parser.add_argument("--all", action="store_true", help="delete all of them")
    options = parse(parser, argv)
    from quantflux_sb3.market import PriceCache
    from quantflux_sb3.table_cache import clear_tables

    if bool(options.entries) == options.all:
        raise ValueError("`quantflux data clear` needs the keys of entries (see `quantflux data list`), or --all.")
    cache = PriceCache(options.cache_dir)
    keys = [cache.resolve(key) for key in options.entries] if options.entries else cache.entries()
    failed = []
    for key in keys:
        try:
            cache.clear(key)
        except ValueError as error:
            failed.append(str(error))
    tables = clear_tables(options.cache_dir) if options.all else 0
    deleted = len(keys) - len(failed)
    print(f"deleted {deleted} cached entries" + (f" and {tables} feature tables" if options.all else ""))
    if failed:
        raise ValueError(f"{len(failed)} of {len(keys)} cached entries are still there: {failed[0]}")
    return 0
