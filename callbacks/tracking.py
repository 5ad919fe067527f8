"""MLflow as an output of SB3's logger."""

from quantflux_sb3.tracking import MLflowTracker, Tracker, TrackerWriter, TrackingCallback, check_tracker, describe


class MLflowCallback(TrackingCallback):
    """
    Opens a run of MLflow when training starts, sends there what SB3's logger writes, pictures included, and closes it when
    training ends. (For Weights & Biases there are ``rl_zoo3 train --track`` and W&B's own callback for SB3.)

    :param experiment: that the run belongs to; ``MLFLOW_EXPERIMENT_NAME`` or ``quantflux`` if not given
    :param run_name: of the run; MLflow invents one if not given
    :param tracking_uri: such as ``sqlite:///mlflow.db``; ``MLFLOW_TRACKING_URI`` or MLflow's default if not given
    :param verbose: not used
    :raises ValueError: if MLflow is not installed or does not start
    """

    def __init__(
        self, experiment: str | None = None, run_name: str | None = None, tracking_uri: str | None = None, verbose: int = 0
    ):
        super().__init__(Tracker(), verbose=verbose)
        check_tracker("mlflow")
        self.experiment, self.run_name, self.tracking_uri = experiment, run_name, tracking_uri

    def _on_training_start(self) -> None:
        tracker = MLflowTracker(self.run_name, self.experiment, self.tracking_uri)
        tracker.log_settings(describe(self.model))
        self.writer = TrackerWriter(tracker)
        super()._on_training_start()

    def _on_training_end(self) -> None:
        super()._on_training_end()
        self.writer.tracker.finish("finished")
