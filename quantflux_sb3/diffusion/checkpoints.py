"""Early stopping, and the state of an unfinished training as one safetensors file."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet1DModel
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


class Stopping:
    """
    Keeps the averaged weights with the lowest held-out loss, and says when to stop.

    :param patience: looks without improvement before training stops
    """

    def __init__(self, patience: int):
        self.patience, self.best_step, self.best_loss, self.looks_since = patience, 0, np.inf, 0
        self.best_weights: list[torch.Tensor] = []
        self.curve: dict[str, list[float]] = {"step": [], "train_loss": [], "heldout_loss": []}

    @property
    def is_over(self) -> bool:
        return self.looks_since >= self.patience

    def look(self, step: int, train_loss: float, heldout_loss: float, ema: EMAModel) -> None:
        """
        :param step: of training
        :param train_loss: of the averaged weights, on training windows
        :param heldout_loss: the same on held-out windows
        :param ema: holds the averaged weights
        """
        for values, value in zip(self.curve.values(), (step, train_loss, heldout_loss), strict=True):
            values.append(value)
        self.looks_since += 1
        if heldout_loss < self.best_loss:
            self.best_step, self.best_loss, self.looks_since = step, heldout_loss, 0
            self.best_weights = [weights.detach().clone() for weights in ema.shadow_params]

    def plain(self) -> dict:
        """:return: everything but the weights, for JSON"""
        return {name: value for name, value in vars(self).items() if name != "best_weights"}


def save_checkpoint(
    file: Path,
    identity: str,
    step: int,
    unet: UNet1DModel,
    optimizer: torch.optim.Optimizer,
    ema: EMAModel,
    stopping: Stopping,
) -> None:
    """
    Write the state of a training, whole or not at all.

    :param file: to write
    :param identity: of the training; another one may not go on from here
    :param step: that was done last
    """
    tensors = {}
    for i, weights in enumerate(unet.parameters()):
        moments = optimizer.state[weights]
        parts = (weights, moments["exp_avg"], moments["exp_avg_sq"], ema.shadow_params[i], stopping.best_weights[i])
        tensors |= {f"{i}.{name}": part.detach().cpu().contiguous() for name, part in zip(_PARTS, parts, strict=True)}
    about = {"identity": identity, "step": step, "ema_step": ema.optimization_step, "stopping": stopping.plain()}
    partial = file.with_name(f".partial-{file.name}")
    save_file(tensors, partial, {"training": json.dumps(about)})
    os.replace(partial, file)


def load_checkpoint(
    file: Path, identity: str, unet: UNet1DModel, optimizer: torch.optim.Optimizer, ema: EMAModel, stopping: Stopping
) -> int:
    """
    Put a training into the state of a checkpoint.

    :param file: that :func:`save_checkpoint` wrote
    :param identity: of the training
    :return: step that was done last
    :raises ValueError: if the file is damaged or of another training
    """
    try:
        with safe_open(file, "pt") as content:
            about = json.loads(content.metadata()["training"])
            tensors = {name: content.get_tensor(name) for name in content.keys()}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"'{file}' is no checkpoint of a training, or is damaged; delete it to start anew.") from error
    if about["identity"] != identity:
        raise ValueError(f"'{file}' is of another training (market, settings or seed); delete it, or name another file.")
    for name, value in about["stopping"].items():
        setattr(stopping, name, value)
    stopping.best_weights = []
    for i, weights in enumerate(unet.parameters()):
        part = {name: tensors[f"{i}.{name}"] for name in _PARTS}
        weights.data.copy_(part["weights"])
        optimizer.state[weights] = {
            "step": torch.tensor(float(about["step"])), "exp_avg": part["mean"], "exp_avg_sq": part["square"]
        }  # fmt: skip
        ema.shadow_params[i].copy_(part["average"])
        stopping.best_weights.append(part["best"])
    ema.optimization_step = about["ema_step"]
    return about["step"]


_PARTS = ("weights", "mean", "square", "average", "best")
