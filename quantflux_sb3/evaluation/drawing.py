"""
The parts that the pictures are drawn with: figures, axes, colours, labels at the ends of lines.

One style for all of them: light, colour-blind safe (Okabe and Ito), readable at phone width.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.regimes import REGIMES

DPI = 144
WIDTH = 6.6  # [inches]
TEXT_SIZE, SMALL_SIZE = 10.5, 9.5  # [points]
INK, MUTED = "#222222", "#6B6B6B"
#: Agent, then the others in the order in which they are given (Okabe & Ito, without the yellow that white paper swallows).
LINE_COLOURS = ("#0072B2", "#444444", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INDEX_COLOUR = "#767676"
#: Of ``REGIMES`` in order; the tints lie behind lines, the full colours fill bars.
REGIME_TINTS = ("#DCECF8", "#F8D9C8", "#FBF1BF", "#EFEFEF")
REGIME_COLOURS = ("#56B4E9", "#D55E00", "#E0B400", "#999999")
#: Tol's light scheme and three more: fills beside dark text.
FILL_COLOURS = (
    "#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33", "#AAAA00", "#BBAAEE", "#CCAA88", "#668FB5",
)  # fmt: skip
OTHERS_COLOUR, CASH_COLOUR = "#C4C4C4", "#E8E8E8"
#: Wealth below this is drawn at this, so that ruin fits a logarithmic axis.
LEAST_WEALTH = 1e-3


def new_figure(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def percent(value: float, decimals: int = 0) -> str:
    return f"{100 * value:.{decimals}f} %"


def with_start(dates: np.ndarray) -> np.ndarray:
    """The dates with the day before the first, on which wealth was 1."""
    return np.concatenate([dates[:1] - np.timedelta64(1, "D"), dates])


def time_figure(height: float, dates: np.ndarray, title: str, rows: int = 1) -> tuple[Figure, Axes]:
    """A figure of one time axis whose margins are known in inches: room for ``rows`` lines of text above it."""
    figure = new_figure(height)
    tall = height - 0.46 - 0.24 * rows
    axes = figure.add_axes((0.6 / WIDTH, 0.32 / height, 1.0 - 0.65 / WIDTH, tall / height))
    axes.text(0, 1 + (0.22 * rows) / tall, title, transform=axes.transAxes, color=INK, fontsize=TEXT_SIZE, va="center")
    locator = AutoDateLocator(minticks=3, maxticks=8)
    axes.set_xlim(*with_start(dates)[[0, -1]])
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color=MUTED, linewidth=0.6)
    axes.tick_params(labelsize=SMALL_SIZE, labelcolor=MUTED, color=MUTED, width=0.6, length=3)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def line_style(order: int) -> tuple[str, float]:
    colour = LINE_COLOURS[order] if order < len(LINE_COLOURS) else MUTED
    return colour, 2.0 if order == 0 else 1.2


def log_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_ylim())))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def log_ticks(low: float, high: float) -> np.ndarray:
    """
    :param low: lower end of a logarithmic axis, > 0
    :param high: its upper end
    :return: round values between them: 1, 2, 5 times powers of ten, or evenly spaced ones where the axis is short
    """
    wide = high / low > 8.0
    ticks = (LogLocator(subs=(1.0, 2.0, 5.0)) if wide else MaxNLocator(7, steps=[1, 2, 2.5, 5, 10])).tick_values(low, high)
    return ticks[(ticks >= low) & (ticks <= high)]


def shade_regimes(axes: Axes, result: BacktestResult) -> None:
    labels = np.asarray(result.regimes)
    closes = with_start(result.dates)
    changes = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1, [len(labels)]])
    for start, stop in pairwise(changes):
        axes.axvspan(closes[start], closes[stop], color=REGIME_TINTS[labels[start]], linewidth=0, zorder=0)
    patches = [Patch(facecolor=tint, edgecolor="#BDBDBD", linewidth=0.5) for tint in REGIME_TINTS]
    axes.legend(
        patches, REGIMES, ncols=4, loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, fontsize=SMALL_SIZE,
        labelcolor=MUTED, handlelength=1.0, handleheight=0.9, handletextpad=0.4,
        columnspacing=1.2, borderaxespad=0.35, borderpad=0.0,
    )  # fmt: skip


def label_ends(figure: Figure, axes: Axes, ends: Sequence[tuple[str, float, str, bool]]) -> None:
    """
    Write each label beside the end of its line, pushed apart where they would overlap, and make room for the longest.

    :param ends: label, height in data units, colour, bold
    """
    left, bottom, _, height = axes.get_position().bounds
    heights = np.array([(1.25 + 1.2 * label.count("\n")) * SMALL_SIZE / 72 for label, *_ in ends])
    heights /= height * figure.get_size_inches()[1]
    to_fraction = axes.transData + axes.transAxes.inverted()
    x_end = axes.get_xlim()[1]
    wanted = np.array([to_fraction.transform((x_end, y))[1] for _, y, *_ in ends])
    places = spread(wanted, heights)
    widest = 0.0
    for place, (label, _, colour, bold) in zip(places, ends, strict=True):
        artist = axes.annotate(
            label, (1.0, place), (6, 0), xycoords="axes fraction", textcoords="offset points", va="center", color=colour,
            fontsize=SMALL_SIZE, fontweight="bold" if bold else "normal", linespacing=1.15,
        )  # fmt: skip
        widest = max(widest, artist.get_window_extent(figure.canvas.get_renderer()).width)
    axes.set_position((left, bottom, 1.0 - left - (widest / DPI + 0.16) / WIDTH, height))


def spread(wanted: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """
    Places close to the wanted ones at which labels of these heights do not overlap, within [0, 1] if they fit.

    :param wanted: wanted middles (n,) [fraction of the axis]
    :param heights: of the labels (n,) [fraction of the axis]
    """
    order = np.argsort(wanted, kind="stable")
    places = np.clip(wanted, heights / 2.0, np.maximum(1.0 - heights / 2.0, heights / 2.0))[order]
    gaps = (heights[order][1:] + heights[order][:-1]) / 2.0
    for i in range(1, len(places)):  # push up from the bottom ...
        places[i] = max(places[i], places[i - 1] + gaps[i - 1])
    top = np.minimum(places, 1.0 - heights[order] / 2.0)
    for i in range(len(places) - 2, -1, -1):  # ... and back down from the top
        top[i] = min(top[i], top[i + 1] - gaps[i])
    spread = np.empty_like(top)
    spread[order] = top
    return spread


def grouped(result: BacktestResult, ranking: np.ndarray, largest: int) -> tuple[list[str], np.ndarray, list[str]]:
    """
    :param ranking: size by which assets are chosen (n_assets,)
    :return: names, weights (n_days, n_areas) and colours: the largest assets, the others together, cash
    """
    by_mean = np.argsort(-result.weights[:, :-1].mean(axis=0), kind="stable")
    colour_of = {asset: FILL_COLOURS[rank % len(FILL_COLOURS)] for rank, asset in enumerate(by_mean)}
    order = np.argsort(-ranking, kind="stable")
    if len(order) == largest + 1:
        largest += 1  # a rest of one is no rest
    shown, rest = order[:largest], order[largest:]
    names, colours = [result.assets[i] for i in shown], [colour_of[i] for i in shown]
    columns = [result.weights[:, i] for i in shown]
    if len(rest):
        names, colours = [*names, f"{len(rest)} others"], [*colours, OTHERS_COLOUR]
        columns.append(result.weights[:, rest].sum(axis=1))
    return [*names, "cash"], np.column_stack([*columns, result.weights[:, -1]]), [*colours, CASH_COLOUR]


def label_ring(axes: Axes, labels: Sequence[str], angles: Sequence[float]) -> None:
    """Labels in a column on either side of the ring, each tied to its slice by a thin line."""
    for side in (-1.0, 1.0):
        chosen = [i for i, angle in enumerate(angles) if (np.cos(angle) >= 0) == (side > 0)]
        middles = np.array([np.sin(angles[i]) for i in chosen])
        heights = np.full(len(chosen), 0.155 / 2.4)
        places = spread((middles + 1.2) / 2.4, heights) * 2.4 - 1.2
        for i, place in zip(chosen, places, strict=True):
            x, y = np.cos(angles[i]), np.sin(angles[i])
            axes.plot(
                [1.01 * x, 1.06 * x, side * 1.17, side * 1.21], [1.01 * y, 1.06 * y, place, place],
                color="#B0B0B0", linewidth=0.7, clip_on=False,
            )  # fmt: skip
            align = "left" if side > 0 else "right"
            axes.text(side * 1.24, place, labels[i], ha=align, va="center", color=INK, fontsize=SMALL_SIZE)


def bars(axes: Axes, values: np.ndarray, labels: Sequence[str], title: str) -> None:
    """Horizontal bars, one per regime, with their values written at their ends instead of an axis."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    span = (high - low) or 1.0
    axes.barh(range(len(values)), values, color=REGIME_COLOURS, height=0.62)
    axes.axvline(0.0, color=MUTED, linewidth=0.6)
    for row, (value, label) in enumerate(zip(values, labels, strict=True)):
        place = {"xytext": (4 if value >= 0 else -4, 0), "ha": "left" if value >= 0 else "right"}
        axes.annotate(label, (value, row), textcoords="offset points", va="center", color=INK, fontsize=SMALL_SIZE, **place)
    axes.set_xlim(low - (0.4 * span if low < 0 else 0.0), high + (0.32 * span if high > 0 else 0.0))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", fontsize=SMALL_SIZE, color=MUTED, pad=6)
