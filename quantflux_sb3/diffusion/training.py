"""Training: fit the representation, train the network on windows, keep the best weights, calibrate."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import UNet1DModel
from diffusers.training_utils import EMAModel
from torch.nn.functional import mse_loss
from tqdm import tqdm

from quantflux_sb3.diffusion.checkpoints import Stopping, load_checkpoint, save_checkpoint
from quantflux_sb3.diffusion.conditions import KINDS
from quantflux_sb3.diffusion.config import BLOCK_DAYS, MIN_TRAIN_DAYS, GeneratorConfig
from quantflux_sb3.diffusion.fitting import calibrate
from quantflux_sb3.diffusion.linear import ConditionalPaths
from quantflux_sb3.diffusion.network import build_unet, sampling_scheduler, training_scheduler
from quantflux_sb3.diffusion.pipeline import RegimeDDPMPipeline
from quantflux_sb3.diffusion.sampling import PathSampler, history_channels
from quantflux_sb3.diffusion.state import GeneratorState
from quantflux_sb3.diffusion.windows import TrainingWindows, shuffled, training_record
from quantflux_sb3.market.data import MarketData, check_prices_move
from quantflux_sb3.regimes import RegimeDetector, RuleRegimes

logger = logging.getLogger(__name__)

#: Windows of training, and held-out ones, that the losses of the learning curve are taken on, at fixed noise and timesteps.
N_LOOKED_AT = 256
#: Numbers that part the streams of random numbers of one seed.
_FIT, _WEIGHTS, _LOOKS, _STEPS, _CALIBRATION = range(5)


def train_generator(
    market: MarketData, config: GeneratorConfig | None = None, seed: int = 0, progress: bool = False,
    detector: RegimeDetector | None = None, checkpoint: str | PathLike | None = None,
    accelerator: Accelerator | None = None,
) -> RegimeDDPMPipeline:  # fmt: skip
    """
    Train a generator on every row of a market. Cut it first: ``train_generator(market.until("train"))``.

    Started by ``accelerate launch``, every process trains on batches of its own and gradients are averaged; calibration is
    done by all of them alike, so that all return the same generator.

    :param market: the training market, benchmark and all assets
    :param config: settings; ``GeneratorConfig()`` if not given
    :param seed: of all randomness; the same seed on the same machine gives the same generator
    :param progress: show a progress bar
    :param detector: gives the regimes; ``RuleRegimes()`` if not given
    :param checkpoint: file (.safetensors) that the training's state is written to at every look at the held-out loss; an
        interrupted training of the same market, settings and seed goes on from there
    :param accelerator: for another device, several processes or mixed precision, e.g.
        ``Accelerator(mixed_precision="bf16")``; CUDA in full precision if not given and there, else the CPU
    :raises ValueError: if the market is too short, a price never moves, a setting makes no sense, or the checkpoint belongs to
        another training
    """
    config = config or GeneratorConfig()
    _check(market, config, seed, Path(checkpoint) if checkpoint else None, accelerator)
    detector = detector or RuleRegimes()
    windows = TrainingWindows.build(market, detector, config, np.random.default_rng([seed, _FIT]))
    accelerator = accelerator or Accelerator(cpu=not torch.cuda.is_available())
    record = training_record(market, detector, seed)
    trainer = _Trainer(windows, config, seed, accelerator, Path(checkpoint) if checkpoint else None, record.market_hash)
    unet, stopping = trainer.train(progress)
    state = replace(windows.state, record=replace(record, best_step=stopping.best_step, learning_curve=stopping.curve))
    scheduler = sampling_scheduler(config)
    sampler = PathSampler(unet, scheduler, state)
    state = calibrate(state, windows, sampler, np.random.default_rng([seed, _CALIBRATION]))
    # The memory layout of an array decides the last bit of sums over it: use the one that a loaded generator will have.
    return RegimeDDPMPipeline(unet, scheduler, GeneratorState.from_arrays(config, state.record, state.arrays()))


def _check(
    market: MarketData, config: GeneratorConfig, seed: int, checkpoint: Path | None, accelerator: Accelerator | None
) -> None:
    if not isinstance(market, MarketData):
        raise ValueError(f"`market` must be a MarketData, see MarketData.from_prices; got {type(market).__name__}.")
    least = max(MIN_TRAIN_DAYS, math.ceil(config.span_days / (2.0 * config.holdout)))
    if market.n_days < least:
        remedy = "a longer history" if least == MIN_TRAIN_DAYS else "a longer history or a larger `holdout`"
        raise ValueError(f"A generator needs at least {least} training days; got {market.n_days}. Use {remedy}.")
    check_prices_move(market)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"`seed` must be a whole number >= 0; got {seed!r}.")
    if checkpoint is not None and (checkpoint.is_dir() or not checkpoint.parent.is_dir()):
        raise ValueError(f"`checkpoint` must be a file (.safetensors) in an existing folder; got '{checkpoint}'.")
    if accelerator is not None and not isinstance(accelerator, Accelerator):
        raise ValueError(f"`accelerator` must be an accelerate.Accelerator; got {accelerator!r}.")


@dataclass(frozen=True)
class _Batch:
    clean: torch.Tensor
    extra: torch.Tensor
    linear: ConditionalPaths
    noise: torch.Tensor
    timesteps: torch.Tensor


class _Trainer:
    """One training; every step draws from a stream of its own, so that a resumed training repeats an unbroken one."""

    def __init__(
        self, windows: TrainingWindows, config: GeneratorConfig, seed: int, accelerator: Accelerator,
        checkpoint: Path | None, market_hash: str,
    ):  # fmt: skip
        self.windows, self.config, self.seed, self.accelerator = windows, config, seed, accelerator
        self.checkpoint, self.identity = checkpoint, f"{config} seed {seed} market {market_hash}"
        self.scheduler = training_scheduler(config)

    def train(self, progress: bool) -> tuple[UNet1DModel, Stopping]:
        """:return: the network with its best averaged weights, on the CPU, and how training went"""
        config, accelerator = self.config, self.accelerator
        unet = _seeded_unet(self.windows.logs.shape[1], config, self.seed)
        optimizer = torch.optim.AdamW(unet.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True)
        weights = list(unet.parameters())
        ema, stopping = EMAModel(weights, decay=config.ema_decay), Stopping(config.patience)
        first = 1
        if self.checkpoint is not None and self.checkpoint.is_file():
            first = 1 + load_checkpoint(self.checkpoint, self.identity, unet, optimizer, ema, stopping)
        model, optimizer = accelerator.prepare(unet, optimizer)
        ema.to(accelerator.device)
        stop = self.windows.train_stop
        looked_at = [self._fixed_batch(bounds) for bounds in ((0, stop), (stop, len(self.windows.logs)))]
        if not stopping.curve["step"]:  # the linear denoiser alone, since the network begins at zero
            stopping.look(0, *self._averaged_losses(unet, ema, looked_at), ema)
        steps = range(first, config.n_train_steps + 1) if not stopping.is_over else range(0)
        for step in self._bar(steps, progress):
            for group in optimizer.param_groups:  # cosine decay
                group["lr"] = config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - 1) / config.n_train_steps))
            loss = self._loss(model, self._batch(step))
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            ema.step(weights)
            if step % config.eval_interval == 0 or step == config.n_train_steps:
                stopping.look(step, *self._averaged_losses(unet, ema, looked_at), ema)
                if self.checkpoint is not None and accelerator.is_main_process:
                    save_checkpoint(self.checkpoint, self.identity, step, unet, optimizer, ema, stopping)
                if stopping.is_over:
                    break
        for current, best in zip(weights, stopping.best_weights, strict=True):
            current.data.copy_(best)
        logger.info("kept the weights of step %d", stopping.best_step)
        unet = accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # in full precision, as it will be loaded
        return unet.to("cpu").eval(), stopping

    def _loss(self, unet: UNet1DModel, batch: _Batch) -> torch.Tensor:
        noisy = self.scheduler.add_noise(batch.clean, batch.noise, batch.timesteps)
        velocity = self.scheduler.get_velocity(batch.clean, batch.noise, batch.timesteps)
        alphas_cumprod = self.scheduler.alphas_cumprod.to(noisy.device)[batch.timesteps]
        known = batch.linear.velocity(noisy, alphas_cumprod)
        return mse_loss(known + unet(torch.cat([noisy, batch.extra], dim=1), batch.timesteps).sample, velocity)

    @torch.no_grad()
    def _averaged_losses(self, unet: UNet1DModel, ema: EMAModel, batches: list[_Batch]) -> list[float]:
        ema.store(unet.parameters())
        ema.copy_to(unet.parameters())
        losses = [self._loss(unet, batch).item() for batch in batches]
        ema.restore(unet.parameters())
        return losses

    def _bar(self, steps: range, progress: bool) -> Iterator[int]:
        return tqdm(steps, "training", disable=not progress or not self.accelerator.is_main_process)

    def _batch(self, step: int) -> _Batch:
        rng = np.random.default_rng([self.seed, _STEPS, step, self.accelerator.process_index])
        rows = self.windows.rows(rng, self.config.batch_size, self.config.span_days, (0, self.windows.train_stop))
        timesteps = rng.integers(self.config.num_train_timesteps, size=len(rows))
        return _random_batch(self.windows, rows, timesteps, self.config, rng, self.accelerator.device)

    def _fixed_batch(self, bounds: tuple[int, int]) -> _Batch:
        """Windows between two rows, the same in every look at them, with evenly spread timesteps."""
        rng = np.random.default_rng([self.seed, _LOOKS])
        rows = self.windows.rows(rng, N_LOOKED_AT, self.config.span_days, bounds)
        timesteps = np.linspace(0, self.config.num_train_timesteps - 1, N_LOOKED_AT).astype(np.int64)
        return _random_batch(self.windows, rows, timesteps, self.config, rng, self.accelerator.device)


def _seeded_unet(n_series: int, config: GeneratorConfig, seed: int) -> UNet1DModel:
    with torch.random.fork_rng(devices=[]):  # torch initialises layers from its global state
        torch.manual_seed(int(np.random.default_rng([seed, _WEIGHTS]).integers(2**31)))
        return build_unet(n_series, config)


def _random_batch(
    windows: TrainingWindows, rows: np.ndarray, timesteps: np.ndarray, config: GeneratorConfig, rng: np.random.Generator,
    device: torch.device,
) -> _Batch:  # fmt: skip
    """Windows with assets shuffled, conditions dropped and histories given at random."""
    n = len(rows)
    paths = shuffled(windows.paths(rows, rng), rng.random(n) < config.permutation_share, rng)
    maps = windows.conditions(rows, KINDS.index("both")).maps
    maps[..., -2] += config.volatility_jitter * rng.standard_normal((n, 1))
    dropped = rng.random(n)
    bounds = np.cumsum([config.drop_all, config.drop_regime, config.drop_volatility])
    maps[(dropped < bounds[1]), :, :-2] = 0.0  # all or regime
    maps[(dropped < bounds[0]) | ((dropped >= bounds[1]) & (dropped < bounds[2])), :, -2:] = 0.0  # all or volatility
    n_seen = config.context_days // BLOCK_DAYS
    whole = torch.from_numpy(paths * config.path_scale).float().transpose(1, 2)
    clean, before, known = whole[..., -n_seen:], whole[..., : config.n_blocks], rng.random(n) < config.history_share
    history = history_channels(clean, clean[..., : config.history_blocks]) * torch.from_numpy(known).float()[:, None, None]
    extra = torch.cat([torch.from_numpy(maps[:, -n_seen:]).float().transpose(1, 2), history], dim=1)
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
    clean, extra, noise, steps = (part.to(device) for part in (clean, extra, noise, torch.from_numpy(timesteps)))
    return _Batch(clean, extra, windows.state.linear.given(maps, n_seen, before.to(device), known), noise, steps)
