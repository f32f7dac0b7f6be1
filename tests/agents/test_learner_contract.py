"""What trained agents keep: one answer to both observation forms and any N, masks, bits, storing, going on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents import make_agent
from recworld.agents.base import Agent, Learner, Persistent, Resumable
from recworld.configs import config_names
from recworld.envs import RecVectorEnv
from recworld.errors import InputError

ROLLOUTS = {"n_steps": 5}
REPLAY = {"learning_starts": 20, "batch_size": 16, "report_every": 20, "buffer_size": 90}
LEARNERS: dict[str, dict[str, Any]] = {
    "trpo": ROLLOUTS | {"batch_size": 7},
    "recurrent_ppo": ROLLOUTS | {"batch_size": 7},
    "reinforce": ROLLOUTS | {"batch_size": 7, "replay": 2},
    "qrdqn": REPLAY | {"quantiles": 5},
    "wolpertinger": REPLAY | {"neighbours": 5},
    "sac": REPLAY,
    "td3": REPLAY,
}
every_learner = pytest.mark.parametrize("name", list(LEARNERS))


def trained(name: str, env: RecVectorEnv, steps: int = 60, seed: int = 3, callback: Any = None) -> Any:
    agent: Any = make_agent(name, env, seed, LEARNERS[name])
    agent.learn(env, steps, callback)
    return agent


@pytest.fixture(scope="module")
def once(small_env: Callable[..., RecVectorEnv]) -> Callable[[str], Any]:
    """Return a maker of trained agents that trains each once; they are not to be changed."""
    kept: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in kept:
            kept[name] = trained(name, small_env())
        return kept[name]

    return get


def same_weights(one: Any, other: Any) -> bool:
    pairs = zip(one.network.state_dict().items(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(weight, twin) for (_, weight), twin in pairs)


@every_learner
def test_it_has_all_abilities_and_a_configuration(name: str, small_env: Callable[..., RecVectorEnv]) -> None:
    agent = make_agent(name, small_env())
    for ability in (Agent, Learner, Persistent, Resumable):
        assert isinstance(agent, ability)
    assert name in config_names()


@every_learner
def test_both_observation_forms_and_any_batch_get_one_answer(
    name: str, once: Callable[[str], Any], small_env: Callable[..., RecVectorEnv]
) -> None:
    """A network answers to the observation alone: not to its form, not to who else is asked about, not to who was before."""
    agent = once(name)
    ids, features = small_env(num_envs=6), small_env(num_envs=6, observation="features")
    seen, same = ids.reset(seed=4)[0], features.reset(seed=4)[0]
    for _ in range(3):
        slates = agent.act(seen)
        np.testing.assert_array_equal(slates, agent.act(same))
        for n in range(6):
            row = {key: array[n : n + 1] for key, array in seen.items()}
            np.testing.assert_array_equal(slates[n : n + 1], agent.act(row))
        np.testing.assert_array_equal(slates, agent.act(seen))
        seen, same = ids.step(slates)[0], features.step(slates)[0]


@every_learner
def test_it_trains_on_vectors_as_on_numbers(
    name: str, once: Callable[[str], Any], small_env: Callable[..., RecVectorEnv]
) -> None:
    numbers, vectors = once(name), trained(name, small_env(observation="features"))
    for (key, weight), other in zip(
        numbers.network.state_dict().items(), vectors.network.state_dict().values(), strict=True
    ):
        assert torch.allclose(weight, other, atol=2e-3), key


@every_learner
def test_masked_candidates_are_never_shown(name: str, known_env: Callable[..., RecVectorEnv]) -> None:
    """Without repeats more and more is consumed; what is left must still be legal, in training and in acting."""
    env = known_env(num_envs=8, repeats=False, horizon=10, slate_size=3)
    invalid: list[int] = []
    step = env.step

    def spy(action: Any) -> Any:
        enough = env.simulator.observe().mask.sum(1) >= 3
        result = step(action)
        info = result[4].get("final_info", result[4])
        invalid.extend(info["invalid"][enough].tolist())
        return result

    env.step = spy  # type: ignore[method-assign]
    agent = trained(name, env, 120)
    observation, _ = env.reset(seed=1)
    for number in range(12):
        observation = env.step(agent.act(observation, deterministic=bool(number % 2)))[0]
    assert len(invalid) > 140
    assert not any(invalid)


@every_learner
def test_one_seed_gives_the_same_bits(
    name: str, once: Callable[[str], Any], small_env: Callable[..., RecVectorEnv]
) -> None:
    """Whatever others do to the global generators, which stay as they were."""
    first = once(name)
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    before = torch.random.get_rng_state()
    again, other = trained(name, small_env()), make_agent(name, small_env(), 4, LEARNERS[name])
    assert torch.equal(before, torch.random.get_rng_state())
    assert same_weights(first, again)
    assert not same_weights(first, other)


@every_learner
def test_save_and_load_give_the_same_acts(
    name: str, once: Callable[[str], Any], tmp_path: Path, small_env: Callable[..., RecVectorEnv]
) -> None:
    env, agent = small_env(), once(name)
    agent.save(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    other: Any = make_agent(name, env, 5)
    other.load(tmp_path, env)
    assert other.settings == agent.settings
    assert same_weights(agent, other)
    observation, _ = env.reset(seed=2)
    np.testing.assert_array_equal(agent.act(observation), other.act(observation))
    stranger: Any = make_agent("a2c", env)
    with pytest.raises(InputError, match=f"kind '{name}', not"):
        stranger.load(tmp_path, env)


def drop_time(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not name.startswith("time/")}


@every_learner
def test_a_killed_training_ends_like_an_unbroken_one(
    name: str, tmp_path: Path, small_env: Callable[..., RecVectorEnv]
) -> None:
    total = 80
    whole_log: list[Any] = []
    whole = trained(
        name, small_env(), total, callback=lambda *given: whole_log.append((given[0], drop_time(given[1])))
    )
    log: list[Any] = []
    broken: Any = make_agent(name, small_env(), 3, LEARNERS[name])

    def stop_late(steps: int, figures: dict[str, float]) -> bool:
        log.append((steps, drop_time(figures)))
        (tmp_path / str(steps)).mkdir()
        broken.checkpoint(tmp_path / str(steps))
        return steps < 35

    broken.learn(small_env(), total, stop_late)
    last = log[-1][0]
    assert 35 <= last < total
    torch.manual_seed(321)
    fresh: Any = make_agent(name, small_env(), 99)
    env = small_env(seed=5)
    assert fresh.resume(tmp_path / str(last), env) == last
    fresh.learn(env, total, lambda *given: log.append((given[0], drop_time(given[1]))))
    assert log == whole_log
    assert len(log) >= 3
    assert same_weights(whole, fresh)
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(
        whole.act(observation, deterministic=False), fresh.act(observation, deterministic=False)
    )
