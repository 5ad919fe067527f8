"""Hyper-parameters of a2c.yml for `rl_zoo3 train --conf-file quantflux_sb3.zoo_configs.a2c`."""

from quantflux_sb3.zoo_configs import load_hyperparams

hyperparams = load_hyperparams(__name__)
