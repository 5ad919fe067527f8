"""
Corrections after the network, one set per kind of condition; :mod:`quantflux_sb3.diffusion.fitting` fits them.

Paths: linear dependence on the conditions, then optimal-transport maps of the covariance among series, per cosine mode of
a window, then quantiles of the window's level and of all points, then gains of slow, medium and fast parts. Daily
parts: drift per regime, how far slow moves stray in it, and what the size of a day's return takes from the days before (phi)
and from the other series (coupling). Returns: correlation by optimal transport and quantiles, in
turn. A path's first window and those that continue it have maps of their own, because the network draws them differently.
Maps act pointwise or in overlapping windows that are blended, so that long paths have no seams. Marginals, correlations
and autocorrelations on the training years match by construction afterwards: judge a generator on held-out years too.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.fft import dct, idct

from quantflux_sb3.diffusion.quantiles import match_quantiles, quantile_table, transport_map
from quantflux_sb3.diffusion.smoothing import around_mean
from quantflux_sb3.regimes import REGIMES

#: Blocks between the overlapping windows in which a path longer than a window is mapped.
HOP_BLOCKS = 4
#: Blocks to each side over which the conditions around a block are averaged.
AROUND_BLOCKS = 8
#: Blocks to each side of the means that are a path's slow part, and medium; the rest is fast.
SLOW_BLOCKS, MEDIUM_BLOCKS = 8, 2
#: Share of what a return exceeds the quantiles by that it keeps: more days are drawn than were ever seen, and their extremes
#: before the map say little (kept whole, they gave the index days of -24 % after a history whose worst was -10 %).
TAIL_SLOPE = 0.2
#: Blocks in which the gains of a path's first window give way to those of later ones.
RAMP_BLOCKS = 8


@dataclass(frozen=True, eq=False)
class PathCalibration:
    """
    Map of raw paths of one kind of condition (n_channels = 2 * n_series: volatilities, betas, trend). Where there are two of
    something, the first is for a path's first window and the second for those that continue it.

    :param source_weights: raw paths on constant, condition maps and their local means (2, 1 + 2 * n_maps, n_channels)
    :param target_weights: the same of training paths (1 + 2 * n_maps, n_channels)
    :param mode_maps: transport of the covariance per cosine mode of a window, slowest first
        (2, n_window_blocks, n_channels, n_channels)
    :param level_source: quantiles of the slowest mode after its transport (2, n_channels, n_grid)
    :param level_target: quantiles of the slowest mode of training windows (n_channels, n_grid)
    :param source_table: quantiles after these maps (2, n_channels, n_grid)
    :param target_table: quantiles of training paths (n_channels, n_grid)
    :param gains: of the slow, medium and fast parts of what then comes out (2, 3, n_channels)
    """

    source_weights: np.ndarray
    target_weights: np.ndarray
    mode_maps: np.ndarray
    level_source: np.ndarray
    level_target: np.ndarray
    source_table: np.ndarray
    target_table: np.ndarray
    gains: np.ndarray

    @classmethod
    def fit(cls, drawn: list[tuple[np.ndarray, np.ndarray]], real: np.ndarray, maps: np.ndarray) -> "PathCalibration":
        """
        :param drawn: sets of paths of the network, whole windows long, at least one set longer than a window
            (n, n_windows * n_window_blocks, n_channels), each with its conditions (n, n_windows * n_window_blocks, n_maps)
        :param real: training windows (n_real, n_window_blocks, n_channels)
        :param maps: their conditions (n_real, n_window_blocks, n_maps)
        """
        length = real.shape[1]
        sets = [(raw, path_inputs(raw_maps)) for raw, raw_maps in drawn]
        # 1. what the conditions say, of generated and of training paths
        parts = list(zip(by_position([x for _, x in sets], length), by_position([y for y, _ in sets], length), strict=True))
        source_weights = [_least_squares(x, y) for x, y in parts]
        real_inputs = path_inputs(maps)
        target_weights = _least_squares(real_inputs, real)
        # 2. covariance and level of the rest, mode by mode
        modes = [_modes(y - x @ weights) for (x, y), weights in zip(parts, source_weights, strict=True)]
        real_modes = _modes(real - real_inputs @ target_weights)
        targets = [_covariance(mode) for mode in real_modes]
        mode_maps = [[transport_map(_covariance(m), t) for m, t in zip(part, targets, strict=True)] for part in modes]
        levels = [quantile_table(part[0] @ maps[0]) for part, maps in zip(modes, mode_maps, strict=True)]
        # 3. quantiles of what comes out
        target_table = quantile_table(_rows(real))
        partly = cls(
            np.stack(source_weights), target_weights, np.array(mode_maps), np.stack(levels), quantile_table(real_modes[0]),
            np.stack([target_table] * 2), target_table, np.ones((2, 3, real.shape[2])),
        )  # fmt: skip
        before = by_position([partly._before_quantiles(raw, inputs) for raw, inputs in sets], length)
        return replace(partly, source_table=np.stack([quantile_table(_rows(part)) for part in before]))

    def apply(self, raw: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """
        :param raw: paths of the network (n, n_blocks, n_channels)
        :param maps: their conditions (n, n_blocks, n_maps)
        """
        return self.compose(self.bands(raw, maps))

    def bands(self, raw: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """
        :param raw: paths of the network (n, n_blocks, n_channels)
        :param maps: their conditions (n, n_blocks, n_maps)
        :return: slow, medium and fast parts of the mapped paths (3, n, n_blocks, n_channels)
        """
        inputs, length = path_inputs(maps), self.mode_maps.shape[1]
        before = self._before_quantiles(raw, inputs)
        parts = [before[:, :length], before[:, length:]]
        mapped = [match_quantiles(x, table, self.target_table) for x, table in zip(parts, self.source_table, strict=True)]
        return path_bands(np.concatenate(mapped, axis=1))

    def compose(self, bands: np.ndarray) -> np.ndarray:
        """
        :param bands: of :meth:`bands` (3, n, n_blocks, n_channels)
        :return: paths (n, n_blocks, n_channels)
        """
        gains = self._gains_at(np.arange(bands.shape[2])).transpose(1, 0, 2)
        return (bands * gains[:, None]).sum(axis=0)

    def _gains_at(self, blocks: np.ndarray) -> np.ndarray:
        """Gains per block: those of the first window, then those of later ones, with a ramp between them."""
        later = np.clip((blocks - self.mode_maps.shape[1]) / RAMP_BLOCKS + 0.5, 0.0, 1.0)[:, None, None]
        return (1.0 - later) * self.gains[0] + later * self.gains[1]

    def _before_quantiles(self, raw: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        length = self.mode_maps.shape[1]
        rest = raw - np.concatenate(
            [inputs[:, :length] @ self.source_weights[0], inputs[:, length:] @ self.source_weights[1]], 1
        )
        return inputs @ self.target_weights + self._map_windows(rest)

    def _map_windows(self, values: np.ndarray) -> np.ndarray:
        """Map the modes in overlapping windows and blend these with a taper; a single window is mapped as it is."""
        length, n_blocks = self.mode_maps.shape[1], values.shape[1]
        taper = np.hanning(length + 2)[1:-1, None]
        total, weight = np.zeros_like(values), np.zeros((n_blocks, 1))
        for start in sorted({*range(0, n_blocks - length, HOP_BLOCKS), n_blocks - length}):
            window = slice(start, start + length)
            later = min(start / length, 1.0)  # share of the window that lies after a path's first one
            maps = (1.0 - later) * self.mode_maps[0] + later * self.mode_maps[1]
            modes = (dct(values[:, window], axis=1, norm="ortho").swapaxes(0, 1) @ maps).swapaxes(0, 1)
            source = (1.0 - later) * self.level_source[0] + later * self.level_source[1]
            modes[:, 0] = match_quantiles(modes[:, 0], source, self.level_target)
            total[:, window] += taper * idct(modes, axis=1, norm="ortho")
            weight[window] += taper
        return total / weight


@dataclass(frozen=True, eq=False)
class ReturnCalibration:
    """
    Map of decoded log returns of one kind of condition; the first is for a path's first window, the second for later days.

    :param maps: transport of the covariance, per round (2, n_rounds, n_series, n_series)
    :param source_tables: quantiles before, per round (2, n_rounds, n_series, n_grid)
    :param target_table: quantiles of training returns (n_series, n_grid)
    """

    maps: np.ndarray
    source_tables: np.ndarray
    target_table: np.ndarray

    @classmethod
    def fit(cls, positions: list[np.ndarray], real: np.ndarray, n_rounds: int) -> "ReturnCalibration":
        """
        :param positions: decoded log returns of first windows, and of later ones (n, n_days, n_series) each
        :param real: training log returns under the same conditions (n_real, n_days, n_series)
        :param n_rounds: of correlation map and quantile map
        """
        target, covariance = quantile_table(_rows(real)), np.cov(_rows(real).T)
        fitted = [_alternate(_rows(logs), covariance, target, n_rounds) for logs in positions]
        maps, tables = (np.stack(part) for part in zip(*fitted, strict=True))
        return cls(maps, tables, target)

    def apply(self, logs: np.ndarray, window: int) -> np.ndarray:
        """
        :param logs: decoded log returns of whole paths (n, n_days, n_series)
        :param window: days of a path's first window
        """
        parts = zip((logs[:, :window], logs[:, window:]), self.maps, self.source_tables, strict=True)
        return np.concatenate([self._apply(part, maps, tables) for part, maps, tables in parts], axis=1)

    def _apply(self, logs: np.ndarray, maps: np.ndarray, tables: np.ndarray) -> np.ndarray:
        for matrix, table in zip(maps, tables, strict=True):
            logs = match_quantiles(logs @ matrix, table, self.target_table, TAIL_SLOPE)
        return logs


def _alternate(values: np.ndarray, covariance: np.ndarray, target: np.ndarray, n_rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps and tables of one position, for values (n_rows, n_series)."""
    maps, tables = [], []
    for _ in range(n_rounds):
        maps.append(transport_map(np.cov(values.T), covariance))
        values = values @ maps[-1]
        tables.append(quantile_table(values))
        values = match_quantiles(values, tables[-1], target, TAIL_SLOPE)
    return np.stack(maps), np.stack(tables)


