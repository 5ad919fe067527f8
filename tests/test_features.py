"""Feature tables: their definitions, their scale, and that they see no future."""

import numpy as np
import pandas as pd
import pytest

from quantflux_sb3.features import FEATURE_LIMIT, FeatureConfig, asset_block, correlation_descriptors, market_block
from quantflux_sb3.layout import Block, ObservationLayout
from quantflux_sb3.market import LONGEST_WINDOW, WARMUP_DAYS, MarketData

CONFIGS = [FeatureConfig(), FeatureConfig((10, 42), (50,), 7, 21)]


def tables(market, config):
    return [table for _, table in (asset_block(market, config), market_block(market, config))]


def column(market, name, asset, config=CONFIGS[0]):
    block, table = asset_block(market, config)
    return table.reshape(market.n_days, market.n_assets, -1)[:, asset, block.columns.index(name)]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("row", [WARMUP_DAYS, 200, 319])
def test_prefix_of_the_market_gives_the_same_rows(market, config, row):
    for short, full in zip(tables(market.window(0, row), config), tables(market, config), strict=True):
        np.testing.assert_array_equal(short, full[:row])


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("row", [WARMUP_DAYS, 200, 319])
def test_features_see_no_future_but_do_see_their_own_row(market, change_future, config, row):
    for changed, full in zip(tables(change_future(market, row), config), tables(market, config), strict=True):
        np.testing.assert_array_equal(changed[:row], full[:row])
        moved = np.abs(changed[row] - full[row]) > 1e-7
        assert moved.mean() > 0.5  # most of the columns react to the row itself


def test_features_of_real_stocks_are_causal(all_stocks):
    config, cut = FeatureConfig(), 1500
    for short, full in zip(tables(all_stocks.window(0, cut), config), tables(all_stocks.window(0, 1700), config), strict=True):
        np.testing.assert_array_equal(short, full[:cut])


def test_momentum_and_distance_from_the_average_by_their_definitions(market):
    asset, row = 2, 250
    log_returns = np.log1p(market.returns[:, asset])
    price = np.exp(log_returns.cumsum())
    variance, keep = 0.25**2 / 252, 0.5 ** (1 / 42)
    for r in log_returns[: row + 1]:
        variance = keep * variance + (1 - keep) * r * r
    slow = variance**0.5
    for days in (5, 21, 63, 126):
        expected = log_returns[row - days + 1 : row + 1].sum() / (slow * days**0.5)
        assert column(market, f"momentum_{days}", asset)[row] == pytest.approx(np.clip(expected, -5, 5), rel=1e-5)
    for days in (20, 100):
        average = price[row - days + 1 : row + 1].mean()
        expected = 2.0 * (price[row] / average - 1.0) / (slow * days**0.5)
        assert column(market, f"sma_distance_{days}", asset)[row] == pytest.approx(expected, rel=1e-5)
    assert column(market, "volatility", asset)[row] == pytest.approx(np.log(slow * 252**0.5 / 0.25), rel=1e-5)


def test_rsi_by_wilders_recursion(market):
    asset, days = 1, 14
    change = np.diff(np.exp(np.log1p(market.returns[:, asset]).cumsum()))
    up = pd.Series(np.maximum(change, 0.0)).ewm(alpha=1 / days, adjust=False).mean()
    down = pd.Series(np.maximum(-change, 0.0)).ewm(alpha=1 / days, adjust=False).mean()
    expected = (100.0 - 100.0 / (1.0 + up / down) - 50.0) / 15.0
    np.testing.assert_allclose(column(market, "rsi_14", asset)[-50:], expected.to_numpy()[-50:], rtol=1e-4, atol=1e-5)


def test_relative_momentum_sums_to_zero_over_the_assets(market):
    values = [column(market, "relative_momentum", asset)[200:] for asset in range(market.n_assets)]
    np.testing.assert_allclose(np.sum(values, axis=0), 0.0, atol=1e-5)
    assert np.std(values) > 0.1


@pytest.mark.parametrize(("n_assets", "accuracy"), [(2, 1e-7), (4, 1e-10), (80, 1e-10)])  # two: root of 0
def test_correlation_descriptors_equal_numpy_on_the_window(make_market, n_assets, accuracy):
    returns = make_market(320, n_assets).returns
    table = correlation_descriptors(returns, 63, chunk=50)
    assert (table[:62] == 0.0).all()
    for row in (62, 111, 112, 319):
        correlation = np.corrcoef(returns[row - 62 : row + 1].T)
        pairs = correlation[~np.eye(n_assets, dtype=bool)]
        expected = [pairs.mean(), pairs.std(), np.linalg.eigvalsh(correlation)[-1] / n_assets]
        np.testing.assert_allclose(table[row], expected, rtol=0, atol=accuracy)
    np.testing.assert_array_equal(table, correlation_descriptors(returns, 63))


