"""Hyper-parameters of ppo_lstm.yml for `rl_zoo3 train --conf-file quantflux_sb3.zoo_configs.ppo_lstm`."""

from quantflux_sb3.zoo_configs import load_hyperparams

hyperparams = load_hyperparams(__name__)
