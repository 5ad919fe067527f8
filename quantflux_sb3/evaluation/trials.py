"""How many settings were tried before: the count that deflates a Sharpe ratio, read from what Optuna leaves behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: States of trials whose result somebody saw.
SEEN = ("COMPLETE", "PRUNED")


@dataclass(frozen=True)
class TuningTrials:
    """
    :param n_trials: trials whose result was seen, pruned ones too
    :param values: objective of those that were complete
    """

    n_trials: int
    values: tuple[float, ...]


def tuning_trials(source: str | Path, study_name: str | None = None) -> TuningTrials:
    """
    Count the trials of a tuning study.

    :param source: CSV file of the study's trials, as ``rl_zoo3 train -optimize`` writes it; or an Optuna storage: a URL such
        as ``sqlite:///study.db``, or the file of a journal (``.log``)
    :param study_name: which study of the storage; all of them if not given
    :return: how many, and their values
    :raises ValueError: if there is no such file or study, or the file is no such table
    """
    text = str(source)
    if "://" not in text and not Path(text).is_file():
        raise ValueError(f"There is no file '{text}' to count trials in.")
    if "://" not in text and not text.endswith(".log"):
        return _from_csv(Path(text))
    return _from_storage(text, study_name)


def _from_csv(path: Path) -> TuningTrials:
    import pandas as pd

    try:
        table = pd.read_csv(path, float_precision="round_trip")
    except ValueError as error:  # pandas' own errors are ValueErrors, and so is text that cannot be decoded
        raise ValueError(f"'{path}' is no table of trials ({error}).") from error
    if "number" not in table or "value" not in table:
        raise ValueError(f"'{path}' is no table of trials: it has the columns {list(table)[:8]}, not 'number' and 'value'.")
    states = table["state"] if "state" in table else np.where(table["value"].notna(), "COMPLETE", "FAIL")
    return _count(list(states), table["value"].tolist())


def _from_storage(source: str, study_name: str | None) -> TuningTrials:
    try:
        import optuna
    except ImportError as error:
        raise ImportError("Reading an Optuna storage needs optuna: pip install 'quantflux_sb3[zoo]'.") from error
    storage = source
    if "://" not in source:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        storage = JournalStorage(JournalFileBackend(source))
    names = optuna.get_all_study_names(storage)
    if (study_name is not None and study_name not in names) or not names:
        raise ValueError(f"'{source}' holds the studies {names}" + (f", not '{study_name}'." if study_name else "."))
    chosen = [study_name] if study_name else names
    trials = [trial for name in chosen for trial in optuna.load_study(study_name=name, storage=storage).trials]
    return _count([trial.state.name for trial in trials], [trial.values[0] if trial.values else np.nan for trial in trials])


def _count(states: Sequence[str], values: Sequence[float]) -> TuningTrials:
    complete = tuple(float(value) for state, value in zip(states, values, strict=True) if state == "COMPLETE")
    return TuningTrials(sum(state in SEEN for state in states), complete)
