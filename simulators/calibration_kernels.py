"""Compiled loops of the calibration: boredom, drift, satisfaction and leaving, as the simulator's step has them."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


@numba.njit(cache=True, nogil=True)
def count_pairs(slate_start: Ints, session_start: Ints, clicked: Flags, longest: int, start: Ints) -> None:
    """Write (n + 1,) offsets of the pairs (row, earlier click of its session within `longest` slates)."""
    total = 0
    for session in range(len(session_start) - 1):
        first = session_start[session]
        for slate in range(first, session_start[session + 1]):
            earliest = max(first, slate - longest)
            count = 0
            for row in range(slate_start[earliest], slate_start[slate]):
                count += clicked[row]
            for row in range(slate_start[slate], slate_start[slate + 1]):
                start[row] = total
                total += count
    start[len(start) - 1] = total


@numba.njit(cache=True, nogil=True)
def write_pairs(
    slate_start: Ints, session_start: Ints, clicked: Flags, item: Shorts, vector: Floats, longest: int, start: Ints,
    near: Floats, age: Ints,
) -> None:  # fmt: skip
    """Write <v_i, v_j> and the age in slates of every pair; see `count_pairs`."""
    for session in range(len(session_start) - 1):
        first = session_start[session]
        for slate in range(first, session_start[session + 1]):
            earliest = max(first, slate - longest)
            for row in range(slate_start[slate], slate_start[slate + 1]):
                at = start[row]
                for past in range(earliest, slate):
                    for other in range(slate_start[past], slate_start[past + 1]):
                        if clicked[other]:
                            total = 0.0
                            for d in range(vector.shape[1]):
                                total += vector[item[row], d] * vector[item[other], d]
                            near[at] = total
                            age[at] = slate - past
                            at += 1


@numba.njit(cache=True, nogil=True)
def first_places(propensity: Floats, slate_start: Ints, out: Floats) -> None:
    """Write each row's chance of the first place, from its chance at its own place given the rows before it."""
    for slate in range(len(slate_start) - 1):
        left = 1.0
        for row in range(slate_start[slate], slate_start[slate + 1]):
            out[row] = propensity[row] * left
            left = max(left - out[row], 1e-9)


@numba.njit(cache=True, nogil=True)
def boredom_rows(start: Ints, near: Floats, age: Ints, memory: float, scale: float, out: Floats) -> None:
    """Write b = 1 - exp(-max(0, <v, s>) / s0) of each row, s = sum over earlier clicks of gamma^(age - 1) v."""
    power = np.empty(256)
    power[0] = 0.0
    power[1] = 1.0
    for k in range(2, len(power)):
        power[k] = power[k - 1] * memory
    for row in range(len(out)):
        total = 0.0
        for at in range(start[row], start[row + 1]):
            total += near[at] * power[age[at]]
        out[row] = 1.0 - math.exp(-total / scale) if total > 0.0 else 0.0


@numba.njit(cache=True, nogil=True)
def drift_rows(
    slate_start: Ints, session_start: Ints, session_user: Shorts, item: Shorts, clicked: Flags, surprise: Floats,
    taste: Floats, factor: Floats, rate: float, back: float, out: Floats,
) -> None:  # fmt: skip
    """Write <z, d_i> - <c, d_i> of each row: what the taste's way through the session has added.

    Args:
        slate_start: as of `SlateTable`, like the next five.
        session_start: (E + 1,).
        session_user: (E,).
        item: (n,).
        clicked: (n,).
        surprise: (n,).
        taste: (U, F) tastes c at the start of a session.
        factor: (I, F) items' factors d, mean zero.
        rate: alpha.
        back: kappa.
        out: (n,).
    """
    width = taste.shape[1]
    z = np.empty(width)
    for session in range(len(session_start) - 1):
        c = taste[session_user[session]]
        own = 0.0
        for f in range(width):
            z[f] = c[f]
            own += c[f] * c[f]
        own = math.sqrt(own)
        moved = False
        for slate in range(session_start[session], session_start[session + 1]):
            for row in range(slate_start[slate], slate_start[slate + 1]):
                total = 0.0
                if moved:
                    for f in range(width):
                        total += (z[f] - c[f]) * factor[item[row], f]
                out[row] = total
            for row in range(slate_start[slate], slate_start[slate + 1]):
                if clicked[row]:
                    square = 0.0
                    for f in range(width):
                        square += factor[item[row], f] ** 2
                    if square > 1e-12:
                        moved = True
                        step = rate * surprise[row]
                        size = abs(step)
                        goal = step * own / math.sqrt(square)
                        for f in range(width):
                            z[f] = (1.0 - size) * z[f] + goal * factor[item[row], f]
            if moved:
                for f in range(width):
                    z[f] += back * (c[f] - z[f])


