"""
``quantflux train`` and ``quantflux enjoy``: hand over to rl_zoo3 with the flags that QuantFlux-v0 wants.

Everything the user says goes through unchanged and wins over what is added here. ``--vec-env batched`` steps all portfolios
in one kernel call.
"""

import sys
from collections.abc import Callable
from importlib import import_module

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
    # rl_zoo3 gives a config's env_kwargs to the training env only; the evaluation env must not differ from it.
    if not _given(argv, "--eval-env-kwargs", "--env-kwargs") and flags[:1] == ["--conf-file"]:
        flags += _eval_env_kwargs(flags[1])
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


def _algorithm(argv: list[str]) -> str:
    for position, argument in enumerate(argv):
        if argument.startswith("--algo="):
            return argument.partition("=")[2]
        if argument == "--algo" and position + 1 < len(argv):
            return argv[position + 1]
    return "ppo"


def _env_flags(argv: list[str]) -> list[str]:
    return [] if _given(argv, "--env") else ["--env", ENV_ID]


def _eval_env_kwargs(module: str) -> list[str]:
    try:
        hyperparams = import_module(module).hyperparams
    except ImportError as error:
        raise ValueError(f"There are no tuned settings '{module}'; give --conf-file. ({error})") from error
    settings = hyperparams[ENV_ID].get("env_kwargs", {})
    return ["--eval-env-kwargs", *(f"{name}:{value!r}" for name, value in settings.items())] if settings else []
