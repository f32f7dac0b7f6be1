"""DQN over slates: Q-learning with the SlateQ decomposition, an own choice model and masked exploration.

SlateQ (Ie et al. 2019) assumes at most one click and writes  Q(s, A) = sum_i P(click i | s, A) Q_i(s, i).  Here a user may
click several items of a slate or none, so the form is additive in the clicks, with the state's own value for the route on
which nothing is clicked:

    Q(s, A) = B(s) + sum_k e_k p(s, a_k) Q_i(s, a_k)          e_k: place k is noticed, p: clicked when noticed

* e and p are the agent's own choice model, fitted along the way to the clicks it observes (cross-entropy);
* B and Q_i are fitted to  y = r + gamma Q'(s', A')  as  B(s) + sum_{clicked k} Q_i(s, a_k): the *observed* clicks stand in
  for their probabilities, so a click's worth is learnt on clicked items, and B where nothing was clicked. With one click
  at most, B + Q_i is SlateQ's Q_i, and B its value of no click;
* A' is the best slate by the online network, valued by the target network (double Q); a user who leaves ends the sum, a
  time limit does not;
* the best slate has the K largest p Q_i, in that order: exact for position weights e_k that fall with k. K = 1 is Q-learning
  over single items.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import RolloutReturn
from stable_baselines3.common.utils import polyak_update
from torch import Tensor, nn

from recworld import packing
from recworld.agents.facts import POSITIONS, Tensors, centred_row, to_tensors
from recworld.agents.figures import of_step
from recworld.agents.learning import BorderMixin, LearnerSettings, TorchAgent
from recworld.agents.networks import Looked, SlateQNetwork, choice_loss
from recworld.agents.plackett_luce import PlackettLuce
from recworld.agents.replay import SlateReplay, part
from recworld.seeding import child_seed, generator

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


class DQNSettings(LearnerSettings):
    """Settings of DQN."""

    buffer_size: int = Field(50_000, ge=1)
    """Transitions kept for replay; about 2 KB each with observation ids and 100 candidates."""
    batch_size: int = Field(256, ge=1)
    """Transitions per gradient step."""
    train_every: int = Field(1, ge=1)
    """Steps of every user between two trainings."""
    gradient_steps: int = Field(1, ge=1)
    """Gradient steps per training."""
    learning_starts: int = Field(1000, ge=0)
    """User steps before the first training."""
    learning_rate: float = Field(2e-3, gt=0)
    """Step size at the start."""
    learning_rate_end: float = Field(0.1, ge=0, le=1)
    """Share of the step size that is left at the end; it falls linearly."""
    gamma: float = Field(0.9, ge=0, le=1)
    """Discount per step. 0 learns for the next click only."""
    tau: float = Field(0.02, gt=0, le=1)
    """Share of the online weights that the target network takes on per gradient step."""
    epsilon_start: float = Field(0.05, ge=0, le=1)
    """Probability of a random slate when the warm start is over, drawn for each user by itself."""
    epsilon_end: float = Field(0.05, ge=0, le=1)
    """The same at the end of exploration."""
    exploration: float = Field(0.6, gt=0, le=1)
    """Share of training after the warm start over which epsilon falls linearly."""
    reward_scale: float = Field(0.1, gt=0)
    """Rewards are multiplied by this for training only."""
    warm_start: float = Field(0.7, ge=0, lt=1)
    """Share of the steps that only warm up: slates are drawn soft-greedily on the choice model, which alone is trained."""
    start_scale: float = Field(3.0, gt=0)
    """Sharpness of the slates that are drawn while warming up: logits per standard deviation of the attraction."""
    choice_weight: float = Field(0.2, ge=0)
    """Weight of the choice model's cross-entropy beside the squared error of Q."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this length."""
    report_every: int = Field(2048, ge=1)
    """User steps between two reports to the callback."""


class SlateQPolicy(BasePolicy):
    """The online network (the agent's own), its target copy and the optimiser, where Stable-Baselines3 wants them.

    Args:
        observation_space, action_space, lr_schedule: as Stable-Baselines3 gives them.
        network: the network of the agent, not a copy.
    """

    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        observation_space: Any,
        action_space: Any,
        lr_schedule: Callable[[float], float],
        *,
        network: SlateQNetwork,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.network = network
        self.target = copy.deepcopy(network)
        self.target.requires_grad_(False)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=lr_schedule(1), eps=1e-5)

    def _predict(self, observation: Tensors, deterministic: bool = False) -> Tensor:
        size = int(np.prod(self.action_space.shape)) if self.action_space.shape else 1
        observation = closely(self.network, observation)
        return outside(observation, best_slates(self.network, observation, size))


def best_slates(network: SlateQNetwork, observation: Tensors, size: int) -> Tensor:
    """Return the slates (N, K) of the largest p Q_i, best first; masked positions only where nothing else is left."""
    return network.worth(observation).topk(size, dim=1).indices


