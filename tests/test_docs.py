"""What the README shows works as shown."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import gymnasium as gym
import pytest

import quantflux_sb3  # noqa: F401
from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.dynamics import TRADE_REASONS
from quantflux_sb3.info import INFO_KEYS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(code, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
]


@pytest.mark.parametrize("code", BLOCKS)
def test_python_blocks_run(code, tmp_path):
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_links_to_files_exist():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_ci_calls_the_readme_commands():
    readme, ci = (ROOT / "README.md").read_text(encoding="utf-8"), (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    install = re.search(r"pip install (.*)", readme).group(1)
    assert install in ci and re.search(r"^pytest$", ci, re.MULTILINE) and "```bash\npytest\n```" in readme


def table(name: str) -> list[list[str]]:
    """Rows of a marked table of docs/env.md, without its head."""
    text = (ROOT / "docs" / "env.md").read_text(encoding="utf-8")
    body = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", text, re.DOTALL).group(1)
    return [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in body.splitlines()[2:]]


def test_manual_page_lists_blocks_arguments_and_information_of_the_env():
    env = gym.make("QuantFlux-v0")
    blocks = [[b.name, ", ".join(b.columns), "yes" if b.n_assets else "no"] for b in env.observation_space.layout.blocks]
    assert table("blocks") == blocks
    defaults = PortfolioConfig()
    expected = [[item.name, repr(getattr(defaults, item.name))] for item in fields(PortfolioConfig)]
    expected[-1][1] = "RewardConfig"
    assert [row[:2] for row in table("arguments")] == expected
    assert tuple(row[0] for row in table("info")) == INFO_KEYS == tuple(env.reset(seed=0)[1])
    assert ", ".join(TRADE_REASONS) in (ROOT / "docs" / "env.md").read_text(encoding="utf-8")