def test_market_drawdown_is_the_benchmarks(market):
    block, table = market_block(market, FeatureConfig())
    level = np.cumprod(1.0 + market.benchmark_returns)
    expected = [5.0 * (1.0 - level[t] / level[: t + 1].max()) for t in range(market.n_days)]
    np.testing.assert_allclose(table[:, block.columns.index("drawdown")], expected, rtol=0, atol=1e-6)


def test_exogenous_features_stand_as_they_are_at_the_end_of_their_block(market):
    block, table = asset_block(market, FeatureConfig())
    assert block.columns[-1] == "signal" and block.n_exogenous == 1
    seen = table.reshape(market.n_days, market.n_assets, -1)[:, :, -1]
    np.testing.assert_array_equal(seen, market.asset_features["signal"].astype(np.float32))
    block, table = market_block(market, FeatureConfig())
    assert block.columns[-1] == "mood"
    np.testing.assert_array_equal(table[:, -1], market.market_features["mood"].astype(np.float32))
    block, table = asset_block(market, FeatureConfig(exogenous=False))
    assert "signal" not in block.columns and table.shape[1] == block.size


def test_features_are_of_one_scale_on_real_stocks(all_stocks):
    """Within the limits, finite, and about one standard deviation wide, so that nothing needs normalising."""
    for build in (asset_block, market_block):
        block, table = build(all_stocks, FeatureConfig())
        values = table[WARMUP_DAYS:].reshape(-1, len(block.columns))
        assert np.isfinite(values).all() and np.abs(values).max() <= FEATURE_LIMIT
        for name, spread, centre in zip(block.columns, values.std(axis=0), values.mean(axis=0), strict=True):
            assert 0.3 < spread < 2.5, (name, spread)
            assert abs(centre) < 1.5, (name, centre)


def test_permuting_the_assets_permutes_their_columns(market):
    order = [2, 0, 3, 1]
    moved = MarketData(market.dates, [market.assets[i] for i in order], market.returns[:, order], market.benchmark_returns)
    plain = MarketData(market.dates, market.assets, market.returns, market.benchmark_returns)
    a, b = (asset_block(m, FeatureConfig())[1].reshape(market.n_days, market.n_assets, -1) for m in (plain, moved))
    np.testing.assert_allclose(b, a[:, order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_a_stock_that_stands_still_or_is_wiped_out_has_finite_features(market, level):
    returns = market.returns.copy()
    returns[150:, 0] = 0.0
    returns[150, 0] = level
    for _, table in (
        asset_block(MarketData(market.dates, market.assets, returns, market.benchmark_returns), FeatureConfig()),
        market_block(MarketData(market.dates, market.assets, returns, market.benchmark_returns), FeatureConfig()),
    ):
        assert np.isfinite(table).all() and np.abs(table).max() <= FEATURE_LIMIT


def test_tables_are_shared_and_read_only(market):
    config = FeatureConfig()
    (_, first), (_, second) = config.blocks(market)
    assert config.blocks(market)[0][1] is first and FeatureConfig().blocks(market)[1][1] is second
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1.0


@pytest.mark.parametrize("windows", [dict(momentum_days=(1,)), dict(sma_days=(LONGEST_WINDOW + 1,)), dict(correlation_days=0)])
def test_windows_that_do_not_fit_the_warm_up_are_refused(windows):
    with pytest.raises(ValueError, match=f"between 2 and {LONGEST_WINDOW} days"):
        FeatureConfig(**windows)


def test_layout_says_where_each_block_stands():
    layout = ObservationLayout((Block("assets", ("a", "b"), 3, n_exogenous=1), Block("rest", ("c",), limit=1.0, signed=False)))
    assert layout.slices == {"assets": slice(0, 6), "rest": slice(6, 7)} and layout.size == 7 and layout.n_assets == 3
    np.testing.assert_array_equal(layout.blocks[0].high(), [5, np.inf] * 3)
    np.testing.assert_array_equal(layout.blocks[0].low(), [-5, -np.inf] * 3)
    np.testing.assert_array_equal(layout.blocks[1].low(), [0.0])
