"""
Pictures of backtests, one style for all of them.

Every function returns a matplotlib ``Figure`` that belongs to no global state: nothing is shown, nothing has to be closed,
threads do not meet. The first result is the agent and is drawn bold; the others stay quiet. Colours are those of Okabe &
Ito (2008) and Tol (2021), which colour-blind readers can tell apart; text stays legible at 700 pixels of width.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from quantflux_sb3.disk import write_whole
from quantflux_sb3.evaluation import metrics
from quantflux_sb3.evaluation.attribution import regime_attribution as regime_rows
from quantflux_sb3.evaluation.drawing import (
    INDEX_COLOUR,
    INK,
    LEAST_WEALTH,
    LINE_COLOURS,
    MUTED,
    SMALL_SIZE,
    TEXT_SIZE,
    bars,
    grouped,
    label_ends,
    label_ring,
    line_style,
    log_axis,
    new_figure,
    percent,
    shade_regimes,
    time_figure,
    with_start,
)
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.regimes import REGIMES


def cumulative_returns(results: Sequence[BacktestResult], benchmark: str | None = "index", regimes: bool = True) -> Figure:
    """
    Growth of 1 after costs on a logarithmic axis, the regime of each day behind it.

    :param results: backtests on the same days, the agent first
    :param benchmark: label of the benchmark's line, which is taken from the first result; ``None``: no such line
    :param regimes: shade the background by the agent's regimes
    """
    agent = _first(results)
    curves = [(result.name, result.wealth, *line_style(i)) for i, result in enumerate(results)]
    if benchmark is not None:
        curves.append((benchmark, np.cumprod(1.0 + agent.benchmark_returns), INDEX_COLOUR, 1.1))
    dates = with_start(agent.dates)
    figure, axes = time_figure(4.1, dates, "Growth of 1 after costs, logarithmic scale", rows=2 if regimes else 1)
    if regimes:
        shade_regimes(axes, agent)
    ends = []
    for order, (name, wealth, colour, width) in enumerate(curves):
        path = np.maximum(np.concatenate([[1.0], wealth]), LEAST_WEALTH)
        axes.plot(dates, path, color=colour, linewidth=width, zorder=10 - order, solid_joinstyle="round")
        ends.append((f"{fill(name, 24)}\n{path[-1]:.2f}", float(path[-1]), colour, order == 0))
    log_axis(axes)
    label_ends(figure, axes, ends)
    return figure


def drawdown(results: Sequence[BacktestResult]) -> Figure:
    """
    How far wealth was below its peak, every day.

    :param results: backtests on the same days, the agent first
    """
    agent = _first(results)
    figure, axes = time_figure(3.0, agent.dates, "Wealth below its highest point so far")
    ends = []
    for order, result in enumerate(results):
        colour, width = line_style(order)
        depth = -metrics.drawdown(result.wealth)
        axes.plot(result.dates, depth, color=colour, linewidth=0.6 * width, zorder=10 - order)
        ends.append((f"{fill(result.name, 24)}\n{percent(-depth.min())} at worst", float(depth[-1]), colour, order == 0))
    axes.fill_between(agent.dates, -metrics.drawdown(agent.wealth), 0.0, color=LINE_COLOURS[0], alpha=0.15, linewidth=0)
    axes.set_ylim(top=0.0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    label_ends(figure, axes, ends)
    return figure


def rolling_sharpe(results: Sequence[BacktestResult]) -> Figure:
    """
    Sharpe ratio of the year before each day; nothing is drawn where there is no whole year.

    :param results: backtests on the same days, the agent first
    """
    values = []
    for result in results:
        excess, window = result.returns - result.risk_free, result.periods_per_year
        ratios = [metrics.sharpe_ratio(excess[end - window : end], window) for end in range(window, len(excess) + 1)]
        values.append(np.concatenate([np.full(len(excess) - len(ratios), np.nan), ratios]))
    figure, axes = _lines(results, values, "Sharpe ratio of the year before each day", "{:.2f}".format)
    axes.axhline(0.0, color=MUTED, linewidth=0.6)
    return figure


def exposure(results: Sequence[BacktestResult]) -> Figure:
    """
    Share of wealth in assets, every day.

    :param results: backtests on the same days, the agent first
    """
    figure, axes = _lines(results, [result.exposure for result in results], "Share of wealth in assets", percent)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    return figure


def _lines(
    results: Sequence[BacktestResult], values: Sequence[np.ndarray], title: str, form: Callable[[float], str]
) -> tuple[Figure, Axes]:
    """One line per result, with its name and last value at its end."""
    agent = _first(results)
    figure, axes = time_figure(3.0, agent.dates, title)
    ends = []
    for order, (result, series) in enumerate(zip(results, values, strict=True)):
        colour, width = line_style(order)
        axes.plot(result.dates, series, color=colour, linewidth=0.6 * width, zorder=10 - order)
        if np.isfinite(series[-1]):
            ends.append((f"{fill(result.name, 24)}\n{form(series[-1])}", float(series[-1]), colour, order == 0))
    label_ends(figure, axes, ends)
    return figure, axes


def allocation(result: BacktestResult, largest: int = 11) -> Figure:
    """
    Weights over time as stacked areas, cash on top.

    :param result: the backtest
    :param largest: assets shown one by one, by mean weight; the rest are one area
    """
    _first([result])
    names, weights, colours = grouped(result, result.weights[:, :-1].mean(axis=0), largest)
    figure, axes = time_figure(3.6, result.dates, f"Share of wealth, {result.name}")
    axes.stackplot(result.dates, weights.T, colors=colours, edgecolor="white", linewidth=0.4)
    axes.set_ylim(0.0, max(1.0, float(weights.sum(axis=1).max())))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    middles = np.cumsum(weights[-1]) - weights[-1] / 2.0
    shown = zip(names, middles, weights[-1], weights.mean(axis=0), strict=True)
    ends = [(f"{name}  {percent(last)}", float(y), INK, False) for name, y, last, mean in shown if max(last, mean) >= 0.005]
    label_ends(figure, axes, ends)
    return figure


def final_allocation(result: BacktestResult, smallest: float = 0.015, largest: int = 16) -> Figure:
    """
    The weights held on the last day as a ring with cash; the same colours as :func:`allocation` where both show an asset.

    :param result: the backtest
    :param smallest: assets with less than this are one slice [fraction of wealth]
    :param largest: at most this many assets are shown one by one
    """
    _first([result])
    last = np.maximum(result.weights[-1, :-1], 0.0)
    count = min(largest, int((last >= smallest).sum()))
    names, weights, colours = grouped(result, last, count)
    values = np.maximum(weights[-1], 0.0)
    keep = np.flatnonzero(values > 1e-9)
    figure = new_figure(3.9)
    axes = figure.add_axes((0.24, 0.02, 0.52, 0.96))
    wedges, *_ = axes.pie(
        values[keep], colors=[colours[i] for i in keep], startangle=90, counterclock=False, radius=1.0,
        wedgeprops={"width": 0.36, "edgecolor": "white", "linewidth": 1.5},
    )  # fmt: skip
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25))
    axes.text(0, 0.08, "weights on", ha="center", va="bottom", color=MUTED, fontsize=SMALL_SIZE)
    axes.text(0, 0.06, str(result.dates[-1]), ha="center", va="top", color=INK, fontsize=TEXT_SIZE, fontweight="bold")
    labels = [f"{names[i]}  {percent(values[i], 1)}" for i in keep]
    label_ring(axes, labels, [np.deg2rad((wedge.theta1 + wedge.theta2) / 2.0) for wedge in wedges])
    return figure


def regime_attribution(result: BacktestResult) -> Figure:
    """
    Log return over the benchmark by regime, beside the share of days and the exposure in it.

    :param result: the backtest
    """
    rows = regime_rows(result)
    figure = new_figure(2.7)
    panels = (
        ("log_excess_return", "Log return over benchmark", "{:+.3f}".format, (0.15, 0.39)),
        ("share_of_days", "Share of days", percent, (0.58, 0.17)),
        ("mean_exposure", "Mean exposure", percent, (0.79, 0.17)),
    )
    for number, (key, title, form, (left, width)) in enumerate(panels):
        axes = figure.add_axes((left, 0.06, width, 0.78))
        values = np.array([row[key] for row in rows])
        bars(axes, values, [form(value).replace("-", "\u2212") for value in values], title)
        if number == 0:
            axes.set_yticks(range(len(REGIMES)), REGIMES, fontsize=TEXT_SIZE, color=INK)
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """
    Write a PNG whole or not at all. The same figure gives the same bytes: no date and no version is stored.

    :param figure: what to write
    :param path: ``.png`` file in an existing folder; replaced if there
    :return: the path
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"Pictures are saved as PNG; got '{path.name}'. Give a name that ends in .png.")
    content = BytesIO()
    FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})
    return write_whole(path, content.getvalue())


def _first(results: Sequence[BacktestResult]) -> BacktestResult:
    """The agent, once it is sure that there is something to draw."""
    if not results or any(len(result.dates) == 0 for result in results):
        raise ValueError("A picture needs at least one backtest, and each needs at least one day.")
    if any(not np.array_equal(result.dates, results[0].dates) for result in results):
        raise ValueError(f"Backtests in one picture need the same days; got {[result.name for result in results]}.")
    return results[0]
