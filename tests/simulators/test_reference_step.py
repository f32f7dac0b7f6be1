"""The compiled step against a plain NumPy form of the same equations, written from the documentation of `UserSimulator`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hyp
from scipy.special import ndtri

from recworld.envs import RecVectorEnv
from recworld.logs import RatingScale
from recworld.simulators import DynamicsSettings, bundled_world

MASK = (1 << 64) - 1
GOLDEN, PURPOSE, SLOT = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 0xDA942042E4DD58B5
USER, MEMBER, FRAILTY, CANDIDATE, CLICK, RATING, LEAVE, NO_CLICK = range(1, 9)

SCALES = {
    "discrete": RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0),
    "continuous": RatingScale("continuous", (), -10.0, 10.0),
    "click": RatingScale("click"),
}


def mix(x: int) -> int:
    z = x & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def stream_key(seed: int, stream: int) -> int:
    return mix(mix(seed + GOLDEN) ^ ((stream * PURPOSE + GOLDEN) & MASK))


def child(key: int, number: int) -> int:
    return mix(key + (number + 1) * GOLDEN)


def bits(key: int, purpose: int, slot: int) -> int:
    counter = (key + purpose * PURPOSE + (slot & MASK) * SLOT) & MASK
    product = counter * (counter ^ 0xE7037ED1A0B428DB)
    return (product & MASK) ^ (product >> 64)


def uniform(key: int, purpose: int, slot: int) -> float:
    return ((bits(key, purpose, slot) >> 40) + 0.5) / 2**24


def below(key: int, purpose: int, slot: int, n: int) -> int:
    return ((bits(key, purpose, slot) >> 32) * n) >> 32


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def intercept(tables, share: float, rate: float) -> np.ndarray:
    from recworld.simulators.prepare import solve_intercept

    return solve_intercept(tables, share, rate)


class ReferenceUser:
    """One user, one episode at a time; everything in float64."""

    def __init__(
        self, world, seed, stream, *, slate, candidates, horizon, history, users, weights=(1.0, 0.0)
    ):
        self.w, self.d, self.key = world, world.dynamics, stream_key(seed, stream)
        self.k, self.c, self.t, self.h, self.users, self.weights = (
            slate,
            candidates,
            horizon,
            history,
            users,
            weights,
        )
        share, rate = self.d.popularity_share, self.d.base_click_rate  # both are set in these tests
        self.shift, self.share = intercept(world.truth, share, rate), share
        self.agent_shift = intercept(world.agent.response, share, rate)[0]
        self.middle, self.half = (
            (world.scale.low + world.scale.high) / 2,
            (world.scale.high - world.scale.low) / 2,
        )
        self.rated = world.scale.kind != "click"

    def begin(self, episode):
        w, agent = self.w, self.w.agent
        self.episode_key = child(self.key, episode)
        self.u = int(self.users[below(self.episode_key, USER, 0, len(self.users))])
        self.m = below(self.episode_key, MEMBER, 0, w.truth.num_members)
        self.z0 = w.truth.taste[self.m, self.u].astype(float)
        self.z, self.s = self.z0.copy(), np.zeros(w.vector_width)
        self.y = agent.response.taste[0, self.u].astype(float)
        self.content, self.step = self.d.satisfaction_start, 0
        self.frailty = self.d.frailty * ndtri(uniform(self.episode_key, FRAILTY, 0))
        start, end = agent.history_start[self.u : self.u + 2]
        self.log = [int(i) for i in agent.history_item[start:end]]
        marks = agent.history_feedback[start:end]
        self.history = [(i, float(f), None) for i, f in zip(self.log, marks, strict=True)]
        self.taken = set(self.log)
        self.offer()

    def offer(self):
        key, found, draw = child(self.episode_key, self.step), [], 0
        start = below(key, CANDIDATE, -1, self.w.num_items)
        limit = 4 * self.c + 64
        while len(found) < self.c and draw < limit + self.w.num_items:
            pair = bits(key, CANDIDATE, draw >> 1)
            drawn = ((pair >> 32 if draw % 2 == 0 else pair & 0xFFFFFFFF) * self.w.num_items) >> 32
            item = drawn if draw < limit else (start + draw) % self.w.num_items
            draw += 1
            if item not in found and item not in self.taken:
                found.append(item)
        self.candidates = found + [self.w.num_items] * (self.c - len(found))

    def agent_logit(self, i):
        r = self.w.agent.response
        fr = r.rating_width
        logit = (
            r.user_attraction_bias[0, self.u] + self.agent_shift + self.share * r.item_attraction_bias[0, i]
        )
        return logit + self.y[fr:] @ r.item[0, i, fr:]

    def agent_eta(self, i):
        r = self.w.agent.response
        fr = r.rating_width
        return r.user_rating_bias[0, self.u] + r.item_rating_bias[0, i] + self.y[:fr] @ r.item[0, i, :fr]

    def show(self, positions):
        t, d, m, u = self.w.truth, self.d, self.m, self.u
        fr, key, slate = t.rating_width, child(self.episode_key, self.step), []
        for position in positions:
            item = self.candidates[position] if 0 <= position < self.c else self.w.num_items
            slate.append(None if item == self.w.num_items or item in slate else item)
        dull = {
            i: 1 - math.exp(-max(0.0, self.w.boredom_vector[i] @ self.s) / d.boredom_scale)
            for i in slate
            if i is not None
        }
        logit = {}
        for i in dull:
            logit[i] = (
                t.user_attraction_bias[m, u] + self.shift[m] + self.share * t.item_attraction_bias[m, i]
            )
            logit[i] += self.z[fr:] @ t.item[m, i, fr:] - d.boredom * dull[i]
        clicked = self.clicks(slate, logit, key)
        ratings = {i: self.rate(i, dull[i], key) for i in clicked} if self.rated else {}
        self.s *= d.boredom_memory
        liked = reward = 0.0
        for i in clicked:
            mark = (ratings[i] - self.middle) / self.half if self.rated else 1.0
            reward += self.weights[0] + self.weights[1] * mark
            liked += (mark + 1) / 2
        for i in clicked:
            self.take(i, ratings.get(i, 0.0))
        self.z += d.taste_return * (self.z0 - self.z)
        self.content += d.satisfaction_rate * (1 - math.exp(-liked) - self.content)
        mean_dull = sum(dull.values()) / len(dull) if dull else 0.0
        hazard = d.leave_base + d.leave_dissatisfaction * (1 - self.content) + d.leave_boredom * mean_dull
        hazard += d.leave_step * self.step + self.frailty
        gone = d.leaving and uniform(key, LEAVE, 0) < sigmoid(hazard)
        self.step += 1
        self.offer()
        shift = np.linalg.norm(self.z - self.z0) / np.linalg.norm(self.z0)
        items = [self.w.num_items if i is None else i for i in slate]
        return {
            "item": items,
            "click": [int(i in clicked) for i in slate],
            "rating": [ratings.get(i, 0.0) for i in slate],
            "reward": reward,
            "satisfaction": self.content,
            "boredom": mean_dull,
            "taste_shift": shift,
            "terminated": gone,
            "truncated": not gone and self.step >= self.t,
            "invalid": sum(i is None for i in slate),
        }

    def clicks(self, slate, logit, key):
        d, notice, clicked = self.d, 1.0, []
        if d.examination == "choice":
            odds = d.base_click_rate / (1 - d.base_click_rate)
            values = {
                None: math.log(d.no_click_weight * odds) - math.log(-math.log(uniform(key, NO_CLICK, 0)))
            }
            for k, i in enumerate(slate):
                if i is not None:
                    noise = -math.log(-math.log(1 - uniform(key, CLICK, i)))
                    values[i] = logit[i] + k * math.log(d.examination_decay) + noise
            best = max(values, key=lambda i: values[i])
            return [] if best is None else [best]
        for i in slate:
            if i is not None and uniform(key, CLICK, i) < notice * sigmoid(logit[i]):
                clicked.append(i)
                if d.examination == "cascade":
                    break
            notice *= d.examination_decay
        return clicked

    def rate(self, i, dull, key):
        t, m, u, rho = self.w.truth, self.m, self.u, self.d.click_rating_correlation or 0.0
        fr = t.rating_width
        eta = t.user_rating_bias[m, u] + t.item_rating_bias[m, i] + self.z[:fr] @ t.item[m, i, :fr]
        eta -= self.d.boredom_rating * dull
        error = ndtri(uniform(key, RATING, i))
        error = math.sqrt(1 - rho**2) * error - rho * ndtri(uniform(key, CLICK, i))
        if self.w.scale.kind == "continuous":
            return float(np.clip(eta + t.user_sigma[m, u] * error, self.w.scale.low, self.w.scale.high))
        latent = t.user_scale[m, u] * eta - t.user_shift[m, u] + error
        return self.w.scale.levels[int((latent > t.thresholds[m]).sum())]

    def take(self, i, rating):
        t, d, m = self.w.truth, self.d, self.m
        fr = t.rating_width
        self.s += self.w.boredom_vector[i]
        surprise = np.clip((rating - t.user_rating_bias[m, self.u]) / self.half, -1, 1) if self.rated else 1.0
        if d.taste_rate > 0:
            for block in (slice(0, fr), slice(fr, None)):
                q, own = t.item[m, i, block].astype(float), np.linalg.norm(self.z0[block])
                goal = np.sign(surprise) * own * q / np.linalg.norm(q)
                self.z[block] += d.taste_rate * abs(surprise) * (goal - self.z[block])
        self.history.append((i, (rating - self.middle) / self.half if self.rated else 1.0, self.step))
        self.taken.add(i)
        agent, gr = self.w.agent.response.item[0, i].astype(float), self.w.agent.response.rating_width
        miss = 1 - sigmoid(self.agent_logit(i))
        error = rating - self.agent_eta(i)
        self.y[gr:] += 0.1 * miss * agent[gr:] / (1 + agent[gr:] @ agent[gr:])
        if self.rated:
            self.y[:gr] += 0.1 * error * agent[:gr] / (1 + agent[:gr] @ agent[:gr])


DYNAMICS = hyp.builds(
    DynamicsSettings,
    examination=hyp.sampled_from(["position", "cascade", "choice"]),
    examination_decay=hyp.floats(0.3, 1.0),
    base_click_rate=hyp.floats(0.05, 0.6),
    boredom=hyp.floats(0, 6),
    boredom_rating=hyp.floats(0, 2),
    boredom_memory=hyp.floats(0, 0.99),
    boredom_scale=hyp.floats(0.1, 4),
    taste_rate=hyp.sampled_from([0.0, 0.05, 0.5]),
    taste_return=hyp.floats(0, 0.3),
    satisfaction_rate=hyp.floats(0, 1),
    leave_step=hyp.floats(0, 0.3),
    frailty=hyp.floats(0, 2),
    leaving=hyp.booleans(),
    click_rating_correlation=hyp.floats(-0.8, 0.8),
    popularity_share=hyp.floats(0, 1),
)


# Widths that are and that are no multiple of the lanes; catalogues for which the filter of consumed items is exact or not.
SHAPES = hyp.sampled_from([(60, 8, 4), (60, 13, 5), (2_500, 64, 16)])


@settings(max_examples=18, deadline=None, derandomize=True)
@given(
    dynamics=DYNAMICS,
    seed=hyp.integers(0, 2**62),
    scale=hyp.sampled_from(sorted(SCALES)),
    slate=hyp.integers(1, 11),
    shape=SHAPES,
)
def test_compiled_step_agrees_with_the_plain_form(dynamics, seed, scale, slate, shape):
    items, width, factors = shape
    world = bundled_world(
        30, items, width=width, factors=factors, seed=seed % 7, scale=SCALES[scale], dynamics=dynamics
    )
    env = RecVectorEnv(
        3, world=world, observation="ids", num_candidates=25, slate_size=slate, horizon=6, history_length=5
    )
    observation, _ = env.reset(seed=seed)
    plain = [
        ReferenceUser(
            world, seed, n, slate=slate, candidates=25, horizon=6, history=5, users=world.users("train")
        )
        for n in range(3)
    ]
    episodes = [0, 0, 0]
    for user in plain:
        user.begin(0)
    rng = np.random.default_rng(seed)
    for _ in range(14):
        check_observation(observation, plain, env)
        action = rng.integers(-1, 27, (3, slate))
        observation, reward, terminated, truncated, info = env.step(action)
        for n, user in enumerate(plain):
            expected = user.show(action[n])
            over = info["final_info"] if terminated[n] or truncated[n] else info
            for name in ("item", "click", "invalid"):
                np.testing.assert_array_equal(over[name][n], expected[name], err_msg=name)
            for name in ("rating", "satisfaction", "boredom", "taste_shift"):
                np.testing.assert_allclose(over[name][n], expected[name], rtol=2e-4, atol=2e-4, err_msg=name)
            assert (terminated[n], truncated[n]) == (expected["terminated"], expected["truncated"])
            assert reward[n] == pytest.approx(expected["reward"], abs=1e-5)
            if terminated[n] or truncated[n]:
                episodes[n] += 1
                user.begin(episodes[n])


def check_observation(observation, plain, env):
    for n, user in enumerate(plain):
        np.testing.assert_array_equal(observation["candidates"][n], user.candidates)
        shown = [i for i in user.candidates if i < env.world.num_items]
        np.testing.assert_allclose(
            observation["candidate_score"][n][: len(shown)],
            [user.agent_logit(i) for i in shown],
            rtol=1e-3,
            atol=1e-3,
        )
        recent = user.history[-5:]
        np.testing.assert_array_equal(observation["history"][n][-len(recent) :], [row[0] for row in recent])
        ages = [1.0 if row[2] is None else (user.step - row[2]) / user.t for row in recent]
        np.testing.assert_allclose(observation["history_age"][n][-len(recent) :], ages, atol=1e-6)
        marks = [row[1] for row in recent]
        np.testing.assert_allclose(observation["history_feedback"][n][-len(recent) :], marks, atol=1e-5)
