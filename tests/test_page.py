"""The page of a run: its numbers are those of metrics.json, its text is escaped, and a browser shows it without a network."""

import itertools
import json
import re
import shutil
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from evaluations import evaluation, write_run

from quantflux_sb3.evaluation import charts, metrics
from quantflux_sb3.evaluation.chart_parts import TimeAxis
from quantflux_sb3.evaluation.daily import DailySeries
from quantflux_sb3.evaluation.figures import format_figure
from quantflux_sb3.evaluation.page import Page, Section, Sentences, Verdict, render_page
from quantflux_sb3.evaluation.report import ReportData, read_run, render_report, write_report
from quantflux_sb3.evaluation.sections import sections

VOID = {"meta", "img", "br", "hr", "link", "input"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def summary():
    return evaluation()


@pytest.fixture(scope="module")
def folder(summary, tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "one", summary)


@pytest.fixture(scope="module")
def data(folder) -> ReportData:
    return read_run(folder)


@pytest.fixture(scope="module")
def figures(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text())


class Parsed(HTMLParser):
    """Checks that tags nest and headings come in order; collects text, attributes and table rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.tags, self.attributes, self.rows, self.text, self.tables = [], [], [], [], "", {}
        self.feed(html)
        self.close()
        assert self.open == []
        levels = [int(tag[1]) for tag in self.tags if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
            list(self.tables.values())[-1].append(self.rows[-1])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if not {"style", "script"} & set(self.open):
            self.text += text
        if self.open and self.open[-1] == "caption":
            self.tables[text] = []
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += text


@pytest.fixture(scope="module")
def page(data) -> Parsed:
    return Parsed(render_report(data))


def cells(page: Parsed, first: str) -> list[str]:
    """All cells of the rows that begin so."""
    return [cell for row in page.rows if row[0] == first for cell in row]


def written(row: dict) -> list[str]:
    """A row of figures as the page writes it."""
    return [format_figure(key, value) for key, value in row.items()]


def test_page_needs_nothing_from_outside(page, data):
    sources = [value for _, name, value in page.attributes if name in ("src", "srcset", "action")]
    assert len(sources) == len(data.pictures) and all(
        source.startswith("data:image/png;base64,iVBORw0K") for source in sources
    )
    links = [value for tag, name, value in page.attributes if name == "href"]
    assert all(link.startswith("#") for link in links) and "link" not in page.tags
    (policy,) = [value for tag, name, value in page.attributes if tag == "meta" and value.startswith("default-src")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links} <= set(ids)


def test_every_table_has_a_caption_and_every_picture_a_text(page):
    assert page.tags.count("table") == page.tags.count("caption") > 5
    texts = [value for tag, name, value in page.attributes if tag == "img" and name == "alt"]
    assert len(texts) == page.tags.count("img") and all(texts)


def test_page_shows_every_figure_of_every_strategy(page, figures):
    assert len(figures["test"]) == 6
    for name, row in figures["test"].items():
        shown = cells(page, name)
        for key, value in row.items():
            if key in ("effective_assets", "distance_to_equal_weight") and name == "SP500":
                value = None  # an index holds no assets
            assert format_figure(key, value) in shown, (name, key)
        assert format_figure("sharpe_interval", figures["sharpe_intervals"][name]) in shown


def test_page_shows_the_figures_of_the_other_sections(page, figures):
    for pair, row in figures["sharpe_differences"].items():
        shown = cells(page, pair.replace(" - ", " against "))
        for key in ("difference", "sharpe_a", "sharpe_b", "p_value"):
            assert format_figure(key, row[key]) in shown
        assert format_figure("interval", row) in shown
    for sentence in (*figures["verdicts"], *figures["caveats"]):
        assert sentence.lower() in page.text.lower().replace("\u00a0", " ")
    for seed, row in figures["seeds"].items():
        assert [seed, *written(row)] in page.tables["Sharpe ratio of each training seed"]
    for caption, rows in (
        ("By market regime", figures["regimes"]),
        ("Each asset in the agent's portfolio", figures["allocation"]),
        ("Trades by year, with their costs", figures["costs"]["years"]),
        ("Trades by asset, with their costs", figures["costs"]["assets"]),
        ("Decisions against SP500, by year", figures["brinson"]["SP500"]["years"]),
    ):
        body = page.tables[caption][1:-1] if page.tables[caption][-1][0] == "all" else page.tables[caption][1:]
        assert body == [written(row) for row in rows]
    for name, parts in figures["brinson"].items():
        row = {"against": name, **{key: parts[key] for key in ("allocation", "selection", "interaction", "costs", "total")}}
        assert written(row) in page.tables["What its decisions earned"]
    for key, value in {**figures["agent"], "n_trials": 92, "acf_error": 0.0312}.items():
        assert format_figure(key, value) in page.text
    assert ["Daily deviation, mean of all series", "1.84 %", "1.71 %"] in page.rows
    for key, value in figures["deflated_sharpe"].items():
        if key in ("deflated_sharpe_ratio", "probabilistic_sharpe_ratio", "expected_maximum_sharpe", "n_trials"):
            assert format_figure(key, value) in page.text
    assert "gamma: 0" in page.text and "numpy 9.9.9" in page.text and "not for live trading" in page.text


def test_totals_are_the_sums_of_their_columns(page, figures):
    total = page.tables["By market regime"][-1]
    assert total[1] == f"{sum(row['days'] for row in figures['regimes']):,}" and total[2] == "100.0 %"
    assert f"{sum(row['log_excess_return'] for row in figures['regimes']):+.3f}" in total


def test_rows_come_by_sharpe_ratio_and_the_agent_stands_out(data, figures):
    html = render_report(data)
    names = [row[0] for row in Parsed(html).rows if row[0] in figures["test"]]
    by_sharpe = sorted(figures["test"], key=lambda name: -figures["test"][name]["sharpe_ratio"])
    assert names[:6] == names[6:12] == by_sharpe
    assert set(re.findall(r'<tr class="agent"><th scope="row">(.*?)</th>', html)) == {"agent", "7"}


def test_sections_without_figures_are_absent(data):
    names = [section.name for section in sections(data)]
    assert names == ["results", "doubts", "agent", "attribution", "luck", "generator", "repeat"]
    least = ReportData({"test": {"agent": data.metrics["test"]["agent"]}})
    assert [section.name for section in sections(least)] == ["results", "doubts", "generator"]
    page = Parsed(render_report(least))
    assert "None were used" in page.text and "reason for doubt" in page.text
    assert "img" not in page.tags and "script" not in page.tags


def test_an_evaluation_without_an_agent_is_refused(data):
    with pytest.raises(ValueError, match=r"no strategy named 'agent'"):
        ReportData({"test": {"equal weight": data.metrics["test"]["equal weight"]}})


def test_hostile_text_is_escaped_everywhere(data):
    evil = "</script><script>alert('&')</script>"
    hostile = deepcopy(data.metrics)
    hostile["test"][evil] = hostile["test"].pop("wild")
    hostile["sharpe_intervals"][evil] = hostile["sharpe_intervals"].pop("wild")
    hostile |= {"subtitle": evil, "verdicts": [evil], "caveats": [evil], "generator": {evil: 1.0}}
    returns = {evil if name == "wild" else name: values for name, values in data.daily.returns.items()}
    html = render_report(
        replace(data, metrics=hostile, daily=replace(data.daily, returns=returns), title=evil, config_text=evil,
                versions={evil: evil})
    )  # fmt: skip
    page = Parsed(html)
    assert page.tags.count("script") == 3 and page.text.count(evil) >= 8
    assert html.count("<script") == 3


def test_page_is_the_same_every_time_and_written_whole(data, tmp_path):
    path = write_report(tmp_path / "report.html", data)
    first = path.read_bytes()
    assert write_report(path, data).read_bytes() == first and first.decode() == render_report(data)
    with pytest.raises(ValueError, match="must be PNG files"):
        write_report(path, replace(data, pictures={"drawdown": path}))
    assert path.read_bytes() == first


def test_page_of_a_folder_is_that_of_its_run(data, folder):
    assert (folder / "report.html").read_text() == render_report(data)


def test_damaged_folders_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"no finished run in .* metrics\.json is missing"):
        read_run(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_run(tmp_path)
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(ValueError, match="does not hold the figures of a run"):
        read_run(tmp_path)
    shutil.copy(folder / "metrics.json", tmp_path)
    (tmp_path / "daily.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="does not hold the days of a run"):
        read_run(tmp_path)


def test_days_are_read_as_they_were_written(summary, folder):
    before, after = summary.daily, DailySeries.read(folder / "daily.parquet")
    for name in ("dates", "risk_free", "regimes"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("returns", "exposure", "weights"):
        assert list(getattr(after, name)) == list(getattr(before, name))
        for key, values in getattr(before, name).items():
            np.testing.assert_array_equal(getattr(after, name)[key], values)
    assert after.periods_per_year == before.periods_per_year
    assert next(iter(after.returns)) == "agent" and "SP500" not in after.exposure


def figure_of(chart, axis: TimeAxis) -> go.Figure:
    """plotly's own check of names and values of everything in a chart."""
    traces = [{**trace, "x": axis.texts} if isinstance(trace.get("x"), str) else trace for trace in chart["data"]]
    return go.Figure(data=traces, layout=chart["layout"])


def test_charts_are_valid_for_plotly_and_show_the_numbers_of_the_tables(data, figures):
    axis, index = data.axis, data.index
    growth = figure_of(charts.growth(axis, index), axis)
    depth = figure_of(charts.drawdown(axis, index), axis)
    assert {trace.name for trace in growth.data} == set(figures["test"]) and growth.data[-1].name == "agent"
    for trace in growth.data:
        assert trace.y[-1] - 1.0 == pytest.approx(figures["test"][trace.name]["cumulative_return"], rel=1e-4)
    for trace in depth.data:
        assert -min(trace.y) == pytest.approx(figures["test"][trace.name]["max_drawdown"], rel=1e-4)
        deepest = metrics.drawdown(axis.wealth[trace.name]).argmax()
        assert trace.x[int(np.argmin(trace.y))] == str(data.daily.dates[deepest - 1])
    for chart in (charts.exposure(axis), charts.last_allocation(data.daily), charts.regime_bars(figures["regimes"])):
        figure_of(chart, axis)
    areas = figure_of(charts.allocation(axis), axis).data
    np.testing.assert_allclose(np.sum([area.y[1:] for area in areas], axis=0, dtype=float), 1.0, atol=1e-4)


def test_rolling_sharpe_is_that_of_the_year_before(data):
    axis = data.axis
    agent = charts.rolling_sharpe(axis, data.index)["data"][-1]
    excess = data.daily.returns["agent"] - data.daily.risk_free
    point = len(axis.rows) // 2
    row = axis.rows[point]
    assert agent["y"][point] == pytest.approx(metrics.sharpe_ratio(excess[row - 252 : row]), rel=1e-4)
    assert all((value is None) == (row < 252) for value, row in zip(agent["y"], axis.rows, strict=True))


def test_background_of_the_charts_covers_every_day_with_its_regime(data):
    axis = data.axis
    shades = charts.growth(axis, data.index)["layout"]["shapes"]
    assert shades[0]["x0"] == axis.texts[0] and shades[-1]["x1"] == axis.texts[-1]
    assert all(before["x1"] == after["x0"] for before, after in itertools.pairwise(shades))
    names = np.array(["bull", "bear", "volatile", "sideways"])[data.daily.regimes]
    for day, name in zip(data.daily.dates.astype(str), names, strict=True):
        (shade,) = [shade for shade in shades if shade["x0"] < day <= shade["x1"]]
        assert shade["fillcolor"] == f"var(--{name})"


def test_intervals_of_verdicts_are_drawn_to_scale():
    verdicts = [
        Verdict("a", {"difference": 0.2, "low": -0.1, "high": 0.4}),
        Verdict("b", {"difference": 0.1, "low": 0.05, "high": 0.2}),
    ]
    html = render_page(Page("t", "s", verdicts, [Section("x", "X", [Sentences(["y"])])]))
    ends = [tuple(map(float, found)) for found in re.findall(r'class="span" x1="(.*?)" x2="(.*?)"', html)]
    assert ends == [(76.5, 194.0), (111.8, 147.0)]
    assert re.findall(r'svg class="interval (\w+)"', html) == ["open", "ahead"]


BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """One visit to a page: its tab, and what it said and asked for."""

    def __init__(self, browser, path: Path, **context) -> None:
        self.errors, self.requests = [], []
        self.tab = browser.new_context(**context).new_page()
        self.tab.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(path.as_uri())

    def wait_for_charts(self) -> "Visit":
        self.tab.wait_for_selector("html[data-charts=drawn]", timeout=60_000, state="attached")
        return self

    def check(self) -> None:
        assert self.errors == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in self.requests)
        assert self.tab.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")

    def colour(self, selector: str, what: str) -> str:
        return self.tab.evaluate("([s, w]) => getComputedStyle(document.querySelector(s))[w]", [selector, what])


