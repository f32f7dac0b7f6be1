"""Tuning: finds the optimum of a known function, on common random numbers, and is kept whole in the cache."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recworld.agents import tuning
from recworld.agents.baselines import GreedyAgent, MMRAgent
from recworld.agents.episodes import episode_env, play
from recworld.errors import CorruptError, InputError
from recworld.simulators.bundled import bundled_world

OPTIONS = {"num_candidates": 30, "slate_size": 3, "horizon": 10}


@pytest.fixture(scope="module")
def world():
    return bundled_world(users=120, items=100, width=8, members=1)


class Worse(GreedyAgent):
    """Greedy, but `bad` of its slots are filled with the worst candidates instead."""

    def __init__(self, env, seed=0, bad=0, unused=0):
        super().__init__(env, seed)
        self.bad = bad

    def act(self, observation, deterministic=True):
        slates = super().act(observation)
        score = np.where(observation["action_mask"] == 1, observation["candidate_score"], 99)
        slates[:, self.slate_size - self.bad :] = np.argsort(score, axis=1)[:, : self.bad]
        return slates


def validation(world):
    return lambda: episode_env(world, OPTIONS, users="validation")


def test_the_search_finds_what_is_best_and_ties_go_to_the_start(world):
    found = tuning.tune(
        Worse, validation(world), {"bad": (3, 1, 0, 2), "unused": (5, 6)}, {"bad": 2, "unused": 7}, episodes=2
    )
    assert found.options == {"bad": 0, "unused": 7}
    tried = [tuple(options.values()) for options, _ in found.trials]
    assert len(tried) == len(set(tried))  # nothing is measured twice
    assert found.value == max(value for _, value in found.trials)
    again = tuning.tune(Worse, validation(world), {"bad": (3, 1, 0, 2)}, {"bad": 2, "unused": 7}, episodes=2)
    assert again.value == found.value  # common random numbers


def test_a_start_that_lacks_an_option_is_refused(world):
    with pytest.raises(InputError, match="lacks bad"):
        tuning.tune(Worse, validation(world), {"bad": (1,)}, {})


def test_tuned_baselines_beat_the_untuned_on_validation_and_outlive_the_process(world, monkeypatch):
    monkeypatch.setattr(tuning, "STATIC_STEPS", 6000)
    first = tuning.cached_baselines(world, OPTIONS, seed=1)
    assert json.loads(json.dumps(first.options)) == first.options
    trials = first.report["mmr"]["trials"]
    assert first.report["mmr"]["value"] == max(value for _, value in trials)
    greedy = [
        value for options, value in trials if not options["history_penalty"] and not options["slate_penalty"]
    ]
    assert all(first.report["mmr"]["value"] >= value for value in greedy)
    chosen = first.report["static"]
    assert chosen["values"][chosen["chosen"]] == max(chosen["values"].values())
    monkeypatch.setattr(
        tuning, "tune", lambda *_, **__: pytest.fail("tuned again instead of read from the cache")
    )
    second = tuning.cached_baselines(world, OPTIONS, seed=1)
    np.testing.assert_array_equal(second.static_values, first.static_values)
    assert (second.options, second.report) == (first.options, first.report)
    env = episode_env(world, OPTIONS)
    mmr = second.factory("mmr")(env, seed=0)
    assert isinstance(mmr, MMRAgent)
    assert mmr.history_penalty == first.options["mmr"]["history_penalty"]
    assert play(second.factory("static")(env, seed=0), env, world.users("test"), seed=0).returns().mean() > 0
    assert isinstance(second.factory("greedy")(env, seed=0), GreedyAgent)
    with pytest.raises(InputError, match="Did you mean 'greedy'"):
        second.factory("gredy")


def test_other_settings_are_other_cache_entries(world, monkeypatch):
    calls = []

    def fake(world, options, *, seed):
        calls.append((options, seed))
        return tuning.TunedBaselines({"mmr": {}}, np.zeros(world.num_items))

    monkeypatch.setattr(tuning, "tune_baselines", fake)
    for options, seed in [
        (OPTIONS, 5),
        (OPTIONS | {"horizon": 9}, 5),
        (OPTIONS | {"dynamics": "static"}, 5),
        (OPTIONS, 6),
    ]:
        tuning.cached_baselines(world, options, seed=seed)
        tuning.cached_baselines(world, options, seed=seed)
    assert len(calls) == 4
    own = OPTIONS | {"reward": lambda info: info["click"].sum(1)}
    tuning.cached_baselines(world, own, seed=5)
    tuning.cached_baselines(world, own, seed=5)
    assert len(calls) == 6  # a function has no content hash


def test_a_broken_store_is_told(tmp_path):
    tuning.TunedBaselines({}, np.zeros(3)).save(tmp_path)
    (tmp_path / "baselines.json").write_text('{"format": 99}')
    with pytest.raises(CorruptError, match="does not hold tuned baselines of format 1"):
        tuning.TunedBaselines.load(tmp_path)
