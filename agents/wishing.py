"""SAC and TD3 over slates: Stable-Baselines3's algorithms with a wished-for item as the action.

The environment of the algorithm has a vector of W numbers in [-1, 1] as its action (a wish, see `recworld.agents.wishes`)
and one short vector as its observation; the slate is the K candidates nearest to the wish. Policies, critics and
updates are the library's own. What this form gives up: the critic does not see which candidates are there, only what the
state sums up of them, and one wish stands for a whole slate, so a slate cannot hold two kinds of items on purpose.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from stable_baselines3 import SAC, TD3
from stable_baselines3.sac.policies import MultiInputPolicy as SACPolicy
from stable_baselines3.td3.policies import MultiInputPolicy as TD3Policy
from torch import Tensor, nn

from recworld import packing
from recworld.agents.drawing import drawing_from
from recworld.agents.facts import Tensors, to_tensors
from recworld.agents.learning import LearnerSettings, TorchAgent
from recworld.agents.scorer import NetworkSettings
from recworld.agents.wish_training import WishMixin, WishReplay
from recworld.agents.wishes import STATE, WishReader, nearest_slates
from recworld.seeding import child_seed, generator

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


class WishSettings(LearnerSettings):
    """What SAC and TD3 share."""

    network: NetworkSettings = NetworkSettings(hidden=64)
    """Sizes: a wish has `projection` principal components of the item vectors (fewer where there are fewer), actor and
    critics have two hidden layers of width `hidden`; there is no item memory and no shortlist."""
    use_score: bool = True
    """Whether a wish may lean on the agent-side score, as one more coordinate."""
    buffer_size: int = Field(50_000, ge=1)
    """Transitions kept for replay; under 1 KB each."""
    batch_size: int = Field(256, ge=1)
    """Transitions per gradient step."""
    train_every: int = Field(1, ge=1)
    """Steps of every user between two trainings."""
    gradient_steps: int = Field(2, ge=1)
    """Gradient steps per training."""
    learning_starts: int = Field(1000, ge=0)
    """User steps with wishes drawn at random, before the first training."""
    learning_rate: float = Field(1e-3, gt=0)
    """Step size at the start."""
    learning_rate_end: float = Field(0.1, ge=0, le=1)
    """Share of the step size that is left at the end; it falls linearly."""
    gamma: float = Field(0.9, ge=0, le=1)
    """Discount per step. 0 learns for the next click only."""
    tau: float = Field(0.02, gt=0, le=1)
    """Share of the online weights that the target networks take on per gradient step."""
    actor_decay: float = Field(0.0, ge=0)
    """Pull of the actor's weights towards zero, added to their gradient (L2)."""
    reward_scale: float = Field(0.3, gt=0)
    """Rewards are multiplied by this for training only."""
    report_every: int = Field(2048, ge=1)
    """User steps between two reports to the callback."""


class SACSettings(WishSettings):
    """Settings of SAC."""

    entropy: float | None = Field(None, ge=0)
    """Weight of the policy's entropy; none: learnt towards `target_entropy`."""
    entropy_start: float = Field(0.05, gt=0)
    """Where the learnt weight starts."""
    target_entropy: float = Field(-1.0)
    """Entropy of the wish that is kept, in nats per coordinate."""


class TD3Settings(WishSettings):
    """Settings of TD3."""

    actor_decay: float = Field(0.1, ge=0)
    """Pull of the actor's weights towards zero, added to their gradient (L2). The length of a wish changes no slate, so
    nothing else keeps the actor from running into the corners of the box, where its gradient dies."""
    noise: float = Field(0.2, ge=0)
    """Standard deviation of the noise on wishes while exploring."""
    policy_delay: int = Field(2, ge=1)
    """Critic updates per update of the actor."""
    target_noise: float = Field(0.2, ge=0)
    """Standard deviation of the noise on the target's wishes."""
    target_noise_clip: float = Field(0.5, ge=0)
    """Bound of that noise."""


