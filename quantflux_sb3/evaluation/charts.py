"""
The interactive pictures: plotly figures for :class:`quantflux_sb3.evaluation.page.Picture`, drawn from the days of a run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from quantflux_sb3.evaluation import metrics
from quantflux_sb3.evaluation.baselines import AGENT, BASE_RULE, EQUAL_WEIGHT
from quantflux_sb3.evaluation.chart_parts import Line, TimeAxis, numbers, plain_layout, time_chart
from quantflux_sb3.evaluation.daily import DailySeries
from quantflux_sb3.evaluation.drawing import FILL_COLOURS, LEAST_WEALTH, percent

#: Assets of the allocation that are shown one by one.
LARGEST = len(FILL_COLOURS)
_NAMED = {AGENT: "agent", BASE_RULE: "base-rule", EQUAL_WEIGHT: "equal-weight"}
_DASHES = ("solid", "dash", "dot", "dashdot")


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
    return time_chart(axis, strategy_lines(values, index, labels), ".2f", log=True, regimes=True)


def drawdown(axis: TimeAxis, index: str | None) -> dict[str, Any]:
    """
    :return: how far wealth was below its peak
    """
    depths = {name: -metrics.drawdown(wealth) for name, wealth in axis.wealth.items()}
    labels = {name: f"{name}  {percent(-depth.min())} at worst" for name, depth in depths.items()}
    lines = strategy_lines({name: depth[axis.rows] for name, depth in depths.items()}, index, labels)
    chart = time_chart(axis, lines, ".1%", height=320)
    chart["data"][-1] |= {"fill": "tozeroy", "fillcolor": "var(--agent-fill)"}
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
                "type": "scatter", "mode": "lines", "name": name, "x": "dates", "y": numbers(axis.held(series)),
                "stackgroup": "weights", "fillcolor": f"var(--fill-{colour})",
                "line": {"width": 0.5, "color": "var(--card)"}, "hovertemplate": "%{y:.1%}",
            }
        )  # fmt: skip
    layout = plain_layout(360) | {"showlegend": True}
    layout["yaxis"] |= {"tickformat": ".0%", "range": [0, 1]}
    return {"data": traces, "layout": layout}


def last_allocation(daily: DailySeries) -> dict[str, Any]:
    """
    :return: the agent's weights on the last day as a ring
    """
    areas = {name: (max(float(series[-1]), 0.0), colour) for name, (series, colour) in grouped_weights(daily.weights).items()}
    values, colours = zip(*areas.values(), strict=True)
    trace = {
        "type": "pie", "hole": 0.62, "labels": list(areas), "values": numbers(values), "sort": False,
        "direction": "clockwise", "hoverinfo": "skip", "showlegend": False, "textfont": {"color": "var(--ink)"},
        "marker": {"colors": [f"var(--fill-{colour})" for colour in colours], "line": {"width": 1.5, "color": "var(--card)"}},
        "textinfo": "label+percent", "textposition": "outside", "texttemplate": "%{label}  %{percent:.1%}",
    }  # fmt: skip
    layout = plain_layout(340)
    layout["margin"] |= {"t": 44, "b": 44}
    layout["annotations"] = [{"text": str(daily.dates[-1]), "showarrow": False, "font": {"size": 14, "color": "var(--ink)"}}]
    return {"data": [trace], "layout": layout}


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
            "type": "scatter", "mode": "markers", "x": numbers(middle[[i]]), "y": [row["name"]], "showlegend": False,
            "marker": {"color": colour, "size": 11 if row["name"] == AGENT else 9},
            "error_x": {
                "type": "data", "symmetric": False, "color": colour, "thickness": 2.2 if row["name"] == AGENT else 1.4,
                "width": 0, "array": numbers([row["high"] - row[value]]), "arrayminus": numbers([row[value] - row["low"]]),
            },
            "hovertemplate": f"{row[value]:.2f}, 95 % interval {row['low']:.2f} to {row['high']:.2f}<extra></extra>",
        }
        for i, (row, colour) in enumerate(zip(rows, colours, strict=True))
    ]  # fmt: skip
    layout = plain_layout(64 + 30 * len(rows)) | {"hovermode": "closest"}
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
        "type": "bar", "orientation": "h", "x": numbers(np.asarray(values)[::-1]), "y": list(names)[::-1],
        "text": list(texts)[::-1], "textposition": "outside", "cliponaxis": False, "showlegend": False,
        "marker": {"color": [f"var(--{colour})" for colour in reversed(colours)]}, "hoverinfo": "skip", "width": 0.62,
    }  # fmt: skip
    layout = plain_layout(54 + 34 * len(names))
    low, high = min(0.0, *values), max(0.0, *values)
    space = 0.22 * ((high - low) or 1.0)
    span = [low - (space if low < 0 else 0.0), high + (space if high > 0 else 0.0)]
    layout["xaxis"] = {
        "visible": True, "showticklabels": False, "showgrid": False, "zeroline": True, "zerolinecolor": "var(--muted)",
        "fixedrange": True, "range": numbers(span),
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