@numba.njit(cache=True, nogil=True)
def log_chance(
    base: Floats, bored: Floats, drift: Floats, position: Ints, clicked: Flags, noticed: Floats, shift: float,
    beta: float,
) -> float:  # fmt: skip
    """Return the log-likelihood of the clicks: P = e_k sigmoid(base + shift - beta b + drift)."""
    total = 0.0
    for row in range(len(base)):
        chance = noticed[position[row]] / (
            1.0 + math.exp(-(base[row] + shift - beta * bored[row] + drift[row]))
        )
        total += math.log(chance + 1e-300) if clicked[row] else math.log(1.0 - chance + 1e-300)
    return total


@numba.njit(cache=True, nogil=True)
def log_chances(
    base: Floats, bored: Floats, drift: Floats, position: Ints, clicked: Flags, noticed: Floats, shift: float,
    beta: float, out: Floats,
) -> None:  # fmt: skip
    """Write the log-likelihood of each row; see `log_chance`."""
    for row in range(len(base)):
        chance = noticed[position[row]] / (
            1.0 + math.exp(-(base[row] + shift - beta * bored[row] + drift[row]))
        )
        out[row] = math.log(chance + 1e-300) if clicked[row] else math.log(1.0 - chance + 1e-300)


@numba.njit(cache=True, nogil=True)
def slope_rows(
    start: Ints, near: Floats, age: Ints, memory: float, scale: float, bored: Floats, by_memory: Floats, by_scale: Floats
) -> None:  # fmt: skip
    """Write b of each row, db / d gamma and db / d log s0; see `boredom_rows`."""
    power = np.empty(256)
    power[0] = 0.0
    power[1] = 1.0
    for k in range(2, len(power)):
        power[k] = power[k - 1] * memory
    for row in range(len(bored)):
        total, slope = 0.0, 0.0
        for at in range(start[row], start[row + 1]):
            total += near[at] * power[age[at]]
            if age[at] > 1:
                slope += near[at] * (age[at] - 1) * power[age[at] - 1]
        bored[row] = by_memory[row] = by_scale[row] = 0.0
        if total > 0.0:
            left = math.exp(-total / scale)
            bored[row] = 1.0 - left
            by_memory[row] = left * slope / scale
            by_scale[row] = -left * total / scale


@numba.njit(cache=True, nogil=True)
def score_rows(
    base: Floats, offset: Floats, slopes: Floats, position: Ints, clicked: Flags, noticed: Floats, place: int,
    score: Floats, information: Floats,
) -> None:  # fmt: skip
    """Write score and expected information of P = e_k sigmoid(base + offset), with log p = log e_k + log sigmoid.

    Args:
        base: (n,) logit.
        offset: (n,) what is added to it.
        slopes: (n, p) derivatives of the logit; column `place` is not read: there, d log p = position.
        position: (n,) places.
        clicked: (n,).
        noticed: chance that each place is noticed.
        place: the column of the logarithm of the examination's decay.
        score: (p,), overwritten.
        information: (p, p), overwritten.
    """
    width = slopes.shape[1]
    r = np.empty(width)
    score[:] = 0.0
    information[:] = 0.0
    for row in range(len(base)):
        taken = 1.0 / (1.0 + math.exp(-(base[row] + offset[row])))
        chance = noticed[position[row]] * taken
        rest = max(1.0 - chance, 1e-12)
        gap = 1.0 if clicked[row] else -chance / rest
        weight = chance / rest
        for a in range(width):
            r[a] = (1.0 - taken) * slopes[row, a]
        r[place] = position[row]
        for a in range(width):
            score[a] += gap * r[a]
            for b in range(a + 1):
                information[a, b] += weight * r[a] * r[b]
    for a in range(width):
        for b in range(a):
            information[b, a] = information[a, b]


