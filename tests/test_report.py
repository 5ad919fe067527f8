"""Pictures and the page: what is drawn and written equals the numbers behind it, and files are whole or absent."""

import re
import threading
from dataclasses import replace

import numpy as np
import pytest
from evaluations import backtest
from matplotlib.colors import to_hex

from quantflux_sb3.evaluation import drawing, metrics, plots
from quantflux_sb3.evaluation.attribution import regime_attribution
from quantflux_sb3.evaluation.figures import format_figure
from quantflux_sb3.evaluation.report import text_table
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.regimes import REGIMES

TERMINAL_KEYS = ("annual_return", "annual_volatility", "sharpe_ratio", "max_drawdown", "annual_turnover", "annual_cost")


@pytest.fixture(scope="module")
def results() -> list[BacktestResult]:
    return [backtest("agent", -1.0), backtest("equal weight", 0.0), backtest("base rule", 1.0)]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("annual_return", 0.12345, "12.3 %"), ("annual_return", -0.12345, "-12.3 %"), ("annual_return", -0.0001, "0.0 %"),
        ("log_excess_return", 0.5, "+0.500"), ("log_excess_return", -1e-9, "0.000"), ("sharpe_ratio", -0.004, "0.00"),
        ("days", 1760, "1,760"), ("annual_cost", 0.00123, "0.12 %"), ("unheard_of", 0.012345, "0.0123"), ("name", "a", "a"),
        ("unheard_of", 12345, "12,345"), ("interval", {"low": -0.1, "high": 0.25}, "-0.10 to +0.25"), ("beta", None, ""),
        ("flag", True, "yes"), ("beta", np.float64(-1.005), "-1.00"),
    ],
)  # fmt: skip
def test_numbers_become_text_in_one_way(key, value, text):
    assert format_figure(key, value) == text


def test_terminal_table_shows_the_same_numbers_and_no_markup(results):
    rows = [{**row, "name": f"[red]{row['name']}[/]"} for row in metrics.table_rows(results)]
    text = text_table(rows, width=120)
    for row in rows:
        (line,) = [line for line in text.splitlines() if row["name"] in line]
        numbers = re.findall(r"-?[\d.]+(?: %)?", line.split(row["name"])[1])
        assert numbers == [format_figure(key, row[key]) for key in TERMINAL_KEYS]
    assert "\x1b" not in text
    assert all(len(line) <= 80 for line in text_table(rows, width=80).splitlines())


def test_growth_picture_draws_the_wealth_of_each(results):
    figure = plots.cumulative_returns(results, benchmark="S&P 500")
    lines = figure.axes[0].lines
    assert len(lines) == 4
    for line, result in zip(lines, results, strict=False):
        np.testing.assert_allclose(line.get_ydata(), [1.0, *result.wealth], rtol=1e-12)
    np.testing.assert_allclose(lines[3].get_ydata()[-1], np.prod(1.0 + results[0].benchmark_returns), rtol=1e-12)
    assert lines[0].get_linewidth() > max(line.get_linewidth() for line in lines[1:])
    assert len({line.get_color() for line in lines}) == 4
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert f"agent\n{results[0].wealth[-1]:.2f}" in labels
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list(REGIMES)


def test_background_covers_every_day_with_its_regime(results):
    agent = results[0]
    spans = plots.cumulative_returns(results).axes[0].patches
    assert sum(span.get_width() for span in spans) == pytest.approx((agent.dates[-1] - agent.dates[0]).astype(int) + 1)
    tints = [to_hex(tint) for tint in drawing.REGIME_TINTS]
    days = agent.dates.astype(int)
    shown = np.empty(len(days), dtype=int)
    for span in spans:
        inside = (days > span.get_x() + 1e-6) & (days <= span.get_x() + span.get_width() + 1e-6)
        shown[inside] = tints.index(to_hex(span.get_facecolor()))
    np.testing.assert_array_equal(shown, agent.regimes)


def test_drawdown_picture_draws_the_drawdowns(results):
    figure = plots.drawdown(results)
    for line, result in zip(figure.axes[0].lines, results, strict=True):
        np.testing.assert_allclose(line.get_ydata(), -metrics.drawdown(result.wealth), atol=1e-15)


