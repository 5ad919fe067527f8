"""
A generator of markets: training, sampling, synthetic markets and their quality.

torch and diffusers are loaded when something is used, not when the package is imported.
"""

from importlib import import_module
from typing import Any

from quantflux_sb3.diffusion.config import GeneratorConfig

_HOMES = {
    "RegimeDDPMOutput": "pipeline",
    "RegimeDDPMPipeline": "pipeline",
    "Scenario": "scenarios",
    "SyntheticMarkets": "synthetic",
    "figures": "quality",
    "quality_table": "quality",
    "summary": "quality",
    "synthetic_markets": "synthetic",
    "train_generator": "training",
}

__all__ = ["GeneratorConfig", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
