"""
How like the training market the generated windows are, in plain numbers.

Marginals, correlations and the dependence on conditions were calibrated on the training years, so agreement with them says
little by itself: pass held-out years as well. The memorisation figure asks the opposite question: too like?
"""

import numpy as np
import torch
from scipy.stats import kurtosis

from quantflux_sb3.diffusion.pipeline import RegimeDDPMPipeline
from quantflux_sb3.diffusion.representation import market_logs
from quantflux_sb3.diffusion.smoothing import VOLATILITY_HALF_WIDTH, block_means, log_volatility
from quantflux_sb3.diffusion.stylised import absolute_acf, leverage, windows_of
from quantflux_sb3.market.data import MarketData
from quantflux_sb3.regimes import REGIMES, RuleRegimes

#: Share of a real window's days that must lie in a regime for it to count.
REGIME_PURITY = 0.9


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
    synthetic = _draw(pipeline, n_paths, generator)
    figures = _moments(real, "real") | _moments(synthetic, "synthetic") | _errors(real, synthetic)
    figures |= _regime_returns(pipeline, market, real, max(n_paths // len(REGIMES), 1), generator)
    figures["too_near_share"] = too_near_share(pipeline, synthetic, market)
    return {name: float(value) for name, value in figures.items()}


def too_near_share(pipeline: RegimeDDPMPipeline, synthetic: np.ndarray, market: MarketData) -> float:
    """
    Share of generated windows nearer to a training window than 1 % of held-out windows are; .01 if nothing is memorised.

    Distances are Euclidean between smooth log-volatility paths, because paths are all that the network draws. The training
    windows are the first ones of the market and the held-out ones the last, as in training.

    :param synthetic: log returns (n_paths, window, n_series)
    :param market: the training market
    """
    window, holdout = synthetic.shape[1], pipeline.state.config.holdout
    real = windows_of(market_logs(market), window)
    n_heldout = max(int(holdout * len(real)), 1)
    training, heldout, drawn = map(_volatility_points, (real[: -n_heldout - window], real[-n_heldout:], synthetic))
    limit = np.quantile(_nearest(heldout, training), 0.01)
    return float((_nearest(drawn, training) < limit).mean())


def _draw(pipeline: RegimeDDPMPipeline, n_paths: int, generator: torch.Generator, regime: str | None = None) -> np.ndarray:
    returns, benchmark = pipeline(n_paths, regimes=regime, generator=generator, return_dict=False)
    return np.log1p(np.concatenate([benchmark[..., None], returns], axis=-1))


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
    rows = [logs.reshape(-1, logs.shape[-1]) for logs in (real, synthetic)]
    above = np.triu_indices(real.shape[-1], 1)
    plain, absolute = (
        np.subtract(*(np.corrcoef(change(values).T)[above] for values in rows)) for change in (np.asarray, np.abs)
    )
    acf = np.abs(absolute_acf(real) - absolute_acf(synthetic))
    return {
        "acf_error": acf.mean(),
        "benchmark_acf_error": acf[:, 0].mean(),
        "correlation_error": np.sqrt((plain**2).mean()),
        "absolute_correlation_error": np.sqrt((absolute**2).mean()),
    }


def _regime_returns(
    pipeline: RegimeDDPMPipeline, market: MarketData, real: np.ndarray, n_paths: int, generator: torch.Generator
) -> dict[str, float]:
    """Mean return of the benchmark over a window spent in one regime."""
    labels = RuleRegimes().detect(market.benchmark_returns).labels
    purity = windows_of(np.eye(len(REGIMES))[labels], real.shape[1]).mean(axis=1)
    figures = {}
    for index, regime in enumerate(REGIMES):
        pure = purity[:, index] >= REGIME_PURITY
        if pure.any():
            figures[f"real_{regime}_return"] = np.expm1(real[pure, :, 0].sum(axis=1)).mean()
            figures[f"real_{regime}_windows"] = pure.sum()
        drawn = _draw(pipeline, n_paths, generator, regime)
        figures[f"synthetic_{regime}_return"] = np.expm1(drawn[..., 0].sum(axis=1)).mean()
    return figures


def _volatility_points(logs: np.ndarray) -> np.ndarray:
    """Block means of the smooth log volatility within each window (n, n_blocks * n_series)."""
    n, window, n_series = logs.shape
    smooth = log_volatility(logs.transpose(1, 0, 2).reshape(window, n * n_series), VOLATILITY_HALF_WIDTH)
    return block_means(smooth.reshape(window, n, n_series).transpose(1, 0, 2)).reshape(n, -1)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    squares = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2.0 * points @ others.T
    return np.sqrt(np.maximum(squares.min(axis=1), 0.0))
