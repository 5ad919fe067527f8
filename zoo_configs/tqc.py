"""Hyper-parameters of tqc.yml for `rl_zoo3 train --conf-file quantflux_sb3.zoo_configs.tqc`."""

from quantflux_sb3.zoo_configs import load_hyperparams

hyperparams = load_hyperparams(__name__)
