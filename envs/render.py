"""A step in words, for people who look over an agent's shoulder."""

from __future__ import annotations

from typing import Any

from recworld.simulators.world import World


def render_slate(world: World, info: dict[str, Any], n: int) -> str:
    """Return what was shown to user `n`, what they did, and how they feel, as a few lines of text."""
    user = int(info["user"][n])
    # Worlds read from a folder seldom have the texts of users.
    who = f" ({world.user_text[user]})" if world.user_text[user] else ""
    lines = [f"user {world.user_keys[user]}{who}"]
    for k, item in enumerate(info["item"][n]):
        if item == world.num_items:
            lines.append(f"  {k + 1}. (empty)")
            continue
        what = world.item_text[item] or f"item {world.item_keys[item]}"
        did = ""
        if info["click"][n, k]:
            did = f"  <- rated {info['rating'][n, k]:g}" if info["has_rating"][n, k] else "  <- clicked"
        lines.append(f"  {k + 1}. {what}{did}")
    mood = f"satisfaction {info['satisfaction'][n]:.2f}, boredom {info['boredom'][n]:.2f}"
    feeling = f"{mood}, taste moved {info['taste_shift'][n]:.2f}"
    return "\n".join([*lines, f"  {feeling}"])
