"""`recworld recommend`: what a trained run shows to a user of its log, or to somebody described by a text."""

from __future__ import annotations

import dataclasses
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from recworld.cli.flags import FlagReader
from recworld.cli.main import show_help, wants_help
from recworld.cli.settings import TrainSettings, load_settings
from recworld.errors import InputError, did_you_mean
from recworld.logs.redaction import redact
from recworld.runs import RunFolder
from recworld.settings import Settings, validate
from recworld.simulators.prepare import assumptions
from recworld.simulators.world import World

if TYPE_CHECKING:
    from recworld.evaluation.explaining import Explanation
    from recworld.evaluation.text_route import Encode

WIDTH = 118
"""Columns of an explanation."""


class RecommendSettings(Settings):
    """Say in words what a trained run shows, with scores and the closest consumed items."""

    user: str | None = None
    """Identifier of a user of the log, as the log has it."""
    text: str | None = Field(None, min_length=1)
    """Text that describes somebody new, instead of a user: "35 year old woman, teacher"."""
    k: int | None = Field(None, ge=1)
    """How many items; none: as many as the run was trained to show."""
    closest: int = Field(2, ge=0)
    """Consumed items named beside each recommendation, the closest by their texts."""
    explain: bool = False
    """Say beside each recommendation which words and which consumed items move the agent's choice and the estimate."""


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        item: item number.
        score: the recommender's estimate: probability of a click (click reward) or expected reward.
        closest: consumed items with the closest texts, the closest first, as (item number, normalised
            rating).
        why: what moves it, where that was asked for.
    """

    item: int
    score: float
    closest: tuple[tuple[int, float], ...]
    why: Explanation | None = None


def recommend(words: list[str], prog: str) -> None:
    """Run the command.

    Raises:
        InputError: a wrong flag, a folder that is not a run, an unknown user.
    """
    if wants_help(words):
        show_help(RecommendSettings, RecommendSettings(), f"{prog} RUN", str(RecommendSettings.__doc__))
        return
    flags, names = FlagReader(RecommendSettings).read(words)
    options = validate(RecommendSettings, flags, "flags", flags=True)
    if len(names) != 1:
        raise InputError(f"One run folder is expected: {prog} RUN --user 12. Got {len(names)}.")
    if (options.user is None) == (options.text is None):
        raise InputError(
            'Either --user or --text is expected: --user 12, or --text "35 year old woman, teacher".'
        )
    run = RunFolder.open(Path(names[0]))
    settings = load_settings(run.settings(), str(run.path / "settings.yaml"))
    world = World.load(run.world)
    if options.text is not None:
        text = redact([options.text], settings.data.redact).texts[0]
        world, user = _with_text(run, world, text), world.num_users
    else:
        user = find_user(world, str(options.user))
    found = recommendations(
        run, settings, world, user, options.k or settings.env.slate_size, options.closest, options.explain
    )
    print(describe(world, user, found, settings.env.reward == "click"))


def find_user(world: World, key: str) -> int:
    """Return the number of the user with identifier `key`.

    Raises:
        InputError: no such user.
    """
    if key not in world.user_keys:
        raise InputError(
            f"--user {key!r} is not a user of {world.name}. {did_you_mean(key, world.user_keys)}"
        )
    return world.user_keys.index(key)


def _with_text(run: RunFolder, world: World, text: str) -> World:
    from recworld.cli.stranger import with_stranger
    from recworld.encoders.vectors import TextVectors

    vectors = TextVectors.load(run.text)
    return with_stranger(world, vectors.encode_new([text], "user")[0], text)


def recommendations(
    run: RunFolder, settings: TrainSettings, world: World, user: int, size: int, closest: int, explain: bool = False,
) -> list[Recommendation]:  # fmt: skip
    """Return the slate that a run's agent chooses for a user from the whole catalogue, at the start of an episode.

    Args:
        run: the run.
        settings: its settings.
        world: its world, perhaps with one more user.
        user: user number.
        size: K.
        closest: consumed items to name beside each.
        explain: say why.

    Raises:
        InputError: the run has no trained agent, `size` is more than there are items, or there are no texts to explain by.
    """
    from recworld.agents import load_agent
    from recworld.envs import RecVectorEnv

    arguments = settings.env.arguments() | {"slate_size": size, "candidates": "all"}
    if explain:
        arguments |= {"observation": "features"}
    env = RecVectorEnv(1, world=world, users="all", members=(settings.env.members or [0])[:1], **arguments)
    agent = load_agent(run.trained(), env, device="cpu")
    observation, _ = env.reset(seed=settings.seed, options={"user": np.array([user])})
    places = agent.act(observation, deterministic=True)[0]
    offered = observation["action_mask"][0] == 1
    places = places[offered[places]]
    scores = observation["candidate_score"][0, places].astype(float)
    if settings.env.reward == "click":
        scores = 1 / (1 + np.exp(-scores))
    begin, end = world.agent.history_start[user], world.agent.history_start[user + 1]
    past, feedback = world.agent.history_item[begin:end], world.agent.history_feedback[begin:end]
    items = env.candidate_items()[0, places]
    found = [
        Recommendation(int(i), float(s), _closest(world, int(i), past, feedback, closest))
        for i, s in zip(items, scores, strict=True)
    ]
    if explain:
        from recworld.evaluation.explaining import Explainer

        explainer = Explainer(env, _encoder(run), agent, settings.seed)
        found = [dataclasses.replace(one, why=explainer.explain(user, one.item)) for one in found]
    return found


def _encoder(run: RunFolder) -> Encode:
    """Return how the run's texts become vectors.

    Raises:
        InputError: they do not: its vectors know nothing of texts.
    """
    from recworld.encoders.vectors import TextVectors

    vectors = TextVectors.load(run.text)
    if not vectors.reads_text:
        raise InputError(
            f"--explain needs texts: {run.path} was trained with encoder.kind {vectors.settings.kind}."
        )
    return partial(vectors.encode_new, keep=False)


def _closest(
    world: World, item: int, past: npt.NDArray[np.int32], feedback: npt.NDArray[np.float32], number: int
) -> tuple[tuple[int, float], ...]:
    likeness = world.item_vector[past] @ world.item_vector[item]
    return tuple((int(past[n]), float(feedback[n])) for n in np.argsort(-likeness, kind="stable")[:number])


def describe(world: World, user: int, found: list[Recommendation], by_click: bool) -> str:
    """Return recommendations in words, one item a line."""
    begin, end = world.agent.history_start[user], world.agent.history_start[user + 1]
    known = world.user_keys[user]
    who = f'somebody new: "{world.user_text[user]}"' if known == "new" and begin == end else f"user {known}"
    about = f" ({world.user_text[user]})" if world.user_text[user] and not who.startswith("somebody") else ""
    early = f"of whom the recommender knows {end - begin} consumed items (the early part of the log)"
    lines = [f"For {who}{about}, {early}:"]
    for rank, one in enumerate(found, 1):
        score = f"{one.score:6.1%} click" if by_click else f"{one.score:+.2f} reward"
        lines.append(f"{rank:3d}. {score}  {_item(world, one.item)}")
        if one.closest:
            near = "; ".join(f"{_item(world, i)}{_rated(world, value)}" for i, value in one.closest)
            lines.append(f"{'':17}close to {near}")
        if one.why is not None:
            for line in one.why.text().splitlines():
                lines += textwrap.wrap(f"    {line}", WIDTH, subsequent_indent=" " * 30)
    meaning = "estimated probability of a click when noticed" if by_click else "estimated reward when noticed"
    lines.append(
        f"(score: the recommender's {meaning}; the order, out of the whole catalogue, is the trained agent's)"
    )
    if any(one.why is not None for one in found):
        lines += textwrap.wrap(_how_explained(found, by_click), WIDTH)
    share, rate = assumptions(world)
    if rate is not None:
        assumed = f"a random item is clicked with probability {rate:g}, {share:.0%} of popularity attracts"
        lines.append(f"(assumed, not learnt: {assumed})")
    return "\n".join(lines)


def _how_explained(found: list[Recommendation], by_click: bool) -> str:
    unit = "logits of a click" if by_click else "expected reward"
    why = next(one.why for one in found if one.why is not None)
    agent = "agent: what the trained agent chooses by, in standard deviations of it over the candidates it looks at; "
    if why.place is None:
        agent = (
            "this agent says nothing about single items, so the recommender's estimate alone is explained; "
        )
    unread = ""
    if not why.user_words.names:
        unread = " No words of the user are at hand: a run holds them with --data.user-text keep."
    return (
        f"(explained by leaving out: {agent}estimate: the recommender's, in {unit}. An effect is the score less the score "
        "without the word or item: not what causes it, nor what people would do; words that say the same stand in for each "
        f"other. Consumed items: taste folded in again without each, which retells the estimate with R2 {why.fold_fit:.2f}."
        f"{unread})"
    )


def _item(world: World, item: int) -> str:
    return world.item_text[item] or f"item {world.item_keys[item]}"


def _rated(world: World, feedback: float) -> str:
    if world.scale.kind == "click":
        return ""
    half = (world.scale.high - world.scale.low) / 2
    return f" (rated {world.scale.low + half * (1 + feedback):g})"
