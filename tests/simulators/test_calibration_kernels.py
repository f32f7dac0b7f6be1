"""The calibration's loops against the simulator's own step, closed forms and differences; the hazard's known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recworld.logs.settings import SyntheticSettings
from recworld.simulators import DynamicsSettings, UserSimulator
from recworld.simulators import state as st
from recworld.simulators.calibration_draws import effective_draws
from recworld.simulators.calibration_kernels import (
    boredom_rows,
    collapse_side,
    drift_rows,
    log_chance,
    satisfaction_slates,
    score_rows,
    slope_rows,
    stay_sessions,
)
from recworld.simulators.calibration_leaving import LEAVING, Hazard, Stays, find_horizon, stays_of
from recworld.simulators.calibration_table import (
    SlateTable,
    centred_vectors,
    exchanged_slates,
    make_pairs,
    shuffled_slates,
)
from recworld.simulators.truths import wellspecified_world

SIZES = SyntheticSettings(num_users=12, num_items=60, consumptions=10)
LIVELY = DynamicsSettings(taste_rate=0.2, taste_return=0.1, leaving=False, base_click_rate=0.5)
STEPS, SLATE = 8, 4


@pytest.fixture(scope="module")
def played():
    """Return the table of what 12 users did with random slates, and what the simulator says they felt."""
    world = wellspecified_world(SIZES, 0, LIVELY)
    users = world.num_users
    simulator = UserSimulator(
        world, users, slate_size=SLATE, num_candidates=60, horizon=50, history_length=1, candidates="all",
        users=np.arange(users, dtype=np.int32),
    )  # fmt: skip
    simulator.seed(0, np.arange(users))
    simulator.pin(np.arange(users, dtype=np.int32))
    simulator.set_episode(np.arange(users), 0)
    simulator.begin(np.arange(users), simulator.new_seen())
    rng, steps, tastes = np.random.default_rng(0), [], []
    for _ in range(STEPS):
        tastes.append(simulator.taste)
        action = np.array([rng.choice(60, SLATE, replace=False) for _ in range(users)])
        _, happened, _, _ = simulator.step(action)
        steps.append(happened)
    ints = np.stack([h.ints for h in steps], 1)  # (N, T, .)
    floats = np.stack([h.floats for h in steps], 1)
    item = ints[:, :, st.R_INT_HEAD : st.R_INT_HEAD + SLATE]
    item = np.where(item < 60, item, 0)  # an empty slot: an item consumed before; not clicked
    empty = ints[:, :, st.R_INT_HEAD : st.R_INT_HEAD + SLATE] == 60
    clicked = ints[:, :, st.R_INT_HEAD + SLATE : st.R_INT_HEAD + 2 * SLATE] == 1
    rating = floats[:, :, st.R_FLOAT_HEAD :].astype(np.float64)
    bias = world.truth.user_rating_bias[0].astype(np.float64)
    surprise = np.where(clicked, np.clip((rating - bias[:, None, None]) / 2, -1, 1), 0)
    liking = np.where(clicked, (rating - 1) / 4, 0)
    n = users * STEPS * SLATE
    table = SlateTable(
        user=np.repeat(np.arange(users, dtype=np.int32), STEPS * SLATE), item=item.ravel().astype(np.int32),
        position=np.tile(np.arange(SLATE), users * STEPS), clicked=clicked.ravel(), surprise=surprise.ravel(),
        liking=liking.ravel(), score=np.zeros(n), slate_start=np.arange(0, n + 1, SLATE),
        session_start=np.arange(0, users * STEPS + 1, STEPS), session_user=np.arange(users, dtype=np.int32),
    )  # fmt: skip
    return world, table, np.stack(tastes, 1), floats, empty


def test_boredom_is_that_of_the_simulator(played):
    world, table, _, floats, empty = played
    pairs = make_pairs(table, centred_vectors(world.item_vector))
    out = np.empty(len(table))
    boredom_rows(pairs.start, pairs.near, pairs.age, LIVELY.boredom_memory, LIVELY.boredom_scale, out)
    shown = ~empty
    bored = np.where(shown, out.reshape(shown.shape), 0).sum(2) / shown.sum(2)
    np.testing.assert_allclose(bored, floats[:, :, st.R_BOREDOM], atol=2e-5)
    assert bored.max() > 0.2


def test_drift_is_that_of_the_simulator(played):
    world, table, tastes, _, _ = played
    fr = world.truth.rating_width
    own, item = (x[0][:, fr:].astype(np.float64) for x in (world.truth.taste, world.truth.item))
    out = np.empty(len(table))
    drift_rows(
        table.slate_start, table.session_start, table.session_user, table.item, table.clicked, table.surprise, own, item,
        LIVELY.taste_rate, LIVELY.taste_return, out,
    )  # fmt: skip
    moved = tastes[:, :, fr:] - own[:, None]
    expected = np.einsum("ntf,ntkf->ntk", moved, item[table.item].reshape(*moved.shape[:2], SLATE, -1))
    np.testing.assert_allclose(out.reshape(expected.shape), expected, atol=1e-4)
    assert np.abs(expected).max() > 0.3


def test_satisfaction_is_that_of_the_simulator(played):
    _, table, _, floats, _ = played
    liked, out = table.liking.reshape(-1, SLATE).sum(1), np.empty(table.num_slates)
    satisfaction_slates(table.session_start, liked, LIVELY.satisfaction_rate, LIVELY.satisfaction_start, out)
    np.testing.assert_allclose(out.reshape(-1, STEPS), floats[:, :, st.R_SATISFACTION], atol=1e-5)


def test_shuffles_keep_slates_whole_and_their_owners(played):
    _, table, *_ = played
    cut = replace(
        table,
        session_start=np.arange(0, table.num_slates + 1, STEPS // 2),
        session_user=np.repeat(table.session_user, 2),
    )
    rng = np.random.default_rng(0)
    for deal, unit in ((shuffled_slates, cut.row_session), (exchanged_slates, cut.user)):
        dealt = deal(cut, rng)
        assert not np.array_equal(dealt.item, cut.item)
        for number in np.unique(unit):
            rows = unit == number
            whole = {tuple(slate) for slate in cut.item[rows].reshape(-1, SLATE)}
            assert {tuple(slate) for slate in dealt.item[rows].reshape(-1, SLATE)} == whole
        np.testing.assert_array_equal(dealt.position, cut.position)


def test_slopes_and_scores_are_differences(played):
    world, table, *_ = played
    pairs, n = make_pairs(table, centred_vectors(world.item_vector)), len(table)
    bored, by_memory, by_scale, up, down = np.empty((5, n))
    slope_rows(pairs.start, pairs.near, pairs.age, 0.8, 1.3, bored, by_memory, by_scale)
    for slope, one, other in (
        (by_memory, (0.8 + 1e-5, 1.3), (0.8 - 1e-5, 1.3)),
        (by_scale, (0.8, 1.3 * np.exp(1e-5)), (0.8, 1.3 * np.exp(-1e-5))),
    ):
        boredom_rows(pairs.start, pairs.near, pairs.age, *one, up)
        boredom_rows(pairs.start, pairs.near, pairs.age, *other, down)
        np.testing.assert_allclose((up - down) / 2e-5, slope, atol=1e-6)
    base, nothing = np.random.default_rng(0).normal(-0.5, 1.0, n), np.zeros(n)

    def chance(shift: float, beta: float, log_decay: float) -> float:
        noticed = np.exp(log_decay * np.arange(SLATE))
        return log_chance(base, bored, nothing, table.position, table.clicked, noticed, shift, beta)

    score, information = np.empty(3), np.empty((3, 3))
    slopes = np.stack([np.ones(n), -bored, nothing], 1)
    score_rows(
        base,
        -2 * bored,
        slopes,
        table.position,
        table.clicked,
        np.exp(-0.2 * np.arange(SLATE)),
        2,
        score,
        information,
    )
    step = np.eye(3) * 1e-5
    at = np.array([0.0, 2.0, -0.2])
    expected = [(chance(*(at + s)) - chance(*(at - s))) / 2e-5 for s in step]
    np.testing.assert_allclose(score, expected, rtol=1e-5, atol=1e-4)
    assert np.linalg.eigvalsh(information).min() > 0


def test_collapsed_coefficients_are_those_of_the_joint_regression():
    """Integrating the vectors out is the Schur complement of the joint normal equations."""
    rng = np.random.default_rng(0)
    owners, partners, width, n = 4, 5, 3, 60
    own = np.sort(rng.integers(0, owners, n))
    start = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=owners))])
    partner, other = rng.integers(0, partners, n).astype(np.int32), rng.standard_normal((partners, width))
    target, weight, rows = rng.standard_normal(n), rng.uniform(0.1, 1, n), rng.standard_normal((n, 2))
    mean, prior = rng.standard_normal((owners, width)), np.diag([2.0, 1.0, 3.0])
    matrix, linear = np.zeros((2, 2)), np.zeros(2)
    collapse_side(start, partner, target, weight, rows, other, mean, prior, matrix, linear)
    design = np.zeros((n, owners * width + 2))
    for k in range(n):
        vector = other[partner[k]].copy()
        vector[0] = 1.0
        design[k, own[k] * width : (own[k] + 1) * width] = vector
    design[:, -2:] = rows
    gram = design.T @ (weight[:, None] * design)
    gram[:-2, :-2] += np.kron(np.eye(owners), prior)
    right = design.T @ (weight * (target - other[partner, 0]))
    right[:-2] += (mean @ prior).ravel()
    np.testing.assert_allclose(np.linalg.solve(matrix, linear), np.linalg.solve(gram, right)[-2:], rtol=1e-8)
    np.testing.assert_allclose(np.linalg.inv(matrix), np.linalg.inv(gram)[-2:, -2:], rtol=1e-8)


def sessions(random: np.random.Generator, count: int, effect: float, frailty: float, horizon: int) -> Stays:
    """Return sessions drawn from the hazard with base -3.5 and the given effect of dissatisfaction."""
    starts, liked, step, ending = [0], [], [], []
    for _ in range(count):
        content, own = 0.6, frailty * random.standard_normal()
        for t in range(horizon):
            pleasure = float(random.random() < 0.5) * random.random() * 2
            liked.append(pleasure)
            step.append(t)
            content += 0.3 * (1 - np.exp(-pleasure) - content)
            gone = random.random() < 1 / (1 + np.exp(3.5 - effect * (1 - content) - own))
            if gone or t == horizon - 1:
                break
        ending.append(int(gone and t < horizon - 1))
        starts.append(len(liked))
    n = len(liked)
    return Stays(np.array(starts), np.array(ending), np.array(liked), np.zeros(n), np.array(step, np.float64))


def test_the_hazard_of_leaving_is_found_back_and_cut_sessions_are_not_left():
    stays = sessions(np.random.default_rng(0), 500, 3.0, 0.4, 8)
    free = np.array([True, True, False, False, True, True])
    draws = Hazard(stays, free).draws(0, 1500)
    for name, true in (("leave_base", -3.5), ("leave_dissatisfaction", 3.0), ("satisfaction_rate", 0.3)):
        low, high = np.quantile(draws[:, LEAVING.index(name)], [0.005, 0.995])
        assert low < true < high, name
    # Were the horizon taken for leaving, users would seem to leave far sooner.
    alone = np.arange(len(LEAVING)) == 0
    wrong = replace(stays, ending=np.ones_like(stays.ending))
    assert Hazard(wrong, alone).mode()[0] > Hazard(stays, alone).mode()[0] + 0.3


def test_frailty_is_found_though_no_frailty_is_a_top_of_its_own():
    # With strong frailty, effects and frailty lie on a bent ridge, and the search that starts at none stays there.
    stays = sessions(np.random.default_rng(3), 1500, 4.0, 1.2, 12)
    hazard = Hazard(stays, np.array([True, True, False, False, True, True]))
    draws = hazard.draws(0)
    for name, true in (("leave_dissatisfaction", 4.0), ("frailty", 1.2), ("satisfaction_rate", 0.3)):
        column = draws[:, LEAVING.index(name)]
        low, high = np.quantile(column, [0.005, 0.995])
        assert low < true < high, name
        assert effective_draws(column) > 150, name
    mode = hazard.mode()
    assert mode[2] > 0.5
    assert hazard.target(mode) >= hazard.target(np.where(np.arange(4) == 2, 0.0, mode))


def test_a_session_of_one_slate_is_the_mean_over_the_frailty():
    node, weight = np.polynomial.hermite_e.hermegauss(31)
    out = np.empty(2)
    stay_sessions(
        np.array([0, 1, 2]), np.array([1, 0]), np.array([-1.0, -1.0]), 0.7 * node, weight / weight.sum(), out
    )
    left = np.mean(1 / (1 + np.exp(1 - 0.7 * np.random.default_rng(0).standard_normal(400_000))))
    assert np.exp(out[0]) == pytest.approx(left, abs=2e-3)
    assert abs(out[1]) < 1e-12  # cut: nothing is known of its only slate


def test_horizon_and_end_of_log_cut(played):
    _, table, *_ = played
    assert find_horizon(table) == STEPS  # every session has that length
    two = replace(table, session_user=np.zeros(table.num_sessions, np.int32))
    bored = np.zeros(len(table))
    assert stays_of(two, bored, None).ending.tolist() == [1] * 11 + [0]
    assert stays_of(two, bored, STEPS).leaves == 0
    assert stays_of(table, bored, None).leaves == 0  # one session each: nobody is seen leaving


def test_a_chain_is_worth_no_more_draws_than_it_made_moves():
    assert effective_draws(np.random.default_rng(0).random(400)) > 250
    once = np.zeros(450)
    once[-1] = 1.0
    assert effective_draws(once) == 1
    assert effective_draws(np.zeros(10)) == 0
