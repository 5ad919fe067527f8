"""Markets that the tests share, and the ways in which they are perturbed."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.market import MarketData, bundled_prices, load_bundled


def pytest_configure() -> None:
    """One thread for torch in each of the workers and their subprocesses: they share the cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def simulate_market(n_days: int = 320, n_assets: int = 4, seed: int = 0, exogenous: bool = False, **kwargs) -> MarketData:
    """One common factor plus noise, the days of high volatility in runs, cash that earns something."""
    rng = np.random.default_rng(seed)
    volatility = np.exp(0.4 * np.sin(np.arange(n_days) / 25.0))[:, None]
    returns = 0.0003 + volatility * (
        0.007 * rng.standard_normal((n_days, 1)) + 0.012 * rng.standard_normal((n_days, n_assets))
    )
    if exogenous:
        kwargs["asset_features"] = {"signal": rng.standard_normal((n_days, n_assets))}
        kwargs["market_features"] = {"mood": rng.standard_normal(n_days)}
    return MarketData(
        dates=pd.bdate_range("2000-01-03", periods=n_days).to_numpy(),
        assets=tuple(f"asset {i}" for i in range(n_assets)),
        returns=returns,
        benchmark_returns=returns.mean(axis=1) + 0.001 * rng.standard_normal(n_days),
        benchmark="index",
        risk_free=1e-4 * rng.uniform(size=n_days),
        **kwargs,
    )


def change_from(market: MarketData, row: int, seed: int = 0) -> MarketData:
    """The same market, but for everything that becomes known at rows >= ``row``: multiplied by random factors."""
    rng = np.random.default_rng(seed)

    def change(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[row:] = (changed[row:] + 1e-3) * rng.uniform(-3.0, 3.0, changed[row:].shape)
        return changed

    return MarketData(
        market.dates,
        market.assets,
        change(market.returns),
        change(market.benchmark_returns),
        market.benchmark,
        market.risk_free,
        {name: change(values) for name, values in market.asset_features.items()},
        {name: change(values) for name, values in market.market_features.items()},
        market.splits,
    )


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory) -> str:
    """The cache of all tests, those of subprocesses too: never the user's."""
    folder = os.environ["QUANTFLUX_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for torch in a module's own process, whatever stood in the environment."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_market() -> Callable[..., MarketData]:
    return simulate_market


@pytest.fixture(scope="session")
def change_future() -> Callable[..., MarketData]:
    return change_from


@pytest.fixture(scope="session")
def market() -> MarketData:
    """A small simulated market with exogenous features."""
    return simulate_market(exogenous=True)


@pytest.fixture(scope="session")
def bundled() -> MarketData:
    """The default market: six real stocks."""
    return load_bundled()


@pytest.fixture(scope="session")
def all_stocks() -> MarketData:
    """The twenty bundled stocks."""
    return load_bundled(tuple(bundled_prices()[0].columns))


@pytest.fixture
def prices() -> pd.DataFrame:
    """Clean prices of three assets, 300 days."""
    steps = np.random.default_rng(5).normal(0.0003, 0.01, (300, 3))
    dates = pd.bdate_range("2010-01-04", periods=300)
    return pd.DataFrame(100.0 * np.exp(steps.cumsum(axis=0)), index=dates, columns=["A", "B", "C"])
