"""
The stages of an experiment that fit something: the generator, its synthetic markets, the agents.

Each leaves its result in a folder, whole or not at all, and is passed over where it has. Nothing here sees a day after the
training years of the market, but for the backtests, which play an agent on the days of the split that they are asked for.
"""

from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3 import PPO

from quantflux_sb3.market import MarketData
from quantflux_sb3.preparation import Prepared, load_by_name
from quantflux_sb3.run_folder import RunFolder
from quantflux_sb3.tracking import Tracker
from quantflux_sb3.vec_env import make_quantflux_vec_env

if TYPE_CHECKING:
    from quantflux_sb3.diffusion import RegimeDDPMPipeline


class Training:
    """
    :param prepared: checked settings, and the market whose training split is trained on
    :param folder: for the generator and the agents
    :param progress: show progress bars
    """

    def __init__(self, prepared: Prepared, folder: RunFolder, progress: bool = False):
        torch.set_num_threads(1)  # faster for networks this small, and the same result on every machine of one kind
        self.prepared, self.folder, self.progress = prepared, folder, progress
        self.settings, self.market = prepared.settings, prepared.market

    def generator(self) -> "RegimeDDPMPipeline":
        """
        :return: trained on the training years; it has seen none of the others
        """
        from quantflux_sb3.diffusion import RegimeDDPMPipeline, train_generator  # diffusers takes seconds to load

        if not self.folder.has("generator"):
            pipeline = train_generator(
                self.market.until("train"), self.settings.generator, seed=self.settings.seed, progress=self.progress
            )
            self.folder.write("generator", pipeline.save_pretrained)
        pipeline = RegimeDDPMPipeline.from_pretrained(self.folder / "generator")
        for split in ("validation", "test"):
            start, stop = self.market.rows(split)
            pipeline.check_unseen(self.market.dates[start:stop])
        return pipeline

    def synthetic(self, pipeline: "RegimeDDPMPipeline") -> list[MarketData]:
        """
        :param pipeline: the generator
        """
        from quantflux_sb3.diffusion import synthetic_markets

        wanted = self.settings.synthetic
        return synthetic_markets(pipeline, wanted.n_markets, wanted.n_days, self.settings.seed, self.market, self.progress)

    def mix(self, synthetic: list[MarketData]) -> list[Any]:
        """
        :param synthetic: markets; may be none
        :return: what the agents train on: the real market and the synthetic ones, with how often each is drawn
        """
        if not synthetic:
            return [self.market]
        share = self.settings.synthetic.share
        each = share / len(synthetic)
        return [(self.market, 1.0 - share), *((market, each) for market in synthetic)]

    def agents(self, markets: list[Any], tracker: Tracker | None = None) -> None:
        """
        :param markets: to train on
        :param tracker: that is told of the training
        """
        for number in range(self.settings.agent.n_seeds):
            name = agent_file(number)
            if not self.folder.has(name):
                model = self._train(markets, self.settings.seed + number, tracker or Tracker())
                self.folder.write(name, model.save)

    def _train(self, markets: list[Any], seed: int, tracker: Tracker) -> PPO:
        agent, prepared = self.settings.agent, self.prepared
        venv = make_quantflux_vec_env(agent.n_envs, markets, seed=seed, wrappers=prepared.wrappers, **vars(prepared.config))
        policy_kwargs: dict[str, Any] = {"optimizer_kwargs": {"fused": True}}
        if agent.policy.endswith("SoftmaxPolicy"):
            policy_kwargs["log_std_init"] = agent.log_std_init
        model = PPO(
            load_by_name(agent.policy), venv, learning_rate=agent.learning_rate, n_steps=agent.n_steps,
            batch_size=agent.batch_size, n_epochs=agent.n_epochs, gamma=agent.gamma, gae_lambda=agent.gae_lambda,
            policy_kwargs=policy_kwargs, seed=seed, device="cpu",
        )  # fmt: skip
        callback = tracker.callback(f"seed-{seed}/")
        return model.learn(agent.total_timesteps, callback=callback, progress_bar=self.progress)

    def agent(self, number: int) -> PPO:
        """
        :param number: of the seed
        :return: the trained agent
        """
        return PPO.load(self.folder / agent_file(number), device="cpu")


def agent_file(number: int) -> str:
    """
    :param number: of the seed
    :return: file of its agent within a folder
    """
    return f"agents/seed-{number}.zip"
