"""What a report is written from: the figures, days, pictures and settings of one run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from quantflux_sb3.evaluation.baselines import AGENT
from quantflux_sb3.evaluation.chart_parts import TimeAxis
from quantflux_sb3.evaluation.daily import DailySeries
from quantflux_sb3.evaluation.page import Code, Picture, Sentences, Table, Tiles
from quantflux_sb3.regimes import REGIMES

Block = Table | Picture | Tiles | Sentences | Code
Chart = Callable[[], Mapping[str, Any]]
REGIME_KEYS = MappingProxyType({regime: regime for regime in REGIMES})


@dataclass(frozen=True, eq=False)
class ReportData:
    """
    What the page is written from; a finished run's folder holds all of it.

    :param metrics: every figure, as in ``metrics.json``; a section whose figures are absent is left out
    :param daily: returns of the strategies and weights of the agent; none: no curves
    :param pictures: PNG files by name without ending, such as ``drawdown``
    :param config_text: the configuration as YAML
    :param versions: of the libraries, by name
    :param title: of the page
    """

    metrics: Mapping[str, Any]
    daily: DailySeries | None = None
    pictures: Mapping[str, Path] = field(default_factory=dict)
    config_text: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    title: str = "QuantFlux experiment"

    def __post_init__(self) -> None:
        if AGENT not in self.metrics["test"]:
            raise ValueError(f"The figures hold no strategy named '{AGENT}'; there are {list(self.metrics['test'])}.")

    @cached_property
    def uses_generator(self) -> bool:
        """Whether the settings ask for synthetic markets."""
        synthetic = (yaml.safe_load(self.config_text) or {}).get("synthetic") or {}
        return bool(synthetic.get("n_markets"))

    @cached_property
    def axis(self) -> TimeAxis | None:
        """Days of the curves."""
        return TimeAxis(self.daily) if self.daily else None

    @property
    def index(self) -> str | None:
        """Name of the benchmark's row."""
        return list(self.daily.returns)[-1] if self.daily else None

    def get(self, key: str) -> Any:
        """Figures by key; empty if they are absent."""
        return self.metrics.get(key) or {}

    def picture(
        self,
        name: str,
        caption: str,
        chart: Chart | None = None,
        note: str = "",
        keys: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Block]:
        """The picture, or nothing if there is neither a file nor a chart."""
        png, drawn = self.pictures.get(name), chart() if chart and self.axis else None
        return [Picture(caption, png, drawn, note, keys)] if png or drawn else []
