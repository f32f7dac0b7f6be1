"""`UserSimulator`: N simulated users side by side, as arrays and one compiled step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from recworld.errors import InputError
from recworld.progress import announced
from recworld.simulators import compiled, prepare
from recworld.simulators import random as rnd
from recworld.simulators import state as st
from recworld.simulators.state import Array, Happened, Layout, Restarted, Seen, aligned_zeros
from recworld.simulators.tables import ResponseTables
from recworld.simulators.world import World


@dataclass(frozen=True)
class Machine:
    """The addresses that compiled code is given, and the arrays that must live as long as they are used."""

    arrays: tuple[Array, ...]
    addresses: Array


def widths(tables: ResponseTables) -> tuple[int, int]:
    """Return the widths of the rating and of the attraction factors."""
    return tables.rating_width, tables.taste.shape[2] - tables.rating_width


class UserSimulator:
    """N users who are shown slates of K items.

    For a slate with items i at positions k, letters v_i for centred unit text vectors:

    1. boredom           b_i = 1 - exp(-max(0, <v_i, s>) / s0)
    2. attraction        a_i = a_u + share * pop_i + <z, d_i> - beta b_i
    3. click             with probability e_k sigmoid(a_i), e_k = decay^k; `cascade` stops after the first click;
                         `choice` takes at most one item, multinomial in e_k exp(a_i) and a no-click option
    4. rating            ordinal (or normal) from eta = mu + b_u + b_i + <z, q_i> - beta_r b_i, clicked items only
    5. boredom memory    s <- gamma s + sum of clicked v_i
    6. taste             z <- z + alpha g (|p_u| q^_i - z), g = (r - b_u) / half range, away along -q^_i where g < 0
                         (|z| never exceeds |p_u|); then z <- z + kappa (p_u - z)
    7. satisfaction      <- satisfaction + rate ((1 - exp(-sum of liking)) - satisfaction), liking in [0, 1] per click
    8. leaving           with probability sigmoid(base + w (1 - satisfaction) + w_b mean b + w_t step + frailty)

    Leaving is termination; reaching the horizon T is truncation. Both may not be true together.

    Args:
        world: the world; each episode draws one of its truth's members.
        num_users: N.
        slate_size: K.
        num_candidates: C.
        horizon: T, slates in an episode at most.
        history_length: H.
        candidates: "random", "popular", "all" or "retrieved".
        users: numbers of the users that episodes may draw.
        repeats: whether consumed items may be offered again.
        weights: reward of a click and of a normalised rating.
        score_by_reward: let the recommender's estimate be the expected reward instead of the click logit.
        fold_in: step size of the recommender's estimate within an episode.
        threads: that share the rows of a step; the results are the same.
    """

    is_compiled = False
    """Whether this process has begun an episode, and so has waited for the compiler, or for its work on disk."""

    def __init__(
        self,
        world: World,
        num_users: int,
        *,
        slate_size: int,
        num_candidates: int,
        horizon: int,
        history_length: int,
        candidates: str,
        users: Array,
        repeats: bool = False,
        weights: tuple[float, float] = (1.0, 0.0),
        score_by_reward: bool = False,
        fold_in: float = 0.1,
        threads: int = 1,
    ) -> None:
        self.world, self.num_users = world, num_users
        self.layout = Layout(
            factors=widths(world.truth),
            agent_factors=widths(world.agent.response),
            vector=world.vector_width,
            history=history_length,
            candidates=num_candidates,
            slate=slate_size,
            horizon=horizon,
        )
        self._p = prepare.prepare_parameters(world, weights, fold_in)
        self._q = prepare.prepare_switches(
            world,
            self.layout,
            pool=len(users),
            candidates=candidates,
            repeats=repeats,
            score_rating=score_by_reward,
        )
        self._x, self._w, self._in_place = prepare.prepare_tables(world, users).pack(self._q, self.layout)
        self._floats = aligned_zeros(num_users * self.layout.float_width, np.float32)
        self._ints = aligned_zeros(num_users * self.layout.int_width, np.int32)
        self._keys = np.zeros((num_users, 3), np.uint64)
        self.int_rows[:, st.PINNED] = -1
        self._machine = self._new_machine()
        # Threads share all but scratch space: a row is read and written by the thread alone that has it.
        self._others = [self._new_machine() for _ in range(min(threads, num_users) - 1)]
        self._pool: ThreadPoolExecutor | None = None
        h, c, k = history_length, num_candidates, slate_size
        widths_ = (
            1 + h + c,
            1 + 2 * h + c + self.layout.agent,
            c,
            st.R_INT_HEAD + 3 * k,
            st.R_FLOAT_HEAD + k,
        )
        self._shapes = [(num_users, width) for width in widths_]
        ints, floats, mask = (np.empty((0, 0), kind) for kind in (np.int32, np.float32, np.int8))
        self._nothing = Restarted(Seen(ints, floats, mask), Happened(ints, floats))

    def _new_machine(self) -> Machine:
        """Return what compiled code is told of this simulator, with scratch space of its own."""
        ints, floats, doubles = self.layout.scratch
        arrays = (
            self._x, self._w, self._floats, self._ints, self._keys, self._p, self._q,
            aligned_zeros(ints, np.int32), aligned_zeros(floats, np.float32), aligned_zeros(2 * doubles, np.float32),
        )  # fmt: skip
        return Machine(arrays, np.asarray([array.ctypes.data for array in arrays], np.int64))

    @property
    def float_rows(self) -> Array:
        """The float state, columns as in `state`. Shape (N, Wf), float32, a view."""
        return self._floats.reshape(self.num_users, -1)

    @property
    def int_rows(self) -> Array:
        """The integer state, columns as in `state`. Shape (N, Wi), int32, a view."""
        return self._ints.reshape(self.num_users, -1)

    def seed(self, seed: int, streams: Array) -> None:
        """Set the seed and the stream number of each row, shape (N,)."""
        self._keys[:, 0] = streams.astype(np.uint64)
        word = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        for n in range(self.num_users):
            self._keys[n, 1] = rnd.stream_key(word, self._keys[n, 0])

    def pin(self, users: Array | None) -> None:
        """Let row n always be user `users[n]` (or, with None, a user drawn for each episode)."""
        self.int_rows[:, st.PINNED] = -1 if users is None else users

    def set_episode(self, rows: Array, episode: int | None) -> None:
        """Set the episode number of rows, or move on by one with None."""
        if episode is None:
            self.int_rows[rows, st.EPISODE] += 1
        else:
            self.int_rows[rows, st.EPISODE] = episode

    def begin(self, rows: Array, seen: Seen) -> None:
        """Start the episodes of the given rows (int64) and write their first observations into `seen`."""
        if UserSimulator.is_compiled:
            compiled.begin_rows(self._machine.addresses, rows, *seen)
            return
        with announced(
            "Compiling the users' step: some ten seconds, once on a machine; later processes find it on disk"
        ):
            compiled.begin_rows(self._machine.addresses, rows, *seen)
        UserSimulator.is_compiled = True

    def observe(self) -> Seen:
        """Return fresh observations of all rows as they stand."""
        seen = self.new_seen()
        compiled.observe_rows(self._machine.addresses, *seen)
        return seen

    def step(self, action: Array, restart: bool = False) -> tuple[Seen, Happened, Restarted, int]:
        """Show slates of candidate positions, (N, K) int64; rows that are over stay idle.

        Args:
            action: positions in the candidate lists.
            restart: let a row whose episode ends start its next one at once.

        Returns:
            observations, what happened, and what is to be said of rows that were restarted (empty arrays without
            `restart`), all fresh; and the number of rows whose episode ended now.
        """
        seen, happened = self.new_seen(), self._new_happened()
        again = self._nothing
        if restart:
            last = Seen(*(np.zeros(array.shape, array.dtype) for array in seen))
            again = Restarted(last, self._new_happened())
        # Compiled code goes through an action by its address.
        arrays = (np.ascontiguousarray(action), *seen, *happened, restart, *again.last, *again.after)
        if not self._others:
            ended = compiled.step_rows(self._machine.addresses, *arrays, 0, self.num_users)
            return seen, happened, again, ended
        if self._pool is None:
            self._pool = ThreadPoolExecutor(len(self._others))
        bounds = [self.num_users * part // (len(self._others) + 1) for part in range(len(self._others) + 2)]
        waiting = [
            self._pool.submit(compiled.step_rows, machine.addresses, *arrays, bounds[part], bounds[part + 1])
            for part, machine in enumerate(self._others)
        ]
        ended = compiled.step_rows(self._machine.addresses, *arrays, bounds[-2], bounds[-1])
        return seen, happened, again, ended + sum(one.result() for one in waiting)

    def answered(self, action: Array, click: Array, rating: Array, gone: Array) -> tuple[Seen, Happened]:
        """Show slates to users who answer elsewhere (another truth, a log), and take their answers over.

        What the recommender knows (history, consumed items, its estimate) moves on as in `step`; what a simulated user
        feels does not matter and is not moved. Rows that are over stay idle.

        Args:
            action: (N, K) int64 positions in the candidate lists.
            click: (N, K) bool; clicks on empty slots do not count.
            rating: (N, K) float32, read where clicked.
            gone: (N,) bool, whether the user left after this slate.

        Returns:
            the next observations, and what happened.
        """
        seen, happened = self.new_seen(), self._new_happened()
        given = (
            np.ascontiguousarray(action),
            np.ascontiguousarray(click, np.int8),
            np.ascontiguousarray(rating, np.float32),
            gone,
        )
        compiled.answered_rows(self._machine.addresses, *given, *seen, *happened)
        return seen, happened

    def new_seen(self) -> Seen:
        """Return fresh, unfilled observation arrays."""
        ints, floats, mask = self._shapes[:3]
        return Seen(np.empty(ints, np.int32), np.empty(floats, np.float32), np.empty(mask, np.int8))

    def _new_happened(self) -> Happened:
        return Happened(np.empty(self._shapes[3], np.int32), np.empty(self._shapes[4], np.float32))

    def true_scores(self) -> Array:
        """Return the true expected immediate reward of each candidate in the first position. Shape (N, C), float32."""
        out = np.empty((self.num_users, self.layout.candidates), np.float32)
        compiled.true_rows(self._machine.addresses, out)
        return out

    @property
    def user(self) -> Array:
        """User number of each row. Shape (N,), int32, a copy."""
        return self.int_rows[:, st.USER].copy()

    @property
    def done(self) -> Array:
        """Whether each row's episode is over. Shape (N,), bool, a copy."""
        return np.asarray(self.int_rows[:, st.DONE] == 1)

    @property
    def taste(self) -> Array:
        """Current taste z. Shape (N, F), float32, a copy."""
        return self.float_rows[:, self.layout.taste_columns]

    @property
    def memory(self) -> Array:
        """Boredom memory s. Shape (N, D), float32, a copy."""
        return self.float_rows[:, self.layout.memory_at : self.layout.memory_at + self.layout.vector].copy()

    def state(self) -> dict[str, Array]:
        """Return a copy of all that changes: floats (N, Wf) float32, ints (N, Wi) int32, keys (N, 3) uint64."""
        return {"floats": self.float_rows.copy(), "ints": self.int_rows.copy(), "keys": self._keys.copy()}

    def restore(self, state: dict[str, Array]) -> None:
        """Take a state that `state` gave; the simulation goes on bit for bit.

        Raises:
            InputError: an array is missing or does not fit this simulator.
        """
        own = {"floats": self.float_rows, "ints": self.int_rows, "keys": self._keys}
        for name, array in own.items():
            given = state.get(name)
            if given is None or given.shape != array.shape or given.dtype != array.dtype:
                got = "nothing" if given is None else f"{given.dtype} {given.shape}"
                raise InputError(
                    f"The state's {name!r} must be {array.dtype} {array.shape}. Got {got} instead."
                )
        self._check_rows(state["ints"], state["floats"])
        for name, array in own.items():
            array[:] = state[name]

    def _check_rows(self, ints: Array, floats: Array) -> None:
        """Check what compiled code relies on: it looks up what the rows name without asking again."""
        lay, world = self.layout, self.world
        limits = {
            "user": (ints[:, st.USER], 0, world.num_users - 1),
            "member": (ints[:, st.MEMBER], 0, world.truth.num_members - 1),
            "step": (ints[:, st.STEP], 0, lay.horizon),
            "pinned user": (ints[:, st.PINNED], -1, world.num_users - 1),
            "count of consumed items": (ints[:, st.CONSUMED], 0, lay.horizon * lay.slate),
            "history": (ints[:, st.INT_HEAD : st.INT_HEAD + lay.history], 0, world.num_items),
            "candidates": (ints[:, lay.candidates_at : lay.when_at], 0, world.num_items),
            "consumed items": (ints[:, lay.consumed_at : lay.filter_at], 0, world.num_items),
        }
        for name, (values, low, high) in limits.items():
            if values.size and not low <= values.min() <= values.max() <= high:
                raise InputError(
                    f"The state's {name} must lie in {low}..{high}. Got {values.min()}..{values.max()}."
                )
        if not np.isfinite(floats).all():
            raise InputError("The state's floats must be finite.")
