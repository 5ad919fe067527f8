"""
The parts that the interactive pictures are drawn with: axes of time, lines, labels at the ends of lines, shaded regimes.

Figures are plotly's, as plain dicts. Colours are names of the page's style sheet (``var(--agent)``), so that light and dark
are decided where the page is read. Long series are shown at the end of each week and on the days of every strategy's
deepest drawdown and the peak before it, so that what a table says about them can be seen; nothing is averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from quantflux_sb3.evaluation import metrics
from quantflux_sb3.evaluation.daily import DailySeries
from quantflux_sb3.evaluation.drawing import log_ticks, spread
from quantflux_sb3.regimes import REGIMES

#: Series longer than this are shown by week [days].
MOST_DAILY = 400
#: Heights of charts, margins and end labels [pixels].
HEIGHT, TOP, BOTTOM, LABEL = 380, 10, 42, 16


@dataclass(frozen=True)
class Line:
    """
    :param name: in legend and labels
    :param values: at :attr:`TimeAxis.rows`, the first one the day before the first return (n_points,); NaN: not drawn
    :param colour: name in the style sheet
    :param width: of the line [pixels]
    :param dash: of the line
    :param shown: from the beginning, or only when the reader asks for it in the legend
    :param label: at the end of the line
    """

    name: str
    values: np.ndarray
    colour: str
    width: float = 1.4
    dash: str = "solid"
    shown: bool = True
    label: str = ""


class TimeAxis:
    """
    The days on which the charts of one page have points.

    :param daily: what is shown
    """

    def __init__(self, daily: DailySeries):
        self.daily = daily
        before = daily.dates[:1] - np.timedelta64(1, "D")
        self.wealth = {name: np.concatenate([[1.0], np.cumprod(1.0 + r)]) for name, r in daily.returns.items()}
        self.rows = thin(np.concatenate([before, daily.dates]), list(self.wealth.values()))
        self.dates = np.concatenate([before, daily.dates])[self.rows]

    @property
    def texts(self) -> list[str]:
        """The dates as ISO texts."""
        return [str(date) for date in self.dates]

    def held(self, values: np.ndarray) -> np.ndarray:
        """A series of the days, at the points; the day before the first has none."""
        return np.concatenate([[np.nan], values])[self.rows]


def thin(dates: np.ndarray, wealths: Sequence[np.ndarray]) -> np.ndarray:
    """
    :param dates: ascending (n_days,) [datetime64[D]]
    :param wealths: wealth of each strategy on them, each (n_days,)
    :return: rows to show: all of a short series; else the first, the last of each week, the last, and for each strategy the
        day of its deepest drawdown and the peak before it
    """
    if len(dates) <= MOST_DAILY:
        return np.arange(len(dates))
    weeks = (dates.astype(int) + 3) // 7  # 1970-01-01 was a Thursday
    rows = {0, len(dates) - 1, *np.flatnonzero(np.diff(weeks)).tolist()}
    for wealth in wealths:
        deepest = int(metrics.drawdown(wealth).argmax())
        rows |= {deepest, int(wealth[: deepest + 1].argmax())}
    return np.array(sorted(rows))


def time_chart(
    axis: TimeAxis, lines: Sequence[Line], form: str, log: bool = False, regimes: bool = False, height: int = HEIGHT
) -> dict[str, Any]:
    """
    :param axis: of time
    :param lines: in the order of the legend
    :param form: of the numbers (d3-format)
    :param log: logarithmic axis
    :param regimes: shade the background by the regime of each day
    :param height: of the chart [pixels]
    """
    layout = plain_layout(height)
    visible = np.concatenate([line.values for line in lines if line.shown])
    low, high = _span(np.log10(visible) if log else visible)
    layout["yaxis"] |= {"range": numbers([low, high]), "hoverformat": form}
    if log:
        ticks = log_ticks(10.0**low, 10.0**high)
        layout["yaxis"] |= {"type": "log", "tickvals": numbers(ticks), "ticktext": [f"{tick:g}" for tick in ticks]}
    elif "%" in form:
        layout["yaxis"]["tickformat"] = ".0%"
    ends = [line for line in lines if line.shown]
    layout["annotations"] = _end_labels(ends, low, high, height, log)
    layout["margin"]["r"] = 14 + round(6.7 * max(len(line.label) for line in ends))
    layout["showlegend"] = any(not line.shown for line in lines)
    if regimes:
        layout["shapes"] = _regime_shades(axis)
    # The first line is drawn last, above the others; the legend keeps the order.
    return {"data": [_trace(line, rank) for rank, line in reversed(list(enumerate(lines, start=1)))], "layout": layout}


def _trace(line: Line, rank: int) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "name": line.name, "x": "dates", "y": numbers(line.values),
        "line": {"color": f"var(--{line.colour})", "width": line.width, "dash": line.dash},
        "visible": True if line.shown else "legendonly", "showlegend": not line.shown, "legendrank": rank,
    }  # fmt: skip


def plain_layout(height: int) -> dict[str, Any]:
    """What all charts have in common."""
    axis = {"gridcolor": "var(--grid)", "linecolor": "var(--rule)", "zeroline": False, "automargin": True}
    return {
        "height": height, "margin": {"l": 44, "r": 14, "t": TOP, "b": BOTTOM}, "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": "var(--muted)", "size": 12.5}, "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": "var(--rule)", "font": {"color": "var(--ink)", "size": 12.5}},
        "xaxis": {**axis, "type": "date", "showgrid": False, "hoverformat": "%Y-%m-%d"},
        "yaxis": {**axis, "fixedrange": True}, "showlegend": False,
        "legend": {"orientation": "h", "y": -0.14, "yanchor": "top", "x": 0, "font": {"size": 12}},
    }  # fmt: skip


def _span(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value with a little air."""
    low, high = (float(np.nanmin(values)), float(np.nanmax(values))) if np.isfinite(values).any() else (0.0, 1.0)
    air = 0.04 * (high - low) or 0.5
    return low - air, high + air


