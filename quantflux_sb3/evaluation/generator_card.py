"""
The generator card: where a generator comes from, how like the training years its windows are beside the usual baselines, and
how much they copy, as one page with pictures that is saved next to the weights.
"""

import json
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from quantflux_sb3.diffusion.pipeline import RegimeDDPMPipeline
from quantflux_sb3.diffusion.quality import N_WINDOWS, quality_table, regime_returns
from quantflux_sb3.diffusion.representation import market_logs
from quantflux_sb3.diffusion.state import TrainingRecord
from quantflux_sb3.diffusion.stylised import absolute_acf, windows_of
from quantflux_sb3.disk import write_whole
from quantflux_sb3.evaluation.drawing import LINE_COLOURS, MUTED, REGIME_TINTS, SMALL_SIZE, TEXT_SIZE, log_axis, new_figure
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.regimes import REGIMES

#: Percentiles of the fan of paths, outermost first, and how many single paths are drawn.
BANDS, N_SINGLE = ((5, 95), (25, 75)), 6
#: Share of the days that a regime must last to be named in the picture.
LEAST_LABELLED = 0.08
#: Lags of the picture of clustering [days], and volatilities that the dial is asked for.
PICTURE_LAGS = tuple(range(1, 64))
ASKED = (0.08, 0.12, 0.18, 0.27, 0.4)

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Generator card</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#222}table{border-collapse:collapse;margin-bottom:1rem;font-size:.85rem;display:block;overflow-x:auto}
td,th{padding:.2rem .6rem;
border-bottom:1px solid #ddd;text-align:right;font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left}img{max-width:100%}</style>
<h1>Generator card</h1>
<p>{{ record.assets | join(", ") }} and {{ record.benchmark }}, trained on {{ record.train_start }} to {{ record.train_end }}
({{ record.source }}), seed {{ record.seed }}, weights of step {{ record.best_step }}. Regimes: {{ record.regime_detector }}.
Windows of {{ window }} days.</p>
<h2>Beside real windows and the usual baselines</h2>
<p>{{ n_windows }} windows of each. Errors are against all training windows; "real" is every other of these. Spread, tails,
correlations and clustering of the generator were calibrated on the training years and should agree; the judge's score,
nearness to training windows (0.01 for held-out ones) and forecasts were not.</p>
{{ table }}
<h2>Regimes and volatility dial</h2>{{ regimes }}{{ dial }}
{% for title, picture in pictures %}<h2>{{ title }}</h2>
<img alt="{{ title }}" src="data:image/png;base64,{{ picture }}">{% endfor %}
<p>For research and education, not for live trading. A generator repeats what its training years hold and no more.</p></html>
"""


def write_card(folder: str | Path, pipeline: RegimeDDPMPipeline, market: MarketData, seed: int = 0) -> Path:
    """
    Measure a generator and write ``card.html`` and ``card.json`` next to its weights.

    :param folder: of the saved generator
    :param pipeline: the generator
    :param market: its training market
    :param seed: of all randomness
    :return: the page
    :raises ValueError: if the market is not the one that the generator was trained on
    """
    record = pipeline.state.record
    if market.content_hash != record.market_hash:
        raise ValueError(
            f"The card compares with the training market, {record.source}, {record.train_start} to {record.train_end}; "
            "the prices given are others. Give the file or tickers that the generator was trained on."
        )
    logs, window = market_logs(market), pipeline.state.config.window
    generator = torch.Generator().manual_seed(seed)
    table = quality_table(logs, {"generator": lambda n: pipeline.log_returns(n, generator=generator)}, window, seed=seed)
    regimes = regime_returns(pipeline, market, N_WINDOWS // len(REGIMES), generator)
    dial = {asked: _volatility(pipeline, asked, generator) for asked in ASKED}
    synthetic = pipeline.log_returns(N_WINDOWS // 3, generator=generator)
    pictures = [
        ("Learning curve", learning_curve(record)),
        ("Clustering of volatility", clustering(windows_of(logs, window), synthetic)),
        ("Tails of the benchmark", tails(logs[:, 0], synthetic[..., 0])),
    ]
    page = Environment(autoescape=True).from_string(PAGE).render(
        record=record, window=window, n_windows=N_WINDOWS, table=_html(_columns(table)), regimes=_html(_regime_rows(regimes)),
        dial=_html([["asked volatility", *dial], ["measured", *dial.values()]]),
        pictures=[(title, b64encode(to_png(figure)).decode()) for title, figure in pictures],
    )  # fmt: skip
    figures = {"table": table, "regimes": regimes, "dial": dial}
    write_whole(Path(folder) / "card.json", (json.dumps(figures, indent=2) + "\n").encode())
    return write_whole(Path(folder) / "card.html", page.encode())


def fan_of_paths(benchmark_returns: np.ndarray, name: str, regimes: np.ndarray | None = None) -> Figure:
    """
    Bands of the benchmark's growth over all paths, with a few single ones, over the regimes of the days.

    :param benchmark_returns: simple returns (n_paths, n_days)
    :param name: of the benchmark
    :param regimes: index into ``REGIMES`` per day, the same for all paths (n_days,); None: not shaded
    """
    growth = np.concatenate([np.ones((len(benchmark_returns), 1)), np.cumprod(1.0 + benchmark_returns, axis=1)], axis=1)
    days = np.arange(growth.shape[1])
    figure, axes = _axes(f"Growth of 1 in {name}: median, 50 % and 90 % of {len(growth):,} paths")
    for shade, (low, high) in zip((0.18, 0.32), BANDS, strict=True):
        axes.fill_between(days, *np.percentile(growth, (low, high), axis=0), color=LINE_COLOURS[0], alpha=shade, linewidth=0)
    axes.plot(days, growth[:N_SINGLE].T, color=MUTED, linewidth=0.5)
    axes.plot(days, np.median(growth, axis=0), color=LINE_COLOURS[0], linewidth=2.0)
    if regimes is not None:
        for start in np.flatnonzero(np.diff(regimes, prepend=-1)):
            later = np.flatnonzero(regimes[start:] != regimes[start])
            stop = start + later[0] if len(later) else len(regimes)
            axes.axvspan(start, stop, color=REGIME_TINTS[regimes[start]], alpha=0.6, zorder=0, linewidth=0)
            if stop - start >= LEAST_LABELLED * len(regimes):
                place = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
                axes.text((start + stop) / 2, 0.02, REGIMES[regimes[start]], fontsize=SMALL_SIZE, color=MUTED, **place)
    log_axis(axes)
    axes.set_xlim(0, days[-1])
    axes.set_xlabel("trading days", fontsize=SMALL_SIZE, color=MUTED)
    return figure


def learning_curve(record: TrainingRecord) -> Figure:
    """
    Loss of the denoiser, with the network's averaged weights, on training windows and on later ones; at step 0 without it.

    :param record: of the training
    """
    figure, axes = _axes("Loss of the denoiser; step 0 is the linear one alone, the dot is what was kept")
    curve = record.learning_curve
    for colour, (name, label) in zip(LINE_COLOURS, (("train_loss", "training"), ("heldout_loss", "held out")), strict=False):
        axes.plot(curve["step"], curve[name], color=colour, label=label)
    if record.best_step in curve["step"]:
        kept = curve["step"].index(record.best_step)
        axes.plot(record.best_step, curve["heldout_loss"][kept], "o", color=LINE_COLOURS[1])
    axes.set_xlabel("optimiser steps", fontsize=SMALL_SIZE, color=MUTED)
    axes.legend(fontsize=SMALL_SIZE, frameon=False)
    return figure


def clustering(real: np.ndarray, synthetic: np.ndarray) -> Figure:
    """
    Autocorrelation of absolute returns, mean over series.

    :param real: log returns (n_windows, window, n_series)
    :param synthetic: (n_synthetic, window, n_series)
    """
    figure, axes = _axes("Autocorrelation of absolute returns, mean over series")
    lags = [lag for lag in PICTURE_LAGS if lag < real.shape[1]]
    for colour, (label, windows) in zip(LINE_COLOURS[1::-1], (("real", real), ("generated", synthetic)), strict=True):
        axes.plot(lags, absolute_acf(windows, lags).mean(axis=1), color=colour, label=label)
    axes.set_xlabel("lag [days]", fontsize=SMALL_SIZE, color=MUTED)
    axes.legend(fontsize=SMALL_SIZE, frameon=False)
    return figure


def tails(real: np.ndarray, synthetic: np.ndarray) -> Figure:
    """
    Share of days whose absolute return exceeds a size.

    :param real: log returns (...)
    :param synthetic: log returns (...)
    """
    figure, axes = _axes("Share of days on which the benchmark moves more than so much")
    for colour, (label, values) in zip(LINE_COLOURS[1::-1], (("real", real), ("generated", synthetic)), strict=True):
        sizes = np.sort(np.abs(values).reshape(-1))
        axes.plot(sizes, 1.0 - np.arange(len(sizes)) / len(sizes), color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlim=(1e-3, None))
    axes.set_xlabel("absolute log return", fontsize=SMALL_SIZE, color=MUTED)
    axes.legend(fontsize=SMALL_SIZE, frameon=False)
    return figure


def to_png(figure: Figure) -> bytes:
    """
    :return: the picture as PNG
    """
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _axes(title: str) -> tuple:
    figure = new_figure(3.6)
    axes = figure.add_axes((0.1, 0.15, 0.87, 0.73))
    axes.set_title(title, fontsize=TEXT_SIZE, loc="left")
    axes.grid(axis="y", alpha=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL_SIZE, labelcolor=MUTED)
    return figure, axes


def _volatility(pipeline: RegimeDDPMPipeline, asked: float, generator: torch.Generator) -> float:
    drawn = pipeline.log_returns(300, volatility=asked, generator=generator)[..., 0]
    return float(drawn.std() * np.sqrt(252))


def _columns(table: dict[str, dict[str, float]]) -> list[list]:
    names = list(dict.fromkeys(name for figures in table.values() for name in figures))
    rows = [[name.replace("_", " "), *(figures.get(name, "") for figures in table.values())] for name in names]
    return [["", *table], *rows]


def _regime_rows(regimes: dict[str, float]) -> list[list]:
    columns = ("real_{}_return", "synthetic_{}_return", "real_{}_spread", "synthetic_{}_spread", "real_{}_windows")
    head = ["return of a window", "real", "generated", "real spread", "generated spread", "real windows"]
    return [head, *([regime, *(regimes.get(name.format(regime), "") for name in columns)] for regime in REGIMES)]


def _html(rows: list[list]) -> Markup:
    lines = [_html_row(rows[0], "th"), *(_html_row(row, "td") for row in rows[1:])]
    return Markup("<table>{}</table>").format(Markup("").join(lines))


def _html_row(values: list, tag: str) -> Markup:
    texts = [_plain(value) if isinstance(value, float) else str(value) for value in values]
    cells = [Markup("<{0}>{1}</{0}>").format(tag, text) for text in texts]
    return Markup("<tr>{}</tr>").format(Markup("").join(cells))


def _plain(value: float) -> str:
    """Four decimals, one from 10 on, none from 1,000 on or of whole numbers: rows are compared by their decimals."""
    return f"{value:,.0f}" if abs(value) >= 1000.0 or value.is_integer() else f"{value:.{1 if abs(value) >= 10.0 else 4}f}"
