"""Wolpertinger over slates (Dulac-Arnold et al. 2015): a wish, its nearest candidates, and a critic that picks among them.

The actor names a point (the proto-action, a wish of `recworld.agents.wishes`); of its k nearest candidates those K are shown
that the critic holds best. The paper picks one action by one value; for slates of K items the critic is the one of
`recworld.agents.dqn`: a choice model p and a value Q_i of a click, here functions of the state and of an item's coordinates,
so that they are defined between the items too. The critic is trained as there, with the whole policy (wish, neighbours,
choice) in the target, as in the paper. The actor follows the critic's gradient at its own wish,  max_theta p Q_i(s, f(s)),
the deterministic policy gradient. Nearest means the largest scalar product, as everywhere in `recworld.agents.wishes`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from recworld.agents.dqn import DQNAgent, DQNSettings, SlateDQN
from recworld.agents.facts import Tensors, to_tensors
from recworld.agents.learning import LearnerSettings
from recworld.agents.networks import Looked, zero_linear
from recworld.agents.plackett_luce import HIDDEN
from recworld.agents.replay import part
from recworld.agents.scorer import NetworkSettings
from recworld.agents.wishes import WishReader, closeness

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


class WolpertingerSettings(DQNSettings):
    """Settings of Wolpertinger."""

    network: NetworkSettings = NetworkSettings(hidden=64)
    """Sizes: a wish has `projection` principal components of the item vectors (fewer where there are fewer), actor and
    critic have two hidden layers of width `hidden`; there is no item memory and no shortlist."""
    warm_start: float = Field(0.0, ge=0, lt=1)
    """Share of the steps that only warm up the critic's choice model, which shares its weights with the values."""
    epsilon_start: float = Field(0.3, ge=0, le=1)
    """Probability of a random slate at the start, drawn for each user by itself."""
    use_score: bool = True
    """Whether the agent-side score is one more coordinate of wishes and items."""
    neighbours: int = Field(20, ge=1)
    """k: candidates nearest to the wish that the critic picks from (at least K of them)."""
    policy_delay: int = Field(4, ge=1)
    """Updates of the critic per update of the actor."""


class ItemCritic(nn.Module):
    """Logit of a click and value of a click for points in the space of items.

    Args:
        reader: gives the sizes.
        hidden: width.
    """

    def __init__(self, reader: WishReader, hidden: int) -> None:
        super().__init__()
        self.num_components, self.use_score = reader.num_components, reader.use_score
        self.slope = nn.Parameter(torch.ones(1))
        self.from_state = nn.Linear(reader.num_state, hidden)
        self.from_point = nn.Linear(reader.num_coordinates + 3 * reader.num_components, hidden, bias=False)
        self.second = nn.Linear(hidden, hidden)
        self.heads = zero_linear(hidden, 2)
        with torch.no_grad():
            self.heads.bias.copy_(torch.tensor([-1.5, 1.0]))

    def forward(self, state: Tensor, points: Tensor) -> Tensor:
        """Return logit of p and value (in rewards), (N, X, 2), for states (N, S) and points (N, X, W)."""
        width = self.num_components
        places = state[:, None, : 3 * width]  # of the user, of what was liked, of what was consumed lately
        product = places * points[..., :width].repeat(1, 1, 3)
        first = self.from_state(state)[:, None] + self.from_point(torch.cat((points, product), -1))
        out: Tensor = self.heads(nn.functional.silu(self.second(nn.functional.silu(first))))
        if not self.use_score:
            return out
        lean = self.slope * points[..., -1]
        return torch.stack((out[..., 0] + lean, out[..., 1]), -1)


