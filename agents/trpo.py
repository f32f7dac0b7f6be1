"""TRPO over slates: `sb3_contrib.TRPO` with the shared scorer, and a trust region over whole slates.

The trust region bounds the divergence between the old and the new distribution over ordered slates. By the chain rule

    KL(new || old) = E_slate sum_k KL(new(. | a_1..a_{k-1}) || old(. | a_1..a_{k-1}))

and each term, the divergence of place k given what stands before it, is exact: a softmax over the candidates that are
left. The expectation over prefixes is taken at the slates that were shown in the rollout. They were drawn from the old
policy, and the terms are of second order in the step, so what the choice between old and new prefixes makes of the sum is
of third order: the Hessian at the old policy, which the conjugate gradient solves with, is in expectation that of the whole
slate (its Fisher information). The divergence of the first choice alone would leave all later places unbounded.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from sb3_contrib import TRPO
from torch import Tensor, nn
from torch.distributions import Distribution, register_kl

from recworld.agents.drawing import drawing_from
from recworld.agents.learning import LearnerSettings
from recworld.agents.networks import SlatePolicyNetwork
from recworld.agents.on_policy import OnPolicyMixin, RolloutBuffer, SlatePolicy
from recworld.agents.plackett_luce import HIDDEN, PlackettLuce, place_among
from recworld.agents.ppo import OnPolicyAgent, OnPolicySettings
from recworld.agents.scorer import CandidateScorer, NetworkSettings

if TYPE_CHECKING:
    from recworld.agents.facts import Tensors
    from recworld.envs import RecVectorEnv

SLATE = "slate"
"""Key beside the observation's own, under which a rollout gives the slates that were shown."""


class TRPOSettings(OnPolicySettings):
    """Settings of TRPO."""

    # TRPO has no such terms, and its policy no step size of its own: these are no settings here.
    ent_coef: ClassVar[float] = 0.0  # type: ignore[misc]
    vf_coef: ClassVar[float] = 0.0  # type: ignore[misc]
    slow_share: ClassVar[float] = 1.0  # type: ignore[misc]
    target_kl: float = Field(0.03, gt=0)
    """Radius of the trust region: divergence of the slate's distribution in one update, in nats."""
    cg_steps: int = Field(10, ge=1)
    """Steps of the conjugate gradient that finds the direction of an update."""
    cg_damping: float = Field(0.1, ge=0)
    """Added to the diagonal of the Fisher information."""
    fisher_share: float = Field(0.25, gt=0, le=1)
    """Share of a rollout's states that the Fisher information is estimated on; the gradient and the bound see all."""
    batch_size: int = Field(256, ge=2)
    """States per gradient step of the value and of the corrected score; the policy's own step is set by `target_kl`."""
    critic_epochs: int = Field(4, ge=1)
    """Passes over each rollout for the value."""


class TrustNetwork(SlatePolicyNetwork):
    """The shared policy network with a value of its own.

    A trust region bounds what the policy says, not what stands in its hidden vectors: a value that read them would be
    thrown off by every update (and could not train them without leaving the region). So the value has its own scorer.

    Args:
        env, settings, scale: as for `SlatePolicyNetwork`.
    """

    def __init__(self, env: RecVectorEnv, settings: NetworkSettings, scale: float) -> None:
        super().__init__(env, settings, scale)
        self.critic = CandidateScorer(self.reader, settings)
        self.critic_pooled = nn.Linear(3 * settings.hidden + self.reader.num_summary, settings.hidden)
        self.critic_value = nn.Linear(settings.hidden, 1)

    def worth(self, observation: Tensors) -> Tensor:
        """Return the value of the state, (N, 1), from the mean, the largest and the most promising candidates."""
        facts = self.reader(self.shortlisted(observation))
        hidden = self.critic(facts, self.reader)  # (N, C, hidden)
        mask = facts.mask[..., None]
        share = (2 * facts.standard).masked_fill(~facts.mask, HIDDEN).softmax(1)
        parts = (
            (hidden * mask).sum(1) / mask.sum(1).clamp_min(1),
            hidden.masked_fill(~mask, -1e3).amax(1),
            (share[:, None] @ hidden).squeeze(1),
            facts.summary,
        )
        return self.critic_value(nn.functional.silu(self.critic_pooled(torch.cat(parts, 1))))

    def slates(self, observation: Tensors, size: int) -> PlackettLuce:
        """Return the distribution over slates of `size` items."""
        return super().distribution(observation, size)[0]

    def distribution(self, observation: Tensors, size: int) -> tuple[PlackettLuce, Tensor]:
        """Return the distribution over slates of `size` items, and the value (N, 1)."""
        return self.slates(observation, size), self.worth(observation)


