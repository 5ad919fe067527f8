"""``quantflux report``: write the page of a finished run again, or one page that compares several runs."""

from pathlib import Path

from jsonargparse import ArgumentParser

from quantflux_sb3.commands.parsing import parse


def report(argv: list[str]) -> int:
    """
    :param argv: arguments after ``report``
    :return: exit code
    """
    parser = ArgumentParser(
        prog="quantflux report", exit_on_error=False, description="The page of a finished run, or a page that compares runs."
    )
    parser.add_argument("run", nargs="?", type=str, default=None, help="folder of a run whose page is written again")
    parser.add_argument("--compare", nargs="+", type=str, default=None, help="folders of two runs or more")
    parser.add_argument("--out", type=str, default=None, help=".html file (default: the run's own, or comparison.html)")
    options = parse(parser, argv)
    if (options.run is None) == (options.compare is None):
        raise ValueError("Give the folder of one run, or --compare with the folders of several.")
    out = _checked(options.out)
    if options.compare is not None:
        from quantflux_sb3.evaluation.comparison import read_runs, write_comparison

        written = write_comparison(out or Path("comparison.html"), read_runs(options.compare))
    else:
        from quantflux_sb3.evaluation.report import PAGE_FILE, read_run, write_report

        written = write_report(out or Path(options.run) / PAGE_FILE, read_run(options.run))
    print(f"wrote {written}")
    return 0


def _checked(out: str | None) -> Path | None:
    """A path that can be written to, before anything is read."""
    if out is None:
        return None
    if not out.endswith(".html"):
        raise ValueError(f"--out must end in .html; got '{out}'.")
    if not Path(out).resolve().parent.is_dir():
        raise ValueError(f"There is no folder '{Path(out).resolve().parent}' to write '{Path(out).name}' into.")
    return Path(out)
