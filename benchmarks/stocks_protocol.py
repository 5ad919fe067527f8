"""
The published ``Stocks`` protocol of time-series generators (Yoon, Jarrett and van der Schaar, 2019): windows of 24 days of six
columns (open, high, low, close, adjusted close, volume), scaled to [0, 1]; post-hoc GRU judges. Prices are not shipped: give
the CSV (any file of these columns, oldest row first or with dates).

A bar is diffused as start level, close-to-close return, open over close, high over max(open, close), min(open, close) over
low, adjustment and volume, each mapped to a Gaussian by its quantiles, so that a decoded bar always keeps its inequalities.

Published: Diffusion-TS .067 / .036 / .004, ImagenTime - / .037 / -, ST-Diff .015 / .033 / .003 (discriminative / predictive /
correlational). Usage: ``python benchmarks/stocks_protocol.py FILE.csv [--seeds 5] [--steps 2000] [--judge-steps 2000]``
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import UNet1DModel
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, mse_loss

from quantflux_sb3.diffusion import GeneratorConfig
from quantflux_sb3.diffusion.network import adapt_unet, sampling_scheduler, spaced_timesteps, training_scheduler
from quantflux_sb3.diffusion.quantiles import from_gaussian, quantile_table, to_gaussian, transport_map
from quantflux_sb3.market import bundled_prices

COLUMNS = ("open", "high", "low", "close", "adj close", "volume")
WINDOW, BATCH, LEAST = 24, 128, 1e-12
N_CHANNELS = 7


def load(path: Path) -> np.ndarray:
    """Columns of the protocol, oldest row first (n_days, 6)."""
    table = pd.read_csv(path)
    table.columns = [str(name).strip().lower().replace("_", " ") for name in table.columns]
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise ValueError(f"'{path}' lacks the columns {missing}; expected {list(COLUMNS)}.")
    if "date" in table.columns:
        table = table.sort_values("date")
    values = table[list(COLUMNS)].to_numpy(dtype=np.float64)
    if len(values) < 10 * WINDOW or not np.isfinite(values).all() or (values[:, :5] <= 0.0).any():
        raise ValueError(f"'{path}' must hold at least {10 * WINDOW} rows of finite, positive prices; got {len(values)}.")
    return values


def write_stand_in(path: Path) -> None:
    """A file of the same shape where the real one cannot be had: bundled closes of AAPL, bars and volume made up."""
    prices, rng = bundled_prices()[0]["AAPL"].iloc[-3686:], np.random.default_rng(0)
    close = prices.to_numpy()
    moves = np.abs(np.diff(np.log(close)))
    typical = pd.Series(moves).ewm(span=20).mean().to_numpy()
    opens = close[:-1] * np.exp(0.5 * typical * rng.standard_normal(len(moves)))
    top, bottom = np.maximum(opens, close[1:]), np.minimum(opens, close[1:])
    high, low = (edge * np.exp(sign * typical * rng.exponential(0.5, len(moves))) for edge, sign in ((top, 1), (bottom, -1)))
    volume = 1e6 * np.exp(0.5 * np.log(typical + 1e-4) + 0.4 * moves / typical + 0.2 * rng.standard_normal(len(moves)))
    pd.DataFrame(dict(zip(COLUMNS, (opens, high, low, close[1:], close[1:], volume), strict=True))).to_csv(path, index=False)


def encode(windows: np.ndarray) -> np.ndarray:
    """Windows of bars (n, WINDOW, 6) as seven channels (n, WINDOW, 7); the start level stands in the first on all days."""
    opens, high, low, close, adjusted, volume = np.moveaxis(windows, -1, 0)
    top, bottom = np.maximum(opens, close), np.minimum(opens, close)
    level = np.repeat(np.log(close[:, :1]), WINDOW, axis=1)
    steps = np.diff(np.log(close), axis=1, prepend=np.log(close[:, :1]))
    parts = (level, steps, np.log(opens / close), np.log(high / top), np.log(bottom / low), np.log(adjusted / close))
    return np.stack([*parts, np.log1p(volume)], axis=-1)


def decode(channels: np.ndarray) -> np.ndarray:
    """Undo :func:`encode`."""
    level, steps, opened, above, below, adjustment, volume = np.moveaxis(channels, -1, 0)
    steps = np.concatenate([np.zeros_like(steps[:, :1]), steps[:, 1:]], axis=1)
    close = np.exp(level.mean(axis=1, keepdims=True) + steps.cumsum(axis=1))
    opens = close * np.exp(opened)
    high = np.maximum(opens, close) * np.exp(np.maximum(above, 0.0))
    low = np.minimum(opens, close) * np.exp(-np.maximum(below, 0.0))
    return np.stack([opens, high, low, close, close * np.exp(adjustment), np.expm1(np.maximum(volume, 0.0))], axis=-1)


def jittered(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A little noise, so that ties (a start level stands on 24 days) are no atoms for the network."""
    return scores + 0.01 * rng.standard_normal(scores.shape)