class Places(Distribution):
    """Choice of each place of N given slates, in the form that torch's registry of divergences takes.

    Args:
        slates: the Plackett-Luce distribution.
        shown: (N, K) int64, the slates whose prefixes are given, in the numbers of the environment.
    """

    def __init__(self, slates: PlackettLuce, shown: Tensor) -> None:
        super().__init__(batch_shape=shown.shape[:1], validate_args=False)
        self.slates, self.given = slates, place_among(slates.positions, shown)

    @property
    def distribution(self) -> Places:
        """Return itself: Stable-Baselines3 looks for torch's distribution under this name."""
        return self

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of slates, (N,)."""
        return self.slates.log_prob(value.long().reshape(self.given.shape))

    def choices(self) -> Tensor:
        """Return the log-probability of each candidate at each place, (N, K, C); HIDDEN or less where it cannot stand."""
        mask, (rows, size) = self.slates.mask, self.given.shape
        logits = self.slates.logits[:, None].expand(-1, size, -1)
        interaction = self.slates.interaction
        if interaction is not None:
            beside = interaction.beside(self.given[:, :-1])  # (N, K-1, C, X)
            shifts = [interaction.shift(beside[:, :place]) for place in range(1, size)]
            logits = logits + torch.stack([torch.zeros_like(shifts[0]), *shifts], 1)
        before = torch.zeros(rows, size, mask.shape[1], dtype=torch.bool, device=mask.device)
        before[:, 1:].scatter_(2, self.given[:, :-1, None], True)
        before = before.cumsum(1) > 0  # (N, K, C): chosen at an earlier place
        return logits.masked_fill(before | ~mask[:, None], HIDDEN).log_softmax(2)


def places_divergence(new: Places, old: Places) -> Tensor:
    """Return  sum_k KL(new(. | prefix) || old(. | prefix))  of the given slates, (N,) in nats.

    Places that were filled for want of candidates are no choice and add nothing.
    Written as  sum p (log p - log q) - p + q,  which is the same as both sum to one: so its gradient at new = old is zero
    and its Hessian has no negative direction in float32 too, where a nearly certain choice leaves little but rounding.
    """
    own, other = new.choices(), old.choices()
    counts = new.slates.mask.gather(1, new.given)  # (N, K)
    share = own.exp()
    terms = share * (own - other).masked_fill(own < HIDDEN / 2, 0.0) - share + other.exp()
    return (terms.sum(2) * counts).sum(1)


register_kl(Places, Places)(places_divergence)


class TrustRegionPolicy(SlatePolicy):
    """`SlatePolicy` that says which divergence the trust region is measured in."""

    def get_distribution(self, obs: Tensors) -> Any:
        """Return the choice of each place, given the slates that `ShownBuffer` puts beside the observation."""
        network: TrustNetwork = self.features_extractor
        return Places(network.slates(obs, self.size), obs[SLATE].long().reshape(-1, self.size))

    def predict_values(self, obs: Tensors) -> Tensor:
        """Return the values, (N, 1), without a pass through the policy."""
        network: TrustNetwork = self.features_extractor
        return network.worth(obs)


class ShownBuffer(RolloutBuffer):
    """`RolloutBuffer` whose samples carry the slates beside the observation."""

    def _get_samples(self, *args: Any, **kwargs: Any) -> Any:
        samples = super()._get_samples(*args, **kwargs)
        return samples._replace(observations={**samples.observations, SLATE: samples.actions})


class OwnTRPO(TRPO):
    """`sb3_contrib.TRPO` whose draws (the conjugate gradient starts at a random vector) come from the policy's generator."""

    policy: TrustRegionPolicy
    fisher_share: float = 1.0

    def train(self) -> None:
        """Update the policy inside the trust region, then the value."""
        with drawing_from(self.policy.generator):
            super().train()

    def _compute_actor_grad(
        self, kl_div: Tensor, policy_objective: Tensor
    ) -> tuple[list[nn.Parameter], Tensor, Tensor, list[Any]]:
        """Return the policy's weights and both gradients, as the library does but by one backward pass each.

        The gradient of the divergence is differentiated once more for each step of the conjugate gradient: it is taken on
        a share of the states, evenly spread over users and steps.
        """
        if self.fisher_share < 1:
            total = self.rollout_buffer.buffer_size * self.rollout_buffer.n_envs
            rows = np.linspace(0, total - 1, max(round(total * self.fisher_share), 1)).astype(np.int64)
            seen: Any = self.rollout_buffer._get_samples(rows).observations
            with torch.no_grad():
                old = self.policy.get_distribution(seen)
            kl_div = places_divergence(self.policy.get_distribution(seen), old).mean()
        weights = [weight for weight in self.policy.parameters() if weight.requires_grad]
        found = torch.autograd.grad(kl_div, weights, create_graph=True, allow_unused=True)
        pairs = [(weight, grad) for weight, grad in zip(weights, found, strict=True) if grad is not None]
        own = [weight for weight, _ in pairs]
        objective = torch.autograd.grad(policy_objective, own, retain_graph=True)
        return (
            own,
            torch.cat([grad.reshape(-1) for grad in objective]),
            torch.cat([grad.reshape(-1) for _, grad in pairs]),
            [weight.shape for weight in own],
        )


