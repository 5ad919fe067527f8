"""Models saved on one portfolio and used on another, with another number of assets."""

from typing import Any, TypeVar

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv

from quantflux_sb3.layout import ObservationLayout

Algorithm = TypeVar("Algorithm", bound=BaseAlgorithm)


def load_for_env(algorithm: type[Algorithm], path: Any, env: GymEnv, device: str = "cpu", **kwargs: Any) -> Algorithm:
    """
    Like ``algorithm.load(path, env)``, but the env may have another number of assets than the one the model was trained on,
    if the policy's network treats all assets alike. What is observed of each asset must be the same.

    :param algorithm: class of the model, ``PPO`` say
    :param path: of the zip
    :param env: with the observation of ``QuantFlux-v0``, single or batched
    :param device: where the network is put
    :param kwargs: further arguments of ``algorithm.load``
    :return: the model on this env; it can act and go on training
    :raises ValueError: if model and env do not fit together; the text says why
    """
    data, _, _ = load_from_zip_file(path, device=device, load_data=True)
    saved, new = data["observation_space"], env.observation_space
    if not (hasattr(saved, "layout") and hasattr(new, "layout")):
        return algorithm.load(path, env=env, device=device, **kwargs)
    _check_schema(saved.layout, new.layout)
    _check_actions(data["action_space"], env.action_space)
    if saved.layout.n_assets != new.layout.n_assets and not _is_equivariant(data):
        raise ValueError(
            f"The model was trained on {saved.layout.n_assets} assets and its network reads them by position; it cannot act "
            f"on {new.layout.n_assets}. Train a SoftmaxPolicy or DirichletPolicy: their network treats all assets alike."
        )
    custom = {"observation_space": new, "action_space": env.action_space, **kwargs.pop("custom_objects", {})}
    return algorithm.load(path, env=env, device=device, custom_objects=custom, **kwargs)


def _is_equivariant(data: dict[str, Any]) -> bool:
    by_default = getattr(data["policy_class"], "equivariant_by_default", False)
    chosen = data.get("policy_kwargs", {}).get("equivariant")
    return by_default if chosen is None else bool(by_default and chosen)


def _check_actions(saved: spaces.Space, new: spaces.Space) -> None:
    if isinstance(saved, spaces.Box) and saved.low.min() != new.low.min():
        raise ValueError(
            f"The model was trained on actions from {saved.low.min():g} and the env takes them from {new.low.min():g}: one of "
            "them is long-short and the other is not. Give the env the `long_short` setting of the training."
        )


def _check_schema(saved: ObservationLayout, new: ObservationLayout) -> None:
    missing = _only_in(saved, new)
    surplus = _only_in(new, saved)
    if missing or surplus:
        parts = [f"{text}: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
                 for text, names in (("it expects", missing), ("it does not know", surplus)) if names]  # fmt: skip
        raise ValueError(
            f"The model was trained on another observation; {'; '.join(parts)}. Use the wrappers, features and signals of the "
            "training, or train a new model."
        )
    if saved.schema != new.schema or list(saved.schema) != list(new.schema):
        raise ValueError(
            "The model was trained on the same columns in another order. Apply the wrappers in the order of the training."
        )


def _only_in(a: ObservationLayout, b: ObservationLayout) -> list[str]:
    known = {(block, column) for block, columns in b.schema.items() for column in columns}
    return [f"{block}.{column}" for block, columns in a.schema.items() for column in columns if (block, column) not in known]
