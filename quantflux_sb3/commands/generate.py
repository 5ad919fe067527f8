"""``quantflux generate``: synthetic prices from a saved generator."""

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
    parser = ArgumentParser(prog="quantflux generate", exit_on_error=False, description="Synthetic prices from a generator.")
    parser.add_argument("--generator", type=str, required=True, help="folder of a saved RegimeDDPMPipeline")
    parser.add_argument("--out", type=str, required=True, help="file to write: .csv, .csv.gz or .parquet")
    parser.add_argument("--paths", type=int, default=10, help="number of paths")
    parser.add_argument("--days", type=int, default=252, help="days of each path")
    parser.add_argument("--regime", type=str, default=None, help="bull, bear, volatile or sideways (default: free)")
    parser.add_argument("--volatility", type=float, default=None, help="annual volatility of the market, such as 0.25")
    parser.add_argument("--seed", type=int, default=0, help="of the paths")
    options = parse(parser, argv)
    writer = _writer(options.out)
    import torch

    from quantflux_sb3.diffusion import RegimeDDPMPipeline
    from quantflux_sb3.disk import write_whole

    pipeline = RegimeDDPMPipeline.from_pretrained(options.generator)
    generator = torch.Generator().manual_seed(options.seed)
    drawn = pipeline(options.paths, options.days, regimes=options.regime, volatility=options.volatility, generator=generator)
    table = price_table(drawn.returns, drawn.benchmark_returns, pipeline.state.record.assets, pipeline.state.record.benchmark)
    write_whole(options.out, writer(table))
    print(f"wrote {options.paths} paths of {options.days} days to {options.out}")
    return 0


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
