"""The published leaderboard says what its figures say."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def leaderboard():
    spec = spec_from_file_location("leaderboard", ROOT / "benchmarks" / "leaderboard.py")
    module = sys.modules["leaderboard"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def universes() -> dict:
    return json.loads((ROOT / "docs" / "leaderboard" / "leaderboard.json").read_text())["universes"]


def test_tables_of_the_page_are_those_of_the_figures(leaderboard, universes):
    page = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    assert set(universes) == set(leaderboard.UNIVERSES)
    for universe, figures in universes.items():
        for name, text in leaderboard.tables(figures).items():
            assert f"<!-- begin {universe} {name} -->\n{text}\n<!-- end" in page


def test_agents_have_enough_seeds_and_all_the_years(leaderboard, universes):
    for figures in universes.values():
        assert (figures["first"], figures["last"]) == ("2000-01-03", "2022-12-28")
        seeds = {row["strategy"]: row["n_seeds"] for row in figures["strategies"]}
        assert seeds[leaderboard.AGENTS["softmax"].label] >= 5


def test_known_figures_of_equal_weight(universes):
    for universe, expected in (("six", 0.68), ("twenty", 0.73)):
        rows = {row["strategy"]: row for row in universes[universe]["strategies"]}
        assert rows["equal weight"]["sharpe"] == pytest.approx(expected, abs=0.02)


def test_arms_are_settings_that_can_be_run(leaderboard):
    for arm in leaderboard.ARMS.values():
        settings = arm.settings(leaderboard.UNIVERSES["six"])
        assert (settings.first, settings.last) == (2000, None) and settings.env.max_weight == 0.25
