"""PPO over slates in one file that reads from top to bottom (Schulman et al. 2017). Run it as

    python examples/cleanrl_ppo.py --steps 100000
    python train_agent.py --algo examples.cleanrl_ppo:CleanPPO --agent learning_rate=0.002   # in a world fitted to a log
    python train_agent.py --algo examples.cleanrl_ppo:CleanPPO --tune 20                     # its settings searched

A slate is drawn without replacement: candidate after candidate from a softmax over those that are left (Plackett-Luce). The
same network scores every candidate, so any number of candidates and of users will do, and both forms of observation.
"""

import argparse

import numpy as np
import torch
from torch import nn

from recworld.envs import RecVectorEnv
from recworld.storage import read_arrays, write_arrays


class Network(nn.Module):
    """A score per candidate from six facts about it, and a value from their mean."""

    def __init__(self, hidden):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.score, self.value = nn.Linear(hidden, 1), nn.Linear(hidden, 1)
        nn.init.zeros_(self.score.weight)

    def forward(self, facts, mask):
        """Return logits (N, C) and values (N,) for facts (N, C, 6) and mask (N, C)."""
        hidden = self.body(facts)
        logits = 2.0 * facts[..., 0] + self.score(hidden).squeeze(
            -1
        )  # it starts from the recommender's estimate
        return logits.masked_fill(~mask, -1e8), self.value(hidden.mean(1)).squeeze(-1)


def log_probability(logits, slates):
    """Return (N,): log-probability of slates (N, K), and (N,) entropy of the first place."""
    chosen = logits.gather(1, slates)  # (N, K)
    left, total = logits.logsumexp(1), 0.0
    for place in range(slates.shape[1]):
        total = total + chosen[:, place] - left
        if place + 1 < slates.shape[1]:  # take what was chosen out of the sum
            rest = logits.scatter(1, slates[:, : place + 1], -1e8)
            left = rest.logsumexp(1)
    log_chance = logits.log_softmax(1)
    return total, -(log_chance.exp() * log_chance).sum(1)


