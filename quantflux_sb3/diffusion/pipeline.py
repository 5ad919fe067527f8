"""The generator as a diffusers pipeline: conditions in, paths of returns out; saved and loaded like any other."""

from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin, UNet1DModel
from diffusers.utils import BaseOutput
from diffusers.utils import logging as diffusers_logging

from quantflux_sb3.diffusion.conditions import build_conditions, parse_regimes, parse_volatility
from quantflux_sb3.diffusion.config import BLOCK_DAYS, MOST_GUIDANCE
from quantflux_sb3.diffusion.network import load_unet
from quantflux_sb3.diffusion.sampling import PathSampler
from quantflux_sb3.diffusion.state import ARRAYS_FILE, RECORD_FILE, GeneratorState
from quantflux_sb3.market.data import MarketData

_FILES = ("model_index.json", RECORD_FILE, ARRAYS_FILE, "unet/config.json", "unet/diffusion_pytorch_model.safetensors")


@dataclass
class RegimeDDPMOutput(BaseOutput):
    """
    :param returns: simple returns of the assets (n_paths, n_days, n_assets) [float64, > -1]
    :param benchmark_returns: simple returns of the benchmark (n_paths, n_days)
    """

    returns: np.ndarray
    benchmark_returns: np.ndarray


class RegimeDDPMPipeline(DiffusionPipeline):
    """
    Regime-conditioned generator of daily returns of a benchmark and its assets.

    A DDPM (Ho, Jain and Abbeel, 2020) with velocity prediction diffuses smooth log-volatility paths of the benchmark and of
    the assets' residuals, the assets' betas, and the benchmark's trend; the network corrects the best linear denoiser of them.
    Daily returns follow from the paths and Gaussian noise; a network for the noise learned nothing and was dropped. All is
    then calibrated on the training years. Build one with
    :func:`train_generator`. Sampling uses DPM-Solver++; DDPM and DDIM made from its config can take its place, e.g.
    ``pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)`` with ``num_inference_steps=1000``.

    :param unet: the denoising network
    :param scheduler: of diffusers
    :param state: everything else that was fitted
    """

    model_cpu_offload_seq = "unet"

    def __init__(self, unet: UNet1DModel, scheduler: SchedulerMixin, state: GeneratorState | None = None):
        super().__init__()
        if not isinstance(state, GeneratorState):
            raise ValueError("A RegimeDDPMPipeline needs its `state`; use train_generator(...) or from_pretrained(folder).")
        self.register_modules(unet=unet, scheduler=scheduler)
        self.state = state
        self.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def __call__(
        self,
        n_paths: int = 1,
        n_days: int | None = None,
        regimes: str | np.ndarray | None = None,
        volatility: float | np.ndarray | None = None,
        generator: torch.Generator | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        batch_size: int = 256,
        history: MarketData | np.ndarray | None = None,
        return_dict: bool = True,
    ) -> RegimeDDPMOutput | tuple[np.ndarray, np.ndarray]:
        """
        :param n_paths: paths to draw
        :param n_days: length of each; one window if not given. Longer paths continue from their last observed days.
        :param regimes: a name of ``REGIMES`` for all days, or names or indices into it (n_days,) or (n_paths, n_days)
        :param volatility: of the benchmark, annualised: one number, or (n_days,) or (n_paths, n_days)
        :param generator: source of all randomness
        :param guidance_scale: weight of the conditions, 1 is plain conditional sampling; the config's if not given.
            Calibration was done at the config's.
        :param num_inference_steps: denoising steps; the config's if not given
        :param batch_size: paths per call of the network; changes the speed only, unless the scheduler draws noise of its own
        :param history: days that the paths continue: a market with the generator's assets, or simple returns, benchmark first
            (n_history_days, 1 + n_assets); a window of them at least. Their volatility and trend are continued.
        :param return_dict: give a :class:`RegimeDDPMOutput` and not a tuple
        :return: simple returns
        :raises ValueError: if an argument makes no sense; the text says which
        """
        n_paths, batch_size = _positive_int("n_paths", n_paths), _positive_int("batch_size", batch_size)
        n_days = _positive_int("n_days", self.state.config.window if n_days is None else n_days)
        if guidance_scale is not None and not (isinstance(guidance_scale, Real) and 0.0 <= guidance_scale <= MOST_GUIDANCE):
            raise ValueError(f"`guidance_scale` must be a number from 0 to {MOST_GUIDANCE:g}; got {guidance_scale!r}.")
        if num_inference_steps is not None and not isinstance(num_inference_steps, Integral):
            raise ValueError(f"`num_inference_steps` must be a whole number; got {num_inference_steps!r}.")
        if generator is not None and not isinstance(generator, torch.Generator):
            raise ValueError(f"`generator` must be a torch.Generator, as torch.Generator().manual_seed(0); got {generator!r}.")
        length = max(-(-n_days // BLOCK_DAYS) * BLOCK_DAYS, self.state.config.window)  # whole blocks, a window at least
        parsed = parse_regimes(regimes, n_paths, n_days), parse_volatility(volatility, n_paths, n_days)
        past = None if history is None else self.state.encode_history(history, n_paths, _numpy_generator(generator))
        before = 0 if past is None else self.state.config.window
        conditions = build_conditions(
            *(_extend(values, before, length) for values in parsed), self.state.volatility_scale, n_paths, before + length
        )
        sampler = PathSampler(self.unet, self.scheduler, self.state)
        raw = sampler.sample(
            conditions.maps, generator, guidance_scale, num_inference_steps, batch_size, self.progress_bar, past
        )
        shape = self.state.noise_shape(n_paths, before + length)
        white = torch.randn(shape, generator=generator, dtype=torch.float64).numpy()
        simple = np.expm1(self.state.assemble(raw, conditions, white)[:, before : before + n_days])
        output = RegimeDDPMOutput(np.ascontiguousarray(simple[..., 1:]), np.ascontiguousarray(simple[..., 0]))
        return output if return_dict else (output.returns, output.benchmark_returns)

    def log_returns(self, n_paths: int, n_days: int | None = None, **kwargs: Any) -> np.ndarray:
        """
        The same paths as log returns of all series, the form that the quality figures take.

        :param n_paths: paths to draw
        :param n_days: length of each; one window if not given
        :param kwargs: of :meth:`__call__`
        :return: log returns, benchmark first (n_paths, n_days, 1 + n_assets)
        """
        returns, benchmark = self(n_paths, n_days, **kwargs, return_dict=False)
        return np.log1p(np.concatenate([benchmark[..., None], returns], axis=-1))

    def check_unseen(self, dates: np.ndarray) -> None:
        """
        Refuse dates that the generator was trained on.

        :param dates: dates of an evaluation (n_days,)
        :raises ValueError: if any lies within the training span
        """
        days = np.atleast_1d(np.asarray(dates, dtype="datetime64[D]"))
        start, end = self.state.record.train_start, self.state.record.train_end
        seen = days[(days >= np.datetime64(start, "D")) & (days <= np.datetime64(end, "D"))]
        if len(seen):
            raise ValueError(
                f"This generator was trained on {start} to {end}; {len(seen)} of the {len(days)} evaluation dates lie within, "
                f"first {seen[0]}. Train one on data before the evaluation, or evaluate later dates."
            )

    def save_pretrained(self, save_directory: str | PathLike, **kwargs: Any) -> None:
        """
        :param save_directory: folder, created if missing; gets JSON and safetensors only
        :param kwargs: of ``DiffusionPipeline.save_pretrained``
        """
        super().save_pretrained(save_directory, **kwargs)
        self.state.save(Path(save_directory))
        readable = (Path(save_directory) / "model_index.json").stat().st_mode
        for file in Path(save_directory).rglob("*.safetensors"):  # safetensors keeps its files to their owner
            file.chmod(readable)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike, **kwargs: Any) -> "RegimeDDPMPipeline":
        """
        :param pretrained_model_name_or_path: local folder that ``save_pretrained`` wrote
        :param kwargs: of ``DiffusionPipeline.from_pretrained``
        :raises ValueError: if the folder is not a saved generator
        """
        folder = Path(pretrained_model_name_or_path)
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise ValueError(
                f"'{folder}' is not a saved RegimeDDPMPipeline: {missing[0]} is missing. Give the local folder that "
                "save_pretrained wrote; that of a run is its folder 'generator'."
            )
        diffusers_logging.disable_progress_bar()  # two small files; a bar would only be noise
        try:
            components = {"unet": load_unet(folder / "unet"), "state": GeneratorState.load(folder)}
            return super().from_pretrained(str(folder), **(components | kwargs))
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            raise ValueError(f"'{folder}' is damaged or was saved by another version ({reason}). Train it again.") from error
        finally:
            diffusers_logging.enable_progress_bar()


def _extend(values: np.ndarray | None, before: int, length: int) -> np.ndarray | None:
    """Repeat the first day's condition before, and the last day's up to a length."""
    return None if values is None else np.pad(values, ((0, 0), (before, length - values.shape[1])), mode="edge")


def _numpy_generator(generator: torch.Generator | None) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def _positive_int(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"`{name}` must be a whole number >= 1; got {value!r}.")
    return int(value)
