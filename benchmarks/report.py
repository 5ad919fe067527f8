"""
How long a full report takes: ten strategies and an agent of five seeds on 20 stocks, 2000 to 2022, without any training.

    python benchmarks/report.py [--out FOLDER]

The agent is an untrained policy with the default exposure rule, backtested once per seed; everything that `quantflux run` does
in its evaluation is done and timed: backtests, intervals, overfitting, attribution, explanation, pictures and the page.
CPU seconds of this process; the first line, imports and compilation, is not counted.
"""

import argparse
import json
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from stable_baselines3 import PPO

from quantflux_sb3.config import PortfolioConfig
from quantflux_sb3.evaluation.backtest import backtest_model
from quantflux_sb3.evaluation.baselines import AGENT, run_baselines
from quantflux_sb3.evaluation.metrics import performance
from quantflux_sb3.evaluation.summary import ExperimentSummary
from quantflux_sb3.evaluation.why import explanation
from quantflux_sb3.market import DateSplits, bundled_prices, load_bundled
from quantflux_sb3.policies import SoftmaxPolicy
from quantflux_sb3.sizing import TimingRule
from quantflux_sb3.vec_env import make_quantflux_vec_env
from quantflux_sb3.vec_wrappers import VecMarketTiming

N_SEEDS = 5
#: With the agent, its base rule, equal weight and the index these are ten strategies.
RULES = ("buy and hold", "inverse volatility", "minimum variance", "HRP", "momentum 12-1", "volatility target")
CONFIG = PortfolioConfig(costs=0.001, target_smoothing=5)
TIMING = TimingRule()
WRAPPERS = [partial(VecMarketTiming, **vars(TIMING))]

spent: dict[str, float] = {}


@contextmanager
def timed(name: str):
    """CPU seconds of one stage."""
    begin = time.process_time()
    yield
    spent[name] = time.process_time() - begin
    print(f"{name:<28}{spent[name]:6.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--out", type=Path, default=None, help="existing folder for the page (default: a temporary one)")
    out = parser.parse_args().out or Path(tempfile.mkdtemp())
    torch.set_num_threads(1)
    splits = DateSplits(train_end="1996-12-31", validation_end="1999-12-31")
    market = replace(load_bundled(tuple(bundled_prices()[0].columns)), splits=splits)
    with timed("(warm-up)"):
        venv = make_quantflux_vec_env(1, market, wrappers=WRAPPERS, **vars(CONFIG))
        models = [PPO(SoftmaxPolicy, venv, seed=seed, device="cpu") for seed in range(N_SEEDS)]
        backtest_model(models[0], market, "validation", CONFIG, WRAPPERS, AGENT)
    with timed("backtests of the agents"):
        agents = [backtest_model(model, market, "test", CONFIG, WRAPPERS, AGENT) for model in models]
    with timed("backtests of the baselines"):
        rules = run_baselines(market, "test", CONFIG, TIMING, RULES)
    with timed("explanation"):
        reasons = explanation(models[0], market, "test", CONFIG, WRAPPERS)
    seeds = {seed: {"test_sharpe_ratio": performance(result)["sharpe_ratio"]} for seed, result in enumerate(agents)}
    summary = ExperimentSummary(
        market, agents[0], rules, seeds, 0, 1.0, subtitle="benchmark of the report", seed_results=agents, n_trials=92,
        costs=CONFIG.costs, explanation=reasons,
    )  # fmt: skip
    with timed("figures and intervals"):
        metrics = summary.metrics
    with timed("days, pictures, page"):
        summary.write(out)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2))
    backtests = sum(seconds for name, seconds in spent.items() if name.startswith("backtests"))
    report = sum(seconds for name, seconds in spent.items() if not name.startswith(("(", "backtests")))
    page = (out / "report.html").stat().st_size / 1e6
    print(
        f"{len(metrics['test'])} strategies, {len(agents[0].dates)} days: {report:.1f} CPU s, and {backtests:.1f} of backtests"
    )
    print(f"{out / 'report.html'}: {page:.1f} MB")


if __name__ == "__main__":
    main()
