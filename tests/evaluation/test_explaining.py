"""Explanations find what is known to matter, and agree with what the environment and the agent say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recworld.agents import make_agent
from recworld.agents.preferences import preference_of
from recworld.envs import RecVectorEnv
from recworld.errors import InputError
from recworld.evaluation import Explainer, explain
from recworld.evaluation.deletion import deletion_check
from recworld.evaluation.explaining import Person
from recworld.evaluation.fold_in import FoldIn
from recworld.evaluation.text_route import TextRoute, rows_of_text
from recworld.evaluation.words import (
    appended,
    shouted,
    typo,
    with_dropped,
    with_order_lost,
    with_typos,
    without,
    words_of,
)
from recworld.simulators.bundled import bundled_world
from recworld.simulators.world import World

VOCABULARY = (
    "gold",
    "love",
    "war",
    "river",
    "winter",
    "comet",
    "garden",
    "letter",
    "violin",
    "market",
    "old",
    "young",
)
SMALL: dict[str, Any] = {
    "candidates": "all",
    "slate_size": 3,
    "horizon": 6,
    "history_length": 5,
    "observation": "features",
}


def encode(texts: Sequence[str], role: str = "item") -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector has one number for each word of the vocabulary; length 1."""
    rows = np.array([[word in words_of(text) for word in VOCABULARY] for text in texts], np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def known_world(popular: bool = False) -> World:
    """A world in which gold makes an item attractive to all, and love to the young; nothing else matters."""
    world, rng = bundled_world(users=60, items=80, width=len(VOCABULARY), members=1), np.random.default_rng(0)
    items = tuple(" ".join(rng.choice(VOCABULARY[:10], 5, replace=False)) for _ in range(80))
    users = tuple(f"{'young' if n % 2 else 'old'} {VOCABULARY[2 + n % 5]}" for n in range(60))
    item, user = encode(items), encode(users)
    seer = world.agent.response
    taste, thing = np.zeros_like(seer.taste), np.zeros_like(seer.item)
    taste[0, :, 8], thing[0, :, 8] = user[:, 11], 2 * item[:, 1]
    response = replace(
        seer, taste=taste, item=thing, item_attraction_bias=(6 * item[:, :1].T - 2).astype(np.float32),
        user_attraction_bias=np.zeros_like(seer.user_attraction_bias),
    )  # fmt: skip
    popularity = world.agent.popularity if popular else np.zeros(80, np.float32)
    agent = replace(world.agent, response=response, popularity=popularity)
    return replace(world, item_text=items, user_text=users, item_vector=item, user_vector=user, agent=agent)


@pytest.fixture(scope="module")
def golden() -> World:
    return known_world()


@pytest.fixture(scope="module")
def make_env() -> Callable[..., RecVectorEnv]:
    def make(world: World, **settings: Any) -> RecVectorEnv:
        return RecVectorEnv(1, world=world, users="all", **(SMALL | settings))

    return make


def item_with(world: World, user: int, *words: str) -> int:
    """Return an item that has all the words and that the user did not consume."""
    begin, end = world.agent.history_start[user : user + 2]
    past = set(world.agent.history_item[begin:end].tolist())
    return next(
        i for i, text in enumerate(world.item_text) if i not in past and set(words) <= set(words_of(text))
    )


def test_words_are_left_out_without_a_trace() -> None:
    text = "Toy Story (1995). Animation, Children's, Sci-Fi."
    assert words_of(text) == ["Toy", "Story", "1995", "Animation", "Children's", "Sci-Fi"]
    assert without(text, {2}) == "Toy Story. Animation, Children's, Sci-Fi."
    assert without(text, {3, 4}) == "Toy Story (1995). Sci-Fi."
    assert without(text, set(range(6))) == ""
    assert appended(text, ["good", "film"]) == text + " good film"
    assert shouted(text) == "TOY STORY 1995 ANIMATION CHILDREN'S SCI-FI"


def test_accidents_are_small_and_repeatable() -> None:
    text = "The Clockmaker of the Desert (1987). Drama, Mystery."
    for seed in range(30):
        slipped, again = (with_typos(text, 0.2, np.random.default_rng(seed)) for _ in range(2))
        assert slipped == again
        changed = sum(a != b for a, b in zip(words_of(text), words_of(slipped), strict=True))
        assert changed <= 2, "a fifth of seven words that a slip can hit"
        kept = words_of(with_dropped(text, 0.3, np.random.default_rng(seed)))
        assert len(words_of(text)) - len(kept) == 2
        assert [word for word in words_of(text) if word in kept] == kept
        turned = with_order_lost(text, np.random.default_rng(seed))
        assert sorted(words_of(turned)) == sorted(words_of(text))
        word = typo("winter", np.random.default_rng(seed))
        assert abs(len(word) - 6) <= 1
        assert word != "winter"
    assert with_dropped("Alone", 0.9, np.random.default_rng(0)) == "Alone"
    assert with_typos("12 34", 0.5, np.random.default_rng(0)) == "12 34", "no key of a letter is hit"


@pytest.mark.parametrize("reward", ["click", "rating"])
def test_the_estimate_is_the_environments(world: World, make_env: Any, reward: str) -> None:
    env = make_env(world, reward=reward)
    route = TextRoute.of(world, {"click": (1.0, 0.0), "rating": (0.0, 1.0)}[reward])
    seen, _ = env.reset(seed=3, options={"user": np.array([7])})
    open_ = seen["action_mask"][0] == 1
    scores = route.estimate.scores(route.user.own[[7]], route.item.own)[0]
    np.testing.assert_allclose(scores[open_], seen["candidate_score"][0][open_], atol=1e-4)
    np.testing.assert_allclose(route.user.own[7, :-2], seen["user_estimate"][0], atol=1e-6)


def test_the_route_finds_the_word_that_matters(golden: World) -> None:
    route = TextRoute.of(golden)
    found = route.item.slope[:10, -1] - route.item.slope[3, -1]
    np.testing.assert_allclose(found, 6 * 0.5 * np.eye(10)[0], atol=0.05)  # half of popularity attracts
    assert route.item.share.min() == 1.0, "nobody met these items: the text is all there is"


def test_the_log_takes_over_from_the_text() -> None:
    rng = np.random.default_rng(0)
    for wanted in (3.0, 30.0, 300.0):
        count, noise = np.round(np.exp(rng.uniform(0, 6, 3000))), 0.8
        gap = rng.normal(size=3000) * np.sqrt(noise / wanted * count / (count + wanted))
        assert rows_of_text(count, gap**2, noise) == pytest.approx(wanted, rel=0.35)
    met = known_world(popular=True)
    side = TextRoute.of(met).item
    assert side.share[met.agent.popularity == 0].min() == 1.0
    order = np.argsort(met.agent.popularity, kind="stable")
    assert (np.diff(side.share[order], axis=0) <= 0).all()
    cold = TextRoute.of(met).cold().item
    np.testing.assert_array_equal(cold.own, side.told)
    assert cold.share.min() == 1.0


def test_no_text_no_route(world: World) -> None:
    bare = replace(world, item_vector=0 * world.item_vector, user_vector=0 * world.user_vector)
    with pytest.raises(InputError, match="no text vectors"):
        TextRoute.of(bare)


def test_leaving_one_out_is_folding_in_the_others(world: World) -> None:
    fold = FoldIn(world, TextRoute.of(world))
    moves, past = fold.moves(5), fold.consumed(5)
    fewer = replace(
        world,
        agent=replace(
            world.agent,
            history_item=np.delete(world.agent.history_item, world.agent.history_start[5] + 2),
            history_feedback=np.delete(world.agent.history_feedback, world.agent.history_start[5] + 2),
            history_start=world.agent.history_start - (np.arange(61) > 5),
        ),
    )
    again = FoldIn(world, fold.route)
    again._penalty = fold._penalty
    again.world = fewer
    assert len(again.consumed(5).item) == len(past.item) - 1
    for part in range(2):
        columns = fold._columns(part)
        direct = again._taste(part, 5, fold._penalty[part])[0] - fold._taste(part, 5, fold._penalty[part])[0]
        # Without the item, the other items also stand against a few sampled ones less: a small difference in the clicks.
        np.testing.assert_allclose(moves[2, columns], direct, atol=1e-9 if part == 0 else 0.08)


def test_folded_in_tastes_are_those_that_were_folded_in(world: World) -> None:
    route = TextRoute.of(world)
    fold = FoldIn(world, route)
    taste = world.agent.response.taste.copy()
    for user in range(world.num_users):
        for part in range(2):
            taste[0, user, fold._columns(part)] = fold._taste(part, user, 10.0)[0]
    made = replace(world, agent=replace(world.agent, response=replace(world.agent.response, taste=taste)))
    # The same regression of tastes on texts, so that the pull towards it is the one they were made with.
    known = replace(TextRoute.of(made), user=replace(TextRoute.of(made).user, told=route.user.told))
    again = FoldIn(made, known)
    assert again._penalty == [10.0, 10.0]
    assert min(again.fit) > 0.999


@pytest.mark.parametrize("name", [None, "greedy", "ppo", "dqn"])
def test_the_word_that_matters_is_found(golden: World, make_env: Any, name: str | None) -> None:
    env = make_env(golden)
    agent = None if name is None else make_agent(name, env, 0)
    user = 1  # young
    item = item_with(golden, user, "gold", "love")
    found = explain(env, encode, user, item, agent)
    words, effect = found.item_words.names, found.item_words.estimate
    order = [words[n] for n in np.argsort(-effect)]
    assert order[:2] == ["gold", "love"]
    assert max(abs(effect[n]) for n in range(5) if words[n] not in ("gold", "love")) < 0.5 * effect.max()
    assert found.user_words.names[int(np.argmax(found.user_words.estimate))] == "young"
    check = found.check["estimate"]
    assert check.top >= check.random > 0
    assert check.whole > 0
    assert "item's words" in found.text()
    assert "for gold +" in found.text()
    if name is None:
        assert found.place is None
        assert found.item_words.agent is None
        assert "agent" not in found.text()
        return
    prefer = found.item_words.agent
    assert prefer is not None
    assert words[int(np.argmax(prefer))] == "gold"
    assert found.check["agent"].top >= found.check["agent"].random


def test_the_old_do_not_care_for_love(golden: World, make_env: Any) -> None:
    item = item_with(golden, 0, "gold", "love")
    found = explain(make_env(golden), encode, 0, item)
    love = found.item_words.names.index("love")
    assert found.item_words.estimate[love] < 0.3 * found.item_words.estimate.max()


def test_an_untrained_agent_stands_by_the_estimate(world: World, make_env: Any) -> None:
    env = make_env(world)
    explainer = Explainer(env, lambda texts, role: encode(texts)[:, :8], make_agent("ppo", env, 0))
    seen, _ = env.reset(seed=0, options={"user": np.array([4])})
    open_ = seen["action_mask"][0] == 1
    order = np.argsort(-np.where(open_, seen["candidate_score"][0], -np.inf))
    for rank in (0, 3, 10):
        found = explainer.explain(4, int(order[rank]))
        assert found.place == rank + 1
        assert found.score == pytest.approx(float(seen["candidate_score"][0, order[rank]]), abs=1e-4)
    assert len(found.consumed.names) == 8


def test_a_greedy_agent_is_moved_as_far_as_its_scores(world: World, make_env: Any) -> None:
    env = make_env(world)
    explainer = Explainer(env, lambda texts, role: encode(texts)[:, :8], make_agent("greedy", env, 0))
    item = item_with(world, 4)
    found, route = explainer.explain(4, item), explainer.route
    open_ = np.setdiff1d(np.arange(80), found.consumed.items)
    rows = np.concatenate([route.user.own[[4]], route.user.own[[4]] + explainer.fold_in.moves(4)])
    scores = route.estimate.scores(rows, route.item.own)
    above = (scores[:, item] - scores[:, open_].mean(1)) / scores[0, open_].std()
    np.testing.assert_allclose(found.consumed.agent, above[0] - above[1:], atol=1e-5)
    np.testing.assert_allclose(found.consumed.estimate, scores[0, item] - scores[1:, item], atol=1e-9)
    places = 1 + (scores[1:, open_] > scores[1:, [item]]).sum(1)
    np.testing.assert_array_equal(found.consumed.place, places)


def test_the_same_text_moves_nothing(world: World, make_env: Any) -> None:
    env = make_env(world)
    for name in ("ppo", "dqn", "greedy"):
        explainer = Explainer(
            env, lambda texts, role: world.item_vector[[int(t) for t in texts]], make_agent(name, env, 0)
        )
        item = item_with(world, 3)
        same = Person(explainer, 3).by_item_texts(item, [str(item)])
        assert abs(same.estimate[0]) < 1e-9
        assert same.agent is not None
        assert abs(same.agent[0]) < 1e-5


def test_what_was_learnt_about_an_item_stays_with_it(world: World, make_env: Any) -> None:
    import torch

    env = make_env(world)
    agent: Any = make_agent("ppo", env, 0)
    with torch.no_grad():
        agent.network.memory.table.weight[9, 0] = 5.0
    prefer = preference_of(agent)
    assert prefer is not None
    seen, _ = env.reset(seed=0, options={"user": np.array([2])})
    numbers = env.candidate_items()
    before = prefer(seen, numbers)
    seen["candidates"][0, 9] = -seen["candidates"][0, 9]
    after = prefer(seen, numbers)
    assert after[0, 9] == pytest.approx(before[0, 9], abs=0.2)
    assert np.nanargmax(after[0]) == 9


@pytest.mark.parametrize("name", ["random", "mmr", "clone", "oracle"])
def test_agents_without_a_preference_say_so(world: World, make_env: Any, name: str) -> None:
    env = make_env(world)
    assert preference_of(make_agent(name, env, 0)) is None


def test_the_words_named_matter_more_than_others(golden: World, make_env: Any) -> None:
    env = make_env(golden)
    pairs = [(user, item_with(golden, user, "gold")) for user in range(6)]
    found = deletion_check(Explainer(env, encode, make_agent("ppo", env, 0)), pairs)
    assert set(found) == {"agent", "estimate"}
    for values in found.values():
        assert values["lead"].low > 0
        assert values["lead"].mean == pytest.approx(values["top"].mean - values["random"].mean)


def test_near_items_share_words(golden: World, make_env: Any) -> None:
    found = explain(make_env(golden), encode, 0, 0, near=4)
    assert len(found.near) == 4
    shared = [len(one.shared) for one in found.near]
    assert shared == sorted(shared, reverse=True)
    assert set(found.near[0].shared) <= set(words_of(golden.item_text[0]))
    assert all(one.item != 0 for one in found.near)


def test_somebody_without_a_past(golden: World, make_env: Any) -> None:
    start = np.minimum(golden.agent.history_start, golden.agent.history_start[-2])
    agent, end = golden.agent, start[-1]
    past = {name: getattr(agent, name)[:end] for name in ("history_item", "history_feedback")}
    late = replace(golden, agent=replace(agent, history_start=start, **past))
    found = explain(make_env(late), encode, 59, 0, make_agent("ppo", make_env(late), 0))
    assert found.consumed.names == ()
    assert "none at hand" in found.text()


def test_wrong_input_is_refused(golden: World, make_env: Any) -> None:
    with pytest.raises(InputError, match="one user"):
        Explainer(make_env(golden, observation="ids"), encode)
    explainer = Explainer(make_env(golden), encode, make_agent("greedy", make_env(golden), 0))
    with pytest.raises(InputError, match="item must be a number from 0 to 79"):
        explainer.explain(0, 80)
    consumed = int(golden.agent.history_item[0])
    with pytest.raises(InputError, match="not among the candidates"):
        explainer.explain(0, consumed)
