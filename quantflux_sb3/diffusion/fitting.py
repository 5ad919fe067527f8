"""
Fitting the calibration: what the generator draws is compared with the training years, and its maps are moved until they
agree. Each kind of condition is drawn from the network once; the rest is decoding.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from quantflux_sb3.diffusion.calibration import Calibration, PathCalibration, ReturnCalibration, by_position
from quantflux_sb3.diffusion.conditions import DIAL_VOLATILITIES, KINDS, Conditions, build_conditions
from quantflux_sb3.diffusion.config import BLOCK_DAYS
from quantflux_sb3.diffusion.daily import regime_inputs
from quantflux_sb3.diffusion.representation import LAG_DAYS
from quantflux_sb3.diffusion.sampling import PathSampler
from quantflux_sb3.diffusion.state import GeneratorState
from quantflux_sb3.diffusion.stylised import LEVERAGE_LAGS, absolute_acf, leverage, windows_of
from quantflux_sb3.diffusion.windows import TrainingWindows
from quantflux_sb3.regimes import REGIMES, TRADING_DAYS

#: Training windows that paths are compared with.
N_REAL = 5000
#: Drawn paths: windows of each, and paths for each of the config's samples. Then more of them for the first kind: without
#: conditions few windows are crises, and these decide about correlations and clustering.
SETS = ((1, 1 / 2), (5, 1 / 10))
MORE_SETS = ((1, 4 / 5), (5, 1 / 16))
#: The fewest paths of a set; crises are rare, and a table of quantiles without one is wrong.
LEAST_PATHS = 150
#: Rounds of moving all corrections together, of the first kind of condition and of those that start from it; how many more
#: of the first kind's look at the further paths as well; rounds of (correlation map, quantile map) on returns at their end,
#: and of matching the returns of regimes after that.
MATCH_ROUNDS, LATER_ROUNDS, WIDE_ROUNDS, RETURN_ROUNDS, PURE_ROUNDS = 4, 2, 4, 3, 2
#: Lags at which the autocorrelation of absolute returns is compared [days]; those up to 20 count in full.
ACF_LAGS = np.array([*range(1, 21), 25, 30, 40])
ACF_WEIGHTS = np.where(ACF_LAGS <= 20, 1.0, 0.5)
#: Change per gap and round: in general, of the weights per lag (the gains close the same gap), and of the coupling, which
#: moves a correlation by little.
RATE, LAG_RATE, COUPLING_RATE = 0.7, 0.5, 2.0
#: The same, ridge and bounds of the gains.
GAIN_RATE, GAIN_RIDGE, GAIN_BOUNDS = 0.8, 0.005, (0.5, 1.6)
#: Windows drawn per regime that lasts, and for each setting of the volatility dial, for each of the config's samples (half
#: as many for a setting with a regime).
PURE_SHARE, DIAL_SHARE = 1 / 7, 1 / 40
#: The fewest training windows in a regime that say something about its returns, and the fewest to draw of it.
LEAST_PURE, LEAST_PURE_DRAWN = 50, 400
#: Share of a window's days that must lie in a regime for it to be one of that regime.
REGIME_PURITY = 0.9


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
        calibrations.append(fit.one_kind(state, kind, calibrations[-1] if kind else None))
    return fit.dial(replace(state, calibrations=tuple(calibrations)))


@dataclass(frozen=True, eq=False)
class _Drawn:
    """
    Paths of one kind, decoded again and again: what of them does not change from round to round.

    :param conditions: that they were drawn under
    :param bands: see :meth:`PathCalibration.bands`
    :param innovations: see :meth:`DailyModel.innovations`
    """

    conditions: Conditions
    bands: np.ndarray
    innovations: np.ndarray

    @classmethod
    def of(
        cls, state: GeneratorState, paths: PathCalibration, raw: np.ndarray, conditions: Conditions, rng: np.random.Generator
    ) -> "_Drawn":
        innovations = state.daily.innovations(rng.standard_normal(state.noise_shape(*conditions.regimes.shape[:2])))
        return cls(conditions, paths.bands(raw, conditions.maps), innovations)

    def decode(self, state: GeneratorState, calibration: Calibration) -> np.ndarray:
        """Log returns before their last maps (n, n_days, n_series)."""
        blocks = calibration.paths.compose(self.bands)
        return state.decode(blocks, self.innovations, self.conditions.regimes, calibration)


@dataclass(frozen=True, eq=False)
class _Pure:
    """
    Windows spent in one regime.

    :param moments: mean and standard deviation of the window's log return on the training years (n_regimes, 2)
    :param usable: whether there are enough of them (n_regimes,)
    :param drawn: paths to compare with, the same number for each regime
    """

    moments: np.ndarray
    usable: np.ndarray
    drawn: _Drawn


@dataclass(frozen=True)
class _Fit:
    windows: TrainingWindows
    sampler: PathSampler
    rng: np.random.Generator
    generator: torch.Generator

    def one_kind(self, state: GeneratorState, kind: int, before: Calibration | None) -> Calibration:
        """
        :param before: calibration of the kind before, to start from
        """
        windows, config = self.windows, state.config
        n = config.n_calibration_samples
        sets = SETS if kind else SETS + MORE_SETS
        rows = [windows.spread_rows(self.rng, max(int(n * share), LEAST_PATHS), k * config.window) for k, share in sets]
        conditions = [windows.conditions(days, kind) for days in rows]
        raw = [self.sampler.sample(one.maps, self.generator) for one in conditions]
        real_rows = windows.spread_rows(self.rng, N_REAL, config.window)
        real = windows.paths(real_rows, self.rng), windows.conditions(real_rows, kind).maps
        paths = PathCalibration.fit([(x, one.maps) for x, one in zip(raw, conditions, strict=True)], *real)
        drawn = [_Drawn.of(state, paths, x, one, self.rng) for x, one in zip(raw, conditions, strict=True)]
        calibration = Calibration.uncorrected(paths, state.representation.phi_weights)
        if before is not None:
            calibration = replace(before, paths=replace(paths, gains=before.paths.gains))
        pure = self._pure(state, paths, kind) if drawn[0].conditions.regimes.any() else None
        rounds = [len(SETS)] * (LATER_ROUNDS if kind else MATCH_ROUNDS) + [len(sets)] * (0 if kind else WIDE_ROUNDS)
        for n_sets in rounds:
            calibration = self._round(state, calibration, drawn[:n_sets], rows[:n_sets], pure)
        logs = [one.decode(state, calibration) for one in drawn]
        calibration = replace(calibration, returns=self.returns(logs, RETURN_ROUNDS))
        for _ in range(PURE_ROUNDS if pure is not None else 0):  # the last map has moved the means of regimes a little
            calibration = _match_pure(state, calibration, pure)
        return calibration

    def returns(self, logs: list[np.ndarray], n_rounds: int) -> ReturnCalibration:
        """
        :param logs: decoded log returns of whole paths (n, n_days, n_series) each
        """
        positions = by_position(logs, self.windows.state.config.window)
        return ReturnCalibration.fit(positions, self.windows.logs[None], n_rounds)

    def _round(
        self, state: GeneratorState, calibration: Calibration, drawn: list[_Drawn], rows: list[np.ndarray], pure: _Pure | None
    ) -> Calibration:
        window = state.config.window
        decoded = [one.decode(state, calibration) for one in drawn]
        returns = self.returns(decoded, 1)
        logs = [returns.apply(one, window) for one in decoded]
        positions = by_position(logs, window)
        acfs = [absolute_acf(part, ACF_LAGS) for part in positions]
        # 1. sizes given other series and the days before, then clustering
        calibration = self._move_sizes(calibration, positions[0], acfs[0])
        bands = by_position([one.bands.transpose(1, 2, 0, 3) for one in drawn], state.config.n_blocks)
        shapes = [_autocovariances(part.transpose(2, 0, 1, 3)) for part in bands]
        gains = _moved_gains(calibration.paths.gains, shapes, acfs, self._real_acf)
        calibration = replace(calibration, paths=replace(calibration.paths, gains=gains), returns=returns)
        if pure is None:
            return calibration
        # 2. drift per regime, and the spread of a window's return in one that lasts
        market, real, one_hot = (
            by_position(sets, window)[0]
            for sets in (
                [one[..., :1] for one in logs], [self.windows.logs[days, :1] for days in rows],
                [one.conditions.regimes for one in drawn],
            )
        )  # fmt: skip
        drift = calibration.drift + drift_gap(market, real, market.std(), one_hot)
        return _match_pure(state, replace(calibration, drift=drift), pure)

    def _move_sizes(self, calibration: Calibration, logs: np.ndarray, acf: np.ndarray) -> Calibration:
        """Dependence of one series' size on another's size, and of sizes on the last returns."""
        coupling = calibration.coupling + COUPLING_RATE * size_gap(logs, self.windows.logs[None])
        weights = calibration.phi_weights.copy()
        weights[:, :LEVERAGE_LAGS] += RATE * (self._real_leverage - leverage(logs))[:, None]
        weights[:, LAG_DAYS:] += LAG_RATE * (self._real_acf - acf)[:LAG_DAYS].T
        return replace(calibration, coupling=coupling, phi_weights=weights)

    @cached_property
    def _real_leverage(self) -> np.ndarray:
        return leverage(self.windows.logs[None])

    @cached_property
    def _real_acf(self) -> np.ndarray:
        return absolute_acf(windows_of(self.windows.logs, self.windows.state.config.window), ACF_LAGS)

    def _pure(self, state: GeneratorState, paths: PathCalibration, kind: int) -> _Pure:
        length, n_regimes = state.config.window, len(REGIMES)
        n_pure = max(int(state.config.n_calibration_samples * PURE_SHARE), LEAST_PURE_DRAWN)
        purity = windows_of(self.windows.regimes, length).mean(axis=1)
        sums = windows_of(self.windows.logs[:, :1], length).sum(axis=1)[:, 0]
        starts, moments = [], np.zeros((n_regimes, 2))
        for regime in range(n_regimes):
            pure = purity[:, regime] >= min(REGIME_PURITY, purity[:, regime].max())
            moments[regime] = sums[pure].mean(), sums[pure].std()
            starts.append(self.rng.choice(np.flatnonzero(pure), n_pure))
        conditions = self.windows.conditions(np.concatenate(starts)[:, None] + np.arange(length), kind)
        constant = np.repeat(np.eye(n_regimes).repeat(n_pure, axis=0)[:, None], length, axis=1)
        conditions = replace(conditions, regimes=constant)
        raw = self.sampler.sample(conditions.maps, self.generator)
        usable = (purity >= REGIME_PURITY).sum(axis=0) >= LEAST_PURE
        return _Pure(moments, usable, _Drawn.of(state, paths, raw, conditions, self.rng))

    def dial(self, state: GeneratorState) -> GeneratorState:
        """Ask for constant volatilities and note by how much they are missed."""
        logs, n_dial = np.log(DIAL_VOLATILITIES), max(int(state.config.n_calibration_samples * DIAL_SHARE), 2)
        missed = np.zeros((1 + len(REGIMES), len(logs)))
        for setting, regime in enumerate((None, *range(len(REGIMES)))):
            asked = np.repeat(DIAL_VOLATILITIES, n_dial if regime is None else n_dial // 2)[:, None]
            asked = asked * np.ones(state.config.window)
            regimes = None if regime is None else np.full(asked.shape, regime)
            conditions = build_conditions(regimes, asked, state.volatility_scale, *asked.shape)
            raw = self.sampler.sample(conditions.maps, self.generator)
            white = self.rng.standard_normal(state.noise_shape(*asked.shape))
            market = state.assemble(raw, conditions, white)[..., 0].reshape(len(logs), -1)
            gap = logs - np.log(market.std(axis=1) * np.sqrt(TRADING_DAYS))
            missed[setting] = np.polyval(np.polyfit(logs, gap, 2), logs)  # smooth: each setting alone is a noisy figure
        return replace(state, volatility_scale=replace(state.volatility_scale, dial=missed))


def drift_gap(market: np.ndarray, real: np.ndarray, volatility: float, one_hot: np.ndarray) -> np.ndarray:
    """
    Change of drift that gives the benchmark its mean returns per regime, to first order.

    :param market: generated log returns of the benchmark (n, n_days)
    :param real: of the training windows under the same conditions (n, n_days)
    :param volatility: daily, of the generated ones
    :param one_hot: regime per day (n, n_days, n_regimes)
    :return: weights on :func:`regime_inputs` (2 * n_regimes,) [standard deviations per day]
    """
    inputs = regime_inputs(one_hot).reshape(-1, 2 * one_hot.shape[-1])
    return np.linalg.pinv(volatility * (inputs.T @ inputs), rcond=1e-6) @ (inputs.T @ (real - market).reshape(-1))


def size_gap(logs: np.ndarray, real: np.ndarray) -> np.ndarray:
    """
    :param logs: generated log returns (n, n_days, n_series)
    :param real: training log returns (n, n_days, n_series)
    :return: what the correlation of absolute returns lacks, lower triangle (n_series, n_series)
    """
    found, wanted = (np.corrcoef(np.abs(values.reshape(-1, values.shape[-1])).T) for values in (logs, real))
    return np.tril(wanted - found, -1)


def _moved_gains(gains: np.ndarray, shapes: list[np.ndarray], found: list[np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """
    Gains of the paths' deviations that bring the autocorrelation of absolute returns nearer to the real one: it follows the
    paths' own autocovariance, to which slow, medium and fast deviations add theirs.

    :param gains: to move (2, n_bands, n_channels)
    :param shapes: autocovariance of the bands, first and later windows (n_channels, n_lags, n_bands) each
    :param found: of generated returns, first and later windows (n_lags, n_series) each
    :param wanted: of the training returns (n_lags, n_series)
    """
    moved = gains.copy()
    for position, (shape, acf) in enumerate(zip(shapes, found, strict=True)):
        for series in range(wanted.shape[1]):
            squares = gains[position, :, series] ** 2
            scale = acf[:, series].mean() / (shape[series] @ squares).mean()
            effect = shape[series] * scale * ACF_WEIGHTS[:, None]
            gap = (wanted - acf)[:, series] * ACF_WEIGHTS
            ridge = GAIN_RIDGE * np.trace(effect.T @ effect) * np.eye(len(squares))
            change = np.linalg.solve(effect.T @ effect + ridge, effect.T @ gap)
            moved[position, :, series] = np.clip(np.sqrt(np.maximum(squares + GAIN_RATE * change, 0.0)), *GAIN_BOUNDS)
    return moved


def _autocovariances(bands: np.ndarray) -> np.ndarray:
    """
    :param bands: (n_bands, n, n_blocks, n_channels)
    :return: at ``ACF_LAGS`` (n_channels, n_lags, n_bands)
    """
    block_lags, n_blocks = np.arange(ACF_LAGS[-1] // BLOCK_DAYS + 1), bands.shape[2]
    shapes = np.stack([(bands[:, :, lag:] * bands[:, :, : n_blocks - lag]).mean(axis=(1, 2)) for lag in block_lags])
    days = ACF_LAGS / BLOCK_DAYS
    daily = [[np.interp(days, block_lags, band) for band in channel.T] for channel in shapes.T.swapaxes(1, 2)]
    return np.stack(daily).swapaxes(1, 2)


def _match_pure(state: GeneratorState, calibration: Calibration, pure: _Pure) -> Calibration:
    market = calibration.returns.apply(pure.drawn.decode(state, calibration), state.config.window)[..., 0]
    n_regimes = len(pure.usable)
    sums, scale = market.sum(axis=1).reshape(n_regimes, -1), market.std(axis=1).reshape(n_regimes, -1).mean(axis=1)
    gap = (pure.moments[:, 0] - sums.mean(axis=1)) / (scale * market.shape[1])
    drift = calibration.drift.copy()
    drift[n_regimes:] += RATE * np.where(pure.usable, gap, 0.0)
    ratio = np.where(pure.usable, pure.moments[:, 1] / sums.std(axis=1), 1.0)
    strays = np.clip((1.0 + calibration.strays) * ratio**RATE - 1.0, -1.0, 1.0)
    return replace(calibration, drift=drift, strays=strays)
