"""
Stable-Baselines3 callbacks for portfolio training. All write to SB3's logger, so that TensorBoard shows them, and all can
be named in an rl_zoo3 config: ``callback: quantflux_sb3.callbacks.AllocationDiagnosticsCallback``.
"""

from quantflux_sb3.callbacks.curriculum import RegimeCurriculumCallback
from quantflux_sb3.callbacks.diagnostics import AllocationDiagnosticsCallback, RegimeAttributionCallback
from quantflux_sb3.callbacks.health import LearningHealthCallback
from quantflux_sb3.callbacks.real import EarlyStoppingOnValidation, EvalOnRealCallback
from quantflux_sb3.callbacks.synthetic import SyntheticPoolCallback
from quantflux_sb3.callbacks.tracking import MLflowCallback

__all__ = [
    "AllocationDiagnosticsCallback",
    "EarlyStoppingOnValidation",
    "EvalOnRealCallback",
    "LearningHealthCallback",
    "MLflowCallback",
    "RegimeAttributionCallback",
    "RegimeCurriculumCallback",
    "SyntheticPoolCallback",
]
