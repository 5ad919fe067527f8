"""
The leaderboard: agents and baselines walked forward over 2000-2022 on the bundled prices, after 10 bp on traded value.

Every arm is a ``quantflux walkforward`` in a folder of its own under ``--runs``; what is finished there is not run again, so
that an interrupted leaderboard goes on where it stopped. Tables go into docs/leaderboard.md (between its markers), figures
beside it.

Usage: ``python benchmarks/leaderboard.py [--universes six twenty] [--arms softmax ...] [--n-jobs 2] [--tables-only]``
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from quantflux_sb3.commands.parsing import parse, to_settings
from quantflux_sb3.commands.walkforward import make_parser
from quantflux_sb3.evaluation.baselines import BASE_RULE, EQUAL_WEIGHT, run_baselines
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.evaluation.overfitting import (
    deflated_sharpe_ratio,
    probability_of_backtest_overfitting,
    superior_predictive_ability,
)
from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.statistics import Results, sharpe_difference, sharpe_interval
from quantflux_sb3.market import bundled_prices
from quantflux_sb3.preparation import versions
from quantflux_sb3.rewards import RewardConfig
from quantflux_sb3.run_folder import LAST_FILE, RunFolder
from quantflux_sb3.settings import SyntheticSettings, WalkForwardSettings
from quantflux_sb3.walkforward.runner import PreparedWalk, WalkForward
from quantflux_sb3.walkforward.summary import WalkForwardSummary

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "leaderboard.md"
FIGURES_FILE = "leaderboard.json"
UNIVERSES = {"six": ("AAPL", "MSFT", "JPM", "XOM", "WMT", "PG"), "twenty": tuple(bundled_prices()[0].columns)}
#: Real prices only, refitted every three years.
COARSE = WalkForwardSettings(fold_years=3, synthetic=SyntheticSettings(n_markets=0))
GROWTH = RewardConfig(volatility=0.0, drawdown=0.0, turnover=0.0, overtrading=0.0, soft_limit=0.0)


@dataclass(frozen=True)
class Arm:
    """
    :param label: in the tables
    :param changes: of the settings
    :param agent: of the agent's settings
    :param env: of the env's settings
    :param universes: on which it is walked
    """

    label: str
    changes: dict[str, Any] = field(default_factory=dict)
    agent: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)
    universes: tuple[str, ...] = tuple(UNIVERSES)

    def settings(self, tickers: tuple[str, ...]) -> WalkForwardSettings:
        """
        :param tickers: assets
        """
        agent, env = replace(COARSE.agent, **self.agent), replace(COARSE.env, **self.env)
        return replace(COARSE, tickers=tickers, agent=agent, env=env, **self.changes)


DIRICHLET = {"policy": "quantflux_sb3.policies.DirichletPolicy", "learning_rate": 1e-3}
THREE, ONLY_SIX = {"n_seeds": 3}, ("six",)
AGENTS = {
    "softmax": Arm("PPO softmax tilt under the rule"),
    "dirichlet": Arm("PPO Dirichlet under the rule", agent=DIRICHLET),
    "own-cash": Arm("PPO softmax, chooses its own cash", {"use_timing": False}),
}
VARIANTS = {
    "yearly": Arm("softmax tilt, refitted every year", {"fold_years": 1}, universes=ONLY_SIX),
    "synthetic": Arm("softmax tilt, synthetic markets", {"synthetic": SyntheticSettings()}, THREE, universes=ONLY_SIX),
    "growth-reward": Arm("softmax tilt, plain growth reward", agent=THREE, env={"reward": GROWTH}, universes=ONLY_SIX),
    "averse-reward": Arm(
        "softmax tilt, risk aversion 20", agent=THREE, env={"reward": RewardConfig(volatility=20.0)}, universes=ONLY_SIX
    ),
    "weekly": Arm("softmax tilt, decides weekly", agent=THREE, env={"decision_interval": 5}, universes=ONLY_SIX),
}
ARMS = {**AGENTS, **VARIANTS}


def walk(name: str, universe: str, runs: Path, n_jobs: int, only_finished: bool) -> WalkForwardSummary | None:
    """
    :param name: of the arm
    :param universe: a key of ``UNIVERSES``
    :param runs: folder of all walk-forwards
    :param n_jobs: processes
    :param only_finished: run nothing; None if it is not finished
    """
    if only_finished and not (runs / f"{name}-{universe}" / LAST_FILE).is_file():
        return None
    folder, settings = RunFolder(runs).child(f"{name}-{universe}"), ARMS[name].settings(UNIVERSES[universe])
    if not folder.has("config.yml"):
        folder.write_text("config.yml", settings.to_yaml())
    begun = to_settings(parse(make_parser(), ["--config", str(folder / "config.yml")]), WalkForwardSettings)
    if not settings.synthetic.n_markets:
        begun = replace(begun, generator=settings.generator)  # there is none, so its settings do not matter
    if begun.to_yaml() != settings.to_yaml():
        raise SystemExit(f"leaderboard: '{folder.path}' was begun with other settings; delete it, or give another --runs.")
    walked = WalkForward(PreparedWalk.check(settings), folder, Console(stderr=True), n_jobs=n_jobs)
    with folder.claimed():
        return walked.summary() if folder.has(LAST_FILE) else walked.run()


class Board:
    """
    All arms on one universe.

    :param summaries: by arm
    """

    def __init__(self, summaries: dict[str, WalkForwardSummary]):
        self.summaries = summaries
        self.prepared = next(iter(summaries.values())).prepared

    @cached_property
    def baselines(self) -> dict[str, BacktestResult]:
        """Under the default exposure rule, whatever the arms use."""
        results = run_baselines(self.prepared.market, "test", self.prepared.config, COARSE.timing)
        return {result.name: result for result in results}

    @cached_property
    def strategies(self) -> dict[str, Results]:
        """Everything in the main table; an agent is the backtests of its seeds."""
        agents: dict[str, Results] = {}
        for name, summary in self.summaries.items():
            agents[ARMS[name].label] = summary.seeds
            agents[f"{ARMS[name].label}: ensemble"] = summary.ensemble
            agents[f"{ARMS[name].label}: seed by validation"] = summary.agent
        return {**agents, **self.baselines}

    def rows(self) -> list[dict[str, Any]]:
        """Figures of each strategy, means over the seeds of an agent, the highest Sharpe ratio first."""
        return sorted((_row(*item) for item in self.strategies.items()), key=lambda row: row["sharpe"], reverse=True)

    def comparisons(self) -> list[dict[str, Any]]:
        """Agent against equal weight, agent against its base rule, its base rule against equal weight."""
        equal, rows = self.baselines[EQUAL_WEIGHT], []
        for name, summary in self.summaries.items():
            rule = self.baselines[BASE_RULE] if summary.prepared.timing else equal
            for label, agent in ((ARMS[name].label, summary.seeds), (f"{ARMS[name].label}: ensemble", summary.ensemble)):
                pairs = {
                    "agent - equal weight": (agent, equal),
                    "agent - base rule": (agent, rule),
                    "base rule - equal weight": (rule, equal),
                }
                rows.append({"agent": label, **{pair: sharpe_difference(*sides) for pair, sides in pairs.items()}})
        return rows

    def rules(self) -> list[dict[str, Any]]:
        """Every baseline against equal weight."""
        equal = self.baselines[EQUAL_WEIGHT]
        return [
            {"rule": name, "rule - equal weight": sharpe_difference(result, equal)}
            for name, result in self.baselines.items() if name != EQUAL_WEIGHT
        ]  # fmt: skip

    def search(self) -> dict[str, Any]:
        """How much of the best result is the search for it: all strategies count, those tried earlier too."""
        single = [result for results in self.strategies.values() for result in ([results] if _is_one(results) else results)]
        ensembles = [summary.ensemble for summary in self.summaries.values()]
        best = max(ensembles, key=lambda result: performance(result)["sharpe_ratio"])
        others = [result for name, result in self.baselines.items() if name != EQUAL_WEIGHT]
        return {
            "deflated_best_ensemble": deflated_sharpe_ratio(best, COARSE.n_trials + len(self.summaries)),
            "overfitting": probability_of_backtest_overfitting(single),
            "superior_to_equal_weight": superior_predictive_ability(self.baselines[EQUAL_WEIGHT], [*ensembles, *others]),
            "ensembles_superior_to_base_rule": superior_predictive_ability(self.baselines[BASE_RULE], ensembles),
        }

    def figures(self) -> dict[str, Any]:
        """
        :return: everything, ready for JSON
        """
        market = self.prepared.market
        start, stop = market.rows("test")
        return {
            "assets": list(market.assets), "first": str(market.dates[start]), "last": str(market.dates[stop - 1]),
            "strategies": self.rows(), "comparisons": self.comparisons(), "rules": self.rules(), "search": self.search(),
        }  # fmt: skip


def _is_one(results: Results) -> bool:
    return isinstance(results, BacktestResult)


def _row(name: str, results: Results) -> dict[str, Any]:
    figures = [performance(result) for result in ([results] if _is_one(results) else results)]
    interval, sharpes = sharpe_interval(results), [each["sharpe_ratio"] for each in figures]
    keys = ("annual_return", "annual_volatility", "max_drawdown", "annual_turnover", "annual_cost", "mean_exposure")
    return {
        "strategy": name, **interval, "lowest_seed": min(sharpes), "highest_seed": max(sharpes),
        **{key: float(np.mean([each[key] for each in figures])) for key in keys},
    }  # fmt: skip


def main_table(rows: Iterable[dict[str, Any]]) -> str:
    """
    :param rows: of :meth:`Board.rows`
    :return: Markdown
    """
    lines = ["| strategy | Sharpe [95 %] | seeds | return | volatility | max. drawdown | turnover / year | cost / year |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        seeds = f"{row['n_seeds']}: {row['lowest_seed']:.2f} to {row['highest_seed']:.2f}" if row["n_seeds"] > 1 else ""
        shares = (row[key] for key in ("annual_return", "annual_volatility", "max_drawdown"))
        lines.append(
            f"| {row['strategy']} | {row['sharpe']:.2f} [{row['low']:.2f}, {row['high']:.2f}] | {seeds} | "
            + " | ".join(f"{share:.1%}" for share in shares)
            + f" | {row['annual_turnover']:.0%} | {row['annual_cost']:.2%} |"
        )
    return "\n".join(lines)


def difference_table(first: str, rows: Sequence[dict[str, Any]]) -> str:
    """
    :param first: name of the column that names the row
    :param rows: of :meth:`Board.comparisons` or :meth:`Board.rules`
    :return: Markdown
    """
    pairs = [key for key in rows[0] if key != first]
    lines = [f"| {first} | " + " | ".join(f"{pair} | p" for pair in pairs) + " |", "|---|" + "---:|---:|" * len(pairs)]
    for row in rows:
        cells = (
            f"{d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}] | {d['p_value']:.3f}" for d in map(row.get, pairs)
        )
        lines.append(f"| {row[first]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def search_sentences(figures: dict[str, Any]) -> str:
    """
    :param figures: of :meth:`Board.search`
    :return: Markdown list
    """
    deflated, overfitting = figures["deflated_best_ensemble"], figures["overfitting"]
    spa, own = figures["superior_to_equal_weight"], figures["ensembles_superior_to_base_rule"]
    return "\n".join(
        [
            f"- Deflated Sharpe ratio of the best ensemble, {deflated['n_trials']} trials: "
            f"{deflated['deflated_sharpe_ratio']:.2f}.",
            f"- Probability of backtest overfitting over {overfitting['n_strategies']} portfolios (each seed by itself): "
            f"{overfitting['probability']:.2f}.",
            f"- Superior predictive ability, all against equal weight: p = {spa['p_value']:.3f}, best is {spa['best']}.",
            f"- The same, the ensembles against the base rule: p = {own['p_value']:.3f} (one-sided: it cannot show that "
            "the rule is better).",
        ]
    )


def fill(page: str, marker: str, text: str) -> str:
    """
    :param page: Markdown with ``<!-- begin marker -->`` and ``<!-- end marker -->``
    :param marker: which of them
    :param text: to stand between
    """
    begin, end = f"<!-- begin {marker} -->", f"<!-- end {marker} -->"
    if begin not in page or end not in page:
        raise SystemExit(f"leaderboard: '{PAGE}' lacks the markers of '{marker}'.")
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)


def tables(figures: dict[str, Any]) -> dict[str, str]:
    """
    :param figures: of :meth:`Board.figures`
    :return: Markdown by the second part of its marker
    """
    return {
        "strategies": main_table(figures["strategies"]),
        "comparisons": difference_table("agent", figures["comparisons"]),
        "rules": difference_table("rule", figures["rules"]),
        "search": search_sentences(figures["search"]),
    }


def publish(boards: dict[str, Board]) -> None:
    """
    :param boards: by universe; the others keep what was published of them
    """
    page, folder = PAGE.read_text(encoding="utf-8"), RunFolder(PAGE.parent).child("leaderboard")
    before = folder.read_json(FIGURES_FILE)["universes"] if folder.has(FIGURES_FILE) else {}
    figures = {**before, **{universe: board.figures() for universe, board in boards.items()}}
    for universe in boards:
        for name, text in tables(figures[universe]).items():
            page = fill(page, f"{universe} {name}", text)
        with (folder / f"{universe}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(figures[universe]["strategies"][0]))
            writer.writeheader()
            writer.writerows(figures[universe]["strategies"])
    folder.write_json(FIGURES_FILE, {"versions": versions(), "universes": figures})
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--universes", nargs="+", choices=UNIVERSES, default=list(UNIVERSES))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="to run; tables show all that are done")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "leaderboard")
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--tables-only", action="store_true", help="run nothing")
    args = parser.parse_args()
    boards = {}
    for universe in args.universes:
        wanted = () if args.tables_only else args.arms
        names = [name for name in ARMS if universe in ARMS[name].universes]
        walked = {name: walk(name, universe, args.runs, args.n_jobs, name not in wanted) for name in names}
        if finished := {name: summary for name, summary in walked.items() if summary}:
            boards[universe] = Board(finished)
        else:
            print(f"leaderboard: nothing is finished for '{universe}'", file=sys.stderr)
    publish(boards)


if __name__ == "__main__":
    main()
