"""Scenarios, synthetic pools and the quality figures, on a tiny generator."""

import json
import re

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from stable_baselines3 import PPO  # noqa: E402

from quantflux_sb3.callbacks import SyntheticPoolCallback  # noqa: E402
from quantflux_sb3.cli import main  # noqa: E402
from quantflux_sb3.diffusion import (  # noqa: E402
    GeneratorConfig,
    Scenario,
    SyntheticMarkets,
    figures,
    train_generator,
)
from quantflux_sb3.diffusion.baselines import GarchCopula, GaussianPaths, bootstrap_windows, gaussian_windows  # noqa: E402
from quantflux_sb3.diffusion.distances import energy_scores, near_share, nearest_distances, signature_distance  # noqa: E402
from quantflux_sb3.diffusion.judges import discriminative_score, forecast_skill  # noqa: E402
from quantflux_sb3.diffusion.representation import market_logs  # noqa: E402
from quantflux_sb3.diffusion.scenarios import STRESS_SCENARIOS, ScenarioPart, markov_regimes  # noqa: E402
from quantflux_sb3.diffusion.stylised import hill, lower_tail_dependence, max_drawdowns, windows_of  # noqa: E402
from quantflux_sb3.diffusion.training import TrainingWindows  # noqa: E402
from quantflux_sb3.market import load_bundled  # noqa: E402
from quantflux_sb3.regimes import REGIMES, RuleRegimes  # noqa: E402
from quantflux_sb3.vec_env import make_quantflux_vec_env  # noqa: E402

TINY = GeneratorConfig(n_train_steps=100, n_calibration_samples=450, channels=(16, 32))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def market():
    return load_bundled(("AAPL", "JPM", "XOM"))


@pytest.fixture(scope="module")
def pipeline(market):
    return train_generator(market.until("train"), TINY, seed=1)


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("generator")
    pipeline.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def windows(market):
    return windows_of(market_logs(market.until("train")), 64)


# scenarios


def test_a_scenario_says_regime_and_volatility_of_every_day():
    scenario = Scenario([("bull", 3), ("volatile", 2, {"vol": 0.45}), ("bear", 2, {"vol": (0.1, 0.4)})])
    assert scenario.n_days == 7
    assert [REGIMES[i] for i in scenario.regimes] == ["bull"] * 3 + ["volatile"] * 2 + ["bear"] * 2
    np.testing.assert_allclose(scenario.volatility(np.array([0.12, 0.2, 0.3, 0.1])), [0.12] * 3 + [0.45] * 2 + [0.1, 0.4])
    assert Scenario([("bull", 3)]).volatility(np.ones(4)) is None


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], "at least one part"),
        ([("crash", 10)], "Unknown regime 'crash'"),
        ([("bull", 0)], "whole number of days >= 1; got 0"),
        ([("bull", 2.5)], "whole number of days"),
        ([("bull", 10, {"vol": -0.2})], "'vol' must be positive"),
        ([("bull", 10, {"vol": float("nan")})], "'vol' must be positive"),
        ([("bull", 10, {"vol": (0.1, 0.2, 0.3)})], "one number or a pair"),
        ([("bull", 10, {"return": -1.0})], "above -1"),
        ([("bull", 10, {"volatility": 0.2})], "Unknown options"),
        (["bull"], "is \\(regime, days\\)"),
    ],
)
def test_impossible_scenarios_are_refused(parts, text):
    with pytest.raises(ValueError, match=text):
        Scenario(parts)


def test_scenarios_can_be_named_or_spelled_out():
    assert Scenario.named("crash-2008") is STRESS_SCENARIOS["crash-2008"]
    assert Scenario.named("bull:63,volatile:21:0.45").parts == (
        ScenarioPart("bull", 63), ScenarioPart("volatile", 21, (0.45, 0.45)),
    )  # fmt: skip
    for bad in ("crash-1929", "bull:x", "bull:10:high", ":", "bear:10:-1"):
        with pytest.raises(ValueError, match=r"scenario|vol"):
            Scenario.named(bad)


@pytest.mark.parametrize("name", STRESS_SCENARIOS)
def test_stress_scenarios_last_a_year_and_can_be_scaled(name):
    scenario = STRESS_SCENARIOS[name]
    assert scenario.n_days == 252
    for n_days in (len(scenario.parts), 100, 1000):
        scaled = scenario.scaled(n_days)
        assert scaled.n_days == n_days and len(scaled.parts) == len(scenario.parts)
    with pytest.raises(ValueError, match="as many days at least"):
        scenario.scaled(1)


def test_paths_follow_the_scenario(pipeline):
    scenario = Scenario([("bull", 64, {"vol": 0.1}), ("volatile", 64, {"vol": 0.5, "return": -0.3})])
    drawn = scenario.generate(pipeline, 300, seeded())
    calm, wild = drawn.benchmark_returns[:, :64], drawn.benchmark_returns[:, 64:]
    assert wild.std() > 3.0 * calm.std()
    assert np.prod(1.0 + wild, axis=1).mean() == pytest.approx(0.7, abs=1e-9)
    assert np.prod(1.0 + drawn.returns[:, 64:], axis=1).mean() < 0.9  # assets fall by their beta
    again = scenario.generate(pipeline, 300, seeded())
    assert again.returns.tobytes() == drawn.returns.tobytes()


