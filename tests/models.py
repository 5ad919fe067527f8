"""Models that the tests make up."""

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm


def scrambled(model: BaseAlgorithm) -> BaseAlgorithm:
    """The model with random weights, so that it holds something else every day."""
    with th.no_grad():
        for parameter in model.policy.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, 0.5)
    return model
