"""Synthetic markets: generated returns in the form that environments and features accept."""

from collections.abc import Mapping

import numpy as np
import torch
from tqdm import tqdm

from quantflux_sb3.diffusion.pipeline import RegimeDDPMPipeline
from quantflux_sb3.diffusion.scenarios import markov_regimes
from quantflux_sb3.market.data import MIN_SPLIT_DAYS, WARMUP_DAYS, DateSplits, MarketData
from quantflux_sb3.regimes import REGIMES, detect_regimes

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
    regimes = markov_regimes(pipeline, n_markets, n_days, rng)
    markets = []
    for path in tqdm(range(n_markets), "synthetic markets", disable=not progress):
        if path % _BATCH == 0:
            rows = slice(path, path + _BATCH)
            drawn = pipeline(len(regimes[rows]), n_days, regimes=regimes[rows], generator=generator)
        markets.append(_as_market(pipeline, drawn.returns[path % _BATCH], drawn.benchmark_returns[path % _BATCH], like))
    return markets


#: Markets generated at once: enough to fill the network's batch, few enough for memory.
_BATCH = 64


class SyntheticMarkets:
    """
    A source of training markets: a real one and synthetic ones beside it, drawn anew whenever asked.

    :param pipeline: the generator
    :param real: the real market; it must hold no day of an evaluation that the generator saw
    :param n_markets: synthetic markets at a time
    :param n_days: rows of each
    :param share: of the episodes that are drawn from synthetic markets
    :param regime_weights: how much oftener markets are drawn for their days in a regime, by its name; 1 if not given
    :param seed: of all randomness
    :raises ValueError: if a value makes no sense
    """

    def __init__(
        self, pipeline: RegimeDDPMPipeline, real: MarketData, n_markets: int = 64, n_days: int = 630, share: float = 0.5,
        regime_weights: Mapping[str, float] | None = None, seed: int = 0,
    ):  # fmt: skip
        unknown = set(regime_weights or {}) - set(REGIMES)
        if unknown:
            raise ValueError(f"Unknown regimes {sorted(unknown)} in `regime_weights`; expected some of {list(REGIMES)}.")
        if not all(0.0 <= weight < np.inf for weight in (regime_weights or {}).values()):
            raise ValueError(f"`regime_weights` must be finite and >= 0; got {dict(regime_weights)}.")
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"`share` must lie in [0, 1]; got {share}.")
        _check_like(pipeline, real)
        self.pipeline, self.real, self.n_markets, self.n_days, self.share = pipeline, real, n_markets, n_days, share
        self.regime_weights = np.array([(regime_weights or {}).get(regime, 1.0) for regime in REGIMES])
        self.seed = seed

    def draw(self, number: int = 0) -> list[tuple[MarketData, float]]:
        """
        :param number: of the drawing; the same number gives the same markets
        :return: markets with their sampling weights, the real one first, as the envs take them
        """
        seed = int(np.random.default_rng([self.seed, number]).integers(2**31))
        synthetic = synthetic_markets(self.pipeline, self.n_markets, self.n_days, seed, self.real)
        weights = np.array([detect_regimes(market).probs.mean(axis=0) @ self.regime_weights for market in synthetic])
        if not weights.sum() > 0.0:
            raise ValueError("All synthetic markets have the weight 0; give some regime that occurs a positive weight.")
        weights *= self.share / weights.sum()
        return [(self.real, 1.0 - self.share), *zip(synthetic, weights.tolist(), strict=True)]


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
