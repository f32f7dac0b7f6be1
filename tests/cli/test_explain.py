"""`recommend --explain`: what is said beside each recommendation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

WORDS = ("Film", "comedy", "drama", "space", "opera", "western")


def test_each_recommendation_says_what_moves_it(trained: tuple[Path, str], command: Any) -> None:
    plain = command("recommend", str(trained[0]), "--user", "u7", "--k", "3")
    done = command("recommend", str(trained[0]), "--user", "u7", "--k", "3", "--explain")
    assert done.code == 0, done.err
    shown = re.compile(r"^ +\d\. +[\d.]+% click  Film \d+ .*$", re.MULTILINE)
    assert shown.findall(done.out) == shown.findall(plain.out), "the same agent, the same slate"
    assert "by leaving out" not in plain.out
    for label in ("item's words", "user's words", "consumed", "near in words"):
        assert len(re.findall(rf"^ +{label} ", done.out, re.MULTILINE)) == 3
    assert len(re.findall(r"words +agent ", done.out)) == 6
    named = re.findall(r"item's words +(?:agent|estimate) +(?:for|against) ([\w-]+) [+-]\d", done.out)
    assert set(named) <= {*WORDS, *map(str, range(60))}
    assert "not what causes it" in " ".join(done.out.split())
    longest = [line for line in done.out.splitlines() if re.match(" +(agent|estimate|check) ", line)]
    assert max(map(len, longest)) <= 118


def test_somebody_new_is_explained_by_words_alone(trained: tuple[Path, str], command: Any) -> None:
    done = command("recommend", str(trained[0]), "--text", "33 year old pilot", "--k", "2", "--explain")
    assert done.code == 0, done.err
    assert len(re.findall(r"consumed +agent +none at hand", done.out)) == 2
    assert len(re.findall(r"user's words +agent +(?:for|against|hardly)", done.out)) == 2


def test_vectors_without_texts_are_refused(
    trained: tuple[Path, str], tmp_path: Path, command: Any, monkeypatch: Any
) -> None:
    from recworld.encoders.vectors import TextVectors

    whole = TextVectors.load

    def without_texts(folder: Path) -> TextVectors:
        from dataclasses import replace

        return replace(whole(folder), reduction=None)

    monkeypatch.setattr(TextVectors, "load", without_texts)
    done = command("recommend", str(trained[0]), "--user", "u7", "--explain")
    assert done.code == 2
    assert "--explain needs texts" in done.err
