"""
What the policies learn and what they cost: the tables of docs/policies.md.

``python benchmarks/policies.py learning`` trains every policy, flat and equivariant, on the market with a known answer (15
minutes on one core); ``controls`` the shipped ones with costs and on shuffled returns (8 minutes); ``speed`` compares PPO with
ours to PPO with SB3's MlpPolicy on the same env. The seeds are 0-4 and 0-9; settings were chosen on seeds from 100.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from scipy.special import softmax
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.vec_env import VecEnvWrapper

from quantflux_sb3.evaluation.controls import LEARNERS, Learner, learning_curve, mean_interval
from quantflux_sb3.policies import DirichletPolicy, SimplexPolicy, SoftmaxPolicy
from quantflux_sb3.vec_env import make_quantflux_vec_env

STEPS = (25_000, 50_000, 100_000)
#: Twice as many on shuffled returns.
N_SEEDS = 5
#: Best of -2, -1, 0 for the Gaussian, on other seeds.
GAUSSIAN_LOG_STD = 0.0


class GaussianDistribution(DiagGaussianDistribution):
    """SB3's, but its network is the layer of the means alone; the policy has the width."""

    def proba_distribution_net(self, latent_dim: int, log_std_init: float = 0.0) -> th.nn.Linear:
        return th.nn.Linear(latent_dim, self.action_dim)


class GaussianPolicy(SimplexPolicy):
    """SB3's Gaussian on our network, with one width for all weights, so that the equivariant one is equivariant."""

    def _make_distribution(self) -> Any:
        return GaussianDistribution(self.action_space.shape[0])

    def _build_exploration(self) -> None:
        self.log_std = th.nn.Parameter(th.full((1,), float(self.log_std_init)))

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> DiagGaussianDistribution:
        return self.action_dist.proba_distribution(self.action_net(latent_pi), self.log_std)


class VecSoftmaxActions(VecEnvWrapper):
    """As FinRL's portfolio env reads its Box(0, 1): the weights are the softmax of the clipped action."""

    def reset(self):
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        self.venv.step_async(softmax(np.clip(actions, 0.0, 1.0), axis=1))

    def step_wait(self):
        return self.venv.step_wait()


def flat(learner: Learner) -> Learner:
    """The same learner on SB3's MLP of 64 and 64."""
    kwargs = {**learner.policy_kwargs, "equivariant": False, "net_arch": [64, 64]}
    return replace(learner, policy_kwargs=kwargs)


def contestants() -> dict[str, Learner]:
    gaussian = {"log_std_init": GAUSSIAN_LOG_STD, "net_arch": [64, 64], "cash_logit": 0.0}
    ppo = LEARNERS["softmax"].ppo
    equivariant = {
        "Softmax": LEARNERS["softmax"],
        "Dirichlet": LEARNERS["dirichlet"],
        "Gaussian, normalised": Learner(GaussianPolicy, gaussian, ppo),
        "Gaussian, softmax of Box(0, 1)": Learner(GaussianPolicy, gaussian, ppo, wrappers=(VecSoftmaxActions,)),
    }
    return {
        **{f"{name}, equivariant": learner for name, learner in equivariant.items()},
        **{f"{name}, flat": flat(learner) for name, learner in equivariant.items()},
    }


def row(kind: str, learner: Learner, n_seeds: int, steps: tuple[int, ...]) -> dict[str, Any]:
    curves, seconds = zip(*(learning_curve(kind, learner, seed, steps) for seed in range(n_seeds)), strict=True)
    intervals = [mean_interval(column) for column in zip(*curves, strict=True)]
    return {"steps": steps, "curves": curves, "intervals": intervals, "cpu_seconds": seconds}


def learning(n_seeds: int = N_SEEDS, steps: tuple[int, ...] = STEPS) -> dict[str, Any]:
    results = {}
    print(f"| policy | {' | '.join(f'{step // 1000}k steps' for step in steps)} | CPU s |\n|---|{'---:|' * (len(steps) + 1)}")
    for name, learner in contestants().items():
        results[name] = row("free", learner, n_seeds, steps)
        _print(name, results[name], "{:.1f} ± {:.1f}")
    return results


