"""``quantflux generate``: synthetic prices from a saved generator, by regime, volatility or scenario; and its card."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jsonargparse import ArgumentParser

from quantflux_sb3.commands.parsing import parse


def generate(argv: list[str]) -> int:
    """
    :param argv: arguments after ``generate``
    :return: exit code
    """
    options = parse(_parser(), argv)
    if options.out is None and not options.report:
        raise ValueError("Nothing to do: give --out FILE for prices, --report for the generator's card, or both.")
    if options.scenario is not None and (options.regime is not None or options.volatility is not None):
        raise ValueError("--scenario sets regimes and volatility itself; leave out --regime and --volatility.")
    writer = _writer(options.out) if options.out is not None else None
    picture = _picture_path(options)
    from quantflux_sb3.diffusion import RegimeDDPMPipeline

    pipeline = RegimeDDPMPipeline.from_pretrained(options.generator)
    if writer is not None:
        _write_prices(options, pipeline, writer, picture)
    if options.report:
        _write_report(options, pipeline)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="quantflux generate", exit_on_error=False, description="Synthetic prices from a generator.")
    parser.add_argument("--generator", type=str, required=True, help="folder of a saved RegimeDDPMPipeline")
    parser.add_argument("--out", type=str, default=None, help="file to write: .csv, .csv.gz or .parquet")
    parser.add_argument("--paths", type=int, default=10, help="number of paths")
    parser.add_argument("--days", type=int, default=None, help="days of each path (default: the scenario's, or 252)")
    parser.add_argument(
        "--scenario", type=str, default=None,
        help="crash-2008, shock-2020, grinding-bear, rate-shock-sideways, parts such as bull:63,volatile:21:0.45, or markov: "
        "regimes drawn from the chain of the training years",
    )  # fmt: skip
    parser.add_argument("--regime", type=str, default=None, help="bull, bear, volatile or sideways (default: free)")
    parser.add_argument("--volatility", type=float, default=None, help="annual volatility of the market, such as 0.25")
    parser.add_argument("--picture", type=str, default=None, help=".png of the paths (default with --scenario: by --out)")
    parser.add_argument("--report", action="store_true", help="measure the generator; writes card.html next to its weights")
    parser.add_argument("--prices", type=str, default=None, help="with --report: file that the generator was trained on")
    parser.add_argument("--seed", type=int, default=0, help="of the paths")
    return parser


def _write_prices(options: Any, pipeline: Any, writer: Any, picture: Path | None) -> None:
    from quantflux_sb3.disk import write_whole

    drawn, regimes = _draw(options, pipeline)
    record = pipeline.state.record
    write_whole(options.out, writer(price_table(drawn.returns, drawn.benchmark_returns, record.assets, record.benchmark)))
    n_paths, n_days = drawn.benchmark_returns.shape
    print(f"wrote {n_paths} paths of {n_days} days to {options.out}")
    if picture is not None:
        from quantflux_sb3.evaluation.generator_card import fan_of_paths, to_png

        write_whole(picture, to_png(fan_of_paths(drawn.benchmark_returns, record.benchmark, regimes)))
        print(f"wrote {picture}")


def _draw(options: Any, pipeline: Any) -> tuple[Any, np.ndarray | None]:
    """Paths, and the regime of each day if it is the same in all paths."""
    import torch

    from quantflux_sb3.diffusion.scenarios import Scenario, markov_regimes

    generator = torch.Generator().manual_seed(options.seed)
    n_days = 252 if options.days is None else options.days
    if options.scenario == "markov":
        rng = np.random.default_rng(options.seed)
        if options.paths < 1 or n_days < 1:
            raise ValueError(f"--paths and --days must be whole numbers >= 1; got {options.paths} and {n_days}.")
        return pipeline(options.paths, n_days, markov_regimes(pipeline, options.paths, n_days, rng), generator=generator), None
    if options.scenario is None:
        drawn = pipeline(options.paths, n_days, options.regime, options.volatility, generator)
        return drawn, None
    scenario = Scenario.named(options.scenario)
    if options.days is not None:
        scenario = scenario.scaled(options.days)
    return scenario.generate(pipeline, options.paths, generator), scenario.regimes


def _write_report(options: Any, pipeline: Any) -> None:
    from quantflux_sb3.evaluation.generator_card import write_card
    from quantflux_sb3.market import load_market

    record = pipeline.state.record
    market = load_market(record.assets, record.benchmark, None, None, options.prices, offline=True)
    inside = (market.dates >= np.datetime64(record.train_start)) & (market.dates <= np.datetime64(record.train_end))
    rows = np.flatnonzero(inside)
    if not len(rows):
        raise ValueError(f"The prices have no day of the training span, {record.train_start} to {record.train_end}.")
    print(f"writing the generator card of {options.generator} ...", flush=True)
    print(f"wrote {write_card(options.generator, pipeline, market.window(rows[0], rows[-1] + 1), options.seed)}")


def _picture_path(options: Any) -> Path | None:
    if options.picture is None:
        with_scenario = options.scenario is not None and options.out is not None
        return Path(options.out.removesuffix(".gz")).with_suffix(".png") if with_scenario else None
    if options.out is None:
        raise ValueError("--picture shows the paths of --out; give --out as well.")
    path = Path(options.picture)
    if path.suffix != ".png" or not path.resolve().parent.is_dir():
        raise ValueError(f"--picture must name a .png in an existing folder; got '{path}'.")
    return path


def price_table(returns: np.ndarray, benchmark_returns: np.ndarray, assets: tuple[str, ...], benchmark: str) -> pd.DataFrame:
    """
    :param returns: simple returns (n_paths, n_days, n_assets)
    :param benchmark_returns: (n_paths, n_days)
    :param assets: tickers
    :param benchmark: its name
    :return: prices that start at 100 on day 0; columns path, day, the assets, the benchmark
    """
    series = np.concatenate([returns, benchmark_returns[:, :, None]], axis=2)
    start = np.ones((len(series), 1, series.shape[2]))
    prices = 100.0 * np.concatenate([start, np.cumprod(1.0 + series, axis=1)], axis=1)
    n_paths, n_rows, _ = prices.shape
    table = pd.DataFrame(prices.reshape(n_paths * n_rows, -1), columns=[*assets, benchmark])
    table.insert(0, "day", np.tile(np.arange(n_rows), n_paths))
    table.insert(0, "path", np.repeat(np.arange(n_paths), n_rows))
    return table


def _writer(out: str) -> Any:
    import gzip

    folder = Path(out).resolve().parent
    if not folder.is_dir():
        raise ValueError(f"There is no folder '{folder}' to write '{Path(out).name}' into.")
    if out.endswith(".csv"):
        return lambda table: table.to_csv(index=False).encode()
    if out.endswith(".csv.gz"):
        return lambda table: gzip.compress(table.to_csv(index=False).encode(), mtime=0)
    if out.endswith(".parquet") and find_spec("pyarrow") is None:
        raise ValueError("Writing .parquet needs pyarrow; pip install pyarrow, or write .csv.")
    if out.endswith(".parquet"):
        return lambda table: table.to_parquet(index=False)
    raise ValueError(f"--out must end in .csv, .csv.gz or .parquet; got '{out}'.")