def luminance(colour: str) -> float:
    """Relative luminance of a CSS colour (WCAG 2.1)."""
    values = np.array([float(value) for value in re.findall(r"[\d.]+", colour)[:3]]) / 255.0
    linear = np.where(values <= 0.03928, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


@BROWSER
def test_phone_shows_the_page_without_scrolling_sideways(browser, folder):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
    visit = Visit(browser, folder / "report.html", **phone).wait_for_charts()
    visit.check()
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= 390
    n_charts = visit.tab.locator(".chart").count()
    assert n_charts >= 7 and visit.tab.locator(".chart .main-svg").first.is_visible()
    assert visit.tab.locator(".chart .plot-container").count() == n_charts
    widths = visit.tab.evaluate("[...document.querySelectorAll('.chart')].map((chart) => chart.getBoundingClientRect().right)")
    assert max(widths) <= 390


@BROWSER
def test_light_and_dark_are_legible_and_charts_follow_a_change(browser, folder):
    visit = Visit(browser, folder / "report.html", color_scheme="light").wait_for_charts()
    line = ".chart .scatterlayer .trace:last-child path.js-line"
    colours = {}
    for scheme in ("light", "dark"):
        visit.tab.emulate_media(color_scheme=scheme)
        visit.tab.wait_for_function(
            "([s, c]) => getComputedStyle(document.querySelector(s)).stroke !== c", arg=[line, colours.get("light", "")]
        )
        colours[scheme] = visit.colour(line, "stroke")
        paper = visit.colour("body", "backgroundColor")
        for selector in ("body", ".note", "nav a", "thead th", "summary", ".subtitle", "footer"):
            assert contrast(visit.colour(selector, "color"), paper) >= 4.5, (scheme, selector)
        card = visit.colour(".scroll", "backgroundColor")
        assert contrast(visit.colour("thead th", "color"), card) >= 4.5
        labels = visit.tab.evaluate(
            "[...document.querySelectorAll('.chart .annotation-text')].map((t) => getComputedStyle(t).fill)"
        )
        assert len(labels) > 8 and min(contrast(label, card) for label in labels) >= 4.5
    assert colours["light"] != colours["dark"]
    visit.check()


@BROWSER
def test_without_scripts_and_on_paper_the_pictures_are_there(browser, folder):
    visit = Visit(browser, folder / "report.html", java_script_enabled=False)
    pictures = visit.tab.locator("figure img")
    assert pictures.count() >= 5 and all(pictures.nth(i).is_visible() for i in range(pictures.count()))
    assert not visit.tab.locator(".chart").first.is_visible()
    printed = Visit(browser, folder / "report.html").wait_for_charts()
    assert not printed.tab.locator("figure img").first.is_visible()
    printed.tab.emulate_media(media="print")
    assert printed.tab.locator("figure img").first.is_visible() and not printed.tab.locator(".chart").first.is_visible()
    assert visit.errors == printed.errors == []
