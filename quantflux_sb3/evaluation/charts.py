"""
The interactive pictures: plotly figures as plain dicts, for :class:`quantflux_sb3.evaluation.page.Picture`.

Colours are names of the page's style sheet (``var(--agent)``), so that light and dark are decided where the page is read. Long
series are shown at the end of each week and on the days of every strategy's deepest drawdown and the peak before it, so that
what a table says about them can be seen; nothing is averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from quantflux_sb3.evaluation import metrics
from quantflux_sb3.evaluation.baselines import AGENT, BASE_RULE, EQUAL_WEIGHT
from quantflux_sb3.evaluation.daily import DailySeries
from quantflux_sb3.evaluation.drawing import FILL_COLOURS, LEAST_WEALTH, percent, spread
from quantflux_sb3.regimes import REGIMES

#: Series longer than this are shown by week [days].
MOST_DAILY = 400
#: Heights of charts, margins and end labels [pixels].
HEIGHT, TOP, BOTTOM, LABEL = 380, 10, 42, 16
#: Assets of the allocation that are shown one by one.
LARGEST = len(FILL_COLOURS)
_NAMED = {AGENT: "agent", BASE_RULE: "base-rule", EQUAL_WEIGHT: "equal-weight"}
_DASHES = ("solid", "dash", "dot", "dashdot")


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


def strategy_lines(values: Mapping[str, np.ndarray], index: str | None = None, labels: Mapping[str, str] | None = None):
    """
    One line per strategy in the order given: the agent bold, its base rule, equal weight and the index plain, the others
    only when the reader asks for them.

    :param values: at the points, by strategy
    :param index: name of the benchmark
    :param labels: at the ends, by strategy; the name if not given
    :return: lines
    """
    lines, others = [], 0
    for name, series in values.items():
        colour, dash, shown = _NAMED.get(name, "index" if name == index else ""), "solid", True
        if not colour:
            colour, dash, shown = f"other-{others % 6}", _DASHES[others // 6 % len(_DASHES)], False
            others += 1
        label = (labels or {}).get(name, name)
        lines.append(Line(name, series, colour, 2.6 if name == AGENT else 1.4, dash, shown, label))
    return lines


def growth(axis: TimeAxis, index: str | None) -> dict[str, Any]:
    """
    :return: growth of 1 after costs on a logarithmic axis, over the regimes
    """
    values = {name: np.maximum(wealth, LEAST_WEALTH)[axis.rows] for name, wealth in axis.wealth.items()}
    labels = {name: f"{name}  {series[-1]:.2f}" for name, series in values.items()}
    chart = time_chart(axis, strategy_lines(values, index, labels), ".2f", log=True, regimes=True)
    return chart


def drawdown(axis: TimeAxis, index: str | None) -> dict[str, Any]:
    """
    :return: how far wealth was below its peak
    """
    depths = {name: -metrics.drawdown(wealth) for name, wealth in axis.wealth.items()}
    labels = {name: f"{name}  {percent(-depth.min())} at worst" for name, depth in depths.items()}
    lines = strategy_lines({name: depth[axis.rows] for name, depth in depths.items()}, index, labels)
    chart = time_chart(axis, lines, ".1%", height=320)
    chart["data"][0] |= {"fill": "tozeroy", "fillcolor": "var(--agent-fill)"}
    return chart


def rolling_sharpe(axis: TimeAxis, index: str | None) -> dict[str, Any]:
    """
    :return: Sharpe ratio of the year before each point, over the regimes
    """
    daily, window = axis.daily, axis.daily.periods_per_year
    values = {}
    for name, returns in daily.returns.items():
        excess = returns - daily.risk_free
        values[name] = np.array(
            [metrics.sharpe_ratio(excess[row - window : row], window) if row >= window else np.nan for row in axis.rows]
        )
    chart = time_chart(axis, strategy_lines(values, index), ".2f", regimes=True, height=320)
    chart["layout"]["yaxis"] |= {"zeroline": True, "zerolinecolor": "var(--muted)", "zerolinewidth": 1}
    return chart


def exposure(axis: TimeAxis) -> dict[str, Any]:
    """
    :return: share of wealth in assets, over the regimes
    """
    values = {name: axis.held(series) for name, series in axis.daily.exposure.items()}
    return time_chart(axis, strategy_lines(values), ".0%", regimes=True, height=300)


def allocation(axis: TimeAxis) -> dict[str, Any]:
    """
    :return: the agent's weights as stacked areas, cash on top
    """
    areas = grouped_weights(axis.daily.weights)
    traces = []
    for name, (series, colour) in areas.items():
        traces.append(
            {
                "type": "scatter", "mode": "lines", "name": name, "x": "dates", "y": _numbers(axis.held(series)),
                "stackgroup": "weights", "fillcolor": f"var(--fill-{colour})",
                "line": {"width": 0.5, "color": "var(--card)"}, "hovertemplate": "%{y:.1%}",
            }
        )  # fmt: skip
    layout = _layout(360) | {"showlegend": True}
    layout["yaxis"] |= {"tickformat": ".0%", "range": [0, 1]}
    return {"data": traces, "layout": layout}


def grouped_weights(weights: Mapping[str, np.ndarray], largest: int = LARGEST) -> dict[str, tuple[np.ndarray, str]]:
    """
    :param weights: by asset, cash last, each (n_days,)
    :param largest: assets kept one by one, by mean weight; the rest are one area
    :return: weights and colour by name, cash last
    """
    *assets, cash = weights
    order = sorted(assets, key=lambda asset: -weights[asset].mean())
    rest = order[largest:] if len(order) > largest + 1 else []  # a rest of one is no rest
    areas = {asset: (weights[asset], str(i % LARGEST)) for i, asset in enumerate(order[: len(order) - len(rest)])}
    if rest:
        areas[f"{len(rest)} others"] = (np.sum([weights[asset] for asset in rest], axis=0), "others")
    return {**areas, cash: (weights[cash], "cash")}


def intervals(rows: Sequence[Mapping[str, Any]], value: str, title: str) -> dict[str, Any]:
    """
    :param rows: ``name``, the figure called ``value``, ``low`` and ``high``, the best first
    :param value: key of the figure
    :param title: of its axis
    :return: points with their intervals, one row each
    """
    rows = list(reversed(rows))
    colours = [f"var(--{'agent' if row['name'] == AGENT else 'muted'})" for row in rows]
    middle = np.array([row[value] for row in rows])
    traces = [
        {
            "type": "scatter", "mode": "markers", "x": _numbers(middle[[i]]), "y": [row["name"]], "showlegend": False,
            "marker": {"color": colour, "size": 11 if row["name"] == AGENT else 9},
            "error_x": {
                "type": "data", "symmetric": False, "color": colour, "thickness": 2.2 if row["name"] == AGENT else 1.4,
                "width": 0, "array": _numbers([row["high"] - row[value]]), "arrayminus": _numbers([row[value] - row["low"]]),
            },
            "hovertemplate": f"{row[value]:.2f}, 95 % interval {row['low']:.2f} to {row['high']:.2f}<extra></extra>",
        }
        for i, (row, colour) in enumerate(zip(rows, colours, strict=True))
    ]  # fmt: skip
    layout = _layout(64 + 30 * len(rows)) | {"hovermode": "closest"}
    layout["xaxis"] = {
        "title": {"text": title, "font": {"size": 12}}, "gridcolor": "var(--grid)", "zeroline": True,
        "zerolinecolor": "var(--muted)", "fixedrange": True,
    }  # fmt: skip
    layout["yaxis"] = {"automargin": True, "fixedrange": True, "showgrid": False}
    layout["margin"]["b"] = 54
    return {"data": traces, "layout": layout}


def bars(names: Sequence[str], values: Sequence[float], texts: Sequence[str], colours: Sequence[str]) -> dict[str, Any]:
    """
    :param names: of the bars, the first on top
    :param values: lengths
    :param texts: written at their ends
    :param colours: names in the style sheet
    :return: horizontal bars
    """
    trace = {
        "type": "bar", "orientation": "h", "x": _numbers(np.asarray(values)[::-1]), "y": list(names)[::-1],
        "text": list(texts)[::-1], "textposition": "outside", "cliponaxis": False, "showlegend": False,
        "marker": {"color": [f"var(--{colour})" for colour in reversed(colours)]}, "hoverinfo": "skip", "width": 0.62,
    }  # fmt: skip
    layout = _layout(54 + 34 * len(names))
    low, high = min(0.0, *values), max(0.0, *values)
    space = 0.22 * ((high - low) or 1.0)
    span = [low - (space if low < 0 else 0.0), high + (space if high > 0 else 0.0)]
    layout["xaxis"] = {
        "visible": True, "showticklabels": False, "showgrid": False, "zeroline": True, "zerolinecolor": "var(--muted)",
        "fixedrange": True, "range": _numbers(span),
    }  # fmt: skip
    layout["yaxis"] = {"automargin": True, "fixedrange": True, "ticks": ""}
    layout["margin"]["b"] = 16
    return {"data": [trace], "layout": layout}


def regime_bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    :param rows: of :func:`quantflux_sb3.evaluation.attribution.regime_attribution`
    """
    values = [row["log_excess_return"] for row in rows]
    return bars(
        [row["regime"] for row in rows], values, [f"{value:+.3f}" for value in values],
        [f"{row['regime']}-full" for row in rows],
    )  # fmt: skip


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
    layout = _layout(height)
    visible = np.concatenate([line.values for line in lines if line.shown])
    low, high = _span(np.log10(visible) if log else visible)
    layout["yaxis"] |= {"range": _numbers([low, high]), "hoverformat": form}
    layout["yaxis"] |= {"type": "log", "dtick": "D2"} if log else {"tickformat": ".0%" if "%" in form else ""}
    ends = [line for line in lines if line.shown]
    layout["annotations"] = _end_labels(ends, low, high, height, log)
    layout["margin"]["r"] = 14 + round(6.7 * max(len(line.label) for line in ends))
    layout["showlegend"] = any(not line.shown for line in lines)
    if regimes:
        layout["shapes"] = _regime_shades(axis)
    return {"data": [_trace(line) for line in reversed(lines)][::-1], "layout": layout}


def _trace(line: Line) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "name": line.name, "x": "dates", "y": _numbers(line.values),
        "line": {"color": f"var(--{line.colour})", "width": line.width, "dash": line.dash},
        "visible": True if line.shown else "legendonly", "showlegend": not line.shown, "meta": "line",
    }  # fmt: skip


def _layout(height: int) -> dict[str, Any]:
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


def _numbers(values: Any) -> list[float | None]:
    """Five digits, which no screen can tell from all of them; NaN becomes a gap."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in np.asarray(values, dtype=float)]