def _end_labels(lines: Sequence[Line], low: float, high: float, height: int, log: bool) -> list[dict[str, Any]]:
    """Names beside the ends of their lines, pushed apart where they would overlap."""
    ends = np.array([line.values[np.isfinite(line.values)][-1:].sum() for line in lines])
    wanted = ((np.log10(ends) if log else ends) - low) / (high - low)
    places = spread(wanted, np.full(len(lines), LABEL / (height - TOP - BOTTOM)))
    return [
        {
            "name": "end", "xref": "paper", "yref": "paper", "x": 1, "xanchor": "left", "xshift": 6, "y": round(place, 4),
            "yanchor": "middle", "showarrow": False, "text": f"<b>{line.label}</b>" if line.width > 2 else line.label,
            "font": {"color": f"var(--{line.colour})", "size": 12.5},
        }
        for line, place in zip(lines, places.tolist(), strict=True)
    ]  # fmt: skip


def _regime_shades(axis: TimeAxis) -> list[dict[str, Any]]:
    """A rectangle behind each run of one regime; runs end at the close at which the next one begins."""
    labels, dates = axis.daily.regimes, np.concatenate([axis.dates[:1], axis.daily.dates])
    changes = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1, [len(labels)]])
    return [
        {
            "type": "rect", "xref": "x", "yref": "paper", "x0": str(dates[start]), "x1": str(dates[stop]), "y0": 0, "y1": 1,
            "line": {"width": 0}, "fillcolor": f"var(--{REGIMES[labels[start]]})", "layer": "below",
        }
        for start, stop in pairwise(changes)
    ]  # fmt: skip


def numbers(values: Any) -> list[float | None]:
    """Five digits, which no screen can tell from all of them; NaN becomes a gap."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in np.asarray(values, dtype=float)]
