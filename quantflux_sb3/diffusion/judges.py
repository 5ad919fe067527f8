"""Judges: a network that tries to tell generated windows from real ones, and forecasters trained on generated windows."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

#: Runs of neighbouring windows that go to training or to testing as a whole, and the share of them for training.
N_GROUPS, TRAIN_SHARE = 20, 0.7
#: Optimiser steps, batch and learning rate of the judge.
STEPS, BATCH_SIZE, LEARNING_RATE = 300, 128, 2e-3
#: Horizons of the forecaster's inputs [days]: yesterday, a week, a month (Corsi, 2009).
HAR_DAYS = (1, 5, 22)


def discriminative_score(real: np.ndarray, synthetic: np.ndarray, seed: int, synthetic_in_time: bool = False) -> float:
    """
    How far above chance a convolutional judge tells generated from real windows it has not seen.

    Neighbouring windows overlap, so that whole runs of them go to training or to testing; windows at a run's border are
    left out. A judge of few runs errs to both sides by luck: compare with the score of real windows against real ones.

    Source: Yoon, Jarrett and van der Schaar (2019), Time-series Generative Adversarial Networks, section 5, with a
    convolutional for a recurrent judge.

    :param real: windows in the order of time (n_windows, window, n_series)
    :param synthetic: (n_synthetic, window, n_series)
    :param seed: of split, weights and batches
    :param synthetic_in_time: whether the synthetic windows overlap in the same way (for copies and real ones)
    :return: absolute difference of accuracy and 1/2 on balanced test windows; 0 is best
    """
    rng = np.random.default_rng(seed)
    parts = [_split(real, True, rng), _split(synthetic, synthetic_in_time, rng)]
    scale = parts[0][0].std(axis=(0, 1))
    train, test = ([torch.from_numpy(part[i] / scale).float().transpose(1, 2) for part in parts] for i in (0, 1))
    judge = _trained_judge(train, rng)
    with torch.no_grad():
        right = [
            ((judge(part)[:, 0] > 0) == bool(label)).float().mean().item() for label, part in zip((1, 0), test, strict=True)
        ]
    return abs(sum(right) / 2.0 - 0.5)


def real_against_real(real: np.ndarray, seed: int) -> float:
    """
    Floor of :func:`discriminative_score`: the same judge between alternate runs of real windows.

    :param real: windows in the order of time (n_windows, window, n_series)
    :param seed: of the judge
    """
    runs = np.array_split(real, 2 * N_GROUPS)
    return discriminative_score(np.concatenate(runs[::2]), np.concatenate(runs[1::2]), seed, synthetic_in_time=True)


def forecast_skill(train: np.ndarray, test: np.ndarray) -> float:
    """
    Train on synthetic, test on real: a linear forecast of the next day's absolute returns of all series.

    Source: Esteban, Hyland and Raetsch (2017), section 4.2 (the test); Corsi (2009), eq. 8 (the forecast).

    :param train: windows to fit on (n_windows, window, n_series)
    :param test: real windows (n_windows, window, n_series)
    :return: share of the variance that is forecast on the test windows, mean over series
    """
    skills = []
    for series in range(train.shape[-1]):
        inputs, targets = _har(np.abs(train[..., series]))
        weights = np.linalg.lstsq(inputs, targets, rcond=None)[0]
        inputs, targets = _har(np.abs(test[..., series]))
        skills.append(1.0 - ((targets - inputs @ weights) ** 2).mean() / targets.var())
    return float(np.mean(skills))


def _split(windows: np.ndarray, in_time: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Training and test windows."""
    if not in_time:
        order = rng.permutation(len(windows))
        stop = int(TRAIN_SHARE * len(windows))
        return windows[order[:stop]], windows[order[stop:]]
    border = min(windows.shape[1] // 4, len(windows) // (4 * N_GROUPS))
    groups = [group[border : len(group) - border] for group in np.array_split(windows, N_GROUPS)]
    order = rng.permutation(N_GROUPS)
    stop = int(TRAIN_SHARE * N_GROUPS)
    return tuple(np.concatenate([groups[i] for i in part]) for part in (order[:stop], order[stop:]))


def _trained_judge(train: list[torch.Tensor], rng: np.random.Generator) -> nn.Module:
    """:param train: real and synthetic windows, each (n, n_series, window)"""
    with torch.random.fork_rng(devices=[]):  # torch draws weights and dropout from its global state
        torch.manual_seed(int(rng.integers(2**31)))
        return _train(_judge(train[0].shape[1]), train, rng)


def _train(judge: nn.Module, train: list[torch.Tensor], rng: np.random.Generator) -> nn.Module:
    optimizer = torch.optim.Adam(judge.parameters(), LEARNING_RATE, weight_decay=1e-3)
    half = BATCH_SIZE // 2
    labels = torch.cat([torch.ones(half), torch.zeros(half)])
    for _ in range(STEPS):
        batch = torch.cat([part[torch.from_numpy(rng.integers(len(part), size=half))] for part in train])
        loss = binary_cross_entropy_with_logits(judge(batch)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge.eval()


def _judge(n_series: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(n_series, 24, 5, padding=2), nn.SiLU(), nn.Conv1d(24, 32, 5, stride=2, padding=2), nn.SiLU(),
        nn.Conv1d(32, 32, 5, stride=2, padding=2), nn.SiLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.1),
        nn.Linear(32, 1),
    )  # fmt: skip


def _har(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the past horizons with a constant, and the next day; sizes (n_windows, window)."""
    total = np.pad(sizes.cumsum(axis=1), ((0, 0), (1, 0)))
    days = np.arange(max(HAR_DAYS), sizes.shape[1])
    means = [(total[:, days] - total[:, days - horizon]) / horizon for horizon in HAR_DAYS]
    inputs = np.stack([np.ones_like(means[0]), *means], axis=-1).reshape(-1, 1 + len(HAR_DAYS))
    return inputs, sizes[:, days].reshape(-1)
