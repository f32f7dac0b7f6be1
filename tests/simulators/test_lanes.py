"""Vector arithmetic of the compiled step against NumPy, for every width and count that the step may ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hyp
from hypothesis.extra import numpy as hypn
from numba import njit

from recworld.envs.views import gathered, untouched_zeros
from recworld.simulators import arithmetic, lanes
from recworld.simulators import random as rnd
from recworld.simulators.lanes import padded, pointer

ROOM = 96
FLOATS = hypn.arrays(np.float32, ROOM, elements=hyp.floats(-8, 8, width=32))


@njit
def two(a, b, width, out):
    out[0] = lanes.dot(pointer(a), pointer(b), width)
    out[1] = lanes.apart(pointer(a), pointer(b), width)


@njit
def change(a, keep, factor, b, width):
    lanes.blend(pointer(a), keep, factor, pointer(b), width)
    lanes.scale(pointer(a), factor, width)


@njit
def copy(a, b, width):
    lanes.copy(pointer(a), pointer(b), width)


@njit
def shift(a, width):
    lanes.move(pointer(a), lanes.ahead(pointer(a), 1), width)


@njit
def products(out, biased, a, table, width, rows, count, bias, mean):
    stride = table.shape[1]
    lanes.dots(pointer(out), pointer(a), pointer(table), stride, width, pointer(rows), count)
    lanes.logits(
        pointer(biased), pointer(a), pointer(table), stride, width, pointer(rows), count, pointer(bias), mean
    )


@njit
def screen(out, mask, scores, rows, items, low, high, count):
    lanes.screened(pointer(out), pointer(mask), pointer(scores), pointer(rows), items, low, high, count)


@njit
def functions(x, single, sigmoid, dull, spread):
    for k in range(len(x)):
        single[k] = arithmetic.exp(x[k])
        sigmoid[k] = arithmetic.sigmoid(x[k])
    arithmetic.dullness(pointer(dull), spread, len(x))


@njit
def sigmoids(x):
    arithmetic.sigmoids(pointer(x), len(x))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(a=FLOATS, b=FLOATS, blocks=hyp.integers(0, 12), keep=hyp.floats(-2, 2, width=32))
def test_sums_and_blends(a, b, blocks, keep):
    width, out = 8 * blocks, np.zeros(2, np.float32)
    x, y = a[:width].astype(float), b[:width].astype(float)
    two(a, b, width, out)
    np.testing.assert_allclose(out, [x @ y, ((x - y) ** 2).sum()], rtol=1e-4, atol=1e-3)
    changed, factor = a.copy(), np.float32(0.75)
    change(changed, np.float32(keep), factor, b, width)
    np.testing.assert_allclose(changed[:width], 0.75 * (keep * x + 0.75 * y), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        changed[width:], a[width:], err_msg="what lies behind the stretch is left alone"
    )


@pytest.mark.parametrize("width", range(0, 41))
def test_copies_stop_where_they_should(width):
    source, target = np.arange(1, 65, dtype=np.int32), np.zeros(64, np.int32)
    copy(target, source, width)
    np.testing.assert_array_equal(target, np.where(np.arange(64) < width, source, 0))
    moved = source.copy()
    shift(moved, width)
    np.testing.assert_array_equal(moved[:width], source[1 : width + 1])
    np.testing.assert_array_equal(moved[width:], source[width:])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(a=FLOATS, count=hyp.integers(1, 20), width=hyp.sampled_from([8, 16, 64]), seed=hyp.integers(0, 99))
def test_products_with_rows(a, count, width, seed):
    random = np.random.default_rng(seed)
    table, bias = random.normal(size=(30, 72)).astype(np.float32), random.normal(size=30).astype(np.float32)
    rows = np.zeros(padded(count), np.int32)
    rows[:count] = random.integers(0, 30, count)
    out, biased = np.zeros((2, padded(count)), np.float32)
    products(out, biased, a, table, width, rows, count, bias, np.float32(1.5))
    expected = table[rows[:count], :width].astype(float) @ a[:width].astype(float)
    np.testing.assert_allclose(out[:count], expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(biased[:count], expected + bias[rows[:count]] + 1.5, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_what_is_not_there_is_screened_and_nothing_behind_is_written(count):
    scores = np.linspace(-90, 90, 24).astype(np.float32)
    rows = np.arange(24, dtype=np.int32) % 5
    out, mask = np.full(24, 7, np.float32), np.full(24, 7, np.int8)
    screen(out, mask, scores, rows, np.int32(3), np.float32(-50), np.float32(50), count)
    there = rows[:count] < 3
    np.testing.assert_array_equal(mask[:count], there)
    np.testing.assert_array_equal(out[:count], np.where(there, scores[:count].clip(-50, 50), 0))
    assert (out[count:] == 7).all()
    assert (mask[count:] == 7).all()


def test_exponentials_are_those_of_numpy():
    x = np.linspace(-87, 87, 40_000).astype(np.float32)
    single, sigmoid = np.zeros((2, len(x)), np.float32)
    dull, many = x.copy(), x.copy()
    functions(x, single, sigmoid, dull, np.float32(1.5))
    sigmoids(many)
    wide = x.astype(float)
    np.testing.assert_allclose(single, np.exp(wide), rtol=2e-7)
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-wide)), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(many, sigmoid, err_msg="eight lanes give the bits of one")
    np.testing.assert_allclose(dull, 1 - np.exp(-np.maximum(wide, 0) / 1.5), atol=2e-7)


def test_draws_are_uniform_and_apart():
    key = rnd.stream_key(np.uint64(5), np.uint64(7))
    keys = [np.uint64(rnd.child_key(key, step)) for step in range(50)]
    drawn = np.asarray([rnd.bits(key, rnd.CLICK, slot) for key in keys for slot in range(80)], np.uint64)
    assert len(np.unique(drawn)) == len(drawn)
    ones = (drawn[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    # 4,000 draws: the share of ones of a bit has a standard error of .008, the correlation of neighbours one of .016.
    assert np.abs(ones.mean(0) - 0.5).max() < 0.04
    between = np.corrcoef(drawn[:-1].astype(float), drawn[1:].astype(float))[0, 1]
    assert abs(between) < 0.07


def test_rows_are_gathered_and_others_stay_zero():
    table = np.random.default_rng(0).normal(size=(9, 13)).astype(np.float32)
    numbers = np.random.default_rng(1).integers(0, 9, (6, 4)).astype(np.int32)
    np.testing.assert_array_equal(gathered(table, numbers), table[numbers])
    some = gathered(table, numbers, np.asarray([1, 4]))
    np.testing.assert_array_equal(some[[1, 4]], table[numbers[[1, 4]]])
    assert not some[[0, 2, 3, 5]].any()


def test_large_zeros_can_be_written():
    zeros = untouched_zeros((1 << 12, 1 << 8))
    assert not zeros.any()
    zeros[3] = 1
    assert zeros.sum() == 1 << 8
