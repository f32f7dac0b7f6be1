"""REINFORCE over slates that learns from older rollouts too (Chen et al. 2019, "Top-K off-policy correction for a REINFORCE
recommender system").

A softmax pi(a | s) over the candidates is learnt from rollouts of this and of earlier policies beta. The gradient of a slot
that showed item a is

    min(pi(a | s) / beta(a | s), c)  lambda_K(s, a)  A  grad log pi(a | s),        lambda_K = K (1 - pi(a | s))^(K - 1)

The first factor corrects for what the older policy preferred; it is capped, which costs a bias and saves variance; the
states that follow are taken as they came (the paper's first-order approximation). The second is the derivative by pi of
1 - (1 - pi)^K, the chance that a is among K draws: an item that is as good as sure to be shown gains nothing from more
mass, so the policy learns K good items instead of one. K = 1 is plain REINFORCE.

A is what the slot earned plus the discounted return after the slate, less baselines: the mean reward of the place, and the
value of the state. For K = 1 that is return less value. With G = sum_k r_k + gamma G',

    A_k = (r_k - m_k) + (gamma G' - (V(s) - sum_j m_j)),        m_k: mean reward of place k in the rollout

standardised within each batch.
A user who leaves ends the sum; at a time limit and at the rollout's end the value of the next state stands for the rest.
Slates are drawn without replacement (Plackett-Luce) where the paper draws K times and drops repeats: for many candidates the
chances of a slot are nearly those of the softmax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from recworld import packing
from recworld.agents.baselines_static import reward_weights, slot_reward
from recworld.agents.facts import Tensors, to_tensors
from recworld.agents.figures import of_step
from recworld.agents.learning import LearnerSettings, TorchAgent
from recworld.agents.networks import SlatePolicyNetwork
from recworld.agents.online import SLOT_NAMES
from recworld.agents.plackett_luce import HIDDEN, PlackettLuce
from recworld.agents.replay import part
from recworld.agents.rounds import Rounds
from recworld.packing import Arrays
from recworld.seeding import child_seed, generator

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


class ReinforceSettings(LearnerSettings):
    """Settings of off-policy REINFORCE."""

    n_steps: int = Field(16, ge=1)
    """Steps of every user between two updates."""
    replay: int = Field(3, ge=1)
    """Rollouts that an update learns from: the newest and the ones before it. 1 is on-policy but for the passes."""
    epochs: int = Field(1, ge=1)
    """Passes over these rollouts in each update."""
    batch_size: int = Field(256, ge=1)
    """States per gradient step."""
    learning_rate: float = Field(1e-3, gt=0)
    """Step size at the start."""
    learning_rate_end: float = Field(0.1, ge=0, le=1)
    """Share of the step size that is left at the end; it falls linearly."""
    gamma: float = Field(0.9, ge=0, le=1)
    """Discount per step. 0 learns for the next click only."""
    weight_cap: float = Field(2.0, gt=0)
    """c: largest importance weight of a slot."""
    top_k: bool = True
    """Whether lambda_K corrects for slates; without it each slot counts as if it were shown alone."""
    reward_scale: float = Field(0.1, gt=0)
    """Rewards are multiplied by this for training only, so that the value's error does not drown the policy's gradient."""
    vf_coef: float = Field(0.5, ge=0)
    """Weight of the value's squared error."""
    max_grad_norm: float = Field(0.5, gt=0)
    """Gradients are scaled down to this length."""
    start_scale: float = Field(3.0, gt=0)
    """Sharpness of the untrained policy: logits per standard deviation of the agent-side score."""


def top_k_factor(log_pi: Tensor, size: int) -> Tensor:
    """Return lambda_K = K (1 - pi)^(K - 1), without gradient; 1 for K = 1.

    Args:
        log_pi: log pi(a | s), any shape.
        size: K.
    """
    return size * (1 - log_pi.detach().exp()).clamp_min(0.0) ** (size - 1)


def policy_loss(
    log_pi: Tensor, log_beta: Tensor, advantage: Tensor, shown: Tensor, size: int, cap: float
) -> Tensor:
    """Return the loss whose gradient is that of the module's text, a mean over shown slots.

    Args:
        log_pi: (N, K) log-probability of each slot's item under the softmax that is learnt.
        log_beta: (N, K) the same under the softmax that showed it.
        advantage: (N, K) A.
        shown: (N, K) 0 where the slot stayed empty.
        size: the K of lambda_K; 1 for none.
        cap: c.
    """
    ratio = (log_pi.detach() - log_beta).exp().clamp_max(cap)
    weight = ratio * top_k_factor(log_pi, size) * advantage * shown
    return -(weight * log_pi).sum() / shown.sum().clamp_min(1)


