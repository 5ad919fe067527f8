"""Pictures of a running episode, drawn without a display; a window only where there is one."""

import logging
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


class EpisodeCanvas:
    """
    Growth of wealth beside the benchmark, and the weights now.

    :param assets: tickers (n_assets,)
    :param benchmark: its name
    """

    def __init__(self, assets: Sequence[str], benchmark: str):
        self.names, self.benchmark = (*assets, "cash"), benchmark
        self._window: Any = None
        self._paths: tuple[list[float], list[float]] = ([], [])
        self._info: dict[str, Any] = {}

    def add(self, wealth: float, benchmark_return: float, info: dict[str, Any], new_episode: bool) -> None:
        """
        :param wealth: now
        :param benchmark_return: of the step
        :param info: of the step; looked at only when something is drawn
        :param new_episode: whether it is a reset
        """
        wealths, index = self._paths
        if new_episode:
            wealths.clear()
            index.clear()
        wealths.append(wealth)
        index.append(index[-1] * (1.0 + benchmark_return) if index else 1.0)
        self._info = info

    def frame(self) -> np.ndarray:
        """
        :return: the picture (400, 640, 3) uint8
        """
        figure = Figure(figsize=(6.4, 4.0), dpi=100)
        canvas = FigureCanvasAgg(figure)
        self._draw(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()

    def show(self) -> None:
        """Draw into a window, or say in the log how it stands where there is no display."""
        if matplotlib.get_backend().lower() in ("agg", "template", "pdf", "svg", "ps", "cairo"):
            logger.info("%s  wealth %.3f  regime %s", self._info["date"], self._info["wealth"], self._info["regime"])
            return
        import matplotlib.pyplot as plt

        if self._window is None:
            self._window = plt.figure("QuantFlux-v0", figsize=(6.4, 4.0))
        self._window.clear()
        self._draw(self._window)
        plt.pause(1e-3)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            import matplotlib.pyplot as plt

            plt.close(self._window)
            self._window = None

    def _draw(self, figure: Figure) -> None:
        growth, bars = figure.subplots(2, 1, height_ratios=(2, 1))
        wealth, index = self._paths
        growth.plot(wealth, color="#0b6e99", linewidth=2, label="portfolio")
        growth.plot(index, color="#8a8a8a", linewidth=1.2, label=self.benchmark)
        growth.set_title(
            f"{self._info['date']}   {self._info['regime']} market   wealth {wealth[-1]:.3f}", fontsize=10, loc="left"
        )
        growth.legend(frameon=False, fontsize=8, loc="upper left")
        bars.bar(self.names, self._info["weights"], color="#0b6e99")
        bars.set_ylim(0, max(0.3, float(np.max(self._info["weights"])) * 1.05))
        bars.set_ylabel("weight", fontsize=8)
        for axes in (growth, bars):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=7)
        bars.tick_params(axis="x", labelrotation=45 if len(self.names) > 12 else 0)
        figure.tight_layout()