@dataclass(frozen=True, eq=False)
class Calibration:
    """
    All maps of one kind of condition.

    :param paths: of the network's paths
    :param drift: further drift of the market's daily part per regime, then per its share of the days around (2 * n_regimes,)
    :param strays: change of the slow part of the market's daily part, per regime that lasts (n_regimes,)
    :param phi_weights: see :class:`Representation`, as generated paths need them (n_series, 2 * LAG_DAYS)
    :param coupling: effect of the size of series k on the log scale of series j > k (n_series, n_series)
    :param returns: of the decoded returns
    """

    paths: PathCalibration
    drift: np.ndarray
    strays: np.ndarray
    phi_weights: np.ndarray
    coupling: np.ndarray
    returns: ReturnCalibration | None

    @classmethod
    def uncorrected(cls, paths: PathCalibration, phi_weights: np.ndarray) -> "Calibration":
        """
        Where fitting begins.

        :param paths: of the network's paths
        :param phi_weights: of the training market (n_series, 2 * LAG_DAYS)
        """
        n_series, n_regimes = len(phi_weights), len(REGIMES)
        return cls(paths, np.zeros(2 * n_regimes), np.zeros(n_regimes), phi_weights, np.zeros((n_series, n_series)), None)

    def arrays(self) -> dict[str, np.ndarray]:
        """:return: everything by name, for safetensors"""
        parts = {"paths": self.paths, "returns": self.returns}
        named = {f"{p}.{f.name}": getattr(part, f.name) for p, part in parts.items() for f in fields(part)}
        return named | {name: getattr(self, name) for name in _PLAIN}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Calibration":
        """
        :param arrays: of :meth:`arrays`
        """
        paths, returns = (
            kind(**{f.name: arrays[f"{name}.{f.name}"] for f in fields(kind)})
            for name, kind in (("paths", PathCalibration), ("returns", ReturnCalibration))
        )
        return cls(paths, returns=returns, **{name: arrays[name] for name in _PLAIN})


