"""Plain Stable-Baselines3 with a policy of your own, over `Sb3VecEnv`. Run

    python examples/sb3_policy.py --steps 50000

`PPO("MultiInputPolicy", ...)` takes any features extractor: this one scores every candidate with the same small network. The
policy around it takes these scores as the logits of every place, so that what is learnt of one candidate holds for all.
Stable-Baselines3 draws the places of a slate independently and knows no mask: a repeated or masked position leaves its place
empty. `Slates` makes an agent of the model that fills every place, so that it can be measured beside the baselines.
"""

import argparse

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from recworld.agents import make_agent
from recworld.agents.episodes import episode_env
from recworld.envs import RecVectorEnv, Sb3VecEnv
from recworld.evaluation import evaluate_policy

OPTIONS = {"num_candidates": 20, "slate_size": 2, "observation": "features"}


class CandidateExtractor(BaseFeaturesExtractor):
    """(N, C): one number per candidate, from its estimate and its likeness to the user, the episode and what was liked."""

    def __init__(self, observation_space, hidden=32):
        super().__init__(observation_space, features_dim=observation_space["candidate_score"].shape[0])
        self.correction = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, observation):
        """Return the scores for a batch of observations, tensors by name."""
        candidates, history = observation["candidates"], observation["history"]  # (N, C, D), (N, H, D)
        alike = candidates @ history.transpose(1, 2)  # (N, C, H)
        in_episode = (observation["history_age"] < 1).float()
        facts = [
            observation["candidate_score"],
            (candidates * observation["user"][:, None]).sum(-1),
            (alike * in_episode[:, None]).sum(-1),
            (alike * observation["history_feedback"][:, None]).sum(-1),
        ]
        facts = torch.stack(facts, -1)  # (N, C, 4)
        facts = (facts - facts.mean(1, keepdim=True)) / (facts.std(1, keepdim=True) + 1e-6)
        scores = 2.0 * facts[..., 0] + self.correction(facts).squeeze(
            -1
        )  # it starts from the recommender's estimate
        return scores - 10.0 * (1.0 - observation["action_mask"])


class EveryPlace(nn.Module):
    """The scores of the candidates as the logits of each of K places."""

    def __init__(self, places):
        super().__init__()
        self.places = places

    def forward(self, scores):
        """Return (N, K * C) for scores (N, C)."""
        return scores.repeat(1, self.places)


class CandidatePolicy(MultiInputActorCriticPolicy):
    """The policy of "MultiInputPolicy" with `EveryPlace` where that has a dense layer."""

    def _build(self, lr_schedule):
        super()._build(lr_schedule)
        self.action_net = EveryPlace(len(self.action_space.nvec))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


class Slates:
    """A trained Stable-Baselines3 model as an agent: place after place takes its best candidate that is left."""

    def __init__(self, model):
        self.model = model

    def act(self, observation, deterministic=True):
        """Return (N, K) positions."""
        tensors, _ = self.model.policy.obs_to_tensor(observation)
        with torch.no_grad():
            places = self.model.policy.get_distribution(tensors).distribution  # one categorical per place
        left, rows, slates = observation["action_mask"] == 1, np.arange(len(observation["step"])), []
        for place in places:
            score = np.where(left, place.logits.numpy(), -np.inf)
            slates.append(score.argmax(1))
            left[rows, slates[-1]] = False
        return np.stack(slates, axis=1)


def main():
    """Train, and measure beside random and greedy on test users."""
    parser = argparse.ArgumentParser(description="Stable-Baselines3's PPO with an own features extractor")
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    env = RecVectorEnv(16, users="train", seed=arguments.seed, **OPTIONS)
    model = PPO(
        CandidatePolicy,
        Sb3VecEnv(env),
        n_steps=64,
        batch_size=256,
        learning_rate=1e-3,
        gamma=0.9,
        policy_kwargs={"features_extractor_class": CandidateExtractor, "net_arch": []},
        seed=arguments.seed,
        device="cpu",
    )
    model.learn(arguments.steps)

    test = episode_env(env.world, OPTIONS, users="test")
    agents = {
        "random": make_agent("random", test),
        "greedy": make_agent("greedy", test),
        "sb3 ppo": Slates(model),
    }
    for name, agent in agents.items():
        found = evaluate_policy(agent, test, name=name).summary["return"]
        print(f"{name:<8} return {found.mean:.2f} (95 % {found.low:.2f} to {found.high:.2f})")


if __name__ == "__main__":
    main()
