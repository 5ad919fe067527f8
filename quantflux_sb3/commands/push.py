"""``quantflux push``: publish a trained agent on the Hugging Face Hub, with a model card."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from quantflux_sb3.commands.evaluate import load_model
from quantflux_sb3.commands.parsing import parse, to_settings
from quantflux_sb3.commands.run import make_parser as run_parser
from quantflux_sb3.commands.runs import is_walkforward
from quantflux_sb3.run_folder import RunFolder

if TYPE_CHECKING:
    from quantflux_sb3.hub import HubModel


def push(argv: list[str]) -> int:
    """
    :param argv: arguments after ``push``
    :return: exit code
    """
    parser = ArgumentParser(
        prog="quantflux push", exit_on_error=False, description="Publish a trained agent on the Hugging Face Hub."
    )
    parser.add_argument("run", nargs="?", type=str, default=None, help="folder of a finished `quantflux run`")
    parser.add_argument("--repo-id", type=str, required=True, help="ORGANIZATION/NAME on the Hub")
    parser.add_argument("--out", type=str, default=None, help="new folder for the files (default: hub/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="write the folder and upload nothing")
    parser.add_argument("--algo", type=str, default="ppo", help="of a model in rl_zoo3's log folder")
    parser.add_argument("-f", "--folder", type=str, default=None, help="rl_zoo3's log folder, in place of a run")
    parser.add_argument("--exp-id", type=int, default=0, help="number of the experiment there (default: the latest)")
    options = parse(parser, argv)
    if (options.run is None) == (options.folder is None):
        raise ValueError("Give the folder of a finished run, or rl_zoo3's log folder with -f; one of them.")
    from quantflux_sb3.hub import check_target, upload, write_hub_folder

    out = Path(options.out or f"hub/{options.repo_id.rpartition('/')[2]}")
    check_target(options.repo_id, out)
    model = of_run(Path(options.run)) if options.run else of_zoo(options.folder, options.algo, options.exp_id)
    folder = write_hub_folder(model, options.repo_id, out)
    if options.dry_run:
        print(f"written, not uploaded: {folder}")
    else:
        print(f"uploaded: {upload(folder, options.repo_id)}")
    return 0


def of_run(path: Path) -> "HubModel":
    """
    :param path: folder of a finished run
    :raises ValueError: if there is none
    """
    from quantflux_sb3.config import PortfolioConfig
    from quantflux_sb3.evaluation.report import read_metrics
    from quantflux_sb3.hub import HubModel, plain_env_kwargs, timing_wrapper

    metrics = read_metrics(path)
    if is_walkforward(path):
        raise ValueError(f"'{path}' is a walk-forward; push takes a run of `quantflux run`.")
    settings = to_settings(parse(run_parser(), ["--config", str(path / "config.yml")]))
    agent = asdict(settings.agent)
    n_seeds, policy = agent.pop("n_seeds"), agent.pop("policy")
    env_kwargs = plain_env_kwargs(settings.env, PortfolioConfig())
    hyperparams = {
        "policy": policy, "n_timesteps": agent.pop("total_timesteps"),
        "policy_kwargs": f"dict(log_std_init={agent.pop('log_std_init')})" if policy.endswith("SoftmaxPolicy") else "dict()",
        "env_wrapper": timing_wrapper(settings.timing if settings.use_timing else None), "env_kwargs": env_kwargs,
        **{name: value for name, value in agent.items() if name != "log_std_init"},
    }  # fmt: skip
    market, train_end = metrics["market"], RunFolder(path).read_json("data.json")["splits"]["train_end"]
    return HubModel(
        algo="ppo", algorithm="PPO", model=path / "model.zip", hyperparams=hyperparams, env_kwargs=env_kwargs, agent="agent",
        rows=_rows(metrics["test"]), period=f"unseen days, {market['test_first']} to {market['test_last']}",
        facts=[
            _holds(market["assets"], market["source"], market["benchmark"]),
            _exposure(settings.use_timing),
            f"Trained on real prices up to {train_end} and on {settings.synthetic.n_markets} synthetic markets.",
            f"The seed of {n_seeds} that did best on the validation years.",
        ],
        verdicts=metrics.get("verdicts", []), caveats=metrics.get("caveats", []), pictures=sorted(path.glob("*.png")),
    )  # fmt: skip


def of_zoo(folder: str, algo: str, exp_id: int = 0) -> "HubModel":
    """
    :param folder: rl_zoo3's log folder
    :param algo: rl_zoo3's name of the algorithm
    :param exp_id: number of the experiment; 0: the latest
    :raises ValueError: if there is no such model
    """
    try:
        from rl_zoo3.utils import get_model_path, get_saved_hyperparams
    except ImportError as error:
        raise ValueError(f"rl_zoo3's log folders need rl_zoo3 ({error}); pip install 'quantflux_sb3[zoo]'.") from error
    from quantflux_sb3.evaluation.backtest import backtest_model
    from quantflux_sb3.evaluation.baselines import run_baselines
    from quantflux_sb3.evaluation.metrics import table_rows
    from quantflux_sb3.hub import ENV_ID, HubModel
    from quantflux_sb3.market import load_bundled
    from quantflux_sb3.vec_env import make_quantflux_vec_env

    try:
        _, model_path, log_path = get_model_path(exp_id, folder, algo, ENV_ID)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"There is no {algo} model of {ENV_ID} in '{folder}' ({error}).") from error
    hyperparams, _ = get_saved_hyperparams(str(Path(log_path) / ENV_ID), test_mode=True)
    hyperparams = {name: value for name, value in hyperparams.items() if name != "normalize"}
    config, timing, wrappers = _env_of(hyperparams)
    market = load_bundled()
    venv = make_quantflux_vec_env(1, market, wrappers=wrappers, **{**vars(config), "split": "test", "episode_length": None})
    model = load_model(model_path, algo, venv)
    agent = backtest_model(model, market, "test", config, wrappers)
    return HubModel(
        algo=algo, algorithm=type(model).__name__, model=Path(model_path), hyperparams=hyperparams,
        env_kwargs=hyperparams.get("env_kwargs", {}), agent=agent.name,
        rows=table_rows([agent, *run_baselines(market, "test", config, timing)]),
        period=f"unseen days, {agent.dates[0]} to {agent.dates[-1]}",
        facts=[
            _holds(market.assets, market.source, market.benchmark),
            _exposure(timing is not None), "Trained by rl_zoo3 on the training years.",
        ],
        caveats=[*market.caveats, "One model of one seed; the spread between seeds is not known from it."],
        logs=[*sorted(Path(log_path).glob("*.csv")), *sorted(Path(log_path).glob("evaluations.npz"))],
    )  # fmt: skip


def _env_of(hyperparams: dict[str, Any]) -> tuple[Any, Any, list]:
    """The portfolio's settings, the exposure rule and the Vec wrappers that a config of rl_zoo3 means."""
    from functools import partial

    from quantflux_sb3.config import PortfolioConfig
    from quantflux_sb3.sizing import TimingRule
    from quantflux_sb3.vec_wrappers import VecMarketTiming

    wrapper = hyperparams.get("env_wrapper")
    name, rule = next(iter(wrapper.items())) if isinstance(wrapper, dict) else (wrapper, {})
    if name not in (None, "quantflux_sb3.wrappers.MarketTiming"):
        raise ValueError(f"A model behind the wrapper {name} cannot be backtested here; publish it with huggingface_hub.")
    config = PortfolioConfig(**hyperparams.get("env_kwargs", {}))
    timing = TimingRule(**rule) if name else None
    return config, timing, [partial(VecMarketTiming, **rule)] if name else []


def _holds(assets: Sequence[str], source: str, benchmark: str) -> str:
    return f"It holds {', '.join(assets)} and cash; prices from {source}; benchmark {benchmark}."


def _exposure(timed: bool) -> str:
    if timed:
        return "A rule decides how much is invested (less in volatile and falling markets); the agent chooses the assets."
    return "It chooses how much is invested, and in what."


def _rows(test: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(({"name": name, **row} for name, row in test.items()), key=lambda row: -row["sharpe_ratio"])
