"""``quantflux run``: the whole experiment."""

import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser
from rich.console import Console

from quantflux_sb3.commands.parsing import add_track_flag, parse, settings_parser, to_settings
from quantflux_sb3.run_folder import LAST_FILE, RunFolder
from quantflux_sb3.settings import QUICK

if TYPE_CHECKING:
    from quantflux_sb3.experiment import Prepared


def make_parser() -> ArgumentParser:
    """
    :return: parser whose flags are the fields of :class:`quantflux_sb3.settings.Settings`
    """
    parser = settings_parser("quantflux run", "Data, generator, agents, evaluation on unseen real years.")
    parser.add_argument("--name", type=str, default=None, help="folder of the run under --output (default: run-001, ...)")
    parser.add_argument("--output", type=str, default="runs", help="folder of all runs")
    parser.add_argument("--quick", action="store_true", help="a minute's run: every stage works, nothing is learnt well")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run (the newest, or --name)")
    add_track_flag(parser)
    return parser


def run(argv: list[str]) -> int:
    """
    :param argv: arguments after ``run``
    :return: exit code
    """
    options = parse(make_parser(), argv)
    if options.track:
        from quantflux_sb3.tracking import check_tracker

        check_tracker(options.track)
    if options.resume:
        return _resume(options, argv)
    if options.quick:
        parser = make_parser()
        parser.set_defaults(QUICK)
        options = parse(parser, argv)
    settings = to_settings(options)
    from quantflux_sb3.experiment import Prepared
    from quantflux_sb3.tracking import TrackerError

    prepared = Prepared.check(settings)
    folder = RunFolder.create(options.output, options.name)
    folder.write_text("config.yml", prepared.settings.to_yaml())
    try:
        return _go(prepared, folder, options.track)
    except TrackerError:
        folder.discard()
        raise


def _resume(options: Any, argv: list[str]) -> int:
    folder = RunFolder.existing(options.output, options.name)
    if folder.has(LAST_FILE):
        raise ValueError(f"The run '{folder.path}' is finished; see {folder / 'report.html'}.")
    # What --quick meant stands in the saved configuration, which comes first; flags given now come on top.
    settings = to_settings(parse(make_parser(), ["--config", str(folder / "config.yml"), *argv]))
    if settings.to_yaml() != (folder / "config.yml").read_text(encoding="utf-8"):
        raise ValueError(f"The settings given differ from those of '{folder.path}'; resume without them, or start a new run.")
    from quantflux_sb3.experiment import Prepared

    return _go(Prepared.check(settings), folder, options.track)


def _go(prepared: "Prepared", folder: RunFolder, track: str | None) -> int:
    from quantflux_sb3.experiment import Experiment
    from quantflux_sb3.tracking import tracked

    console = Console(soft_wrap=True)
    experiment = Experiment(prepared, folder, console)
    try:
        with folder.claimed(), tracked(track, folder.path.name, asdict(prepared.settings)) as experiment.tracker:
            result = experiment.run()
            experiment.tracker.log_folder(folder.path)
    except KeyboardInterrupt:
        again = ["quantflux", "run", "--resume", "--output", str(folder.path.parent), "--name", folder.path.name]
        again += ["--track", track] if track else []
        kept = f"interrupted in stage '{experiment.stage}'; what was finished is kept"
        print(f"\nquantflux: {kept}. Go on with: {shlex.join(again)}", file=sys.stderr)
        return 130
    for sentence in result.verdicts:
        console.print(f"- {sentence}", highlight=False)
    console.print(f"report: {folder / 'report.html'}", highlight=False)
    return 0
