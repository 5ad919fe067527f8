"""
What the regime detectors are worth: ``python benchmarks/regimes.py`` prints the tables of docs/regimes.md and writes JSON.

Simulated markets: fitted on 10 years, judged on the years after them, seeds 0-11 (settings were chosen on seeds 100-123 and
200-223). Hardy's stress comes every 27 months on average and ten years of it tell little, hence also 40 years.
S&P 500: fitted anew every January on all years before it, judged on 2000-2022.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from quantflux_sb3.market import load_bundled
from quantflux_sb3.regimes import (
    BEAR,
    BULL,
    TRADING_DAYS,
    VOLATILE,
    HMMRegimes,
    JumpRegimes,
    RegimeDetector,
    RuleRegimes,
    detect_walk_forward,
)
from quantflux_sb3.testing import RegimeProcess, balanced_accuracy, four_regimes, hardy_regimes

Fit = Callable[[np.ndarray], RegimeDetector]
TRAIN_DAYS = 10 * TRADING_DAYS
HORIZON = 20
HARDY_SP500 = {"means": (0.0126, -0.0185), "volatilities": (0.0350, 0.0748)}
HARDY_TSE300 = hardy_regimes()
#: Name, process, years to be judged on.
MARKETS = (
    ("Four regimes, 10 years", four_regimes(), 10),
    ("Hardy TSE 300, 40 years", HARDY_TSE300, 40),
    ("Hardy TSE 300, 10 years", HARDY_TSE300, 10),
    ("Hardy S&P 500 moments, TSE 300 transitions, 40 years", hardy_regimes(**HARDY_SP500), 40),
    ("Hardy S&P 500, 40 years", hardy_regimes(**HARDY_SP500, leave=(0.0398, 0.3798)), 40),
)


def detectors(process: RegimeProcess) -> dict[str, Fit]:
    """
    :param process: whose true parameters the last row knows
    :return: name and fit of each detector
    """
    n = len(process.regimes)
    true = HMMRegimes(process.means, process.volatilities, process.transition)
    fits: dict[str, Fit] = {"RuleRegimes": lambda _: RuleRegimes()}
    for count in sorted({n, 4}, reverse=True):
        fits[f"HMMRegimes({count})"] = partial(HMMRegimes.fit, n_regimes=count)
        fits[f"JumpRegimes({count})"] = partial(JumpRegimes.fit, n_regimes=count)
    return {**fits, "true parameters, filtered": lambda _: true}


def on_simulation(process: RegimeProcess, years: int, fit: Fit, seed: int) -> tuple[float, float]:
    """
    :return: balanced accuracy and switches a year in the test years
    """
    returns, truth = process.simulate(TRAIN_DAYS + years * TRADING_DAYS, seed)
    labels = fit(returns[:TRAIN_DAYS]).detect(returns).labels[TRAIN_DAYS:]
    if len(process.regimes) == 2:  # bear and volatile are stress, bull and sideways are calm
        labels = np.where(np.isin(labels, (BEAR, VOLATILE)), VOLATILE, BULL)
    return balanced_accuracy(labels, truth[TRAIN_DAYS:]), np.count_nonzero(np.diff(labels)) / years


def explained(labels: np.ndarray, target: np.ndarray) -> float:
    """
    :return: R^2 of the target on the label (in-sample mean of each label)
    """
    fitted = np.empty_like(target)
    for label in np.unique(labels):
        fitted[labels == label] = target[labels == label].mean()
    return float(1.0 - np.mean((target - fitted) ** 2) / np.var(target))


def on_index(fit: Fit) -> tuple[float, float]:
    """
    :return: R^2 of the log of the next 20 days' realised volatility on the label, and switches a year, S&P 500, 2000-2022
    """
    market = load_bundled()
    returns, years = market.benchmark_returns, market.dates.astype("datetime64[Y]").astype(int) + 1970
    table = detect_walk_forward(returns, fit, np.searchsorted(years, np.arange(2000, 2023)))
    squares = np.log1p(returns[-len(table.probs) :]) ** 2
    ahead = np.lib.stride_tricks.sliding_window_view(squares[1:], HORIZON).mean(axis=1)
    return explained(table.labels[: len(ahead)], 0.5 * np.log(ahead)), table.switches_per_year


def measure(seeds: range) -> dict[str, dict[str, dict[str, float]]]:
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, process, years in MARKETS:
        for detector, fit in detectors(process).items():
            accuracy, switches = np.array([on_simulation(process, years, fit, seed) for seed in seeds]).T
            results.setdefault(name, {})[detector] = {
                "balanced_accuracy": accuracy.mean(), "std": accuracy.std(ddof=1), "min": accuracy.min(),
                "max": accuracy.max(), "switches_per_year": switches.mean(), "switches_std": switches.std(ddof=1),
            }  # fmt: skip
    for detector, fit in list(detectors(HARDY_TSE300).items())[:-1]:
        r2, switches_per_year = on_index(fit)
        results.setdefault("S&P 500, 2000-2022", {})[detector] = {"r2": r2, "switches_per_year": switches_per_year}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 12), metavar=("FIRST", "STOP"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/regimes.json"))
    args = parser.parse_args()
    results = measure(range(*args.seeds))
    for name, rows in results.items():
        print(f"\n| {name} | {' | '.join(next(iter(rows.values())))} |")
        print("|---" * (1 + len(next(iter(rows.values())))) + "|")
        for detector, figures in rows.items():
            print(f"| {detector} | {' | '.join(f'{value:.3f}' for value in figures.values())} |")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
