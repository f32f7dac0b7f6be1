"""One policy in one world at a time, each result kept as a folder: a long comparison goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recworld.agents.episodes import episode_env
from recworld.errors import CorruptError
from recworld.evaluation.comparing import REFERENCE, evaluate_policies
from recworld.evaluation.results import EvaluationResult, PolicyResult
from recworld.evaluation.stored import FORMAT, load_result, pool, save_result
from recworld.storage import content_hash

if TYPE_CHECKING:
    from recworld.evaluation.comparing import Policy
    from recworld.simulators.world import World


@dataclass(frozen=True)
class Measurer:
    """Measures policies in one world, or reads what was measured before.

    Attributes:
        folder: of the results; each is called by a hash of all that it depends on.
        label: of the world, for tables.
        world: with the members that episodes draw from.
        env_options: arguments of `RecVectorEnv`.
        users: "train", "validation" or "test".
        episodes: whole episodes of each user.
        seed: of the episodes.
    """

    folder: Path
    label: str
    world: World
    env_options: Mapping[str, Any]
    users: str
    episodes: int
    seed: int

    def path(self, identity: str) -> Path:
        """Return where the result of a policy is kept.

        Args:
            identity: what tells the policy from every other one (of a trained agent: sums of its files).
        """
        return self.folder / content_hash("measured", self._how, identity)

    @cached_property
    def _how(self) -> str:
        env = episode_env(self.world, self.env_options, users=self.users, num_users=1)
        text = json.dumps({**env.settings, "members": None}, sort_keys=True)
        return f"{FORMAT} {self.users} {self.episodes} {self.seed} {self.world.fingerprint} {text}"

    def known(self, identity: str) -> tuple[PolicyResult, dict[str, Any]] | None:
        """Return what was measured before, with its setting; None where there is nothing whole."""
        path = self.path(identity)
        try:
            return load_result(path) if path.is_dir() else None
        except CorruptError:
            return None

    def measure(self, name: str, identity: str, policy: Policy) -> tuple[PolicyResult, dict[str, Any]]:
        """Return the result of a policy, measured now if it was not before.

        Args:
            name: of the policy; its random numbers are drawn by it.
            identity: as in `path`.
            policy: as in `evaluate_policies`.
        """
        found = self.known(identity)
        if found is not None:
            return found
        result = evaluate_policies(
            {name: policy}, self.world, self.env_options,
            episodes_per_user=self.episodes, seeds=[self.seed], users=self.users, label=self.label,
        )  # fmt: skip
        save_result(result.policies[name], result.setting, self.path(identity))
        return result.policies[name], result.setting

    def together(self, rows: Mapping[str, list[str]], reference: str = REFERENCE) -> EvaluationResult:
        """Return the rows of this world, from what was measured before.

        Args:
            rows: identities of the runs of each row, by name.
            reference: as in `evaluate_policies`.

        Raises:
            CorruptError: one was not measured.
        """
        policies, setting = {}, {}
        for name, identities in rows.items():
            found = [load_result(self.path(identity)) for identity in identities]
            policies[name], setting = pool(name, [result for result, _ in found]), found[0][1]
        return EvaluationResult(self.label, policies, reference if reference in policies else None, setting)
