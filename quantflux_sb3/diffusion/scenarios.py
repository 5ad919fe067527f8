"""
Scenarios: what regime the market is in on which days, how volatile it is, and what it returns.

``Scenario([("bull", 63), ("volatile", 21, {"vol": 0.45}), ("sideways", 63)])`` is three months of bull market, a month at
45 % annual volatility, and three months sideways. A part's volatility may move from one value to another,
``{"vol": (0.2, 0.6)}``; without one, days have the volatility that their regime had in the training years as soon as any
part of the scenario names one. ``{"return": -0.3}`` is a view on the benchmark's mean return over the part: all paths are
shifted evenly, assets by their beta, which changes no volatility, tail or correlation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from quantflux_sb3.diffusion.pipeline import RegimeDDPMOutput, RegimeDDPMPipeline
from quantflux_sb3.regimes import REGIMES

_OPTIONS = ("vol", "return")


@dataclass(frozen=True)
class ScenarioPart:
    """
    :param regime: one of ``REGIMES``
    :param days: length
    :param volatility: of the benchmark, annualised, at the first and at the last day; None: left to the regime
    :param mean_return: of the benchmark over the part; None: left to the generator
    :raises ValueError: if a value makes no sense
    """

    regime: str
    days: int
    volatility: tuple[float, float] | None = None
    mean_return: float | None = None

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise ValueError(f"Unknown regime {self.regime!r} in a scenario; expected one of {list(REGIMES)}.")
        if isinstance(self.days, bool) or not isinstance(self.days, (int, np.integer)) or self.days < 1:
            raise ValueError(f"A part of a scenario lasts a whole number of days >= 1; got {self.days!r} for '{self.regime}'.")
        if self.volatility is not None and not all(0.0 < value < np.inf for value in self.volatility):
            raise ValueError(f"'vol' must be positive, annualised (0.25 is 25 % a year); got {self.volatility}.")
        if self.mean_return is not None and not -1.0 < self.mean_return < np.inf:
            raise ValueError(f"'return' must be above -1 (-0.3 is a loss of 30 %); got {self.mean_return}.")

    @classmethod
    def parse(cls, entry: Any) -> "ScenarioPart":
        """
        :param entry: (regime, days) or (regime, days, {"vol": one number or a pair, "return": number})
        """
        if isinstance(entry, ScenarioPart):
            return entry
        if not isinstance(entry, (tuple, list)) or len(entry) not in (2, 3):
            raise ValueError(f"A part of a scenario is (regime, days) or (regime, days, options); got {entry!r}.")
        regime, days, options = (*entry, {})[:3]
        unknown = set(options) - set(_OPTIONS)
        if unknown:
            raise ValueError(f"Unknown options {sorted(unknown)} of a scenario's part; expected some of {list(_OPTIONS)}.")
        volatility = options.get("vol")
        if volatility is not None:
            ends = volatility if isinstance(volatility, (tuple, list)) else (volatility, volatility)
            if len(ends) != 2:
                raise ValueError(f"'vol' is one number or a pair (first, last day); got {volatility!r}.")
            volatility = (float(ends[0]), float(ends[1]))
        return cls(regime, days, volatility, options.get("return"))


class Scenario:
    """
    :param parts: one after the other, each as :meth:`ScenarioPart.parse` takes it
    :raises ValueError: if there are none, or one makes no sense
    """

    def __init__(self, parts: Iterable[Any]):
        self.parts = tuple(ScenarioPart.parse(part) for part in parts)
        if not self.parts:
            raise ValueError("A scenario needs at least one part, such as ('bull', 63).")

    @classmethod
    def named(cls, name: str) -> "Scenario":
        """
        :param name: of ``STRESS_SCENARIOS``, or parts such as ``bull:63,volatile:21:0.45``
        :raises ValueError: if it is neither
        """
        if name in STRESS_SCENARIOS:
            return STRESS_SCENARIOS[name]
        if ":" not in name:
            raise ValueError(
                f"Unknown scenario '{name}'; expected one of {list(STRESS_SCENARIOS)}, or parts such as "
                "bull:63,volatile:21:0.45."
            )
        try:
            fields = [part.split(":") for part in name.split(",")]
            return cls([(part[0], int(part[1]), *({"vol": float(vol)} for vol in part[2:])) for part in fields])
        except (IndexError, ValueError) as error:
            reason = str(error) if "scenario" in str(error) or "vol" in str(error) else "regime:days or regime:days:volatility"
            raise ValueError(f"Cannot read the scenario '{name}': {reason}") from error

    @property
    def n_days(self) -> int:
        return sum(part.days for part in self.parts)

    @property
    def regimes(self) -> np.ndarray:
        """Index into ``REGIMES`` per day (n_days,)."""
        return np.repeat([REGIMES.index(part.regime) for part in self.parts], [part.days for part in self.parts])

    def volatility(self, usual: np.ndarray) -> np.ndarray | None:
        """
        :param usual: annual volatility of the benchmark in each regime (n_regimes,)
        :return: per day (n_days,), or None if no part names one
        """
        if all(part.volatility is None for part in self.parts):
            return None
        ends = [part.volatility or (usual[REGIMES.index(part.regime)],) * 2 for part in self.parts]
        return np.concatenate([np.geomspace(*pair, part.days) for pair, part in zip(ends, self.parts, strict=True)])

    def scaled(self, n_days: int) -> "Scenario":
        """
        :param n_days: at least a day for every part
        :return: the same scenario, its parts shorter or longer in proportion
        """
        if n_days < len(self.parts):
            raise ValueError(f"A scenario of {len(self.parts)} parts needs as many days at least; got {n_days}.")
        stops = np.round(np.cumsum([part.days for part in self.parts]) * n_days / self.n_days).astype(int)
        stops = np.maximum(stops, np.arange(1, len(stops) + 1))
        stops = np.minimum(stops, n_days - np.arange(len(stops))[::-1])
        days = np.diff(stops, prepend=0)
        parts = zip(self.parts, days, strict=True)
        return Scenario([ScenarioPart(part.regime, int(n), part.volatility, part.mean_return) for part, n in parts])

    def generate(
        self, pipeline: RegimeDDPMPipeline, n_paths: int, generator: torch.Generator | None = None, **kwargs: Any
    ) -> RegimeDDPMOutput:
        """
        :param pipeline: the generator
        :param n_paths: paths to draw
        :param generator: source of all randomness
        :param kwargs: further arguments of the pipeline
        :return: simple returns, see :class:`RegimeDDPMOutput`
        """
        volatility = self.volatility(pipeline.state.regime_volatility)
        drawn = pipeline(n_paths, self.n_days, self.regimes, volatility, generator, **kwargs)
        if all(part.mean_return is None for part in self.parts):
            return drawn
        return self._shifted(drawn, pipeline.state.beta)

    def _shifted(self, drawn: RegimeDDPMOutput, beta: np.ndarray) -> RegimeDDPMOutput:
        market, assets = np.log1p(drawn.benchmark_returns), np.log1p(drawn.returns)
        stop = 0
        for part in self.parts:
            days, stop = slice(stop, stop + part.days), stop + part.days
            if part.mean_return is not None:
                growth = np.exp(market[:, days].sum(axis=1)).mean()
                shift = np.log((1.0 + part.mean_return) / growth) / part.days
                market[:, days] += shift
                assets[:, days] += shift * beta
        return RegimeDDPMOutput(np.expm1(assets), np.expm1(market))


#: In the manner of: the crisis of 2007-2009, the spring of 2020, 2000-2002, and 1994 or 2022; a year each.
STRESS_SCENARIOS = {
    "crash-2008": Scenario([
        ("sideways", 42, {"vol": 0.17, "return": -0.03}), ("bear", 84, {"vol": (0.2, 0.25), "return": -0.1}),
        ("volatile", 42, {"vol": (0.35, 0.75), "return": -0.28}), ("volatile", 42, {"vol": (0.65, 0.45), "return": -0.1}),
        ("bull", 42, {"vol": (0.4, 0.28), "return": 0.12}),
    ]),
    "shock-2020": Scenario([
        ("bull", 63, {"vol": 0.1, "return": 0.05}), ("volatile", 23, {"vol": (0.3, 0.85), "return": -0.32}),
        ("volatile", 43, {"vol": (0.6, 0.3), "return": 0.25}), ("bull", 123, {"vol": (0.25, 0.15), "return": 0.15}),
    ]),
    "grinding-bear": Scenario([
        ("bear", 126, {"vol": 0.22, "return": -0.14}), ("sideways", 42, {"vol": 0.18, "return": 0.02}),
        ("bear", 84, {"vol": 0.26, "return": -0.12}),
    ]),
    "rate-shock-sideways": Scenario([
        ("bull", 42, {"vol": 0.12, "return": 0.03}), ("volatile", 21, {"vol": 0.26, "return": -0.08}),
        ("sideways", 126, {"vol": 0.17, "return": 0.0}), ("bear", 42, {"vol": 0.22, "return": -0.06}),
        ("sideways", 21, {"vol": 0.16, "return": 0.01}),
    ]),
}  # fmt: skip


def markov_regimes(pipeline: RegimeDDPMPipeline, n_paths: int, n_days: int, rng: np.random.Generator) -> np.ndarray:
    """
    :param pipeline: the generator, whose training years the chain was estimated on
    :param n_paths: regime paths to draw
    :param n_days: length of each
    :param rng: source of all randomness
    :return: regime per day (n_paths, n_days), indices into ``REGIMES``
    """
    return draw_regimes(pipeline.state.transitions, pipeline.state.regime_shares, n_paths, n_days, rng)


def draw_regimes(
    transitions: np.ndarray, shares: np.ndarray, n_paths: int, n_days: int, rng: np.random.Generator
) -> np.ndarray:
    """
    :param transitions: daily transition probabilities (n_regimes, n_regimes)
    :param shares: probabilities of the first day (n_regimes,)
    :return: regime per day (n_paths, n_days), indices into ``REGIMES``
    """
    uniform = rng.random((n_paths, n_days))
    cumulative, last = np.cumsum(transitions, axis=1), len(shares) - 1
    regimes = np.empty((n_paths, n_days), dtype=np.int64)
    regimes[:, 0] = np.minimum(np.searchsorted(np.cumsum(shares), uniform[:, 0], side="right"), last)
    for day in range(1, n_days):
        below = cumulative[regimes[:, day - 1]] <= uniform[:, day, None]
        regimes[:, day] = np.minimum(below.sum(axis=1), last)
    return regimes
