"""The way from a log to a world, each stage announced and timed; what was done before is cached."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from recworld.cli.settings import WorldSource
from recworld.cli.trust import bias_rmse, trust_lines
from recworld.encoders.vectors import TextVectors, encode_log
from recworld.logs.loading import load_log
from recworld.logs.log import InteractionLog
from recworld.logs.splits import check_log
from recworld.progress import say
from recworld.simulators.build import cached_world
from recworld.simulators.world import World


@contextlib.contextmanager
def stage(title: str) -> Iterator[None]:
    """Announce a stage of the work, and say how long it took."""
    say(f"\n{title}")
    start = time.perf_counter()
    yield
    say(f"  done in {time.perf_counter() - start:.1f} s")


@dataclass(frozen=True)
class Prepared:
    """What a run starts from.

    Attributes:
        world: the fitted world with the dynamics that were asked for.
        vectors: the text vectors, and the way that new texts take.
        log: what the world was fitted to.
    """

    world: World
    vectors: TextVectors
    log: InteractionLog


def prepare(settings: WorldSource, check: Callable[[InteractionLog], None] = lambda log: None) -> Prepared:
    """Fetch or read the log, encode its texts, fit the world.

    Args:
        settings: where the world comes from.
        check: called with the log before the long work begins.

    Raises:
        InputError: something about the log or a setting is wrong.
        UnavailableError: the data or the language model cannot be fetched.
    """
    given = getattr(settings, "world_seed", None)
    seed = settings.seed if given is None else int(given)
    log = load_log(settings.dataset, settings.data, seed)
    check_log(log)
    check(log)
    with stage(f"Text vectors: {settings.encoder.kind}"):
        vectors = encode_log(log, settings.encoder, settings.world.early_share)
    with stage(f"World: {settings.world.members} members fitted to the log"):
        world = cached_world(
            log, vectors.user, vectors.item, settings.world, settings.dynamics.settings(), seed
        )
        world = settings.dynamics.applied(world)
        for line in trust_lines(world.report, bias_rmse(log, seed)):
            say(f"  {line}")
    return Prepared(world, vectors, log)
