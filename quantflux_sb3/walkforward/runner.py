"""
A walk-forward: the whole experiment again for every fold, each fitted on its own past, and one portfolio over all test years.

Folds run side by side, each in a folder of its own; what is finished is kept, seed by seed. The figures are computed from
the stored decisions at the end, always in the same way, whoever trained the agents and in whatever order.
"""

import sys
from dataclasses import dataclass, replace

from rich.console import Console

from quantflux_sb3.evaluation.data_quality import data_lines
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.run_folder import RunFolder
from quantflux_sb3.settings import WalkForwardSettings
from quantflux_sb3.walkforward.fold_run import is_done, read_decisions, run_fold, validation_file
from quantflux_sb3.walkforward.folds import Fold, make_folds, whole_test
from quantflux_sb3.walkforward.page import write_results
from quantflux_sb3.walkforward.parallel import run_tasks
from quantflux_sb3.walkforward.summary import SeedOfFold, WalkForwardSummary


@dataclass(frozen=True)
class PreparedWalk:
    """
    What the settings mean, checked before anything is written.

    :param prepared: settings, and the market whose test split is all test years
    :param folds: consecutive
    """

    prepared: Prepared
    folds: list[Fold]

    @classmethod
    def check(cls, settings: WalkForwardSettings) -> "PreparedWalk":
        """
        :raises ValueError: for anything that would fail later
        """
        prepared = Prepared.read(settings)
        folds = make_folds(prepared.market, settings)
        if not settings.baselines_only:
            prepared.on(folds[0].market(prepared.market))  # the one with the fewest days to train on
        return cls(replace(prepared, market=whole_test(prepared.market, folds)), folds)


class WalkForward:
    """
    :param walk: checked settings, data and folds
    :param folder: of the run
    :param console: for progress
    :param backend: see :func:`run_tasks`; so are the following
    :param n_jobs: processes
    :param address: of a cluster; all its machines must see the folder of the run
    """

    def __init__(
        self, walk: PreparedWalk, folder: RunFolder, console: Console, backend: str = "local", n_jobs: int = -1,
        address: str | None = None,
    ):  # fmt: skip
        self.prepared, self.folds = walk.prepared, walk.folds
        self.folder, self.console = RunFolder(folder.path.resolve()), console
        self.where = {"backend": backend, "n_jobs": n_jobs, "address": address}
        self.stage = "data"

    def run(self) -> WalkForwardSummary:
        """
        Run every fold that is not done yet, and put them together.

        :return: the evaluation
        """
        self.prepared.record(self.folder)
        for line in data_lines(self.prepared.report):
            self.console.print(line, highlight=False)
        if not self.prepared.settings.baselines_only:
            self.stage = "folds"
            self._run_folds()
        self.stage = "evaluation"
        result = self.summary()
        write_results(result, self.folder)
        return result

    def summary(self) -> WalkForwardSummary:
        """
        :return: the evaluation of folds that are done; every figure is computed when it is asked for
        """
        return WalkForwardSummary(self.prepared, self.folds, [] if self.prepared.settings.baselines_only else self._seeds())

    def _fold_folder(self, fold: Fold) -> RunFolder:
        return self.folder.child(f"folds/{fold.name}")

    def _run_folds(self) -> None:
        folders = {fold: self._fold_folder(fold) for fold in self.folds}
        todo = [(self.prepared, fold, folder.path) for fold, folder in folders.items() if not is_done(self.prepared, folder)]
        self.console.print(f"{len(todo)} of {len(folders)} folds to do ...", highlight=False)
        run_tasks(run_fold, todo, **self.where, progress=sys.stderr.isatty(), label="folds")

    def _seeds(self) -> list[list[SeedOfFold]]:
        return [
            [self._seed_of_fold(fold, number) for fold in self.folds] for number in range(self.prepared.settings.agent.n_seeds)
        ]

    def _seed_of_fold(self, fold: Fold, number: int) -> SeedOfFold:
        folder = self._fold_folder(fold)
        validation = folder.read_json(validation_file(number))["sharpe_ratio"]
        return SeedOfFold(validation, read_decisions(folder, number))
