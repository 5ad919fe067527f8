"""
QuantFlux: reinforcement-learning portfolio optimisation as a Stable-Baselines3 plugin.

``import quantflux_sb3`` registers the Gymnasium environment ``QuantFlux-v0`` and does nothing else: neither torch nor
diffusers is loaded, so that the import stays cheap for people who only want the env.
"""

from pathlib import Path

from gymnasium.envs.registration import register, registry

__version__ = "0.1.0"

# In a checkout callbacks/ and zoo_configs/ stand beside this folder; installed, they lie inside it.
_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "zoo_configs").is_dir() and (_CHECKOUT / "setup.py").is_file():
    __path__.append(str(_CHECKOUT))

if "QuantFlux-v0" not in registry:
    register(
        id="QuantFlux-v0",
        entry_point="quantflux_sb3.env:make_env",
        vector_entry_point="quantflux_sb3.vector_env:QuantFluxVectorEnv",
    )
