"""What a finished walk-forward leaves in its folder: the figures, a table of the folds, pictures and the page."""

import csv
import io
from typing import Any

from quantflux_sb3.evaluation.daily import DAILY_FILE, DailySeries
from quantflux_sb3.evaluation.report import PAGE_FILE, read_run, write_report
from quantflux_sb3.run_folder import LAST_FILE, RunFolder
from quantflux_sb3.walkforward.summary import WalkForwardSummary


def write_results(summary: WalkForwardSummary, folder: RunFolder) -> None:
    """
    :param summary: the evaluation
    :param folder: of the run; ``metrics.json`` comes last
    """
    folder.write_text("folds.csv", _folds_table(summary))
    DailySeries.of(summary.strategies).write(folder / DAILY_FILE)
    if summary.trained:  # the page is about an agent
        summary.experiment.write_pictures(folder.path)
        write_report(folder / PAGE_FILE, read_run(folder.path, summary.metrics))
    folder.write_json(LAST_FILE, summary.metrics)


def _folds_table(summary: WalkForwardSummary) -> str:
    text = io.StringIO()
    rows = [dict(_flat(row)) for row in summary.fold_rows()]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: dict[str, Any]) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in row.items():
        if key in ("train", "validation", "test"):
            flat += [(f"{key}_first", value[0]), (f"{key}_last", value[1])]
        elif isinstance(value, list):
            flat += [(f"{key}_{number}", figure) for number, figure in enumerate(value)]
        else:
            flat.append((key, value))
    return flat