_PLAIN = ("drift", "strays", "phi_weights", "coupling")


def by_position(sets: list[np.ndarray], length: int) -> list[np.ndarray]:
    """
    :param sets: paths (n, n_windows * length, ...) each
    :param length: of a window
    :return: all first windows, and all later ones: (n_all, length, ...) each
    """
    first = [values[:, :length] for values in sets]
    later = [values[:, start : start + length] for values in sets for start in range(length, values.shape[1], length)]
    return [np.concatenate(first), np.concatenate(later)]


def path_bands(paths: np.ndarray) -> np.ndarray:
    """
    :param paths: (n, n_blocks, n_channels)
    :return: their slow, medium and fast parts, which add up to them (3, n, n_blocks, n_channels)
    """
    slow, smooth = around_mean(paths, SLOW_BLOCKS), around_mean(paths, MEDIUM_BLOCKS)
    return np.stack([slow, smooth - slow, paths - smooth])


def path_inputs(maps: np.ndarray) -> np.ndarray:
    """
    Constant, condition maps and their surroundings: a day in a lasting regime differs from one in passing.

    :param maps: (n, n_blocks, n_maps)
    :return: (n, n_blocks, 1 + 2 * n_maps)
    """
    around = around_mean(maps, AROUND_BLOCKS)
    around[..., : len(REGIMES)] *= maps[..., : len(REGIMES)]
    return np.concatenate([np.ones((*maps.shape[:2], 1)), maps, around], axis=-1)


def _modes(values: np.ndarray) -> np.ndarray:
    """Cosine modes of windows, slowest first (n_blocks, n, n_channels)."""
    return dct(values, axis=1, norm="ortho").swapaxes(0, 1)


def _least_squares(inputs: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(_rows(inputs), _rows(values), rcond=None)[0]


def _covariance(values: np.ndarray) -> np.ndarray:
    rows = _rows(values)
    return rows.T @ rows / len(rows)


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])
