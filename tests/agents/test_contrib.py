"""TRPO, QR-DQN and PPO with a recurrent policy: they learn what is known, and each does what it is named for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents import make_agent
from recworld.agents.plackett_luce import PlackettLuce
from recworld.agents.quantiles import QRDQNAgent
from recworld.agents.recurrent import RecurrentPPOAgent
from recworld.agents.trpo import Places, TRPOAgent, places_divergence
from recworld.envs import RecVectorEnv

ROLLOUTS = {"n_steps": 10, "batch_size": 80, "learning_rate": 1e-2}
REPLAY = {"learning_starts": 100, "learning_rate": 1e-2, "batch_size": 64, "report_every": 160}


@pytest.mark.parametrize(
    ("name", "size", "steps", "settings"),
    [
        ("trpo", 1, 1200, ROLLOUTS | {"feedback_epochs": 0, "warm_start": 0.0}),
        ("trpo", 2, 960, ROLLOUTS),
        ("recurrent_ppo", 2, 960, ROLLOUTS | {"n_epochs": 4}),
        ("qrdqn", 1, 1280, REPLAY),
        ("qrdqn", 2, 1280, REPLAY),
    ],
)
def test_it_finds_the_items_that_are_clicked(
    name: str,
    size: int,
    steps: int,
    settings: dict[str, Any],
    known_env: Callable[..., RecVectorEnv],
    reward_per_step: Callable[..., float],
) -> None:
    agent: Any = make_agent(name, known_env(slate_size=size), 0, settings)
    before = reward_per_step(agent, known_env(slate_size=size))
    agent.learn(known_env(slate_size=size), steps)
    assert before < 0.6 * size
    assert reward_per_step(agent, known_env(slate_size=size)) > 0.95 * size
    assert reward_per_step(agent, known_env(num_envs=7, slate_size=size, num_candidates=24)) > 0.95 * size


@pytest.mark.parametrize("cls", [TRPOAgent, QRDQNAgent, RecurrentPPOAgent])
def test_an_untrained_agent_is_greedy_on_the_score(
    cls: type[Any], small_env: Callable[..., RecVectorEnv]
) -> None:
    env = small_env()
    observation, _ = env.reset(seed=0)
    score = np.where(observation["action_mask"] == 1, observation["candidate_score"], -np.inf)
    expected = np.argsort(-score, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(cls(env, 0).act(observation), expected)


class Beside:
    """What stands before shifts the logits by a table (C, C), mean over the places before."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table

    def beside(self, positions: torch.Tensor) -> torch.Tensor:
        return self.table[positions][..., None]

    def shift(self, before: torch.Tensor) -> torch.Tensor:
        return before[..., 0].mean(1)


@pytest.mark.parametrize("interacts", [False, True])
def test_the_trust_region_measures_whole_slates(interacts: bool) -> None:
    """Averaged over all slates by the new policy's probabilities, the sum over places is the slate's divergence."""
    random = np.random.default_rng(0)
    mask = torch.tensor([[True, True, False, True, True]])
    names = torch.tensor([[7, 3, 9, 4, 5]])  # of the candidates of a shortlist, in the environment

    def drawn() -> PlackettLuce:
        logits, table = (
            torch.as_tensor(random.normal(size=(1, 5))),
            torch.as_tensor(random.normal(size=(5, 5))),
        )
        return PlackettLuce(logits, mask, 3, Beside(table) if interacts else None, names)

    new, old = drawn(), drawn()
    exact, averaged = 0.0, 0.0
    for slate in permutations([7, 3, 4, 5], 3):
        shown = torch.tensor([slate])
        log_new, log_old = float(new.log_prob(shown)), float(old.log_prob(shown))
        exact += np.exp(log_new) * (log_new - log_old)
        averaged += np.exp(log_new) * float(places_divergence(Places(new, shown), Places(old, shown)))
    assert exact > 0.1
    assert averaged == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("name", ["trpo", "recurrent_ppo", "qrdqn"])
