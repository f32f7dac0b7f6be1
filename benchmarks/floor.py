"""How far the step is from what the machine allows: its parts against the bytes and operations that they cannot do without.

    python benchmarks/floor.py                      # half a minute

The standard case: N = 1024, K = 10, C = 100, `ids`, `strong`, a world of MovieLens-100K's size, random slates. What a user
step needs is counted from its equations (see `needs`); the machine's rates are measured in the same run, each by a loop that
does nothing else: fused multiply-adds of eight lanes in registers, reads from a table of the items' size, copies of the size
of the users' state, fills of fresh arrays of an observation's size, draws of random bits, marks in the filter, exponentials,
normal quantiles. The floor of a part is the sum of its needs divided by the rates: nothing overlaps, nothing else is done.
Times are of the processor: medians over rounds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from recworld.envs import RecVectorEnv
from recworld.simulators import bundled_world, compiled, offering
from recworld.simulators import random as rnd
from recworld.simulators import state as st
from recworld.simulators.arithmetic import sigmoids
from recworld.simulators.lanes import FLOATS, I64, LANES, VECTOR, ahead, dots, fused, load, pointer, store

USERS, SLATE, CANDIDATES, ROUNDS = 1024, 10, 100, 9
CHAINS = 12
RESPONSE = "response, new episodes"
Rates = dict[str, float]


def cost(function: Callable[[], Any], amount: float, rounds: int = ROUNDS) -> float:
    """Return the nanoseconds of CPU time of one of the `amount` things that a call does: median over rounds."""
    function()
    took = []
    for _ in range(rounds):
        calls, start = 0, time.process_time()
        while time.process_time() - start < 0.05:
            function()
            calls += 1
        took.append((time.process_time() - start) / (calls * amount) * 1e9)
    return float(np.median(took))


@intrinsic
def fused_adds(context: Any, out: Any, count: Any) -> Any:
    """Do `count` rounds of `CHAINS` independent fused multiply-adds of eight lanes in registers."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, count = arguments
        chains = [cgutils.alloca_once(builder, VECTOR) for _ in range(CHAINS)]
        x, y = (load(builder, builder.gep(start, [ir.Constant(ir.IntType(64), at)])) for at in (0, LANES))
        for place, chain in enumerate(chains):
            builder.store(builder.fadd(x, ir.Constant(VECTOR, [float(place)] * LANES)), chain)
        with cgutils.for_range(builder, count):
            for chain in chains:
                builder.store(fused(builder, builder.load(chain), x, y), chain)
        for chain in chains:
            x = builder.fadd(x, builder.load(chain))
        store(builder, x, start)
        return target.get_dummy_value()

    return types.void(FLOATS, I64), code


@njit
def multiply_add(out: Any, count: int) -> None:
    """Do `count` rounds of fused multiply-adds."""
    fused_adds(pointer(out), count)


@njit
def read(own: Any, table: Any, rows: Any, out: Any) -> None:
    """Read a table once, eight wide rows together, one multiply-add for each number."""
    dots(pointer(out), pointer(own), pointer(table), table.shape[1], table.shape[1], pointer(rows), len(rows))


@njit
def draw(key: Any, count: int) -> Any:
    """Draw `count` times 64 random bits."""
    total = np.uint64(0)
    for slot in range(count):
        total ^= rnd.bits(key, 4, slot)
    return total


@njit
def mark(words: Any, items: Any, out: Any) -> Any:
    """Mark each row of items in a filter and keep those that were not marked."""
    found = 0
    for n in range(len(items)):
        words[:] = 0
        found = 0
        for c in range(items.shape[1]):
            item = items[n, c]
            word, bit = item >> 5, np.int32(1) << np.int32(item & 31)
            before = words[word]
            words[word] = before | bit
            out[found] = item
            found += (before & bit) == 0
    return found


@njit
def logistic(a: Any) -> None:
    """Logistic functions, eight at once."""
    sigmoids(pointer(a), len(a))


@njit
def quantiles(p: Any) -> float:
    """Normal quantiles."""
    total = 0.0
    for each in p:
        total += rnd.normal_quantile(each)
    return total


