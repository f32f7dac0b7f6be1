"""`check_agent` on faults that show only elsewhere: another batch, another form, the second call, learning, storing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents import check_agent
from recworld.seeding import generator
from recworld.storage import read_arrays, write_arrays


class Good:
    """Keeps the contract: a random linear score, drawn from the seed."""

    def __init__(self, env: Any, seed: int = 0) -> None:
        self.items, self.size = env.tables.item_vector, env.slate_size
        self.random = generator(seed, "good")
        self.weights = self.random.normal(size=self.items.shape[1])

    def score(self, observation: Any) -> Any:
        found = observation["candidates"]
        return (self.items[found] if found.ndim == 2 else found) @ self.weights

    def pick(self, score: Any, observation: Any) -> Any:
        score = np.where(observation["action_mask"] == 1, score, -np.inf)
        return np.argsort(-score, axis=1, kind="stable")[:, : self.size]

    def act(self, observation: Any, deterministic: bool = True) -> Any:
        score = self.score(observation)
        return self.pick(
            score if deterministic else score + self.random.gumbel(size=score.shape), observation
        )

    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        observation, _ = env.reset()
        for done in range(env.num_envs, total_steps + 1, env.num_envs):
            observation = env.step(self.act(observation, deterministic=False))[0]
            if callback is not None and not callback(done, {"loss/policy": 0.0}):
                return

    def save(self, folder: Path) -> None:
        write_arrays(folder / "weights.safetensors", {"weights": self.weights})

    def load(self, folder: Path, env: Any) -> None:
        self.weights = read_arrays(folder / "weights.safetensors")["weights"]


class Keeps(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        self.last = {"step": [observation["history"]]}
        return super().act(observation, deterministic)


class KeepsTensor(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        self.last = torch.as_tensor(observation["candidate_score"])
        return super().act(observation, deterministic)


class Reuses(Good):
    buffer: Any = None

    def act(self, observation: Any, deterministic: bool = True) -> Any:
        slates = super().act(observation, deterministic)
        if self.buffer is None or self.buffer.shape != slates.shape:
            self.buffer = slates
        self.buffer[:] = slates
        return self.buffer


class DrawsGlobally(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        score = self.score(observation)
        return self.pick(score if deterministic else score + np.random.rand(*score.shape), observation)  # noqa: NPY002


class SeedsGlobally(Good):
    def __init__(self, env: Any, seed: int = 0) -> None:
        super().__init__(env, seed)
        torch.manual_seed(seed)


class LayersGlobally(Good):
    def __init__(self, env: Any, seed: int = 0) -> None:
        super().__init__(env, seed)
        self.weights = torch.nn.Linear(self.items.shape[1], 1).weight.detach().numpy()[0]


class Unseeded(Good):
    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.weights = np.random.default_rng().normal(size=self.items.shape[1])


class OverTheBatch(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        score = self.score(observation)
        return self.pick(np.abs(score - score.mean()), observation)


class OnlyNumbers(Good):
    def score(self, observation: Any) -> Any:
        return self.items[observation["candidates"]] @ self.weights


class OnlyVectors(Good):
    def score(self, observation: Any) -> Any:
        return np.einsum("ncd,d->nc", observation["candidates"], self.weights)


class Squeezes(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        return super().act(observation, deterministic).squeeze()


class TwelveCandidates(Good):
    def score(self, observation: Any) -> Any:
        return super().score(observation) + np.arange(12)


class TakesMore(Good):
    """Wants a candidate to spare."""

    def pick(self, score: Any, observation: Any) -> Any:
        score = np.where(observation["action_mask"] == 1, score, -np.inf)
        return np.argpartition(-score, self.size, axis=1)[:, : self.size]


class Runaway(Good):
    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        observation, _ = env.reset()
        while True:
            observation = env.step(self.act(observation))[0]


class StopsEarly(Good):
    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        super().learn(env, total_steps // env.num_envs, callback)


class CountsItsOwn(Good):
    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        super().learn(
            env, total_steps, callback and (lambda steps, told: callback(steps // env.num_envs, told))
        )


class Silent(Good):
    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        super().learn(env, 5 * total_steps)


class Deaf(Good):
    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        super().learn(env, total_steps, callback and (lambda steps, told: callback(steps, told) or True))


class NeedsCallback(Good):
    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        super().learn(env, total_steps, lambda steps, told: callback(steps, told))


class LearnsGlobally(Good):
    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        torch.rand(1)
        super().learn(env, total_steps, callback)


class FailsToLearn(Good):
    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        env.step(np.zeros((1, 1)))


class FailsToLoad(Good):
    def load(self, folder: Path, env: Any) -> None:
        self.weights = read_arrays(folder / "weights.safetensors")["wieghts"]


class LoadsOnly(Good):
    save = None  # type: ignore[assignment]


CASES = [
    (Keeps, "kept observation['history'] itself in self.last", "observation['history'].copy()"),
    (KeepsTensor, "kept observation['candidate_score'] itself in self.last", ".copy()"),
    (Reuses, "changed the array that it had returned before", "slates.copy()"),
    (DrawsGlobally, "act drew from the global generator of numpy", "recworld.seeding.generator"),
    (SeedsGlobally, "Building it drew from the global generator of torch", "fork_rng"),
    (LayersGlobally, "Building it drew from the global generator of torch", "fork_rng"),
    (LayersGlobally, "same seed act differently", "generator of the agent"),
    (Unseeded, "same seed act differently", "self.random = "),
    (OverTheBatch, "With N = 1 instead of 3 a user got another slate", "scores.mean(1, keepdims=True)"),
    (OnlyNumbers, "With observation='features': act failed: IndexError", "candidates.ndim is 3"),
    (OnlyVectors, "act failed: ValueError", "any N"),
    (Squeezes, "With N = 1 instead of 3: act must return shape (N, K) = (1, 3)", "[:, : env.slate_size]"),
    (TwelveCandidates, "With C = 3, K = 3: act failed", "Read C off"),
    (TakesMore, "With C = 3, K = 3: act failed", "may take every candidate"),
    (Runaway, "took more than 9000 user steps", "Stop at total_steps"),
    (StopsEarly, "told total_steps=180 and took 60", "every env.step is env.num_envs"),
    (CountsItsOwn, "told the callback", "steps_done += env.num_envs"),
    (Silent, "never called its callback", "callback(steps_done, figures): return"),
    (Deaf, "after its callback had returned False", "Leave then"),
    (NeedsCallback, "learn failed without a callback: TypeError", "callback is not None"),
    (LearnsGlobally, "learn drew from the global generator of torch", "torch.Generator()"),
    (FailsToLearn, "learn(env, total_steps, callback) failed", "(N, K) positions"),
    (FailsToLoad, "load(folder, env) failed on what save wrote: KeyError", "Read the same names back"),
    (LoadsOnly, "save and load belong together", "missing save(self, folder)"),
]


@pytest.mark.parametrize(("cls", "fault", "cure"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_fault_is_told_with_its_cure(cls: type, fault: str, cure: str) -> None:
    findings = check_agent(cls, raise_errors=False)
    assert any(fault in finding and cure in finding for finding in findings), findings


def test_what_keeps_the_contract_passes() -> None:
    assert check_agent(Good) == []


def test_the_environment_is_given_back_whole() -> None:
    from recworld.envs import RecVectorEnv

    env = RecVectorEnv(2, num_candidates=8, slate_size=2, horizon=4, observation="features", seed=0)
    assert check_agent(Deaf, env, raise_errors=False)
    assert "step" not in vars(env)
    assert check_agent(Good(env), env) == []
