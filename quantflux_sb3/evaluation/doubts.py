"""
What could be wrong with a result, written from its own figures: each sentence appears only where its condition holds.

A doubt is a function from the figures of an evaluation (what ``metrics.json`` holds) to a sentence, or None. Figures that are
not there raise no doubt.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from quantflux_sb3.evaluation.drawing import percent

Metrics = Mapping[str, Any]

#: Below these, a test is short [years] and seeds are few.
SHORT_YEARS, FEW_SEEDS = 5.0, 5
#: Turnover a year above which costs decide, and distances below which two portfolios are one [fraction of wealth].
HIGH_TURNOVER, SAME_PORTFOLIO = 5.0, 0.02
#: Trades a year below which an agent does nothing.
FEW_TRADES = 1.0
#: Share of generated paths nearer to training ones than this is a sign of copying (0.01 is expected).
TOO_NEAR = 0.03
#: Share of prices that are not their asset's own, above which they matter.
MANY_FILLED = 0.01
#: Last day of the years on which the package's own rules and settings were chosen.
SEEN_UNTIL = "2022-12-31"


def doubts(metrics: Metrics) -> list[str]:
    """
    :param metrics: figures of an evaluation, as in ``metrics.json``
    :return: sentences, those about the data first
    """
    found = [doubt(metrics) for doubt in _DOUBTS]
    return [*metrics.get("market", {}).get("caveats", ()), *(sentence for sentence in found if sentence)]


def price_index(metrics: Metrics) -> str | None:
    """Stocks with dividends against an index without; said once, if the source of the data has not said it."""
    market = metrics.get("market", {})
    kinds = (market.get("asset_kind"), market.get("benchmark_kind"))
    if kinds != ("total return", "price") or any("dividends" in caveat for caveat in market.get("caveats", ())):
        return None
    return f"{market['benchmark']} is a price index and pays no dividends, the assets' returns include theirs."


def filled_prices(metrics: Metrics) -> str | None:
    rows = metrics.get("data", {}).get("assets", ())
    missing = sum(row.get("filled", 0) + row.get("suspended", 0) for row in rows)
    share = missing / max(missing + sum(row.get("prices", 0) for row in rows), 1)
    if share <= MANY_FILLED:
        return None
    return f"{percent(share, 1)} of the prices are none of their day: they were filled or suspended."


def one_window(metrics: Metrics) -> str | None:
    if "market" not in metrics:
        return None
    years, folds = _years(metrics), metrics.get("folds")
    if years < SHORT_YEARS:
        test_is = "All folds together test" if folds else "The test is one window of"
        return f"{test_is} {years:.1f} years: even a Sharpe ratio of 1 needs four years to differ from 0."
    return None if folds else f"The test is one window of {years:.1f} years: another one could have gone the other way."


def few_seeds(metrics: Metrics) -> str | None:
    n_seeds = len(metrics.get("seeds", ()))
    if not 0 < n_seeds < FEW_SEEDS:
        return None
    there_are = "There is only one training seed" if n_seeds == 1 else f"There are only {n_seeds} training seeds"
    return f"{there_are}; it takes at least {FEW_SEEDS} to tell skill from luck."


def seeds_disagree(metrics: Metrics) -> str | None:
    sharpes = [figures["test_sharpe_ratio"] for figures in metrics.get("seeds", {}).values()]
    rule = metrics.get("test", {}).get("base rule", {}).get("sharpe_ratio")
    if len(sharpes) < 2 or rule is None:
        return None
    ahead = sum(sharpe > rule for sharpe in sharpes)
    if ahead in (0, len(sharpes)):
        return None
    return f"The seeds disagree: {ahead} of {len(sharpes)} beat the base rule's Sharpe ratio, the others do not."


def chosen_seed(metrics: Metrics) -> str | None:
    if "chosen_seed" not in metrics or len(metrics.get("seeds", ())) < 2:
        return None
    return (
        f"Tables and curves show the agent of seed {metrics['chosen_seed']}, which did best on the validation years; the "
        "comparisons above count all seeds."
    )


def seen_years(metrics: Metrics) -> str | None:
    market = metrics.get("market", {})
    if not market.get("exposure_rule") or market.get("test_first", "9999") > SEEN_UNTIL:
        return None
    return "The exposure rule was chosen by people who had seen these years; a gain that comes from it is the rule's."


def many_trials(metrics: Metrics) -> str | None:
    deflated = metrics.get("deflated_sharpe", {})
    if deflated.get("n_trials", 1) < 2:
        return None
    return (
        f"{deflated['n_trials']} settings were tried before this one was kept; the probability that its Sharpe ratio is "
        f"better than that of the best of as many worthless ones is {percent(deflated['deflated_sharpe_ratio'])}."
    )


def overfitted_choice(metrics: Metrics) -> str | None:
    probability = metrics.get("overfitting", {}).get("probability", 0.0)
    if probability < 0.5:
        return None
    return (
        f"In {percent(probability)} of the ways to halve the days, the strategy that was best on one half was below "
        "the median on the other: the order of the table is mostly luck."
    )


def high_turnover(metrics: Metrics) -> str | None:
    agent = metrics.get("agent", {})
    if agent.get("annual_turnover", 0.0) < HIGH_TURNOVER:
        return None
    return (
        f"The agent trades {agent['annual_turnover']:.1f} times its wealth a year: if costs are twice those assumed, it loses "
        f"another {percent(agent['annual_cost'], 1)} a year."
    )


def same_as_base_rule(metrics: Metrics) -> str | None:
    distance = metrics.get("agent", {}).get("distance_to_base_rule", 1.0)
    if distance >= SAME_PORTFOLIO:
        return None
    return f"The agent holds its base rule but for {percent(distance, 1)} of the wealth: what it earns is the rule's."


def same_as_equal_weight(metrics: Metrics) -> str | None:
    distance = metrics.get("agent", {}).get("distance_to_equal_weight_rule", 1.0)
    if distance >= SAME_PORTFOLIO:
        return None
    return f"The agent holds equal weights but for {percent(distance, 1)} of the wealth: it has learnt nothing that shows."


def dead_policy(metrics: Metrics) -> str | None:
    trades = metrics.get("agent", {}).get("trades_per_year", FEW_TRADES)
    return None if trades >= FEW_TRADES else f"The agent trades {trades:.1f} times a year: a policy that does nothing."


def generator_copies(metrics: Metrics) -> str | None:
    share = metrics.get("generator", {}).get("too_near_share", 0.0)
    if share < TOO_NEAR:
        return None
    return (
        f"{percent(share, 1)} of the synthetic paths lie too near to training ones (1 % is expected): they are copies in part."
    )


_DOUBTS: Sequence[Callable[[Metrics], str | None]] = (
    price_index, filled_prices, one_window, few_seeds, seeds_disagree, chosen_seed, seen_years, many_trials,
    overfitted_choice, high_turnover, same_as_base_rule, same_as_equal_weight, dead_policy, generator_copies,
)  # fmt: skip


def _years(metrics: Metrics) -> float:
    market = metrics["market"]
    return float((np.datetime64(market["test_last"]) - np.datetime64(market["test_first"])).astype(int) / 365.25)
