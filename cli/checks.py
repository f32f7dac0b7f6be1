"""What a command checks of its settings before the long work begins."""

from __future__ import annotations

from recworld.cli.settings import TrainSettings
from recworld.errors import InputError
from recworld.logs.log import InteractionLog
from recworld.progress import say
from recworld.simulators.world import World


def check_parts(settings: TrainSettings) -> None:
    """Check early, before the long work, what only the parts themselves can tell.

    Raises:
        InputError: no such baseline, device or reward.
    """
    from recworld.cli.comparison import check_names
    from recworld.envs.rewards import make_reward

    check_names(settings.evaluation.baselines, "--evaluation.baselines")
    make_reward(settings.env.reward)
    device = getattr(settings.agent, "device", None)
    if isinstance(device, str):
        from recworld.agents.learning import pick_device

        pick_device(device)
    if ":" in settings.algo or ":" in str(settings.env.reward):
        _try_out(settings)


def _try_out(settings: TrainSettings) -> None:
    """Let code of the user's own play one step in the small invented world, so that it fails before the long work.

    Raises:
        InputError: it does.
    """
    from recworld.agents import make_agent
    from recworld.envs import RecVectorEnv

    say(f"Trying out {settings.algo if ':' in settings.algo else settings.env.reward} in a small world.")
    env = RecVectorEnv(
        2, num_candidates=max(20, settings.env.slate_size), slate_size=settings.env.slate_size,
        reward=settings.env.reward, observation=settings.env.observation, seed=0,
    )  # fmt: skip
    observation, _ = env.reset(seed=0)
    action = env.action_space.sample()
    if ":" in settings.algo:
        agent = make_agent(settings.algo, env, 0, dict(settings.agent or {}))
        try:
            action = agent.act(observation, deterministic=True)
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise InputError(
                f"--algo {settings.algo}: act(observation, deterministic) failed with {type(error).__name__}: {text}. "
                "recworld.check_agent says what a class gets wrong."
            ) from error
    env.step(action)


def sized(settings: TrainSettings, log: InteractionLog | World) -> TrainSettings:
    """Return the settings with no more candidates than the log has items, where their number was left open.

    Raises:
        InputError: more candidates were asked for, or slates longer than the candidates.
    """
    env = settings.env
    width = log.num_items if env.candidates == "all" else env.num_candidates
    if width > log.num_items and "num_candidates" not in env.model_fields_set:
        width = log.num_items
        say(
            f"{log.name} has {width} items: all of them are candidates in every step, instead of {env.num_candidates}."
        )
        env = env.model_copy(update={"num_candidates": width})
        settings = settings.model_copy(update={"env": env})
    if width > log.num_items:
        raise InputError(
            f"--env.num-candidates got {env.num_candidates}: {log.name} has {log.num_items} items, so at most that many."
        )
    if env.slate_size > width:
        raise InputError(
            f"--env.slate-size got {env.slate_size}: at most the {width} candidates can be shown."
        )
    return settings


def check_tuning(settings: TrainSettings) -> None:
    """Check that nothing is said of a search where none was asked for.

    Raises:
        InputError: a flag of the search stands without --tune.
    """
    for name in ("tune_steps", "tune_pruner", "tune_fields"):
        if (
            name in settings.model_fields_set
            and getattr(settings, name) != type(settings).model_fields[name].default
        ):
            raise InputError(f"--{name.replace('_', '-')} needs --tune with a number of trials.")


def short_name(algo: str) -> str:
    """Return the name of an algorithm in tables and folders: that of the class for one of the user's own."""
    return algo.rpartition(":")[2]
