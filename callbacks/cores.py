"""Where the callbacks find the portfolios of a training env: in one batch, in one env each, or in other processes."""

from stable_baselines3.common.vec_env import VecEnv

from quantflux_sb3.core import PortfolioCore


def batched_core(env: VecEnv) -> PortfolioCore | None:
    """
    :param env: the training env, wrapped or not
    :return: the portfolios of a QuantFluxVecEnv; None if the env is another one
    """
    core = getattr(env.unwrapped, "core", None)
    return core if isinstance(core, PortfolioCore) else None


def first_core(env: VecEnv) -> PortfolioCore | None:
    """
    :param env: the training env, wrapped or not; its envs may live in other processes
    :return: portfolios to read settings of (a copy, from another process); None if the env is no QuantFlux env
    """
    core = batched_core(env)
    if core is None and env.has_attr("core"):
        core = env.get_attr("core", 0)[0]
    return core if isinstance(core, PortfolioCore) else None


def own_cores(env: VecEnv) -> list[PortfolioCore]:
    """
    :param env: the training env, wrapped or not
    :return: all portfolios that live in this process and can be changed; empty if any env is no QuantFlux env
    """
    core = batched_core(env)
    singles = [getattr(single.unwrapped, "core", None) for single in getattr(env.unwrapped, "envs", [])]
    cores = [core] if core is not None else singles
    return cores if all(isinstance(each, PortfolioCore) for each in cores) else []
