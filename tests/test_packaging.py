"""The wheel, installed and used away from the checkout; and the rules on imports."""

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run_python(code: str, cwd: Path, pythonpath: str = "") -> str:
    """Run code in a fresh process that does not see the checkout; its standard output."""
    environment = {**os.environ, "PYTHONPATH": pythonpath}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture(scope="module")
def wheel_site(tmp_path_factory) -> Path:
    """A folder that holds nothing but the unpacked wheel, as an installer would leave it."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (wheel,) = out.glob("*.whl")
    site = out / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_wheel_holds_the_root_folders_as_subpackages(wheel_site, tmp_path):
    code = """
        import quantflux_sb3, quantflux_sb3.callbacks, quantflux_sb3.zoo_configs.ppo as ppo, custom_envs
        print(quantflux_sb3.__file__)
        print(quantflux_sb3.callbacks.__file__)
        print(ppo.hyperparams["QuantFlux-v0"]["policy"])
        import quantflux_sb3.evaluation.report
        from importlib.resources import files
        templates = files("quantflux_sb3.evaluation").joinpath("templates")
        print(*sorted(path.name for path in templates.iterdir()))
    """
    package, callbacks, policy, templates = run_python(code, tmp_path, str(wheel_site)).splitlines()
    assert Path(package).is_relative_to(wheel_site)
    assert Path(callbacks) == wheel_site / "quantflux_sb3" / "callbacks" / "__init__.py"
    assert policy == "quantflux_sb3.policies.SoftmaxPolicy"
    assert templates.split() == ["report.css", "report.html", "report.js"]


def test_wheel_env_steps_from_another_folder(wheel_site, tmp_path):
    code = """
        import gymnasium as gym, quantflux_sb3
        env = gym.make("QuantFlux-v0")
        obs, info = env.reset(seed=1)
        print(env.observation_space.contains(obs), env.step(env.action_space.sample())[4]["wealth"] > 0)
    """
    assert run_python(code, tmp_path, str(wheel_site)) == "True True"


def test_wheel_ships_no_tests_and_no_benchmarks(wheel_site):
    assert sorted(path.name for path in wheel_site.iterdir() if not path.name.endswith(".dist-info")) == [
        "custom_envs",
        "quantflux_sb3",
    ]


def test_importing_the_package_loads_neither_torch_nor_diffusers(tmp_path):
    code = """
        import sys, gymnasium, quantflux_sb3
        print("torch" in sys.modules, "diffusers" in sys.modules, "QuantFlux-v0" in gymnasium.registry)
        env = gymnasium.make("QuantFlux-v0")
        print("torch" in sys.modules)
    """
    assert run_python(code, tmp_path).split() == ["False", "False", "True", "False"]


def test_registration_is_idempotent(tmp_path):
    code = """
        import warnings
        warnings.simplefilter("error")
        import importlib, quantflux_sb3
        importlib.reload(quantflux_sb3)
        print("fine")
    """
    assert run_python(code, tmp_path) == "fine"


def test_custom_envs_hook_hands_over_to_the_users_own(wheel_site, tmp_path):
    (tmp_path / "custom_envs").mkdir()
    (tmp_path / "custom_envs" / "__init__.py").write_text("MINE = 42\n")
    code = f"""
        import sys, gymnasium
        sys.path.append({str(tmp_path)!r})
        import custom_envs
        print(custom_envs.MINE, "QuantFlux-v0" in gymnasium.registry)
    """
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run_python(code, elsewhere, str(wheel_site)) == "42 True"


def test_imports_point_downwards():
    order = [
        {"market"}, {"regimes", "layout"}, {"dynamics", "costs", "features"}, {"rewards", "pool"}, {"sizing", "config"},
        {"core"}, {"env"}, {"rendering", "wrappers"}, {"vec_env", "vec_wrappers"},
        {"distributions", "networks", "policies"}, {"evaluation"}, {"experiment", "settings", "run_folder"},
        {"commands"}, {"cli"},
    ]  # fmt: skip
    level = {name: depth for depth, names in enumerate(order) for name in names}
    wrong = []
    for path in sorted((ROOT / "quantflux_sb3").rglob("*.py")):
        own = path.relative_to(ROOT / "quantflux_sb3").parts[0].removesuffix(".py")
        for line in path.read_text().splitlines():
            if line.startswith("from quantflux_sb3."):  # at module level; a lazy import inside a function is no cycle
                other = line.split()[1].split(".")[1]
                if own in level and other in level and level[other] > level[own]:
                    wrong.append(f"{path.name}: {line}")
                if own == "diffusion" and other not in ("diffusion", "market", "regimes"):
                    wrong.append(f"{path.name}: {line}")
    assert not wrong
