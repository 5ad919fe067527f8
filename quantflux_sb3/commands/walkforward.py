"""``quantflux walkforward``: the whole experiment again for every test year, refitted each time on what came before."""

from jsonargparse import ArgumentParser
from rich.console import Console

from quantflux_sb3.commands.runs import INTERRUPTED, new_folder, run_parser, settings_and_folder, work
from quantflux_sb3.settings import WalkForwardSettings


def make_parser() -> ArgumentParser:
    """
    :return: parser whose flags are the fields of :class:`quantflux_sb3.settings.WalkForwardSettings`
    """
    parser = run_parser(
        "walkforward", "The experiment once per test year, each fitted on earlier years only.", WalkForwardSettings
    )
    parser.add_argument("--n_jobs", type=int, default=-1, help="processes; -1: one per core, of the cluster if there is one")
    parser.add_argument("--backend", type=str, default="local", help="local, ray or dask")
    parser.add_argument(
        "--address", type=str, default=None, help="of a running Ray or Dask cluster; none: one is started here"
    )
    return parser


def walkforward(argv: list[str]) -> int:
    """
    :param argv: arguments after ``walkforward``
    :return: exit code
    """
    options, settings, folder = settings_and_folder(make_parser, argv, WalkForwardSettings)
    from quantflux_sb3.walkforward.parallel import check_backend, check_cluster

    check_backend(options.backend, options.n_jobs, options.address)
    from quantflux_sb3.evaluation.baselines import AGENT
    from quantflux_sb3.evaluation.metrics import table_rows
    from quantflux_sb3.evaluation.report import results_table
    from quantflux_sb3.walkforward.runner import PreparedWalk, WalkForward

    walk = PreparedWalk.check(settings)
    check_cluster(options.backend, options.address)
    folder = folder or new_folder(options, walk.prepared.settings)
    console = Console(soft_wrap=True)
    worker = WalkForward(walk, folder, console, options.backend, options.n_jobs, options.address)
    result = work("walkforward", worker, folder, walk.prepared.settings, options.track)
    if result is None:
        return INTERRUPTED
    console.print(results_table(table_rows(result.strategies), AGENT))
    for sentence in result.verdicts:
        console.print(f"- {sentence}", highlight=False)
    console.print(f"results: {folder / ('metrics.json' if settings.baselines_only else 'report.html')}", highlight=False)
    return 0
