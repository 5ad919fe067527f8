"""
Tracking of runs with Weights & Biases or MLflow, behind one interface: numbers while something is trained, figures, and what a
run leaves behind.

Where the runs go is what the services' own settings say: ``WANDB_MODE=offline``, ``WANDB_DIR``, ``MLFLOW_TRACKING_URI`` (a
file ``mlflow.db`` in the working folder if not set) and so on. Both packages come with the extra ``tracking`` and are loaded
only when somebody asks for them.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, KVWriter

from quantflux_sb3.nested import flattened

#: W&B's project, and MLflow's experiment if ``MLFLOW_EXPERIMENT_NAME`` names no other.
PROJECT = "quantflux"
#: Steps of the training, among the numbers of each.
STEP = "global_step"
#: What is kept of a run's folder.
ARTIFACTS = ("*.json", "*.yml", "*.png", "*.html", "model.zip")


class TrackerError(ValueError):
    """A service that does not start."""


class Tracker:
    """Takes what one run has to tell; this one forgets it."""

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """
        :param settings: nested; they are named by dots
        """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """
        :param metrics: finite numbers by name
        :param step: of the training; None: figures of the whole run
        """

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """
        :param name: such as ``validation/allocation``
        :param figure: matplotlib's
        :param step: of the training
        """

    def log_files(self, paths: list[Path]) -> None:
        """
        :param paths: files to keep with the run
        """

    def finish(self, status: str) -> None:
        """
        :param status: finished, failed or killed
        """

    def callback(self, prefix: str = "") -> BaseCallback | None:
        """
        :param prefix: of the names, where a run trains several agents
        :return: for ``learn``: sends there what SB3's logger writes
        """
        return None

    def log_folder(self, path: Path) -> None:
        """
        :param path: folder of a finished run: the numbers of its metrics.json, and its files
        """
        self.log_metrics(flat_numbers(json.loads((path / "metrics.json").read_text(encoding="utf-8"))))
        self.log_files(sorted(file for pattern in ARTIFACTS for file in path.glob(pattern)))


class _Service(Tracker):
    def callback(self, prefix: str = "") -> BaseCallback:
        return TrackingCallback(self, prefix)


class WandbTracker(_Service):
    """
    :param name: of the run
    """

    def __init__(self, name: str):
        import wandb

        self.wandb = wandb
        try:
            self.run = wandb.init(project=PROJECT, name=name)
        except wandb.Error as error:
            raise TrackerError(f"Weights & Biases does not start: {error} (WANDB_MODE=offline needs no account).") from error

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        self.run.config.update(dict(settings))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is None:
            self.run.summary.update(dict(metrics))
        else:  # not under W&B's own step, which may not fall when the next agent begins
            self.run.log(dict(metrics))

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        content = BytesIO()
        figure.savefig(content, format="png")  # W&B itself takes figures of pyplot only
        self.run.log({name: self.wandb.Image(Image.open(content))})

    def log_files(self, paths: list[Path]) -> None:
        artifact = self.wandb.Artifact(re.sub(r"[^\w.-]", "_", f"run-{self.run.name}"), type="run")
        for path in paths:
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)
        self.run.log({path.stem: self.wandb.Image(str(path)) for path in paths if path.suffix == ".png"})

    def callback(self, prefix: str = "") -> BaseCallback:
        self.run.define_metric(f"{prefix}*", step_metric=f"{prefix}{STEP}")
        return super().callback(prefix)

    def finish(self, status: str) -> None:
        self.run.finish(exit_code=0 if status == "finished" else 1)


class MLflowTracker(_Service):
    """
    :param name: of the run
    :param experiment: it belongs to; ``MLFLOW_EXPERIMENT_NAME`` or :data:`PROJECT` if not given
    :param tracking_uri: of MLflow's store; ``MLFLOW_TRACKING_URI`` or MLflow's default if not given
    """

    def __init__(self, name: str | None = None, experiment: str | None = None, tracking_uri: str | None = None):
        from mlflow.environment_variables import MLFLOW_EXPERIMENT_NAME
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        experiment = experiment or MLFLOW_EXPERIMENT_NAME.get() or PROJECT
        try:
            self.client = MlflowClient(tracking_uri)
            known = self.client.get_experiment_by_name(experiment)
            number = known.experiment_id if known else self.client.create_experiment(experiment)
            self.run_id = self.client.create_run(number, run_name=name).info.run_id
        except MlflowException as error:
            raise TrackerError(f"MLflow does not start: {error}") from error

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(_name(name), str(value)) for name, value in flattened(settings)]
        self.client.log_batch(self.run_id, params=params)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(_name(name), value, now, step or 0) for name, value in metrics.items()]
        for first in range(0, len(batch), 1000):  # MLflow takes no more at once
            self.client.log_batch(self.run_id, metrics=batch[first : first + 1000])

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        self.client.log_figure(self.run_id, figure, f"{_name(name)}_{step:09d}.png")

    def log_files(self, paths: list[Path]) -> None:
        for path in paths:
            self.client.log_artifact(self.run_id, str(path))

    def finish(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status.upper())


TRACKERS = {"wandb": WandbTracker, "mlflow": MLflowTracker}


def check_tracker(kind: str | None) -> None:
    """
    :param kind: a key of :data:`TRACKERS`, or None
    :raises ValueError: if there is no such tracker or its package is not installed
    """
    if kind is not None and kind not in TRACKERS:
        raise ValueError(f"--track must be one of {', '.join(TRACKERS)}; got '{kind}'.")
    if kind is not None and find_spec(kind) is None:
        raise ValueError(f"Tracking with {kind} needs the extra 'tracking': pip install 'quantflux_sb3[tracking]'.")


@contextmanager
def tracked(kind: str | None, name: str, settings: Mapping[str, Any]) -> Iterator[Tracker]:
    """
    Open a run of a tracker and close it, with the word for how it ended.

    :param kind: a key of :data:`TRACKERS`; None: nothing is tracked
    :param name: of the run
    :param settings: nested, of the run
    :raises TrackerError: if the service does not start
    """
    tracker = TRACKERS[kind](name) if kind else Tracker()
    status = "failed"
    try:
        tracker.log_settings(settings)
        yield tracker
        status = "finished"
    except KeyboardInterrupt:
        status = "killed"
        raise
    finally:
        tracker.finish(status)


class TrackerWriter(KVWriter):
    """
    An output of SB3's logger, as its documentation recommends for MLflow.

    :param tracker: that is written to
    :param prefix: of the names
    """

    def __init__(self, tracker: Tracker, prefix: str = ""):
        self.tracker, self.prefix = tracker, prefix

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        numbers = flat_numbers({STEP: step, **key_values})
        self.tracker.log_metrics({f"{self.prefix}{name}": value for name, value in numbers.items()}, step)
        for name, value in key_values.items():
            if isinstance(value, Figure):
                self.tracker.log_figure(f"{self.prefix}{name}", value.figure, step)


class TrackingCallback(BaseCallback):
    """
    Sends what SB3's logger writes during a training to a tracker.

    :param tracker: that is written to
    :param prefix: of the names
    :param verbose: not used
    """

    def __init__(self, tracker: Tracker, prefix: str = "", verbose: int = 0):
        super().__init__(verbose)
        self.writer = TrackerWriter(tracker, prefix)

    def _on_training_start(self) -> None:
        self.logger.output_formats.append(self.writer)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self.logger.name_to_value:  # of the last update, after which SB3 writes no more
            self.writer.write(self.logger.name_to_value, self.logger.name_to_excluded, self.num_timesteps)
        self.logger.output_formats.remove(self.writer)


def describe(model: BaseAlgorithm) -> dict[str, Any]:
    """
    :param model: in training
    :return: its algorithm, policy and plain settings
    """
    plain = {name: value for name, value in vars(model).items() if isinstance(value, (bool, int, float, str))}
    settings = {name: value for name, value in plain.items() if not name.startswith("_")}
    return {"algorithm": type(model).__name__, "policy": type(model.policy).__name__, **settings}


def flat_numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """
    :param content: nested mappings, as a metrics.json
    :return: the finite numbers among its leaves, their names joined by slashes
    """
    pairs = flattened(content, "/")
    return {name: float(value) for name, value in pairs if isinstance(value, (Real, np.number)) and np.isfinite(float(value))}


def _name(name: str) -> str:
    """What MLflow takes as a name."""
    return re.sub(r"[^\w\-. /]", "_", name)
