"""Named random streams, and names for interchangeable parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recworld.errors import InputError
from recworld.registry import Registry, load_object
from recworld.seeding import child_seed, generator

NAMES = st.lists(st.one_of(st.text("abc", min_size=1, max_size=3), st.integers(0, 9)), max_size=3)


@given(st.integers(0, 2**31), NAMES, NAMES)
def test_children_differ_by_path(seed: int, one: list[str | int], two: list[str | int]) -> None:
    first, second = child_seed(seed, *one), child_seed(seed, *two)
    assert 0 <= first < 2**63
    assert (first == second) == ([str(part) for part in one] == [str(part) for part in two])


def test_known_answer_and_independence() -> None:
    assert child_seed(0, "train") == 1382848523564605726
    draws = np.array([generator(seed, "x").random() for seed in range(2000)])
    assert abs(draws.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.07


def test_names_resolve_lazily_and_wrong_ones_are_answered() -> None:
    registry = Registry("algorithm")
    registry.register("join", "os.path:join")
    registry.register("broken", "no.such.module:thing")
    assert registry.names() == ["broken", "join"]
    assert "join" in registry
    assert registry.get("join")("a", "b") == "a/b"
    assert registry.get("os.path:split")("a/b") == ("a", "b")
    registry.register("join", "os.path:join")
    with pytest.raises(InputError, match="algorithm 'join' is registered already"):
        registry.register("join", "os.path:split")
    with pytest.raises(InputError, match=r"Unknown algorithm 'jon'. Did you mean 'join'\?"):
        registry.get("jon")
    with pytest.raises(InputError, match=r"importing 'no.such.module' failed: ModuleNotFoundError"):
        registry.get("broken")


@pytest.mark.parametrize("spec", ["os.path", ":join", "os:", ""])
def test_a_spec_has_two_parts(spec: str) -> None:
    with pytest.raises(InputError, match=r"is not of the form 'package.module:Name'"):
        load_object(spec, "thing")


def test_a_module_of_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_module_here.py").write_text("class Mine: pass\n")
    (tmp_path / "my_broken_module_here.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # restores sys.path afterwards
    assert load_object("my_own_module_here:Mine", "agent").__name__ == "Mine"
    with pytest.raises(InputError, match=r"has no 'Min'. Did you mean 'Mine'\?"):
        load_object("my_own_module_here:Min", "agent")
    with pytest.raises(InputError, match="importing 'my_broken_module_here' failed: ZeroDivisionError"):
        load_object("my_broken_module_here:Mine", "agent")
