"""Robustness: what is known to move a score moves it, the search finds it, and a defence keeps what it promises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recworld.errors import InputError
from recworld.evaluation.robustness import Bench, Sizes, Standings, robustness_report
from recworld.evaluation.robustness_attack import near_words, search_suffix, vocabulary
from recworld.evaluation.robustness_defences import read_by, skill
from recworld.evaluation.robustness_result import bootstrap_mean
from recworld.evaluation.text_route import Remembered, TextRoute
from recworld.evaluation.words import appended, with_typos, words_of
from recworld.simulators.bundled import bundled_world
from recworld.simulators.world import World

WORDS = ("gold", "silver", "war", "river", "winter", "comet", "garden", "letter", "violin", "market")
SMALL = Sizes(users=20, items=40, attacked=20, seen=4, budget=2, tried=10, keep=4)


def encode(texts: Sequence[str], role: str = "item") -> np.ndarray[Any, np.dtype[np.float32]]:
    """Counts of words scaled to length 1; the form of a text is not looked at."""
    rows = np.array([[words_of(text.lower()).count(word) for word in WORDS] for text in texts], np.float32)
    rows = rows.reshape(len(texts), len(WORDS))
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


@pytest.fixture(scope="module")
def golden() -> World:
    """A world in which texts with gold attract everybody; what else there is in an item, only the log tells."""
    world, rng = bundled_world(users=60, items=80, width=len(WORDS), members=1), np.random.default_rng(0)
    texts = tuple(" ".join(rng.choice(WORDS, 4, replace=False)) for _ in range(80))
    vectors = encode(texts)
    met = world.agent.popularity
    known = np.sqrt(met / (met + 1)) * rng.normal(0, 0.5, 80)
    bias = (6 * vectors[:, :1].T - 2 + known).astype(np.float32)
    response = replace(world.agent.response, item_attraction_bias=bias)
    flat = replace(response, item=0.2 * response.item)
    return replace(world, item_text=texts, item_vector=vectors, agent=replace(world.agent, response=flat))


@pytest.fixture(scope="module")
def report(golden: World) -> Any:
    return robustness_report(golden, encode, sizes=SMALL, seed=1)


def test_accidents_move_as_much_as_they_change(report: Any) -> None:
    row = {(r.change, r.known): r for r in report.rows}
    for form in ("capitals, no marks", "word order"):
        still = row[form, "as new"]
        assert still.cosine.mean == pytest.approx(1, abs=1e-5)
        assert still.moved.mean == pytest.approx(0, abs=1e-5)
        assert (still.tau.mean, still.overlap.mean) == (1, 1)
    lost = row["dropped words", "as new"]
    assert lost.cosine.mean < 0.95
    assert lost.tau.mean < 1
    assert lost.moved.mean > 1.5 * row["dropped words", "as known"].moved.mean, (
        "the log stands beside the text"
    )
    assert lost.moved.low < lost.moved.mean < lost.moved.high


def test_the_seller_finds_the_word_that_pays(report: Any) -> None:
    found = {a.suffix: a for a in report.attacks if a.defence == "none"}
    searched = found["searched words"]
    assert set(searched.words) == {"gold"}
    assert searched.gain.low > 0
    assert searched.gain.mean > found["random words"].gain.mean
    assert searched.raised.mean > found["random words"].raised.mean
    assert searched.known_gain.mean < searched.gain.mean


def test_defences_keep_what_they_promise(golden: World) -> None:
    bench = Bench(golden, encode, (1.0, 0.0), SMALL, 1)
    rows = {d.name: d for d in bench.defences(None)}
    honest = (
        bench.route.cold().scores(np.arange(60), encode(bench.texts(bench.attacked)), bench.attacked).mean(0)
    )
    window = rows["window"]
    for suffix in (["gold", "gold"], ["gold", "silver"], ["war", "market"]):
        texts = [appended(text, suffix) for text in bench.texts(bench.attacked)]
        read = bench.route.cold().scores(np.arange(60), window.encode(texts, "item"), bench.attacked).mean(0)
        assert (read <= honest + 1e-5).all(), "the mean score cannot pass that of the honest text"
        longer = rows["cap"].encode([appended(text, suffix) for text in texts], "item")
        np.testing.assert_array_equal(longer, encode(bench.texts(bench.attacked)))
        np.testing.assert_array_equal(
            rows["smooth"].encode(texts, "item"), rows["smooth"].encode(texts[::-1], "item")[::-1]
        )
    route = read_by(bench.route, golden.item_vector, golden.item_vector, bench.weight, rows["no level"])
    assert np.ptp(route.cold().item.own[:, -1]) < 1e-9, "no text lifts an item for everybody"


def test_what_a_defence_costs_is_seen(golden: World, report: Any) -> None:
    cost = {c.defence: c for c in report.costs}
    assert cost["none"].lost.mean == 0
    assert cost["no level"].lost.low > 0, "gold does attract here: not to listen costs"
    assert cost["no level"].explained.mean < cost["none"].explained.mean
    bench = Bench(golden, encode, (1.0, 0.0), SMALL, 1)
    plain, nothing = golden.item_vector, 0 * golden.item_vector
    by_text, blind = (
        skill(bench.route, plain, v, bench.count, bench.defences([])[0], bench.users, 0)
        for v in (plain, nothing)
    )
    assert by_text.mean() < 0.7 * blind.mean()


def test_strong_words_matter_more_than_random_ones(report: Any) -> None:
    strong, random = (report.faithful[name] for name in ("strongest words", "random words"))
    assert strong.mean > random.mean


def test_the_report_is_repeatable_and_readable(golden: World, report: Any) -> None:
    again = robustness_report(golden, encode, sizes=SMALL, seed=1, only=["cap"])
    assert again.rows == report.rows
    assert [a for a in report.attacks if a.defence in ("none", "cap")] == list(again.attacks)
    told = json.loads(json.dumps(report.to_json()))
    assert len(told["rows"]) == 10
    assert len(told["attacks"]) == 20
    assert told["setting"]["budget"] == 2
    for word in ("typos", "near words", "as known", "searched words", "gold", "window", "R2 of newcomers"):
        assert word in report.text()


def test_a_greedy_search_adds_what_helps_and_stops() -> None:
    worth = {"a": 1.0, "b": 2.0, "c": -1.0}

    def score(texts: Sequence[str], items: Any) -> Any:
        return np.array([sum(worth.get(word, 0.0) for word in set(words_of(text))) for text in texts])

    items = np.array([0, 1])
    assert search_suffix(score, ["x", "y"], items, ["a", "b", "c"], 5, 3) == ["b", "a"]
    assert search_suffix(score, ["b", "b"], items, ["a", "b", "c"], 5, 3) == ["a"]
    assert search_suffix(score, ["x", "y"], items, [], 5, 3) == []


def test_words_that_a_seller_tries() -> None:
    texts = ("Big Fish", "big Sea", "Sea of Love", "Rare")
    assert vocabulary(texts, np.array([0, 0, 9, 0]), 4) == ["Sea", "of", "Love", "Big"]


def test_near_words_are_the_encoders_own() -> None:
    pairs = {"cat": (1, 0.1), "kitten": (1, 0.0), "boat": (0.1, 1), "ship": (0.0, 1)}

    def by_meaning(texts: Sequence[str], role: str) -> Any:
        rows = np.array([pairs.get(text, (0, 0)) for text in texts], np.float32)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)

    change = near_words(["Cat boat", "kitten ship"], by_meaning)
    changed = {change("The Cat boat", np.random.default_rng(seed)) for seed in range(8)}
    assert changed == {"The Kitten boat", "The Cat ship"}
    assert change("Nothing here", np.random.default_rng(0)) == "Nothing here"


def test_ranks_rise_by_as_many_places_as_scores_pass(golden: World) -> None:
    route = TextRoute.of(golden)
    stand = Standings(route, np.arange(5), np.array([3]), route.item.own)
    np.testing.assert_allclose(stand.rise(stand.before), 0)
    low = stand.rise(np.full((5, 1), -1e9))
    high = stand.rise(np.full((5, 1), 1e9))
    assert high[0] - low[0] == pytest.approx(100)
    assert stand.inside(np.full((5, 1), 1e9))[0] == 1
    tau, overlap = Standings(route, np.arange(5), np.arange(30), route.item.own).agreement(
        route.estimate.scores(route.user.own[:5], route.item.own[:30])
    )
    assert (tau.min(), overlap.min()) == (1, 1)


def test_bootstrap_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 1, 400)
    found = bootstrap_mean(values, 0)
    assert found.mean == pytest.approx(values.mean())
    assert found.half == pytest.approx(1.96 / 20, rel=0.25)
    assert np.isnan(bootstrap_mean([], 0).mean)


def test_wrong_input_is_refused(golden: World) -> None:
    with pytest.raises(InputError, match="no defence 'smoth'"):
        robustness_report(golden, encode, sizes=SMALL, only=["smoth"])
    few = replace(golden, item_text=("a b", *[""] * 79))
    with pytest.raises(InputError, match="1 items with texts"):
        Bench(few, encode, (1.0, 0.0), SMALL, 0)


def test_typos_hit_few_words() -> None:
    text = "winter river garden letter violin market comet silver gold war"
    slipped = words_of(with_typos(text, 0.3, np.random.default_rng(0)))
    assert sum(a != b for a, b in zip(words_of(text), slipped, strict=True)) == 3


def test_each_text_is_encoded_once() -> None:
    asked: list[str] = []

    def slow(texts: Sequence[str], role: str) -> Any:
        asked.extend(texts)
        return encode(texts, role)

    texts = ["gold war", "river", "comet"]
    once = Remembered(slow, texts[:1], encode(texts[:1]))
    for _ in range(2):
        np.testing.assert_array_equal(once([*texts, "river"], "item"), encode([*texts, "river"]))
    assert asked == texts[1:]
    assert once([], "item").shape == (0, 10)
    once(["river"], "user")
    assert asked[-1] == "river", "of a user it may have another vector"
