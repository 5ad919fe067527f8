"""The training market, encoded and cut into windows on demand."""

from dataclasses import dataclass, replace

import numpy as np

from quantflux_sb3.diffusion.conditions import KINDS, Conditions, VolatilityScale
from quantflux_sb3.diffusion.config import GeneratorConfig
from quantflux_sb3.diffusion.daily import DailyModel
from quantflux_sb3.diffusion.linear import LinearDenoiser
from quantflux_sb3.diffusion.representation import Representation, market_logs
from quantflux_sb3.diffusion.smoothing import block_means
from quantflux_sb3.diffusion.state import GeneratorState, TrainingRecord
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.regimes import REGIMES, TRADING_DAYS, RegimeDetector

#: Draws of the volatility paths given the returns that training windows are cut from.
N_DRAWS = 8
#: Windows that the linear denoiser is fitted on.
N_LINEAR = 8000


@dataclass(frozen=True, eq=False)
class TrainingWindows:
    """
    The training market as the network and the calibration need it, cut into windows on demand.

    :param state: fitted representation, not yet calibrated
    :param logs: log returns (n_days, n_series)
    :param channels: volatilities, betas and trend, per draw (n_draws, n_days, n_channels = 2 * n_series)
    :param regimes: one-hot (n_days, n_regimes)
    :param volatility: score of the volatility condition (n_days, 1)
    """

    state: GeneratorState
    logs: np.ndarray
    channels: np.ndarray
    regimes: np.ndarray
    volatility: np.ndarray

    @classmethod
    def build(
        cls, market: MarketData, detector: RegimeDetector, config: GeneratorConfig, rng: np.random.Generator
    ) -> "TrainingWindows":
        """
        :param market: the training market
        :param detector: gives the regimes
        :param config: settings
        :param rng: of the draws of the volatility paths
        """
        logs = market_logs(market)
        labels = detector.detect(market.benchmark_returns).labels
        representation = Representation.fit(market, rng)
        drawn = [representation.encode(logs, rng) for _ in range(N_DRAWS)]
        paths, noise = (np.stack(part) for part in zip(*drawn, strict=True))
        daily = DailyModel.fit(noise, paths)
        scale = VolatilityScale.fit(logs[:, :1])
        counts = np.bincount(labels, minlength=len(REGIMES))
        squares = np.bincount(labels, logs[:, 0] ** 2, minlength=len(REGIMES)) + (logs[:, 0] ** 2).mean()
        usual = np.sqrt(squares / (counts + 1) * TRADING_DAYS)  # one average day each, so that none is without
        beta = np.cov(logs.T)[0, 1:] / logs[:, 0].var(ddof=1)
        channels = np.concatenate([paths, daily.trend(noise)[..., None]], axis=-1)
        state = GeneratorState(
            config, training_record(market, detector, 0), representation, daily, None, scale, _transitions(labels),
            counts / len(labels), usual, beta,
        )  # fmt: skip
        windows = cls(state, logs, channels, np.eye(len(REGIMES))[labels], scale.training_scores(logs[:, :1]))
        return replace(windows, state=replace(state, linear=windows._linear(rng)))

    @property
    def train_stop(self) -> int:
        """One past the last row that the denoiser learns from; those after it, but for a gap, are held out."""
        config = self.state.config
        return int((1.0 - config.holdout) * len(self.logs)) - config.span_days // 2

    def _linear(self, rng: np.random.Generator) -> LinearDenoiser:
        config = self.state.config
        rows = self.rows(rng, N_LINEAR, config.span_days, (0, self.train_stop))
        paths = shuffled(self.paths(rows, rng), np.ones(len(rows), dtype=bool), rng) * config.path_scale
        return LinearDenoiser.fit(paths, [self.conditions(rows, kind).maps for kind in range(len(KINDS))])

    def rows(self, rng: np.random.Generator, n: int, length: int, bounds: tuple[int, int] | None = None) -> np.ndarray:
        """
        Row numbers of windows drawn at random (n, length).

        :param bounds: first row, and one past the last row, that windows may have; all if not given
        """
        first, stop = bounds or (0, len(self.logs))
        return rng.integers(first, stop - length + 1, size=(n, 1)) + np.arange(length)

    def spread_rows(self, rng: np.random.Generator, n: int, length: int) -> np.ndarray:
        """Row numbers of windows that begin at evenly spread days, so that no year counts by luck (n, length)."""
        starts = (np.arange(n) + rng.random(n)) * ((len(self.logs) - length + 1) / n)
        return starts.astype(np.int64)[:, None] + np.arange(length)

    def paths(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Block means of windows, each from one draw of the paths (n, n_blocks, n_channels)."""
        draws = rng.integers(len(self.channels), size=(len(rows), 1))
        return block_means(self.channels[draws, rows])

    def conditions(self, rows: np.ndarray, kind: int) -> Conditions:
        """Conditions of windows, of one kind."""
        name = KINDS[kind]
        regimes = self.regimes[rows] * (name in ("regime", "both"))
        volatility = self.volatility[rows] * (name in ("volatility", "both"))
        return Conditions(kind, regimes, volatility, np.zeros_like(volatility))


def shuffled(paths: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    :param paths: volatilities, betas and trend (n, n_blocks, n_channels)
    :param which: windows whose assets change places (n,)
    """
    paths, n_assets = paths.copy(), paths.shape[2] // 2 - 1
    for window in np.flatnonzero(which):
        order = 1 + rng.permutation(n_assets)
        paths[window, :, 1:-1] = paths[window][:, np.append(order, n_assets + order)]
    return paths


def training_record(market: MarketData, detector: RegimeDetector, seed: int) -> TrainingRecord:
    """Where a generator comes from, before it is trained."""
    return TrainingRecord(
        market.assets, market.benchmark, str(market.dates[0]), str(market.dates[-1]), market.source, market.content_hash,
        repr(detector), seed, 0, {},
    )  # fmt: skip


def _transitions(labels: np.ndarray) -> np.ndarray:
    """Daily transition probabilities; every regime starts with one day that leaves it evenly, so that no row is empty."""
    counts = np.full((len(REGIMES), len(REGIMES)), 1.0 / len(REGIMES))
    np.add.at(counts, (labels[:-1], labels[1:]), 1.0)
    return counts / counts.sum(axis=1, keepdims=True)
