"""
A trained agent as a folder for the Hugging Face Hub: the files that ``rl_zoo3.load_from_hub`` reads, and a model card that
says what was trained, how it did beside what could be held instead, and what could be wrong with that.

It stands in for ``rl_zoo3.push_to_hub``, which does not import with the current release of its Hub library
(https://github.com/huggingface/huggingface_sb3/issues/54) and whose card knows only a mean reward.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData

from quantflux_sb3.run_folder import RunFolder

ENV_ID = "QuantFlux-v0"
CARD = Path(__file__).with_name("hub_card.md")
#: Figures that the Hub shows beside the card.
METRICS = ("sharpe_ratio", "annual_return", "max_drawdown")
#: Digest of every file of a folder written here; a folder that still agrees with it may be written again.
DIGESTS = ".quantflux.json"


@dataclass(frozen=True)
class HubModel:
    """
    What is published.

    :param algo: rl_zoo3's name of the algorithm
    :param algorithm: its name for people
    :param model: zip of the model
    :param hyperparams: as rl_zoo3's config.yml holds them
    :param env_kwargs: arguments of the env, plain values
    :param agent: name of the agent among ``rows``
    :param rows: name and figures of each strategy, the best first
    :param period: the days that the figures are of
    :param facts: what was trained on what, in words
    :param verdicts: what the figures say
    :param caveats: what could be wrong
    :param pictures: PNG files to keep beside the card
    :param logs: monitor and evaluation files of the training
    """

    algo: str
    algorithm: str
    model: Path
    hyperparams: Mapping[str, Any]
    env_kwargs: Mapping[str, Any]
    agent: str
    rows: Sequence[Mapping[str, Any]]
    period: str
    facts: Sequence[str]
    verdicts: Sequence[str] = ()
    caveats: Sequence[str] = ()
    pictures: Sequence[Path] = field(default_factory=list)
    logs: Sequence[Path] = field(default_factory=list)


def model_card(model: HubModel, repo_id: str) -> ModelCard:
    """
    :param model: what is published
    :param repo_id: ``organization/name``
    """
    organization, _, name = repo_id.partition("/")
    figures = next(row for row in model.rows if row["name"] == model.agent)
    task = {"task_type": "reinforcement-learning", "dataset_type": ENV_ID, "dataset_name": f"{ENV_ID}, {model.period}"}
    results = [EvalResult(metric_type=metric, metric_value=round(float(figures[metric]), 4), **task) for metric in METRICS]
    data = ModelCardData(
        library_name="stable-baselines3", tags=[ENV_ID, "reinforcement-learning", "stable-baselines3", "portfolio", "finance"],
        model_name=name, eval_results=results,
    )  # fmt: skip
    texts = {
        "hyperparams": yaml.safe_dump(dict(model.hyperparams)), "organization": organization, "name": name, "env_id": ENV_ID,
    }  # fmt: skip
    return ModelCard.from_template(data, template_path=str(CARD), **{**_values(model), **texts})


def _values(model: HubModel) -> dict[str, Any]:
    return {name: value for name, value in vars(model).items() if name not in ("model", "pictures", "logs")}


def check_target(repo_id: str, out: Path) -> None:
    """
    :param repo_id: ``organization/name``
    :param out: new folder, or one that :func:`write_hub_folder` wrote and nobody changed
    :raises ValueError: if ``repo_id`` is no such name or the folder holds something else
    """
    organization, slash, name = repo_id.partition("/")
    if not (organization and slash and name) or "/" in name:
        raise ValueError(f"--repo-id must be ORGANIZATION/NAME; got '{repo_id}'.")
    if out.exists() and not _is_ours(out):
        raise ValueError(
            f"There is a '{out}' already, and it is not, or no longer, as `quantflux push` writes one; delete it, or choose "
            "another --out."
        )


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds what :func:`write_hub_folder` wrote, and nothing else."""
    try:
        return json.loads((folder / DIGESTS).read_text(encoding="utf-8")) == _digests(folder)
    except (OSError, ValueError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    paths = (path for path in sorted(folder.rglob("*")) if path.name != DIGESTS)
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for path in paths
    }


def write_hub_folder(model: HubModel, repo_id: str, out: Path) -> Path:
    """
    :param model: what is published
    :param repo_id: ``organization/name``, which the card names
    :param out: new folder, or one that this function wrote and nobody changed
    :return: the folder, ready to be uploaded
    :raises ValueError: see :func:`check_target`
    """
    check_target(repo_id, out)
    card = model_card(model, repo_id)
    out.parent.mkdir(parents=True, exist_ok=True)
    return RunFolder(out.parent).write(out.name, lambda folder: _write_files(model, card, folder))


def _write_files(model: HubModel, card: ModelCard, out: Path) -> None:
    out.mkdir()
    shutil.copy(model.model, out / f"{model.algo}-{ENV_ID}.zip")
    for file, content in {
        "config.yml": dict(model.hyperparams), "env_kwargs.yml": dict(model.env_kwargs),
        "args.yml": {"algo": model.algo, "env": ENV_ID, "env_kwargs": dict(model.env_kwargs)},
    }.items():  # fmt: skip
        (out / file).write_text(yaml.safe_dump(content), encoding="utf-8")
    with zipfile.ZipFile(out / "train_eval_metrics.zip", "w") as archive:
        for path in model.logs:
            archive.write(path, path.name)
    for path in model.pictures:
        shutil.copy(path, out / path.name)
    card.save(out / "README.md")
    (out / DIGESTS).write_text(json.dumps(_digests(out)), encoding="utf-8")


def upload(folder: Path, repo_id: str) -> str:
    """
    :param folder: of :func:`write_hub_folder`
    :param repo_id: ``organization/name``; made if it does not exist
    :return: its address
    :raises ValueError: if the Hub does not take it
    """
    api = HfApi()
    try:
        url = api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="QuantFlux agent", ignore_patterns=[DIGESTS])
    except Exception as error:  # of the network, of the Hub or of the token, each of a library of its own
        raise ValueError(f"The Hub did not take '{folder}' ({type(error).__name__}: {error}); the folder is kept.") from error
    return str(url)


def plain_env_kwargs(config: Any, default: Any) -> dict[str, Any]:
    """
    :param config: settings of a portfolio
    :param default: the same with nothing changed
    :return: those that differ and are plain values, as rl_zoo3 keeps them
    """
    differing = {name: value for name, value in vars(config).items() if value != getattr(default, name)}
    return {name: value for name, value in differing.items() if isinstance(value, (bool, int, float, str, type(None)))}


def timing_wrapper(timing: Any) -> str | dict[str, Any] | None:
    """
    :param timing: exposure rule, or None
    :return: what rl_zoo3 calls ``env_wrapper``
    """
    if timing is None:
        return None
    name = "quantflux_sb3.wrappers.MarketTiming"
    default = vars(type(timing)())
    changed = {key: value for key, value in vars(timing).items() if value != default[key]}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in changed.items()}
    return {name: plain} if plain else name