class WolpertingerNetwork(nn.Module):
    """Actor and critic over wishes; in the form that `SlateDQN` trains.

    Untrained, wish and critic both lean on the agent-side score alone (where it is a coordinate): the best slate is the
    greedy one.

    Args:
        env: gives tables and horizon.
        settings: sizes.
    """

    def __init__(self, env: RecVectorEnv, settings: WolpertingerSettings) -> None:
        super().__init__()
        sizes = settings.network
        self.reader = WishReader(env, sizes.projection, sizes.decays, settings.use_score)
        self.reward_scale, self.size = settings.reward_scale, int(env.slate_size)
        self.neighbours = max(settings.neighbours, self.size)
        hidden, last = sizes.hidden, zero_linear(sizes.hidden, self.reader.num_coordinates)
        if settings.use_score:
            nn.init.constant_(last.bias[-1:], math.atanh(0.5))
        self.actor = nn.Sequential(
            nn.Linear(self.reader.num_state, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last, nn.Tanh()
        )  # fmt: skip
        self.critic = ItemCritic(self.reader, hidden)
        self.place = nn.Parameter(torch.full((1,), 2.0))  # logit of going on from one place to the next
        self.state = nn.Linear(self.reader.num_state, hidden)
        self.baseline = nn.Linear(hidden, 1)

    def worth(self, observation: Tensors) -> Tensor:
        """Return p Q_i of the k candidates nearest to the wish, (N, C); HIDDEN for all others."""
        state, (coordinates, mask) = self.reader.state(observation), self.reader.coordinates(observation)
        attraction, value = self.critic(state, coordinates).unbind(-1)
        near = closeness(self.actor(state), coordinates, mask)
        nearest = near.topk(min(self.neighbours, near.shape[1]), dim=1).indices
        kept = torch.zeros_like(mask).scatter(1, nearest, True) & mask
        return (attraction.sigmoid() * value).masked_fill(~kept, HIDDEN)

    def look(self, observation: Tensors, slates: Tensor) -> Looked:
        """Return what the critic says about slates (N, K)."""
        state, (coordinates, mask) = (
            self.reader.state(observation),
            self.reader.coordinates(observation, slates),
        )
        attraction, value = self.critic(state, coordinates).unbind(-1)
        baseline = self.baseline(nn.functional.silu(self.state(state))).squeeze(-1)
        examined = self.place.sigmoid() ** torch.arange(slates.shape[1], device=slates.device)
        return Looked(mask, baseline, self.reward_scale * value, attraction, examined)

    def slate_value(self, observation: Tensors, slates: Tensor) -> Tensor:
        """Return Q(s, A) = B + sum_k e_k p Q_i, (N,); masked positions add nothing."""
        looked = self.look(observation, slates)
        worth = looked.examined * looked.attraction.sigmoid() * looked.item_value
        return looked.baseline + (worth * looked.mask).sum(1)

    def wish_loss(self, observation: Tensors) -> Tensor:
        """Return minus the mean p Q_i at the actor's wishes; the critic's weights get no gradient of it."""
        state = self.reader.state(observation)
        fixed = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        out = functional_call(self.critic, fixed, (state, self.actor(state)[:, None]))
        return -(out[..., 0].sigmoid() * out[..., 1]).mean()


class Wolpertinger(SlateDQN):
    """`SlateDQN` with the actor's loss beside the critic's; see the module's text."""

    def value_error(self, looked: Looked, click: Tensor, batch: Tensors) -> Tensor:
        """Return the squared error of Q with the actor's gradient on top."""
        error = super().value_error(looked, click, batch)
        network: Any = self.policy.network
        settings: Any = self.settings
        if self._n_updates % settings.policy_delay:
            return error
        wish = network.wish_loss(part(batch, "now"))
        self.logger.record("loss/policy", wish.item())
        return error + (wish - wish.detach())  # zero, but for its gradient: the error stays readable


class WolpertingerAgent(DQNAgent):
    """Wishes, their nearest candidates, and a critic that picks; see the module's text and `WolpertingerSettings`."""

    settings_type: ClassVar[type[LearnerSettings]] = WolpertingerSettings
    kind: ClassVar[str] = "wolpertinger"

    def build_network(self, env: RecVectorEnv) -> WolpertingerNetwork:
        """Return an untrained network, greedy on the agent-side score where that is a coordinate."""
        return WolpertingerNetwork(env, self.settings)

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> Wolpertinger:
        """Return a fresh algorithm over the agent's network."""
        from recworld.agents.wish_env import StateVecEnv

        reader, device = self.network.reader, self.device

        def state(observation: Any) -> Any:
            return reader.state(to_tensors(observation, device)).cpu().numpy()

        stated = StateVecEnv(env, state, reader.num_state)
        return Wolpertinger(stated, self.network, self.settings, self.slate_size, seed, self.device)
