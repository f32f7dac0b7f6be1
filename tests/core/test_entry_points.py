"""What a process meets that never imported us: Gymnasium's registry, the wheel, the scripts at the root."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("core", "logs", "encoders", "simulators", "envs", "agents", "evaluation", "cli", "configs")
SCRIPTS = (
    "train_agent.py",
    "evaluate_agents.py",
    "recommend.py",
    "fit_simulator.py",
    "fit_encoder.py",
    "compress_encoder.py",
)


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | environment,
        timeout=300,
    )


GYM = """
import socket, sys
def refuse(*arguments, **keywords): raise OSError("no network in this test")
socket.socket.connect = refuse
import gymnasium
env = gymnasium.make("recworld:recworld/Slate-v0")
observation, info = env.reset(seed=0)
assert env.observation_space.contains(observation)
total = 0
for _ in range(3):
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    if terminated or truncated: env.reset()
assert env.spec.max_episode_steps is None
vector = gymnasium.make_vec("recworld:recworld/Slate-v0", num_envs=3, vectorization_mode="vector_entry_point")
observation, info = vector.reset(seed=0)
assert vector.num_envs == 3 and len(info["user"]) == 3
print([name for name in ("torch", "transformers", "stable_baselines3") if name in sys.modules])
"""


def test_gymnasium_makes_it_offline_in_a_clean_process(tmp_path: Path) -> None:
    done = run("-W", "error", "-c", GYM, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", "stepping needs neither torch nor a language model"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_start_from_the_root_beside_hugging_face_packages(script: str, tmp_path: Path) -> None:
    for name in ("datasets", "evaluate", "tokenizers", "agents", "openai_agents"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    done = run(script, "--help", cwd=ROOT, PYTHONPATH=str(tmp_path), COLUMNS="100")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script}")
    assert "--help" in done.stdout
    assert len((ROOT / script).read_text().splitlines()) <= 4


def test_no_folder_at_the_root_hides_an_installed_library(tmp_path: Path) -> None:
    harmless = {"tests", "docs", "examples", "benchmarks"}  # some wheels install these by mistake
    ours = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p.is_dir() and p.name[0] not in "._")}
    installed = {
        name: sources
        for name, sources in importlib.metadata.packages_distributions().items()
        if set(sources) != {"recworld"}
    }
    assert ours & set(installed) - harmless == set()
    assert ours & {"datasets", "evaluate", "tokenizers", "transformers"} == set()


def test_the_command_tells_its_commands_and_version() -> None:
    command = [str(Path(sys.executable).with_name("recworld"))]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(name in shown for name in ("train", "evaluate", "recommend", "fit"))
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    assert version == f"recworld {importlib.metadata.version('recworld')}\n"
    wrong = subprocess.run([*command, "trian"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (2, "error: Unknown command 'trian'. Did you mean 'train'?\n")


def test_the_wheel_holds_everything_and_works_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    wanted = ["pyproject.toml", "README.md", "LICENSE", *(f"{folder}/*.*" for folder in FOLDERS)]
    for file in (file for pattern in wanted for file in ROOT.glob(pattern)):
        (source / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        (source / file.relative_to(ROOT)).write_bytes(file.read_bytes())
    built = run(
        "-c",
        "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))",
        str(tmp_path),
        cwd=source,
    )
    assert built.returncode == 0, built.stderr
    wheel = next(tmp_path.glob("*.whl"))
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {"recworld/py.typed"}
    for folder in FOLDERS[1:]:
        expected |= {
            f"recworld/{folder}/{p.name}" for p in (source / folder).iterdir() if p.suffix in (".py", ".yaml")
        }
    expected |= {f"recworld/{p.name}" for p in (source / "core").glob("*.py")}
    assert {name for name in held if name.startswith("recworld/")} == expected
    assert {name.split("/")[0] for name in held} == {"recworld", "recworld-0.1.0.dist-info"}
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    code = (
        "import recworld, recworld.configs as c; print(recworld.__file__); print('ml-100k' in c.config_names());"
        "print(recworld.RecVectorEnv(2).num_envs)"
    )
    # -S keeps the editable install's import hook out; the libraries are named by path.
    libraries = os.pathsep.join([str(unpacked), *[p for p in sys.path if p.endswith("site-packages")]])
    done = run("-S", "-c", code, cwd=tmp_path, PYTHONPATH=libraries)
    assert done.stdout.splitlines() == [str(unpacked / "recworld" / "__init__.py"), "True", "2"], done.stderr
