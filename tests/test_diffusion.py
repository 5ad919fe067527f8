"""The generator: representation, training, sampling, saving, scenarios. One small generator is trained for all tests."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import DDIMScheduler, DDPMScheduler  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402
from scipy.signal import lfilter  # noqa: E402

from quantflux_sb3.diffusion import (  # noqa: E402
    GeneratorConfig,
    RegimeDDPMPipeline,
    summary,
    synthetic_markets,
    train_generator,
)
from quantflux_sb3.diffusion.betas import BETA_MEMORY, draw_deviations, fit_deviations  # noqa: E402
from quantflux_sb3.diffusion.calibration import path_inputs  # noqa: E402
from quantflux_sb3.diffusion.conditions import N_MAPS, VolatilityScale  # noqa: E402
from quantflux_sb3.diffusion.latent import STUDENT_DF, LatentVolatility  # noqa: E402
from quantflux_sb3.diffusion.linear import KNOWN_RIDGE, LinearDenoiser  # noqa: E402
from quantflux_sb3.diffusion.quantiles import (  # noqa: E402
    from_gaussian,
    match_quantiles,
    quantile_table,
    to_gaussian,
    transport_map,
)
from quantflux_sb3.diffusion.representation import Representation, market_logs  # noqa: E402
from quantflux_sb3.diffusion.scenarios import draw_regimes  # noqa: E402
from quantflux_sb3.diffusion.smoothing import (  # noqa: E402
    NOISE_REACH,
    block_means,
    filtered,
    spectral_kernel,
    spectrum,
    trend_kernel,
    trend_power,
)
from quantflux_sb3.diffusion.state import GeneratorState  # noqa: E402
from quantflux_sb3.diffusion.stylised import absolute_acf, leverage  # noqa: E402
from quantflux_sb3.diffusion.training import _Trainer  # noqa: E402
from quantflux_sb3.diffusion.windows import shuffled  # noqa: E402
from quantflux_sb3.market import MarketData, load_bundled  # noqa: E402
from quantflux_sb3.regimes import REGIMES  # noqa: E402

QUICK = GeneratorConfig(n_train_steps=150, n_calibration_samples=1000, eval_interval=25)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def market() -> MarketData:
    return load_bundled(("AAPL", "JPM", "XOM"))


@pytest.fixture(scope="module")
def training(market) -> MarketData:
    return market.until("train")


@pytest.fixture(scope="module")
def pipeline(training) -> RegimeDDPMPipeline:
    return train_generator(training, QUICK, seed=1)


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("generator")
    pipeline.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def drawn(pipeline):
    """Unconditional windows that several tests look at."""
    return pipeline(700, generator=seeded())


# quantile maps, transport, kernels


def test_quantile_map_and_its_inverse_undo_each_other():
    values = np.random.default_rng(0).standard_t(3, size=(500, 2))
    table = quantile_table(values)
    scores = to_gaussian(values, table)
    np.testing.assert_allclose(from_gaussian(scores, table), values, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scores.std(axis=0), 1.0, atol=0.02)


def test_quantile_map_survives_ties():
    values = np.repeat([[0.0], [0.0], [1.0], [2.0]], 50, axis=0)
    table = quantile_table(values)
    assert (np.diff(table, axis=1) > 0).all()
    np.testing.assert_allclose(from_gaussian(to_gaussian(values, table), table), values, atol=1e-5)


def test_match_quantiles_shifts_what_lies_beyond_the_ends():
    source, target = quantile_table(np.array([[0.0], [1.0]])), quantile_table(np.array([[10.0], [12.0]]))
    mapped = match_quantiles(np.array([[-3.0], [0.5], [2.0]]), source, target)
    np.testing.assert_allclose(mapped[:, 0], [7.0, 11.0, 13.0], atol=1e-6)


def test_transport_map_gives_the_wanted_covariance():
    source, target = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
    matrix = transport_map(source, target)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    np.testing.assert_allclose(matrix.T @ source @ matrix, target, atol=1e-12)


def test_trend_plus_its_noise_is_white():
    trend, noise, kernel = np.zeros(512), np.zeros(512), spectral_kernel(1.0 - trend_power())
    trend[: len(trend_kernel())], noise[: len(kernel)] = trend_kernel(), kernel
    power = np.abs(np.fft.fft(trend)) ** 2 + np.abs(np.fft.fft(noise)) ** 2
    np.testing.assert_allclose(power, 1.0, atol=0.08)  # the noise filter is cut at 72 days
    assert abs(power.mean() - 1.0) < 0.01


def test_filtered_noise_has_the_spectrum_that_was_measured():
    """White noise has power 1 everywhere; an autoregression of -.3 comes out of its own filter as it went in."""
    rng = np.random.default_rng(0)
    white = rng.standard_normal((1, 200_000))
    np.testing.assert_allclose(spectrum(white), 1.0, atol=0.1)
    reverting = lfilter([1.0], [1.0, 0.3], white)
    kernel = spectral_kernel(spectrum(reverting))[None]
    drawn = filtered(rng.standard_normal((1, 200_000 + 2 * NOISE_REACH, 1)), kernel)[0, :, 0]
    for lag, expected in ((0, 1.0), (1, -0.3), (2, 0.09)):
        found = (drawn[lag:] * drawn[: len(drawn) - lag]).mean() / reverting.var()
        assert found == pytest.approx(expected, abs=0.02)


def test_filters_are_centred_on_their_day():
    white, kernels = np.zeros((1, 10 + 2 * NOISE_REACH, 2)), np.zeros((2, 2 * NOISE_REACH + 1))
    white[0, NOISE_REACH + 4] = 1.0
    kernels[:, NOISE_REACH - 1 : NOISE_REACH + 2] = [[0.5, 1.0, 0.5], [0.0, 2.0, 0.0]]
    out = filtered(white, kernels)[0]
    np.testing.assert_allclose(out[2:7].T, [[0, 0.5, 1, 0.5, 0], [0, 0, 2, 0, 0]], atol=1e-12)
    assert out.shape == (10, 2) and np.abs(np.delete(out, [3, 4, 5], axis=0)).max() < 1e-12


def test_block_means_fill_the_last_block_with_its_last_day():
    np.testing.assert_allclose(block_means(np.arange(6.0)[:, None])[:, 0], [1.5, 4.75])


# representation


def test_encoding_and_decoding_give_the_returns_back(training):
    logs = market_logs(training)
    representation = Representation.fit(training, np.random.default_rng(0))
    paths, noise = representation.encode(logs, np.random.default_rng(1))
    # the daily part's table invents no tails: the few days beyond those it was fitted on are cut
    gap = np.abs(representation.decode(paths, noise) - logs)
    assert (gap < 2e-5).mean() > 0.995 and gap.max() < 0.05
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.03)
    assert paths.shape == (len(logs), 4 + 3)  # volatilities of index and assets, betas of the assets
    np.testing.assert_allclose(paths.std(axis=0), 1.0, atol=0.15)


def test_the_daily_part_is_nearly_white(training):
    representation = Representation.fit(training, np.random.default_rng(0))
    _, noise = representation.encode(market_logs(training), np.random.default_rng(1))
    np.testing.assert_allclose(absolute_acf(noise[None]), 0.0, atol=0.06)
    assert np.abs(absolute_acf(noise[None])).mean() < 0.02


def test_latent_volatility_is_found_again():
    rng = np.random.default_rng(0)
    h = np.zeros(6000)
    for day in range(1, 6000):
        h[day] = 0.98 * h[day - 1] + 0.08 * rng.standard_normal()  # standard deviation .4
    returns = (0.01 * np.exp(h) * rng.standard_normal(6000))[:, None]
    latent = LatentVolatility.fit(returns, rng)
    draws = latent.sample(returns, 20, rng)[..., 0]
    assert np.corrcoef(draws.mean(axis=0), h)[0, 1] > 0.75
    assert 0.3 < draws.std() < 0.5  # draws spread as the truth does; their mean does not
    assert draws.mean(axis=0).std() < draws.std()
    z = returns[:, 0] / np.exp(draws)
    np.testing.assert_allclose(absolute_acf(z[..., None])[:, 0], 0.0, atol=0.05)


def test_wandering_betas_are_found_again():
    rng, n_days, decay = np.random.default_rng(0), 6000, np.exp(-1.0 / BETA_MEMORY)
    wander = lfilter([1.0], [1.0, -decay], 0.4 * np.sqrt(1.0 - decay**2) * rng.standard_normal((n_days, 2)), axis=0)
    wander[:, 1] = 0.0
    market = 0.01 * rng.standard_normal(n_days)
    volatility = np.full((n_days, 2), np.log(0.01))
    returns = wander * market[:, None] + np.exp(volatility) * rng.standard_t(STUDENT_DF, (n_days, 2))
    deviations = fit_deviations(returns, market, volatility, rng)
    assert 0.3 < deviations[0] < 0.5 and deviations[1] < 0.15
    draws = [draw_deviations(returns, market, volatility, deviations, np.ones_like(returns), rng) for _ in range(20)]
    assert np.corrcoef(np.mean(draws, axis=0)[:, 0], wander[:, 0])[0, 1] > 0.8
    assert np.std(draws, axis=1)[:, 0].mean() == pytest.approx(wander[:, 0].std(), rel=0.2)  # draws spread as the truth


def test_a_batch_decodes_as_its_paths_one_by_one(training):
    representation = Representation.fit(training, np.random.default_rng(0))
    encoded = representation.encode(market_logs(training), np.random.default_rng(1))
    paths, noise = (part[:192].reshape(3, 64, -1) for part in encoded)
    alone = np.stack([representation.decode(path, daily) for path, daily in zip(paths, noise, strict=True)])
    np.testing.assert_allclose(representation.decode(paths, noise), alone, rtol=1e-12)


def test_representation_sees_training_dates_only(market):
    stop = market.until("train").n_days

    def fitted(change_from: int) -> dict:
        returns = market.returns.copy()
        returns[change_from:] *= 1.5
        changed = replace(market, returns=returns)
        return vars(Representation.fit(changed.until("train"), np.random.default_rng(0)))

    same, different = fitted(stop), fitted(stop - 1)
    original = vars(Representation.fit(market.until("train"), np.random.default_rng(0)))
    assert all(np.array_equal(original[name], same[name]) for name in original)
    assert not all(np.array_equal(original[name], different[name]) for name in original)


def test_volatility_scale_recovers_a_known_volatility():
    daily = 0.2 / np.sqrt(252) * np.random.default_rng(0).standard_normal((3000, 1))
    scale = VolatilityScale.fit(daily)
    scores, left_over = scale.scores(np.array([0.2, 0.4]))
    assert abs(scores[0, 0]) < 0.3
    np.testing.assert_allclose(left_over[0], 0.0, atol=1e-12)
    assert 0.4 < left_over[1, 0] < np.log(2.0)  # most of a doubling never happened in this market


# training


def test_the_learning_curve_begins_at_the_linear_denoiser_and_falls(pipeline):
    curve = pipeline.state.record.learning_curve
    assert curve["step"] == [0, 25, 50, 75, 100, 125, 150]
    assert curve["heldout_loss"][0] < 0.5  # a network that starts from nothing is at 1 there
    assert min(curve["heldout_loss"]) < curve["heldout_loss"][0]
    assert curve["train_loss"][-1] < 0.995 * curve["train_loss"][0]


def test_a_network_that_does_not_help_is_left_out(training):
    config = replace(QUICK, n_train_steps=4, eval_interval=2, learning_rate=10.0, n_calibration_samples=50)
    pipeline = train_generator(training, config, seed=0)
    assert pipeline.state.record.best_step == 0
    assert not pipeline.unet.out_block.final_conv1d_2.weight.any()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"window": 40}, "at least 48 days"), ({"window": 64.0}, "whole number"), ({"n_train_steps": "a"}, "whole number"),
        ({"guidance_scale": float("nan")}, "finite number"), ({"guidance_scale": -1.0}, "0 to 10"),
        ({"channels": 8}, "a width per level"), ({"volatility_jitter": -1.0}, "may not be negative"),
        ({"num_inference_steps": 2000}, "may not exceed"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        GeneratorConfig(**settings)


def test_trainings_that_cannot_work_are_refused_before_they_begin(training, tmp_path):
    still = replace(training, returns=np.where(np.arange(3) == 1, 0.0, training.returns))
    for arguments, text in (
        ((still,), r"\['JPM'\] never move"), ((training, QUICK, -1), "`seed`"), ((training.returns,), "must be a MarketData"),
        ((training, QUICK, 0, False, None, tmp_path), "`checkpoint`"),
        ((training, QUICK, 0, False, None, tmp_path / "none" / "x.safetensors"), "`checkpoint`"),
        ((training, replace(QUICK, holdout=0.01)), "larger `holdout`"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            train_generator(*arguments)


def test_names_and_indices_of_regimes_are_the_same(pipeline):
    names = ["bull"] * 30 + ["bear"] * 34
    by_name, by_index = (
        pipeline(2, 64, regimes=given, generator=seeded(1)).returns for given in (names, [REGIMES.index(x) for x in names])
    )
    np.testing.assert_array_equal(by_name, by_index)


def test_quantile_maps_hand_nan_through():
    """numba would read beside the table."""
    table = quantile_table(np.random.default_rng(0).standard_normal((100, 1)))
    np.testing.assert_array_equal(to_gaussian(np.array([[np.nan]]), table), [[np.nan]])


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler])
def test_other_schedulers_take_the_place_of_the_solver(pipeline, scheduler):
    before = pipeline.scheduler
    pipeline.scheduler = scheduler.from_config(before.config)
    try:
        drawn = pipeline(200, generator=seeded(), num_inference_steps=50)
    finally:
        pipeline.scheduler = before
    expected = pipeline(200, generator=seeded(1))
    assert drawn.benchmark_returns.std() == pytest.approx(expected.benchmark_returns.std(), rel=0.25)


@pytest.mark.parametrize("known", [False, True])
def test_linear_denoiser_is_the_conditional_mean_of_gaussian_paths(known):
    """Against the joint covariance of clean and noisy paths, solved as a whole."""
    rng, n_channels, n_blocks, n_seen, n_before, a2 = np.random.default_rng(0), 2, 5, 4, 2, 0.3
    size = n_channels * n_blocks
    factor = rng.standard_normal((size, size))
    covariance, weights = factor @ factor.T / size, rng.standard_normal((4, 1 + 2 * N_MAPS, n_channels))
    linear = LinearDenoiser(weights, np.stack([covariance] * 4))
    maps = np.zeros((3, n_blocks, N_MAPS))
    maps[..., -2], maps[..., -1] = rng.standard_normal((3, n_blocks)), 1.0
    before = torch.from_numpy(rng.standard_normal((3, n_channels, n_before))).float()
    noisy = rng.standard_normal((3, n_channels, n_seen))
    given = linear.given(maps, n_seen, before, np.full(3, known))
    velocity = given.velocity(torch.from_numpy(noisy).float(), torch.full((3,), a2)).numpy()
    mean = (path_inputs(maps) @ weights[2]).transpose(0, 2, 1)
    at = np.arange(size).reshape(n_channels, n_blocks)
    seen, past = at[:, -n_seen:].ravel(), at[:, :n_before].ravel() if known else np.empty(0, dtype=int)
    a, s = np.sqrt(a2), np.sqrt(1.0 - a2)
    cross = np.hstack([a * covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, past)]])
    top = np.hstack([a2 * covariance[np.ix_(seen, seen)] + s**2 * np.eye(len(seen)), a * covariance[np.ix_(seen, past)]])
    bottom = np.hstack([a * covariance[np.ix_(past, seen)], covariance[np.ix_(past, past)] + KNOWN_RIDGE * np.eye(len(past))])
    for row in range(3):
        m = mean[row].ravel()
        gap = np.append(noisy[row].ravel() - a * m[seen], (before[row].numpy().ravel() - m[past]) if known else [])
        clean = m[seen] + cross @ np.linalg.solve(np.vstack([top, bottom]), gap)
        np.testing.assert_allclose(velocity[row].ravel(), (a * noisy[row].ravel() - clean) / s, atol=1e-3)


def test_shuffled_assets_keep_volatility_and_beta_together():
    paths = np.arange(8.0)[None, None] + np.zeros((4, 3, 1))  # market, three volatilities, three betas, trend
    mixed = shuffled(paths, np.array([True, True, True, False]), np.random.default_rng(0))
    np.testing.assert_array_equal(mixed[..., 4:7], mixed[..., 1:4] + 3.0)
    np.testing.assert_array_equal(mixed[..., [0, 7]], paths[..., [0, 7]])
    assert (np.sort(mixed, axis=-1) == paths).all() and (mixed[3] == paths[3]).all() and (mixed[:3] != paths[:3]).any()


def test_the_same_seed_trains_the_same_generator(training):
    config = GeneratorConfig(n_train_steps=4, n_calibration_samples=60, eval_interval=2)
    short = training.window(0, 900)
    torch.manual_seed(5)
    first = train_generator(short, config, seed=3)(2, generator=seeded()).returns
    torch.manual_seed(6)  # the global state must not matter
    np.random.seed(6)
    assert np.array_equal(first, train_generator(short, config, seed=3)(2, generator=seeded()).returns)
    assert not np.array_equal(first, train_generator(short, config, seed=4)(2, generator=seeded()).returns)


def test_an_interrupted_training_goes_on_where_it_stopped(training, tmp_path, monkeypatch):
    config = GeneratorConfig(n_train_steps=8, n_calibration_samples=60, eval_interval=2)
    short, file = training.window(0, 900), tmp_path / "training.safetensors"
    whole = train_generator(short, config, seed=3)

    draw = _Trainer._batch

    def interrupted(self, step):
        if step == 6:
            raise KeyboardInterrupt
        return draw(self, step)

    monkeypatch.setattr(_Trainer, "_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_generator(short, config, seed=3, checkpoint=file)
    assert [path.name for path in tmp_path.iterdir()] == ["training.safetensors"]
    steps = []
    monkeypatch.setattr(_Trainer, "_batch", lambda self, step: steps.append(step) or draw(self, step))
    resumed = train_generator(short, config, seed=3, checkpoint=file)
    assert steps == [5, 6, 7, 8]
    assert resumed.state.record == whole.state.record
    assert np.array_equal(resumed(2, generator=seeded()).returns, whole(2, generator=seeded()).returns)
    with pytest.raises(ValueError, match="is of another training"):
        train_generator(short, config, seed=4, checkpoint=file)
    file.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="no checkpoint of a training, or is damaged"):
        train_generator(short, config, seed=3, checkpoint=file)


def test_training_leaves_the_global_random_state_alone(training):
    before = torch.get_rng_state()
    train_generator(training.window(0, 900), GeneratorConfig(n_train_steps=2, n_calibration_samples=60), seed=3)
    assert torch.equal(before, torch.get_rng_state())


def test_two_assets_and_a_standing_price_are_no_trouble():
    rng = np.random.default_rng(0)
    returns = 0.01 * rng.standard_normal((760, 2))
    returns[100:200, 1] = 0.0
    dates = np.busday_offset("2000-01-03", np.arange(760))
    small = MarketData(dates, ("A", "B"), returns, returns.mean(axis=1))
    config = GeneratorConfig(n_train_steps=4, n_calibration_samples=200)
    drawn = train_generator(small, config)(20, generator=seeded())
    assert np.isfinite(drawn.returns).all()
    np.testing.assert_allclose(drawn.returns.std(axis=(0, 1)), returns.std(axis=0), rtol=0.25)


def test_a_short_market_is_refused(training):
    with pytest.raises(ValueError, match="at least 750 training days; got 700"):
        train_generator(training.window(0, 700))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"channels": (20, 64)}, "multiples of 8"),
        ({"window": 66}, "multiples of 4"),
        ({"channels": (8, 8, 8, 8, 8)}, "multiples of 4, and window"),
        ({"batch_size": 0}, "`batch_size` must be positive"),
        ({"drop_all": 0.9}, "may not exceed 1"),
        ({"history_share": 1.5}, "`history_share` is a share"),
        ({"holdout": 0.0}, "0 < holdout"),
    ],
)
def test_impossible_settings_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        GeneratorConfig(**settings)


# sampling


def test_paths_have_the_asked_shape_and_are_returns(pipeline):
    for n_paths, n_days in ((1, 1), (3, 64), (2, 150)):
        drawn = pipeline(n_paths, n_days, generator=seeded())
        assert drawn.returns.shape == (n_paths, n_days, 3)
        assert drawn.benchmark_returns.shape == (n_paths, n_days)
        assert drawn.returns.dtype == drawn.benchmark_returns.dtype == np.float64
        assert np.isfinite(drawn.returns).all() and drawn.returns.min() > -1.0 and drawn.benchmark_returns.min() > -1.0
    assert isinstance(pipeline(return_dict=False, generator=seeded()), tuple)


def test_the_generator_argument_decides_everything(pipeline):
    first = pipeline(4, 100, generator=seeded(1)).returns
    np.random.seed(0)
    torch.manual_seed(0)
    assert np.array_equal(first, pipeline(4, 100, generator=seeded(1)).returns)
    assert not np.allclose(first, pipeline(4, 100, generator=seeded(2)).returns)


def test_the_batch_size_changes_nothing(pipeline):
    whole = pipeline(10, 100, generator=seeded(1)).returns
    parts = pipeline(10, 100, generator=seeded(1), batch_size=3).returns
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_moments_match_training(drawn, training):
    np.testing.assert_allclose(drawn.returns.std(axis=(0, 1)), training.returns.std(axis=0), rtol=0.15)
    np.testing.assert_allclose(drawn.benchmark_returns.std(), training.benchmark_returns.std(), rtol=0.15)
    columns = np.column_stack([drawn.benchmark_returns.reshape(-1), drawn.returns.reshape(-1, 3)])
    real = np.column_stack([training.benchmark_returns, training.returns])
    np.testing.assert_allclose(np.corrcoef(columns.T), np.corrcoef(real.T), atol=0.06)


def test_volatility_clusters(drawn, training):
    logs = np.log1p(drawn.benchmark_returns)[..., None]
    real = np.log1p(training.benchmark_returns)[None, :, None]
    found, wanted = absolute_acf(logs).mean(), absolute_acf(real).mean()
    assert 0.6 * wanted < found < 1.3 * wanted
    assert -0.15 < leverage(logs)[0] < -0.03


def test_volatility_dial_does_what_it_says(pipeline):
    asked = np.array([0.08, 0.15, 0.3, 0.6])
    got = np.array([pipeline(150, volatility=v, generator=seeded()).benchmark_returns.std() for v in asked]) * np.sqrt(252)
    assert (np.diff(got) > 0).all()
    np.testing.assert_allclose(got, asked, rtol=0.25)


def test_volatility_can_change_within_a_path(pipeline):
    path = np.repeat([0.08, 0.4], 64)
    drawn = pipeline(200, 128, volatility=path, generator=seeded()).benchmark_returns
    assert drawn[:, 90:].std() > 2.5 * drawn[:, :38].std()


def test_regimes_set_drift_and_volatility(pipeline):
    drawn = {name: pipeline(1500, regimes=name, generator=seeded()).benchmark_returns for name in REGIMES}
    drift = {name: returns.sum(axis=1).mean() for name, returns in drawn.items()}
    assert drift["bull"] > 0.02 > -0.005 > drift["bear"]
    assert drawn["volatile"].std() > 1.5 * drawn["sideways"].std()


def test_regime_name_and_indices_agree(pipeline):
    named = pipeline(2, 80, regimes="volatile", generator=seeded()).returns
    assert np.array_equal(named, pipeline(2, 80, regimes=np.full(80, 2), generator=seeded()).returns)
    assert np.array_equal(named, pipeline(2, 80, regimes=np.full((2, 80), 2), generator=seeded()).returns)


def test_paths_continue_a_history(pipeline, market):
    year = market.dates.astype("datetime64[M]")
    crisis, calm = (market.window(0, int(np.searchsorted(year, np.datetime64(end)))) for end in ("2008-12", "1994-01"))
    drawn = [pipeline(100, 80, history=past, generator=seeded()).benchmark_returns for past in (crisis, calm)]
    early = [returns[:, :20].std() for returns in drawn]
    assert early[0] > 2.0 * early[1]
    assert drawn[0][:, 60:].std() < 0.95 * early[0]  # and the crisis abates
    plain = np.column_stack([crisis.benchmark_returns, crisis.returns])
    again = pipeline(100, 80, history=plain, generator=seeded()).benchmark_returns
    assert np.array_equal(again, drawn[0])
    assert pipeline(3, 7, regimes="bear", volatility=0.3, history=crisis, generator=seeded()).returns.shape == (3, 7, 3)


@pytest.mark.parametrize(
    ("history", "text"),
    [
        (np.zeros((63, 4)), r"at least 64 days x 4 series, SP500 first"),
        (np.zeros((100, 3)), r"shape \(100, 3\); expected at least 64 days x 4"),
        (np.full((100, 4), np.nan), "first bad row is 0"),
        (np.vstack([np.zeros((80, 4)), np.full((1, 4), -1.0)]), "first bad row is 80"),
    ],
)
def test_impossible_histories_are_refused(pipeline, history, text):
    with pytest.raises(ValueError, match=text):
        pipeline(2, history=history)


def test_a_history_of_other_assets_is_refused(pipeline):
    with pytest.raises(ValueError, match=r"has the assets \['AAPL', 'JPM', 'XOM'\]; got .*'MSFT'"):
        pipeline(2, history=load_bundled(("AAPL", "MSFT", "XOM")))


def test_guidance_strengthens_the_condition(pipeline):
    plain, guided = (
        pipeline(400, regimes="volatile", guidance_scale=scale, generator=seeded()).benchmark_returns.std()
        for scale in (1.0, 2.0)
    )
    assert guided > plain


def test_long_paths_have_no_seams_in_volatility(pipeline):
    logs = np.log1p(pipeline(400, 320, generator=seeded()).benchmark_returns)
    # 1. the level stays: every 64 days have about the same volatility
    levels = logs.reshape(400, 5, 64).std(axis=(0, 2))
    np.testing.assert_allclose(levels, levels.mean(), rtol=0.15)
    # 2. days on the two sides of a seam are as alike as days four apart elsewhere
    size = np.log(np.abs(logs) + 1e-4).reshape(400, 80, 4).mean(axis=2)
    alike = np.array([np.corrcoef(size[:, block], size[:, block + 1])[0, 1] for block in range(79)])
    seams = np.arange(15, 79, 16)
    inside = np.delete(alike, seams)
    assert abs(alike[seams].mean() - inside.mean()) < 0.08
    assert inside.mean() > 0.25


def test_ddpm_scheduler_can_take_the_place_of_the_solver(folder, training):
    swapped = RegimeDDPMPipeline.from_pretrained(folder)
    swapped.scheduler = DDPMScheduler.from_config(swapped.scheduler.config)
    assert swapped.scheduler.config.prediction_type == "v_prediction" and not swapped.scheduler.config.clip_sample
    drawn = swapped(60, num_inference_steps=60, generator=seeded()).benchmark_returns
    np.testing.assert_allclose(drawn.std(), training.benchmark_returns.std(), rtol=0.3)
    assert np.array_equal(drawn, swapped(60, num_inference_steps=60, generator=seeded()).benchmark_returns)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"regimes": "crash"}, "Unknown regime 'crash'; expected one of"),
        ({"regimes": np.array([4] * 64)}, "Unknown regime"),
        ({"regimes": np.array([0.0] * 64)}, "integer indices"),
        ({"regimes": np.zeros(10, dtype=int)}, r"shape \(10,\); expected \(64,\)"),
        ({"volatility": -0.1}, "must be positive, annualised"),
        ({"volatility": np.nan}, "must be positive, annualised"),
        ({"volatility": np.array([0.1] * 63 + [np.inf])}, "must be positive, annualised"),
        ({"volatility": np.full((3, 64), 0.1)}, r"shape \(3, 64\)"),
        ({"n_days": 0}, "`n_days` must be a whole number >= 1"),
        ({"n_days": 2.5}, "`n_days` must be a whole number >= 1"),
        ({"n_paths": 0}, "`n_paths` must be a whole number >= 1"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"num_inference_steps": 2000}, "`num_inference_steps` must lie in 1 to 1000"),
        ({"num_inference_steps": 0}, "`num_inference_steps` must lie in 1 to 1000"),
        ({"guidance_scale": np.nan}, "`guidance_scale` must be a number"),
        ({"guidance_scale": 1000.0}, "`guidance_scale` must be a number from 0 to 10"),
        ({"guidance_scale": "a"}, "`guidance_scale` must be a number from 0 to 10"),
        ({"num_inference_steps": 1.5}, "`num_inference_steps` must be a whole number"),
        ({"volatility": 30.0}, "at most 5"),
        ({"volatility": True}, "`volatility` must be numbers"),
        ({"volatility": "high"}, "`volatility` must be numbers"),
        ({"generator": 3}, "must be a torch.Generator"),
        ({"regimes": ["bull", "up"] * 32}, "Unknown regime 'up'"),
        ({"history": "AAPL"}, "got str"),
        ({"history": np.full((64, 4), 100.0)}, "look like prices"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(pipeline, arguments, text):
    with pytest.raises(ValueError, match=text) as error:
        pipeline(**arguments)
    assert "\n" not in str(error.value)


# saving and loading


def test_a_fresh_process_draws_the_same_paths(pipeline, folder, tmp_path):
    code = (
        "import sys, numpy, torch\n"
        "torch.set_num_threads(1)\n"
        "from quantflux_sb3.diffusion import RegimeDDPMPipeline\n"
        "pipeline = RegimeDDPMPipeline.from_pretrained(sys.argv[1])\n"
        "drawn = pipeline(3, 150, regimes='bear', volatility=.3, generator=torch.Generator().manual_seed(7))\n"
        "numpy.savez(sys.argv[2], r=drawn.returns, b=drawn.benchmark_returns)\n"
    )
    file = tmp_path / "drawn.npz"
    subprocess.run([sys.executable, "-c", code, str(folder), str(file)], check=True, capture_output=True, timeout=120)
    here, there = pipeline(3, 150, regimes="bear", volatility=0.3, generator=seeded(7)), np.load(file)
    assert here.returns.tobytes() == there["r"].tobytes()
    assert here.benchmark_returns.tobytes() == there["b"].tobytes()


def test_only_json_and_safetensors_are_written(folder):
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    record = json.loads((folder / "generator.json").read_text())["record"]
    assert record["assets"] == ["AAPL", "JPM", "XOM"] and record["benchmark"] == "SP500"
    assert record["train_start"] == "1990-01-03" and record["train_end"] == "2012-12-31"
    assert record["regime_detector"].startswith("RuleRegimes(")


def test_loaded_state_equals_the_saved_one(pipeline, folder):
    loaded = GeneratorState.load(folder)
    assert loaded.config == pipeline.state.config and loaded.record == pipeline.state.record
    for kept, original in zip(loaded.calibrations, pipeline.state.calibrations, strict=True):
        assert all(np.array_equal(kept.arrays()[name], array) for name, array in original.arrays().items())


def test_a_folder_that_is_no_generator_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match=r"is not a saved RegimeDDPMPipeline: model_index.json is missing"):
        RegimeDDPMPipeline.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'nowhere/at/all' is not a saved RegimeDDPMPipeline"):
        RegimeDDPMPipeline.from_pretrained("nowhere/at/all")
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    with pytest.raises(ValueError, match=r"generator.json is missing"):
        RegimeDDPMPipeline.from_pretrained(tmp_path)


def test_a_generator_of_an_older_version_is_refused_in_one_line(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "older")
    arrays = load_file(folder / "generator.safetensors")
    del arrays["calibration.both.phi_weights"]
    save_file(arrays, tmp_path / "older" / "generator.safetensors")
    with pytest.raises(
        ValueError, match=r"^'.*' is damaged or was saved by another version \(KeyError.*\)\. Train it again\.$"
    ):
        RegimeDDPMPipeline.from_pretrained(tmp_path / "older")


def test_a_pipeline_needs_its_state(pipeline):
    with pytest.raises(ValueError, match="needs its `state`"):
        RegimeDDPMPipeline(pipeline.unet, pipeline.scheduler)


def test_dates_of_training_are_refused(pipeline, market):
    start, stop = market.splits.rows("test", market.dates)
    pipeline.check_unseen(market.dates[start:stop])
    with pytest.raises(ValueError, match=r"trained on 1990-01-03 to 2012-12-31; 1 of the .* lie within, first 2012-12-31"):
        pipeline.check_unseen(np.append(market.dates[start:stop], np.datetime64("2012-12-31")))


# synthetic markets


def test_synthetic_markets_are_markets(pipeline, market):
    first, second = synthetic_markets(pipeline, 2, 400, seed=0, like=market)
    for drawn in (first, second):
        assert drawn.synthetic and drawn.source == "RegimeDDPMPipeline"
        assert drawn.assets == market.assets and drawn.benchmark == market.benchmark
        assert drawn.rows("train") == (129, 400)
        assert drawn.dates[0] == np.datetime64("2013-01-01")
        pipeline.check_unseen(drawn.dates)
    assert not np.array_equal(first.returns, second.returns)
    again = synthetic_markets(pipeline, 2, 400, seed=0, like=market)
    assert [one.content_hash for one in again] == [first.content_hash, second.content_hash]
    assert synthetic_markets(pipeline, 1, 400, seed=1, like=market)[0].content_hash != first.content_hash


def test_regime_paths_follow_the_chain():
    transitions = np.array([[0.9, 0.1, 0.0, 0.0], [0.3, 0.7, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    regimes = draw_regimes(transitions, np.array([1.0, 0.0, 0.0, 0.0]), 50, 2000, np.random.default_rng(0))
    assert (regimes[:, 0] == 0).all()
    assert 0.72 < (regimes == 0).mean() < 0.78  # stationary share 3/4
    assert 0.09 < (regimes[:, 1:][regimes[:, :-1] == 0] == 1).mean() < 0.11


def test_synthetic_markets_refuse_what_they_cannot_stand_in_for(pipeline, market):
    with pytest.raises(ValueError, match=r"trained on .*'AAPL', 'JPM', 'XOM'.* the market has .*'MSFT'"):
        synthetic_markets(pipeline, 1, 400, seed=0, like=load_bundled(("AAPL", "MSFT", "XOM")))
    signal = replace(market, asset_features={"news": np.zeros(market.returns.shape)})
    with pytest.raises(ValueError, match=r"exogenous features \['news'\], which cannot be generated"):
        synthetic_markets(pipeline, 1, 400, seed=0, like=signal)
    with pytest.raises(ValueError, match="`n_days` must be >= 150"):
        synthetic_markets(pipeline, 1, 100, seed=0, like=market)
    with pytest.raises(ValueError, match="`n_markets` must be >= 1"):
        synthetic_markets(pipeline, 0, 400, seed=0, like=market)


# quality


def test_summary_is_plain_numbers_that_tell_good_from_bad(pipeline, training):
    figures = summary(pipeline, training, n_paths=300)
    assert json.loads(json.dumps(figures)) == figures
    assert all(np.isfinite(value) for value in figures.values())
    assert figures["correlation_error"] < 0.05 and figures["acf_error"] < 0.09
    assert figures["synthetic_benchmark_std"] == pytest.approx(figures["real_benchmark_std"], rel=0.15)
    shuffled = np.random.default_rng(0).permutation(training.n_days)
    noise = replace(training, returns=training.returns[shuffled], benchmark_returns=training.benchmark_returns[shuffled])
    assert summary(pipeline, noise, n_paths=300)["benchmark_acf_error"] > 2.0 * figures["benchmark_acf_error"]


def test_acf_and_leverage_are_plain_sums_over_pairs_of_days():
    logs = np.random.default_rng(0).standard_normal((5, 12, 2))
    size = np.abs(logs) - np.abs(logs).mean(axis=(0, 1))
    pairs = [(size[:, lag:] * size[:, :-lag]).mean(axis=(0, 1)) for lag in (1, 4, 11)]
    np.testing.assert_allclose(absolute_acf(logs, (1, 4, 11)), pairs / size.var(axis=(0, 1)), atol=1e-12)
    returns = logs - logs.mean(axis=(0, 1))
    products = [(returns[:, :-lag] * size[:, lag:]).mean(axis=(0, 1)) for lag in range(1, 11)]
    expected = np.mean(products, axis=0) / returns.std(axis=(0, 1)) / size.std(axis=(0, 1))
    np.testing.assert_allclose(leverage(logs), expected, atol=1e-12)
    assert np.isnan(absolute_acf(logs, (1, 12))[1]).all()  # no two days are that far apart


def test_acf_and_leverage_of_known_series():
    white = np.random.default_rng(0).standard_normal((400, 64, 1))
    np.testing.assert_allclose(absolute_acf(white), 0.0, atol=0.03)
    np.testing.assert_allclose(leverage(white), 0.0, atol=0.02)
    scale = np.ones_like(white)
    for day in range(1, 64):  # a fall raises the next days' volatility
        scale[:, day] = np.exp(0.5 * np.log(scale[:, day - 1]) - 0.2 * white[:, day - 1])
    assert leverage(white * scale)[0] < -0.05


def test_the_package_itself_loads_neither_torch_nor_diffusers():
    code = "import sys, quantflux_sb3; sys.exit(any(name in sys.modules for name in ('torch', 'diffusers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
