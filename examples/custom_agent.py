"""An agent of your own, whole: a softmax over a linear score, learning online. Train it with

    python train_agent.py --algo examples.custom_agent:MyAgent

It weighs three facts about a candidate (the recommender's estimate, likeness to what was consumed in this episode, likeness
to what the user liked before) and learns the weights by REINFORCE: what was shown counts for more after a better return.
"""

import numpy as np

from recworld.seeding import generator
from recworld.storage import read_arrays, write_arrays


class MyAgent:
    """A linear softmax policy; works with both observation forms, any number of users and of candidates."""

    def __init__(self, env, seed=0, learning_rate=0.1):
        self.items = env.tables.item_vector  # (I + 1, D), the last row is padding
        self.slate_size = env.slate_size
        self.learning_rate = learning_rate
        self.random = generator(seed, "my agent")
        self.weights = np.array([2.0, 0.0, 0.0])

    def facts(self, observation):
        """Return (N, C, 3): what a candidate is judged by, standardised within the row."""
        candidates, history = observation["candidates"], observation["history"]
        if candidates.ndim == 2:  # the ids form: numbers to look up
            candidates, history = self.items[candidates], self.items[history]
        alike = candidates @ history.transpose(0, 2, 1)  # (N, C, H)
        in_episode, liked = observation["history_age"] < 1, observation["history_feedback"]
        likeness = [np.einsum("nch,nh->nc", alike, weight) for weight in (in_episode, liked)]
        raw = np.stack([observation["candidate_score"], *likeness], axis=-1)
        return (raw - raw.mean(1, keepdims=True)) / (raw.std(1, keepdims=True) + 1e-6)

    def act(self, observation, deterministic=True):
        """Return (N, K) positions: the best scores, or a draw (Gumbel noise and the best K)."""
        scores = self.facts(observation) @ self.weights
        if not deterministic:
            scores = scores + self.random.gumbel(size=scores.shape)
        scores = np.where(observation["action_mask"] == 1, scores, -np.inf)
        return np.argsort(-scores, axis=1, kind="stable")[:, : self.slate_size]

    def learn(self, env, total_steps, callback=None):
        """Step through episodes; every 10 steps of all users, move the weights and report."""
        observation, _ = env.reset()
        usual, clicks = 0.0, []
        for step in range(1, total_steps // env.num_envs + 1):
            facts = self.facts(observation)
            action = self.act(observation, deterministic=False)
            chance = np.exp(np.minimum(facts @ self.weights, 30.0)) * observation["action_mask"]
            expected = np.einsum("nc,ncf->nf", chance / chance.sum(1, keepdims=True), facts)
            shown = np.take_along_axis(facts, action[..., None], axis=1).mean(1)  # (N, 3)
            observation, reward, *_ = env.step(action)
            self.weights += self.learning_rate * ((reward - usual)[:, None] * (shown - expected)).mean(0)
            usual += 0.05 * (reward.mean() - usual)
            clicks.append(reward.mean())
            if step % 10 == 0 and callback is not None:
                figures = {
                    "train/reward_per_step": float(np.mean(clicks[-10:])),
                    "weights/score": float(self.weights[0]),
                }
                if not callback(step * env.num_envs, figures):
                    return

    def save(self, folder):
        """Store the weights."""
        write_arrays(folder / "weights.safetensors", {"weights": self.weights})

    def load(self, folder, env):
        """Take the weights from a folder that `save` wrote."""
        self.weights = read_arrays(folder / "weights.safetensors")["weights"]
