"""Pictures of a running episode, drawn without a display; a window only where there is one."""

import logging
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from quantflux_sb3.dynamics import BENCHMARK_RETURN, FINAL_WEALTH

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

    def frame(self, records: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """
        :param records: of the reset and of every step since (n, record_size)
        :param info: of the last step
        :return: the picture (400, 640, 3) uint8
        """
        figure = Figure(figsize=(6.4, 4.0), dpi=100)
        canvas = FigureCanvasAgg(figure)
        self._draw(figure, records, info)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()

    def show(self, records: np.ndarray, info: dict[str, Any]) -> None:
        """
        Draw into a window, or say in the log how it stands where there is no display.

        :param records: of the reset and of every step since (n, record_size)
        :param info: of the last step
        """
        if matplotlib.get_backend().lower() in ("agg", "template", "pdf", "svg", "ps", "cairo"):
            logger.info("%s  wealth %.3f  regime %s", info["date"], info["wealth"], info["regime"])
            return
        import matplotlib.pyplot as plt

        if self._window is None:
            self._window = plt.figure("QuantFlux-v0", figsize=(6.4, 4.0))
        self._window.clear()
        self._draw(self._window, records, info)
        plt.pause(1e-3)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            import matplotlib.pyplot as plt

            plt.close(self._window)
            self._window = None

    def _draw(self, figure: Figure, records: np.ndarray, info: dict[str, Any]) -> None:
        growth, bars = figure.subplots(2, 1, height_ratios=(2, 1))
        wealth, index = records[:, FINAL_WEALTH], np.cumprod(1.0 + records[:, BENCHMARK_RETURN])
        growth.plot(wealth, color="#0b6e99", linewidth=2, label="portfolio")
        growth.plot(index, color="#8a8a8a", linewidth=1.2, label=self.benchmark)
        growth.set_title(f"{info['date']}   {info['regime']} market   wealth {wealth[-1]:.3f}", fontsize=10, loc="left")
        growth.legend(frameon=False, fontsize=8, loc="upper left")
        bars.bar(self.names, info["weights"], color="#0b6e99")
        bars.set_ylim(0, max(0.3, float(np.max(info["weights"])) * 1.05))
        bars.set_ylabel("weight", fontsize=8)
        for axes in (growth, bars):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=7)
        bars.tick_params(axis="x", labelrotation=45 if len(self.names) > 12 else 0)
        figure.tight_layout()