def test_markov_regimes_have_the_shares_of_training(pipeline):
    regimes = markov_regimes(pipeline, 200, 1000, np.random.default_rng(0))
    shares = np.bincount(regimes.reshape(-1), minlength=len(REGIMES)) / regimes.size
    np.testing.assert_allclose(shares, pipeline.state.regime_shares, atol=0.06)


# command line


def test_generate_writes_a_scenario_and_its_picture(folder, tmp_path, capsys):
    out = tmp_path / "paths.parquet"
    arguments = ["generate", "--generator", str(folder), "--scenario", "shock-2020", "--paths", "20", "--out", str(out)]
    assert main(arguments) == 0
    table = pd.read_parquet(out)
    assert len(table) == 20 * 253 and list(table.columns) == ["path", "day", "AAPL", "JPM", "XOM", "SP500"]
    assert (tmp_path / "paths.png").read_bytes().startswith(b"\x89PNG")
    assert main([*arguments[:-1], str(tmp_path / "b.parquet"), "--days", "60"]) == 0
    assert len(pd.read_parquet(tmp_path / "b.parquet")) == 20 * 61
    assert main(["generate", "--generator", str(folder), "--scenario", "markov", "--out", str(tmp_path / "c.csv")]) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--scenario crash-1929 --out x.csv", "Unknown scenario 'crash-1929'"),
        ("--scenario crash-2008 --regime bear --out x.csv", "leave out --regime"),
        ("--scenario markov --paths 0 --out x.csv", ">= 1"),
        ("--out x.csv --picture x.jpg", r"must name a \.png"),
        ("--picture x.png --report", "give --out as well"),
        ("", "Nothing to do"),
    ],
)
def test_generate_refuses_in_one_line_and_writes_nothing(arguments, text, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--generator", str(folder), *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert re.search(text, error) and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_card_is_written_next_to_the_weights(pipeline, market, tmp_path, monkeypatch):
    from quantflux_sb3.evaluation import generator_card

    monkeypatch.setattr("quantflux_sb3.diffusion.quality.N_WINDOWS", 300)
    monkeypatch.setattr(generator_card, "N_WINDOWS", 300)
    monkeypatch.setattr("quantflux_sb3.diffusion.judges.STEPS", 10)
    page = generator_card.write_card(tmp_path, pipeline, market.until("train")).read_text()
    assert "GJR-GARCH-t" in page and page.count("data:image/png") == 3
    table = json.loads((tmp_path / "card.json").read_text())["table"]
    assert set(table) == {"real", "generator", "block bootstrap", "Gaussian", "GJR-GARCH-t, t copula"}
    assert table["Gaussian"]["acf_error"] > 3.0 * table["generator"]["acf_error"]
    assert table["block bootstrap"]["paths_too_near"] > 0.2 > table["generator"]["paths_too_near"]
    with pytest.raises(ValueError, match="the prices given are others"):
        generator_card.write_card(tmp_path, pipeline, market.until("validation"))


# synthetic markets in training


def test_regimes_can_be_drawn_oftener(pipeline, market):
    plain = SyntheticMarkets(pipeline, market, n_markets=6, n_days=300, share=0.6).draw()
    wild = SyntheticMarkets(pipeline, market, 6, 300, 0.6, regime_weights={"volatile": 50.0}).draw()
    assert [one.content_hash for one, _ in plain] == [one.content_hash for one, _ in wild]
    for pool in (plain, wild):
        assert pool[0] == (market, 0.4)
        assert sum(weight for _, weight in pool[1:]) == pytest.approx(0.6)
    volatile = [RuleRegimes().detect(one.benchmark_returns).probs[:, 2].mean() for one, _ in wild[1:]]
    assert np.corrcoef(volatile, [weight for _, weight in wild[1:]])[0, 1] > 0.9
    other = SyntheticMarkets(pipeline, market, 6, 300, 0.6).draw(number=1)
    assert other[1][0].content_hash != plain[1][0].content_hash


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"share": 1.2}, r"`share` must lie in \[0, 1\]"),
        ({"regime_weights": {"crash": 1.0}}, r"Unknown regimes \['crash'\]"),
        ({"regime_weights": {"bull": -1.0}}, "finite and >= 0"),
    ],
)
def test_impossible_mixtures_are_refused(pipeline, market, settings, text):
    with pytest.raises(ValueError, match=text):
        SyntheticMarkets(pipeline, market, **settings)


