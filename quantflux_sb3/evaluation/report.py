"""
One self-contained HTML page about one experiment, and the same table for the terminal.

The caller fills :class:`ReportData`; nothing is computed here. Every number is written by :func:`format_figure`, so the page,
the terminal and the dicts behind them agree. The page needs no network and no script.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantflux_sb3.disk import write_whole
from quantflux_sb3.regimes import REGIMES

#: Heading and format of every figure with a name of its own; others are shown by their key with three digits.
FIGURES = {
    "name": ("Strategy", "{}"),
    "annual_return": ("Annual return", "{:.1%}"),
    "annual_volatility": ("Volatility", "{:.1%}"),
    "sharpe_ratio": ("Sharpe", "{:.2f}"),
    "max_drawdown": ("Max. drawdown", "{:.1%}"),
    "annual_turnover": ("Turnover / year", "{:.0%}"),
    "annual_cost": ("Cost / year", "{:.2%}"),
    "mean_exposure": ("Exposure", "{:.1%}"),
    "sortino_ratio": ("Sortino", "{:.2f}"),
    "calmar_ratio": ("Calmar", "{:.2f}"),
    "cumulative_return": ("Cumulative return", "{:.1%}"),
    "excess_annual_return": ("Return over benchmark", "{:+.1%}"),
    "tracking_error": ("Tracking error", "{:.1%}"),
    "information_ratio": ("Information ratio", "{:.2f}"),
    "beta": ("Beta", "{:.2f}"),
    "trades_per_year": ("Trades / year", "{:.1f}"),
    "effective_assets": ("Effective assets", "{:.1f}"),
    "distance_to_equal_weight": ("Distance to equal weight, invested part", "{:.1%}"),
    "distance_to_equal_weight_rule": ("Distance to equal weight", "{:.1%}"),
    "distance_to_base_rule": ("Distance to its base rule", "{:.1%}"),
    "regime": ("Regime", "{}"),
    "days": ("Days", "{:,}"),
    "share_of_days": ("Share of days", "{:.1%}"),
    "log_excess_return": ("Log return over benchmark", "{:+.3f}"),
    "cost": ("Cost", "{:.2%}"),
    "longest_stale": ("Longest run unchanged", "{:,}"),
    "removed": ("Impossible prices", "{:,}"),
    "filled": ("Filled days", "{:,}"),
    "suspended": ("Suspended days", "{:,}"),
    "unlisted": ("Days not listed", "{:,}"),
    "mean_cash": ("Cash", "{:.1%}"),
    "cap_hits": ("Days at the cap", "{:.1%}"),
    "herfindahl": ("Herfindahl", "{:.3f}"),
    "cash_contribution": ("Return from cash", "{:+.1%}"),
    "cost_contribution": ("Return lost to costs", "{:+.1%}"),
    "std": ("Daily deviation, mean of all series", "{:.2%}"),
    "benchmark_std": ("Daily deviation, index", "{:.2%}"),
    "kurtosis": ("Kurtosis, mean of all series", "{:.1f}"),
    "benchmark_kurtosis": ("Kurtosis, index", "{:.1f}"),
    "benchmark_leverage": ("Leverage effect, index", "{:+.3f}"),
    "benchmark_acf": ("Autocorrelation of absolute returns, index", "{:.3f}"),
    "acf_error": ("Error of that autocorrelation, all series", "{:.3f}"),
    "benchmark_acf_error": ("Error of that autocorrelation, index", "{:.3f}"),
    "correlation_error": ("Error of the correlations", "{:.3f}"),
    "absolute_correlation_error": ("Error of the correlations of absolute returns", "{:.3f}"),
    "too_near_share": ("Paths too near to training ones (1 % expected)", "{:.1%}"),
    **{f"{name}_return": (f"64-day return, {name}", "{:+.1%}") for name in REGIMES},
    **{f"{name}_windows": (f"Windows, {name}", "{:.0f}") for name in REGIMES},
}
MAIN_COLUMNS = tuple(FIGURES)[:8]
TERMINAL_COLUMNS = tuple(FIGURES)[:7]


@dataclass(frozen=True)
class ReportData:
    """
    Exactly what the page shows.

    :param title: of the experiment
    :param subtitle: one line: assets, years, benchmark, costs
    :param verdicts: clauses of :func:`quantflux_sb3.evaluation.statistics.verdict`, the most important first
    :param rows: ``{"name": ..., **performance(result)}`` per strategy; shown by falling Sharpe ratio
    :param agent_name: which of the rows is the agent
    :param pictures: PNG files by caption, in order
    :param diagnostics: figures of the agent's behaviour by key, for instance ``distance_to_base_rule``
    :param regime_rows: what :func:`quantflux_sb3.evaluation.attribution.regime_attribution` returned
    :param generator_figures: quality of the synthetic markets: per figure a number or numbers by column, for instance
        ``{"annual volatility": {"synthetic": 0.17, "real": 0.18}}``
    :param seeds: the agent's Sharpe ratio by training seed
    :param caveats: sentences: what could be wrong with this result
    :param config_text: the configuration as YAML
    :param versions: versions of the libraries by name
    :param data_lines: what the data is and what was done to it, a sentence each
    :param data_rows: its quality, a row per asset
    """

    title: str
    subtitle: str
    verdicts: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    agent_name: str
    pictures: Mapping[str, str | Path] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    regime_rows: Sequence[Mapping[str, Any]] = ()
    generator_figures: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[int, float] = field(default_factory=dict)
    caveats: Sequence[str] = ()
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data_lines: Sequence[str] = ()
    data_rows: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        names = [row["name"] for row in self.rows]
        if self.agent_name not in names:
            raise ValueError(f"No row is named '{self.agent_name}' like the agent; the rows are {names}.")


def format_figure(key: str, value: Any) -> str:
    """
    The one place where numbers become text: percentages as ``12.3 %``, no negative zero.

    :param key: name of the figure, as in ``performance``
    :param value: a number or a text
    """
    if isinstance(value, str):
        return value
    form = FIGURES[key][1] if key in FIGURES else "{:,}" if isinstance(value, int) else "{:.3g}"
    text = form.format(value)
    if text[0] in "+-" and not any(digit in text for digit in "123456789"):
        text = text[1:]
    return text.replace("%", " %")


def heading(key: str) -> str:
    """
    :param key: name of a figure
    :return: how it is called in tables
    """
    return FIGURES[key][0] if key in FIGURES else key[:1].upper() + key[1:].replace("_", " ")


def write_report(path: str | Path, data: ReportData) -> Path:
    """
    Write the page whole or not at all.

    :param path: ``.html`` file in an existing folder; replaced if there
    :param data: what it shows
    :return: the path
    :raises ValueError: if a picture is no PNG file
    """
    return write_whole(path, render_report(data).encode("utf-8"))


def render_report(data: ReportData) -> str:
    """
    :param data: what the page shows
    :return: HTML
    """
    rows = _by_sharpe(data.rows)
    return (
        _environment()
        .get_template("report.html")
        .render(
            data=data,
            rows=rows,
            main_columns=[key for key in MAIN_COLUMNS if key in rows[0]],
            more_columns=["name", *(key for key in rows[0] if key not in MAIN_COLUMNS)],
            regime_total=_regime_total(data.regime_rows),
            generator=_generator_table(data.generator_figures),
            pictures={caption: _data_uri(Path(path)) for caption, path in data.pictures.items()},
        )
    )


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
    for row in _by_sharpe(rows):
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


def _by_sharpe(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: row["sharpe_ratio"], reverse=True)


def _environment() -> Environment:
    loader = PackageLoader("quantflux_sb3.evaluation", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(heading=heading, figure=format_figure)
    return environment


def _regime_total(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Totals of the columns that add up; the others have none."""
    if not rows:
        return {}
    sums = {key: sum(row[key] for row in rows) for key in ("days", "share_of_days", "log_excess_return", "cost")}
    return {"regime": "all", **sums}


def _generator_table(figures: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Columns and rows (name, cells) of figures that may be a number or numbers by column."""
    by_column = {name: value if isinstance(value, Mapping) else {"value": value} for name, value in figures.items()}
    columns = list(dict.fromkeys(column for values in by_column.values() for column in values))
    rows = [
        (name, [format_figure(name, values[column]) if column in values else "" for column in columns])
        for name, values in by_column.items()
    ]
    return columns, rows


def _data_uri(path: Path) -> Markup:
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"Pictures of a report must be PNG files; '{path}' is none. Write it with plots.save first.")
    return Markup(f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}")