def closely(network: Any, observation: Tensors) -> Tensors:
    """Return the observation cut down to what a network looks at closely, where it keeps a shortlist."""
    cut: Callable[[Tensors], Tensors] | None = getattr(network, "shortlisted", None)
    return observation if cut is None else cut(observation)


def outside(observation: Tensors, slates: Tensor) -> Tensor:
    """Return slates among the candidates looked at in the numbers of the environment, (N, K)."""
    return observation[POSITIONS].gather(1, slates) if POSITIONS in observation else slates


def to_arrays(observation: Tensors) -> packing.Arrays:
    """Return the tensors of an observation as arrays, without the positions of a shortlist."""
    return {name: tensor.cpu().numpy() for name, tensor in observation.items() if name != POSITIONS}


def random_slates(mask: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Return slates (N, K) drawn uniformly without replacement from the unmasked candidates."""
    draw = torch.rand(mask.shape, generator=random, device=mask.device)
    return draw.masked_fill(~mask.bool(), -1.0).topk(size, dim=1).indices


class SlateDQN(BorderMixin, OffPolicyAlgorithm):
    """Q-learning over slates on the off-policy loop of Stable-Baselines3; see the module's text.

    Args:
        env: the Stable-Baselines3 adapter of a `RecVectorEnv`.
        network: trained in place.
        settings: of DQN.
        size: K.
        seed: of exploration and replay.
        device: of the network.
    """

    policy: SlateQPolicy
    replay_buffer: Any

    def __init__(
        self,
        env: Any,
        network: SlateQNetwork,
        settings: DQNSettings,
        size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.settings, self.size = settings, size
        self.random = packing.torch_generator(child_seed(seed, "explore"), device)
        self.reported = 0
        start, end = settings.learning_rate, settings.learning_rate_end
        width = settings.network.shortlist if hasattr(network, "shortlisted") else None
        super().__init__(
            SlateQPolicy,
            env,
            learning_rate=lambda left: start * (end + (1 - end) * max(left, 0.0)),
            buffer_size=settings.buffer_size,
            learning_starts=settings.learning_starts,
            batch_size=settings.batch_size,
            tau=settings.tau,
            gamma=settings.gamma,
            train_freq=settings.train_every,
            gradient_steps=settings.gradient_steps,
            replay_buffer_class=SlateReplay,  # type: ignore[arg-type]
            replay_buffer_kwargs={"random": generator(seed, "replay"), "width": width},
            policy_kwargs={"network": network},
            device=device,
            support_multi_env=True,
            sde_support=False,
        )
        self._setup_model()

    @property
    def warming(self) -> bool:
        """Whether training still warms up: only the choice model learns."""
        share = self.settings.warm_start
        return self._n_updates == 0 and self.num_timesteps < share * self._total_timesteps

    @property
    def epsilon(self) -> float:
        """Probability of a random slate now."""
        s = self.settings
        # Warming up draws its slates in another way: what is left of training is counted from its end.
        after = (1.0 - self._current_progress_remaining - s.warm_start) / (1.0 - s.warm_start)
        done = min(max(after, 0.0) / s.exploration, 1.0)
        return s.epsilon_start + done * (s.epsilon_end - s.epsilon_start)

    def generators(self) -> tuple[torch.Generator, np.random.Generator]:
        """Return the generators of exploration and of replay."""
        return self.random, self.replay_buffer.random

    def extra_arrays(self) -> packing.Arrays:
        """Return the target network, the replay rows and how far exploration has come."""
        return (
            packing.prefixed("target", packing.module_arrays(self.policy.target))
            | packing.prefixed("replay", self.replay_buffer.state())
            | {"progress": np.array([self._current_progress_remaining, self.reported], np.float64)}
        )

    def load_extra(self, arrays: packing.Arrays) -> None:
        """Take the arrays of `extra_arrays` back."""
        packing.load_module(self.policy.target, packing.below("target", arrays), "checkpoint, target network")
        self.replay_buffer.load(packing.below("replay", arrays))
        self._current_progress_remaining = float(arrays["progress"][0])
        self.reported = int(arrays["progress"][1])

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Choose slates: each user is explored on with probability epsilon by a coin of their own."""
        with torch.no_grad():
            tensors = closely(self.policy.network, to_tensors(self._last_obs, self.device))  # type: ignore[arg-type]
            if self.warming:
                slates = self._soft_greedy(tensors)
            else:
                best = best_slates(self.policy.network, tensors, self.size)
                drawn = random_slates(tensors["action_mask"], self.size, self.random)
                coin = torch.rand(n_envs, 1, generator=self.random, device=self.device)
                slates = torch.where(coin < self.epsilon, drawn, best)
            shown = outside(tensors, slates).cpu().numpy()
        self.looked_at = tensors
        return shown.reshape(n_envs, *(self.action_space.shape or ())), slates.cpu().numpy()

    def _soft_greedy(self, tensors: Tensors) -> Tensor:
        """Return slates drawn by the attraction of the candidates, (N, K)."""
        mask = tensors["action_mask"] > 0
        everything = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        attraction = self.policy.network.look(tensors, everything).attraction
        centred, _, spread = centred_row(attraction, mask)
        logits = self.settings.start_scale * centred / spread
        return PlackettLuce(logits, mask, self.size).sample(self.random)

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: Any,
        new_obs: Any,
        reward: Any,
        dones: Any,
        infos: Any,
    ) -> None:
        """Store what was seen, shown and clicked; where an episode ended, its final observation comes next."""
        info = self.env.last_info  # type: ignore[union-attr]
        self.figures.add(reward, dones, info)
        following = dict(new_obs)
        if dones.any():
            final = info["final_obs"]
            for name, array in new_obs.items():
                rows = dones.reshape(-1, *[1] * (array.ndim - 1))
                following[name] = np.where(rows, final[name], array)
        limit = np.array([entry.get("TimeLimit.truncated", False) for entry in infos], bool)
        seen = closely(self.policy.network, to_tensors(following, self.device))
        replay_buffer.add(
            to_arrays(self.looked_at),
            to_arrays(seen),
            slate=buffer_action,
            click=of_step(info, "click"),
            shown=of_step(info, "item") < self.figures.num_items,
            reward=reward,
            terminated=dones & ~limit,
        )
        self._last_obs = new_obs

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Take `train_every` steps of every user, unless the callback asked to stop."""
        if self.stopped:
            return RolloutReturn(0, 0, False)
        return super().collect_rollouts(*args, **kwargs)

    def targets(self, batch: Tensors) -> Tensor:
        """Return y = r + gamma Q'(s', A'), (B,): nothing after a user left, the value after a time limit."""
        reward = batch["reward"] * self.settings.reward_scale
        if self.gamma == 0:
            return reward
        with torch.no_grad():
            following = part(batch, "next")
            slates = best_slates(self.policy.network, following, self.size)
            value = self.policy.target.slate_value(following, slates)
        return reward + self.gamma * value * ~batch["terminated"]

    def losses(self, batch: Tensors) -> tuple[Tensor, Tensor]:
        """Return the error of the values and the cross-entropy of the choice model, of a replay batch.

        While training warms up the values do not learn: their error is 0.
        """
        click, shown = batch["click"].float(), batch["shown"].float()
        looked = self.policy.network.look(part(batch, "now"), batch["slate"].long())
        error = torch.zeros(()) if self.warming else self.value_error(looked, click, batch)
        return error, choice_loss(looked.attraction, looked.examined, click, shown) + looked.penalty

    def value_error(self, looked: Looked, click: Tensor, batch: Tensors) -> Tensor:
        """Return the squared error of Q of the slates that were looked at, with their clicks (B, K)."""
        predicted = looked.baseline + (click * looked.item_value).sum(1)
        return nn.functional.mse_loss(predicted, self.targets(batch))

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Take gradient steps on replayed transitions; report when it is time."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)
            error, entropy = self.losses(batch)
            loss = entropy if self.warming else error + self.settings.choice_weight * entropy
            self.policy.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.policy.network.parameters(), self.settings.max_grad_norm)
            self.policy.optimizer.step()
            polyak_update(self.policy.network.parameters(), self.policy.target.parameters(), self.tau)
            self._n_updates += (
                not self.warming
            )  # updates of the values: once there is one, the warm start is over
        due = self.num_timesteps - self.reported >= self.settings.report_every
        if due or self.num_timesteps >= self._total_timesteps:
            self.reported = self.num_timesteps
            self.logger.record("loss/value", error.item())
            self.logger.record("loss/choice", entropy.item())
            self.logger.record("loss/epsilon", self.epsilon)
            self.border()