def fit_and_draw(windows: np.ndarray, n: int, steps: int, seed: int) -> np.ndarray:
    """Train on windows of bars and draw as many."""
    rng = np.random.default_rng(seed)
    encoded = encode(windows)
    table = quantile_table(encoded.reshape(-1, N_CHANNELS))
    scores = to_gaussian(encoded, table)
    unet = build_unet(seed)
    train(unet, jittered(scores, rng), steps, rng)
    drawn = sample(unet, n, seed)
    # Covariance over the whole window by optimal transport, then quantiles, both of the training windows.
    flat, target = drawn.reshape(n, -1), scores.reshape(len(scores), -1)
    matrix = transport_map(*(np.cov(values.T) + 1e-4 * np.eye(flat.shape[1]) for values in (flat, target)))
    moved = ((flat - flat.mean(axis=0)) @ matrix + target.mean(axis=0)).reshape(drawn.shape)
    ranked = to_gaussian(moved, quantile_table(moved.reshape(-1, N_CHANNELS)))
    return decode(from_gaussian(ranked, table))


def build_unet(seed: int) -> UNet1DModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet1DModel(
            sample_size=WINDOW, in_channels=N_CHANNELS, out_channels=N_CHANNELS, extra_in_channels=0,
            time_embedding_type="positional", use_timestep_embedding=True, down_block_types=("DownResnetBlock1D",) * 2,
            up_block_types=("UpResnetBlock1D",) * 2, mid_block_type="MidResTemporalBlock1D", out_block_type="OutConv1DBlock",
            block_out_channels=(48, 96), layers_per_block=0, act_fn="silu",
        )  # fmt: skip
    return adapt_unet(unet)


