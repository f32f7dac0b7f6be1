"""The environment with users from elsewhere: another truth answers, the recommender sees what it always sees.

Whether a simulated world can be trusted is asked by letting policies play in it and in a truth outside its family. For
that the two must differ in the users alone: `OutsideEnv` offers candidates, scores, history and masks exactly as
`RecVectorEnv` of the same world does, and asks somebody else (`People`) what happens to a slate.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from recworld.envs.vector import RecVectorEnv
from recworld.errors import InputError
from recworld.logs.foreign import DAY, ForeignTruth, ForeignUsers
from recworld.seeding import child_seed, generator
from recworld.simulators import state as st

Array = npt.NDArray[Any]
Observation = dict[str, Array]


class People(Protocol):
    """Users who answer slates, N side by side."""

    def start(self, user: npt.NDArray[np.int64], seed: int) -> None:
        """Begin a session of each of the (N,) users; the seed determines all that they do."""
        ...

    def answer(self, item: npt.NDArray[np.int64]) -> tuple[Array, Array, Array]:
        """Return (N, K) clicked, (N, K) ratings (read where clicked) and (N,) left, for (N, K) items; I is an empty slot.

        Called for all N at once, those who left included, so that policies meet the same luck; their answers are unread.
        """
        ...


class OutsideEnv(RecVectorEnv):
    """`RecVectorEnv` whose users are somebody else's: same spaces, candidates, agent-side scores, masks, reward and info.

    Candidates are drawn by seed, stream, episode and step as in `RecVectorEnv`, so a policy meets the same choices in both.
    An episode terminates when the user leaves, and is truncated at the horizon. Of the info, satisfaction, boredom and
    taste shift tell nothing: nobody knows what these users feel.

    Args:
        num_envs: N.
        people: the users.
        arguments: as `RecVectorEnv` takes them; there is no autoreset.

    Raises:
        InputError: as in `RecVectorEnv`, or an autoreset is asked for.
    """

    def __init__(self, num_envs: int = 1, *, people: People, **arguments: Any) -> None:
        mode = AutoresetMode(arguments.pop("autoreset_mode", AutoresetMode.DISABLED))
        if mode is not AutoresetMode.DISABLED:
            raise InputError(
                f"OutsideEnv has no autoreset: autoreset_mode must be DISABLED. Got {mode.name}."
            )
        super().__init__(num_envs, autoreset_mode=mode, **arguments)
        self.people = people

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a session of every user; see `RecVectorEnv.reset`.

        Raises:
            InputError: a wrong option, or a ``reset_mask``: these users start together.
        """
        if (options or {}).get("reset_mask") is not None:
            raise InputError("OutsideEnv starts all users together: it takes no reset_mask.")
        observation, info = super().reset(seed=seed, options=options)
        episode = self.simulator.int_rows[:, st.EPISODE]
        first = int((options or {}).get("stream", [0])[0]) if "stream" in (options or {}) else 0
        self.people.start(
            self.simulator.user.astype(np.int64),
            child_seed(self._seed or 0, "people", first, int(episode[0])),
        )
        return observation, info

    def step(self, actions: Array) -> tuple[Observation, Array, Array, Array, dict[str, Any]]:
        """Show each user a slate; see `RecVectorEnv.step`."""
        action = self.check_action(actions)
        click, rating, gone = self.people.answer(self.slate_items(action))
        seen, happened = self.simulator.answered(
            action,
            np.ascontiguousarray(click, np.bool_),
            np.ascontiguousarray(rating, np.float32),
            np.ascontiguousarray(gone, np.bool_),
        )
        info = self.views.info(happened)
        reward = (
            happened.floats[:, st.R_REWARD].astype(np.float64)
            if self._reward.function is None
            else self._custom_reward(info)
        )
        terminated, truncated = (happened.ints[:, at] == 1 for at in (st.R_TERMINATED, st.R_TRUNCATED))
        observation = self.views.observation(seen)
        if self.render_mode is not None:
            self._last = (observation, info)
        return observation, reward, terminated, truncated, info

    def slate_items(self, action: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the item numbers of (N, K) positions; I where masked, repeated or out of range."""
        inside = (action >= 0) & (action < self.num_candidates)
        item = np.take_along_axis(self.candidate_items(), np.where(inside, action, 0), axis=1).astype(
            np.int64
        )
        item[~inside] = self.world.num_items
        for place in range(1, item.shape[1]):
            repeated = (item[:, :place] == item[:, place : place + 1]).any(1)
            item[repeated, place] = self.world.num_items
        return item


class ForeignPeople:
    """Users of a `ForeignTruth`, each beginning a session, rested, within one day from `start_time`.

    Args:
        truth: the world that they live in.
        start_time: seconds; that of the log's last row, for users who come after it.
    """

    def __init__(self, truth: ForeignTruth, start_time: float) -> None:
        self.truth, self.start_time = truth, start_time
        self._users: ForeignUsers | None = None

    def start(self, user: npt.NDArray[np.int64], seed: int) -> None:
        """Begin a session of each of the (N,) users."""
        random = generator(seed, "foreign people")
        self._users = ForeignUsers(self.truth, user, random)
        self._users.time = self.start_time + DAY * random.random(len(user))

    def answer(self, item: npt.NDArray[np.int64]) -> tuple[Array, Array, Array]:
        """Return clicked (N, K), ratings (N, K) and who left (N,).

        Raises:
            InputError: before `start`.
        """
        if self._users is None:
            raise InputError("The users must start a session before they are shown anything.")
        before = self._users.session.copy()
        click, rating = self._users.step(np.arange(len(item)), item)
        return click, rating, self._users.session > before
