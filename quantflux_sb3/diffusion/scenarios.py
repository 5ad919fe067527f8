"""Synthetic markets: generated returns in the form that environments and features accept."""

import numpy as np
import torch
from tqdm import tqdm

from quantflux_sb3.diffusion.pipeline import RegimeDDPMPipeline
from quantflux_sb3.market.data import MIN_SPLIT_DAYS, WARMUP_DAYS, DateSplits, MarketData

SYNTHETIC_CAVEAT = "The returns were generated; they repeat what the generator learned from its training years and no more."


def synthetic_markets(
    pipeline: RegimeDDPMPipeline, n_markets: int, n_days: int, seed: int, like: MarketData, progress: bool = False
) -> list[MarketData]:
    """
    Markets whose regimes follow the Markov chain of the training years and whose returns follow the regimes.

    Dates are business days after the end of the generator's training, so that nobody takes them for history. The whole
    path is split ``train``; its first ``WARMUP_DAYS`` rows feed the features, as in any market.

    :param pipeline: the generator
    :param n_markets: markets to draw
    :param n_days: rows of each
    :param seed: of all randomness
    :param like: the market that they stand in for: gives risk-free rate (its mean) and periods per year
    :param progress: show a progress bar
    :raises ValueError: if ``like`` has other assets or exogenous features, or the paths are too short for an episode
    """
    _check_like(pipeline, like)
    if n_markets < 1:
        raise ValueError(f"`n_markets` must be >= 1; got {n_markets}.")
    least = WARMUP_DAYS + 1 + MIN_SPLIT_DAYS
    if n_days < least:
        raise ValueError(f"`n_days` must be >= {least} ({WARMUP_DAYS} days of warm-up, then an episode); got {n_days}.")
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    regimes = draw_regimes(pipeline.state.transitions, pipeline.state.regime_shares, n_markets, n_days, rng)
    markets = []
    for path in tqdm(range(n_markets), "synthetic markets", disable=not progress):
        if path % _BATCH == 0:
            rows = slice(path, path + _BATCH)
            drawn = pipeline(len(regimes[rows]), n_days, regimes=regimes[rows], generator=generator)
        markets.append(_as_market(pipeline, drawn.returns[path % _BATCH], drawn.benchmark_returns[path % _BATCH], like))
    return markets


#: Markets generated at once: enough to fill the network's batch, few enough for memory.
_BATCH = 64


def draw_regimes(
    transitions: np.ndarray, shares: np.ndarray, n_paths: int, n_days: int, rng: np.random.Generator
) -> np.ndarray:
    """
    :param transitions: daily transition probabilities (n_regimes, n_regimes)
    :param shares: probabilities of the first day (n_regimes,)
    :return: regime per day (n_paths, n_days), indices into ``REGIMES``
    """
    uniform = rng.random((n_paths, n_days))
    cumulative, last = np.cumsum(transitions, axis=1), len(shares) - 1
    regimes = np.empty((n_paths, n_days), dtype=np.int64)
    regimes[:, 0] = np.minimum(np.searchsorted(np.cumsum(shares), uniform[:, 0], side="right"), last)
    for day in range(1, n_days):
        below = cumulative[regimes[:, day - 1]] <= uniform[:, day, None]
        regimes[:, day] = np.minimum(below.sum(axis=1), last)
    return regimes


def _check_like(pipeline: RegimeDDPMPipeline, like: MarketData) -> None:
    record = pipeline.state.record
    if like.assets != record.assets or like.benchmark != record.benchmark:
        raise ValueError(
            f"The generator was trained on {list(record.assets)} with benchmark {record.benchmark}; the market has "
            f"{list(like.assets)} with {like.benchmark}. Train a generator on that market."
        )
    exogenous = [*like.asset_features, *like.market_features]
    if exogenous:
        raise ValueError(
            f"The market has exogenous features {exogenous}, which cannot be generated. Leave them out of the market to "
            "train on synthetic ones."
        )


def _as_market(pipeline: RegimeDDPMPipeline, returns: np.ndarray, benchmark: np.ndarray, like: MarketData) -> MarketData:
    record = pipeline.state.record
    first = np.datetime64(record.train_end, "D") + 1
    dates = np.busday_offset(first, np.arange(len(returns)), roll="forward")
    return MarketData(
        dates, record.assets, returns, benchmark, record.benchmark, float(np.mean(like.risk_free)),
        splits=DateSplits(str(dates[-1]), str(dates[-1] + 1)), source="RegimeDDPMPipeline",
        caveats=(*like.caveats, SYNTHETIC_CAVEAT), synthetic=True, periods_per_year=like.periods_per_year,
    )  # fmt: skip