def train(unet: UNet1DModel, scores: np.ndarray, steps: int, rng: np.random.Generator) -> None:
    scheduler, data = training_scheduler(GeneratorConfig()), torch.from_numpy(scores).float().transpose(1, 2)
    optimizer, ema = torch.optim.AdamW(unet.parameters(), 2e-3, fused=True), EMAModel(unet.parameters(), decay=0.998)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        clean = data[torch.from_numpy(rng.integers(len(data), size=BATCH))]
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        times = torch.from_numpy(rng.integers(1000, size=BATCH))
        wanted = scheduler.get_velocity(clean, noise, times)
        loss = mse_loss(unet(scheduler.add_noise(clean, noise, times), times).sample, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        ema.step(unet.parameters())
    ema.copy_to(unet.parameters())


@torch.no_grad()
def sample(unet: UNet1DModel, n: int, seed: int) -> np.ndarray:
    scheduler = sampling_scheduler(GeneratorConfig())
    scheduler.set_timesteps(timesteps=spaced_timesteps(1000, 20))
    drawn = torch.randn((n, N_CHANNELS, WINDOW), generator=torch.Generator().manual_seed(seed))
    for time_step in scheduler.timesteps:
        predicted = torch.cat([unet(part, time_step).sample for part in drawn.split(512)])
        drawn = scheduler.step(predicted, time_step, drawn).prev_sample
    return drawn.transpose(1, 2).numpy().astype(np.float64)


class Recurrent(nn.Module):
    """TimeGAN's judge: one GRU of half as many units as features, and a linear read-out."""

    def __init__(self, n_features: int, n_hidden: int, each_day: bool):
        super().__init__()
        self.gru, self.out, self.each_day = nn.GRU(n_features, n_hidden, batch_first=True), nn.Linear(n_hidden, 1), each_day

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        days, last = self.gru(windows)
        return self.out(days if self.each_day else last[-1])


def seeded_judge(seed: int, *arguments: object) -> Recurrent:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Recurrent(*arguments)


def discriminative(real: np.ndarray, synthetic: np.ndarray, seed: int, steps: int) -> float:
    """Absolute difference of the judge's accuracy and 1/2 (TimeGAN, section 5): 80 % of each for training."""
    rng = np.random.default_rng(seed)
    data = [torch.from_numpy(values[rng.permutation(len(values))]).float() for values in (real, synthetic)]
    stops = [int(0.8 * len(values)) for values in data]
    judge = seeded_judge(seed, real.shape[2], real.shape[2] // 2, False)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3)
    labels = torch.cat([torch.ones(BATCH), torch.zeros(BATCH)])
    for _ in range(steps):
        rows = [torch.from_numpy(rng.integers(stop, size=BATCH)) for stop in stops]
        batch = torch.cat([values[chosen] for values, chosen in zip(data, rows, strict=True)])
        loss = binary_cross_entropy_with_logits(judge(batch)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        called_real = [
            (judge(values[stop:])[:, 0] > 0).float().mean().item() for values, stop in zip(data, stops, strict=True)
        ]
    return abs((called_real[0] + 1.0 - called_real[1]) / 2.0 - 0.5)


def predictive(real: np.ndarray, synthetic: np.ndarray, seed: int, steps: int) -> float:
    """Mean absolute error, on real windows, of a forecast of the last column's next day learnt on synthetic ones."""
    rng = np.random.default_rng(seed)
    data = torch.from_numpy(synthetic).float()
    judge = seeded_judge(seed, real.shape[2] - 1, real.shape[2] // 2, True)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(steps):
        batch = data[torch.from_numpy(rng.integers(len(data), size=BATCH))]
        loss = l1_loss(torch.sigmoid(judge(batch[:, :-1, :-1]))[..., 0], batch[:, 1:, -1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        test = torch.from_numpy(real).float()
        return l1_loss(torch.sigmoid(judge(test[:, :-1, :-1]))[..., 0], test[:, 1:, -1]).item()


def correlational(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Mean absolute difference of the columns' correlations, over a tenth of their sum (Liao et al., 2020)."""
    gap = np.corrcoef(real.reshape(-1, real.shape[2]).T) - np.corrcoef(synthetic.reshape(-1, real.shape[2]).T)
    return float(np.abs(gap[np.triu_indices(real.shape[2], 1)]).sum() / 10.0)


def run(path: Path, n_seeds: int, steps: int, judge_steps: int) -> dict[str, list[float]]:
    values = load(path)
    windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW, axis=0).transpose(0, 2, 1)
    low, span = values.min(axis=0), np.maximum(np.ptp(values, axis=0), LEAST)
    begin = time.process_time()
    synthetic = fit_and_draw(windows, len(windows), steps, 0)
    print(f"trained and drew {len(windows)} windows in {time.process_time() - begin:.0f} CPU-s", flush=True)
    real, drawn = (windows - low) / span, (synthetic - low) / span
    half = np.random.default_rng(0).permutation(len(real))
    split = half[: len(half) // 2], half[len(half) // 2 :]
    return {
        "discriminative": [discriminative(real, drawn, seed, judge_steps) for seed in range(n_seeds)],
        "predictive": [predictive(real, drawn, seed, judge_steps) for seed in range(n_seeds)],
        "correlational": [correlational(real, drawn)],
        "discriminative, real": [discriminative(real[split[0]], real[split[1]], seed, judge_steps) for seed in range(n_seeds)],
        "predictive, real": [predictive(real, real, seed, judge_steps) for seed in range(n_seeds)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--stand-in", action="store_true", help="first write a made-up file of the same shape to FILE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--judge-steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.stand_in:
        write_stand_in(args.file)
    try:
        results = run(args.file, args.seeds, args.steps, args.judge_steps)
    except (OSError, ValueError) as error:
        raise SystemExit(f"stocks_protocol: {error}") from error
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "stocks_protocol.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    required = {"discriminative": "<= .010", "predictive": "<= .037", "correlational": "<= .013"}
    print("| score | required | mean | std |\n|---|---|---|---|")
    for name, scores in results.items():
        print(f"| {name} | {required.get(name, '')} | {np.mean(scores):.4f} | {np.std(scores):.4f} |")


if __name__ == "__main__":
    main()
