"""
The best linear denoiser of the paths, which the network corrects.

If paths were Gaussian given their conditions, the mean of a clean path given a noisy one would be linear, and known. It is
most of what a denoiser can know, and a network that starts from nothing needs more windows than thirty years hold to come near
to it (held-out loss .343, this .281). So the linear answer is computed and the network adds what it lacks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import dct

from quantflux_sb3.diffusion.calibration import path_inputs
from quantflux_sb3.regimes import REGIMES

#: Share of the covariance in which modes of a window are independent of each other: there are few independent windows.
MODE_SHARE = 0.6
#: Added to the covariance [share of the mean variance], and the variance of the error of a known window before.
RIDGE, KNOWN_RIDGE = 1e-3, 1e-4


@dataclass(frozen=True, eq=False)
class LinearDenoiser:
    """
    Gaussian paths per kind of condition, in the network's units; the assets are exchangeable. Paths begin with the window
    before, which is known where a path continues, and end with what the network sees: the two overlap.

    :param weights: of constant, condition maps and their local means (n_kinds, 1 + 2 * n_maps, n_channels)
    :param covariance: of the rest, channel by channel (n_kinds, n_channels * n_blocks, n_channels * n_blocks)
    """

    weights: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "_bases", {})

    @classmethod
    def fit(cls, paths: np.ndarray, maps: list[np.ndarray]) -> "LinearDenoiser":
        """
        :param paths: training windows, with shuffled assets, in the network's units (n, n_blocks, n_channels)
        :param maps: their condition maps, per kind of condition (n, n_blocks, n_maps) each
        """
        fitted = [_fit_kind(paths, path_inputs(one)) for one in maps]
        return cls(*(np.stack(part) for part in zip(*fitted, strict=True)))

    def given(self, maps: np.ndarray, n_seen: int, before: torch.Tensor, known: np.ndarray) -> "ConditionalPaths":
        """
        :param maps: condition maps (n, n_blocks, n_maps)
        :param n_seen: blocks at the end that the network sees
        :param before: paths of the window before (n, n_channels, n_before)
        :param known: whether they are known (n,)
        """
        regimes, volatility = maps[..., : len(REGIMES)], maps[..., -1]
        kinds, inputs = regimes.any(axis=(1, 2)) + 2 * volatility.any(axis=1), path_inputs(maps)
        parts = []
        for kind, is_known in {*zip(kinds.tolist(), known.tolist(), strict=True)}:
            chosen = np.flatnonzero((kinds == kind) & (known == is_known))
            rows = torch.from_numpy(chosen).to(before.device)
            mean = torch.from_numpy(inputs[chosen] @ self.weights[kind]).float().to(before.device).transpose(1, 2)
            seen, n_before = mean[..., mean.shape[2] - n_seen :].flatten(1), before.shape[2]
            basis = self._basis(kind, n_seen, n_before * is_known)
            variances, vectors, gain = (part.to(before.device) for part in basis)
            if is_known:
                seen = seen + (before[rows] - mean[..., :n_before]).flatten(1) @ gain
            parts.append((rows, seen, variances, vectors))
        return ConditionalPaths(parts)

    def _basis(self, kind: int, n_seen: int, n_known: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Principal variances and directions of what is seen, and its regression on what is known (n_known, n_seen)."""
        if (kind, n_known) not in self._bases:
            covariance, n_channels = self.covariance[kind], self.weights.shape[2]
            n_blocks = len(covariance) // n_channels
            starts = np.arange(n_channels)[:, None] * n_blocks
            known = (starts + np.arange(n_known)).reshape(-1)
            seen = (starts + np.arange(n_blocks - n_seen, n_blocks)).reshape(-1)
            ridge = KNOWN_RIDGE * np.eye(len(known))
            gain = np.linalg.solve(covariance[np.ix_(known, known)] + ridge, covariance[np.ix_(known, seen)])
            variances, vectors = np.linalg.eigh(covariance[np.ix_(seen, seen)] - covariance[np.ix_(seen, known)] @ gain)
            arrays = np.maximum(variances, 1e-9), vectors, gain
            self._bases[kind, n_known] = tuple(torch.from_numpy(array).float() for array in arrays)
        return self._bases[kind, n_known]


@dataclass(frozen=True)
class ConditionalPaths:
    """
    Gaussian paths under given conditions.

    :param parts: rows of windows of one kind, their mean (n_rows, n_channels * n_blocks), principal variances and directions
    """

    parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]

    def velocity(self, sample: torch.Tensor, alphas_cumprod: torch.Tensor) -> torch.Tensor:
        """
        Mean velocity given a noisy path: ``v = (a x_t - E[x_0 | x_t]) / s`` with ``x_t = a x_0 + s e``, ``a^2`` the
        cumulative product of alphas (Salimans and Ho, 2022, Progressive Distillation, appendix D).

        :param sample: noisy paths (n, n_channels, n_blocks)
        :param alphas_cumprod: of their timesteps (n,)
        """
        predicted = torch.empty_like(sample)
        for rows, mean, variances, vectors in self.parts:
            square = alphas_cumprod[rows, None]
            a, s = square.sqrt(), (1.0 - square).sqrt()
            noisy = sample[rows].flatten(1)
            shrink = a * variances / (square * variances + 1.0 - square)
            clean = mean + ((noisy - a * mean) @ vectors * shrink) @ vectors.T
            predicted[rows] = ((a * noisy - clean) / s).view(len(rows), *sample.shape[1:])
        return predicted


def _fit_kind(paths: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, n_blocks, n_channels = paths.shape
    weights = np.linalg.lstsq(inputs.reshape(n * n_blocks, -1), paths.reshape(-1, n_channels), rcond=None)[0]
    rest = (paths - inputs @ weights).transpose(0, 2, 1)
    modes = dct(rest, axis=2, norm="ortho")
    basis = dct(np.eye(n_blocks), axis=0, norm="ortho")
    within = np.einsum("kcd,ka,kb->cadb", np.einsum("nck,ndk->kcd", modes, modes) / n, basis, basis, optimize=True)
    flat = rest.reshape(n, -1)
    full = flat.T @ flat / n
    unit = np.diag(full).mean()
    size = n_channels * n_blocks
    return weights, MODE_SHARE * within.reshape(size, size) + (1.0 - MODE_SHARE) * full + RIDGE * unit * np.eye(size)