class CleanPPO:
    """The whole agent: `act`, `learn`, `save`, `load`."""

    def __init__(self, env, seed=0, learning_rate=2e-3, n_steps=32, n_epochs=4, batch_size=512, gamma=0.95, gae_lambda=0.9,
                 clip=0.2, ent_coef=0.0, hidden=32, reward_scale=0.1):  # fmt: skip
        self.items = torch.as_tensor(env.tables.item_vector)  # (I + 1, D), the last row is padding
        self.slate_size = env.slate_size
        self.learning_rate, self.n_steps, self.n_epochs, self.batch_size = (
            learning_rate,
            n_steps,
            n_epochs,
            batch_size,
        )
        self.gamma, self.gae_lambda, self.clip, self.ent_coef = gamma, gae_lambda, clip, ent_coef
        self.reward_scale = reward_scale
        self.random = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(
            devices=[]
        ):  # layers draw from the global generator: put it back as it was
            torch.manual_seed(seed)
            self.network = Network(hidden)

    def read(self, observation):
        """Return facts (N, C, 6), standardised within the row where they differ by candidate, and mask (N, C) bool."""
        o = {name: torch.tensor(array) for name, array in observation.items()}
        candidates, history = o["candidates"], o["history"]
        if candidates.ndim == 2:  # the ids form: numbers to look up
            candidates, history = self.items[candidates.long()], self.items[history.long()]
        alike = candidates @ history.transpose(1, 2)  # (N, C, H)
        recent = torch.where(o["history_age"] < 1, 0.8 ** (20 * o["history_age"]), torch.zeros(()))
        by = [(o["history_age"] < 1).float(), recent, o["history_feedback"]]
        likeness = [(alike * weight[:, None]).sum(-1) for weight in by]
        varying = torch.stack([o["candidate_score"], *likeness], -1)  # (N, C, 4)
        level = o["candidate_score"].mean(1, keepdim=True).expand_as(o["candidate_score"])
        step = o["step"].expand_as(o["candidate_score"])
        spread = varying.std(1, keepdim=True, unbiased=False)
        varying = (varying - varying.mean(1, keepdim=True)) / (spread + 1e-6)
        return torch.cat([varying, level[..., None], step[..., None]], -1), o["action_mask"] == 1

    @torch.no_grad()
    def act(self, observation, deterministic=True):
        """Return (N, K) positions: the most probable slates, or drawn ones (Gumbel noise and the best K)."""
        facts, mask = self.read(observation)
        logits, _ = self.network(facts, mask)
        if not deterministic:
            logits = logits - torch.empty_like(logits).exponential_(generator=self.random).log()
        return logits.topk(self.slate_size, dim=1).indices.numpy()

    def learn(self, env, total_steps, callback=None):
        """Collect, estimate advantages, improve; again until `total_steps` user steps are done."""
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate, eps=1e-5)
        observation, _ = env.reset()
        done = 0
        while done < total_steps:
            optimiser.param_groups[0]["lr"] = self.learning_rate * max(0.1, 1 - done / total_steps)

            # Collect n_steps of every user.
            rows = {
                name: []
                for name in (
                    "facts",
                    "mask",
                    "slates",
                    "log_chance",
                    "value",
                    "reward",
                    "next_value",
                    "go_on",
                )
            }
            for _ in range(self.n_steps):
                facts, mask = self.read(observation)
                slates = torch.as_tensor(self.act(observation, deterministic=False))
                with torch.no_grad():
                    logits, value = self.network(facts, mask)
                    log_chance, _ = log_probability(logits, slates)
                observation, reward, terminated, truncated, info = env.step(slates.numpy())
                with torch.no_grad():
                    next_value = self.network(*self.read(observation))[1]
                    if (
                        truncated.any()
                    ):  # an episode that was cut goes on in the value of its last observation
                        cut = torch.as_tensor(truncated)
                        next_value[cut] = self.network(*self.read(info["final_obs"]))[1][cut]
                next_value[torch.as_tensor(terminated)] = 0.0  # who left brings nothing more
                scaled = torch.as_tensor(reward * self.reward_scale).float()
                go_on = torch.as_tensor(~(terminated | truncated)).float()
                kept = (facts, mask, slates, log_chance, value, scaled, next_value, go_on)
                for name, tensor in zip(rows, kept, strict=True):
                    rows[name].append(tensor)
                done += env.num_envs
            b = {name: torch.stack(tensors) for name, tensors in rows.items()}  # (n_steps, N, ...)

            # Generalised advantage estimation (Schulman et al. 2016).
            advantage = torch.zeros_like(b["reward"])
            later = torch.zeros(env.num_envs)
            for t in reversed(range(self.n_steps)):
                surprise = b["reward"][t] + self.gamma * b["next_value"][t] - b["value"][t]
                later = advantage[t] = surprise + self.gamma * self.gae_lambda * b["go_on"][t] * later
            flat = {name: tensor.flatten(0, 1) for name, tensor in b.items()}
            advantage, target = advantage.flatten(), (advantage + b["value"]).flatten()

            # Improve, minibatch by minibatch, without going far from the policy that collected.
            for _ in range(self.n_epochs):
                for part in torch.randperm(len(advantage), generator=self.random).split(self.batch_size):
                    logits, value = self.network(flat["facts"][part], flat["mask"][part])
                    log_chance, entropy = log_probability(logits, flat["slates"][part])
                    ratio = (log_chance - flat["log_chance"][part]).exp()
                    gain = advantage[part]
                    gain = (gain - gain.mean()) / (gain.std(unbiased=False) + 1e-8)
                    policy_loss = -torch.min(
                        ratio * gain, ratio.clamp(1 - self.clip, 1 + self.clip) * gain
                    ).mean()
                    value_loss = (value - target[part]).square().mean()
                    loss = policy_loss + 0.5 * value_loss - self.ent_coef * entropy.mean()
                    optimiser.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
                    optimiser.step()

            figures = {
                "loss/policy": policy_loss.item(),
                "loss/value": value_loss.item(),
                "train/reward_per_step": b["reward"].mean().item() / self.reward_scale,
            }
            if callback is not None and not callback(done, figures):
                return

    def save(self, folder):
        """Store the weights as plain arrays."""
        write_arrays(
            folder / "network.safetensors", {name: t.numpy() for name, t in self.network.state_dict().items()}
        )

    def load(self, folder, env):
        """Take the weights from a folder that `save` wrote."""
        arrays = read_arrays(folder / "network.safetensors")
        self.network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})


def main():
    """Train in the bundled world."""
    parser = argparse.ArgumentParser(description="PPO over slates in one file")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    env = RecVectorEnv(32, num_candidates=50, slate_size=3, observation="ids", seed=arguments.seed)
    recent = []

    def say(steps, figures):
        recent.append(figures["train/reward_per_step"])
        if len(recent) % 10 == 0 or steps >= arguments.steps:
            print(f"after {steps} steps: {np.mean(recent[-10:]):.3f} clicks per step, "
                  f"value loss {figures['loss/value']:.4f}")  # fmt: skip
        return True

    CleanPPO(env, arguments.seed).learn(env, arguments.steps, say)


if __name__ == "__main__":
    main()
