"""
How like real windows generated ones are, in plain numbers.

:func:`figures` compares two arrays of windows, whatever made them; :func:`quality_table` puts a generator beside real
against real, the stationary bootstrap, Gaussian days and GARCH. Marginals, correlations, autocorrelations and the dependence
on conditions were calibrated on the training years, so agreement with them says little by itself: look at held-out years
as well. The memorisation figures ask the opposite question: too like?
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy.stats import kurtosis, wasserstein_distance

from quantflux_sb3.diffusion.baselines import GarchCopula, bootstrap_windows, gaussian_windows
from quantflux_sb3.diffusion.distances import (
    maximum_mean_discrepancy,
    near_share,
    nearest_distances,
    return_points,
    signature_distance,
    volatility_points,
)
from quantflux_sb3.diffusion.judges import discriminative_score, forecast_skill, real_against_real
from quantflux_sb3.diffusion.pipeline import RegimeDDPMPipeline
from quantflux_sb3.diffusion.representation import market_logs
from quantflux_sb3.diffusion.stylised import (
    absolute_acf,
    acf,
    correlations,
    hill,
    leverage,
    lower_tail_dependence,
    max_drawdowns,
    tail_quantiles,
    windows_of,
)
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.regimes import REGIMES, RuleRegimes

#: Share of a real window's days that must lie in a regime for it to count.
REGIME_PURITY = 0.9
#: Share of the training windows, the last ones, that stand in for held-out ones if there are none.
HELDOUT_SHARE = 0.1
#: Windows compared, and seeds of the judge.
N_WINDOWS, N_JUDGES = 3000, 5


def figures(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    """
    Stylised facts of generated windows beside real ones. Errors are mean absolute (or root mean square) differences over
    lags, levels, series or pairs of series; 0 is best. Others stand for themselves.

    :param real: log returns, benchmark first (n_windows, window, n_series)
    :param synthetic: (n_synthetic, window, n_series)
    :return: figures by name, plain floats
    :raises ValueError: if the arrays do not fit together
    """
    _check_windows(real, synthetic)
    rows = synthetic.reshape(-1, synthetic.shape[-1])
    pairs = ((correlations(real), correlations(synthetic)), (correlations(real, True), correlations(synthetic, True)))
    clustering = np.abs(absolute_acf(real) - absolute_acf(synthetic))
    drawdowns = [max_drawdowns(windows)[:, 0] for windows in (real, synthetic)]
    result = {
        "std_error": np.abs(synthetic.std(axis=(0, 1)) / real.std(axis=(0, 1)) - 1.0).mean(),
        "kurtosis": kurtosis(rows).mean(),
        "benchmark_kurtosis": kurtosis(rows[:, 0]),
        "tail_quantile_error": np.abs(tail_quantiles(synthetic) / tail_quantiles(real) - 1.0).mean(),
        "hill_losses": hill(synthetic).mean(),
        "hill_gains": hill(synthetic, sign=1.0).mean(),
        "return_acf_error": np.abs(acf(real) - acf(synthetic)).mean(),
        "acf_error": clustering.mean(),
        "benchmark_acf_error": clustering[:, 0].mean(),
        "benchmark_leverage": leverage(synthetic)[0],
        "correlation_error": np.sqrt(((pairs[0][0] - pairs[0][1]) ** 2).mean()),
        "absolute_correlation_error": np.sqrt(((pairs[1][0] - pairs[1][1]) ** 2).mean()),
        "tail_dependence_error": np.abs(lower_tail_dependence(real) - lower_tail_dependence(synthetic)).mean(),
        "mean_drawdown": drawdowns[1].mean(),
        "drawdown_distance": wasserstein_distance(*drawdowns) / drawdowns[0].mean(),
        "mmd": maximum_mean_discrepancy(real, synthetic),
        "signature_distance": signature_distance(real, synthetic),
        "forecast_skill": forecast_skill(synthetic, real),
    }
    return {name: float(value) for name, value in result.items()}


def memorisation(synthetic: np.ndarray, training: np.ndarray, heldout: np.ndarray) -> dict[str, float]:
    """
    Nearness to training windows: shares nearer than 1 % of held-out windows are, of returns (scaled to unit volatility)
    and of volatility paths, and the ratio of median distances of returns to the nearest training window, generated over
    held-out.

    :param synthetic: log returns (n_windows, window, n_series)
    :param training: all training windows (n_training, window, n_series)
    :param heldout: real windows that training did not see, none overlapping a training window (n_heldout, window, n_series)
    """
    returns = [return_points(windows) for windows in (synthetic, training, heldout)]
    paths = [volatility_points(windows) for windows in (synthetic, training, heldout)]
    medians = [np.median(nearest_distances(points, returns[1])) for points in (returns[0], returns[2])]
    return {
        "returns_too_near": near_share(*returns),
        "paths_too_near": near_share(*paths),
        "nearest_ratio": float(medians[0] / medians[1]),
    }


def quality_table(
    logs: np.ndarray, candidates: Mapping[str, Callable[[int], np.ndarray]], window: int, heldout_share: float = HELDOUT_SHARE,
    n_judges: int = N_JUDGES, seed: int = 0,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """
    The figures of several generators side by side, with real windows against themselves as floor, and the usual baselines.

    :param logs: training log returns, benchmark first (n_days, n_series)
    :param candidates: by name, each gives so many windows (n, window, n_series)
    :param window: days
    :param heldout_share: share of the windows, the last ones, that nearness to the rest is judged by
    :param n_judges: seeds of the discriminative score
    :param seed: of the baselines and judges
    :return: figures by name, by candidate
    """
    every = windows_of(logs, window)
    stride = max(len(every) // N_WINDOWS, 1)
    real, n_heldout = every[::stride], max(int(heldout_share * len(every)), 1)
    training, heldout = every[: -n_heldout - window], every[-n_heldout:]
    table = {"real": figures(every, real)}
    table["real"] |= _scores([real_against_real(real, seed + judge) for judge in range(n_judges)])
    garch = GarchCopula.fit(logs)
    everyone = dict(candidates) | {
        "block bootstrap": lambda n: bootstrap_windows(logs, n, window, seed),
        "Gaussian": lambda n: gaussian_windows(logs, n, window, seed),
        "GJR-GARCH-t, t copula": lambda n: garch.windows(n, window, seed),
    }
    for name, draw in everyone.items():
        synthetic = draw(N_WINDOWS)
        table[name] = figures(every, synthetic) | memorisation(synthetic, training, heldout)
        table[name] |= _scores([discriminative_score(real, synthetic, seed + judge) for judge in range(n_judges)])
    return table


def summary(pipeline: RegimeDDPMPipeline, market: MarketData, n_paths: int = 1000, seed: int = 0) -> dict[str, float]:
    """
    Compare generated windows with all windows of a market.

    Values per series are averages over benchmark and assets unless they are named after the benchmark. Errors are over
    pairs of series (correlations) or lags and series (autocorrelations).

    :param pipeline: the generator
    :param market: the market to compare with, the training market or held-out years of the same assets
    :param n_paths: generated windows; a quarter as many per regime
    :param seed: of all randomness
    :return: figures by name, plain floats; those of a regime without pure windows in the market are left out
    """
    if market.assets != pipeline.state.record.assets:
        raise ValueError(f"The generator has the assets {list(pipeline.state.record.assets)}; got {list(market.assets)}.")
    window = pipeline.state.config.window
    if market.n_days <= 2 * window:
        raise ValueError(f"A comparison needs more than {2 * window} days; got {market.n_days}.")
    generator = torch.Generator().manual_seed(seed)
    real = windows_of(market_logs(market), window)
    synthetic = pipeline.log_returns(n_paths, generator=generator)
    result = _moments(real, "real") | _moments(synthetic, "synthetic") | _errors(real, synthetic)
    regimes = regime_returns(pipeline, market, max(n_paths // len(REGIMES), 1), generator)
    result |= {name: value for name, value in regimes.items() if not name.endswith("_spread")}
    result["too_near_share"] = too_near_share(pipeline, synthetic, market)
    return {name: float(value) for name, value in result.items()}


def too_near_share(pipeline: RegimeDDPMPipeline, synthetic: np.ndarray, market: MarketData) -> float:
    """
    Share of generated volatility paths nearer to a training one than 1 % of held-out ones are; .01 if nothing is memorised.

    The training windows are the first ones of the market and the held-out ones the last, as in training.

    :param synthetic: log returns (n_paths, window, n_series)
    :param market: the training market
    """
    window = synthetic.shape[1]
    real = windows_of(market_logs(market), window)
    n_heldout = max(int(pipeline.state.config.holdout * len(real)), 1)
    return near_share(*map(volatility_points, (synthetic, real[: -n_heldout - window], real[-n_heldout:])))


def regime_returns(
    pipeline: RegimeDDPMPipeline, market: MarketData, n_paths: int, generator: torch.Generator
) -> dict[str, float]:
    """
    Mean and spread of the benchmark's return over a window spent in one regime.

    :param pipeline: the generator
    :param market: to compare with
    :param n_paths: per regime
    :param generator: source of all randomness
    """
    window = pipeline.state.config.window
    real = windows_of(market_logs(market), window)
    labels = RuleRegimes().detect(market.benchmark_returns).labels
    purity = windows_of(np.eye(len(REGIMES))[labels], window).mean(axis=1)
    result = {}
    for index, regime in enumerate(REGIMES):
        pure = purity[:, index] >= REGIME_PURITY
        if pure.any():
            returns = np.expm1(real[pure, :, 0].sum(axis=1))
            result |= {f"real_{regime}_return": returns.mean(), f"real_{regime}_spread": returns.std()}
            result[f"real_{regime}_windows"] = pure.sum()
        drawn = np.expm1(pipeline.log_returns(n_paths, regimes=regime, generator=generator)[..., 0].sum(axis=1))
        result |= {f"synthetic_{regime}_return": drawn.mean(), f"synthetic_{regime}_spread": drawn.std()}
    return {name: float(value) for name, value in result.items()}


def _scores(scores: list[float]) -> dict[str, float]:
    return {"discriminative": float(np.mean(scores)), "discriminative_std": float(np.std(scores))}


def _check_windows(real: np.ndarray, synthetic: np.ndarray) -> None:
    for name, windows in (("real", real), ("synthetic", synthetic)):
        if np.ndim(windows) != 3 or not np.isfinite(windows).all():
            raise ValueError(f"`{name}` must be finite, (n_windows, window, n_series); got shape {np.shape(windows)}.")
    if real.shape[1:] != synthetic.shape[1:]:
        raise ValueError(f"Windows must have the same days and series; got {real.shape[1:]} and {synthetic.shape[1:]}.")


def _moments(logs: np.ndarray, name: str) -> dict[str, float]:
    rows = logs.reshape(-1, logs.shape[-1])
    return {
        f"{name}_std": rows.std(axis=0).mean(),
        f"{name}_benchmark_std": rows[:, 0].std(),
        f"{name}_kurtosis": kurtosis(rows).mean(),
        f"{name}_benchmark_kurtosis": kurtosis(rows[:, 0]),
        f"{name}_benchmark_leverage": leverage(logs)[0],
        f"{name}_benchmark_acf": absolute_acf(logs)[:, 0].mean(),
    }


def _errors(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    clustering = np.abs(absolute_acf(real) - absolute_acf(synthetic))
    return {
        "acf_error": clustering.mean(),
        "benchmark_acf_error": clustering[:, 0].mean(),
        "correlation_error": np.sqrt(((correlations(real) - correlations(synthetic)) ** 2).mean()),
        "absolute_correlation_error": np.sqrt(((correlations(real, True) - correlations(synthetic, True)) ** 2).mean()),
    }