@numba.njit(cache=True, nogil=True)
def collapse_side(
    start: Ints, partner: Shorts, target: Floats, weight: Floats, rows: Floats, other: Floats, prior_mean: Floats,
    prior_precision: Floats, matrix: Floats, linear: Floats,
) -> None:  # fmt: skip
    """Add up precision and linear term of the coefficients of `rows`, with the vectors of one side integrated out.

    Args:
        start: as of `gibbs_kernels.sample_side`, like the next six.
        partner: row by row.
        target: row by row.
        weight: row by row.
        rows: (n, p) regressors in the order of this side.
        other: (m, W).
        prior_mean: (n, W).
        prior_precision: (W, W).
        matrix: (p, p), added to.
        linear: (p,), added to.
    """
    width, size = other.shape[1], rows.shape[1]
    most = 0
    for own in range(len(start) - 1):
        most = max(most, start[own + 1] - start[own])
    design, outside = np.empty((most, width)), np.empty((most, size + 1))
    for own in range(len(start) - 1):
        count = start[own + 1] - start[own]
        if count == 0:
            continue
        for k in range(count):
            at = start[own] + k
            vector, root = other[partner[at]], math.sqrt(weight[at])
            design[k, 0] = root
            for a in range(1, width):
                design[k, a] = root * vector[a]
            for a in range(size):
                outside[k, a] = root * rows[at, a]
            outside[k, size] = root * (target[at] - vector[0])
        inside = design[:count]
        precision = prior_precision + np.dot(inside.T, inside)
        mixed = np.dot(inside.T, outside[:count])
        both = np.dot(outside[:count].T, outside[:count])
        mixed[:, size] += np.dot(prior_precision, prior_mean[own])
        solved = np.linalg.solve(precision, mixed)
        rest = both - np.dot(mixed.T, solved)
        for a in range(size):
            linear[a] += rest[a, size]
            for b in range(size):
                matrix[a, b] += rest[a, b]


@numba.njit(cache=True, nogil=True)
def satisfaction_slates(session_start: Ints, liked: Floats, rate: float, start: float, out: Floats) -> None:
    """Write the satisfaction after each slate; `liked` (S,) sums of liking."""
    for session in range(len(session_start) - 1):
        content = start
        for slate in range(session_start[session], session_start[session + 1]):
            content += rate * ((1.0 - math.exp(-liked[slate])) - content)
            out[slate] = content


@numba.njit(cache=True, nogil=True)
def stay_sessions(
    session_start: Ints, ending: Ints, logit: Floats, shift: Floats, weight: Floats, out: Floats
) -> None:
    """Write the log-likelihood of each session's length, the frailty integrated by quadrature.

    Args:
        session_start: (E + 1,) offsets in the slates.
        ending: (E,) 1: left after the last slate; 0: whether they left is unknown (end of the log, horizon).
        logit: (S,) logit of leaving after each slate without frailty.
        shift: (Q,) frailty at the nodes.
        weight: (Q,) weights of the nodes, sum 1.
        out: (E,).
    """
    nodes = len(shift)
    lift, stay, logs = np.exp(shift), np.empty(nodes), np.empty(nodes)
    for session in range(len(session_start) - 1):
        first, end = session_start[session], session_start[session + 1]
        stay[:] = 1.0
        logs[:] = 0.0
        for slate in range(first, end - 1):
            odds = math.exp(logit[slate])
            for q in range(nodes):
                stay[q] *= 1.0 / (1.0 + odds * lift[q])
            if (slate - first) % 40 == 39:  # before the product underflows
                for q in range(nodes):
                    logs[q] += math.log(stay[q] + 1e-300)
                    stay[q] = 1.0
        odds = math.exp(logit[end - 1])
        most = -1e300
        for q in range(nodes):
            logs[q] += math.log(stay[q] + 1e-300)
            if ending[session] == 1:
                logs[q] += math.log(odds * lift[q] / (1.0 + odds * lift[q]) + 1e-300)
            most = max(most, logs[q])
        total = 0.0
        for q in range(nodes):
            total += weight[q] * math.exp(logs[q] - most)
        out[session] = most + math.log(total)
