"""
Corrections after the network, fitted on training windows, one set per kind of condition.

Paths: linear dependence on the conditions, then optimal-transport maps of the covariance among series, per cosine mode of
a window, then quantiles of the window's level and of all points. Daily parts: drift per regime, and coupling of their
sizes. Returns: correlation by optimal transport and quantiles, in turn. Maps act pointwise or in overlapping windows that
are blended, so that long paths have no seams. Marginals and correlations on the training years match by construction
afterwards: judge a generator on held-out years too.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.fft import dct, idct

from quantflux_sb3.diffusion.config import BLOCK_DAYS
from quantflux_sb3.diffusion.quantiles import match_quantiles, quantile_table, transport_map
from quantflux_sb3.regimes import REGIMES

#: Blocks between the overlapping windows in which a path longer than a window is mapped.
HOP_BLOCKS = 2
#: Blocks to each side over which the conditions around a block are averaged.
AROUND_BLOCKS = 8
#: Rounds of (correlation map, quantile map) on returns, of drift per regime, and of coupling.
RETURN_ROUNDS = 3
DRIFT_ROUNDS = 3
COUPLING_ROUNDS = 5
#: Step of a coupling round per gap in the correlation of absolute returns.
COUPLING_RATE = 0.8


@dataclass(frozen=True, eq=False)
class PathCalibration:
    """
    Map of raw paths of one kind of condition (n_channels = n_series + 1: volatilities, then trend).

    :param source_weights: raw paths on constant, condition maps and their local means (1 + 2 * n_maps, n_channels)
    :param target_weights: the same of training paths (1 + 2 * n_maps, n_channels)
    :param mode_maps: transport of the covariance per cosine mode of a window, slowest first
        (n_window_blocks, n_channels, n_channels)
    :param level_source: quantiles of the slowest mode after its transport (n_channels, n_grid)
    :param level_target: quantiles of the slowest mode of training windows (n_channels, n_grid)
    :param source_table: quantiles after these maps (n_channels, n_grid)
    :param target_table: quantiles of training paths (n_channels, n_grid)
    """

    source_weights: np.ndarray
    target_weights: np.ndarray
    mode_maps: np.ndarray
    level_source: np.ndarray
    level_target: np.ndarray
    source_table: np.ndarray
    target_table: np.ndarray

    @classmethod
    def fit(cls, raw: np.ndarray, real: np.ndarray, maps: np.ndarray) -> "PathCalibration":
        """
        :param raw: paths of the network (n, n_blocks, n_channels)
        :param real: training paths under the same conditions (n, n_blocks, n_channels)
        :param maps: these conditions (n, n_blocks, n_maps)
        """
        inputs = _inputs(maps)
        weights = [_least_squares(inputs, values) for values in (raw, real)]
        rests = [values - inputs @ weight for values, weight in zip((raw, real), weights, strict=True)]
        modes = [dct(rest, axis=1, norm="ortho").swapaxes(0, 1) for rest in rests]
        mode_maps = [transport_map(_covariance(source), _covariance(target)) for source, target in zip(*modes, strict=True)]
        levels = quantile_table(modes[0][0] @ mode_maps[0]), quantile_table(modes[1][0])
        partly = cls(*weights, np.stack(mode_maps), *levels, *2 * [quantile_table(_rows(real))])
        return replace(partly, source_table=quantile_table(_rows(partly._before_quantiles(raw, maps))))

    def apply(self, raw: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """
        :param raw: paths of the network (n, n_blocks, n_channels)
        :param maps: their conditions (n, n_blocks, n_maps)
        """
        return match_quantiles(self._before_quantiles(raw, maps), self.source_table, self.target_table)

    def _before_quantiles(self, raw: np.ndarray, maps: np.ndarray) -> np.ndarray:
        inputs = _inputs(maps)
        return inputs @ self.target_weights + self._map_windows(raw - inputs @ self.source_weights)

    def _map_windows(self, values: np.ndarray) -> np.ndarray:
        """Map the modes in overlapping windows and blend these with a taper; a single window is mapped as it is."""
        length, n_blocks = len(self.mode_maps), values.shape[1]
        taper = np.hanning(length + 2)[1:-1, None]
        total, weight = np.zeros_like(values), np.zeros((n_blocks, 1))
        for start in sorted({*range(0, n_blocks - length, HOP_BLOCKS), n_blocks - length}):
            window = slice(start, start + length)
            modes = np.einsum("nkc,kcd->nkd", dct(values[:, window], axis=1, norm="ortho"), self.mode_maps, optimize=True)
            modes[:, 0] = match_quantiles(modes[:, 0], self.level_source, self.level_target)
            total[:, window] += taper * idct(modes, axis=1, norm="ortho")
            weight[window] += taper
        return total / weight


@dataclass(frozen=True, eq=False)
class ReturnCalibration:
    """
    Map of decoded log returns of one kind of condition.

    :param maps: transport of the covariance, per round (n_rounds, n_series, n_series)
    :param source_tables: quantiles before, per round (n_rounds, n_series, n_grid)
    :param target_table: quantiles of training returns (n_series, n_grid)
    """

    maps: np.ndarray
    source_tables: np.ndarray
    target_table: np.ndarray

    @classmethod
    def fit(cls, logs: np.ndarray, real: np.ndarray, n_rounds: int = RETURN_ROUNDS) -> "ReturnCalibration":
        """
        :param logs: decoded log returns (n, n_days, n_series)
        :param real: training log returns under the same conditions (n, n_days, n_series)
        :param n_rounds: of correlation map and quantile map
        """
        target, values = quantile_table(_rows(real)), _rows(logs)
        maps, tables = [], []
        for _ in range(n_rounds):
            maps.append(transport_map(np.cov(values.T), np.cov(_rows(real).T)))
            values = values @ maps[-1]
            tables.append(quantile_table(values))
            values = match_quantiles(values, tables[-1], target)
        return cls(np.stack(maps), np.stack(tables), target)

    def apply(self, logs: np.ndarray) -> np.ndarray:
        """
        :param logs: decoded log returns (..., n_series)
        """
        for matrix, table in zip(self.maps, self.source_tables, strict=True):
            logs = match_quantiles(logs @ matrix, table, self.target_table)
        return logs


@dataclass(frozen=True, eq=False)
class Calibration:
    """
    All maps of one kind of condition.

    :param paths: of the network's paths
    :param drift: further drift of the market's daily part per regime, then per its share of the days around (2 * n_regimes,)
    :param returns: of the decoded returns
    """

    paths: PathCalibration
    drift: np.ndarray
    returns: ReturnCalibration

    def arrays(self) -> dict[str, np.ndarray]:
        """:return: everything by name, for safetensors"""
        parts = {"paths": self.paths, "returns": self.returns}
        named = {f"{p}.{f.name}": getattr(part, f.name) for p, part in parts.items() for f in fields(part)}
        return named | {"drift": self.drift}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Calibration":
        """
        :param arrays: of :meth:`arrays`
        """
        paths, returns = (
            kind(**{f.name: arrays[f"{name}.{f.name}"] for f in fields(kind)})
            for name, kind in (("paths", PathCalibration), ("returns", ReturnCalibration))
        )
        return cls(paths, arrays["drift"], returns)


def drift_inputs(one_hot: np.ndarray) -> np.ndarray:
    """
    :param one_hot: regime per day (n, n_days, n_regimes); zero if not given
    :return: regime of the day, and the same times its share of the days around (n, n_days, 2 * n_regimes)
    """
    return np.concatenate([one_hot, one_hot * around_mean(one_hot, AROUND_BLOCKS * BLOCK_DAYS)], axis=-1)


def drift_gap(market: np.ndarray, real: np.ndarray, volatility: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """
    Change of drift that gives the benchmark its mean returns per regime, to first order.

    :param market: generated log returns of the benchmark (n, n_days)
    :param real: of the training windows under the same conditions (n, n_days)
    :param volatility: daily volatility of the generated ones (n, n_days)
    :param one_hot: regime per day (n, n_days, n_regimes); zero if not given
    :return: weights on :func:`drift_inputs` (2 * n_regimes,) [standard deviations per day]
    """
    inputs = _rows(drift_inputs(one_hot))
    effect = inputs.T @ (inputs * volatility.reshape(-1, 1))
    return np.linalg.pinv(effect, rcond=1e-6) @ (inputs.T @ (real - market).reshape(-1))


def size_gap(logs: np.ndarray, real: np.ndarray) -> np.ndarray:
    """
    :param logs: generated log returns (n, n_days, n_series)
    :param real: training log returns (n, n_days, n_series)
    :return: what the correlation of absolute returns lacks, lower triangle (n_series, n_series)
    """
    found, wanted = (np.corrcoef(np.abs(_rows(values)).T) for values in (logs, real))
    return np.tril(wanted - found, -1)


def _inputs(maps: np.ndarray) -> np.ndarray:
    """Constant, condition maps and their surroundings: a day in a lasting regime differs from one in passing."""
    around = around_mean(maps, AROUND_BLOCKS)
    around[..., : len(REGIMES)] *= maps[..., : len(REGIMES)]
    return np.concatenate([np.ones((*maps.shape[:2], 1)), maps, around], axis=-1)


def around_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """
    Mean of the rows up to ``reach`` away, of those that exist.

    :param values: (n, length, n_channels)
    """
    length = values.shape[1]
    total = np.concatenate([np.zeros_like(values[:, :1]), values.cumsum(axis=1)], axis=1)
    first, stop = np.maximum(np.arange(length) - reach, 0), np.minimum(np.arange(length) + reach + 1, length)
    return (total[:, stop] - total[:, first]) / (stop - first)[:, None]


def _least_squares(inputs: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(_rows(inputs), _rows(values), rcond=None)[0]


def _covariance(values: np.ndarray) -> np.ndarray:
    rows = _rows(values)
    return rows.T @ rows / len(rows)


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])
