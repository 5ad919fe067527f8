"""The denoising network: diffusers' UNet1DModel with two changes that are reapplied whenever it is loaded."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet1DModel
from safetensors.torch import load_file
from torch import nn

from quantflux_sb3.diffusion.conditions import N_MAPS
from quantflux_sb3.diffusion.config import BLOCK_DAYS, GeneratorConfig


def build_unet(n_series: int, config: GeneratorConfig) -> UNet1DModel:
    """
    :param n_series: benchmark and assets
    :param config: settings of the generator
    :return: a network of 2 * n_series channels (volatilities, betas, trend), with extra channels for condition maps, history
        values and history mask
    """
    n_channels, n_levels = 2 * n_series, len(config.channels)
    unet = UNet1DModel(
        sample_size=config.context_days // BLOCK_DAYS,
        in_channels=n_channels,
        out_channels=n_channels,
        extra_in_channels=N_MAPS + n_channels + 1,
        time_embedding_type="positional",  # "fourier" with integer timesteps is noise
        use_timestep_embedding=True,
        down_block_types=("DownResnetBlock1D",) * n_levels,
        up_block_types=("UpResnetBlock1D",) * n_levels,
        mid_block_type="MidResTemporalBlock1D",
        out_block_type="OutConv1DBlock",
        block_out_channels=config.channels,
        layers_per_block=0,  # diffusers counts from one: each block has one residual layer
        act_fn="silu",
    )
    nn.init.zeros_(unet.out_block.final_conv1d_2.weight)
    nn.init.zeros_(unet.out_block.final_conv1d_2.bias)
    return adapt_unet(unet)


def adapt_unet(unet: UNet1DModel) -> UNet1DModel:
    """
    Let amplitude through (OutConv1DBlock ends in a GroupNorm, which removes it), and use SiLU for Mish (a third faster).
    """
    unet.out_block.final_conv1d_gn = nn.Identity()
    for module in unet.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Mish):
                setattr(module, name, nn.SiLU())
    return unet


def load_unet(folder: Path) -> UNet1DModel:
    """
    :param folder: where ``save_pretrained`` of the network wrote; only JSON and safetensors are read
    """
    unet = adapt_unet(UNet1DModel.from_config(UNet1DModel.load_config(folder)))
    unet.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return unet.eval()


def training_scheduler(config: GeneratorConfig) -> DDPMScheduler:
    """v-prediction, because epsilon explodes in few steps on this schedule; unclipped, because clipping cuts the tails."""
    return DDPMScheduler(
        config.num_train_timesteps, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
    )


def sampling_scheduler(config: GeneratorConfig) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ 2M on the schedule of training."""
    return DPMSolverMultistepScheduler.from_config(training_scheduler(config).config)


def spaced_timesteps(num_train_timesteps: int, num_inference_steps: int) -> list[int]:
    """
    Timesteps T (1 - (k / n)^1.5): denser near pure noise, where the paths' level is decided.

    :raises ValueError: if there are more steps than the schedule has
    """
    if not 1 <= num_inference_steps <= num_train_timesteps:
        raise ValueError(f"`num_inference_steps` must lie in 1 to {num_train_timesteps}; got {num_inference_steps}.")
    if num_inference_steps > num_train_timesteps // 10:  # the power would repeat timesteps
        return torch.linspace(num_train_timesteps - 1, 0, num_inference_steps).round().long().tolist()
    steps = torch.arange(num_inference_steps) / num_inference_steps
    return ((num_train_timesteps - 1) * (1.0 - steps**1.5)).round().long().tolist()