class WishNetwork(nn.Module):
    """Coordinates and state, and the policy of Stable-Baselines3 (actor, critics, targets) over them.

    The untrained actor leans on the agent-side score alone, where that is a coordinate: the best slate is then the greedy
    one.

    Args:
        env: gives tables and horizon.
        settings: sizes.
        policy_class: of Stable-Baselines3, for Dict observations.
    """

    def __init__(self, env: RecVectorEnv, settings: WishSettings, policy_class: type[Any]) -> None:
        super().__init__()
        sizes = settings.network
        self.reader = WishReader(env, sizes.projection, sizes.decays, settings.use_score)
        box = spaces.Box(-np.inf, np.inf, (self.reader.num_state,), np.float32)
        self.observation_space = spaces.Dict({STATE: box})
        self.action_space = spaces.Box(-1.0, 1.0, (self.reader.num_coordinates,), np.float32)
        rate = settings.learning_rate
        self.policy: Any = policy_class(
            self.observation_space, self.action_space, lambda _: rate, net_arch=[sizes.hidden] * 2
        )
        actor = self.policy.actor
        last = actor.mu if isinstance(actor.mu, nn.Linear) else actor.mu[-2]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        if settings.use_score:
            nn.init.constant_(last.bias[-1:], math.atanh(0.5))
        if hasattr(actor, "log_std"):
            nn.init.zeros_(actor.log_std.weight)
            nn.init.constant_(actor.log_std.bias, -1.0)
        if hasattr(self.policy, "actor_target"):
            self.policy.actor_target.load_state_dict(actor.state_dict())

    def fresh_optimisers(self, rate: float, actor_decay: float) -> None:
        """Give actor and critics new optimisers."""
        actor, critic = self.policy.actor, self.policy.critic
        actor.optimizer = torch.optim.Adam(actor.parameters(), lr=rate, weight_decay=actor_decay)
        critic.optimizer = torch.optim.Adam(critic.parameters(), lr=rate)
        self.policy.optimizer = actor.optimizer  # where a checkpoint looks for the first of them

    def state(self, observation: Tensors) -> Tensor:
        """Return the state, (N, S)."""
        return self.reader.state(observation)

    def slates(self, observation: Tensors, wish: Tensor, size: int) -> Tensor:
        """Return the slates (N, K) nearest to wishes (N, W)."""
        coordinates, mask = self.reader.coordinates(observation)
        return nearest_slates(wish, coordinates, mask, size)


class SlateSAC(WishMixin, SAC):
    """`stable_baselines3.SAC` over wishes."""

    def extra_arrays(self) -> packing.Arrays:
        """Return also the weight of the entropy and its optimiser."""
        arrays = super().extra_arrays()
        if self.log_ent_coef is None or self.ent_coef_optimizer is None:
            return arrays
        optimiser = packing.prefixed("entropy_optimiser", packing.optimiser_arrays(self.ent_coef_optimizer))
        return arrays | optimiser | {"entropy": self.log_ent_coef.detach().cpu().numpy().copy()}

    def load_extra(self, arrays: packing.Arrays) -> None:
        """Take the arrays of `extra_arrays` back."""
        super().load_extra(arrays)
        if self.log_ent_coef is None or self.ent_coef_optimizer is None:
            return
        with torch.no_grad():
            self.log_ent_coef.copy_(torch.as_tensor(np.array(arrays["entropy"])))
        kept = packing.below("entropy_optimiser", arrays)
        packing.load_optimiser(self.ent_coef_optimizer, kept, "checkpoint, entropy")


class SlateTD3(WishMixin, TD3):
    """`stable_baselines3.TD3` over wishes."""


