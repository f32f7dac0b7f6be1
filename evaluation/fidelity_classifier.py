"""A classifier that is asked which rows are simulated: chance (0.5) is what a world cannot be told apart by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import GroupKFold

from recworld.evaluation.fidelity_lines import Line, Tolerance, judge, line_of, unknown
from recworld.evaluation.fidelity_sessions import SessionPairs
from recworld.evaluation.resampling import Measured, auc_of, compact, measure
from recworld.logs.log import InteractionLog
from recworld.seeding import child_seed, generator
from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RatedPairs = tuple[Ints, Ints, Floats, Floats]
"""User, item, real and simulated rating of each of n pairs."""

GROUP = "classifier"
FOLDS = 5
TREES = 60
MOST = 12_000
"""Real rows at most, and as many simulated ones."""
FEWEST_USERS = 20
FEWEST_ROWS = 100
CAVEAT = (
    "Take it with care: such an AUC says whether a difference exists, not whether it matters; it correlates only .09 with "
    "whether a simulator ranks systems rightly."
)
"""Published finding; click depth and Frechet distance correlate about .4 with the same."""


def classifier_lines(
    log: InteractionLog, world: World, ratings: RatedPairs | None, pairs: SessionPairs | None, seed: int
) -> list[Line]:  # fmt: skip
    """Return the lines.

    Args:
        log: the part that was fitted to; means and counts come from it.
        world: its item vectors are features.
        ratings: user, item, real and simulated rating of held-out pairs; None where there are none.
        pairs: real and simulated sessions; None where there are none.
        seed: of folds and classifier.
    """
    return [
        _ratings(log, world, ratings, child_seed(seed, "rows")),
        _sessions(world, pairs, child_seed(seed, "sessions")),
    ]


def _ratings(log: InteractionLog, world: World, ratings: RatedPairs | None, seed: int) -> Line:
    name, title = "ratings", "Single ratings"
    if ratings is None:
        return unknown(GROUP, name, title, "no ratings were replayed")
    user, item, real, drawn = ratings
    chosen = generator(seed, "rows").permutation(len(user))[:MOST]
    user, item, real, drawn = user[chosen], item[chosen], real[chosen], drawn[chosen]
    about = np.concatenate(
        [
            _components(world)[item],
            _mean_and_count(log, item, log.item, log.num_items),
            _mean_and_count(log, user, log.user, log.num_users),
        ],
        axis=1,
    )

    def features(rating: Floats) -> Floats:
        return np.concatenate([rating[:, None], about], axis=1)

    meaning = (
        "Chance that a classifier (extremely randomised trees; rating, item vector, means and counts of user and item) "
        f"ranks a simulated rating of a held-out pair above the real one; 0.5 is chance. {CAVEAT}"
    )
    return _line(name, title, meaning, features(real), features(drawn), user, seed)


def _sessions(world: World, pairs: SessionPairs | None, seed: int) -> Line:
    name, title = "sessions", "Whole sessions"
    if pairs is None:
        return unknown(GROUP, name, title, "no sessions were simulated")
    vectors = _components(world)
    both = [n for n in range(len(pairs.user)) if len(pairs.real[n]) and len(pairs.simulated[n])][:MOST]
    if len(both) < FEWEST_ROWS // 2:
        return unknown(GROUP, name, title, f"{len(both)} sessions are too few")

    def features(side: list[Ints]) -> Floats:
        rows = [np.r_[vectors[side[n]].mean(0), vectors[side[n]].std(0)] for n in both]
        return np.stack(rows)

    meaning = (
        "The same for whole sessions (means and spreads of the consumed items' vectors, session beside simulated session of "
        f"the same user). {CAVEAT}"
    )
    return _line(
        name, title, meaning, features(pairs.real), features(pairs.simulated), pairs.user[both], seed
    )


def _line(name: str, title: str, meaning: str, real: Floats, drawn: Floats, user: Ints, seed: int) -> Line:
    owner = compact(user)
    users = int(owner.max()) + 1
    if users < FEWEST_USERS or len(real) < FEWEST_ROWS // 2:
        return unknown(GROUP, name, title, f"{users} users with {len(real)} rows are too few")
    found = _separated(real, drawn, owner, users, seed)
    # The floor: one random half of each user's real rows is called simulated.
    called = generator(seed, "floor").random(len(real)) < 0.5
    floor = float(auc_of(_scores(real, called, owner, seed), called, owner)(np.ones((1, users)))[0])
    above = Measured(found.value, found.low, found.high, floor, np.nan)
    level, verdict = judge(Measured(max(found.value - 0.5, 0.0), 0, 0), Tolerance(0.05, 0.15))
    words = {
        "good": "hardly told apart",
        "fair": "told apart, but not easily",
        "poor": "easily told apart",
        "unknown": verdict,
    }[level]
    verdict = (
        words if level == "unknown" else f"{words} (chance is 0.5; two halves of the real rows: {floor:.2f})"
    )
    return line_of(GROUP, name, title, meaning, above, level, verdict, unit="AUC")


def _separated(real: Floats, drawn: Floats, owner: Ints, users: int, seed: int) -> Measured:
    rows = np.concatenate([real, drawn])
    simulated = np.r_[np.zeros(len(real), np.bool_), np.ones(len(drawn), np.bool_)]
    owners = np.r_[owner, owner]
    return measure(auc_of(_scores(rows, simulated, owners, seed), simulated, owners), users, seed)


def _scores(rows: Floats, simulated: Any, owner: Ints, seed: int) -> Floats:
    """Return out-of-fold scores, (n,): rows of one user are in one fold."""
    score = np.zeros(len(rows))
    for train, test in GroupKFold(FOLDS).split(rows, simulated, owner):
        if len(np.unique(simulated[train])) < 2:
            continue
        model = ExtraTreesClassifier(TREES, min_samples_leaf=10, max_features=None, random_state=seed % 2**31)
        score[test] = model.fit(rows[train], simulated[train]).predict_proba(rows[test])[:, 1]
    return score


def _components(world: World, width: int = 8) -> Floats:
    vectors = world.item_vector.astype(np.float64)
    return np.asarray(PCA(min(width, *vectors.shape), random_state=0).fit_transform(vectors))


def _mean_and_count(train: InteractionLog, owner: Ints, of: Any, size: int) -> Floats:
    """Return mean rating and log-count of each owner in the part that was fitted to, (n, 2); 0 for one it lacks."""
    count = np.bincount(of, minlength=size).astype(np.float64)
    mean = np.bincount(of, train.rating, size) / np.maximum(count, 1)
    return np.stack([mean[owner], np.log1p(count[owner])], 1)
