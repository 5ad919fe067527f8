"""
How much of a result is the search for it? Deflated Sharpe ratio, probability of backtest overfitting, and the test of
superior predictive ability.

All three ask about many strategies on the same days. The first needs the number of trials only, the second and the third
what each of them earned.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

from quantflux_sb3.evaluation.metrics import STANDSTILL, sharpe_ratio
from quantflux_sb3.evaluation.resampling import MEAN_BLOCK, N_BOOTSTRAPS, resampled_days, sharpe_from_sums, sums_of_draws
from quantflux_sb3.evaluation.result import BacktestResult


def probabilistic_sharpe_ratio(
    sharpe: float, threshold: float, n_days: int, skewness: float = 0.0, kurtosis: float = 3.0
) -> float:
    """
    Probability that the true Sharpe ratio exceeds a threshold, for returns that need not be normal.

    Source: Bailey & Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier, eq. 4.

    :param sharpe: measured, per day (not annualised)
    :param threshold: per day
    :param n_days: length of the series
    :param skewness: of the returns
    :param kurtosis: of the returns; 3 is normal
    """
    variance = max(1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2, STANDSTILL)
    return float(stats.norm.cdf((sharpe - threshold) * math.sqrt(max(n_days - 1, 0) / variance)))


def expected_maximum_sharpe(n_trials: int, trial_variance: float) -> float:
    """
    Sharpe ratio that the best of several trials without any skill is expected to show.

    Source: Bailey & Lopez de Prado (2014), The Deflated Sharpe Ratio, eq. 1 with the mean of the trials at zero.

    :param n_trials: independent trials, at least 1; the best of one is expected to show nothing
    :param trial_variance: variance of the trials' Sharpe ratios
    :return: in the unit of the trials
    """
    if n_trials <= 1:
        return 0.0
    first, second = stats.norm.ppf(1.0 - 1.0 / n_trials), stats.norm.ppf(1.0 - 1.0 / (n_trials * math.e))
    return float(math.sqrt(trial_variance) * ((1.0 - np.euler_gamma) * first + np.euler_gamma * second))


def deflated_sharpe_ratio(
    result: BacktestResult, n_trials: int | None = None, trial_sharpes: Sequence[float] | None = None
) -> dict[str, Any]:
    """
    Probability that the Sharpe ratio is above what the best of so many worthless trials would show by luck.

    How far such trials spread is taken from theirs if they are given, and else from the error of a Sharpe ratio of that
    length, which is how far independent trials without skill spread. Trials resemble each other, so the number of them is an
    upper limit of the independent ones, and the figure a cautious one.

    Source: Bailey & Lopez de Prado (2014), The Deflated Sharpe Ratio, eq. 2.

    :param result: of the strategy that was picked
    :param n_trials: everything that was tried, tuning included (:func:`quantflux_sb3.evaluation.trials.tuning_trials`);
        the number of ``trial_sharpes`` if not given
    :param trial_sharpes: annualised Sharpe ratios of the trials
    :return: ``deflated_sharpe_ratio`` and ``probabilistic_sharpe_ratio`` (of a true Sharpe ratio above 0), both
        probabilities; ``sharpe`` and ``expected_maximum_sharpe`` (annualised), ``n_trials``, ``trial_deviation`` (annualised),
        ``trial_deviation_from`` (``"trials"`` or ``"length"``), ``skewness``, ``kurtosis``
    :raises ValueError: if there are fewer than three days or no number of trials
    """
    n_days, periods = len(result.returns), result.periods_per_year
    if n_days < 3:
        raise ValueError(f"A deflated Sharpe ratio needs at least 3 days; '{result.name}' has {n_days}.")
    n_trials, variance = _spread_of_trials(n_trials, trial_sharpes, n_days, periods)
    excess = result.returns - result.risk_free
    sharpe, moves = sharpe_ratio(excess, 1), bool(np.std(excess) > STANDSTILL)
    shape = (float(stats.skew(excess)), float(stats.kurtosis(excess, fisher=False))) if moves else (0.0, 3.0)
    luck = expected_maximum_sharpe(n_trials, variance)
    annual = math.sqrt(periods)
    return {
        "deflated_sharpe_ratio": probabilistic_sharpe_ratio(sharpe, luck, n_days, *shape),
        "probabilistic_sharpe_ratio": probabilistic_sharpe_ratio(sharpe, 0.0, n_days, *shape),
        "sharpe": sharpe * annual,
        "expected_maximum_sharpe": luck * annual,
        "n_trials": n_trials,
        "trial_deviation": math.sqrt(variance) * annual,
        "trial_deviation_from": "length" if trial_sharpes is None or len(trial_sharpes) < 2 else "trials",
        "skewness": shape[0],
        "kurtosis": shape[1],
    }


def _spread_of_trials(n_trials: int | None, sharpes: Sequence[float] | None, n_days: int, periods: int) -> tuple[int, float]:
    """Number of trials, and the variance of their Sharpe ratios per day."""
    count = len(sharpes) if n_trials is None and sharpes is not None else n_trials
    if count is None or count < 1:
        raise ValueError(f"A deflated Sharpe ratio needs the number of trials, at least 1; got {count}.")
    if sharpes is None or len(sharpes) < 2:
        return int(count), 1.0 / (n_days - 1)
    if count < len(sharpes):
        raise ValueError(f"`n_trials` is {count}, but there are {len(sharpes)} `trial_sharpes`; count every trial.")
    return int(count), float(np.var(sharpes, ddof=1)) / periods


class Selections(NamedTuple):
    """
    What the best strategy of one half of history did on the other, for every way to cut it.

    :param logits: of its relative place on the other half (n_splits,); 0 is the median
    :param promised: its daily Sharpe ratio on the half that picked it (n_splits,)
    :param earned: its daily Sharpe ratio on the other half (n_splits,)
    """

    logits: np.ndarray
    promised: np.ndarray
    earned: np.ndarray


def probability_of_backtest_overfitting(
    returns: np.ndarray | Sequence[BacktestResult], n_blocks: int = 16
) -> dict[str, float]:
    """
    How often the strategy that was best on one half of history is not above the median on the other.

    Noise gives about one half, a strategy that is really better nearly 0.

    :param returns: excess returns of the strategies (n_days, n_strategies), at least two, or their backtests
    :param n_blocks: an even number; see :func:`split_selections`
    :return: ``probability``, ``n_strategies``, ``n_splits``, ``mean_in_sample`` and ``mean_out_of_sample`` (daily Sharpe
        ratios of the picked strategy), ``probability_of_loss`` (it is below zero out of sample), ``slope`` (of its Sharpe
        ratios out of sample on those in sample; negative: the more it promised the less it earned)
    :raises ValueError: if there are fewer than two strategies or four days a block, or the blocks are odd
    """
    logits, promised, earned = split_selections(returns, n_blocks)
    spread = promised - promised.mean()
    return {
        "probability": float(np.mean(logits <= 0.0)),
        "n_strategies": _excess_returns(returns).shape[1],
        "n_splits": len(logits),
        "mean_in_sample": float(promised.mean()),
        "mean_out_of_sample": float(earned.mean()),
        "probability_of_loss": float(np.mean(earned < 0.0)),
        "slope": float(spread @ earned / max(spread @ spread, STANDSTILL)),
    }


def split_selections(returns: np.ndarray | Sequence[BacktestResult], n_blocks: int = 16) -> Selections:
    """
    Combinatorially symmetric cross-validation: the days are cut into blocks, and every choice of half of them is once the
    sample that picks the best Sharpe ratio, the rest being the sample that judges it.

    Source: Bailey, Borwein, Lopez de Prado & Zhu (2017), The Probability of Backtest Overfitting, section 2.3.

    :param returns: excess returns of the strategies (n_days, n_strategies), at least two, or their backtests
    :param n_blocks: an even number
    :return: what was picked and what became of it
    :raises ValueError: if there are fewer than two strategies or four days a block, or the blocks are odd
    """
    excess = _excess_returns(returns)
    n_days, n_strategies = excess.shape
    if n_strategies < 2 or n_blocks < 2 or n_blocks % 2 or n_days < 4 * n_blocks:
        raise ValueError(
            "Overfitting is judged on at least 2 strategies and an even number of blocks of at least 4 days; "
            f"got {n_strategies} strategies, {n_days} days and {n_blocks} blocks."
        )
    picks, others = _halves(n_blocks)
    inside, outside = _sharpe_of_blocks(excess, picks), _sharpe_of_blocks(excess, others)
    best, rows = inside.argmax(axis=1), np.arange(len(picks))
    place = stats.rankdata(outside, axis=1)[rows, best] / (n_strategies + 1)
    return Selections(np.log(place / (1.0 - place)), inside[rows, best], outside[rows, best])


def _halves(n_blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Every choice of half of the blocks and its complement, as rows of zeros and ones (n_splits, n_blocks)."""
    chosen = np.array(list(combinations(range(n_blocks), n_blocks // 2)))
    picks = np.zeros((len(chosen), n_blocks))
    np.put_along_axis(picks, chosen, 1.0, axis=1)
    return picks, 1.0 - picks


def _sharpe_of_blocks(excess: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Daily Sharpe ratios of the strategies on the picked blocks (n_splits, n_strategies)."""
    centre = excess.mean(axis=0)
    deviations = excess - centre
    begins = np.linspace(0, len(excess), picks.shape[1] + 1).astype(int)
    days = picks @ np.diff(begins).astype(float)
    sums, squares = (picks @ np.add.reduceat(values, begins[:-1]) for values in (deviations, deviations**2))
    return sharpe_from_sums(sums, squares, days[:, None], centre)


def superior_predictive_ability(
    benchmark: BacktestResult,
    strategies: Sequence[BacktestResult],
    measure: Literal["sharpe", "return"] = "sharpe",
    n_bootstraps: int = N_BOOTSTRAPS,
    seed: int = 0,
    mean_block: float = MEAN_BLOCK,
) -> dict[str, Any]:
    """
    Does the best of several strategies beat the benchmark, given that it is the best of several?

    The hypothesis is that none of them does. With ``measure="sharpe"`` every strategy, the benchmark too, is levered to the
    benchmark's volatility over the whole window first, so that a difference of means is a difference of Sharpe ratios. The
    advantages are divided by their bootstrap deviations before ``arch.bootstrap.SPA`` sees them, because it does not
    studentise its statistic, and a single wild strategy would hide the others.

    Source: Hansen (2005), A Test for Superior Predictive Ability, eq. 3 and section 2.4.

    :param benchmark: drift-gated equal weight, say
    :param strategies: the others, on the same days
    :param measure: what superior means
    :param n_bootstraps: number of draws
    :param seed: of the draws
    :param mean_block: mean block length [days]
    :return: ``p_value`` (Hansen's consistent one), ``p_lower``, ``p_upper`` (White's reality check, studentised),
        ``best`` (name of the strategy with the largest statistic), ``statistic``, ``n_strategies``, ``measure``
    :raises ValueError: if there are no strategies, the days differ, or none of them differs from the benchmark
    """
    from arch.bootstrap import SPA

    if not strategies or any(not np.array_equal(benchmark.dates, other.dates) for other in strategies):
        raise ValueError(
            f"Strategies are tested against '{benchmark.name}' on its own days; give at least one, on the same days."
        )
    if measure not in ("sharpe", "return"):
        raise ValueError(f"`measure` must be 'sharpe' or 'return'; got {measure!r}.")
    advantage = _advantages(benchmark, strategies, measure)
    rows = resampled_days(len(advantage), n_bootstraps, seed, mean_block)
    deviation = (sums_of_draws(rows, advantage) / len(advantage)).std(axis=0)
    differs = deviation > STANDSTILL
    if not differs.any():
        raise ValueError(
            f"None of the {len(strategies)} strategies differs from '{benchmark.name}'; there is nothing to test."
        )
    scaled = advantage[:, differs] / (deviation[differs] * math.sqrt(len(advantage)))
    test = SPA(np.zeros(len(scaled)), -scaled, block_size=int(mean_block), reps=n_bootstraps, seed=seed)
    test.compute()
    statistics = scaled.mean(axis=0) * math.sqrt(len(scaled))
    names = [strategy.name for strategy, kept in zip(strategies, differs, strict=True) if kept]
    return {
        "p_value": float(test.pvalues["consistent"]),
        "p_lower": float(test.pvalues["lower"]),
        "p_upper": float(test.pvalues["upper"]),
        "best": names[int(statistics.argmax())],
        "statistic": float(statistics.max()),
        "n_strategies": len(strategies),
        "measure": measure,
    }


def _advantages(benchmark: BacktestResult, strategies: Sequence[BacktestResult], measure: str) -> np.ndarray:
    """Daily excess return of each strategy over the benchmark (n_days, n_strategies)."""
    excess = _excess_returns([benchmark, *strategies])
    if measure == "sharpe":
        deviations = excess.std(axis=0, ddof=1)
        excess = excess * np.where(deviations > STANDSTILL, deviations[0] / np.maximum(deviations, STANDSTILL), 0.0)
    return np.ascontiguousarray(excess[:, 1:] - excess[:, :1])


def _excess_returns(returns: np.ndarray | Sequence[BacktestResult]) -> np.ndarray:
    if isinstance(returns, np.ndarray):
        return np.atleast_2d(returns.T).T.astype(np.float64)
    if len({len(result.returns) for result in returns}) > 1:
        raise ValueError("The backtests have different numbers of days; backtest all of them on one window.")
    return np.column_stack([result.returns - result.risk_free for result in returns])
