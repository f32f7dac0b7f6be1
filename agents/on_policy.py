"""PPO and A2C of Stable-Baselines3 over slates: policy, rollout buffer and collection of rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

from recworld.agents.learning import BorderMixin
from recworld.agents.plackett_luce import PlackettLuce
from recworld.agents.scorer import SlatePolicyNetwork, Tensors


class SlatePolicy(ActorCriticPolicy):
    """An actor-critic policy whose distribution is Plackett-Luce over the logits of a `SlatePolicyNetwork`.

    Args:
        observation_space, action_space, lr_schedule, use_sde: as Stable-Baselines3 gives them.
        network: the network of the agent, not a copy.
        size: K.
        generator: the draws come from it.
        optimiser: optimizer class and its keyword arguments.
    """

    def __init__(
        self,
        observation_space: Any,
        action_space: Any,
        lr_schedule: Callable[[float], float],
        use_sde: bool = False,
        *,
        network: SlatePolicyNetwork,
        size: int,
        generator: torch.Generator,
        optimiser: tuple[type[torch.optim.Optimizer], dict[str, Any]],
    ) -> None:
        self.size = size
        self.generator = generator
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            optimizer_class=optimiser[0],
            optimizer_kwargs=optimiser[1],
            features_extractor_kwargs={"network": network},
        )

    def make_features_extractor(self) -> nn.Module:
        """Return the agent's network: it stands in the place where Stable-Baselines3 wants a features extractor."""
        network: nn.Module = self.features_extractor_kwargs["network"]
        return network

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def distribution_and_value(self, obs: Tensors) -> tuple[PlackettLuce, Tensor]:
        """Return the distribution over slates and the value (N, 1)."""
        logits, mask, value = self.features_extractor(obs)
        return PlackettLuce(logits, mask, self.size), value

    def forward(self, obs: Tensors, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values (N, 1) and log-probabilities (N,)."""
        distribution, value = self.distribution_and_value(obs)
        slates = distribution.mode() if deterministic else distribution.sample(self.generator)
        return slates.reshape(-1, *self.action_space.shape), value, distribution.log_prob(slates)

    def evaluate_actions(self, obs: Tensors, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values (N, 1), log-probabilities (N,) and first-choice entropies (N,)."""
        distribution, value = self.distribution_and_value(obs)
        slates = actions.long().reshape(-1, self.size)
        return value, distribution.log_prob(slates), distribution.entropy()

    def _predict(self, observation: Tensors, deterministic: bool = False) -> Tensor:
        return self(observation, deterministic)[0]

    def predict_values(self, obs: Tensors) -> Tensor:
        """Return the values, (N, 1)."""
        return self.distribution_and_value(obs)[1]


class RolloutBuffer(DictRolloutBuffer):
    """The buffer of Stable-Baselines3 with minibatches drawn from a generator of its own."""

    def __init__(self, *args: Any, random: np.random.Generator, **kwargs: Any) -> None:
        self.random = random
        super().__init__(*args, **kwargs)

    def get(self, batch_size: int | None = None) -> Iterator[Any]:
        """Yield minibatches that cover the rollout once, in random order."""
        if not self.generator_ready:
            self.observations = {name: self.swap_and_flatten(array) for name, array in self.observations.items()}
            for name in ("actions", "values", "log_probs", "advantages", "returns"):
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))
            self.generator_ready = True
        total = self.buffer_size * self.n_envs
        order = self.random.permutation(total)
        for start in range(0, total, batch_size or total):
            yield self._get_samples(order[start : start + (batch_size or total)])


class OnPolicyMixin(BorderMixin):
    """Collects rollouts with one value pass over all time limits of a step, and reports after each update."""

    rollout_buffer: RolloutBuffer
    reward_scale: float = 1.0

    def generators(self: Any) -> tuple[torch.Generator, np.random.Generator]:
        """Return the generators of the policy and of the minibatches."""
        return self.policy.generator, self.rollout_buffer.random

    def train(self: Any) -> None:
        """Update the weights from the rollout, then report."""
        super().train()  # type: ignore[misc]
        self.border()

    def collect_rollouts(self: Any, env: Any, callback: Any, rollout_buffer: RolloutBuffer, n_rollout_steps: int) -> bool:
        """Fill the buffer with `n_rollout_steps` steps of every user.

        A time limit is no end of the user's interest: the value of the final observation is added to the last reward,
        so the advantage (GAE) sees gamma V(s_T) there; a user who leaves gets nothing added.

        Returns:
            Whether to go on.
        """
        if self.stopped:
            return False
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        for _ in range(n_rollout_steps):
            with torch.no_grad():
                tensors = obs_as_tensor(self._last_obs, self.device)
                actions, values, log_probs = self.policy(tensors)
            actions = actions.cpu().numpy()
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self.figures.add(rewards, dones, env.last_info)
            rewards = np.array(rewards, np.float32) * np.float32(self.reward_scale)
            limit = [n for n in np.flatnonzero(dones) if infos[n].get("TimeLimit.truncated", False)]
            if limit and self.gamma > 0:
                rewards[limit] += self.gamma * self._final_values(env.last_info["final_obs"], limit)
            rollout_buffer.add(
                self._last_obs, actions.reshape(env.num_envs, -1), rewards, self._last_episode_starts, values, log_probs
            )
            self._last_obs, self._last_episode_starts = new_obs, dones
        with torch.no_grad():
            values = self.policy.predict_values(obs_as_tensor(new_obs, self.device))
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _final_values(self: Any, final: dict[str, np.ndarray], rows: list[int]) -> Any:
        with torch.no_grad():
            tensors = obs_as_tensor({name: np.asarray(array)[rows] for name, array in final.items()}, self.device)
            return self.policy.predict_values(tensors).flatten().cpu().numpy()


class SlatePPO(OnPolicyMixin, PPO):
    """`stable_baselines3.PPO` over slates."""


class SlateA2C(OnPolicyMixin, A2C):
    """`stable_baselines3.A2C` over slates."""
