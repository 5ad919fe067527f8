"""
What synthetic markets are worth in training: PPO on real prices only, on real prices resampled by blocks, and on DDPM
markets, at equal env steps, judged on the real validation years 2013-2015. Everything else is as in ``quantflux run``.

The resampled and the generated markets are as many and as long as each other, and are mixed with the real one by the same
share. Beside the agents stands the base rule, exposure by rule and equal weight.

Usage: ``python benchmarks/synthetic_training.py [--seeds 3] [--steps 150000] [--out benchmarks/results]``
"""

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from stable_baselines3 import PPO

from quantflux_sb3.callbacks import SyntheticPoolCallback
from quantflux_sb3.diffusion import SyntheticMarkets, train_generator
from quantflux_sb3.evaluation.backtest import backtest_model
from quantflux_sb3.evaluation.baselines import run_baselines
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.market import DateSplits, MarketData, load_bundled
from quantflux_sb3.policies import SoftmaxPolicy
from quantflux_sb3.settings import Settings
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.vec_wrappers import VecMarketTiming

N_MARKETS, N_DAYS, SHARE = 64, 630, 0.5


def resampled_markets(train: MarketData, seed: int) -> list[MarketData]:
    """As many and as long as the generated ones, by the stationary bootstrap of whole days."""
    rows = np.column_stack([train.benchmark_returns, train.returns])
    block = float(optimal_block_length(np.abs(rows[:, 0]))["stationary"].iloc[0])
    bootstrap = StationaryBootstrap(block, rows, seed=np.random.default_rng(seed))
    dates = np.busday_offset(train.dates[-1] + 1, np.arange(N_DAYS), roll="forward")
    splits = DateSplits(str(dates[-1]), str(dates[-1] + 1))
    markets = []
    for data in bootstrap.bootstrap(N_MARKETS):
        drawn = data[0][0][:N_DAYS]
        fields = {"returns": drawn[:, 1:], "benchmark_returns": drawn[:, 0], "risk_free": float(np.mean(train.risk_free))}
        markets.append(replace(train.window(0, N_DAYS), dates=dates, splits=splits, synthetic=True, status=None, **fields))
    return markets


def mixed(real: MarketData, others: list[MarketData]) -> list[tuple[MarketData, float]]:
    return [(real, 1.0 - SHARE), *((market, SHARE / len(others)) for market in others)]


def sharpe(market: MarketData, pool: object, steps: int, seed: int, callback: object = None) -> dict[str, float]:
    settings = Settings()
    agent, config, wrappers = settings.agent, settings.env, [partial(VecMarketTiming, **vars(settings.timing))]
    venv = make_quantflux_vec_env(agent.n_envs, pool, seed=seed, wrappers=wrappers, **vars(config))
    model = PPO(
        SoftmaxPolicy, venv, learning_rate=agent.learning_rate, n_steps=agent.n_steps, batch_size=agent.batch_size,
        n_epochs=agent.n_epochs, gamma=agent.gamma, gae_lambda=agent.gae_lambda, seed=seed, device="cpu",
        policy_kwargs={"optimizer_kwargs": {"fused": True}, "log_std_init": agent.log_std_init},
    )  # fmt: skip
    model.learn(steps, callback=callback)
    return performance(backtest_model(model, market, "validation", config, wrappers))


def run(n_seeds: int, steps: int) -> dict[str, dict]:
    market, settings = load_bundled(), Settings()
    train = market.until("train")
    source = SyntheticMarkets(train_generator(train), market, N_MARKETS, N_DAYS, SHARE)
    arms = {
        "real only": lambda seed: (market, None),
        "real, block bootstrap": lambda seed: (mixed(market, resampled_markets(train, seed)), None),
        "real, DDPM": lambda seed: (source.draw(), None),
        "real, DDPM, refreshed": lambda seed: (source.draw(), SyntheticPoolCallback(source, max(steps // 3, 1))),
    }
    results = {}
    for name, arm in arms.items():
        runs = []
        for seed in range(n_seeds):
            begin = time.process_time()
            pool, callback = arm(seed)
            runs.append(sharpe(market, pool, steps, seed, callback)["sharpe_ratio"])
            print(f"{name}, seed {seed}: {runs[-1]:.3f} ({time.process_time() - begin:.0f} CPU-s)", flush=True)
        results[name] = {
            "mean": float(np.mean(runs)),
            "std": float(np.std(runs, ddof=1)) if n_seeds > 1 else 0.0,
            "seeds": runs,
        }
    for baseline in run_baselines(market, "validation", settings.env, settings.timing):
        results[baseline.name] = {"mean": performance(baseline)["sharpe_ratio"], "std": 0.0, "seeds": []}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = run(args.seeds, args.steps)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "synthetic_training.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print("| training markets | Sharpe, validation years | std over seeds |\n|---|---|---|")
    for name, figures in results.items():
        print(f"| {name} | {figures['mean']:.3f} | {figures['std']:.3f} |")


if __name__ == "__main__":
    main()
