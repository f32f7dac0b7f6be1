"""Settings: layers, ranges, one-line errors with the nearest right name, YAML that executes nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from recworld.errors import InputError, did_you_mean
from recworld.settings import Settings, merge, parse_yaml, read_yaml, validate, write_yaml


class Inner(Settings):
    """Inner."""

    size: int = Field(5, ge=1)
    """Size."""
    share: float = 0.5
    """Share."""


class Outer(Settings):
    """Outer."""

    kind: Literal["near", "far"] = "near"
    """Kind."""
    inner: Inner = Inner()
    """Inner."""


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"kin": "far"}, "file: unknown setting 'kin'. Did you mean 'kind'?"),
        ({"inner": {"sise": 1}}, "file: unknown setting 'inner.sise'. Did you mean 'size'?"),
        ({"inner": {"zzz": 1}}, "file: unknown setting 'inner.zzz'. Known: share, size."),
        (
            {"inner": {"size": 0}},
            "file: setting 'inner.size' got 0: input should be greater than or equal to 1.",
        ),
        (
            {"inner": {"share": "nan"}},
            "file: setting 'inner.share' got 'nan': input should be a finite number.",
        ),
        (
            {"inner": {"share": math.inf}},
            "file: setting 'inner.share' got inf: input should be a finite number.",
        ),
        ({"kind": "middle"}, "file: setting 'kind' got 'middle': input should be 'near' or 'far'."),
    ],
)
def test_errors_name_setting_value_and_what_is_taken(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(Outer, values, "file")
    assert str(caught.value) == expected


def test_flags_are_named_as_flags() -> None:
    with pytest.raises(InputError, match=r"^setting --inner.size got 'x': input should be a valid integer"):
        validate(Outer, {"inner": {"size": "x"}}, "flags", flags=True)


def test_settings_cannot_be_changed_and_are_hashable_text() -> None:
    outer = Outer()
    with pytest.raises(ValueError, match="frozen"):
        outer.kind = "far"  # type: ignore[misc]
    assert outer.fingerprint_text() == Outer.model_validate(outer.model_dump()).fingerprint_text()
    assert outer.fingerprint_text() != Outer(kind="far").fingerprint_text()


NESTED = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)
LAYER = st.dictionaries(st.sampled_from(["a", "b", "c"]), NESTED, max_size=3)


@given(LAYER, LAYER, LAYER)
def test_layers_can_be_laid_in_any_grouping(one: Any, two: Any, three: Any) -> None:
    assert merge(one, {}) == one
    assert merge({}, one) == one
    assert merge(one, one) == one
    for name, value in two.items():
        if not isinstance(value, dict):
            assert merge(one, two)[name] == value
    if not any(isinstance(value, int) for layer in (one, two, three) for value in layer.values()):
        assert set(merge(merge(one, two), three)) == set(merge(one, merge(two, three)))


def test_a_preset_word_stays_under_single_values() -> None:
    assert merge({"d": "static"}, {"d": {"x": 1}}) == {"d": {"preset": "static", "x": 1}}
    assert merge({"d": {"x": 1}}, {"d": "static"}) == {"d": "static"}


def test_yaml_round_trip(tmp_path: Path) -> None:
    values = {"kind": "far", "inner": {"size": 3, "share": 0.25}, "text": "käse: [1]"}
    write_yaml(tmp_path / "a.yaml", values)
    assert read_yaml(tmp_path / "a.yaml") == values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!!python/object/apply:os.system ['touch planted']", "file is not plain YAML in line 1: could not"),
        ("a: !!python/name:os.system", "file is not plain YAML in line 1: could not determine"),
        ("a: [1", "file is not plain YAML in line 1: "),
        ("- 1", "file must hold names and values"),
        ("1: 2", "file must hold names and values"),
    ],
)
def test_what_is_not_a_plain_mapping_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "file")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.yaml cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match=r"b.yaml is not a text file"):
        read_yaml(tmp_path / "b.yaml")
    assert parse_yaml("", "empty") == {}


@given(st.text(max_size=12), st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5))
def test_did_you_mean_always_ends_a_sentence(name: str, options: list[str]) -> None:
    hint = did_you_mean(name, options)
    assert hint.startswith(("Did you mean ", "Known: "))
    assert hint[-1] in "?."
