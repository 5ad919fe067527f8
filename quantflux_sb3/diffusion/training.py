"""Training: fit the representation, train the network on windows, keep the best weights, calibrate."""

import logging
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import UNet1DModel
from diffusers.training_utils import EMAModel
from torch.nn.functional import mse_loss
from tqdm import tqdm

from quantflux_sb3.diffusion.calibration import (
    COUPLING_RATE,
    COUPLING_ROUNDS,
    DRIFT_ROUNDS,
    Calibration,
    PathCalibration,
    ReturnCalibration,
    drift_gap,
    drift_inputs,
    size_gap,
)
from quantflux_sb3.diffusion.conditions import KINDS
from quantflux_sb3.diffusion.config import MIN_TRAIN_DAYS, GeneratorConfig
from quantflux_sb3.diffusion.daily import DailyModel
from quantflux_sb3.diffusion.network import build_unet, sampling_scheduler, training_scheduler
from quantflux_sb3.diffusion.pipeline import RegimeDDPMPipeline
from quantflux_sb3.diffusion.sampling import PathSampler, history_channels
from quantflux_sb3.diffusion.state import GeneratorState
from quantflux_sb3.diffusion.windows import TrainingWindows, training_record
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.regimes import RegimeDetector, RuleRegimes

logger = logging.getLogger(__name__)

#: Windows that the held-out loss is taken on, at fixed noise and timesteps.
N_HELDOUT = 256
#: Windows that the coupling is fitted on.
N_COUPLING = 1000


def train_generator(
    market: MarketData, config: GeneratorConfig | None = None, seed: int = 0, progress: bool = False,
    detector: RegimeDetector | None = None,
) -> RegimeDDPMPipeline:  # fmt: skip
    """
    Train a generator on every row of a market. Cut it first: ``train_generator(market.until("train"))``.

    :param market: the training market, benchmark and all assets
    :param config: settings; ``GeneratorConfig()`` if not given
    :param seed: of all randomness; the same seed on the same machine gives the same generator
    :param progress: show a progress bar
    :param detector: gives the regimes; ``RuleRegimes()`` if not given
    :raises ValueError: if the market is too short
    """
    config = config or GeneratorConfig()
    least = max(MIN_TRAIN_DAYS, math.ceil(config.context_days / (2.0 * config.holdout)))
    if market.n_days < least:
        raise ValueError(f"A generator needs at least {least} training days; got {market.n_days}. Use a longer history.")
    rng = np.random.default_rng(seed)
    detector = detector or RuleRegimes()
    windows = TrainingWindows.build(market, detector, config)
    unet, record = _train(windows, config, rng, progress)
    state = replace(windows.state, record=replace(training_record(market, detector, seed), **record))
    scheduler = sampling_scheduler(config)
    state = _calibrate(state, windows, PathSampler(unet, scheduler, config, state.continuation), rng)
    # The memory layout of an array decides the last bit of sums over it: use the one that a loaded generator will have.
    return RegimeDDPMPipeline(unet, scheduler, GeneratorState.from_arrays(config, state.record, state.arrays()))


