"""
Was one strategy better than another, or lucky? Bootstrap intervals, seeds as a distribution, and a sentence that says it.

Intervals are 95 % percentile intervals of the stationary bootstrap (:mod:`quantflux_sb3.evaluation.resampling`). An agent may
be given as the backtests of its training seeds: its Sharpe ratio is then their mean, and seeds are drawn again as well as
days. An interval says how much one window of history can tell; it knows nothing of how many strategies were tried before,
which is what :mod:`quantflux_sb3.evaluation.overfitting` is about.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from quantflux_sb3.evaluation.metrics import sharpe_ratio
from quantflux_sb3.evaluation.resampling import MEAN_BLOCK, N_BOOTSTRAPS, resampled_days, sharpe_draws
from quantflux_sb3.evaluation.result import BacktestResult

CONFIDENCE = 0.95
#: Share of the values that the interquartile mean leaves out at either end.
OUTER_QUARTER = 0.25

#: One backtest, or those of the training seeds of one agent.
Results = BacktestResult | Sequence[BacktestResult]


def sharpe_interval(
    result: Results, n_bootstraps: int = N_BOOTSTRAPS, seed: int = 0, mean_block: float = MEAN_BLOCK
) -> dict[str, float]:
    """
    Sharpe ratio with its 95 % interval.

    :param result: one backtest, or those of several training seeds
    :param n_bootstraps: number of draws
    :param seed: of the draws; the same seed gives the same interval
    :param mean_block: mean block length [days]
    :return: ``sharpe``, ``low``, ``high`` (annualised; the mean over seeds), ``n_seeds``
    :raises ValueError: if there are no results or no days, the days of the seeds differ, or a setting is below 1
    """
    runs = _same_days(result)
    sharpes = _sharpes(runs)
    draws = _mean_of_seeds(_sharpe_draws(runs, n_bootstraps, seed, mean_block), seed, side=0)
    return {"sharpe": float(sharpes.mean()), **_interval(draws), "n_seeds": len(runs)}


def sharpe_difference(
    a: Results, b: Results, n_bootstraps: int = N_BOOTSTRAPS, seed: int = 0, mean_block: float = MEAN_BLOCK
) -> dict[str, float]:
    """
    Sharpe ratio of ``a`` minus that of ``b``, with its 95 % interval.

    Every draw takes the same days for all backtests of both sides. Where a side is n training seeds of one agent, the draw
    takes n - 1 of them, with replacement and for each side by itself, and averages (a hierarchical bootstrap): the interval
    then holds for another window *and* for other seeds. One seed less, because the mean of n draws from n values varies less
    than the mean of n seeds does; of n - 1 draws it varies as much.

    Source: Politis & Romano (1994) for the draws; Ledoit & Wolf (2008), Robust Performance Hypothesis Testing with the
    Sharpe Ratio, for resampling both together (their studentised interval is wider in short samples); Davison & Hinkley
    (1997), Bootstrap Methods and their Application, section 3.8, for the hierarchy; Rao & Wu (1988), Resampling Inference
    with Complex Survey Data, section 2, for n - 1.

    :param a: one backtest, or those of several training seeds
    :param b: another, of the same days
    :param n_bootstraps: number of draws
    :param seed: of the draws; the same seed gives the same interval
    :param mean_block: mean block length [days]
    :return: ``difference``, ``low``, ``high``, ``sharpe_a``, ``sharpe_b`` (annualised; means over seeds), ``p_value``
        (two-sided, of no difference; it agrees with the interval), ``n_seeds_a``, ``n_seeds_b``
    :raises ValueError: if the days differ or there are none, or a setting is below 1
    """
    runs_a, runs_b = _same_days(a), _same_days(b)
    _same_days([runs_a[0], runs_b[0]])
    draws = _sharpe_draws([*runs_a, *runs_b], n_bootstraps, seed, mean_block)
    n_a = len(runs_a)
    differences = _mean_of_seeds(draws[:, :n_a], seed, side=0) - _mean_of_seeds(draws[:, n_a:], seed, side=1)
    sharpe_a, sharpe_b = float(_sharpes(runs_a).mean()), float(_sharpes(runs_b).mean())
    return {
        "difference": sharpe_a - sharpe_b,
        **_interval(differences),
        "sharpe_a": sharpe_a,
        "sharpe_b": sharpe_b,
        "p_value": _p_value(differences),
        "n_seeds_a": n_a,
        "n_seeds_b": len(runs_b),
    }


def seed_distribution(values: Iterable[Any], n_bootstraps: int = N_BOOTSTRAPS, seed: int = 0) -> dict[str, Any]:
    """
    A figure over training seeds: the interquartile mean with a 95 % interval from drawing seeds again, and the spread.

    Source: Agarwal et al. (2021), Deep Reinforcement Learning at the Edge of the Statistical Precipice, section 4.

    :param values: the figure of each seed; of backtests their Sharpe ratio is taken
    :param n_bootstraps: number of draws
    :param seed: of the draws
    :return: ``values`` in the given order, ``n_seeds``, ``iqm`` with ``low`` and ``high``, ``mean``, ``median``, ``deviation``
        (n - 1; 0 for one seed), ``min``, ``max``
    :raises ValueError: if there are no values or they are not finite
    """
    given = list(values)
    numbers = np.array([_sharpes([v])[0] if isinstance(v, BacktestResult) else v for v in given], dtype=np.float64)
    if not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"A distribution over seeds needs at least one value, all finite; got {numbers.tolist()}.")
    drawn = numbers[np.random.default_rng(seed).integers(len(numbers), size=(n_bootstraps, len(numbers)))]
    return {
        "values": numbers.tolist(),
        "n_seeds": len(numbers),
        "iqm": float(interquartile_mean(numbers)),
        **_interval(interquartile_mean(drawn)),
        "mean": float(numbers.mean()),
        "median": float(np.median(numbers)),
        "deviation": float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0,
        "min": float(numbers.min()),
        "max": float(numbers.max()),
    }


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """
    :param values: (..., n)
    :return: mean of the middle half along the last axis (...); of all of them if there are fewer than four
    """
    return trim_mean(values, OUTER_QUARTER, axis=-1)


def verdict(name_a: str, name_b: str, difference: Mapping[str, float]) -> str:
    """
    The difference in plain language: ahead or behind only if the whole interval is on one side of zero.

    :param name_a: name of the one strategy
    :param name_b: name of the other
    :param difference: what :func:`sharpe_difference` returned
    :return: a clause without capital or full stop, to stand alone or inside a sentence
    """
    low, high = difference["low"], difference["high"]
    figures = f"Sharpe difference {_signed(difference['difference'])}, 95 % interval {_signed(low)} to {_signed(high)}"
    figures += _seeds(int(difference.get("n_seeds_a", 1)), int(difference.get("n_seeds_b", 1)))
    if low > 0.0:
        return f"{name_a} was ahead of {name_b} after costs ({figures})"
    if high < 0.0:
        return f"{name_a} was behind {name_b} after costs ({figures})"
    return f"no evidence that {name_a} beats {name_b} after costs ({figures})"


def verdicts(differences: Mapping[str, Mapping[str, float]], spoken: Mapping[str, str]) -> list[str]:
    """
    :param differences: of :func:`sharpe_difference` by ``"a - b"``
    :param spoken: what the strategies are called in sentences
    :return: a clause for each difference
    """
    pairs = ((pair.split(" - "), difference) for pair, difference in differences.items())
    return [verdict(spoken[a], spoken[b], difference) for (a, b), difference in pairs]


def _seeds(n_a: int, n_b: int) -> str:
    if n_a > 1 and n_b > 1:
        return f", {n_a} seeds each" if n_a == n_b else f", {n_a} and {n_b} seeds"
    return f", {max(n_a, n_b)} seeds" if max(n_a, n_b) > 1 else ""


def _signed(value: float) -> str:
    rounded = round(value, 2)
    return f"{rounded:+.2f}" if rounded else "0.00"


def _same_days(results: Results) -> list[BacktestResult]:
    runs = [results] if isinstance(results, BacktestResult) else list(results)
    if not runs:
        raise ValueError("There are no backtests; give at least one.")
    for other in runs[1:] or runs:
        if not np.array_equal(runs[0].dates, other.dates) or len(other.dates) == 0:
            raise ValueError(
                f"'{runs[0].name}' has {len(runs[0].dates)} days and '{other.name}' {len(other.dates)}, not the same ones; "
                "these figures need the same days, and at least one. Backtest all of them on one window."
            )
    return runs


def _sharpes(runs: Sequence[BacktestResult]) -> np.ndarray:
    return np.array([sharpe_ratio(run.returns - run.risk_free, run.periods_per_year) for run in runs])


def _sharpe_draws(runs: Sequence[BacktestResult], n_bootstraps: int, seed: int, mean_block: float) -> np.ndarray:
    excess = np.column_stack([run.returns - run.risk_free for run in runs])
    return sharpe_draws(excess, resampled_days(len(excess), n_bootstraps, seed, mean_block), runs[0].periods_per_year)


def _mean_of_seeds(draws: np.ndarray, seed: int, side: int) -> np.ndarray:
    """Mean over seeds drawn again, one less than there are, for every draw of days (n_bootstraps,); one seed is itself."""
    n_bootstraps, n_seeds = draws.shape
    chosen = np.random.default_rng([seed, side]).integers(n_seeds, size=(n_bootstraps, max(n_seeds - 1, 1)))
    return np.take_along_axis(draws, chosen, axis=1).mean(axis=1)


def _interval(draws: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(draws, [(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0])
    return {"low": float(low), "high": float(high)}


def _p_value(draws: np.ndarray) -> float:
    """Twice the share of draws on the rarer side of zero, the observed one counted (Davison & Hinkley 1997, eq. 4.11)."""
    rarer = min(np.count_nonzero(draws <= 0.0), np.count_nonzero(draws >= 0.0))
    return float(min(2.0 * (rarer + 1) / (len(draws) + 1), 1.0))
