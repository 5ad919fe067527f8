"""
Corrections after the network, fitted on training windows, one set per kind of condition.

Paths: linear dependence on the conditions, then optimal-transport maps of the covariance among series, per cosine mode of
a window, then quantiles. Daily parts: drift per regime, and coupling of their sizes. Returns: correlation by optimal
transport and quantiles, in turn. Maps act pointwise or in overlapping windows that are blended, so that long paths have no
seams. Marginals and correlations on the training years match by construction afterwards:
judge a generator on held-out years too.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy.fft import dct, idct

from quantflux_sb3.diffusion.quantiles import match_quantiles, quantile_table, transport_map

#: Blocks between the overlapping windows in which a path longer than a window is mapped.
HOP_BLOCKS = 2
#: Rounds of (correlation map, quantile map) on returns, and of coupling.
RETURN_ROUNDS = 3
COUPLING_ROUNDS = 5
#: Step of a coupling round per gap in the correlation of absolute returns.
COUPLING_RATE = 0.8


@dataclass(frozen=True, eq=False)
class PathCalibration:
    """
    Map of raw paths of one kind of condition (n_channels = n_series + 1: volatilities, then trend).

    :param source_weights: raw paths on constant and condition maps (1 + n_maps, n_channels)
    :param target_weights: the same of training paths (1 + n_maps, n_channels)
    :param mode_maps: transport of the covariance per cosine mode of a window, slowest first
        (n_window_blocks, n_channels, n_channels)
    :param source_table: quantiles after these maps (n_channels, n_grid)
    :param target_table: quantiles of training paths (n_channels, n_grid)
    """

    source_weights: np.ndarray
    target_weights: np.ndarray
    mode_maps: np.ndarray
    source_table: np.ndarray
    target_table: np.ndarray

    @classmethod
    def fit(cls, raw: np.ndarray, real: np.ndarray, maps: np.ndarray) -> "PathCalibration":
        """
        :param raw: paths of the network (n, n_blocks, n_channels)
        :param real: training paths under the same conditions (n, n_blocks, n_channels)
        :param maps: these conditions (n, n_blocks, n_maps)
        """
        inputs = _with_constant(maps)
        weights = [_least_squares(inputs, values) for values in (raw, real)]
        modes = [_modes(values - inputs @ weight) for values, weight in zip((raw, real), weights, strict=True)]
        mode_maps = np.stack([
            transport_map(_covariance(source), _covariance(target))
            for source, target in zip(*(part.swapaxes(0, 1) for part in modes), strict=True)
        ])  # fmt: skip
        mapped = inputs @ weights[1] + _map_windows(raw - inputs @ weights[0], mode_maps)
        return cls(*weights, mode_maps, quantile_table(_rows(mapped)), quantile_table(_rows(real)))

    def apply(self, raw: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """
        :param raw: paths of the network (n, n_blocks, n_channels)
        :param maps: their conditions (n, n_blocks, n_maps)
        """
        inputs = _with_constant(maps)
        mapped = inputs @ self.target_weights + _map_windows(raw - inputs @ self.source_weights, self.mode_maps)
        return match_quantiles(mapped, self.source_table, self.target_table)


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
    :param drift: further drift of the market's daily part per regime (n_regimes,)
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


def drift_gap(noise: np.ndarray, real: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """
    :param noise: the market's daily parts (n, n_days)
    :param real: of the training windows under the same conditions (n, n_days)
    :param one_hot: regime per day (n, n_days, n_regimes); zero if not given
    :return: what the drift lacks per regime (n_regimes,)
    """
    days = np.maximum(one_hot.sum(axis=(0, 1)), 1.0)
    return np.einsum("nd,ndr->r", real - noise, one_hot) / days


def size_gap(logs: np.ndarray, real: np.ndarray) -> np.ndarray:
    """
    :param logs: generated log returns (n, n_days, n_series)
    :param real: training log returns (n, n_days, n_series)
    :return: what the correlation of absolute returns lacks, lower triangle (n_series, n_series)
    """
    found, wanted = (np.corrcoef(np.abs(_rows(values)).T) for values in (logs, real))
    return np.tril(wanted - found, -1)


def _with_constant(maps: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((*maps.shape[:2], 1)), maps], axis=-1)


def _least_squares(inputs: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(_rows(inputs), _rows(values), rcond=None)[0]


def _modes(values: np.ndarray) -> np.ndarray:
    return dct(values, axis=1, norm="ortho")


def _map_windows(values: np.ndarray, mode_maps: np.ndarray) -> np.ndarray:
    """
    Apply the map of each cosine mode in overlapping windows and blend them with a taper; one window is mapped as it is.

    :param values: paths of at least one window (n, n_blocks, n_channels)
    :param mode_maps: (n_window_blocks, n_channels, n_channels)
    """
    length, n_blocks = len(mode_maps), values.shape[1]
    taper = np.hanning(length + 2)[1:-1, None]
    total, weight = np.zeros_like(values), np.zeros((n_blocks, 1))
    for start in sorted({*range(0, n_blocks - length, HOP_BLOCKS), n_blocks - length}):
        window = slice(start, start + length)
        mapped = np.einsum("nkc,kcd->nkd", _modes(values[:, window]), mode_maps, optimize=True)
        total[:, window] += taper * idct(mapped, axis=1, norm="ortho")
        weight[window] += taper
    return total / weight


def _covariance(values: np.ndarray) -> np.ndarray:
    rows = _rows(values)
    return rows.T @ rows / len(rows)


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])
