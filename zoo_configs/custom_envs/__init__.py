"""
The module that rl_zoo3 imports, if it exists, before it looks an environment up (``rl_zoo3/import_envs.py``).

It registers ``QuantFlux-v0`` and then hands over to a ``custom_envs`` of the user's own that stands later on
``sys.path``, so that installing quantflux_sb3 hides nobody's environments.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

import quantflux_sb3  # noqa: F401


def _run_next_custom_envs() -> None:
    """Execute the next ``custom_envs`` on ``sys.path`` in place of this one, if there is any."""
    here = Path(__file__).resolve().parent
    elsewhere = [entry for entry in sys.path if (Path(entry or ".") / __name__).resolve() != here]
    spec = PathFinder.find_spec(__name__, elsewhere)
    if spec is None or spec.loader is None or (spec.origin and Path(spec.origin).resolve() == Path(__file__).resolve()):
        return
    module = module_from_spec(spec)
    sys.modules[__name__] = module
    spec.loader.exec_module(module)


_run_next_custom_envs()
