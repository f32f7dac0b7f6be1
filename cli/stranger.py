"""A user known by a text only: what the world's tables say about people who are described alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from recworld.logs.log import FloatArray
from recworld.simulators.tables import AgentTables, ResponseTables
from recworld.simulators.world import World

USER_TABLES = ("taste", "user_rating_bias", "user_attraction_bias", "user_shift", "user_scale", "user_sigma")


def with_stranger(world: World, vector: FloatArray, text: str) -> World:
    """Return the world with one more user, number U, who has the given text and no history.

    The user's rows of the response tables are a ridge regression of the other users' rows on their text
    vectors, so a text that tells nothing gives the average user.

    Args:
        world: a world of U users.
        vector: (D,) text vector of the new user.
        text: the text.
    """
    agent = world.agent
    return replace(
        world,
        truth=_extended(world.truth, world.user_vector, vector),
        agent=AgentTables(
            response=_extended(agent.response, world.user_vector, vector),
            popularity=agent.popularity,
            history_start=np.append(agent.history_start, agent.history_start[-1:]),
            history_item=agent.history_item,
            history_feedback=agent.history_feedback,
        ),
        user_vector=np.concatenate([world.user_vector, vector[None]]).astype(np.float32),
        user_keys=(*world.user_keys, "new"),
        user_text=(*world.user_text, text),
    )


def _extended(tables: ResponseTables, known: FloatArray, vector: FloatArray) -> ResponseTables:
    from recworld.evaluation.text_route import ridge

    arrays: dict[str, Any] = tables.arrays()
    for name in USER_TABLES:
        rows = arrays[name] if arrays[name].ndim == 3 else arrays[name][:, :, None]  # (M, U, width)
        if rows.shape[2] == 0:
            new = rows[:, :1]
        else:
            columns = np.moveaxis(rows, 1, 0).reshape(rows.shape[1], -1)  # (U, M * width)
            slope, level = ridge(known, columns.astype(np.float64))
            new = np.asarray(vector @ slope + level, np.float32).reshape(len(rows), 1, -1)
        if name in ("user_scale", "user_sigma"):
            new = np.clip(new, rows.min(), rows.max())
        whole = np.concatenate([rows, new], axis=1).astype(np.float32)
        arrays[name] = whole if arrays[name].ndim == 3 else whole[:, :, 0]
    return ResponseTables(**arrays, rating_width=tables.rating_width)
