"""Distances between sets of windows, scores of forecasts by samples, and nearness to training windows."""

import numpy as np

from quantflux_sb3.diffusion.smoothing import VOLATILITY_HALF_WIDTH, block_means, log_volatility

#: Quantile of the held-out windows' distances below which a window is too near to training.
NEAR_QUANTILE = 0.01


def signature_features(logs: np.ndarray) -> np.ndarray:
    """
    Signature of the cumulative returns with time as a further series, to depth 2.

    Source: Chevyrev and Kormilitzin (2016), A primer on the signature method in machine learning, section 1.2; iterated
    integrals of the piecewise linear path.

    :param logs: (n_windows, window, n_series)
    :return: (n_windows, (n_series + 1) + (n_series + 1) ** 2)
    """
    time = np.full((*logs.shape[:2], 1), 1.0 / logs.shape[1])
    steps = np.concatenate([time, logs], axis=-1)
    before = steps.cumsum(axis=1) - steps
    second = np.einsum("nti,ntj->nij", before + 0.5 * steps, steps)
    return np.concatenate([steps.sum(axis=1), second.reshape(len(logs), -1)], axis=1)


def signature_distance(real: np.ndarray, synthetic: np.ndarray) -> float:
    """
    :param real: (n_windows, window, n_series)
    :param synthetic: (n_windows, window, n_series)
    :return: root mean square difference of the expected signatures [standard deviations of real windows]
    """
    features = [signature_features(logs) for logs in (real, synthetic)]
    scale = features[0].std(axis=0)
    used = scale > 1e-12
    gap = (features[1].mean(axis=0) - features[0].mean(axis=0))[used] / scale[used]
    return float(np.sqrt((gap**2).mean()))


def maximum_mean_discrepancy(real: np.ndarray, synthetic: np.ndarray, n_max: int = 1000) -> float:
    """
    Unbiased squared maximum mean discrepancy, Gaussian kernel of the median distance.

    Source: Gretton et al. (2012), A kernel two-sample test, eq. 3.

    :param real: (n_windows, window, n_series)
    :param synthetic: (n_windows, window, n_series)
    :param n_max: windows of each that are used, evenly spread
    :return: about 0 for equal distributions; may be negative
    """
    scale = real.std(axis=(0, 1))
    x, y = (
        _points(logs / scale)[np.linspace(0, len(logs) - 1, min(n_max, len(logs))).astype(int)] for logs in (real, synthetic)
    )
    squares = [_squared_distances(a, b) for a, b in ((x, x), (y, y), (x, y))]
    width = np.median(squares[2])
    within = sum((np.exp(-s / width).sum() - len(s)) / (len(s) * (len(s) - 1)) for s in squares[:2])
    return float(within - 2.0 * np.exp(-squares[2] / width).mean())


def energy_scores(observed: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """
    Proper score of a forecast that is a set of samples; lower is better.

    Source: Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation, eq. 20; with the unbiased
    mean over pairs of samples.

    :param observed: (n, n_features)
    :param samples: (n, n_samples, n_features)
    :return: (n,)
    """
    n_samples = samples.shape[1]
    to_observed = np.linalg.norm(samples - observed[:, None], axis=-1).mean(axis=1)
    among = np.array([np.sqrt(_squared_distances(one, one)).sum() for one in samples])
    return to_observed - 0.5 * among / (n_samples * (n_samples - 1))


def volatility_points(logs: np.ndarray) -> np.ndarray:
    """
    :param logs: (n_windows, window, n_series)
    :return: block means of the smooth log volatility within each window (n_windows, n_blocks * n_series)
    """
    n, window, n_series = logs.shape
    smooth = log_volatility(logs.transpose(1, 0, 2).reshape(window, n * n_series), VOLATILITY_HALF_WIDTH)
    return _points(block_means(smooth.reshape(window, n, n_series).transpose(1, 0, 2)))


def near_share(drawn: np.ndarray, training: np.ndarray, heldout: np.ndarray) -> float:
    """
    Share of drawn points nearer to a training point than 1 % of held-out points are; .01 if nothing is memorised.

    :param drawn: (n, n_features)
    :param training: (n_training, n_features)
    :param heldout: real ones that training did not see (n_heldout, n_features)
    """
    limit = np.quantile(nearest_distances(heldout, training), NEAR_QUANTILE)
    return float((nearest_distances(drawn, training) < limit).mean())


def return_points(logs: np.ndarray) -> np.ndarray:
    """
    :param logs: (n_windows, window, n_series)
    :return: windows scaled to unit volatility per series, or calm windows would be near to others for being small
        (n_windows, window * n_series)
    """
    return _points(logs / (logs.std(axis=1, keepdims=True) + 1e-12))


def nearest_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """
    :param points: (n, n_features)
    :param others: (n_others, n_features)
    :return: Euclidean distance to the nearest of the others (n,)
    """
    parts = np.array_split(points, max(len(points) // 500, 1))
    return np.sqrt(np.concatenate([_squared_distances(part, others).min(axis=1) for part in parts]))


def _points(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _squared_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    squares = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2.0 * points @ others.T
    return np.maximum(squares, 0.0)
