"""Periodic evaluation of a learning agent, with the baselines in the same chart: one look tells whether it wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recworld.agents.base import Agent
from recworld.agents.episodes import episode_env, play
from recworld.errors import InputError
from recworld.evaluation.comparing import REFERENCE
from recworld.evaluation.intervals import coverage, mean_interval, shown_matrix
from recworld.evaluation.metrics import PER_EPISODE, episode_metrics
from recworld.progress import say
from recworld.seeding import child_seed

if TYPE_CHECKING:
    from recworld.agents.episodes import Episodes
    from recworld.evaluation.writers import MetricsFile, TensorBoardWriter
    from recworld.simulators.world import World

STREAMS = 128
"""Validation episodes in a quick evaluation; users take turns where there are fewer."""


class PeriodicEvaluation:
    """A callback for `learn`: writes the figures of training, and every so often how the agent does on validation users.

    The agent and the baselines play the same episodes, so the lead over the reference is paired by user. Tags:
    ``eval/<metric>``, ``eval/lead`` (return minus the reference's) with ``eval/lead_low`` and ``eval/lead_high``; each
    baseline writes ``eval/<metric>`` in a sub-run ``baseline_<name>``, and ``baselines/<name>`` in the agent's run for
    the Custom Scalars page. On a resume, give a `MetricsFile.resume`: the next evaluation and the best one so far
    follow from what the file holds.

    Args:
        agent: the learning agent.
        world: the world that training meets.
        env_options: arguments of `RecVectorEnv`.
        every: user steps between two evaluations.
        baselines: ``factory(env, seed=...)`` by name.
        metrics: where figures are kept, if anywhere.
        writer: TensorBoard, if wanted.
        reference: the baseline that the lead is counted from.
        users: the users that are measured.
        streams: episodes of an evaluation, spread over the users.
        episodes: whole episodes of each stream.
        seed: of the episodes; the same ones in every evaluation.
        on_best: called with (step, return) whenever the agent is better than ever before.
        done: steps already trained when this starts, on a resume.

    Raises:
        InputError: `every`, `streams` or `episodes` is below 1.
    """

    def __init__(
        self,
        agent: Agent,
        world: World,
        env_options: Mapping[str, Any] | None = None,
        *,
        every: int,
        baselines: Mapping[str, Callable[..., Agent]] | None = None,
        metrics: MetricsFile | None = None,
        writer: TensorBoardWriter | None = None,
        reference: str = REFERENCE,
        users: str = "validation",
        streams: int = STREAMS,
        episodes: int = 1,
        seed: int = 0,
        on_best: Callable[[int, float], None] | None = None,
        done: int = 0,
    ) -> None:
        if min(every, streams, episodes) < 1:
            raise InputError(
                f"every, streams and episodes must be at least 1. Got {every}, {streams} and {episodes}."
            )
        self.agent, self.every, self.reference, self.on_best = agent, every, reference, on_best
        self.metrics, self.writer = metrics, writer
        self.baselines = dict(baselines or {})
        self._env = episode_env(world, env_options, users=users, num_users=streams)
        split = world.users(users)
        self._users = np.resize(split, streams)
        # A user who is measured again plays on another stream; the first time round it is the user's own number.
        self._streams = self._users + world.num_users * (np.arange(streams) // len(split))
        self._seed, self._episodes = child_seed(seed, "periodic evaluation"), episodes
        self._lines: dict[str, tuple[dict[str, float], Any]] | None = None
        self._evaluated = done // every
        self.best: tuple[int, float] | None = None
        for record in metrics.records() if metrics is not None else []:
            self._note_best(int(record["step"]), record.get("eval/return", -math.inf), tell=False)

    def __call__(self, steps_done: int, figures: dict[str, float]) -> bool:
        """Write the figures, and evaluate when another `every` steps are done; never stops training."""
        found = dict(figures)
        if steps_done // self.every > self._evaluated:
            self._evaluated = steps_done // self.every
            found |= self.evaluate(steps_done)
        self._write(steps_done, found)
        return True

    def start(self, step: int = 0) -> dict[str, float]:
        """Evaluate and write before training, so that the curves begin with the untrained agent."""
        found = self.evaluate(step)
        self._write(step, found)
        return found

    def _write(self, step: int, figures: Mapping[str, float]) -> None:
        if self.metrics is not None:
            self.metrics.write(step, figures)
        if self.writer is not None:
            self.writer.write(step, figures)
            self.writer.flush()

    def evaluate(self, step: int) -> dict[str, float]:
        """Measure the agent now and return its figures by tag; baselines go to TensorBoard at the same step."""
        figures, returns = self._measure(self.agent)
        if self._lines is None:  # the baselines do not change: once is enough
            self._lines = {
                name: self._measure(factory(self._env, seed=child_seed(self._seed, name)))
                for name, factory in self.baselines.items()
            }
            if self.writer is not None:
                self.writer.layout(list(self._lines))
        found = {f"eval/{name}": value for name, value in figures.items()}
        for name, (line, _) in self._lines.items():
            found[f"baselines/{name}"] = line["return"]
            if self.writer is not None:
                tags = {f"eval/{metric}": value for metric, value in line.items()}
                self.writer.write(step, tags, run=f"baseline_{name}")
        if self.reference in self._lines:
            lead = mean_interval(returns - self._lines[self.reference][1])
            found |= {"eval/lead": lead.mean, "eval/lead_low": lead.low, "eval/lead_high": lead.high}
        self._say(step, found)
        self._note_best(step, figures["return"], tell=True)
        return found

    def _measure(self, agent: Agent) -> tuple[dict[str, float], Any]:
        """Return the mean of each metric, and the returns averaged by user, (users,)."""
        played = [
            play(agent, self._env, self._users, seed=self._seed, streams=self._streams, episode=number)
            for number in range(self._episodes)
        ]
        found = [episode_metrics(one, self._env.tables.item_vector) for one in played]
        means = {name: _mean(np.stack([one[name] for one in found])) for name in PER_EPISODE}
        means["coverage"] = _coverage(played, self._env.world.num_items)
        returns = np.mean([one["return"] for one in found], axis=0)
        users, place = np.unique(self._users, return_inverse=True)
        return means, np.bincount(place, returns) / np.bincount(place, minlength=len(users))

    def _say(self, step: int, found: Mapping[str, float]) -> None:
        text = f"After {step:,} steps: return {found['eval/return']:.2f} on validation users"
        lines = [f"{name} {found[f'baselines/{name}']:.2f}" for name in self._lines or {}]
        say(text + (f" ({', '.join(lines)})." if lines else "."))

    def _note_best(self, step: int, value: float, tell: bool) -> None:
        if math.isfinite(value) and (self.best is None or value > self.best[1]):
            self.best = (step, value)
            if tell and self.on_best is not None:
                self.on_best(step, value)


def _mean(values: Any) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _coverage(played: Sequence[Episodes], num_items: int) -> float:
    shown = shown_matrix(played[0].item, num_items)
    for one in played[1:]:
        shown = shown.maximum(shown_matrix(one.item, num_items))
    return coverage(shown)
