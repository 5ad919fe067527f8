"""The data report for people: a picture, a table for the terminal, and the files in the folder of a run."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich import box
from rich.table import Table

from quantflux_sb3.evaluation.drawing import INK, MUTED, SMALL_SIZE, TEXT_SIZE, WIDTH, new_figure
from quantflux_sb3.evaluation.figures import format_figure, heading
from quantflux_sb3.market.cleaning import FILLED, PRICED, SUSPENDED, UNLISTED
from quantflux_sb3.market.quality import DataReport

#: Colour and name of each state of an asset.
_STATES = {
    PRICED: ("#9CC9E6", "own price"),
    FILLED: ("#E69F00", "last price taken"),
    SUSPENDED: ("#D55E00", "suspended"),
    UNLISTED: ("#E4E4E4", "not listed"),
}
#: Repaired days are drawn at least this wide, or a day in thirty years would be invisible [share of the picture].
_LEAST_WIDTH = 0.004


def data_quality(report: DataReport) -> Figure:
    """
    Which asset had a price of its own on which days, what was done where it had none, and the outliers.

    :param report: of the data
    """
    assets = [item.asset for item in report.assets][: report.states.shape[1]]
    height = 0.95 + 0.27 * len(assets)
    figure = new_figure(height)
    longest = max(map(len, assets))
    left = min(0.25 + 0.085 * longest, 2.0) / WIDTH
    axes = figure.add_axes((left, 0.34 / height, 0.985 - left, 0.27 * len(assets) / height))
    days = report.dates.astype("datetime64[D]").astype(float)
    for row, states in enumerate(report.states.T):
        _draw_states(axes, row, days, states)
    _draw_outliers(axes, report, assets)
    axes.set_xlim(days[0], days[-1] + 1)
    axes.set_ylim(len(assets) - 0.5, -0.5)
    axes.xaxis_date()
    axes.set_yticks(range(len(assets)), assets)
    axes.tick_params(labelsize=SMALL_SIZE, labelcolor=INK, color=MUTED, length=0)
    axes.tick_params(axis="x", labelcolor=MUTED, length=3)
    axes.spines[:].set_visible(False)
    handles = [
        Patch(facecolor=colour, label=name) for state, (colour, name) in _STATES.items() if (report.states == state).any()
    ]
    if report.outliers:
        handles.append(axes.plot([], [], linestyle="none", marker="v", color=INK, markersize=4, label="outlier")[0])
    axes.text(
        0, 1 + 0.42 / (0.27 * len(assets)), "Prices", transform=axes.transAxes, color=INK, fontsize=TEXT_SIZE, va="center"
    )
    axes.legend(
        handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, fontsize=SMALL_SIZE,
        labelcolor=MUTED, handlelength=1.0, handleheight=0.9, handletextpad=0.4, columnspacing=1.2, borderaxespad=0.2,
        borderpad=0.0,
    )  # fmt: skip
    return figure


def data_table(report: DataReport) -> Table:
    """
    :param report: of the data
    :return: a ``rich`` table, one row per asset, without the columns in which nothing happened
    """
    rows = report.rows
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for key in shown_columns(report):
        table.add_column(heading(key), justify="left" if key in ("asset", "first", "last") else "right", min_width=8)
    for row in rows:
        table.add_row(*(format_figure(key, row[key]) for key in shown_columns(report)))
    return table


def shown_columns(report: DataReport) -> list[str]:
    """
    :param report: of the data
    :return: columns of its table in which anything happened
    """
    always = ("asset", "first", "last", "prices", "longest_stale", "outliers")
    rows = report.rows
    return [key for key in rows[0] if key in always or any(row[key] for row in rows)]


def data_lines(report: DataReport) -> list[str]:
    """
    :param report: of the data
    :return: what it is and what was done, one line each
    """
    facts = report.facts
    return [
        f"{facts['source']}, {facts['first']} to {facts['last']}, {facts['days']} days; region {facts['region']}, "
        f"{facts['currency']}; assets: {_contents(facts['prices'])}; "
        f"benchmark {facts['benchmark']}: {_contents(facts['benchmark_kind'])}",
        *report.remarks,
    ]


def _contents(kind: str) -> str:
    return {"price": "price only", "unknown": "not known whether with dividends"}.get(kind, kind)


def _draw_states(axes, row: int, days: np.ndarray, states: np.ndarray) -> None:
    """Runs of one state as bars, the rare ones last and widened so that they can be seen."""
    least = _LEAST_WIDTH * (days[-1] - days[0])
    edges = np.concatenate([[0], np.flatnonzero(np.diff(states)) + 1, [len(states)]])
    for state, (colour, _) in _STATES.items():
        runs: Sequence[tuple[float, float]] = [
            (days[start], (days[stop] if stop < len(days) else days[-1] + 1) - days[start])
            for start, stop in pairwise(edges)
            if states[start] == state
        ]
        if state in (FILLED, SUSPENDED):
            runs = [(start, max(width, least)) for start, width in runs]
        axes.broken_barh(runs, (row - 0.36, 0.72), facecolors=colour, linewidth=0)


def _draw_outliers(axes, report: DataReport, assets: Sequence[str]) -> None:
    found = [(np.datetime64(item.date), assets.index(item.asset)) for item in report.outliers if item.asset in assets]
    if found:
        dates, rows = zip(*found, strict=True)
        days = np.array(dates, dtype="datetime64[D]").astype(float)
        axes.plot(days, np.array(rows) - 0.2, linestyle="none", marker="v", color=INK, markersize=4)
