"""A training run at work: environment and agent, metrics and curves, checkpoints, and going on after a kill."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recworld.agents import Agent, Learner, Resumable, make_agent, save_agent
from recworld.cli.settings import TrainSettings
from recworld.envs import RecVectorEnv
from recworld.evaluation import MetricsFile, PeriodicEvaluation, TensorBoardWriter
from recworld.evaluation.comparing import Policy
from recworld.progress import bar, say
from recworld.runs import RunFolder
from recworld.seeding import child_seed
from recworld.settings import Settings
from recworld.simulators.world import World
from recworld.storage import write_folder

CHECKPOINT_SHARE = 0.02
"""Largest share of the time that goes into checkpoints: one that is slow to write is written less often."""


class TrainingSession:
    """Trains the agent of a run; whatever has to outlive a kill is in the run folder at every checkpoint.

    Args:
        run: the run folder.
        settings: its settings.
        world: its world.
    """

    def __init__(self, run: RunFolder, settings: TrainSettings, world: World) -> None:
        self.run, self.settings, self.world = run, settings, world
        self.env = RecVectorEnv(
            int(getattr(settings.agent, "num_envs", 64)),
            world=world,
            users="train",
            members=settings.env.members,
            seed=child_seed(settings.seed, "train"),
            **settings.env.arguments(),
        )
        agent = settings.agent
        self.options = agent.model_dump() if isinstance(agent, Settings) else dict(agent)
        self.agent_seed = child_seed(settings.seed, "agent")
        self.agent: Agent = make_agent(settings.algo, self.env, self.agent_seed, self.options)
        self._due = time.monotonic() + settings.checkpoint_seconds

    def train(self, baselines: Mapping[str, Policy]) -> None:
        """Train to the end, from the newest checkpoint where there is one, and store the trained agent.

        Args:
            baselines: drawn beside the agent in the chart of the validation return.
        """
        if isinstance(self.agent, Learner):
            self._learn(self.agent, baselines)
        else:
            say(f"{self.settings.algo} has no method learn: it is measured as it is.")
        write_folder(self.run.agent, self._store)

    def _learn(self, agent: Any, baselines: Mapping[str, Policy]) -> None:
        done = self._resume(agent)
        fresh = done == 0
        metrics = MetricsFile.start(self.run.metrics) if fresh else MetricsFile.resume(self.run.metrics, done)
        writer = TensorBoardWriter(self.run.tensorboard, None if fresh else done)
        curves = PeriodicEvaluation(
            agent,
            self.world.with_members(list(self.settings.env.members or [0])),
            self.settings.env.arguments(),
            every=int(self.settings.evaluation.every or self.settings.total_steps),
            baselines={name: policy for name, policy in baselines.items() if callable(policy)},
            metrics=metrics,
            writer=writer,
            streams=self.settings.evaluation.streams,
            seed=self.settings.seed,
            done=done,
        )
        if fresh:
            curves.start()
        with bar(self.settings.total_steps, f"Training {self.settings.algo}", "steps") as shown:
            shown.update(done)

            def border(steps: int, figures: dict[str, float]) -> bool:
                shown.update(max(0, min(steps, self.settings.total_steps) - int(shown.n)))
                go_on = curves(steps, figures)
                self._checkpoint(agent, steps)
                return go_on

            agent.learn(self.env, self.settings.total_steps, border)
        writer.close()

    def _resume(self, agent: Any) -> int:
        """Take the newest checkpoint, and return the user steps that were done."""
        found = self.run.latest_checkpoint() if isinstance(agent, Resumable) else None
        if found is None:
            return 0
        done = int(agent.resume(found[1], self.env))
        total = self.settings.total_steps
        if done < total:
            say(f"Going on after {done:,} of {total:,} steps.")
        else:
            say(
                f"Trained to its end before ({done:,} steps); --total-steps trains on. What follows compares again."
            )
        return done

    def _checkpoint(self, agent: Any, steps: int) -> None:
        last = steps >= self.settings.total_steps
        if not isinstance(agent, Resumable) or (time.monotonic() < self._due and not last):
            return
        start = time.monotonic()

        def fill(folder: Path) -> None:
            self._store(folder)
            agent.checkpoint(folder)

        self.run.save_checkpoint(steps, fill)
        now = time.monotonic()
        pause = self.settings.checkpoint_seconds
        self._due = now + (max(pause, (now - start) / CHECKPOINT_SHARE) if pause > 0 else 0.0)

    def _store(self, folder: Path) -> None:
        save_agent(self.agent, folder, self.settings.algo, self.agent_seed, self.options)