def test_a_shortlist_is_kept_to(name: str, small_env: Callable[..., RecVectorEnv]) -> None:
    """More candidates than are looked at closely: what is shown comes from the best of the score, in the env's numbers."""
    rollouts = {"n_steps": 5, "warm_start": 0.0, "feedback_epochs": 0}
    settings: dict[str, Any] = {"learning_starts": 20} if name == "qrdqn" else rollouts
    network = {"shortlist": 5, "item_memory": False}
    agent: Any = make_agent(name, small_env(), 0, settings | {"network": network})
    agent.learn(small_env(), 80)
    observation, _ = small_env(num_envs=9).reset(seed=2)
    score = np.where(observation["action_mask"] == 1, observation["candidate_score"], -np.inf)
    best = np.argsort(-score, axis=1, kind="stable")[:, :5]
    for row, slate in zip(best, agent.act(observation), strict=True):
        assert len(set(slate)) == 3
        assert set(slate) <= set(row)


def test_the_divergence_is_finite_where_candidates_run_out() -> None:
    """Two open candidates for three places: the third place is no choice; gradients stay finite."""
    mask = torch.tensor([[True, False, True, False]])
    logits = torch.randn(1, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    given = torch.tensor([[2, 0, 1]])
    old = Places(PlackettLuce(torch.zeros(1, 4), mask, 3), given)
    value = places_divergence(Places(PlackettLuce(logits, mask, 3), given), old)
    first = logits.detach()[0, [0, 2]].softmax(0)
    assert float(value.detach()) == pytest.approx(float((first * (first * 2).log()).sum()), rel=1e-5)
    value.sum().backward()
    gradient = logits.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient[0, [1, 3]].abs().max() == 0


def test_the_curvature_of_a_nearly_certain_choice_is_not_negative() -> None:
    logits = torch.tensor([[30.0, 12.0, 10.0, -5.0, 0.0]]).requires_grad_()
    given = torch.tensor([[0, 1, 2]])
    mask = torch.ones(1, 5, dtype=torch.bool)
    old = Places(PlackettLuce(logits.detach(), mask, 3), given)
    value = places_divergence(Places(PlackettLuce(logits, mask, 3), given), old).sum()
    (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
    assert gradient.abs().max() == 0
    rows = [torch.autograd.grad(gradient[0, n], logits, retain_graph=True)[0][0] for n in range(5)]
    values = torch.linalg.eigvalsh(torch.stack(rows).double())
    assert values.min() > -1e-12
    assert values.max() > 0.1  # the second place is open


def test_an_update_stays_inside_the_trust_region(known_env: Callable[..., RecVectorEnv]) -> None:
    def moved(radius: float) -> list[float]:
        found: list[float] = []
        settings = {"n_steps": 10, "feedback_epochs": 0, "warm_start": 0.0, "target_kl": radius}
        agent = TRPOAgent(known_env(), 0, **settings)
        agent.learn(known_env(), 480, lambda _, figures: found.append(figures["loss/kl"]) or True)
        return found

    near, far = moved(1e-3), moved(5e-2)
    assert max(near) < 1e-3
    assert 1e-3 < max(far) < 5e-2


def test_quantiles_are_those_of_the_return(known_env: Callable[..., RecVectorEnv], good_items: Any) -> None:
    """Items clicked with probability 0.6, no future: the return of one item is 1 or 0, and so are its quantiles.

    The mean over quantiles is the click rate; the lowest stay at nothing, the highest at one click.
    """
    world = known_env().world
    logit = np.where(good_items[:-1], np.log(0.6 / 0.4), -6.0).astype(np.float32)[None]
    world = replace(world, truth=replace(world.truth, item_attraction_bias=logit))
    settings = {"gamma": 0.0, "reward_scale": 1.0, "quantiles": 10, "epsilon_start": 0.5}
    agent = QRDQNAgent(known_env(world=world, slate_size=1), 0, **(REPLAY | settings))
    agent.learn(known_env(world=world, slate_size=1, num_envs=32), 4000)
    env = known_env(world=world, slate_size=1)
    observation, _ = env.reset(seed=3)
    tensors = {name: torch.as_tensor(array) for name, array in observation.items()}
    slates = torch.as_tensor(agent.act(observation))
    assert good_items[np.take_along_axis(observation["candidates"], slates.numpy(), 1)].all()
    with torch.no_grad():
        looked = agent.network.look(tensors, slates)
        clicked = looked.baseline + looked.item_value[:, 0]  # the quantiles, given a click
        value = agent.network.slate_value(tensors, slates)
        chance = (looked.examined * looked.attraction.sigmoid())[:, 0]
    assert abs(float(chance.mean()) - 0.6) < 0.1
    assert abs(float(clicked.mean()) - 1.0) < 0.1
    assert abs(float(looked.baseline.mean())) < 0.1
    assert abs(float(value.mean()) - 0.6) < 0.12
