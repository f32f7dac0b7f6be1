"""A training run at work: environment and agent, metrics and curves, checkpoints, and going on after a kill."""

from __future__ import annotations

import time

from recworld.agents import Agent, make_agent
from recworld.cli.settings import TrainSettings
from recworld.envs import RecVectorEnv
from recworld.runs import RunFolder
from recworld.seeding import child_seed
from recworld.settings import Settings
from recworld.simulators.world import World

CHECKPOINT_SECONDS = 15.0
"""Least time between two checkpoints; a checkpoint that is slow to write is written less often."""


class TrainingSession:
    """Trains the agent of a run; everything that has to outlive a kill is in the run folder at every checkpoint.

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
        options = (
            settings.agent.model_dump() if isinstance(settings.agent, Settings) else dict(settings.agent)
        )
        self.agent: Agent = make_agent(settings.algo, self.env, child_seed(settings.seed, "agent"), options)
        self.done = 0
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0