def standardised(values: Tensor, shown: Tensor) -> Tensor:
    """Return values (N, K) less their mean, in standard deviations, both over the shown slots."""
    count = shown.sum().clamp_min(1)
    centred = values - (values * shown).sum() / count
    deviation = ((centred * shown).square().sum() / count).sqrt()
    return centred / deviation.clamp_min(1e-6)


def returns_after(
    rewards: npt.NDArray[Any], following: npt.NDArray[Any], over: npt.NDArray[Any], gamma: float
) -> npt.NDArray[np.float32]:
    """Return gamma G' of every step, (S, N): what the slates after it bring, discounted.

    Args:
        rewards: (S, N) of the slates.
        following: (S, N) value of the state that a sum ends in: at a time limit and, in the last row, at the rollout's end;
            0 where a user left.
        over: (S, N) bool, whether the episode ended with the step.
        gamma: discount.
    """
    after = np.empty_like(rewards, dtype=np.float32)
    total = following[-1].astype(np.float64)
    for step in range(len(rewards) - 1, -1, -1):
        ended = over[step] | (step == len(rewards) - 1)
        after[step] = gamma * np.where(ended, following[step], total)
        total = rewards[step] + after[step]
    return after


class ReinforceTraining(Rounds):
    """Rollouts, a replay of the last ones, and the corrected gradient; see the module's text.

    Args:
        env: the training environment.
        network: trained in place.
        settings: of the agent.
        size: K.
        seed: of slates and minibatches.
        device: of the network.
    """

    def __init__(
        self,
        env: RecVectorEnv,
        network: SlatePolicyNetwork,
        settings: ReinforceSettings,
        size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__(env, network, settings, uses_env=True)
        self.size, self.seed, self.device = size, seed, device
        self.draws = packing.torch_generator(child_seed(seed, "slates"), device)
        self.random = generator(seed, "minibatches")
        self.weights = reward_weights(env)
        self.rollouts: list[Arrays] = []

    def generators(self) -> tuple[torch.Generator, np.random.Generator]:
        """Return the generators of the slates and of the minibatches."""
        return self.draws, self.random

    def extra_arrays(self) -> Arrays:
        """Return the rollouts that the next update learns from again."""
        out: Arrays = {}
        for number, rollout in enumerate(self.rollouts):
            out |= packing.prefixed(f"{number}", rollout)
        return out

    def load_extra(self, arrays: Arrays) -> None:
        """Take the arrays of `extra_arrays` back."""
        numbers = sorted({int(name.split("/")[0]) for name in arrays})
        self.rollouts = [packing.below(f"{number}", arrays) for number in numbers]

    def begin(self) -> None:
        """Start episodes for all users."""
        self._last_obs, _ = self.env.env.reset(seed=child_seed(self.seed, "episodes"))

    def policy_of(self, observation: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log of the softmax over unmasked candidates (N, C), the mask (N, C) and the value (N,)."""
        logits, mask, value = self.network(observation)
        return logits.masked_fill(~mask, HIDDEN).log_softmax(1), mask, value.squeeze(-1)

    @torch.no_grad()
    def _value(self, observation: Arrays) -> npt.NDArray[Any]:
        return np.asarray(self.policy_of(to_tensors(observation, self.device))[2].cpu().numpy())

    def round(self) -> None:
        """Roll out, drop the oldest rollout, and learn from those that are kept."""
        self.rollouts = [*self.rollouts, self.collect()][-self.settings.replay :]
        rows = {name: np.concatenate([r[name] for r in self.rollouts]) for name in self.rollouts[0]}
        total, size = len(rows["after"]), self.settings.batch_size
        found: dict[str, list[float]] = {"loss/policy": [], "loss/value": [], "loss/capped": []}
        for _ in range(self.settings.epochs):
            order = self.random.permutation(total)
            for start in range(0, total, size):
                batch = {name: array[order[start : start + size]] for name, array in rows.items()}
                for name, value in self.update(to_tensors(batch, self.device)).items():
                    found[name].append(value)
        for name, values in found.items():
            self.logger.record(name, float(np.mean(values)))

    @torch.no_grad()
    def collect(self) -> Arrays:
        """Return a rollout of `n_steps` steps of every user, rows (S N, ...), by the policy as it stands."""
        env, steps = self.env.env, []
        for _ in range(self.settings.n_steps):
            seen = self._last_obs
            log_softmax, mask, _ = self.policy_of(to_tensors(seen, self.device))
            slates = PlackettLuce(log_softmax, mask, self.size).sample(self.draws)
            self._last_obs, reward, terminated, truncated, info = env.step(slates.cpu().numpy())
            self.num_timesteps += env.num_envs
            over = terminated | truncated
            self.figures.add(reward, over, info)
            stepped = {name: of_step(info, name) for name in SLOT_NAMES}
            earned = slot_reward(env, self.weights, reward, stepped) * self.settings.reward_scale
            following = np.zeros(len(reward), np.float32)
            limit = np.flatnonzero(truncated)
            if len(limit):
                final = {name: np.asarray(array)[limit] for name, array in info["final_obs"].items()}
                following[limit] = self._value(final)
            steps.append(
                {f"observation/{name}": array for name, array in seen.items()}
                | {
                    "slate": slates.cpu().numpy(),
                    "log_beta": log_softmax.gather(1, slates).cpu().numpy(),
                    "earned": earned.astype(np.float32),
                    "shown": (stepped["item"] < env.world.num_items).astype(np.float32),
                    "following": following,
                    "over": over,
                }
            )
        going = ~steps[-1]["over"]
        steps[-1]["following"][going] = self._value(self._last_obs)[going]
        rollout = {name: np.stack([step[name] for step in steps]) for name in steps[0]}
        over, following = rollout.pop("over"), rollout.pop("following")
        rollout["after"] = returns_after(rollout["earned"].sum(-1), following, over, self.settings.gamma)
        place_mean = rollout["earned"].mean((0, 1))  # (K,) m_k
        rollout["place_mean"] = np.broadcast_to(place_mean, rollout["earned"].shape).copy()
        return {name: array.reshape(-1, *array.shape[2:]) for name, array in rollout.items()}

    def update(self, batch: Tensors) -> dict[str, float]:
        """Take one gradient step on rows of rollouts; return figures."""
        s = self.settings
        log_softmax, _, value = self.policy_of(part(batch, "observation"))
        log_pi = log_softmax.gather(1, batch["slate"])  # (B, K)
        earned, place_mean, shown = batch["earned"], batch["place_mean"], batch["shown"]
        later = batch["after"] - (value.detach() - place_mean.sum(1))  # (B,)
        advantage = standardised((earned - place_mean) + later[:, None], shown)
        policy = policy_loss(
            log_pi, batch["log_beta"], advantage, shown, self.size if s.top_k else 1, s.weight_cap
        )
        error = nn.functional.mse_loss(value, earned.sum(1) + batch["after"])
        self.gradient_step(policy + s.vf_coef * error)
        capped = ((log_pi.detach() - batch["log_beta"]).exp() > s.weight_cap).float().mean()
        return {"loss/policy": policy.item(), "loss/value": error.item(), "loss/capped": capped.item()}


class ReinforceAgent(TorchAgent):
    """Off-policy REINFORCE with top-K correction, see the module's text and `ReinforceSettings`."""

    settings_type: ClassVar[type[LearnerSettings]] = ReinforceSettings
    kind: ClassVar[str] = "reinforce"
    network: SlatePolicyNetwork

    def build_network(self, env: RecVectorEnv) -> SlatePolicyNetwork:
        """Return an untrained network, soft-greedy on the agent-side score."""
        return SlatePolicyNetwork(env, self.settings.network, self.settings.start_scale)

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> ReinforceTraining:
        """Return a fresh training of the agent's network."""
        return ReinforceTraining(env, self.network, self.settings, self.slate_size, seed, self.device)

    def choose(self, observation: Tensors, deterministic: bool) -> Tensor:
        """Return the most probable slates, or drawn ones."""
        logits, mask, _ = self.network(observation)
        distribution = PlackettLuce(logits, mask, self.slate_size)
        return distribution.mode() if deterministic else distribution.sample(self._act_random)
