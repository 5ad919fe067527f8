"""``quantflux run``: the whole experiment."""

from jsonargparse import ArgumentParser
from rich.console import Console

from quantflux_sb3.commands.runs import INTERRUPTED, new_folder, run_parser, settings_and_folder, work
from quantflux_sb3.settings import Settings


def make_parser() -> ArgumentParser:
    """
    :return: parser whose flags are the fields of :class:`quantflux_sb3.settings.Settings`
    """
    return run_parser("run", "Data, generator, agents, evaluation on unseen real years.", Settings)


def run(argv: list[str]) -> int:
    """
    :param argv: arguments after ``run``
    :return: exit code
    """
    options, settings, folder = settings_and_folder(make_parser, argv, Settings)
    from quantflux_sb3.experiment import Experiment
    from quantflux_sb3.preparation import Prepared

    prepared = Prepared.check(settings)
    folder = folder or new_folder(options, prepared.settings)
    console = Console(soft_wrap=True)
    result = work("run", Experiment(prepared, folder, console), folder, prepared.settings, options.track)
    if result is None:
        return INTERRUPTED
    for sentence in result.verdicts:
        console.print(f"- {sentence}", highlight=False)
    console.print(f"report: {folder / 'report.html'}", highlight=False)
    return 0
