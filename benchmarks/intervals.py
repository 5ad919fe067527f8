"""
Do the intervals hold what they say? Coverage of the 95 % intervals of Sharpe differences on simulated days.

Days have the volatility clusters and the tails of a GARCH(1,1) with Student errors (5 degrees of freedom); two strategies
share most of it. With several seeds, each adds a skill of its own, so that the interval must hold for other seeds too.

    python benchmarks/intervals.py --trials 1000
"""

import argparse
import time

import numpy as np

from quantflux_sb3.evaluation.result import BacktestResult
from quantflux_sb3.evaluation.statistics import sharpe_difference

#: Daily parameters: half-life of a shock to the variance two to three months.
OMEGA, ALPHA, BETA, DEGREES = 1e-6, 0.08, 0.91, 5
MEAN, VARIANCE = 0.0004, OMEGA / (1.0 - ALPHA - BETA)
#: What is a seed's own on each day, and how far the mean returns of seeds spread: alike, or far apart (standard deviations; in
#: annual Sharpe ratios .03 and .31).
OWN, ALIKE, APART = 0.002, 2e-5, 2e-4


def clustered_days(rng: np.random.Generator, n_days: int) -> np.ndarray:
    """Returns of the market both strategies are in (n_days,)."""
    shocks = rng.standard_t(DEGREES, n_days) * np.sqrt((DEGREES - 2) / DEGREES)
    returns, variance = np.empty(n_days), VARIANCE
    for day, shock in enumerate(shocks):
        returns[day] = np.sqrt(variance) * shock
        variance = OMEGA + ALPHA * returns[day] ** 2 + BETA * variance
    return MEAN + returns


def backtest(returns: np.ndarray) -> BacktestResult:
    n_days, nothing = len(returns), np.zeros(len(returns))
    return BacktestResult(
        "simulated", np.arange(n_days).astype("datetime64[D]"), ("A",), returns, nothing, returns[:, None], nothing,
        np.tile([1.0, 0.0], (n_days, 1)), nothing, nothing, nothing > 0.0, nothing.astype(int),
    )  # fmt: skip


def covers(rng: np.random.Generator, n_days: int, n_seeds: int, spread: float, mean_block: float) -> bool:
    """One history: whether the interval holds the difference of the processes."""
    days = clustered_days(rng, n_days)
    tilted = MEAN + (days - MEAN + 0.3 * (clustered_days(rng, n_days) - MEAN)) / np.sqrt(1.0 + 0.3**2)
    skills = rng.normal(0.0, spread, n_seeds)
    runs = [backtest(tilted + skill + rng.normal(0.0, OWN, n_days)) for skill in skills]
    difference = MEAN * (1.0 / np.sqrt(VARIANCE + OWN**2) - 1.0 / np.sqrt(VARIANCE)) * np.sqrt(252)
    figures = sharpe_difference(runs, backtest(days), 500, mean_block=mean_block)
    return figures["low"] <= difference <= figures["high"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    print("| days | seeds | they are | mean block | coverage |\n|---:|---:|---|---:|---:|")
    begin = time.process_time()
    settings = [(1, "one", block) for block in (5, 21, 63)]
    settings += [(n_seeds, they, 21) for n_seeds in (3, 5, 10) for they in ("alike", "far apart")]
    for n_days in (504, 1764, 5796):
        for n_seeds, they, block in settings:
            spread = {"one": 0.0, "alike": ALIKE, "far apart": APART}[they]
            hits = [covers(np.random.default_rng([n_days, trial]), n_days, n_seeds, spread, block) for trial in range(trials)]
            print(f"| {n_days:,} | {n_seeds} | {they} | {block} | {100 * np.mean(hits):.1f} % |", flush=True)
    print(f"\n{time.process_time() - begin:.0f} CPU seconds, {trials:,} histories a row")


if __name__ == "__main__":
    main()