class SlateTRPO(OnPolicyMixin, OwnTRPO):
    """`sb3_contrib.TRPO` over slates."""

    def border(self) -> None:
        """Report the figures under the names of the other algorithms."""
        figures = self.logger.name_to_value
        for ours, theirs in (("policy", "policy_objective"), ("kl", "kl_divergence_loss")):
            if f"train/{theirs}" in figures:
                self.logger.record(f"loss/{ours}", figures[f"train/{theirs}"])
        super().border()


class TRPOAgent(OnPolicyAgent):
    """Trust region policy optimisation over slates (Schulman et al. 2015), see the module's text and `TRPOSettings`."""

    settings_type: ClassVar[type[LearnerSettings]] = TRPOSettings
    kind: ClassVar[str] = "trpo"

    def build_network(self, env: RecVectorEnv) -> TrustNetwork:
        """Return an untrained network, soft-greedy on the agent-side score."""
        return TrustNetwork(env, self.settings.network, self.settings.start_scale)

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> SlateTRPO:
        """Return a fresh TRPO over the agent's network."""
        from recworld.envs import Sb3VecEnv

        s = self.settings
        shared = self.common(seed)
        for name in ("ent_coef", "vf_coef", "max_grad_norm"):  # TRPO has none of them
            shared.pop(name)
        shared["rollout_buffer_class"] = ShownBuffer
        with warnings.catch_warnings():
            # A last minibatch that is smaller is no harm: the loss is a mean.
            warnings.filterwarnings("ignore", message="You have specified a mini-batch size")
            algorithm = SlateTRPO(
                TrustRegionPolicy,
                Sb3VecEnv(env),
                batch_size=s.batch_size,
                n_critic_updates=s.critic_epochs,
                cg_max_steps=s.cg_steps,
                cg_damping=s.cg_damping,
                target_kl=s.target_kl,
                **shared,
            )
        algorithm.reward_scale, algorithm.feedback_epochs = s.reward_scale, s.feedback_epochs
        algorithm.warm_start, algorithm.fisher_share = s.warm_start, s.fisher_share
        algorithm.max_grad_norm = s.max_grad_norm  # of the corrected score
        return algorithm
