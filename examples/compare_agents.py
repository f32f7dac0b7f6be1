"""Agents of your own in one table with the baselines, in Python. Run

    python examples/compare_agents.py --steps 20000

The same from the command line, in a world fitted to a log, with tuned baselines and everything kept in run folders:

    python train_agent.py --algo examples.custom_agent:MyAgent --run-dir runs/linear
    python train_agent.py --algo examples.cleanrl_ppo:CleanPPO --run-dir runs/clean
    python evaluate_agents.py runs/linear runs/clean greedy mmr
"""

import argparse

import torch
from bandit import BetaBandit
from cleanrl_ppo import CleanPPO
from custom_agent import MyAgent

from recworld import check_agent, make_agent
from recworld.envs import RecVectorEnv
from recworld.evaluation import compare, split_members
from recworld.simulators.bundled import bundled_world

OPTIONS = {"num_candidates": 50, "slate_size": 3, "observation": "ids"}


def trained(kind, world, steps, seed):
    """Return an agent that learnt from training users, in the members of the world that training may meet."""
    env = RecVectorEnv(32, world=world, users="train", members=[0], seed=seed, **OPTIONS)
    agent = make_agent(kind, env, seed)
    agent.learn(env, steps)
    return agent


def main():
    """Check the classes, train each with several seeds, and print the table of test users in both worlds."""
    parser = argparse.ArgumentParser(description="Agents of your own beside the baselines")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = bundled_world()
    kinds = {"linear": MyAgent, "clean ppo": CleanPPO, "beta bandit": BetaBandit}
    for kind in kinds.values():
        check_agent(kind)  # raises, and says what is wrong, before time is spent
    policies = {
        name: [trained(kind, world, arguments.steps, seed) for seed in range(arguments.seeds)]
        for name, kind in kinds.items()
    }
    for name in ("random", "popularity", "greedy"):
        policies[name] = lambda env, seed=0, name=name: make_agent(name, env, seed)
    board = compare(policies, split_members(world, training=[0]), OPTIONS, trained=list(kinds))
    print(board.text())


if __name__ == "__main__":
    main()
