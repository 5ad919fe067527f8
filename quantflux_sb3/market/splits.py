"""Chronological splits of a history: train, validation, test."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DateSplits:
    """
    Chronological train / validation / test split. Test is everything after the validation years.

    :param train_end: last training date, included (ISO)
    :param validation_end: last validation date, included (ISO)
    :param embargo: rows after the training and after the validation years that belong to no split [days]
    """

    train_end: str = "2012-12-31"
    validation_end: str = "2015-12-31"
    embargo: int = 0

    def __post_init__(self) -> None:
        try:
            ordered = np.datetime64(self.train_end, "D") < np.datetime64(self.validation_end, "D")
        except ValueError as error:
            raise ValueError(f"The dates of a split must be ISO dates such as 2012-12-31; got {self}.") from error
        if not ordered:
            raise ValueError(f"train_end must lie before validation_end; got {self.train_end} and {self.validation_end}.")
        if isinstance(self.embargo, bool) or not isinstance(self.embargo, (int, np.integer)) or self.embargo < 0:
            raise ValueError(f"`embargo` must be a whole number of days >= 0; got {self.embargo!r}.")

    @classmethod
    def by_fraction(cls, dates: np.ndarray, train: float = 0.7, validation: float = 0.1) -> "DateSplits":
        """
        Splits of the same proportions for any history; used where nobody named dates.

        :param dates: ascending dates (n_days,)
        :param train: share of the rows for training
        :param validation: share of the rows for validation
        """
        last = len(dates) - 1
        train_row = min(int(train * last), max(last - 1, 0))
        validation_row = min(max(int((train + validation) * last), train_row + 1), last)
        return cls(str(dates[train_row]), str(dates[validation_row]))

    def rows(self, split: str, dates: np.ndarray) -> tuple[int, int]:
        """
        :param split: ``train``, ``validation``, ``test`` or ``all``
        :param dates: ascending dates (n_days,)
        :return: first row and one past the last row of the split
        """
        train_stop, validation_stop = np.searchsorted(
            dates, [np.datetime64(self.train_end, "D"), np.datetime64(self.validation_end, "D")], side="right"
        )
        bounds = {
            "train": (0, train_stop),
            "validation": (train_stop + self.embargo, validation_stop),
            "test": (validation_stop + self.embargo, len(dates)),
            "all": (0, len(dates)),
        }
        if split not in bounds:
            raise ValueError(f"Unknown split '{split}'; expected one of {sorted(bounds)}.")
        start, stop = bounds[split]
        return int(start), int(stop)