class DQNAgent(TorchAgent):
    """Q-learning over slates, see the module's text and `DQNSettings`."""

    settings_type: ClassVar[type[LearnerSettings]] = DQNSettings
    kind: ClassVar[str] = "dqn"
    network: SlateQNetwork

    def build_network(self, env: RecVectorEnv) -> SlateQNetwork:
        """Return an untrained network, greedy on the agent-side score."""
        return SlateQNetwork(env, self.settings.network, self.settings.reward_scale)

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> SlateDQN:
        """Return a fresh SlateDQN over the agent's network."""
        from recworld.envs import Sb3VecEnv

        return SlateDQN(Sb3VecEnv(env), self.network, self.settings, self.slate_size, seed, self.device)

    def choose(self, observation: Tensors, deterministic: bool) -> Tensor:
        """Return the best slates; when not deterministic, a random one for a user with probability `epsilon_end`."""
        observation = closely(self.network, observation)
        best = best_slates(self.network, observation, self.slate_size)
        if deterministic:
            return outside(observation, best)
        drawn = random_slates(observation["action_mask"], self.slate_size, self._act_random)
        coin = torch.rand(len(best), 1, generator=self._act_random, device=best.device)
        return outside(observation, torch.where(coin < self.settings.epsilon_end, drawn, best))