def _train(
    windows: TrainingWindows, config: GeneratorConfig, rng: np.random.Generator, progress: bool
) -> tuple[UNet1DModel, dict]:
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    unet = _seeded_unet(windows.logs.shape[1], config, generator)
    scheduler = training_scheduler(config)
    train_stop = int((1.0 - config.holdout) * len(windows.logs)) - config.context_days // 2
    heldout = _heldout_batch(windows, train_stop, config, rng, generator)
    optimizer = torch.optim.AdamW(unet.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.n_train_steps)
    ema = EMAModel(unet.parameters(), decay=config.ema_decay)
    stopping = _EarlyStopping(config.patience)
    losses: list[float] = []
    for step in tqdm(range(1, config.n_train_steps + 1), "training", disable=not progress):
        batch = _random_batch(
            windows, windows.rows(rng, config.batch_size, config.context_days, (0, train_stop)), config, rng, generator
        )
        loss = _loss(unet, scheduler, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        ema.step(unet.parameters())
        losses.append(loss.item())
        if step % config.eval_interval == 0 or step == config.n_train_steps:
            if stopping.look(step, np.mean(losses), _heldout_loss(unet, ema, scheduler, heldout), ema):
                break
            losses.clear()
    for weights, best in zip(unet.parameters(), stopping.best_weights, strict=True):
        weights.data.copy_(best)
    logger.info("kept the weights of step %d of %d", stopping.best_step, step)
    return unet.eval(), {"best_step": stopping.best_step, "learning_curve": stopping.curve}


class _EarlyStopping:
    """Keeps the averaged weights with the lowest held-out loss."""

    def __init__(self, patience: int):
        self.patience, self.best_step, self.best_loss, self.looks_since = patience, 0, np.inf, 0
        self.best_weights: list[torch.Tensor] = []
        self.curve: dict[str, list[float]] = {"step": [], "train_loss": [], "heldout_loss": []}

    def look(self, step: int, train_loss: float, heldout_loss: float, ema: EMAModel) -> bool:
        """:return: whether to stop"""
        for values, value in zip(self.curve.values(), (step, float(train_loss), heldout_loss), strict=True):
            values.append(value)
        self.looks_since += 1
        if heldout_loss < self.best_loss:
            self.best_step, self.best_loss, self.looks_since = step, heldout_loss, 0
            self.best_weights = [weights.clone() for weights in ema.shadow_params]
        return self.looks_since >= self.patience


@dataclass(frozen=True)
class _Batch:
    clean: torch.Tensor
    extra: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor


def _seeded_unet(n_series: int, config: GeneratorConfig, generator: torch.Generator) -> UNet1DModel:
    with torch.random.fork_rng(devices=[]):  # torch initialises layers from its global state
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        return build_unet(n_series, config)


def _random_batch(
    windows: TrainingWindows, rows: np.ndarray, config: GeneratorConfig, rng: np.random.Generator,
    generator: torch.Generator,
) -> _Batch:  # fmt: skip
    """Windows with assets shuffled, conditions dropped and histories given at random."""
    n = len(rows)
    paths = windows.paths(rows)
    for window in np.flatnonzero(rng.random(n) < config.permutation_share):
        paths[window, :, 1:-1] = paths[window][:, 1 + rng.permutation(paths.shape[2] - 2)]
    maps = windows.conditions(rows, KINDS.index("both")).maps
    maps[..., -2] += config.volatility_jitter * rng.standard_normal((n, 1))
    dropped = rng.random(n)
    bounds = np.cumsum([config.drop_all, config.drop_regime, config.drop_volatility])
    maps[(dropped < bounds[1]), :, :-2] = 0.0  # all or regime
    maps[(dropped < bounds[0]) | ((dropped >= bounds[1]) & (dropped < bounds[2])), :, -2:] = 0.0  # all or volatility
    clean = torch.from_numpy(paths * config.path_scale).float().transpose(1, 2)
    history = history_channels(clean, clean[..., : config.history_blocks])
    history *= torch.from_numpy(rng.random(n) < config.history_share).float()[:, None, None]
    extra = torch.cat([torch.from_numpy(maps).float().transpose(1, 2), history], dim=1)
    timesteps = torch.randint(config.num_train_timesteps, (n,), generator=generator)
    return _Batch(clean, extra, torch.randn(clean.shape, generator=generator), timesteps)


def _heldout_batch(
    windows: TrainingWindows, first: int, config: GeneratorConfig, rng: np.random.Generator, generator: torch.Generator
) -> _Batch:
    rows = windows.rows(rng, N_HELDOUT, config.context_days, (first, len(windows.logs)))
    batch = _random_batch(windows, rows, config, rng, generator)
    spread = torch.linspace(0, config.num_train_timesteps - 1, N_HELDOUT).long()
    return replace(batch, timesteps=spread)


def _loss(unet: UNet1DModel, scheduler, batch: _Batch) -> torch.Tensor:
    noisy = scheduler.add_noise(batch.clean, batch.noise, batch.timesteps)
    velocity = scheduler.get_velocity(batch.clean, batch.noise, batch.timesteps)
    return mse_loss(unet(torch.cat([noisy, batch.extra], dim=1), batch.timesteps).sample, velocity)


@torch.no_grad()
def _heldout_loss(unet: UNet1DModel, ema: EMAModel, scheduler, batch: _Batch) -> float:
    ema.store(unet.parameters())
    ema.copy_to(unet.parameters())
    loss = _loss(unet, scheduler, batch).item()
    ema.restore(unet.parameters())
    return loss


def _calibrate(
    state: GeneratorState, windows: TrainingWindows, sampler: PathSampler, rng: np.random.Generator
) -> GeneratorState:
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    calibrations = []
    for kind in range(len(KINDS)):
        rows = windows.rows(rng, state.config.n_calibration_samples, state.config.window)
        conditions = windows.conditions(rows, kind)
        real, raw = windows.paths(rows), sampler.sample(conditions.maps, generator)
        paths = PathCalibration.fit(raw, real, conditions.maps)
        blocks = paths.apply(raw, conditions.maps)
        white = rng.standard_normal(state.noise_shape(len(rows), state.config.window))
        if kind == 0:
            state = replace(state, daily=_fit_coupling(state, blocks, white, windows.logs[rows]))
        drift, returns = _fit_returns(state, blocks, white, conditions.regimes, windows.logs[rows])
        calibrations.append(Calibration(paths, drift, returns))
    return replace(state, calibrations=tuple(calibrations))


def _fit_returns(
    state: GeneratorState, blocks: np.ndarray, white: np.ndarray, regimes: np.ndarray, real: np.ndarray
) -> tuple[np.ndarray, ReturnCalibration]:
    """Drift per regime and return maps, in turn: the maps fix the overall mean and so shift the regimes' means."""
    paths, inputs = state.daily_paths(blocks), drift_inputs(regimes)
    volatility = state.representation.market_volatility(paths)
    drift = np.zeros(inputs.shape[-1])
    for _ in range(DRIFT_ROUNDS if regimes.any() else 1):
        noise = state.sample_noise(blocks, white, inputs @ drift)
        logs = state.representation.decode(paths, noise)
        returns = ReturnCalibration.fit(logs, real)
        fitted = drift
        drift = drift + drift_gap(returns.apply(logs)[..., 0], real[..., 0], volatility, regimes)
    return fitted, returns


def _fit_coupling(state: GeneratorState, blocks: np.ndarray, white: np.ndarray, real: np.ndarray) -> DailyModel:
    blocks, white, real = blocks[:N_COUPLING], white[:N_COUPLING], real[:N_COUPLING]
    coupling = np.zeros((real.shape[-1],) * 2)
    for _ in range(COUPLING_ROUNDS):
        trial = replace(state, daily=state.daily.with_coupling(coupling))
        logs = state.representation.decode(state.daily_paths(blocks), trial.sample_noise(blocks, white))
        matched = ReturnCalibration.fit(logs, real, n_rounds=1).apply(logs)
        coupling = coupling + COUPLING_RATE * size_gap(matched, real)
    return state.daily.with_coupling(coupling)
