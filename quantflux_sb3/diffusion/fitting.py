"""
Fitting the calibration: what the generator draws is compared with the training years, and its maps are moved until they
agree. Each kind of condition is drawn from the network once; the rest is decoding.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from quantflux_sb3.diffusion.calibration import (
    Calibration,
    PathCalibration,
    ReturnCalibration,
    deviation_bands,
    drift_inputs,
    path_inputs,
    replace_array,
)
from quantflux_sb3.diffusion.conditions import DIAL_VOLATILITIES, KINDS, Conditions, build_conditions
from quantflux_sb3.diffusion.config import BLOCK_DAYS
from quantflux_sb3.diffusion.representation import LAG_DAYS
from quantflux_sb3.diffusion.sampling import PathSampler
from quantflux_sb3.diffusion.state import GeneratorState
from quantflux_sb3.diffusion.stylised import absolute_acf, leverage, windows_of
from quantflux_sb3.diffusion.windows import TrainingWindows
from quantflux_sb3.regimes import REGIMES, TRADING_DAYS

#: Training windows that paths are compared with.
N_REAL = 5000
#: Rounds of moving all corrections together, and of (correlation map, quantile map) on returns at their end.
MATCH_ROUNDS, RETURN_ROUNDS = 5, 3
#: Windows of the drawn paths, and how many paths the rounds decode.
N_WINDOWS, N_MATCH = 3, 300
#: Lags at which the autocorrelation of absolute returns is compared [days]; those up to 20 count in full.
ACF_LAGS = np.array([*range(1, 21), 25, 30, 35, 40])
ACF_WEIGHTS = np.where(ACF_LAGS <= 20, 1.0, 0.5)
#: Part of a gap that a round closes, ridge of the gains' least squares, and their bounds.
RATE, GAIN_RIDGE, GAIN_BOUNDS = 0.7, 0.02, (0.6, 1.5)
#: Windows drawn per regime that lasts, and the fewest training windows in one that say something about its returns.
N_PURE, LEAST_PURE = 120, 50
#: Share of a window's days that must lie in a regime for it to be one of that regime.
REGIME_PURITY = 0.9
#: Windows drawn for each setting of the volatility dial.
N_DIAL = 128


def calibrate(
    state: GeneratorState, windows: TrainingWindows, sampler: PathSampler, rng: np.random.Generator
) -> GeneratorState:
    """
    :param state: fitted representation
    :param windows: the training market
    :param sampler: of the trained network
    :param rng: of all draws
    :return: the state with its calibrations
    """
    fit = _Fit(windows, sampler, rng, torch.Generator().manual_seed(int(rng.integers(2**62))))
    calibrations: list[Calibration] = []
    for kind in range(len(KINDS)):
        state, calibration = fit.one_kind(state, kind)
        calibrations.append(calibration)
    state = replace(state, calibrations=tuple(calibrations))
    return fit.dial(state)


@dataclass(frozen=True)
class _Pure:
    """Windows spent in one regime: what they return on the training years, and drawn paths to compare with."""

    moments: np.ndarray  # mean and standard deviation of the window's log return (n_regimes, 2)
    usable: np.ndarray  # whether there are enough of them (n_regimes,)
    raw: np.ndarray
    maps: np.ndarray
    regimes: np.ndarray
    white: np.ndarray


@dataclass(frozen=True)
class _Fit:
    windows: TrainingWindows
    sampler: PathSampler
    rng: np.random.Generator
    generator: torch.Generator

    def one_kind(self, state: GeneratorState, kind: int) -> tuple[GeneratorState, Calibration]:
        """:return: the state, whose shared parts are moved with the first kind only, and the kind's calibration"""
        windows, config = self.windows, state.config
        n_days = N_WINDOWS * config.window
        rows = windows.spread_rows(self.rng, max(config.n_calibration_samples // N_WINDOWS, 2), n_days)
        conditions = windows.conditions(rows, kind)
        raw = self.sampler.sample(conditions.maps, self.generator)
        real_rows = windows.spread_rows(self.rng, N_REAL, config.window)
        paths = PathCalibration.fit(
            raw, conditions.maps, windows.paths(real_rows, self.rng), windows.conditions(real_rows, kind).maps
        )
        white = self.rng.standard_normal(state.noise_shape(len(rows), n_days))
        calibration = Calibration(paths, np.zeros(2 * len(REGIMES)), np.zeros(len(REGIMES)), None)
        pure = self._pure(state, kind) if conditions.regimes.any() else None
        few = slice(None, None, max(len(rows) // N_MATCH, 1))
        for _ in range(MATCH_ROUNDS):
            state, calibration = self._round(
                state, calibration, raw[few], _rows_of(conditions, few), white[few], windows.logs[rows[few]], pure
            )
        logs = _decode(state, calibration, raw, conditions.maps, conditions.regimes, white)
        return state, replace(calibration, returns=ReturnCalibration.fit(logs, windows.logs[real_rows], RETURN_ROUNDS))

    def _round(
        self, state: GeneratorState, calibration: Calibration, raw: np.ndarray, conditions: Conditions, white: np.ndarray,
        real: np.ndarray, pure: _Pure | None,
    ) -> tuple[GeneratorState, Calibration]:  # fmt: skip
        decoded = _decode(state, calibration, raw, conditions.maps, conditions.regimes, white)
        whole = self.windows.logs[None]
        calibration = replace(calibration, returns=ReturnCalibration.fit(decoded, whole, 1))
        logs = calibration.returns.apply(decoded)
        length = len(calibration.paths.mode_maps[0]) * BLOCK_DAYS
        acfs = [absolute_acf(part, ACF_LAGS) for part in (logs[:, :length], logs[:, length:])]
        # 1. what all kinds share: dependence of one series' size on another's, and of sizes on the last returns
        if conditions.kind == 0:
            coupling = state.daily.coupling + RATE * size_gap(logs, whole)
            weights = state.representation.phi_weights.copy()
            weights[:, :LAG_DAYS] += RATE * (leverage(whole) - leverage(logs))[:, None]
            weights[:, LAG_DAYS:] += RATE * (self._real_acf - np.mean(acfs, axis=0))[:LAG_DAYS].T
            state = replace(
                state, daily=state.daily.with_coupling(coupling),
                representation=replace(state.representation, phi_weights=weights),
            )  # fmt: skip
        # 2. clustering
        gains = _moved_gains(calibration.paths, raw, conditions.maps, acfs, self._real_acf)
        calibration = replace(calibration, paths=replace_array(calibration.paths, gains=gains))
        # 3. drift per regime, and the spread of a window's return in one that lasts
        volatility = decoded[..., 0].std() * np.ones(decoded.shape[:2])
        drift = calibration.drift + drift_gap(logs[..., 0], real[..., 0], volatility, conditions.regimes)
        calibration = replace(calibration, drift=drift)
        return state, calibration if pure is None else _match_pure(state, calibration, pure)

    @cached_property
    def _real_acf(self) -> np.ndarray:
        return absolute_acf(self.windows.logs[None], ACF_LAGS)

    def _pure(self, state: GeneratorState, kind: int) -> _Pure:
        length, n_regimes = state.config.window, len(REGIMES)
        purity = windows_of(self.windows.regimes, length).mean(axis=1)
        sums = windows_of(self.windows.logs[:, :1], length).sum(axis=1)[:, 0]
        starts, moments, regimes = [], np.zeros((n_regimes, 2)), np.repeat(np.arange(n_regimes), N_PURE)
        counts = (purity >= REGIME_PURITY).sum(axis=0)
        for regime in range(n_regimes):
            pure = purity[:, regime] >= min(REGIME_PURITY, purity[:, regime].max())
            moments[regime] = sums[pure].mean(), sums[pure].std()
            starts.append(self.rng.choice(np.flatnonzero(pure), N_PURE))
        conditions = self.windows.conditions(np.concatenate(starts)[:, None] + np.arange(length), kind)
        constant = np.repeat(np.eye(n_regimes)[regimes][:, None], length, axis=1)
        conditions = replace(conditions, regimes=constant)
        raw = self.sampler.sample(conditions.maps, self.generator)
        white = self.rng.standard_normal(state.noise_shape(len(raw), length))
        return _Pure(moments, counts >= LEAST_PURE, raw, conditions.maps, constant, white)

    def dial(self, state: GeneratorState) -> GeneratorState:
        """Ask for constant volatilities and note by how much they are missed."""
        logs = np.log(DIAL_VOLATILITIES)
        missed = np.zeros((1 + len(REGIMES), len(logs)))
        for setting, regime in enumerate((None, *range(len(REGIMES)))):
            asked = np.repeat(DIAL_VOLATILITIES, N_DIAL if regime is None else N_DIAL // 2)[:, None]
            asked = asked * np.ones(state.config.window)
            regimes = None if regime is None else np.full(asked.shape, regime)
            conditions = build_conditions(regimes, asked, state.volatility_scale, *asked.shape)
            raw = self.sampler.sample(conditions.maps, self.generator)
            white = self.rng.standard_normal(state.noise_shape(*asked.shape))
            market = state.assemble(raw, conditions, white)[..., 0].reshape(len(logs), -1)
            gap = logs - np.log(market.std(axis=1) * np.sqrt(TRADING_DAYS))
            missed[setting] = np.polyval(np.polyfit(logs, gap, 2), logs)  # smooth: each setting alone is a noisy figure
        return replace(state, volatility_scale=replace(state.volatility_scale, dial=missed))


def drift_gap(market: np.ndarray, real: np.ndarray, volatility: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """
    Change of drift that gives the benchmark its mean returns per regime, to first order.

    :param market: generated log returns of the benchmark (n, n_days)
    :param real: of the training windows under the same conditions (n, n_days)
    :param volatility: daily volatility of the generated ones (n, n_days)
    :param one_hot: regime per day (n, n_days, n_regimes); zero if not given
    :return: weights on :func:`drift_inputs` (2 * n_regimes,) [standard deviations per day]
    """
    inputs = drift_inputs(one_hot).reshape(-1, 2 * one_hot.shape[-1])
    effect = inputs.T @ (inputs * volatility.reshape(-1, 1))
    return np.linalg.pinv(effect, rcond=1e-6) @ (inputs.T @ (real - market).reshape(-1))


def size_gap(logs: np.ndarray, real: np.ndarray) -> np.ndarray:
    """
    :param logs: generated log returns (n, n_days, n_series)
    :param real: training log returns (n, n_days, n_series)
    :return: what the correlation of absolute returns lacks, lower triangle (n_series, n_series)
    """
    found, wanted = (np.corrcoef(np.abs(values.reshape(-1, values.shape[-1])).T) for values in (logs, real))
    return np.tril(wanted - found, -1)


def _decode(
    state: GeneratorState, calibration: Calibration, raw: np.ndarray, maps: np.ndarray, one_hot: np.ndarray, white: np.ndarray
) -> np.ndarray:
    return state.decode(calibration.paths.apply(raw, maps), white, one_hot, calibration.drift, calibration.strays)


def _rows_of(conditions: Conditions, rows: slice) -> Conditions:
    return Conditions(conditions.kind, conditions.regimes[rows], conditions.volatility[rows], conditions.log_scale[rows])


def _moved_gains(
    paths: PathCalibration, raw: np.ndarray, maps: np.ndarray, found: list[np.ndarray], wanted: np.ndarray
) -> np.ndarray:
    """
    Gains of the paths' deviations that bring the autocorrelation of absolute returns nearer to the real one: it follows the
    paths' own autocovariance, to which slow, medium and fast deviations add theirs.

    :param found: of generated returns, first and later windows (n_lags, n_series) each
    :param wanted: of the training returns (n_lags, n_series)
    """
    plain = replace_array(paths, gains=np.ones_like(paths.gains))
    bands = deviation_bands(plain.apply(raw, maps) - path_inputs(maps) @ paths.target_weights)
    length = len(paths.mode_maps[0])
    parts = (bands[:, :, :length], bands[:, :, length:])
    gains = paths.gains.copy()
    for position, (part, acf) in enumerate(zip(parts, found, strict=True)):
        shapes = _autocovariances(part)
        for series in range(wanted.shape[1]):
            squares = gains[position, :, series] ** 2
            total = shapes[series] @ squares
            effect = shapes[series] * acf[:, series].mean() / total.mean() * ACF_WEIGHTS[:, None]
            gap = (wanted - acf)[:, series] * ACF_WEIGHTS
            ridge = GAIN_RIDGE * np.trace(effect.T @ effect) * np.eye(len(squares))
            change = np.linalg.solve(effect.T @ effect + ridge, effect.T @ gap)
            gains[position, :, series] = np.clip(np.sqrt(np.maximum(squares + RATE * change, 0.0)), *GAIN_BOUNDS)
    return gains


def _autocovariances(bands: np.ndarray) -> np.ndarray:
    """
    :param bands: (n_bands, n, n_blocks, n_channels)
    :return: at ``ACF_LAGS`` (n_channels, n_lags, n_bands)
    """
    block_lags, n_blocks = np.arange(ACF_LAGS[-1] // BLOCK_DAYS + 1), bands.shape[2]
    shapes = np.stack([(bands[:, :, lag:] * bands[:, :, : n_blocks - lag]).mean(axis=(1, 2)) for lag in block_lags])
    days = ACF_LAGS / BLOCK_DAYS
    return np.stack([[np.interp(days, block_lags, band) for band in channel.T] for channel in shapes.T.swapaxes(1, 2)]).swapaxes(1, 2)


def _match_pure(state: GeneratorState, calibration: Calibration, pure: _Pure) -> Calibration:
    decoded = _decode(state, calibration, pure.raw, pure.maps, pure.regimes, pure.white)
    market = calibration.returns.apply(decoded)[..., 0]
    n_regimes = len(pure.usable)
    sums, scale = market.sum(axis=1).reshape(n_regimes, -1), market.std(axis=1).reshape(n_regimes, -1).mean(axis=1)
    gap = (pure.moments[:, 0] - sums.mean(axis=1)) / (scale * market.shape[1])
    drift, strays = calibration.drift.copy(), calibration.strays.copy()
    drift[n_regimes:] += RATE * np.where(pure.usable, gap, 0.0)
    ratio = np.where(pure.usable, pure.moments[:, 1] / sums.std(axis=1), 1.0)
    strays = np.clip((1.0 + strays) * ratio**RATE - 1.0, -1.0, 1.0)
    return replace(calibration, drift=drift, strays=strays)
