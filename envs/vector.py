"""`RecVectorEnv`: N simulated users side by side, as one Gymnasium vector environment."""

from __future__ import annotations

import json
from functools import cached_property, partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from recworld.envs import spaces
from recworld.envs.render import render_slate
from recworld.envs.rewards import RewardSpec, make_reward
from recworld.envs.settings import EnvSettings
from recworld.envs.tables import EnvTables
from recworld.envs.views import Views
from recworld.envs.worlds import resolve_world
from recworld.errors import InputError
from recworld.settings import validate
from recworld.simulators import state as st
from recworld.simulators.dynamics import DynamicsSettings
from recworld.simulators.index import IndexedSimulator
from recworld.simulators.state import Happened, Seen
from recworld.simulators.user import UserSimulator
from recworld.simulators.world import World
from recworld.storage import content_hash

Array = npt.NDArray[Any]
Observation = dict[str, Array]


class RecVectorEnv(VectorEnv[Observation, Array, Array]):
    """N simulated users who are shown slates of K items chosen from C candidates each.

    ## Action space
    Positions in the candidate list, `MultiDiscrete([C] * K)` per user, `Discrete(C)` for K = 1; batched (N, K) or (N,).
    A masked, repeated or out-of-range position leaves its slot empty and is counted in ``info["invalid"]``.

    ## Observation space
    A `Dict`, batched over N; I stands for padding.

    | key | ids form | features form | range | meaning |
    |---|---|---|---|---|
    | user | (1,) int32 | (D,) float32 | [0, U) or [-1, 1] | the user: number, or unit text vector |
    | history | (H,) int32 | (H, D) float32 | [0, I] or [-1, 1] | last consumed items, newest last |
    | history_feedback | (H,) float32 | same | [-1, 1] | normalised rating of each (1 on a click scale, 0 padding) |
    | history_age | (H,) float32 | same | [0, 1] | steps since / T; 1 for the log's items and padding |
    | candidates | (C,) int32 | (C, D) float32 | [0, I] or [-1, 1] | what may be shown |
    | candidate_score | (C,) float32 | same | [-50, 50] | the recommender's estimate: click logit, or expected reward |
    | action_mask | (C,) int8 | same | 0 or 1 | 1 = may be chosen |
    | step | (1,) float32 | same | [0, 1] | slates shown / T |
    | user_estimate | (G,) float32 | same | [-1000, 1000] | the recommender's factors of the user, as they stand |

    ## Rewards
    `click`: number of clicks. `rating`: sum over clicks of (r - mid) / (half range). Weights of both, or a function.

    ## Starting state
    A user of the split, their early log as history, no boredom, satisfaction as set.

    ## Episode end
    Termination when the user leaves, truncation after T slates; never both.

    ## Info
    Arrays with N rows, no NaN: item (K, I = empty slot), click (K), rating (K, 0 where none), has_rating (K), user,
    satisfaction, boredom, taste_shift, invalid. With `SAME_STEP`, ``final_obs`` and ``final_info`` hold the last
    observation and info of the rows marked in ``_final_obs``.

    ## Arguments
    As in `EnvSettings`, and:

    Args:
        num_envs: N.
        world: a `World`, the folder of one, or None for a small bundled synthetic world.
        dynamics: a preset's name, `DynamicsSettings` or their values by name; the world's own by default.
        users: "train", "validation", "test" or "all".
        members: numbers of the world's members to use; an episode draws one. All by default.
        seed: seed of the first `reset` when that is given none.
        autoreset_mode: SAME_STEP, or DISABLED (rows that are over stay idle until reset with a ``reset_mask``).
        render_mode: "ansi" or None.
        threads: that share the users of a step; worth it from some hundred users on, and the same bits with any number.
        num_candidates, slate_size, candidates, retrieval, observation, reward, horizon, history_length, repeats, fold_in:
            see `EnvSettings`.

    Raises:
        InputError: a setting is out of range or does not fit the world.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium declares it so)
        "render_modes": ["ansi"],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        world: World | str | None = None,
        dynamics: DynamicsSettings | dict[str, Any] | str | None = None,
        users: str = "train",
        members: list[int] | None = None,
        reward: RewardSpec = "click",
        seed: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        threads: int = 1,
        **settings: Any,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise InputError(f"num_envs must be a whole number of at least 1. Got {num_envs!r} instead.")
        if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1:
            raise InputError(f"threads must be a whole number of at least 1. Got {threads!r} instead.")
        if render_mode not in (None, "ansi"):
            raise InputError(f"render_mode must be 'ansi' or None. Got {render_mode!r} instead.")
        self._reward = make_reward(reward)
        self.env_settings = validate(EnvSettings, settings, "RecVectorEnv")
        self.world = resolve_world(world, dynamics, members)
        self._check_sizes()
        chosen, n = self.env_settings, int(num_envs)
        self.num_envs, self.render_mode = n, render_mode
        self.horizon, self.slate_size, self.history_length = (
            chosen.horizon,
            chosen.slate_size,
            chosen.history_length,
        )
        self.num_candidates = self.world.num_items if chosen.candidates == "all" else chosen.num_candidates
        self.observation_form, self.reward_kind, self.users = chosen.observation, self._reward.name, users
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            raise InputError("autoreset_mode must be SAME_STEP or DISABLED. Got NEXT_STEP instead.")
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        indexed = chosen.retrieval == "index"
        kind: Any = IndexedSimulator if indexed else partial(UserSimulator, candidates=chosen.candidates)
        self.simulator: UserSimulator = kind(
            self.world,
            n,
            slate_size=self.slate_size,
            num_candidates=self.num_candidates,
            horizon=self.horizon,
            history_length=self.history_length,
            users=self.world.users(users),
            repeats=chosen.repeats,
            weights=self._reward.weights,
            score_by_reward=not self._reward.by_click,
            fold_in=chosen.fold_in,
            threads=int(threads),
        )
        self.tables = EnvTables.of(self.world)
        self.views = Views(self.simulator.layout, self.tables, self.observation_form)
        self.single_observation_space = spaces.observation_space(self)
        self.single_action_space = spaces.action_space(self)
        self.observation_space = batch_space(self.single_observation_space, n)
        self.action_space = batch_space(self.single_action_space, n)
        self.members = members
        self._rows = np.arange(n)
        # Views of what changes, made once: with one user, making them costs as much as a step.
        ints, floats = self.simulator.int_rows, self.simulator.float_rows
        self._done, self._user, self._episode = ints[:, st.DONE], ints[:, st.USER], ints[:, st.EPISODE]
        self._satisfaction = floats[:, st.SATISFACTION]
        k = self.slate_size
        self._nothing = Happened(
            np.zeros((n, st.R_INT_HEAD + 3 * k), np.int32), np.zeros((n, st.R_FLOAT_HEAD + k), np.float32)
        )
        self._nothing.ints[:, st.R_INT_HEAD : st.R_INT_HEAD + k] = self.world.num_items
        self._seed: int | None = None
        self._first_seed = seed
        self._started = False
        self._last: tuple[Observation, dict[str, Any]] | None = None

    def _check_sizes(self) -> None:
        chosen, items = self.env_settings, self.world.num_items
        width = items if chosen.candidates == "all" else chosen.num_candidates
        if width > items:
            raise InputError(
                f"num_candidates must be at most the {items} items of the world. Got {width} instead."
            )
        if chosen.slate_size > width:
            raise InputError(
                f"slate_size must be at most num_candidates ({width}). Got {chosen.slate_size} instead."
            )
        if chosen.retrieval == "index" and chosen.candidates != "retrieved":
            raise InputError(
                f"retrieval 'index' is for candidates 'retrieved'. Got candidates {chosen.candidates!r} instead."
            )
        if chosen.retrieval == "index" and not self._reward.by_click:
            raise InputError(
                f"retrieval 'index' looks for clicks: it is for reward 'click'. Got {self._reward.name!r} instead."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that make this environment again, but for world and num_envs; JSON-ready."""
        return {
            **self.env_settings.model_dump(mode="json", exclude={"reward"}),
            "reward": dict(zip(("click", "rating"), self._reward.weights, strict=True))
            if self._reward.name.startswith("click ")
            else self._reward.name,
            "dynamics": self.world.dynamics.model_dump(mode="json"),
            "users": self.users,
            "members": self.members,
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode for every user.

        Args:
            seed: seed of all randomness; without one, the next episode of the same streams starts.
            options: ``stream`` (number or (N,) numbers, default 0..N-1), ``user`` ((N,) user numbers to pin, or None to
                let them be drawn), ``episode`` (number of the episode to start), ``reset_mask`` ((N,) bool: only these).

        Raises:
            InputError: an unknown option or a wrong value.
        """
        options = dict(options or {})
        spaces.check_options(options, self.num_envs, self.world.num_users)
        mask = options.get("reset_mask")
        rows = self._rows if mask is None else np.flatnonzero(mask)
        if mask is not None and not self._started:
            raise InputError("reset_mask needs an environment that was reset as a whole before.")
        fresh = seed is not None or self._seed is None
        if fresh:
            if mask is not None:
                raise InputError("seed and reset_mask cannot go together: a seed starts every stream anew.")
            first = (
                self._first_seed
                if self._first_seed is not None
                else int(np.random.SeedSequence().generate_state(1)[0])
            )
            self._seed = int(seed) if seed is not None else first
        if fresh or "stream" in options:
            streams = np.broadcast_to(np.asarray(options.get("stream", self._rows)), (self.num_envs,))
            self.simulator.seed(self._seed or 0, streams)
            fresh = True
        if "user" in options:
            self.simulator.pin(options["user"])
        elif seed is not None:
            self.simulator.pin(None)
        if "episode" in options:
            self.simulator.set_episode(rows, int(options["episode"]))
        else:
            self.simulator.set_episode(rows, 0 if fresh else None)
        seen = self.simulator.new_seen() if mask is None else self.simulator.observe()
        self.simulator.begin(rows, seen)
        self._started = True
        observation = self.views.observation(seen)
        info = self.views.info(self._at_start())
        self._last = (observation, info)
        return observation, info

    def next_episode(self) -> tuple[Seen, Happened] | None:
        """Start the next episode of all streams, as `reset` without arguments does; None where there was no first one."""
        if not self._started or self.render_mode is not None:
            return None
        self._episode += 1
        seen = self.simulator.new_seen()
        self.simulator.begin(self._rows, seen)
        return seen, self._at_start()

    def step(self, actions: Array) -> tuple[Observation, Array, Array, Array, dict[str, Any]]:
        """Show each user a slate.

        Args:
            actions: positions in the candidate list, (N, K), or (N,) for K = 1; whole numbers.

        Returns:
            observation, reward (N,) float64, terminated (N,) bool, truncated (N,) bool, info.

        Raises:
            InputError: before the first reset, actions of a wrong shape or dtype, or (DISABLED) every user's episode
                is over.
        """
        action = self.check_action(actions)
        again = self.autoreset_mode is AutoresetMode.SAME_STEP
        seen, happened, restarted, ended = self.simulator.step(action, again)
        info = self.views.info(happened)
        terminated = happened.ints[:, st.R_TERMINATED] == 1
        truncated = happened.ints[:, st.R_TRUNCATED] == 1
        own = self.is_compiled_reward
        reward = happened.floats[:, st.R_REWARD].astype(np.float64) if own else self._custom_reward(info)
        observation = self.views.observation(seen)
        if ended and again:
            over = terminated | truncated
            final = {
                "final_obs": self.views.observation(restarted.last, np.flatnonzero(over)),
                "_final_obs": over,
                "final_info": info,
                "_final_info": over,
            }
            info = self.views.info(restarted.after) | final
        if self.render_mode is not None:
            self._last = (observation, info)
        return observation, reward, terminated, truncated, info

    @property
    def is_compiled_reward(self) -> bool:
        """Whether the reward is worked out in the step itself, and not by a function of the user's."""
        return self._reward.function is None

    def _at_start(self) -> Happened:
        """Return what is said of users to whom nothing was shown yet."""
        ints, floats = self._nothing.ints.copy(), self._nothing.floats.copy()
        ints[:, st.R_USER], floats[:, st.R_SATISFACTION] = self._user, self._satisfaction
        return Happened(ints, floats)

    def check_action(self, actions: Array) -> Array:
        """Return actions as (N, K) int64.

        Raises:
            InputError: as `step` says.
        """
        if not self._started:
            raise InputError("Call reset before step.")
        array = np.asarray(actions)
        n, k = self.num_envs, self.slate_size
        if array.dtype.kind not in "iu":
            raise InputError(
                f"Actions must be whole numbers (positions in the candidate list). Got dtype {array.dtype} instead."
            )
        if array.shape == (n,) and k == 1:
            array = array.reshape(n, 1)
        if array.shape != (n, k):
            raise InputError(
                f"Actions must have shape (num_envs, slate_size) = ({n}, {k}). Got {array.shape} instead."
            )
        if self.autoreset_mode is AutoresetMode.DISABLED and self._done[0] and self._done.all():
            raise InputError("Every user's episode is over: call reset before the next step.")
        return np.ascontiguousarray(array, np.int64)

    def _custom_reward(self, info: dict[str, Any]) -> Array:
        function = self._reward.function
        try:
            given = None if function is None else function(info)
            reward = np.array(given, np.float64)
        except Exception as error:
            raise InputError(
                f"The reward function {self._reward.name!r} failed: {type(error).__name__}: {error}."
            ) from error
        if reward.shape != (self.num_envs,) or not np.isfinite(reward).all():
            raise InputError(
                f"The reward function {self._reward.name!r} must return ({self.num_envs},) finite numbers. Got {given!r}."
            )
        return reward

    def true_scores(self) -> Array:
        """Return the true expected immediate reward of each candidate in the first position: for upper lines only.

        Shape (N, C), float32; 0 where masked.
        """
        return self.simulator.true_scores()

    def candidate_items(self) -> Array:
        """Return the item numbers of the candidates on offer. Shape (N, C), int32; I where masked."""
        at = self.simulator.layout.candidates_at
        return self.simulator.int_rows[:, at : at + self.num_candidates].copy()

    def state(self) -> dict[str, Array]:
        """Return a copy of everything that changes, as named arrays (see `UserSimulator.state`), and the seed."""
        seed = np.asarray([self._seed or 0], np.int64)
        return {**self.simulator.state(), "seed": seed, "fingerprint": self._fingerprint}

    @cached_property
    def _fingerprint(self) -> Array:
        """Hash of the world and of the arguments: a state belongs to these alone. Shape (32,), uint8."""
        text = content_hash(self.world.fingerprint, json.dumps(self.settings, sort_keys=True))
        return np.frombuffer(text.encode(), np.uint8).copy()

    def restore(self, state: dict[str, Array]) -> Observation:
        """Take a state that `state` gave and return the observation it stands at; all goes on bit for bit.

        Raises:
            InputError: the state does not fit this environment.
        """
        if not isinstance(state, dict) or not {"seed", "fingerprint"} <= set(state):
            raise InputError("The state must be what state() of an environment gave.")
        if not np.array_equal(state["fingerprint"], self._fingerprint):
            raise InputError("The state is of an environment with another world or other arguments.")
        self.simulator.restore(state)
        self._seed = int(state["seed"][0])
        self._started = True
        return self.views.observation(self.simulator.observe())

    def render(self) -> tuple[str, ...] | None:
        """Return, for each user, the last slate in words, what the user did and how they feel ("ansi" only)."""
        if self.render_mode is None:
            gym.logger.warn("render() needs render_mode='ansi', given when the environment is made.")
            return None
        if self._last is None:
            raise InputError("Call reset before render.")
        info = self._last[1].get("final_info", self._last[1])
        return tuple(render_slate(self.world, info, n) for n in range(self.num_envs))
