"""A bandit of your own: Thompson sampling with a Beta posterior per item (Chapelle and Li 2011). Run it as

    python examples/bandit.py --steps 20000
    python train_agent.py --algo examples.bandit:BetaBandit      # the same in a world fitted to a log

It knows nothing of users: what it learns is how often each item is clicked where it is shown, and it learns from what the
environment tells about each place of the slate (`info`), not from the reward alone.
"""

import argparse

import numpy as np

from recworld.envs import RecVectorEnv
from recworld.seeding import generator
from recworld.storage import read_arrays, write_arrays


class BetaBandit:
    """Shows the items with the largest draw from their posterior; the best mean when asked to be deterministic."""

    def __init__(self, env, seed=0, prior_clicks=1.0, prior_misses=9.0):
        self.items = env.tables.item_vector  # (I + 1, D), the last row is padding
        self.slate_size = env.slate_size
        self.random = generator(seed, "beta bandit")
        self.clicks = np.full(len(self.items), prior_clicks)
        self.misses = np.full(len(self.items), prior_misses)

    def numbers(self, candidates):
        """Return item numbers (N, C), looked up by their vectors in the features form."""
        if candidates.ndim == 2:
            return candidates
        return (candidates @ self.items.T).argmax(-1)  # unit vectors: the most alike is the item itself

    def act(self, observation, deterministic=True):
        """Return (N, K) positions."""
        items = self.numbers(observation["candidates"])
        clicks, misses = self.clicks[items], self.misses[items]
        value = clicks / (clicks + misses) if deterministic else self.random.beta(clicks, misses)
        value = np.where(observation["action_mask"] == 1, value, -np.inf)
        return np.argsort(-value, axis=1, kind="stable")[:, : self.slate_size]

    def learn(self, env, total_steps, callback=None):
        """Show, and count clicks and misses of what was shown."""
        observation, _ = env.reset()
        steps, clicked = 0, []
        while steps < total_steps:
            observation, reward, _, _, info = env.step(self.act(observation, deterministic=False))
            if "final_info" in info:  # rows whose episode ended tell of their last slate there
                ended = info["_final_info"][:, None]
                shown = np.where(ended, info["final_info"]["item"], info["item"])
                click = np.where(ended, info["final_info"]["click"], info["click"])
            else:
                shown, click = info["item"], info["click"]
            np.add.at(self.clicks, shown, click)
            np.add.at(self.misses, shown, 1 - click)
            steps += env.num_envs
            clicked.append(reward.mean())
            figures = {"train/reward_per_step": float(np.mean(clicked[-10:]))}
            if callback is not None and len(clicked) % 10 == 0 and not callback(steps, figures):
                return

    def save(self, folder):
        """Store the counts."""
        write_arrays(folder / "counts.safetensors", {"clicks": self.clicks, "misses": self.misses})

    def load(self, folder, env):
        """Take the counts from a folder that `save` wrote."""
        counts = read_arrays(folder / "counts.safetensors")
        self.clicks, self.misses = counts["clicks"], counts["misses"]


def main():
    """Learn in the bundled world, and print the reward per step as it grows."""
    parser = argparse.ArgumentParser(description="Thompson sampling with a Beta posterior per item")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    env = RecVectorEnv(64, num_candidates=50, slate_size=3, observation="ids", seed=arguments.seed)
    told = {"next": 0}

    def say(steps, figures):
        if steps >= told["next"]:
            told["next"] = steps + arguments.steps // 5
            print(f"after {steps} steps: {figures['train/reward_per_step']:.3f} clicks per step")
        return True

    agent = BetaBandit(env, arguments.seed)
    agent.learn(env, arguments.steps, say)
    rate = (agent.clicks / (agent.clicks + agent.misses))[:-1]
    best = np.argsort(-rate)[:3]
    print("clicked most:", ", ".join(f"item {item} ({rate[item]:.0%})" for item in best))


if __name__ == "__main__":
    main()
