"""
The folds of a walk-forward: which days are trained on, which choose, which are tested.

Training grows from the first day of the prices; the validation days lie right before the test years. Between training and
validation, and between validation and test, some days are left out (the embargo), so that no decision of the one is taken
days before those of the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from quantflux_sb3.market.data import WARMUP_DAYS, DateSplits, MarketData
from quantflux_sb3.settings import WalkForwardSettings

#: At most this share of the history before the test years validates.
MAX_VALIDATION_SHARE = 0.3
#: The fewest days that earn a reward in training: an agent's episode.
MIN_TRAIN_DAYS = 252


@dataclass(frozen=True)
class Fold:
    """
    :param name: first test year
    :param splits: training, validation and test days
    :param stop: one past the last test row
    """

    name: str
    splits: DateSplits
    stop: int

    def market(self, market: MarketData) -> MarketData:
        """
        :param market: the whole history
        :return: what there is of it at the end of the fold's test years, split
        """
        return replace(market.window(0, self.stop), splits=self.splits)

    def spans(self, market: MarketData) -> dict[str, list[str]]:
        """
        :param market: the whole history
        :return: first and last date that earns a return in ``train``, ``validation`` and ``test``
        """
        own = self.market(market)
        rows = {split: own.rows(split) for split in ("train", "validation", "test")}
        return {split: [str(own.dates[start]), str(own.dates[stop - 1])] for split, (start, stop) in rows.items()}


def make_folds(market: MarketData, settings: WalkForwardSettings) -> list[Fold]:
    """
    :param market: the whole history
    :param settings: test years, validation years, embargo
    :raises ValueError: if the prices do not reach that far, or too little is left for training
    """
    first, last = settings.first, settings.last or _year(market.dates[-1])
    known = (_year(market.dates[0]), _year(market.dates[-1]))
    if first > known[1]:
        raise ValueError(f"--first {first} is after the last price, {market.dates[-1]}.")
    if not known[0] <= first <= last <= known[1]:
        raise ValueError(
            f"The prices reach from {market.dates[0]} to {market.dates[-1]}; test years {first} to {last} do not fit."
        )
    folds = [_fold(market, settings, year, last) for year in range(first, last + 1, settings.fold_years)]
    for fold in folds:
        fold.spans(market)
    return folds


def _fold(market: MarketData, settings: WalkForwardSettings, year: int, last: int) -> Fold:
    start, stop = (_row(market, limit) for limit in (year, min(year + settings.fold_years, last + 1)))
    most = int(MAX_VALIDATION_SHARE * start)
    n_validation = min(round(settings.validation_years * market.periods_per_year), most)
    validation_stop = start - settings.embargo
    train_stop = validation_stop - n_validation - settings.embargo
    if train_stop - WARMUP_DAYS - 1 < MIN_TRAIN_DAYS:
        raise ValueError(
            f"Before the test year {year} there are {start} days; warm-up, validation and embargo leave "
            f"{max(train_stop - WARMUP_DAYS - 1, 0)} to train on, and {MIN_TRAIN_DAYS} are needed. Give a later --first."
        )
    ends = (str(market.dates[row - 1]) for row in (train_stop, validation_stop))
    return Fold(str(year), DateSplits(*ends, embargo=settings.embargo), stop)


def whole_test(market: MarketData, folds: Sequence[Fold]) -> MarketData:
    """
    :param market: the whole history
    :param folds: consecutive
    :return: the history until the last fold's end; its test split is all test years of the folds
    """
    start, _ = folds[0].market(market).rows("test")
    splits = DateSplits(folds[0].splits.train_end, str(market.dates[start - 1]))
    return replace(market.window(0, folds[-1].stop), splits=splits)


def _year(date: np.datetime64) -> int:
    return int(str(date)[:4])


def _row(market: MarketData, year: int) -> int:
    return int(np.searchsorted(market.dates, np.datetime64(f"{year}-01-01")))