def test_the_pool_is_refreshed_between_rollouts(pipeline, market):
    source = SyntheticMarkets(pipeline, market, n_markets=2, n_days=200, share=1.0)
    venv = make_quantflux_vec_env(4, source.draw(), seed=0, episode_length=20, max_weight=0.5)
    before = venv.unwrapped.core
    callback = SyntheticPoolCallback(source, refresh_freq=64)
    model = PPO("MlpPolicy", venv, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model.learn(256, callback=callback)
    after = venv.unwrapped.core
    assert callback.n_refreshes == 3 and after is not before
    assert after.pool.markets[1].content_hash == source.draw(3)[1][0].content_hash
    assert after.layout == before.layout
    assert venv.step(np.ones((4, 4), dtype=np.float32))[0].shape == (4, before.layout.size)


def test_the_refresh_needs_a_batched_env():
    with pytest.raises(ValueError, match="`refresh_freq` must be >= 1"):
        SyntheticPoolCallback(None, refresh_freq=0)
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8)
    with pytest.raises(ValueError, match="needs an on-policy algorithm"):
        model.learn(8, callback=SyntheticPoolCallback(None))


# figures of quality


def test_figures_tell_real_from_noise(windows):
    real, rest = windows[::2], windows[1::2]
    same = figures(real, rest)
    logs = windows[:, 0]
    noise = figures(real, gaussian_windows(logs, 1000, 64, 0))
    assert json.loads(json.dumps(same)) == same
    for name in ("acf_error", "tail_quantile_error", "tail_dependence_error", "drawdown_distance", "mmd"):
        assert abs(same[name]) < abs(noise[name])
    assert same["acf_error"] < 1e-3 and noise["acf_error"] > 0.1
    assert noise["kurtosis"] < 0.2 < same["kurtosis"]
    with pytest.raises(ValueError, match="same days and series"):
        figures(real, rest[:, :32])
    with pytest.raises(ValueError, match="must be finite"):
        figures(real, np.full_like(rest, np.nan))


def test_tail_figures_of_known_distributions():
    rng = np.random.default_rng(0)
    pareto = -(rng.pareto(3.0, (200, 500, 1)) + 1.0)
    assert hill(pareto)[0] == pytest.approx(3.0, rel=0.1)
    one = rng.standard_normal((100, 500, 1))
    both = np.concatenate([one, one, rng.standard_normal((100, 500, 1))], axis=-1)
    np.testing.assert_allclose(lower_tail_dependence(both), [1.0, 0.05, 0.05], atol=0.02)
    falls = np.log1p(np.array([[[0.1], [-0.5], [0.2], [-0.3]]]))
    np.testing.assert_allclose(max_drawdowns(falls), [[1.0 - 0.5 * 1.2 * 0.7]])


def test_distances_are_zero_for_copies_and_see_them(windows):
    points = windows[:200].reshape(200, -1)
    np.testing.assert_allclose(nearest_distances(points, points), 0.0, atol=1e-6)
    assert near_share(points, points, points + 1.0) == 1.0
    assert signature_distance(windows, windows) == 0.0 < signature_distance(windows, windows * 1.3)


def test_the_energy_score_prefers_the_truth():
    rng = np.random.default_rng(0)
    observed = rng.standard_normal((400, 3))
    scores = [
        energy_scores(observed, m + s * rng.standard_normal((400, 60, 3))).mean()
        for m, s in ((0, 1), (1, 1), (0, 2), (0, 0.3))
    ]
    assert scores[0] == min(scores)


def test_judges_see_gaussian_noise_and_hardly_garch(windows):
    real, logs = windows[::4], windows[:, 0]
    noise, garch = gaussian_windows(logs, 1000, 64, 0), GarchCopula.fit(logs).windows(1000, 64, 0)
    assert discriminative_score(real, noise, 0) > discriminative_score(real, garch, 0) + 0.05
    assert discriminative_score(real, noise, 0) > 0.15
    assert forecast_skill(windows, windows) > 0.05 > forecast_skill(gaussian_windows(logs, 1000, 64, 0), windows)


def test_baselines_are_what_they_say(windows):
    logs = np.concatenate([windows[:, 0], windows[-1, 1:]])
    copies = bootstrap_windows(logs, 200, 64, 0)
    known = {row.tobytes() for row in logs}
    assert all(day.tobytes() in known for day in copies.reshape(-1, copies.shape[-1]))
    garch = GarchCopula.fit(logs)
    drawn = garch.windows(2000, 64, 0)
    np.testing.assert_allclose(drawn.std(axis=(0, 1)), logs.std(axis=0), rtol=0.2)
    assert np.array_equal(drawn, garch.windows(2000, 64, 0))
    filtered = garch.filtered(logs)
    np.testing.assert_allclose(filtered[500:], garch.variances[500:], rtol=1e-6)


def test_gaussian_paths_have_the_covariance_of_training(market):
    built = TrainingWindows.build(market.until("train"), RuleRegimes(), TINY, np.random.default_rng(0))
    control = GaussianPaths(built)
    drawn = control.sample(np.zeros((3000, 16, 6)), seeded())
    real = control.targets[:, :16]
    np.testing.assert_allclose(np.cov(drawn[:, 3].T), np.cov(real[:, 3].T), atol=0.12)
    np.testing.assert_allclose(
        np.corrcoef(drawn[:, 0, 0], drawn[:, 8, 0]), np.corrcoef(real[:, 0, 0], real[:, 8, 0]), atol=0.1
    )
