"""A generator of markets: training, sampling, synthetic markets and their quality. Loads torch and diffusers."""

from quantflux_sb3.diffusion.config import GeneratorConfig
from quantflux_sb3.diffusion.pipeline import RegimeDDPMOutput, RegimeDDPMPipeline
from quantflux_sb3.diffusion.quality import summary
from quantflux_sb3.diffusion.scenarios import synthetic_markets
from quantflux_sb3.diffusion.training import train_generator

__all__ = [
    "GeneratorConfig",
    "RegimeDDPMOutput",
    "RegimeDDPMPipeline",
    "summary",
    "synthetic_markets",
    "train_generator",
]
