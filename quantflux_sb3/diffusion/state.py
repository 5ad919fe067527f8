"""Everything of a generator but its network: fitted maps and the record of its training, saved as safetensors and JSON."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from quantflux_sb3.diffusion.calibration import Calibration
from quantflux_sb3.diffusion.conditions import KINDS, Conditions, VolatilityScale
from quantflux_sb3.diffusion.config import GeneratorConfig
from quantflux_sb3.diffusion.daily import DailyModel, lasting, regime_inputs
from quantflux_sb3.diffusion.linear import LinearDenoiser
from quantflux_sb3.diffusion.representation import Representation
from quantflux_sb3.diffusion.smoothing import NOISE_REACH, block_means, upsample
from quantflux_sb3.market.data import MarketData

#: Days of a history that are looked at, and draws of its volatility that paths share.
MOST_HISTORY_DAYS, HISTORY_DRAWS = 1000, 16
RECORD_FILE, ARRAYS_FILE = "generator.json", "generator.safetensors"


@dataclass(frozen=True)
class TrainingRecord:
    """
    Where a generator comes from.

    :param assets: tickers, in order
    :param benchmark: name of the benchmark
    :param train_start: first date seen (ISO)
    :param train_end: last date seen (ISO)
    :param source: of the training market
    :param market_hash: content hash of the training market
    :param regime_detector: the definition of the regimes, in words
    :param seed: of training
    :param best_step: optimiser step whose weights were kept; 0 if the network did not help on held-out windows
    :param learning_curve: ``step``, ``train_loss`` and ``heldout_loss``, lists of equal length; step 0 is the linear denoiser
        without the network
    """

    assets: tuple[str, ...]
    benchmark: str
    train_start: str
    train_end: str
    source: str
    market_hash: str
    regime_detector: str
    seed: int
    best_step: int
    learning_curve: dict[str, list[float]]


@dataclass(frozen=True, eq=False)
class GeneratorState:
    """
    :param config: settings
    :param record: where it comes from
    :param representation: returns to paths and back
    :param daily: daily parts given paths
    :param linear: what the network corrects
    :param volatility_scale: annualised volatility to scores
    :param transitions: daily transition probabilities of the training regimes (n_regimes, n_regimes)
    :param regime_shares: share of training days per regime (n_regimes,)
    :param regime_volatility: annual volatility of the benchmark on training days of each regime (n_regimes,)
    :param beta: of the assets to the benchmark (n_assets,)
    :param calibrations: one per kind of condition, empty before calibration
    """

    config: GeneratorConfig
    record: TrainingRecord
    representation: Representation
    daily: DailyModel
    linear: LinearDenoiser
    volatility_scale: VolatilityScale
    transitions: np.ndarray
    regime_shares: np.ndarray
    regime_volatility: np.ndarray
    beta: np.ndarray
    calibrations: tuple[Calibration, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """:return: everything fitted by name, contiguous"""
        arrays = {name: getattr(self, name) for name in _PLAIN}
        for name in _PARTS:
            part = getattr(self, name)
            arrays |= {f"{name}.{f.name}": getattr(part, f.name) for f in fields(part)}
        for kind, calibration in zip(KINDS, self.calibrations, strict=True):
            arrays |= {f"calibration.{kind}.{name}": array for name, array in calibration.arrays().items()}
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, config: GeneratorConfig, record: TrainingRecord, arrays: dict[str, np.ndarray]) -> "GeneratorState":
        """
        :param arrays: of :meth:`arrays`
        """
        fitted = {name: kind(**_under(arrays, f"{name}.")) for name, kind in _PARTS.items()}
        calibrations = tuple(Calibration.from_arrays(_under(arrays, f"calibration.{kind}.")) for kind in KINDS)
        return cls(config, record, **fitted, **{name: arrays[name] for name in _PLAIN}, calibrations=calibrations)

    def save(self, folder: Path) -> None:
        """
        :param folder: gets ``generator.json`` and ``generator.safetensors``
        """
        save_file(self.arrays(), folder / ARRAYS_FILE)
        text = json.dumps({"config": asdict(self.config), "record": asdict(self.record)}, indent=2)
        (folder / RECORD_FILE).write_text(text + "\n")

    @classmethod
    def load(cls, folder: Path) -> "GeneratorState":
        """
        :param folder: where :meth:`save` wrote
        """
        text = json.loads((folder / RECORD_FILE).read_text())
        record = TrainingRecord(**{**text["record"], "assets": tuple(text["record"]["assets"])})
        return cls.from_arrays(GeneratorConfig(**text["config"]), record, load_file(folder / ARRAYS_FILE))

    def assemble(self, raw: np.ndarray, conditions: Conditions, white: np.ndarray) -> np.ndarray:
        """
        From the network's paths to log returns.

        :param raw: paths of the network (n_paths, n_blocks, n_channels)
        :param conditions: what they were drawn under
        :param white: Gaussian noise (n_paths, n_days + 2 * NOISE_REACH, n_series)
        :return: log returns, benchmark first (n_paths, n_days, n_series)
        """
        calibration = self.calibrations[conditions.kind]
        blocks = calibration.paths.apply(raw, conditions.maps)
        innovations = self.daily.innovations(white)
        logs = self.decode(blocks, innovations, conditions.regimes, calibration)
        return calibration.returns.apply(logs, self.config.window) * np.exp(conditions.log_scale)

    def decode(self, blocks: np.ndarray, innovations: np.ndarray, one_hot: np.ndarray, calibration: Calibration) -> np.ndarray:
        """
        From calibrated paths to log returns that are not calibrated yet.

        :param blocks: calibrated paths (n_paths, n_blocks, n_channels)
        :param innovations: of the daily model (n_paths, n_days, n_series)
        :param one_hot: regime per day (n_paths, n_days, n_regimes); zero if not given
        :param calibration: whose maps of daily parts are used
        :return: log returns, benchmark first (n_paths, n_days, n_series)
        """
        paths = upsample(blocks[..., :-1], self.representation.taps)
        trend = upsample(blocks[..., -1:], self.daily.trend_taps)[..., 0]
        shift, strays = regime_inputs(one_hot) @ calibration.drift, lasting(one_hot) @ calibration.strays
        noise = self.daily.sample(paths, trend, shift, strays, innovations, calibration.coupling)
        return self.representation.decode(paths, noise, calibration.phi_weights)

    def encode_history(self, history: MarketData | np.ndarray, n_paths: int, rng: np.random.Generator) -> np.ndarray:
        """
        :param history: see :meth:`RegimeDDPMPipeline.__call__`
        :param n_paths: paths that continue it
        :param rng: of the draws of its volatility
        :return: paths of its last window (n_paths, n_blocks, n_channels)
        :raises ValueError: if the history does not fit
        """
        logs = self._history_logs(history)[-MOST_HISTORY_DAYS:]
        drawn = [self.representation.encode(logs, rng) for _ in range(min(n_paths, HISTORY_DRAWS))]
        paths, noise = (np.stack(part) for part in zip(*drawn, strict=True))
        channels = np.concatenate([paths, self.daily.trend(noise)[..., None]], axis=-1)
        return block_means(channels[:, -self.config.window :])[np.arange(n_paths) % len(drawn)]

    def _history_logs(self, history: MarketData | np.ndarray) -> np.ndarray:
        if isinstance(history, MarketData):
            if history.assets != self.record.assets:
                raise ValueError(f"The generator has the assets {list(self.record.assets)}; got {list(history.assets)}.")
            history = np.column_stack([history.benchmark_returns, history.returns])
        values, n_series = np.asarray(history), 1 + len(self.record.assets)
        if values.dtype.kind not in "iuf":
            raise ValueError(f"`history` must be a market or an array of simple returns; got {type(history).__name__}.")
        values = values.astype(np.float64)
        if values.ndim != 2 or values.shape[1] != n_series or len(values) < self.config.window:
            raise ValueError(
                f"`history` has shape {values.shape}; expected at least {self.config.window} days x {n_series} series, "
                f"{self.record.benchmark} first, then {list(self.record.assets)}."
            )
        if not np.isfinite(values).all() or values.min() <= -1.0:
            row = int(np.argwhere(~np.isfinite(values) | (values <= -1.0))[0][0])
            raise ValueError(f"`history` must be finite simple returns above -1; first bad row is {row}. Fill or drop it.")
        if np.median(np.abs(values)) > 0.5:
            raise ValueError("`history` must be simple returns (0.01 is 1 %); these look like prices. Give their changes.")
        return np.log1p(values)

    def noise_shape(self, n_paths: int, n_days: int) -> tuple[int, int, int]:
        """Shape of the white noise that paths need."""
        return n_paths, n_days + 2 * NOISE_REACH, 1 + len(self.record.assets)


_PLAIN = ("transitions", "regime_shares", "regime_volatility", "beta")
_PARTS = {"representation": Representation, "daily": DailyModel, "linear": LinearDenoiser, "volatility_scale": VolatilityScale}


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