def controls(n_seeds: int = N_SEEDS, steps: tuple[int, ...] = STEPS) -> dict[str, Any]:
    results = {}
    for name, learner in LEARNERS.items():
        results[f"{name}, costs"] = row("costs", learner, n_seeds, steps)
        _print(f"{name}, costs", results[f"{name}, costs"], "{:.1f} ± {:.1f}")
    for name, learner in LEARNERS.items():
        results[f"{name}, shuffled"] = row("shuffled", learner, 2 * n_seeds, (steps[0], steps[-1]))
        _print(f"{name}, shuffled", results[f"{name}, shuffled"], "{:+.2f} ± {:.2f}")
    return results


def _print(name: str, result: dict[str, Any], form: str) -> None:
    cells = " | ".join(form.format(*interval) for interval in result["intervals"])
    print(f"| {name} | {cells} | {max(result['cpu_seconds']):.0f} |", flush=True)


def speed(rounds: int = 7, n_steps: int = 32_768) -> dict[str, Any]:
    """PPO on QuantFlux-v0, 64 envs, batches of 512, one thread, CPU time; every policy in turn, medians of the ratios."""
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "MlpPolicy": ("MlpPolicy", {}),
        "SoftmaxPolicy": (SoftmaxPolicy, {}),
        "DirichletPolicy": (DirichletPolicy, {}),
        "SoftmaxPolicy, net_arch=[64, 64]": (SoftmaxPolicy, {"net_arch": [64, 64]}),
        "SoftmaxPolicy, equivariant=False": (SoftmaxPolicy, {"equivariant": False}),
    }
    models = {name: _timed_model(policy, kwargs) for name, (policy, kwargs) in kinds.items()}
    speeds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            begin = time.process_time()
            model.learn(n_steps)
            speeds[name].append(n_steps / (time.process_time() - begin))
    results = {}
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(values, speeds["MlpPolicy"], strict=True))
        results[name] = {"steps_per_second": statistics.median(values), "ratio": ratio, "share": where(models[name])}
        shares = ", ".join(f"{part} {share:.0%}" for part, share in results[name]["share"].items())
        print(f"| {name} | {results[name]['steps_per_second']:,.0f} | {ratio:.2f} | {shares} |", flush=True)
    return results


def _timed_model(policy: Any, kwargs: dict[str, Any]) -> PPO:
    venv = make_quantflux_vec_env(64, seed=0)
    model = PPO(policy, venv, n_steps=64, batch_size=512, n_epochs=4, device="cpu", seed=0, policy_kwargs=kwargs)
    return model.learn(4096)


#: Where the time of a training goes, by the function in whose call it passes.
_PARTS = {
    ("ppo.py", "train"): "update", ("on_policy_algorithm.py", "collect_rollouts"): "rollout",
    ("vec_env.py", "step_wait"): "env", ("graph.py", "_engine_run_backward"): "backward",
    ("policies.py", "evaluate_actions"): "forward of the update", ("adam.py", "step"): "Adam",
}  # fmt: skip


def where(model: PPO) -> dict[str, float]:
    """Shares of the time; the parts of the update are shares of the whole too."""
    import cProfile
    import pstats

    profile = cProfile.Profile()
    profile.runcall(model.learn, 16_384)
    table = pstats.Stats(profile)
    shares: Counter = Counter()
    for (path, _, function), (*_, cumulative, _callers) in table.stats.items():  # type: ignore[attr-defined]
        if part := _PARTS.get((Path(path).name, function)):
            shares[part] = max(shares[part], cumulative / table.total_tt)  # type: ignore[attr-defined]
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("learning", "controls", "speed"))
    parser.add_argument("--out", type=Path, default=None, help="JSON file (default: benchmarks/results/policies_PART.json)")
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help="of learning and controls")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="of learning and controls, ascending")
    options = parser.parse_args()
    th.set_num_threads(1)
    if options.part == "speed":
        results = speed()
    else:
        results = {"learning": learning, "controls": controls}[options.part](options.seeds, tuple(options.steps))
    out = options.out or Path(f"benchmarks/results/policies_{options.part}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
