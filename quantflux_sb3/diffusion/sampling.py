"""
Drawing raw paths: reverse diffusion per window, outpainting for longer paths.

A window continues the one before: the network is told its last days, and the linear denoiser, for which that is exact, all of
them.
"""

from collections.abc import Callable
from inspect import signature

import numpy as np
import torch
from diffusers import SchedulerMixin, UNet1DModel
from diffusers.utils.torch_utils import randn_tensor

from quantflux_sb3.diffusion.network import spaced_timesteps
from quantflux_sb3.diffusion.state import GeneratorState


class PathSampler:
    """
    Samples paths of block means, as the network knows them: before calibration.

    :param unet: the denoising network
    :param scheduler: of diffusers; anything that knows v-prediction and custom timesteps
    :param state: settings, and the linear denoiser that the network corrects
    """

    def __init__(self, unet: UNet1DModel, scheduler: SchedulerMixin, state: GeneratorState):
        self.unet, self.scheduler, self.config, self.linear = unet, scheduler, state.config, state.linear

    @torch.no_grad()
    def sample(
        self, maps: np.ndarray, generator: torch.Generator | None, guidance_scale: float | None = None,
        num_inference_steps: int | None = None, batch_size: int = 256, progress: Callable = iter,
        history: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """
        :param maps: condition maps (n_paths, n_blocks, n_maps)
        :param generator: source of all randomness
        :param guidance_scale: weight of the conditions; the config's if not given
        :param num_inference_steps: the config's if not given
        :param batch_size: paths per call of the network
        :param progress: wraps the list of windows, for a progress bar
        :param history: paths of the first window, which then is not drawn (n_paths, n_window_blocks, n_channels)
        :return: raw paths (n_paths, n_blocks, n_channels)
        """
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        n_paths, n_blocks, _ = maps.shape
        window, margin = self.config.n_blocks, self.config.history_blocks
        starts = range(0, n_blocks, window)
        padding = (window, len(starts) * window - n_blocks + margin)
        inputs = np.pad(maps, ((0, 0), padding, (0, 0)), mode="edge")
        paths = torch.zeros(n_paths, self.unet.config.out_channels, window + len(starts) * window)  # the first is unknown
        if history is not None:
            paths[..., window : 2 * window] = torch.from_numpy(history * self.config.path_scale).float().transpose(1, 2)
        for start in progress(starts[history is not None :]):
            # Noise for all paths at once: the batch size then changes nothing but the speed.
            noise = randn_tensor((n_paths, paths.shape[1], window + 2 * margin), generator=generator)
            for rows in torch.arange(n_paths).split(batch_size):
                conditions = inputs[rows.numpy(), start : start + 2 * window + margin]
                before = paths[rows, :, start : start + window]
                drawn = self._denoise(noise[rows], conditions, before, start > 0, guidance, steps, generator).cpu()
                paths[rows, :, start + window : start + 2 * window] = drawn[..., margin : margin + window]
        return paths[..., window:].transpose(1, 2).numpy().astype(np.float64)[:, :n_blocks] / self.config.path_scale

    def _denoise(
        self, sample: torch.Tensor, maps: np.ndarray, before: torch.Tensor, continues: bool, guidance: float, steps: int,
        generator: torch.Generator | None,
    ) -> torch.Tensor:  # fmt: skip
        device, n_seen = self.unet.device, sample.shape[2]
        history = history_channels(sample, before[..., -self.config.history_blocks :] if continues else None)
        guides = [maps, np.zeros_like(maps)] if guidance != 1.0 and maps.any() else [maps]
        known, sample, before = np.full(len(maps), continues), sample.to(device), before.to(device)
        gaussians = [self.linear.given(one, n_seen, before, known) for one in guides]
        channels = [torch.from_numpy(one[:, -n_seen:]).float().transpose(1, 2) for one in guides]
        extras = [torch.cat([one, history], dim=1).to(device) for one in channels]
        self._set_timesteps(steps)
        for timestep in self.scheduler.timesteps:
            # 1. predict v given the conditions, and away from the unconditional prediction (Ho and Salimans, 2022, eq. 6)
            level = self.scheduler.alphas_cumprod[timestep].to(device).expand(len(sample))
            velocities = [
                gaussian.velocity(sample, level) + self.unet(torch.cat([sample, extra], dim=1), timestep).sample
                for gaussian, extra in zip(gaussians, extras, strict=True)
            ]
            prediction = velocities[-1] + guidance * (velocities[0] - velocities[-1]) if velocities[1:] else velocities[0]
            # 2. previous sample: x_t -> x_t-1
            sample = self.scheduler.step(prediction, timestep, sample, generator=generator).prev_sample
        return sample

    def _set_timesteps(self, steps: int) -> None:
        """Spaced as :func:`spaced_timesteps` says, where the scheduler takes timesteps (DDIM spaces them itself)."""
        if "timesteps" in signature(self.scheduler.set_timesteps).parameters:
            self.scheduler.set_timesteps(timesteps=spaced_timesteps(self.scheduler.config.num_train_timesteps, steps))
        else:
            self.scheduler.set_timesteps(steps)


def history_channels(sample: torch.Tensor, history: torch.Tensor | None) -> torch.Tensor:
    """
    :param sample: gives shape and type (batch, channels, length)
    :param history: observed values of the first points (batch, channels, n_observed), or None
    :return: observed values, zero elsewhere, and a mask (batch, channels + 1, length)
    """
    extra = torch.zeros_like(torch.cat([sample, sample[:, :1]], dim=1))
    if history is not None:
        extra[:, :-1, : history.shape[-1]] = history
        extra[:, -1, : history.shape[-1]] = 1.0
    return extra
