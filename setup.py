"""Packaging of quantflux_sb3; the tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "quantflux_sb3" / "__init__.py").read_text(encoding="utf-8")).group(1)

# callbacks/ and zoo_configs/ stand at the top of the repository and install as subpackages; custom_envs is the module
# that rl_zoo3 imports by itself, which is how `rl_zoo3 train --env QuantFlux-v0` finds the env.
ROOT_PACKAGES = {
    "quantflux_sb3.callbacks": "callbacks",
    "quantflux_sb3.zoo_configs": "zoo_configs",
    "custom_envs": "zoo_configs/custom_envs",
}

EXTRAS = {
    "zoo": ["rl_zoo3[plots]>=2.9"],
    "explain": ["captum>=0.7"],
    "tracking": ["mlflow-skinny>=3.0", "sqlalchemy>=2.0", "alembic>=1.10", "wandb>=0.18"],  # MLflow's file needs the two
    "ray": ["ray>=2.40"],
    "dask": ["dask[distributed]>=2025.1"],
    "tests": [
        "pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100", "build", "wheel", "ruff",
        "empyrical-reloaded>=0.5.9", "quantstats>=0.0.77", "playwright>=1.45",
    ],
}  # fmt: skip
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["news"] = ["transformers>=4.40"]  # for PipelineScorer alone, so it is not part of "all"

setup(
    name="quantflux_sb3",
    version=VERSION,
    description="Reinforcement-learning portfolio optimisation as a Stable-Baselines3 plugin",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["quantflux_sb3", "quantflux_sb3.*"]), *ROOT_PACKAGES],
    package_dir=ROOT_PACKAGES,
    package_data={
        "quantflux_sb3": ["py.typed", "hub_card.md"],
        "quantflux_sb3.evaluation": ["templates/*.html", "templates/*.css", "templates/*.js"],
        "quantflux_sb3.zoo_configs": ["*.yml"],
    },
    install_requires=[
        "stable-baselines3>=2.9",
        "sb3-contrib>=2.9",
        "gymnasium>=1.1",
        "torch>=2.4",
        "diffusers>=0.36",
        "pandas>=2.0",
        "numpy>=1.26",
        "numba>=0.60",
        "scipy>=1.11",
        "ta>=0.11",
        "yfinance>=1.0",
        "exchange-calendars>=4.5",
        "pyarrow>=15",
        "filelock>=3.12",
        "platformdirs>=4",
        "skfolio>=0.12",
        "matplotlib>=3.8",
        "jsonargparse>=4.49",
        "jinja2>=3.1",
        "plotly>=6",
        "joblib>=1.4",
        "accelerate>=1.0",
        "arch>=7.0",
        "safetensors>=0.4",
        "pyyaml>=6",
        "tqdm",
        "rich",
        "tensorboard",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["quantflux = quantflux_sb3.cli:main"]},
    classifiers=[
        "Framework :: Pytest",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Office/Business :: Financial :: Investment",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
