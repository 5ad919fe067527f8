"""``quantflux control``: does PPO learn what is there to learn, and nothing where nothing is?"""

import json
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from quantflux_sb3.commands.parsing import parse

#: A few rollouts; fewer say nothing.
LEAST_TIMESTEPS = 4096


def control(argv: list[str]) -> int:
    """
    :param argv: arguments after ``control``
    :return: exit code
    """
    description = "Train PPO on simulated markets whose best policy is known; 100 % is that policy, 0 % equal weight."
    parser = ArgumentParser(prog="quantflux control", exit_on_error=False, description=description)
    parser.add_argument("--markets", nargs="+", type=str, default=["free", "costs", "shuffled"], help="which of the three")
    parser.add_argument("--policy", type=str, default="softmax", help="softmax or dirichlet")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--timesteps", type=int, default=100_000, help="env steps of each training")
    parser.add_argument("--out", type=str, default=None, help="JSON file for the figures")
    options = parse(parser, argv)
    _check(options)
    import torch

    from quantflux_sb3.evaluation.plots import write_whole

    torch.set_num_threads(1)  # faster for networks this small
    results = {market: _run(market, options) for market in options.markets}
    if options.out:
        write_whole(options.out, (json.dumps(results, indent=2) + "\n").encode())
    return 0


def _check(options: Any) -> None:
    from quantflux_sb3.evaluation.controls import COSTS, LEARNERS

    if unknown := [market for market in options.markets if market not in COSTS]:
        raise ValueError(f"--markets takes {', '.join(COSTS)}; got {', '.join(unknown)}.")
    if options.policy not in LEARNERS:
        raise ValueError(f"--policy must be one of {', '.join(LEARNERS)}; got '{options.policy}'.")
    if options.seeds < 1 or options.seed < 0:
        raise ValueError(f"--seeds must be >= 1 and --seed >= 0; got {options.seeds} and {options.seed}.")
    if options.timesteps < LEAST_TIMESTEPS:
        raise ValueError(f"--timesteps must be at least {LEAST_TIMESTEPS:,}; got {options.timesteps}.")
    if options.out and not Path(options.out).resolve().parent.is_dir():
        raise ValueError(f"There is no folder '{Path(options.out).resolve().parent}' to write --out into.")


def _run(kind: str, options: Any) -> dict[str, Any]:
    from quantflux_sb3.evaluation.controls import LEARNERS, learning_curve, mean_interval

    steps = sorted({min(step, options.timesteps) for step in (25_000, 50_000, options.timesteps)})
    unit = "Sharpe ratio minus that of equal weight" if kind == "shuffled" else "% of the oracle's growth, equal weight 0"
    print(
        f"{kind}, {options.policy}: {unit}\n  {'seed':>6}{''.join(f'{step:>12,}' for step in steps)}{'CPU s':>9}", flush=True
    )
    rows, seconds = [], []
    for seed in range(options.seed, options.seed + options.seeds):
        curve, trained = learning_curve(kind, LEARNERS[options.policy], seed, steps)
        rows.append(curve)
        seconds.append(trained)
        print(f"  {seed:>6}{''.join(_cell(kind, value) for value in curve)}{trained:>9.1f}", flush=True)
    intervals = [mean_interval(column) for column in zip(*rows, strict=True)]
    print(f"  {'mean':>6}{''.join(_cell(kind, mean) for mean, _ in intervals)}")
    if options.seeds > 1:
        print(f"  {'+-':>6}{''.join(_cell(kind, half) for _, half in intervals)}   (95 % interval of the mean)")
    return {
        "policy": options.policy, "timesteps": steps, "seeds": list(range(options.seed, options.seed + options.seeds)),
        "figures": rows, "mean": [mean for mean, _ in intervals], "half_interval": [half for _, half in intervals],
        "cpu_seconds": seconds,
    }  # fmt: skip


def _cell(kind: str, value: float) -> str:
    return f"{value:>12.2f}" if kind == "shuffled" else f"{value:>12.1f}"
