"""
The frame of a page: sections of tables, pictures, tiles and sentences, rendered to one HTML file that needs no network.

Nothing here knows what an experiment is. A picture is a PNG, a plotly figure, or both: readers without scripts and printers
see the PNG, others a chart that follows their light or dark theme. plotly.js is embedded once, compressed; the browser
unpacks it, and the page forbids itself every request by its content security policy.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quantflux_sb3.disk import write_whole
from quantflux_sb3.evaluation.figures import format_figure, heading


@dataclass(frozen=True)
class Table:
    """
    :param caption: what it shows
    :param columns: keys of the rows, in order; the first one names the row
    :param rows: figures by key; an absent key leaves its cell empty
    :param highlight: first cell of the row that stands out
    :param total: last row, for columns that add up
    :param note: how to read it
    :param folded: behind a line that opens it
    :param by_row: the first cell of each row is the key of the figure in it, instead of the heading of each column
    :param like: key by which all figures but the first of a row are written, where the columns are names; they stay as is
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    highlight: str | None = None
    total: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    folded: bool = False
    by_row: bool = False
    like: str = ""


@dataclass(frozen=True)
class Picture:
    """
    :param caption: what it shows
    :param png: file, for readers without scripts
    :param chart: plotly figure as a dict, with colours such as ``var(--ink)`` from the page's style
    :param note: how to read it
    :param keys: what areas of a colour mean: name by colour of the style sheet
    """

    kind: ClassVar[str] = "picture"
    caption: str
    png: Path | None = None
    chart: Mapping[str, Any] | None = None
    note: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tiles:
    """
    :param figures: numbers by key
    :param note: how to read them
    """

    kind: ClassVar[str] = "tiles"
    figures: Mapping[str, Any]
    note: str = ""


@dataclass(frozen=True)
class Sentences:
    """
    :param lines: a sentence each
    :param as_list: as a list, or as paragraphs
    """

    kind: ClassVar[str] = "sentences"
    lines: Sequence[str]
    as_list: bool = True


@dataclass(frozen=True)
class Code:
    """
    :param caption: of the line that opens it
    :param text: shown as it is
    """

    kind: ClassVar[str] = "code"
    caption: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """
    :param sentence: in plain language
    :param difference: ``difference``, ``low`` and ``high``, drawn as an interval around zero; none: the sentence alone
    """

    sentence: str
    difference: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """
    :param name: short, for links
    :param title: heading
    :param blocks: what it shows, in order
    """

    name: str
    title: str
    blocks: Sequence[Table | Picture | Tiles | Sentences | Code]


@dataclass(frozen=True)
class Page:
    """
    :param title: heading
    :param subtitle: one line below it
    :param verdicts: the most important first
    :param sections: in order
    :param dates: of the charts whose traces have the ``x`` "dates"
    """

    title: str
    subtitle: str
    verdicts: Sequence[Verdict]
    sections: Sequence[Section]
    dates: Sequence[str] = ()


def write_page(path: str | Path, page: Page) -> Path:
    """
    Write the page whole or not at all.

    :param path: ``.html`` file in an existing folder; replaced if there
    :param page: what it shows
    :return: the path
    :raises ValueError: if a picture is no PNG file
    """
    return write_whole(path, render_page(page).encode("utf-8"))


def render_page(page: Page) -> str:
    """
    :param page: what it shows
    :return: HTML
    """
    pictures = [block for section in page.sections for block in section.blocks if isinstance(block, Picture)]
    charts = [dict(picture.chart) for picture in pictures if picture.chart]
    ends = [abs(verdict.difference[end]) for verdict in page.verdicts for end in ("low", "high") if verdict.difference]
    return (
        _environment()
        .get_template("report.html")
        .render(
            page=page,
            charts=_script_json({"dates": list(page.dates), "charts": charts}) if charts else "",
            plotly=_packed_plotly() if charts else "",
            widest=max(ends, default=0.0) or 1.0,
        )
    )


def _environment() -> Environment:
    loader = PackageLoader("quantflux_sb3.evaluation", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(heading=heading, figure=format_figure, data_uri=_data_uri)
    return environment


def _script_json(content: Any) -> Markup:
    """JSON that no text in it can end the script element of."""
    return Markup(json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


@cache
def _packed_plotly() -> Markup:
    """plotly.js, gzipped: 2 instead of 5 MB."""
    from plotly.offline import get_plotlyjs

    return Markup(base64.b64encode(gzip.compress(get_plotlyjs().encode("utf-8"), mtime=0)).decode("ascii"))


def _data_uri(path: Path) -> Markup:
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"Pictures of a page must be PNG files; '{path}' is none. Write it with plots.save first.")
    return Markup(f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}")
