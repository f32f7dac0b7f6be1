"""PPO and A2C of Stable-Baselines3 over slates: policy, rollout buffer and collection of rollouts."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

from recworld.agents.baselines_static import reward_weights, slot_reward
from recworld.agents.facts import POSITIONS, Tensors
from recworld.agents.figures import of_step
from recworld.agents.learning import BorderMixin
from recworld.agents.networks import ESTIMATE, SlatePolicyNetwork
from recworld.agents.plackett_luce import PlackettLuce


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
        slow_share: float = 1.0,
    ) -> None:
        self.slow_share = slow_share
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
        slow = {id(parameter) for parameter in self.features_extractor.slow_parameters()}
        groups = [
            {"params": [p for p in self.parameters() if (id(p) in slow) == is_slow], "share": share}
            for is_slow, share in ((False, 1.0), (True, self.slow_share))
        ]
        self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)

    def distribution_and_value(self, obs: Tensors) -> tuple[PlackettLuce, Tensor]:
        """Return the distribution over slates and the value (N, 1)."""
        network: SlatePolicyNetwork = self.features_extractor
        return network.distribution(obs, self.size)

    def forward(self, obs: Tensors, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions, values (N, 1) and log-probabilities (N,)."""
        distribution, value = self.distribution_and_value(obs)
        slates = distribution.mode() if deterministic else distribution.sample(self.generator)
        return slates.reshape(-1, *(self.action_space.shape or ())), value, distribution.log_prob(slates)

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

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        *args: Any,
        random: np.random.Generator,
        **kwargs: Any,
    ) -> None:
        self.random = random
        super().__init__(buffer_size, observation_space, *args, **kwargs)

    def reset(self) -> None:
        """Empty the buffer."""
        super().reset()
        self._steps: list[Tensors] = []
        self._known: Tensors | None = None
        shape = (self.buffer_size, self.n_envs)
        self.clicks = np.zeros((*shape, self.action_dim), np.float32)
        self.shown = np.zeros((*shape, self.action_dim), np.float32)
        self.slot_reward = np.zeros((*shape, self.action_dim), np.float32)

    def add_feedback(
        self, click: npt.NDArray[Any], shown: npt.NDArray[Any], reward: npt.NDArray[Any]
    ) -> None:
        """Store what followed the slate that `add` stores next.

        Args:
            click: (N, K) 0 or 1.
            shown: (N, K) 0 where the slot stayed empty.
            reward: (N, K) what each slot brought; a share of the slate's where only that is known.
        """
        self.clicks[self.pos], self.shown[self.pos], self.slot_reward[self.pos] = click, shown, reward

    def add_known(self, known: Tensors) -> None:
        """Store what is worked out from the observation that `add` stores next: tensors with N rows, by name."""
        self._steps.append(known)

    def known(self, rows: npt.NDArray[Any]) -> Tensors:
        """Return the rows of what `add_known` stored, in the order of `swap_and_flatten`."""
        if self._known is None:
            # All steps of the first user come first, then all of the second.
            names = self._steps[0] if self._steps else ()
            self._known = {n: torch.stack([one[n] for one in self._steps], 1).flatten(0, 1) for n in names}
        index = torch.as_tensor(rows, device=self.device)
        return {name: tensor[index] for name, tensor in self._known.items()}

    def _get_samples(self, batch_inds: npt.NDArray[Any], env: Any = None) -> Any:
        samples = super()._get_samples(batch_inds, env)
        return samples._replace(observations={**samples.observations, **self.known(batch_inds)})

    def feedback(
        self, batch_size: int
    ) -> Generator[tuple[dict[str, Tensor], Tensor, Tensor, Tensor, Tensor], None, None]:
        """Yield minibatches of observations, slates, clicks, shown and rewards that cover the rollout once."""
        self._flatten()
        arrays = [self.swap_and_flatten(array) for array in (self.clicks, self.shown, self.slot_reward)]
        order = self.random.permutation(len(arrays[0]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            observation = {name: self.to_torch(array[rows]) for name, array in self.observations.items()}
            observation |= self.known(rows)
            click, shown, reward = (self.to_torch(array[rows]) for array in arrays)
            yield observation, self.to_torch(self.actions[rows]).long(), click, shown, reward

    def _flatten(self) -> None:
        if self.generator_ready:
            return
        self.observations = {name: self.swap_and_flatten(array) for name, array in self.observations.items()}
        for name in ("actions", "values", "log_probs", "advantages", "returns"):
            setattr(self, name, self.swap_and_flatten(getattr(self, name)))
        self.generator_ready = True

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Yield minibatches that cover the rollout once, in random order."""
        self._flatten()
        total = self.buffer_size * self.n_envs
        order = self.random.permutation(total)
        for start in range(0, total, batch_size or total):
            yield self._get_samples(order[start : start + (batch_size or total)])


class OnPolicyMixin(BorderMixin):
    """Collects rollouts with one value pass over all time limits of a step, and reports after each update."""

    reward_scale: float = 1.0
    feedback_epochs: int = 0
    warm_start: float = 0.0

    warming: bool = False
    """Whether the rollout at hand only warms up: the score is corrected by what follows slates drawn from the policy."""

    def generators(self: Any) -> tuple[torch.Generator, np.random.Generator]:
        """Return the generators of the policy and of the minibatches."""
        return self.policy.generator, self.rollout_buffer.random

    def _update_learning_rate(self: Any, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)  # type: ignore[misc]
        for optimiser in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimiser.param_groups:
                group["lr"] *= group.get("share", 1.0)

    def train(self: Any) -> None:
        """Update the weights from the rollout, then correct the score by what was observed, then report."""
        if self.warming:
            self._update_learning_rate(self.policy.optimizer)
        else:
            super().train()  # type: ignore[misc]
        network, losses = self.policy.features_extractor, []
        for _ in range(self.feedback_epochs):
            for batch in self.rollout_buffer.feedback(getattr(self, "batch_size", 512)):
                loss = network.feedback_loss(*batch)
                self.policy.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()
                losses.append(loss.item())
        if losses:
            self.logger.record("loss/feedback", float(np.mean(losses)))
        self.border()

    def collect_rollouts(
        self: Any, env: Any, callback: Any, rollout_buffer: Any, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer with `n_rollout_steps` steps of every user.

        A time limit is no end of the user's interest: the value of the final observation is added to the last reward,
        so the advantage (GAE) sees gamma V(s_T) there; a user who leaves gets nothing added.

        Returns:
            Whether to go on.
        """
        if self.stopped:
            return False
        self.policy.set_training_mode(False)
        # Decided once for the whole rollout: what was drawn while warming up has no probability to learn from.
        share = self.warm_start if self.feedback_epochs else 0.0
        # Over is over: a run that is trained on, for more steps than it was told of, does not warm up again.
        self.warming = self._n_updates == 0 and self.num_timesteps < share * self._total_timesteps
        network: SlatePolicyNetwork = self.policy.features_extractor
        rollout_buffer.reset()
        callback.on_rollout_start()
        for _ in range(n_rollout_steps):
            with torch.no_grad():
                tensors = network.shortlisted(obs_as_tensor(self._last_obs, self.device))
                facts = network.reader(tensors)
                known = {**facts.arrays(), ESTIMATE: network.standard_estimate(facts)}
                known |= {POSITIONS: tensors[POSITIONS]} if POSITIONS in tensors else {}
                actions, values, log_probs = self._act({**tensors, **known})
            # What does not change while the policy learns from the rollout is worked out once.
            rollout_buffer.add_known(known)
            seen = self._last_obs
            actions = actions.cpu().numpy()
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            info = env.last_info
            self.figures.add(rewards, dones, info)
            shown = of_step(info, "item") < self.figures.num_items
            stepped = {name: of_step(info, name) for name in ("item", "click", "rating", "has_rating")}
            brought = slot_reward(env.env, reward_weights(env.env), rewards, stepped)
            rollout_buffer.add_feedback(stepped["click"], shown, brought)
            rewards = np.array(rewards, np.float32) * np.float32(self.reward_scale)
            limit = [n for n in np.flatnonzero(dones) if infos[n].get("TimeLimit.truncated", False)]
            if limit and self.gamma > 0 and not self.warming:
                rewards[limit] += self.gamma * self._final_values(info["final_obs"], limit)
            rollout_buffer.add(
                seen,
                actions.reshape(env.num_envs, -1),
                rewards,
                self._last_episode_starts,
                values,
                log_probs,
            )
            self._last_obs, self._last_episode_starts = new_obs, dones
        if not self.warming:
            with torch.no_grad():
                values = self.policy.predict_values(obs_as_tensor(new_obs, self.device))
        rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _act(self: Any, tensors: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """Return slates, values (N, 1) and log-probabilities (N,); while warming up, nobody needs the last two."""
        if not self.warming:
            return self.policy(tensors)  # type: ignore[no-any-return]
        network: SlatePolicyNetwork = self.policy.features_extractor
        slates = network.soft_greedy(tensors, self.policy.size).sample(self.policy.generator)
        nothing = torch.zeros(len(slates), device=slates.device)
        return slates.reshape(-1, *(self.action_space.shape or ())), nothing[:, None], nothing

    def _final_values(self: Any, final: dict[str, np.ndarray], rows: list[int]) -> Any:
        with torch.no_grad():
            tensors = obs_as_tensor(
                {name: np.asarray(array)[rows] for name, array in final.items()}, self.device
            )
            return self.policy.predict_values(tensors).flatten().cpu().numpy()


class SlatePPO(OnPolicyMixin, PPO):
    """`stable_baselines3.PPO` over slates."""


class SlateA2C(OnPolicyMixin, A2C):
    """`stable_baselines3.A2C` over slates."""