def machine_rates(env: RecVectorEnv) -> Rates:
    """Return the nanoseconds of one multiply-add, byte, draw, ..."""
    simulator, rng = env.simulator, np.random.default_rng(0)
    eight, items = np.full(16, 0.5, np.float32), env.world.num_items
    # As many bytes as the items' factors of attraction and their texts, in wide rows.
    table = np.ones((max(8, items * (16 + 64) // 1024 // 8 * 8), 1024), np.float32)
    own, rows, out = (
        np.ones(1024, np.float32),
        np.arange(len(table), dtype=np.int32),
        np.zeros(len(table) + 8, np.float32),
    )
    state, copy = simulator._floats, simulator._floats.copy()
    kept: list[Any] = []

    def fill() -> None:
        kept.append(simulator.new_seen())
        for array in kept[-1]:
            array.fill(1)
        if len(kept) > 2:
            kept.pop(0)

    words, drawn = np.zeros(st.FILTER_WORDS, np.int32), rng.integers(0, items, (50, CANDIDATES))
    chosen, values = np.zeros(CANDIDATES + 1, np.int64), np.zeros(1024, np.float32)
    chances = rng.random(1000)
    bytes_seen = sum(array.nbytes for array in simulator.new_seen())

    return {
        "multiply-add": cost(lambda: multiply_add(eight, 20_000), 20_000 * CHAINS * LANES),
        "byte read": cost(lambda: read(own, table, rows, out), table.nbytes),
        "byte of state": cost(lambda: np.copyto(copy, state), 2 * state.nbytes),
        "byte written": cost(fill, bytes_seen),
        "draw": cost(lambda: draw(np.uint64(7), 10_000), 10_000),
        "mark": cost(lambda: mark(words, drawn, chosen), drawn.size),
        "exponential": cost(lambda: logistic(values), 1024),
        "quantile": cost(lambda: quantiles(chances), 1000),
    }


def needs(env: RecVectorEnv, clicks: float, ended: float) -> dict[str, dict[str, float]]:
    """Return what a user step needs, by part: numbers of things, by name as in `machine_rates`.

    Args:
        env: gives the widths.
        clicks: of a user step.
        ended: episodes that end in a user step; there, candidates and observation are needed twice.
    """
    layout = env.simulator.layout
    c, k, d = layout.candidates, layout.slate, layout.vector
    (fr, fa), (gr, ga) = layout.factors, layout.agent_factors
    seen = sum(array.nbytes for array in env.simulator.new_seen()) / env.num_envs
    happened = 4 * (st.R_INT_HEAD + 3 * k + st.R_FLOAT_HEAD + k)
    parts = {
        # Two candidates come from one draw; each is marked, and stands in the row.
        "candidates": {"draw": c / 2, "mark": c, "byte of state": 4 * c + 4 * st.FILTER_WORDS},
        # Every candidate is scored by the recommender, and all is written into fresh arrays.
        "observation": {
            "multiply-add": c * ga,
            "byte read": c * (ga + 1) * 4,
            "byte of state": 4 * (c + 3 * layout.history + gr + ga),
            "byte written": seen,
        },
        # Every slot: similarity to the memory, attraction, two exponentials and a draw. Every click: rating (a draw, a
        # normal quantile) and what it moves (memory, both tastes, the recommender's estimate). The user: memory and taste
        # move, two exponentials and a draw for satisfaction and leaving. The state is read and written.
        RESPONSE: {
            "multiply-add": k * (d + fa)
            + clicks * (d + 4 * fr + 3 * fa + 2 * (2 * gr + 2 * ga))
            + d
            + 2 * (fr + fa),
            "byte read": k * (d + fa + 1) * 4 + clicks * (d + fr + fa + gr + ga) * 4 + (fr + fa) * 4,
            "exponential": 2 * k + 2 + clicks,
            "draw": k + 1 + clicks,
            "quantile": clicks,
            "byte of state": 2 * 4 * (layout.feedback_at + k + 8),
            "byte written": happened,
        },
    }
    again = parts[RESPONSE]
    for part in ("candidates", "observation"):
        for name, amount in parts[part].items():
            again[name] = again.get(name, 0.0) + ended * amount
    # What happened is handed out twice: as it was, and as the next episode stands.
    again["byte written"] += happened
    again["byte of state"] += ended * 2 * 4 * layout.float_width
    again["quantile"] += ended
    return parts


@njit
def offer_rows(machine: Any, count: int) -> None:
    """Choose the candidates of all users once more: the same ones, since the step has not moved."""
    x, w, f, b, keys, p, q, si, sf, _ = compiled.parts(machine)
    for n in range(count):
        fn, bn = ahead(f, n * q[st.W_FLOAT]), ahead(b, n * q[st.W_INT])
        offering.offer(x, w, fn, bn, p, q, keys[3 * n + 2], si, sf)


def measured(env: RecVectorEnv) -> tuple[dict[str, float], float, float]:
    """Return the nanoseconds of a user step by part, its clicks, and the episodes that end in one."""
    rng, simulator = np.random.default_rng(0), env.simulator
    slates = [np.argsort(rng.random((USERS, CANDIDATES)), axis=1)[:, :SLATE].copy() for _ in range(16)]
    t = [0]

    def step() -> None:
        t[0] += 1
        env.step(slates[t[0] % 16])

    def inner() -> None:
        t[0] += 1
        simulator.step(slates[t[0] % 16], True)

    whole, compiled_step = cost(step, USERS), cost(inner, USERS)
    told = [env.step(slates[j % 16]) for j in range(64)]
    clicks = float(np.mean([info.get("final_info", info)["click"].sum() / USERS for *_, info in told]))
    ended = float(np.mean([(one[2] | one[3]).mean() for one in told]))
    seen, address = simulator.new_seen(), simulator._machine.addresses
    offer = cost(lambda: offer_rows(address, USERS), USERS)

    def observe() -> None:
        nonlocal seen
        seen = simulator.observe()

    look = cost(observe, USERS)
    return {
        "candidates": offer, "observation": look, RESPONSE: compiled_step - offer - look,
        "the API around them": whole - compiled_step, "whole": whole,
    }, clicks, ended  # fmt: skip


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    world = bundled_world(943, 1682, width=64, factors=16, members=2)
    env = RecVectorEnv(
        USERS, world=world, num_candidates=CANDIDATES, slate_size=SLATE, dynamics="strong", users="all"
    )
    env.reset(seed=0)
    print(f"load {os.getloadavg()[0]:.1f}; U = 943, I = 1682, D = 64, 16 + 16 factors")
    rates = machine_rates(env)
    print("the machine, nanoseconds: " + ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items()))
    print(f"  = {1 / rates['multiply-add']:.0f} thousand million multiply-adds a second, "
          f"{1 / rates['byte read']:.0f} GB/s read, {1 / rates['byte of state']:.0f} GB/s of state, "
          f"{1 / rates['byte written']:.0f} GB/s written")  # fmt: skip
    times, clicks, ended = measured(env)
    print(f"clicks of a user step {clicks:.3f}, episodes that end in one {ended:.3f}")
    print(f"{'part':22} {'measured, ns':>13} {'floor, ns':>10} {'ratio':>6}  what the floor is made of (ns)")
    floor = 0.0
    for part, wanted in needs(env, clicks, ended).items():
        pieces = {name: amount * rates[name] for name, amount in wanted.items()}
        floor += sum(pieces.values())
        made = ", ".join(f"{name} {amount:,.0f} x = {pieces[name]:.0f}" for name, amount in wanted.items())
        least = sum(pieces.values())
        print(f"{part:22} {times[part]:13,.0f} {least:10,.0f} {times[part] / least:6.2f}  {made}")
    print(
        f"{'the API around them':22} {times['the API around them']:13,.0f} {0:10} {'':6}  views and checks in Python"
    )
    print(f"{'whole':22} {times['whole']:13,.0f} {floor:10,.0f} {times['whole'] / floor:6.2f}")


if __name__ == "__main__":
    main()
