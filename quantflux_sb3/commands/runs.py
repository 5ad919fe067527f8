"""What the commands share that work in a folder under ``runs/``: flags, starting, resuming, being interrupted."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from quantflux_sb3.commands.parsing import check_config_file, parse, settings_parser, to_settings
from quantflux_sb3.run_folder import LAST_FILE, RunFolder
from quantflux_sb3.settings import QUICK, Settings, WalkForwardSettings

#: Exit code of an interrupted run.
INTERRUPTED = 130


def run_parser(command: str, description: str, settings_class: type[Settings]) -> ArgumentParser:
    """
    :param command: name of the subcommand
    :param description: shown in the help
    :param settings_class: whose fields become flags
    :return: parser of a command that works in a folder of its own
    """
    parser = settings_parser(f"quantflux {command}", description, settings_class)
    parser.add_argument("--name", type=str, default=None, help="folder of the run under --output (default: run-001, ...)")
    parser.add_argument("--output", type=str, default="runs", help="folder of all runs")
    parser.add_argument("--quick", action="store_true", help="a short run: every stage works, nothing is learnt well")
    parser.add_argument("--track", type=str, default=None, help="send the run to wandb or mlflow (extra 'tracking')")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run (the newest, or --name)")
    return parser


def settings_and_folder(
    make_parser: Callable[[], ArgumentParser], argv: list[str], settings_class: type[Settings]
) -> tuple[Any, Settings, RunFolder | None]:
    """
    :param make_parser: of the command
    :param argv: its arguments
    :param settings_class: that the parser was made for
    :return: the options, the settings, and the folder of the run that is to be resumed, if one is
    :raises ValueError: if there is no such run, it is finished, or it was begun with other settings
    """
    options = parse(make_parser(), argv)
    if options.track:
        from quantflux_sb3.tracking import check_tracker

        check_tracker(options.track)
    if options.resume:
        folder = RunFolder.existing(options.output, options.name)
        return options, _saved_settings(make_parser, argv, settings_class, folder), folder
    if options.quick:
        parser = make_parser()
        parser.set_defaults(QUICK)
        options = parse(parser, argv)
    return options, to_settings(options, settings_class), None


def _saved_settings(
    make_parser: Callable[[], ArgumentParser], argv: list[str], settings_class: type[Settings], folder: RunFolder
) -> Settings:
    if folder.has(LAST_FILE):
        raise ValueError(f"The run '{folder.path}' is finished; its results lie there.")
    walk = is_walkforward(folder.path)
    if walk != issubclass(settings_class, WalkForwardSettings):
        kind, command = ("a walk-forward", "walkforward") if walk else ("no walk-forward", "run")
        again = shlex.join(["--output", str(folder.path.parent), "--name", folder.path.name])
        raise ValueError(f"'{folder.path}' is {kind}; go on with `quantflux {command} --resume {again}`.")
    # What --quick meant stands in the saved configuration, which comes first; flags given now come on top.
    settings = to_settings(parse(make_parser(), ["--config", str(folder / "config.yml"), *argv]), settings_class)
    if settings.to_yaml() != (folder / "config.yml").read_text(encoding="utf-8"):
        raise ValueError(f"The settings given differ from those of '{folder.path}'; resume without them, or start a new run.")
    return settings


def is_walkforward(folder: Path) -> bool:
    """
    :param folder: of a run, with its ``config.yml``
    :return: whether ``quantflux walkforward`` made it
    :raises ValueError: if the file cannot be read
    """
    check_config_file(str(folder / "config.yml"))
    return "baselines_only" in yaml.safe_load((folder / "config.yml").read_text(encoding="utf-8"))


def new_folder(options: Any, settings: Settings) -> RunFolder:
    """
    :param options: of the command
    :param settings: as they were understood
    :return: a folder that holds them
    """
    folder = RunFolder.create(options.output, options.name)
    folder.write_text("config.yml", settings.to_yaml())
    return folder


def work(command: str, worker: Any, folder: RunFolder, settings: Settings, track: str | None) -> Any | None:
    """
    :param command: name of the subcommand
    :param worker: has ``run`` and ``stage``; its ``tracker`` is set
    :param folder: of the run
    :param settings: of the run
    :param track: see :func:`quantflux_sb3.tracking.tracked`
    :return: what ``run`` returned; None if it was interrupted
    """
    from quantflux_sb3.tracking import TrackerError, tracked

    try:
        with folder.claimed(), tracked(track, folder.path.name, asdict(settings)) as worker.tracker:
            result = worker.run()
            worker.tracker.log_folder(folder.path)
            return result
    except TrackerError:
        if [path.name for path in folder.path.iterdir()] == ["config.yml"]:
            folder.discard()
        raise
    except KeyboardInterrupt:
        again = ["quantflux", command, "--resume", "--output", str(folder.path.parent), "--name", folder.path.name]
        again += ["--track", track] if track else []
        kept = f"interrupted in stage '{worker.stage}'; what was finished is kept"
        print(f"\nquantflux: {kept}. Go on with: {shlex.join(again)}", file=sys.stderr)
        return None
