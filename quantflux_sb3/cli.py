"""
The command line: ``quantflux run | walkforward | train | enjoy | evaluate | control | generate | report | data | push``.

Exit codes: 0 done; 2 bad input, with one line on stderr and nothing written; 130 interrupted.
"""

import sys
from importlib import import_module

USAGE = """usage: quantflux COMMAND ...

  run          the whole experiment: data, generator, agents, evaluation on unseen years
  walkforward  the same for every test year, each fitted on earlier years only; one portfolio over all of them
  train        rl_zoo3 train for QuantFlux-v0 with the tuned settings; every rl_zoo3 flag works
  enjoy        rl_zoo3 enjoy for QuantFlux-v0
  evaluate     backtest a saved model beside the baselines
  control      train on simulated markets with a known best policy: does the agent learn what is there?
  generate     synthetic prices from a saved generator
  report       write the page of a finished run again, or compare runs on one page
  data         list or fetch prices
  push         publish a trained agent on the Hugging Face Hub, with a model card

quantflux COMMAND --help tells more. For research and education, not for live trading."""

#: Module of ``quantflux_sb3.commands`` that holds each command's function; loaded only when it is called.
_COMMANDS = {
    "run": "run", "train": "zoo", "enjoy": "zoo", "evaluate": "evaluate", "control": "control", "generate": "generate",
    "data": "data", "walkforward": "walkforward", "report": "report", "push": "push",
}  # fmt: skip


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
        command = getattr(import_module(f"quantflux_sb3.commands.{_COMMANDS[argv[0]]}"), argv[0])
        return command(argv[1:])
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
