"""Settings of the generator: one frozen dataclass of plain values."""

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real

#: Days per point of a diffused path; daily values are interpolated between block means.
BLOCK_DAYS = 4
#: Shortest training history [days]; about three years.
MIN_TRAIN_DAYS = 750
#: Shortest window [days]: calibration looks at autocorrelations up to 40 days.
LEAST_WINDOW = 48
#: Largest weight of the conditions; beyond it paths leave everything that was seen.
MOST_GUIDANCE = 10.0


@dataclass(frozen=True)
class GeneratorConfig:
    """
    How a generator is built and trained. The defaults take half a minute at most on one core for an index and six stocks.

    :param window: days of a path that are drawn at once
    :param history_days: days to each side of them that the network sees as well. Those before the window are given when a
        long path continues; those after it are dropped, because paths are distorted near the ends of what a network sees.
    :param channels: width of each level of the UNet
    :param n_train_steps: optimiser steps at most; early stopping may keep the weights of an earlier one
    :param batch_size: windows per step
    :param learning_rate: of AdamW at the start of its cosine decay
    :param weight_decay: of AdamW
    :param ema_decay: of the moving average of the weights that is kept
    :param holdout: share of the windows, the last ones in time, that only early stopping sees
    :param eval_interval: steps between two looks at the held-out loss
    :param patience: looks without improvement before training stops
    :param drop_all: share of training windows without any condition
    :param drop_regime: further share without the regime
    :param drop_volatility: further share without the volatility
    :param history_share: share of training windows whose first ``history_days`` are given
    :param permutation_share: share of training windows whose assets are shuffled
    :param volatility_jitter: noise on the volatility condition [standard deviations]
    :param path_scale: standard deviation of the diffused paths
    :param num_train_timesteps: of the noise schedule
    :param num_inference_steps: of sampling with DPM-Solver++
    :param guidance_scale: weight of the conditions in sampling; 1 is plain conditional sampling
    :param n_calibration_samples: windows drawn to calibrate each kind of condition on; about as many again for the last rounds
        of that without conditions
    :raises ValueError: if the values cannot work together
    """

    window: int = 64
    history_days: int = 16
    channels: tuple[int, ...] = (16, 32)
    n_train_steps: int = 225
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    holdout: float = 0.1
    eval_interval: int = 25
    patience: int = 6
    drop_all: float = 0.25
    drop_regime: float = 0.15
    drop_volatility: float = 0.15
    history_share: float = 0.4
    permutation_share: float = 1.0
    volatility_jitter: float = 0.1
    path_scale: float = 0.6
    num_train_timesteps: int = 1000
    num_inference_steps: int = 6
    guidance_scale: float = 1.0
    n_calibration_samples: int = 4000

    def __post_init__(self) -> None:
        self._check_types()
        object.__setattr__(self, "channels", tuple(int(width) for width in self.channels))
        self._check_positive()
        self._check_shape()
        if self.drop_all + self.drop_regime + self.drop_volatility > 1.0:
            raise ValueError("drop_all, drop_regime and drop_volatility are shares; together they may not exceed 1.")
        for name in ("drop_all", "drop_regime", "drop_volatility", "history_share", "permutation_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"`{name}` is a share; expected 0 to 1, got {getattr(self, name)}.")
        if not 0.0 < self.holdout < 0.5 or not 0.0 < self.ema_decay < 1.0:
            raise ValueError(f"Expected 0 < holdout < 0.5 and 0 < ema_decay < 1; got {self.holdout} and {self.ema_decay}.")

    @property
    def n_blocks(self) -> int:
        """Points of a window's path."""
        return self.window // BLOCK_DAYS

    @property
    def context_days(self) -> int:
        """Days that the network sees at once."""
        return self.window + 2 * self.history_days

    @property
    def span_days(self) -> int:
        """The same, and the days before that the linear denoiser knows besides: a window before the one drawn."""
        return self.context_days + self.window - self.history_days

    @property
    def history_blocks(self) -> int:
        return self.history_days // BLOCK_DAYS

    def _check_types(self) -> None:
        if isinstance(self.channels, (str, int, float)):
            raise ValueError(f"`channels` must be a width per level, as (16, 32); got {self.channels!r}.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (isinstance(value, bool) or not isinstance(value, Integral)):
                raise ValueError(f"`{field.name}` must be a whole number; got {value!r}.")
            if field.type is float and (isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value)):
                raise ValueError(f"`{field.name}` must be a finite number; got {value!r}.")

    def _check_positive(self) -> None:
        names = (
            "window", "history_days", "n_train_steps", "batch_size", "learning_rate", "eval_interval", "patience",
            "path_scale", "num_train_timesteps", "num_inference_steps", "n_calibration_samples",
        )  # fmt: skip
        for name in names:
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive; got {getattr(self, name)}.")
        for name in ("weight_decay", "volatility_jitter"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` may not be negative; got {getattr(self, name)}.")
        if not 0.0 <= self.guidance_scale <= MOST_GUIDANCE:
            raise ValueError(f"`guidance_scale` must lie in 0 to {MOST_GUIDANCE:g}; got {self.guidance_scale}.")
        if self.num_inference_steps > self.num_train_timesteps:
            raise ValueError(
                f"`num_inference_steps` may not exceed the {self.num_train_timesteps} `num_train_timesteps`; "
                f"got {self.num_inference_steps}."
            )

    def _check_shape(self) -> None:
        if not self.channels or any(width <= 0 or width % 8 for width in self.channels):
            raise ValueError(f"`channels` must be positive multiples of 8 (group norm); got {self.channels}.")
        step = 2 ** (len(self.channels) - 1)  # the UNet halves the length once per level but the last
        if self.window % BLOCK_DAYS or self.history_days % BLOCK_DAYS or self.context_days // BLOCK_DAYS % step:
            raise ValueError(
                f"`window` and `history_days` must be multiples of {BLOCK_DAYS}, and window + 2 * history_days of "
                f"{BLOCK_DAYS * step} for {len(self.channels)} channels; got {self.window} and {self.history_days}."
            )
        if self.window < LEAST_WINDOW:
            raise ValueError(f"`window` must be at least {LEAST_WINDOW} days, for lags up to 40; got {self.window}.")
        if self.history_days > self.window:
            raise ValueError(f"`history_days` may not exceed the window of {self.window}; got {self.history_days}.")
