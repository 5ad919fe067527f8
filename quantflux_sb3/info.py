"""
The information of a step, put together only if somebody looks at it.

Most training loops never do, and SB3's ``DummyVecEnv`` copies every info deeply at every step, which for a dictionary of
fifteen entries costs several times what the step costs.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np

from quantflux_sb3.core import PortfolioCore
from quantflux_sb3.dynamics import (
    BENCHMARK_RETURN,
    COST,
    DRAWDOWN,
    EXPOSURE,
    FINAL_WEALTH,
    KNOWN_ROW,
    LAST_ROW,
    PORTFOLIO_RETURN,
    REASON,
    REBALANCED,
    RECORD_HEAD,
    REWARD_TERMS,
    TERMS,
    TRADE_REASONS,
    TURNOVER,
)
from quantflux_sb3.regimes import REGIMES

INFO_KEYS = (
    "date", "wealth", "weights", "target_weights", "turnover", "cost", "rebalanced", "trade_reason", "exposure", "regime",
    "regime_probs", "portfolio_return", "benchmark_return", "drawdown", "reward_terms",
)  # fmt: skip
_KEYS = frozenset(INFO_KEYS)
_PLAIN = frozenset((bool, int, float, str))
# Looked up here once, and not at every step.
_empty, _items, _put, _get = dict.__new__, dict.items, dict.__setitem__, dict.get


class StepInfo(dict):
    """
    A dictionary with the keys ``INFO_KEYS`` (and whatever else is put in), whose values are computed at the first look.

    :param core: the batch; only its tables, which never change, and the records of this step, which it lets go, are kept
    :param env: which portfolio
    """

    __slots__ = ("_snapshot",)

    def __init__(self, core: PortfolioCore, env: int):
        self._snapshot = core.pool, core.prices, core.records, env
        _put(self, "wealth", core.records.item(env, FINAL_WEALTH))  # json.dumps passes over an empty dictionary

    def _fill(self) -> None:
        if self._snapshot is not None:
            snapshot, self._snapshot = self._snapshot, None
            added = dict(dict.items(self))
            dict.clear(self)
            dict.update(self, _figures(*snapshot) | added)

    def __missing__(self, key: str) -> Any:
        if self._snapshot is None or key not in _KEYS:
            raise KeyError(key)
        self._fill()
        return self[key]

    def get(self, key: str, default: Any = None) -> Any:
        if key in _KEYS:  # SB3 asks every info of every step for "episode" and "is_success"
            self._fill()
        return _get(self, key, default)

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self, key) or (self._snapshot is not None and key in _KEYS)

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self._fill()
        return dict.__len__(self)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        for info in (self, other):
            if isinstance(info, StepInfo):
                info._fill()
        return dict.__eq__(self, other)

    def __or__(self, other: dict) -> dict[str, Any]:
        return self.copy() | dict(other)

    def __ror__(self, other: dict) -> dict[str, Any]:
        return dict(other) | self.copy()

    def __reversed__(self) -> Iterator[str]:
        self._fill()
        return dict.__reversed__(self)

    def __delitem__(self, key: str) -> None:
        self._fill()
        dict.__delitem__(self, key)

    def __repr__(self) -> str:
        self._fill()
        return dict.__repr__(self)

    def keys(self):
        self._fill()
        return dict.keys(self)

    def items(self):
        self._fill()
        return dict.items(self)

    def values(self):
        self._fill()
        return dict.values(self)

    def pop(self, *args: Any) -> Any:
        self._fill()
        return dict.pop(self, *args)

    def popitem(self) -> tuple[str, Any]:
        self._fill()
        return dict.popitem(self)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self._fill()
        return dict.setdefault(self, key, default)

    def clear(self) -> None:
        self._snapshot = None
        dict.clear(self)

    def copy(self) -> dict[str, Any]:
        self._fill()
        return dict(dict.items(self))

    def __copy__(self) -> dict[str, Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict) -> "StepInfo":
        twin = _empty(StepInfo)
        twin._snapshot = self._snapshot  # never changes: records are made anew at every step
        for key, value in _items(self):
            _put(twin, key, value if type(value) in _PLAIN else deepcopy(value, memo))
        return twin

    def __reduce__(self) -> tuple:
        return dict, (self.copy(),)

    __hash__ = None  # type: ignore[assignment]


def _figures(pool: Any, prices: Any, records: np.ndarray, env: int) -> dict[str, Any]:
    record, n = records[env], pool.n_assets + 1
    figures = record[:RECORD_HEAD].tolist()
    probs = prices.regime_probs[int(figures[KNOWN_ROW])].copy()
    return {
        "date": pool.date_texts[int(figures[LAST_ROW])],
        "wealth": figures[FINAL_WEALTH],
        "weights": record[RECORD_HEAD : RECORD_HEAD + n].copy(),
        "target_weights": record[RECORD_HEAD + n :].copy(),
        "turnover": figures[TURNOVER],
        "cost": figures[COST],
        "rebalanced": figures[REBALANCED] > 0.0,
        "trade_reason": TRADE_REASONS[int(figures[REASON])],
        "exposure": figures[EXPOSURE],
        "regime": REGIMES[probs.argmax()],
        "regime_probs": probs,
        "portfolio_return": figures[PORTFOLIO_RETURN],
        "benchmark_return": figures[BENCHMARK_RETURN],
        "drawdown": figures[DRAWDOWN],
        "reward_terms": dict(zip(REWARD_TERMS, figures[TERMS:], strict=True)),
    }
