"""Guards of the folder map: what is packaged, what imports what, how light the import is."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import recworld

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]

MAY_IMPORT = {
    "core": set[str](),
    "logs": {"core"},
    "encoders": {"core", "logs"},
    "simulators": {"core", "logs", "encoders"},
    "envs": {"core", "logs", "simulators"},
    "agents": {"core", "simulators", "envs"},
    "evaluation": {"core", "logs", "encoders", "simulators", "envs", "agents"},
    "cli": {"core", "logs", "encoders", "simulators", "envs", "agents", "evaluation", "configs"},
    "configs": set[str](),
}


def modules() -> dict[str, Path]:
    """Return every module of the tree by its import name."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in sorted((ROOT / folder).glob("*.py")):
            found[package if file.stem == "__init__" else f"{package}.{file.stem}"] = file
    return found


MODULES = modules()


def folder_of(name: str) -> str | None:
    """Return the folder that holds the imported name `name`, or None where it is not ours."""
    parts = name.split(".")
    if parts[0] != "recworld":
        return None
    return parts[1] if len(parts) > 1 and f"recworld.{parts[1]}" in FOLDERS else "core"


def imported(tree: ast.AST) -> set[str]:
    """Return the dotted names that a module imports anywhere in its text."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def typing_only(tree: ast.AST) -> set[str]:
    """Return the names imported under ``if TYPE_CHECKING:``, which no running program sees."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                names |= imported(ast.Module([child], []))
    return names


def test_packages_are_the_folders_of_the_tree() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == set(FOLDERS)
    holders = {f.parent.name for f in ROOT.glob("*/__init__.py")}
    assert holders == set(FOLDERS.values())
    nested = [
        p
        for folder in FOLDERS.values()
        for p in (ROOT / folder).glob("*/*.py")
        if "__pycache__" not in p.parts
    ]
    assert nested == [], "a sub-folder with modules must be named in pyproject.toml"


def test_version_is_the_projects() -> None:
    assert recworld.__version__ == PROJECT["project"]["version"]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down_the_table(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    used = imported(tree)
    if name in {"recworld", "recworld.agents.base"}:
        used -= typing_only(tree)
    own = folder_of(name)
    assert own is not None
    above = {n for n in used if (folder := folder_of(n)) and folder not in MAY_IMPORT[own] | {own}}
    assert not above, f"{own}/ may import {sorted(MAY_IMPORT[own])} only"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module_is_one_room_with_a_purpose(name: str) -> None:
    text = MODULES[name].read_text()
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "a module says what it is for"
    asserts = [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assert)]
    assert not asserts, "errors are raised, not asserted"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_doctests(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def run_python(code: str, **environment: str) -> str:
    """Run a piece of Python in a clean process outside the repository; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT.parent,
        env=os.environ | environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light() -> None:
    code = """if True:
        import json, sys, time
        start = time.process_time()
        import recworld
        heavy = ["torch", "numba", "transformers", "stable_baselines3", "pandas", "pydantic"]
        print(json.dumps([time.process_time() - start, [name for name in heavy if name in sys.modules]]))
    """
    runs = [json.loads(run_python(code)) for _ in range(3)]
    assert runs[0][1] == []
    assert min(seconds for seconds, _ in runs) < 0.5


def test_every_public_name_is_there() -> None:
    for name in recworld.__all__:
        assert getattr(recworld, name) is not None
        assert name in dir(recworld)
    with pytest.raises(AttributeError, match="no attribute 'Wrld'"):
        recworld.Wrld  # noqa: B018  (the access is what is tested)


def test_no_bare_names_of_ours_are_left_behind() -> None:
    code = f"""if True:
        import importlib, sys
        for name in {sorted(MODULES)!r}:
            importlib.import_module(name)
        print([name for name in {sorted(FOLDERS.values())!r} if name in sys.modules])
    """
    assert run_python(code).strip().splitlines()[-1] == "[]"
