"""
The command line: ``quantflux run | train | enjoy | evaluate | generate | data``.

Exit codes: 0 done; 2 bad input, with one line on stderr and nothing written; 130 interrupted.
"""

import sys
from collections.abc import Callable

USAGE = """usage: quantflux COMMAND ...

  run        the whole experiment: data, generator, agents, evaluation on unseen years
  train      rl_zoo3 train for QuantFlux-v0 with the tuned settings; every rl_zoo3 flag works
  enjoy      rl_zoo3 enjoy for QuantFlux-v0
  evaluate   backtest a saved model beside the baselines
  generate   synthetic prices from a saved generator
  data       list or fetch prices

quantflux COMMAND --help tells more. For research and education, not for live trading."""


def main(argv: list[str] | None = None) -> int:
    """
    :param argv: arguments without the program's name
    :return: exit code
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if argv[0] == "--version":
        from quantflux_sb3 import __version__

        print(__version__)
        return 0
    if argv[0] not in _COMMANDS:
        return _fail(f"unknown command '{argv[0]}'; expected one of {', '.join(_COMMANDS)}")
    try:
        return _COMMANDS[argv[0]](argv[1:])
    except (ValueError, TypeError, ImportError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"'{error.filename}': {error.strerror}" if error.filename and error.strerror else str(error))
    except KeyboardInterrupt:
        print("\nquantflux: interrupted", file=sys.stderr)
        return 130


def _fail(message: str) -> int:
    print(f"quantflux: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _run(argv: list[str]) -> int:
    from quantflux_sb3.commands.run import run

    return run(argv)


def _train(argv: list[str]) -> int:
    from quantflux_sb3.commands.zoo import train

    return train(argv)


def _enjoy(argv: list[str]) -> int:
    from quantflux_sb3.commands.zoo import enjoy

    return enjoy(argv)


def _evaluate(argv: list[str]) -> int:
    from quantflux_sb3.commands.evaluate import evaluate

    return evaluate(argv)


def _generate(argv: list[str]) -> int:
    from quantflux_sb3.commands.generate import generate

    return generate(argv)


def _data(argv: list[str]) -> int:
    from quantflux_sb3.commands.data import data

    return data(argv)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run, "train": _train, "enjoy": _enjoy, "evaluate": _evaluate, "generate": _generate, "data": _data,
}  # fmt: skip
