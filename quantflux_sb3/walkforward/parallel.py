"""
One function, many arguments, several processes: on this machine, or on a Ray or Dask cluster, all through joblib.

Whoever runs a task, its result is the same: a task takes one thread, its own seed, and nothing from the process it runs in.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from tqdm import tqdm

#: Name of the module that each backend needs.
BACKENDS = {"local": "joblib", "ray": "ray", "dask": "distributed"}

#: SB3 seeds the random numbers of a process; a Dask worker with several threads must not run two trainings at once.
_ALONE = threading.Lock()


def check_backend(name: str, n_jobs: int, address: str | None = None) -> None:
    """
    :param name: of the backend
    :param n_jobs: processes; -1: one per core, of the cluster if there is one
    :param address: of a cluster
    :raises ValueError: if there is no such backend, or no number of processes
    :raises ImportError: if its package is not installed
    """
    if name not in BACKENDS:
        raise ValueError(f"Unknown --backend '{name}'; expected one of {', '.join(BACKENDS)}.")
    if n_jobs < 1 and n_jobs != -1:
        raise ValueError(f"--n_jobs must be at least 1, or -1 for one process per core; got {n_jobs}.")
    if address is not None and name == "local":
        raise ValueError(f"--address {address} needs --backend ray or dask.")
    if find_spec(BACKENDS[name]) is None:
        raise ImportError(f"--backend {name} needs the extra '{name}': pip install 'quantflux_sb3[{name}]'.")


def check_cluster(name: str, address: str | None) -> None:
    """
    Connect once to a cluster that is said to run, and leave it again.

    :param name: of the backend
    :param address: of the cluster; nothing is done without one
    :raises ValueError: if none answers
    """
    if address is None:
        return
    try:
        with _BACKENDS[name](1, address):
            pass
    except Exception as error:  # of the cluster's library or of the network, each of a kind of its own
        raise ValueError(f"No {name} cluster answers at --address {address} ({error}).") from error


def run_tasks(
    function: Callable[..., Any], tasks: Sequence[tuple], backend: str = "local", n_jobs: int = -1,
    address: str | None = None, progress: bool = False, label: str = "tasks",
) -> None:  # fmt: skip
    """
    :param function: importable; what it makes, it writes
    :param tasks: its arguments, one tuple per call
    :param backend: ``local``, ``ray`` or ``dask``
    :param n_jobs: processes; -1: one per core, of the cluster if there is one
    :param address: of a running cluster; without it, one is started on this machine and stopped at the end
    :param progress: show a progress bar
    :param label: of the bar
    """
    check_backend(backend, n_jobs, address)
    with _BACKENDS[backend](n_jobs, address), tqdm(total=len(tasks), desc=label, disable=not progress) as bar:
        _Tracked(bar)(delayed(_alone)(function, task) for task in tasks)


def _alone(function: Callable[..., Any], arguments: tuple) -> None:
    with _ALONE:
        function(*arguments)


class _Tracked(Parallel):
    """Tells a progress bar which tasks are done; all backends of joblib call ``print_progress``."""

    def __init__(self, bar: tqdm):
        super().__init__(batch_size=1, max_nbytes=None)
        self.bar = bar

    def print_progress(self) -> None:
        self.bar.update(self.n_completed_tasks - self.bar.n)


@contextmanager
def _local(n_jobs: int, _: str | None) -> Iterator[None]:
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        yield


@contextmanager
def _ray(n_jobs: int, address: str | None) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # which would ask the network
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    ours = not ray.is_initialized()
    if ours:
        where = {"address": address} if address else {"num_cpus": effective_n_jobs(n_jobs), "include_dashboard": False}
        ray.init(**where, logging_level=logging.ERROR, log_to_driver=False)
    try:
        with parallel_config("ray", n_jobs=n_jobs):
            yield
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _dask(n_jobs: int, address: str | None) -> Iterator[None]:
    from distributed import Client, LocalCluster

    if address:
        with Client(address), parallel_config("dask", n_jobs=n_jobs):
            yield
        return
    size = {"n_workers": effective_n_jobs(n_jobs), "threads_per_worker": 1, "processes": True}
    with (
        LocalCluster(**size, dashboard_address=None, silence_logs=logging.ERROR) as cluster,
        Client(cluster),
        parallel_config("dask", n_jobs=n_jobs),
    ):
        yield


_BACKENDS: dict[str, Callable] = {"local": _local, "ray": _ray, "dask": _dask}
