"""PPO and A2C agents: Stable-Baselines3's algorithms with the shared scorer and the Plackett-Luce distribution."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field

from recworld.agents.learning import LearnerSettings, TorchAgent
from recworld.agents.networks import SlatePolicyNetwork
from recworld.agents.on_policy import RolloutBuffer, SlateA2C, SlatePolicy, SlatePPO
from recworld.packing import torch_generator
from recworld.seeding import child_seed, generator

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


class OnPolicySettings(LearnerSettings):
    """What PPO and A2C share."""

    n_steps: int = Field(32, ge=1)
    """Steps of every user between two updates."""
    learning_rate: float = Field(3e-3, gt=0)
    """Step size at the start."""
    learning_rate_end: float = Field(0.1, ge=0, le=1)
    """Share of the step size that is left at the end; it falls linearly."""
    slow_share: float = Field(0.1, ge=0, le=1)
    """Share of the step size that the many weights of the policy's residual take: returns are too noisy for more."""
    gamma: float = Field(0.95, ge=0, le=1)
    """Discount per step. 0 learns for the next click only."""
    gae_lambda: float = Field(0.9, ge=0, le=1)
    """Weight of longer returns in the advantage."""
    reward_scale: float = Field(0.1, gt=0)
    """Rewards are multiplied by this for training only, so that the value's error does not drown the policy's gradient."""
    ent_coef: float = Field(0.0, ge=0)
    """Reward for the entropy of the first choice."""
    vf_coef: float = Field(0.5, ge=0)
    """Weight of the value's squared error."""
    max_grad_norm: float = Field(0.5, gt=0)
    """Gradients are scaled down to this length."""
    feedback_epochs: int = Field(3, ge=0)
    """Passes over each rollout in which the agent-side score is corrected by what was observed (clicks, rewards) of the
    items shown. 0 leaves learning to the policy gradient alone."""
    warm_start: float = Field(0.7, ge=0, lt=1)
    """Share of the steps that only warm up: slates are drawn soft-greedily on the score, which is corrected by what follows;
    no policy gradient is taken. Such steps cost a fifth. 0 where nothing is corrected by feedback."""
    start_scale: float = Field(3.0, gt=0)
    """Sharpness of the untrained policy: logits per standard deviation of the agent-side score."""


class PPOSettings(OnPolicySettings):
    """Settings of PPO."""

    num_envs: int = Field(256, ge=1, le=65536)
    """N: users simulated side by side in the training environment, which `recworld train` builds."""
    n_steps: int = Field(20, ge=1)
    """Steps of every user between two updates."""
    batch_size: int = Field(512, ge=2)
    """States per gradient step."""
    n_epochs: int = Field(4, ge=1)
    """Passes over each rollout."""
    clip: float = Field(0.2, gt=0)
    """Bound on the change of a slate's probability ratio in one update."""
    target_kl: float | None = Field(0.05, gt=0)
    """An update ends early when the policy has moved further than 1.5 times this (nats); none: never."""


class A2CSettings(OnPolicySettings):
    """Settings of A2C."""

    n_steps: int = Field(8, ge=1)
    """Steps of every user between two updates."""
    normalize_advantage: bool = True
    """Whether advantages are standardised within an update."""


class OnPolicyAgent(TorchAgent):
    """What PPO and A2C share: network, acting, and how the algorithm is put together."""

    settings_type: ClassVar[type[LearnerSettings]] = OnPolicySettings
    network: SlatePolicyNetwork

    def build_network(self, env: RecVectorEnv) -> SlatePolicyNetwork:
        """Return an untrained network, soft-greedy on the agent-side score."""
        return SlatePolicyNetwork(env, self.settings.network, self.settings.start_scale)

    def choose(self, observation: dict[str, torch.Tensor], deterministic: bool) -> torch.Tensor:
        """Return the most probable slates, or drawn ones."""
        distribution, _ = self.network.distribution(observation, self.slate_size)
        return distribution.mode() if deterministic else distribution.sample(self._act_random)

    def common(self, seed: int) -> dict[str, Any]:
        """Return the keyword arguments that both algorithms take."""
        s = self.settings
        start, end = s.learning_rate, s.learning_rate_end
        return {
            "learning_rate": lambda left: start * (end + (1 - end) * max(left, 0.0)),
            "n_steps": s.n_steps,
            "gamma": s.gamma,
            "gae_lambda": s.gae_lambda,
            "ent_coef": s.ent_coef,
            "vf_coef": s.vf_coef,
            "max_grad_norm": s.max_grad_norm,
            "rollout_buffer_class": RolloutBuffer,
            "rollout_buffer_kwargs": {"random": generator(seed, "minibatches")},
            "policy_kwargs": {
                "network": self.network,
                "size": self.slate_size,
                "generator": torch_generator(child_seed(seed, "slates"), self.device),
                "optimiser": (torch.optim.Adam, {"eps": 1e-5}),
                "slow_share": s.slow_share,
            },
            "device": self.device,
        }


class PPOAgent(OnPolicyAgent):
    """Proximal policy optimisation over slates (Schulman et al. 2017), see `OnPolicyAgent` and `PPOSettings`."""

    settings_type: ClassVar[type[LearnerSettings]] = PPOSettings
    kind: ClassVar[str] = "ppo"

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> SlatePPO:
        """Return a fresh PPO over the agent's network."""
        from recworld.envs import Sb3VecEnv

        s = self.settings
        with warnings.catch_warnings():
            # A last minibatch that is smaller is no harm: the loss is a mean.
            warnings.filterwarnings("ignore", message="You have specified a mini-batch size")
            algorithm = SlatePPO(
                SlatePolicy,
                Sb3VecEnv(env),
                batch_size=s.batch_size,
                n_epochs=s.n_epochs,
                clip_range=s.clip,
                target_kl=s.target_kl,
                **self.common(seed),
            )
        algorithm.reward_scale, algorithm.feedback_epochs = s.reward_scale, s.feedback_epochs
        algorithm.warm_start = s.warm_start
        return algorithm


class A2CAgent(OnPolicyAgent):
    """Advantage actor-critic over slates (Mnih et al. 2016), one update per rollout."""

    settings_type: ClassVar[type[LearnerSettings]] = A2CSettings
    kind: ClassVar[str] = "a2c"

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> SlateA2C:
        """Return a fresh A2C over the agent's network."""
        from recworld.envs import Sb3VecEnv

        algorithm = SlateA2C(
            SlatePolicy,
            Sb3VecEnv(env),
            use_rms_prop=False,
            normalize_advantage=self.settings.normalize_advantage,
            **self.common(seed),
        )
        algorithm.reward_scale, algorithm.feedback_epochs = (
            self.settings.reward_scale,
            self.settings.feedback_epochs,
        )
        algorithm.warm_start = self.settings.warm_start
        return algorithm
