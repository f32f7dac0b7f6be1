"""Gymnasium and numpy only: REINFORCE (Williams 1992) for one item at a time, in a world that needs no download. Run

    python examples/plain_gymnasium.py --episodes 2000

Nothing of recworld is imported: the name before the colon makes Gymnasium import it. The policy is a softmax over a linear
score of three facts about a candidate: the recommender's estimate, and how like it is to what was consumed in this episode
and to what the user liked before. What learns here is how much of the same a user bears.
"""

import argparse

import gymnasium
import numpy as np


def facts(observation):
    """Return (C, 3): what a candidate is judged by, standardised over the candidates."""
    alike = observation["candidates"] @ observation["history"].T  # (C, H)
    in_episode = alike @ (observation["history_age"] < 1).astype(float)
    liked = alike @ observation["history_feedback"]
    raw = np.stack([observation["candidate_score"], in_episode, liked], axis=-1)
    return (raw - raw.mean(0)) / (raw.std(0) + 1e-6)


def chances(weights, seen, mask):
    """Return the probability of each candidate, (C,); masked ones have none."""
    score = np.where(mask == 1, seen @ weights, -np.inf)
    chance = np.exp(score - score.max())
    return chance / chance.sum()


def play(env, weights, random, seed=None):
    """Play one episode; return the rewards, and at each step the gradient of the log-probability of what was shown."""
    observation, _ = env.reset(seed=seed)
    rewards, gradients, over = [], [], False
    while not over:
        seen = facts(observation)
        chance = chances(weights, seen, observation["action_mask"])
        action = int(random.choice(len(chance), p=chance))
        gradients.append(seen[action] - chance @ seen)
        observation, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
        over = terminated or truncated  # for the value of what comes after, the two would differ
    return np.array(rewards), np.array(gradients)


def main():
    """Learn, and print the return as it grows."""
    parser = argparse.ArgumentParser(description="REINFORCE in numpy over plain Gymnasium")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--learning-rate", type=float, default=0.02)
    parser.add_argument("--gamma", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    env = gymnasium.make(
        "recworld:recworld/Slate-v0", num_candidates=20, slate_size=1, observation="features"
    )
    random = np.random.default_rng(arguments.seed)
    weights, usual, returns = np.array([1.0, 0.0, 0.0]), 0.0, []
    for episode in range(arguments.episodes):
        rewards, gradients = play(env, weights, random, seed=arguments.seed if episode == 0 else None)
        to_go = np.zeros(len(rewards))
        following = 0.0
        for step in reversed(range(len(rewards))):
            following = to_go[step] = rewards[step] + arguments.gamma * following
        weights += arguments.learning_rate * ((to_go - usual)[:, None] * gradients).mean(0)
        usual += 0.02 * (to_go.mean() - usual)
        returns.append(rewards.sum())
        if (episode + 1) % max(1, arguments.episodes // 5) == 0:
            recent = np.mean(returns[-max(1, arguments.episodes // 5) :])
            print(
                f"after {episode + 1} episodes: return {recent:.2f}, weights {np.round(weights, 2).tolist()}"
            )
    env.close()


if __name__ == "__main__":
    main()
