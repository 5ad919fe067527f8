"""
Hyper-parameters for rl_zoo3, one ``.yml`` and one module of the same name each.

``rl_zoo3 train --env QuantFlux-v0 --conf-file quantflux_sb3.zoo_configs.ppo`` imports the module and reads its
``hyperparams``.
"""

from importlib.resources import files
from typing import Any

import yaml


def load_hyperparams(module_name: str) -> dict[str, Any]:
    """
    Read the YAML file that stands beside a config module.

    :param module_name: ``__name__`` of the module, such as ``quantflux_sb3.zoo_configs.ppo``
    :return: hyper-parameters by environment id, as rl_zoo3 expects them
    """
    text = files(__name__).joinpath(f"{module_name.rpartition('.')[2]}.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)
