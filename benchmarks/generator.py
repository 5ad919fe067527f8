"""
Everything that docs/generator.md says about the generator: trained on 1990-2012 with several seeds, judged on these years and,
given their regimes and volatilities, on 2013-2022. Required, wished and measured stand side by side, beside what the network
must beat: the linear denoiser that it corrects without it, Gaussian paths in the place of both, the stationary bootstrap,
Gaussian days and GJR-GARCH-t with a t copula.

Times are CPU seconds of one thread. Usage: ``python benchmarks/generator.py [--seeds 0 1] [--out benchmarks/results]``
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from quantflux_sb3.diffusion import GeneratorConfig, RegimeDDPMPipeline, train_generator
from quantflux_sb3.diffusion.baselines import GarchCopula, GaussianPaths, bootstrap_windows, gaussian_windows
from quantflux_sb3.diffusion.conditions import KINDS, Conditions, build_conditions
from quantflux_sb3.diffusion.distances import energy_scores, volatility_points
from quantflux_sb3.diffusion.fitting import calibrate
from quantflux_sb3.diffusion.judges import discriminative_score, forecast_skill, real_against_real
from quantflux_sb3.diffusion.network import build_unet, sampling_scheduler
from quantflux_sb3.diffusion.quality import figures, memorisation, regime_returns
from quantflux_sb3.diffusion.representation import market_logs
from quantflux_sb3.diffusion.sampling import PathSampler
from quantflux_sb3.diffusion.state import GeneratorState, TrainingRecord
from quantflux_sb3.diffusion.stylised import absolute_acf, leverage, windows_of
from quantflux_sb3.diffusion.windows import TrainingWindows
from quantflux_sb3.market import MarketData, bundled_prices, load_bundled
from quantflux_sb3.regimes import REGIMES, RuleRegimes

N_WINDOWS, N_JUDGES, N_HELDOUT_SAMPLES = 3000, 5, 64
LONG_LAGS = (40, 60, 100)
DIAL = np.geomspace(0.07, 0.4, 8)

#: Figure: required, wished.
TARGETS = {
    "acf_error": ("<= .012", "<= .006"), "conditioned_acf_error": ("<= .012", "<= .006"),
    "correlation_error": ("<= .012", "<= .006"), "absolute_correlation_error": ("<= .015", "<= .008"),
    "kurtosis_ratio": (".85 to 1.15", ".92 to 1.08"), "benchmark_leverage": ("<= -.065", "<= -.072"),
    "conditioned_leverage": ("<= -.065", "<= -.072"), "discriminative": ("<= .135", "<= .119, below Gaussian paths by > 2 sd"),
    "returns_too_near": ("<= .01", "<= .01"), "paths_too_near": ("<= .03", "<= .01"),
    "dial_slope": ("1.00 +- .05", "1.00 +- .02"), "dial_error": ("<= .04", "<= .025"),
    "regime_return_error": ("<= .02, signs right", "<= .01"), "regime_spread_ratio_worst": ("", ".8 to 1.2"),
    "training_seconds": ("<= 30", ""), "windows_per_second": (">= 1200", "2500"), "thousand_years_seconds": ("<= 30", ""),
}  # fmt: skip


def cpu_seconds(work: Callable) -> tuple[float, object]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


class Bench:
    """The training and held-out years of one market, and what is measured on them."""

    def __init__(self, market: MarketData):
        self.market, self.train = market, market.until("train")
        logs = market_logs(market)
        self.logs, self.later = logs[: self.train.n_days], logs[self.train.n_days :]
        self.window = GeneratorConfig().window
        self.every = windows_of(self.logs, self.window)
        self.real = self.every[:: max(len(self.every) // N_WINDOWS, 1)]
        n_heldout = len(self.every) // 10
        self.near = self.every[: -n_heldout - self.window], self.every[-n_heldout:]
        self.later_windows = windows_of(self.later, self.window)
        labels = RuleRegimes().detect(market.benchmark_returns).labels
        self.labels, self.later_labels = labels[: self.train.n_days], labels[self.train.n_days :]

    def unconditional(self, synthetic: np.ndarray, n_judges: int = N_JUDGES) -> dict[str, float]:
        result = figures(self.every, synthetic) | memorisation(synthetic, *self.near)
        result["kurtosis_ratio"] = result["benchmark_kurtosis"] / figures(self.every, self.real)["benchmark_kurtosis"]
        scores = [discriminative_score(self.real, synthetic, seed) for seed in range(n_judges)]
        result |= {"discriminative": np.mean(scores), "discriminative_std": np.std(scores)}
        result["heldout_forecast_skill"] = forecast_skill(synthetic, self.later_windows)
        return {name: float(value) for name, value in result.items()}

    def conditioned(self, state: GeneratorState, sampler: object, rng: np.random.Generator) -> dict[str, float]:
        """Under the regimes and volatilities of training windows."""
        starts = np.linspace(0, len(self.every) - 1, N_WINDOWS).astype(int)
        rows = starts[:, None] + np.arange(self.window)
        scores = state.volatility_scale.training_scores(self.logs[:, :1])[rows]
        conditions = Conditions(KINDS.index("both"), np.eye(len(REGIMES))[self.labels[rows]], scores, np.zeros_like(scores))
        synthetic = assemble(state, sampler, conditions, rng)
        error = np.abs(absolute_acf(self.every) - absolute_acf(synthetic)).mean()
        return {"conditioned_acf_error": float(error), "conditioned_leverage": float(leverage(synthetic)[0])}

    def heldout(self, state: GeneratorState, sampler: object, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Energy scores of later windows, given their regimes and volatilities, per window."""
        starts = np.arange(0, len(self.later_windows), self.window // 2)
        rows = (starts[:, None] + np.arange(self.window)).repeat(N_HELDOUT_SAMPLES, axis=0)
        volatility = state.volatility_scale.annualised(self.later[:, :1])[rows]
        conditions = build_conditions(self.later_labels[rows], volatility, state.volatility_scale, *rows.shape)
        return self.scores_of(starts, assemble(state, sampler, conditions, rng))

    def heldout_baselines(self) -> dict[str, dict[str, np.ndarray]]:
        """The same of what has no such conditions, and of training windows whose volatility path was most like it."""
        starts, garch = np.arange(0, len(self.later_windows), self.window // 2), GarchCopula.fit(self.logs)
        each, n = N_HELDOUT_SAMPLES, len(starts) * N_HELDOUT_SAMPLES
        variances = garch.filtered(self.later)[starts].repeat(each, axis=0)
        smooth = [volatility_points(windows[:, :, :1]) for windows in (self.every, self.later_windows[starts])]
        nearest = np.argsort(((smooth[1][:, None] - smooth[0]) ** 2).sum(axis=-1), axis=1)[:, :each].reshape(-1)
        drawn = {
            "block bootstrap": bootstrap_windows(self.logs, n, self.window, 0),
            "Gaussian": gaussian_windows(self.logs, n, self.window, 0),
            "GARCH from the day before": garch.windows(n, self.window, 0, variances),
            "most similar training windows": self.every[nearest],
        }
        return {name: self.scores_of(starts, samples) for name, samples in drawn.items()}

    def scores_of(self, starts: np.ndarray, samples: np.ndarray) -> dict[str, np.ndarray]:
        observed, scale = self.later_windows[starts], self.logs.std(axis=0)
        flat = [windows.reshape(len(windows), -1) for windows in (observed / scale, samples / scale)]
        paths = [volatility_points(windows) for windows in (observed, samples)]
        return {
            name: energy_scores(real, drawn.reshape(len(starts), N_HELDOUT_SAMPLES, -1))
            for name, (real, drawn) in (("returns", flat), ("volatility paths", paths))
        }

    def regimes(self, pipeline: RegimeDDPMPipeline) -> dict[str, float]:
        result = regime_returns(pipeline, self.train, 1000, seeded(5))
        known = [regime for regime in REGIMES if f"real_{regime}_return" in result]
        means = np.array([[result[f"{kind}_{r}_return"] for r in known] for kind in ("real", "synthetic")])
        ratios = np.array([result[f"synthetic_{r}_spread"] / result[f"real_{r}_spread"] for r in known])
        result["regime_return_error"] = np.abs(means[0] - means[1]).max()
        result["regime_signs_right"] = float((np.sign(means[0]) == np.sign(means[1])).sum())
        result["regime_spread_ratio_worst"] = ratios[np.abs(np.log(ratios)).argmax()]
        return {name: float(value) for name, value in result.items()}

    def long_paths(self, pipeline: RegimeDDPMPipeline) -> dict[str, float]:
        result = {}
        for n_days, n_paths in ((252, 1000), (1008, 250)):
            logs = pipeline.log_returns(n_paths, n_days, generator=seeded(7))
            error = np.abs(absolute_acf(self.logs[None]) - absolute_acf(logs)).mean()
            result[f"acf_error_{n_days}"] = float(error)
            for lag, real, found in zip(
                LONG_LAGS, absolute_acf(self.logs[None], LONG_LAGS), absolute_acf(logs, LONG_LAGS), strict=True
            ):
                result |= {f"acf_{lag}_{n_days}": float(found.mean()), f"acf_{lag}_real": float(real.mean())}
            result[f"seam_{n_days}"] = seam(logs[..., 0], self.window)
        return result


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assemble(state: GeneratorState, sampler: object, conditions: Conditions, rng: np.random.Generator) -> np.ndarray:
    raw = sampler.sample(conditions.maps, seeded(int(rng.integers(2**31))))
    return state.assemble(raw, conditions, rng.standard_normal(state.noise_shape(*conditions.regimes.shape[:2])))


def seam(market: np.ndarray, window: int) -> float:
    """Correlation of four-day sizes over the seam of two windows, less that of neighbours elsewhere."""
    size = np.log(np.abs(market) + 1e-4)[:, : market.shape[1] // 4 * 4].reshape(len(market), -1, 4).mean(axis=2)
    alike = np.array([np.corrcoef(size[:, i], size[:, i + 1])[0, 1] for i in range(size.shape[1] - 1)])
    seams = np.arange(window // 4 - 1, len(alike), window // 4)
    return float(alike[seams].mean() - np.delete(alike, seams).mean())


def dial(pipeline: RegimeDDPMPipeline) -> dict[str, float]:
    drawn = [pipeline(400, volatility=asked, generator=seeded(3)).benchmark_returns for asked in DIAL]
    got = np.log(np.array([np.log1p(returns).std() for returns in drawn]) * np.sqrt(252))
    return {"dial_slope": float(np.polyfit(np.log(DIAL), got, 1)[0]), "dial_error": float(np.abs(got - np.log(DIAL)).mean())}


def of_seed(bench: Bench, seed: int) -> tuple[dict[str, float], RegimeDDPMPipeline]:
    seconds, pipeline = cpu_seconds(lambda: train_generator(bench.train, seed=seed))
    rng = np.random.default_rng(seed + 100)
    pipeline(256, generator=seeded(0))  # nothing below waits for a compiler
    speed, synthetic = cpu_seconds(lambda: pipeline.log_returns(N_WINDOWS, generator=seeded(seed + 1), batch_size=256))
    years, _ = cpu_seconds(lambda: pipeline(1000, 252, generator=seeded(2)))
    state, sampler = pipeline.state, sampler_of(pipeline)
    result = bench.unconditional(synthetic) | bench.conditioned(state, sampler, rng) | dial(pipeline) | bench.regimes(pipeline)
    result |= bench.long_paths(pipeline)
    result |= {
        "training_seconds": seconds, "windows_per_second": N_WINDOWS / speed, "thousand_years_seconds": years,
        "best_step": float(state.record.best_step), "network_gain": network_gain(state.record),
    }  # fmt: skip
    return result, pipeline


def network_gain(record: TrainingRecord) -> float:
    """Share of the linear denoiser's held-out loss that the network takes away."""
    losses = record.learning_curve["heldout_loss"]
    return 1.0 - min(losses) / losses[0]


def without_network(bench: Bench, seed: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Everything as it is, calibration too, but for the network's correction: a network that has not learnt yet adds zero."""
    config, detector = GeneratorConfig(), RuleRegimes()
    windows = TrainingWindows.build(bench.train, detector, config, np.random.default_rng([seed, 0]))
    sampler = PathSampler(build_unet(bench.logs.shape[1], config).eval(), sampling_scheduler(config), windows.state)
    state = calibrate(windows.state, windows, sampler, np.random.default_rng([seed, 4]))
    pipeline = RegimeDDPMPipeline(sampler.unet, sampler.scheduler, state)
    synthetic = pipeline.log_returns(N_WINDOWS, generator=seeded(seed + 1), batch_size=256)
    rng = np.random.default_rng(seed + 100)
    result = bench.unconditional(synthetic) | bench.conditioned(state, sampler, rng) | bench.long_paths(pipeline)
    return result | dial(pipeline) | bench.regimes(pipeline), bench.heldout(state, sampler, np.random.default_rng(seed))


def sampler_of(pipeline: RegimeDDPMPipeline) -> PathSampler:
    state = pipeline.state
    return PathSampler(pipeline.unet, pipeline.scheduler, state)


def gaussian_paths(bench: Bench) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Everything as it is, with a Gaussian in the network's place."""
    config = GeneratorConfig()
    windows = TrainingWindows.build(bench.train, RuleRegimes(), config, np.random.default_rng([0, 0]))
    paths, rng = GaussianPaths(windows), np.random.default_rng(1)
    state = calibrate(windows.state, windows, paths, rng)
    nothing = np.zeros((N_WINDOWS, config.window, 1))
    conditions = Conditions(0, np.zeros((N_WINDOWS, config.window, len(REGIMES))), nothing, nothing)
    result = bench.unconditional(assemble(state, paths, conditions, rng)) | bench.conditioned(state, paths, rng)
    return result, bench.heldout(state, paths, rng)


def run(seeds: list[int]) -> dict[str, dict]:
    bench = Bench(load_bundled())
    table: dict[str, dict] = {}
    held: dict[str, dict[str, np.ndarray]] = {}
    for seed in seeds:
        table[f"seed {seed}"], pipeline = of_seed(bench, seed)
        held[f"seed {seed}"] = bench.heldout(pipeline.state, sampler_of(pipeline), np.random.default_rng(seed))
    for seed in seeds:
        name = f"no network, seed {seed}"
        table[name], held[name] = without_network(bench, seed)
    table["Gaussian paths"], held["Gaussian paths"] = gaussian_paths(bench)
    held |= bench.heldout_baselines()
    garch = GarchCopula.fit(bench.logs)
    for name, windows in (
        ("block bootstrap", bootstrap_windows(bench.logs, N_WINDOWS, bench.window, 0)),
        ("Gaussian", gaussian_windows(bench.logs, N_WINDOWS, bench.window, 0)),
        ("GARCH", garch.windows(N_WINDOWS, bench.window, 0)),
    ):
        table[name] = bench.unconditional(windows)
    scores = [real_against_real(bench.real, seed) for seed in range(N_JUDGES)]
    table["real"] = figures(bench.every, bench.real) | {
        "discriminative": np.mean(scores),
        "discriminative_std": np.std(scores),
    }
    table["real"]["heldout_forecast_skill"] = forecast_skill(bench.every, bench.later_windows)
    ours = {kind: np.mean([held[f"seed {seed}"][kind] for seed in seeds], axis=0) for kind in held[f"seed {seeds[0]}"]}
    for names in ("seed {}", "no network, seed {}"):
        every = [held[names.format(seed)] for seed in seeds]
        held[names.format("mean")] = {kind: np.mean([scores[kind] for scores in every], axis=0) for kind in ours}
    heldout = {
        name: {kind: mean_and_gap(values, ours[kind]) for kind, values in scores.items()} for name, scores in held.items()
    }
    twenty = Bench(load_bundled(tuple(bundled_prices()[0].columns)))
    result, _ = of_seed(twenty, seeds[0])
    return {"table": table, "heldout": heldout, "twenty assets": result}


def mean_and_gap(scores: np.ndarray, others: np.ndarray) -> list[float]:
    """Mean, mean difference to the others, and its standard error over windows."""
    gap = scores - others
    return [float(scores.mean()), float(gap.mean()), float(gap.std() / np.sqrt(len(gap)))]


def markdown(results: dict[str, dict]) -> str:
    table = results["table"]
    columns = [*table, "20 assets"]
    every = table | {"20 assets": results["twenty assets"]}
    lines = [f"| figure | required | goal | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    names = [*TARGETS, *(name for name in every[columns[0]] if name not in TARGETS)]
    for name in names:
        values = [f"{every[column][name]:.4g}" if name in every[column] else "" for column in columns]
        lines.append(f"| {name} | {' | '.join(TARGETS.get(name, ('', '')))} | {' | '.join(values)} |")
    lines += [
        "",
        "| energy score of 2013-2022 | returns | less ours | s.e. | volatility paths | less ours | s.e. |",
        "|---" * 7 + "|",
    ]
    for name, scores in results["heldout"].items():
        lines.append(f"| {name} | {' | '.join(f'{value:.4f}' for kind in scores.values() for value in kind)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = run(args.seeds)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "generator.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    text = markdown(results)
    (args.out / "generator.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