def test_rolling_picture_draws_the_year_before_each_day_and_exposure_that_of_the_day(results):
    rolling, exposure = plots.rolling_sharpe(results).axes[0].lines, plots.exposure(results).axes[0].lines
    for line, result in zip(rolling[:3], results, strict=True):
        drawn = line.get_ydata()
        assert np.isnan(drawn[:251]).all() and np.isfinite(drawn[251:]).all()
        assert drawn[600] == pytest.approx(metrics.sharpe_ratio((result.returns - result.risk_free)[349:601]), abs=1e-12)
    for line, result in zip(exposure, results, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), result.exposure)


def test_ring_shows_all_wealth_and_joins_small_slices():
    weights = np.array([0.3, 0.25, 0.2, 0.12, 0.01, 0.004, 0.006, 0.11])
    n_days = 3
    result = replace(backtest_of(n_days, 7), weights=np.tile(weights, (n_days, 1)))
    axes = plots.final_allocation(result).axes[0]
    shares = [(wedge.theta2 - wedge.theta1) / 360.0 for wedge in axes.patches]
    np.testing.assert_allclose(shares, [0.3, 0.25, 0.2, 0.12, 0.02, 0.11], atol=1e-6)
    texts = [text.get_text() for text in axes.texts]
    assert {"A0  30.0 %", "3 others  2.0 %", "cash  11.0 %"} <= set(texts)


def backtest_of(n_days: int, n_assets: int) -> BacktestResult:
    rng = np.random.default_rng(n_days)
    zeros = np.zeros(n_days)
    return BacktestResult(
        "agent", np.datetime64("2020-01-01") + np.arange(n_days), tuple(f"A{i}" for i in range(n_assets)),
        rng.normal(0, 0.01, n_days), rng.normal(0, 0.01, n_days), rng.normal(0, 0.01, (n_days, n_assets)), zeros,
        rng.dirichlet(np.ones(n_assets + 1), n_days), zeros, zeros, zeros > 0, rng.integers(0, 4, n_days),
    )  # fmt: skip


def test_regime_picture_has_the_values_of_the_table(results):
    rows = regime_attribution(results[0])
    for axes, key in zip(
        plots.regime_attribution(results[0]).axes, ("log_excess_return", "share_of_days", "mean_exposure"), strict=True
    ):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [row[key] for row in rows], atol=1e-15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("n_days", "n_assets"), [(1, 2), (2, 30), (400, 1)])
def test_pictures_of_odd_sizes_are_drawn_without_warnings(n_days, n_assets, tmp_path):
    result = backtest_of(n_days, n_assets)
    ruined = replace(result, name="ruined", returns=np.full(n_days, -1.0))
    figures = [
        plots.cumulative_returns([result, ruined]), plots.drawdown([ruined, result]), plots.allocation(result),
        plots.final_allocation(result), plots.regime_attribution(ruined),
    ]  # fmt: skip
    for number, figure in enumerate(figures):
        assert plots.save(figure, tmp_path / f"{number}.png").stat().st_size > 5000


def test_labels_neither_overlap_nor_leave_the_picture(results):
    crowd = [replace(results[0], name=f"a strategy called {i}") for i in range(4)]
    crowd.append(replace(results[1], name="a strategy with a name that never seems to come to any end at all"))
    figure = plots.cumulative_returns(crowd)
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert all(box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_pictures_refuse_what_cannot_be_compared(results):
    with pytest.raises(ValueError, match="at least one backtest"):
        plots.drawdown([])
    with pytest.raises(ValueError, match=r"same days; got \['agent', 'agent'\]"):
        plots.drawdown([backtest_of(3, 2), backtest_of(4, 2)])


def test_saved_twice_gives_the_same_bytes_even_from_threads(results, tmp_path):
    def draw(name: str) -> None:
        plots.save(plots.cumulative_returns(results), tmp_path / name)

    threads = [threading.Thread(target=draw, args=(f"{i}.png",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 3 and len(contents) == 1
    (content,) = contents
    assert content.startswith(b"\x89PNG") and not re.search(b"tEXt|tIME", content[:1000])


def test_saving_leaves_nothing_half_written(results, tmp_path):
    figure = plots.regime_attribution(results[0])
    with pytest.raises(FileNotFoundError):
        plots.save(figure, tmp_path / "missing" / "a.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OSError):
        plots.save(figure, tmp_path / "taken.png")
    with pytest.raises(ValueError, match=r"got 'a\.svg'"):
        plots.save(figure, tmp_path / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]
    (tmp_path / "old.png").write_bytes(b"old")
    plots.save(figure, tmp_path / "old.png")
    assert (tmp_path / "old.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.png", "taken.png"]
