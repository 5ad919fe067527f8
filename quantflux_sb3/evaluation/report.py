"""
The report of an experiment: one self-contained HTML page, and the same table for the terminal.

The page is written from the files of a run's folder (:func:`read_run`), so that it can be written again at any time, and
its numbers are those of ``metrics.json``. What it shows is in :mod:`quantflux_sb3.evaluation.sections`, how it looks in
:mod:`quantflux_sb3.evaluation.page`, how numbers are written in :mod:`quantflux_sb3.evaluation.figures`.
"""

import json
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantflux_sb3.evaluation.baselines import AGENT
from quantflux_sb3.evaluation.daily import DAILY_FILE, DailySeries
from quantflux_sb3.evaluation.figures import TERMINAL_COLUMNS, format_figure, heading
from quantflux_sb3.evaluation.page import Page, render_page, write_page
from quantflux_sb3.evaluation.sections import ReportData, sections, verdicts

#: Files of a run's folder that the page is written from, beside the days and the pictures.
METRICS_FILE, CONFIG_FILE, VERSIONS_FILE, PAGE_FILE = "metrics.json", "config.yml", "versions.json", "report.html"
#: What ``metrics.json`` may hold beside the strategies' figures, by its kind.
_MAPPINGS, _LISTS = ("market", "seeds", "sharpe_differences"), ("verdicts", "caveats", "folds")


def write_report(path: str | Path, data: ReportData) -> Path:
    """
    Write the page whole or not at all.

    :param path: ``.html`` file in an existing folder; replaced if there
    :param data: what it shows
    :return: the path
    :raises ValueError: if a picture is no PNG file
    """
    return write_page(path, _page(data))


def render_report(data: ReportData) -> str:
    """
    :param data: what the page shows
    :return: HTML
    """
    return render_page(_page(data))


def _page(data: ReportData) -> Page:
    dates = data.axis.texts if data.axis else ()
    return Page(data.title, data.metrics.get("subtitle", ""), verdicts(data), sections(data), dates)


def read_run(folder: str | Path, metrics: Mapping[str, Any] | None = None) -> ReportData:
    """
    :param folder: of a run
    :param metrics: its figures, where ``metrics.json`` is still to be written
    :return: what its page is written from
    :raises ValueError: if it is no finished run, it is one without an agent, or a file in it is damaged
    """
    folder = Path(folder)
    metrics = read_metrics(folder) if metrics is None else metrics
    if AGENT not in metrics["test"] and "folds" in metrics:
        raise ValueError(f"'{folder}' is a walk-forward of baselines only; it has no page.")
    daily, config, names = (folder / name for name in (DAILY_FILE, CONFIG_FILE, VERSIONS_FILE))
    return ReportData(
        metrics=metrics,
        daily=DailySeries.read(daily) if daily.is_file() else None,
        pictures={path.stem: path for path in sorted(folder.glob("*.png"))},
        config_text=config.read_text(encoding="utf-8") if config.is_file() else "",
        versions=read_json(names) if names.is_file() else {},
    )


def read_metrics(folder: Path) -> dict[str, Any]:
    """
    :param folder: of a finished run
    :raises ValueError: if it is none
    """
    if not (folder / METRICS_FILE).is_file():
        raise ValueError(f"There is no finished run in '{folder}'; its {METRICS_FILE} is missing.")
    metrics = read_json(folder / METRICS_FILE)
    if not _holds_figures(metrics):
        raise ValueError(f"'{folder / METRICS_FILE}' does not hold the figures of a run.")
    return metrics


def _holds_figures(metrics: Any) -> bool:
    if not isinstance(metrics, dict) or not isinstance(metrics.get("test"), dict):
        return False
    mappings = [*metrics["test"].values(), *(metrics.get(name, {}) for name in _MAPPINGS)]
    lists = [metrics.get(name, []) for name in _LISTS]
    return all(isinstance(item, dict) for item in mappings) and all(isinstance(item, list) for item in lists)


def read_json(path: Path) -> Any:
    """
    :raises ValueError: if it is no JSON
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged ({error}).") from error


def results_table(rows: Iterable[Mapping[str, Any]], agent_name: str | None = None) -> Table:
    """
    :param rows: ``{"name": ..., **performance(result)}`` per strategy
    :param agent_name: row to print bold
    :return: a small ``rich`` table, the highest Sharpe ratio first
    """
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column(heading("name"), overflow="fold")
    for key in TERMINAL_COLUMNS[1:]:
        longest_word = max(map(len, heading(key).split()))
        table.add_column(heading(key), justify="right", min_width=max(longest_word, 8), max_width=10)
    for row in sorted(rows, key=lambda row: row["sharpe_ratio"], reverse=True):
        cells = [Text(format_figure(key, row[key])) for key in TERMINAL_COLUMNS]
        table.add_row(*cells, style="bold" if row["name"] == agent_name else None)
    return table


def text_table(rows: Iterable[Mapping[str, Any]], agent_name: str | None = None, width: int = 100) -> str:
    """
    :param rows: ``{"name": ..., **performance(result)}`` per strategy
    :param agent_name: row to mark; without colours there is nothing to mark it with but its place
    :param width: of the terminal [characters]
    :return: :func:`results_table` as plain text
    """
    stream = StringIO()
    Console(file=stream, width=width, color_system=None).print(results_table(rows, agent_name))
    return stream.getvalue()
