"""Redaction: what matches is gone before anything is made of a text; a wrong pattern is refused in one line."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recworld.encoders import EncoderSettings, encode_log
from recworld.errors import InputError
from recworld.logs import DATASETS, LogSettings, load_log
from recworld.logs.redaction import NAMED, TOKEN, compiled, redact


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("email", "write to Jo.Doe+x@mail.example.org, please", "write to [redacted], please"),
        ("email", "jürgen@müller.de", "[redacted]"),
        ("email", "an @ sign, a@b", "an @ sign, a@b"),
        ("phone", "call +49 (0)221 123-4567 now", "call [redacted] now"),
        ("phone", "call (555) 010-9999.", "call [redacted]."),
        ("phone", "5550199", "[redacted]"),
        ("phone", "24 years, 1999, size 123456", "24 years, 1999, size 123456"),
        ("url", "see https://a.example/b?c=1 or www.example.org", "see [redacted] or [redacted]"),
        ("url", "HTTP://X.EXAMPLE and awww.no", "[redacted] and awww.no"),
        ("number", "24 year old, 1.75 m", "[redacted] year old, [redacted] m"),
        (r"\bDr\.? \w+", "Dr. Who and Dr Strange", "[redacted] and [redacted]"),
        ("Email", "Email me", "[redacted] me"),
    ],
)
def test_what_is_taken_out(name: str, text: str, expected: str) -> None:
    assert redact([text], [name]).texts == (expected,)


def test_counts_and_overlaps() -> None:
    done = redact(["a b c", "abc", "", "zz", "a b c"], ["a", "[ab]+", "q", "(?=z)"])
    assert done.texts == ("[redacted] [redacted] c", "[redacted]c", "", "zz", "[redacted] [redacted] c")
    assert (done.changed, done.places, done.idle) == (3, 5, ("q", "(?=z)"))
    assert redact(["a b"], []).texts == ("a b",)


@given(st.lists(st.text(max_size=30), max_size=5), st.permutations([r"\w+", "[aeiou]", *NAMED]))
def test_no_pattern_is_left_and_order_does_not_matter(texts: list[str], patterns: list[str]) -> None:
    done = redact(texts, patterns)
    assert (
        done == redact(texts, sorted(patterns, reverse=True)) or done.idle
    )  # idle patterns keep the order given
    assert done.texts == redact(texts, sorted(patterns)).texts
    for text in done.texts:
        rest = text.replace(TOKEN, "\n")
        assert not any(m.end() > m.start() for p in patterns for m in compiled(p).finditer(rest))


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("part", ["a", "a@", "1", "1 ", "+1.(", "www.", "http", "a.b", " "])
def test_named_patterns_take_linear_time(name: str, part: str) -> None:
    start = time.process_time()
    redact([part * 50_000 + "x"], [name])
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(abc", "no regular expression: missing ), unterminated subpattern at position 0"),
        ("ab[c", "no regular expression: unterminated character set at position 2"),
        ("a{99999999999999999999}", "no regular expression that can be used"),
        ("x*", "matches the empty text"),
        ("", "matches the empty text"),
    ],
)
def test_wrong_patterns(pattern: str, expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        redact(["text"], [pattern])
    with pytest.raises(ValidationError, match="redact"):
        LogSettings(redact=[pattern])


def write(path: Path) -> Path:
    lines = ["user_id,item_id,rating,user_info,item_info"]
    lines += [
        f"u{u},i{i},{1 + (u + i) % 5},person{u}@mail.org likes {i},Film {i}"
        for u in range(4)
        for i in range(3)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_log_is_redacted_as_it_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECWORLD_QUIET", raising=False)
    path = write(tmp_path / "log.csv")
    log = load_log(str(path), LogSettings(redact=["email", "emial"]))
    assert log.user_text == ("[redacted] likes 0",) * 4
    assert log.item_text == ("Film 0", "Film 1", "Film 2")
    said = capfd.readouterr().err
    assert "redacted: 4 places in 4 of 4 user texts; nothing matched 'emial' (did you mean 'email'?)" in said
    assert "person" not in said
    with_items = load_log(str(path), LogSettings(redact=["number", "email"], redact_items=True))
    assert with_items.item_text == ("Film [redacted]",) * 3
    assert with_items.user_text == ("[redacted] likes [redacted]",) * 4
    assert "redacted: 3 places in 3 of 3 item texts" in capfd.readouterr().err
    assert log.fingerprint != load_log(str(path)).fingerprint


def test_data_sets_by_name_are_redacted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LogSettings(redact=["likes"], synthetic={"num_users": 5, "num_items": 30})  # type: ignore[arg-type]
    assert "foreign" in DATASETS
    log = load_log("foreign", settings)
    assert all(TOKEN in text and "likes" not in text for text in log.user_text)


def test_vectors_do_not_know_what_was_taken_out(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv")
    settings = EncoderSettings(kind="tfidf", width=None)
    open_, closed = (
        encode_log(load_log(str(path), LogSettings(redact=patterns)), settings)
        for patterns in ([], ["email"])
    )
    assert len(np.unique(open_.user, axis=0)) == 4
    assert len(np.unique(closed.user, axis=0)) == 1


def test_users_can_be_numbered(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv")
    named, numbered = (load_log(str(path), LogSettings(user_keys=kind)) for kind in ("keep", "number"))
    assert named.user_keys.tolist() == ["u0", "u1", "u2", "u3"]
    assert numbered.user_keys.tolist() == ["1", "2", "3", "4"]
    assert (numbered.user_text, numbered.user.tolist()) == (named.user_text, named.user.tolist())
