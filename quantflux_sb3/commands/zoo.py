"""
``quantflux train`` and ``quantflux enjoy``: hand over to rl_zoo3 with the flags that QuantFlux-v0 wants.

Everything the user says goes through unchanged and wins over what is added here. ``--vec-env batched`` steps all portfolios
in one kernel call. The evaluation env plays the validation years; ``-optimize`` searches in our own spaces
(:mod:`quantflux_sb3.tuning`).
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

ENV_ID = "QuantFlux-v0"


def train(argv: list[str]) -> int:
    """
    :param argv: arguments of ``rl_zoo3 train``
    :return: exit code
    """
    argv, batched = _without_batched(argv)
    flags = []
    if not _given(argv, "-conf", "--conf-file"):
        flags += ["--conf-file", f"quantflux_sb3.zoo_configs.{_algorithm(argv)}"]
    flags += _env_flags(argv)
    hyperparams = _hyperparams(_value([*argv, *flags], "-conf", "--conf-file"))
    # rl_zoo3 gives a config's env_kwargs to the training env only; the evaluation env must differ in its years alone.
    if not _given(argv, "--eval-env-kwargs", "--env-kwargs"):
        flags += _eval_flags(argv, hyperparams.get("env_kwargs", {}))
    if _given(argv, "-optimize", "--optimize-hyperparameters"):
        from quantflux_sb3.tuning import install_search_spaces

        install_search_spaces(hyperparams)
    if batched:
        from rl_zoo3.exp_manager import ExperimentManager

        from quantflux_sb3.zoo_vec_env import BatchedVecEnv

        ExperimentManager.default_vec_env_cls = BatchedVecEnv  # rl_zoo3's own seam for envs that are batches by themselves
    return _hand_over("train", [*argv, *flags])


def enjoy(argv: list[str]) -> int:
    """
    :param argv: arguments of ``rl_zoo3 enjoy``
    :return: exit code
    """
    folder = [] if _given(argv, "-f", "--folder") else ["-f", "logs"]
    return _hand_over("enjoy", [*argv, *_env_flags(argv), *folder])


def _without_batched(argv: list[str]) -> tuple[list[str], bool]:
    """``--vec-env batched`` is ours; rl_zoo3 knows dummy and subproc only."""
    for position, argument in enumerate(argv):
        if argument == "--vec-env=batched":
            return argv[:position] + argv[position + 1 :], True
        if argument == "--vec-env" and argv[position + 1 : position + 2] == ["batched"]:
            return argv[:position] + argv[position + 2 :], True
    return argv, False


def _hand_over(script: str, argv: list[str]) -> int:
    try:
        module = import_module(f"rl_zoo3.{script}")
    except ImportError as error:
        raise ValueError(f"`quantflux {script}` needs rl_zoo3 ({error}); pip install 'quantflux_sb3[zoo]'.") from error
    function: Callable[[], None] = getattr(module, script)
    before, sys.argv = sys.argv, [f"rl_zoo3 {script}", *argv]
    try:
        function()
    except SystemExit as end:
        return int(end.code or 0)
    except (AssertionError, ImportError) as error:
        raise ValueError(f"rl_zoo3 {script}: {error}") from error
    finally:
        sys.argv = before
    return 0


def _given(argv: list[str], *names: str) -> bool:
    return any(argument == name or argument.startswith(f"{name}=") for argument in argv for name in names)


def _value(argv: list[str], *names: str, default: str = "") -> str:
    for position, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name in names and equals:
            return value
        if argument in names and position + 1 < len(argv):
            return argv[position + 1]
    return default


def _algorithm(argv: list[str]) -> str:
    return _value(argv, "--algo", default="ppo")


def _env_flags(argv: list[str]) -> list[str]:
    return [] if _given(argv, "--env") else ["--env", ENV_ID]


def _hyperparams(source: str) -> dict[str, Any]:
    """What a --conf-file says of our env: a module, or a .yml file; a .py file is left to rl_zoo3."""
    if source.endswith(".py"):
        return {}
    try:
        if source.endswith((".yml", ".yaml")):
            return yaml.safe_load(Path(source).read_text(encoding="utf-8")).get(ENV_ID, {})
        return import_module(source).hyperparams[ENV_ID]
    except (ImportError, OSError) as error:
        raise ValueError(f"There are no tuned settings '{source}'; give --conf-file. ({error})") from error


def _eval_flags(argv: list[str], env_kwargs: dict[str, Any]) -> list[str]:
    """Models are chosen on all the validation years, in one episode: it begins on the same day every time."""
    settings = {**env_kwargs, "split": "validation", "episode_length": None}
    episodes = [] if _given(argv, "--eval-episodes") else ["--eval-episodes", "1"]
    envs = [] if _given(argv, "--n-eval-envs") else ["--n-eval-envs", "1"]
    return [*episodes, *envs, "--eval-env-kwargs", *(f"{name}:{value!r}" for name, value in settings.items())]