class WishAgent(TorchAgent):
    """What SAC and TD3 share: network, acting, and how the algorithm is put together."""

    settings_type: ClassVar[type[LearnerSettings]] = WishSettings
    policy_class: ClassVar[type[Any]]
    network: WishNetwork

    def build_network(self, env: RecVectorEnv) -> WishNetwork:
        """Return an untrained network, greedy on the agent-side score where that is a coordinate."""
        return WishNetwork(env, self.settings, self.policy_class)

    def wish(self, state: Tensor, random: torch.Generator | None) -> Tensor:
        """Return wishes (N, W) for states (N, S): the actor's own, or drawn about them from `random`."""
        raise NotImplementedError

    def choose(self, observation: Tensors, deterministic: bool) -> Tensor:
        """Return the slates nearest to the wish; when not deterministic, to one drawn as in training."""
        wish = self.wish(self.network.state(observation), None if deterministic else self._act_random)
        return self.network.slates(observation, wish, self.slate_size)

    def common(self, env: RecVectorEnv, seed: int) -> dict[str, Any]:
        """Return the keyword arguments that both algorithms take."""
        from recworld.agents.wish_env import WishVecEnv

        s, network = self.settings, self.network
        start, end = s.learning_rate, s.learning_rate_end
        network.fresh_optimisers(start, s.actor_decay)
        device, width = self.device, network.reader.num_state

        def slates(observation: Any, wish: Any) -> Any:
            wishes = torch.as_tensor(wish, device=device)
            return network.slates(to_tensors(observation, device), wishes, self.slate_size).cpu().numpy()

        def state(observation: Any) -> Any:
            return network.state(to_tensors(observation, device)).cpu().numpy()

        return {
            "policy": lambda *_, **__: network.policy,  # the agent's own, not a copy
            "env": WishVecEnv(env, state, width, network.action_space, slates),
            "learning_rate": lambda left: start * (end + (1 - end) * max(left, 0.0)),
            "buffer_size": s.buffer_size,
            "learning_starts": s.learning_starts,
            "batch_size": s.batch_size,
            "tau": s.tau,
            "gamma": s.gamma,
            "train_freq": s.train_every,
            "gradient_steps": s.gradient_steps,
            "replay_buffer_class": WishReplay,
            "replay_buffer_kwargs": {"random": generator(seed, "replay")},
            "device": device,
        }

    def prepared(self, algorithm: Any, seed: int) -> Any:
        """Return the algorithm with what `WishMixin` needs."""
        algorithm.random = packing.torch_generator(child_seed(seed, "wishes"), self.device)
        algorithm.wish = self.wish
        algorithm.reward_scale = self.settings.reward_scale
        algorithm.report_every = self.settings.report_every
        return algorithm


class SACAgent(WishAgent):
    """Soft actor-critic over wishes (Haarnoja et al. 2018), see the module's text and `SACSettings`."""

    settings_type: ClassVar[type[LearnerSettings]] = SACSettings
    kind: ClassVar[str] = "sac"
    policy_class: ClassVar[type[Any]] = SACPolicy

    def wish(self, state: Tensor, random: torch.Generator | None) -> Tensor:
        """Return the squashed mean, or a draw from the policy."""
        actor = self.network.policy.actor
        with torch.no_grad():
            if random is None:
                wishes: Tensor = actor({STATE: state}, deterministic=True)
            else:
                with drawing_from(random):
                    wishes = actor({STATE: state}, deterministic=False)
        return wishes

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> Any:
        """Return a fresh SAC over the agent's network."""
        s = self.settings
        entropy = f"auto_{s.entropy_start}" if s.entropy is None else s.entropy
        target = s.target_entropy * self.network.reader.num_coordinates
        algorithm = SlateSAC(ent_coef=entropy, target_entropy=target, **self.common(env, seed))
        return self.prepared(algorithm, seed)


class TD3Agent(WishAgent):
    """Twin delayed deterministic policy gradient over wishes (Fujimoto et al. 2018), see `TD3Settings`."""

    settings_type: ClassVar[type[LearnerSettings]] = TD3Settings
    kind: ClassVar[str] = "td3"
    policy_class: ClassVar[type[Any]] = TD3Policy

    def wish(self, state: Tensor, random: torch.Generator | None) -> Tensor:
        """Return the actor's wish, with noise when `random` is given."""
        with torch.no_grad():
            wishes: Tensor = self.network.policy.actor({STATE: state})
        if random is None:
            return wishes
        drawn = torch.randn(wishes.shape, generator=random, device=wishes.device)
        return (wishes + self.settings.noise * drawn).clamp(-1, 1)

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> Any:
        """Return a fresh TD3 over the agent's network."""
        s = self.settings
        algorithm = SlateTD3(
            policy_delay=s.policy_delay,
            target_policy_noise=s.target_noise,
            target_noise_clip=s.target_noise_clip,
            **self.common(env, seed),
        )
        return self.prepared(algorithm, seed)
