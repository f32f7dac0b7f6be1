"""Pointers, and arithmetic on stretches of float32 eight lanes at a time, for compiled code.

The stretches of a step are short (16 to 64 floats). A compiler's own vector loops want long ones and spend such widths in
their scalar remainder, so the loops are written out here as vector instructions (LLVM IR, no particular machine's). Widths
are multiples of `LANES`: the tables and rows are laid out so, padded with zeros. Sums may be reordered by the compiler
(`FLAGS`), never by the number of users: the same row gives the same bits whoever runs beside it.

Inner functions are given pointers and not arrays: an array travels as seven words, and a call with six of them costs more
than what most of these functions do.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
FLAGS = ("reassoc", "contract", "nsz", "arcp")
"""Reordering of sums only: NaN and infinity keep their meaning."""

FLOAT, WORD, INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
_SHIFT = LANES.bit_length() - 1
I64, F32 = types.int64, types.float32
FLOATS, WORDS, _DOUBLES = types.CPointer(F32), types.CPointer(types.int32), types.CPointer(types.float64)
_KEYS, SMALL, _SWITCHES = types.CPointer(types.uint64), types.CPointer(types.int8), types.CPointer(I64)


def padded(width: int) -> int:
    """Return `width` rounded up to a multiple of `LANES`."""
    return -(-width // LANES) * LANES


@intrinsic
def pointer(context: Any, array: Any) -> Any:
    """Return a pointer to the first element of an array."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return target.make_array(signature.args[0])(target, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), code


def _from_address(kind: Any) -> Any:
    @intrinsic
    def at_address(context: Any, address: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], target.get_value_type(kind))

        return kind(I64), code

    return at_address


floats_at, words_at, doubles_at = (_from_address(kind) for kind in (FLOATS, WORDS, _DOUBLES))
keys_at, switches_at = _from_address(_KEYS), _from_address(_SWITCHES)


@intrinsic
def ahead(context: Any, start: Any, places: Any) -> Any:
    """Return a pointer to the element `places` further on."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return start(start, I64), code


@intrinsic
def screened(
    context: Any, out: Any, mask: Any, scores: Any, rows: Any, items: Any, low: Any, high: Any, count: Any
) -> Any:
    """Write scores, held within bounds, and a mask; where a row number is not below `items`, both are 0."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, mask, scores, rows, items, low, high, count = arguments
        byte, words = ir.IntType(8), ir.VectorType(WORD, LANES)
        kinds = ((VECTOR, words, ir.VectorType(byte, LANES)), (FLOAT, WORD, byte))

        def write(place: Any, kind: tuple[Any, Any, Any]) -> None:
            many = kind[0] is VECTOR
            limit, least, most = items, low, high
            if many:
                limit, least, most = (splat(builder, each) for each in (items, low, high))
            ends = [
                builder.bitcast(builder.gep(start, [place]), part.as_pointer())
                for start, part in ((scores, kind[0]), (rows, kind[1]), (out, kind[0]), (mask, kind[2]))
            ]
            x = builder.load(ends[0], align=4)
            there = builder.icmp_signed("<", builder.load(ends[1], align=4), limit)
            x = builder.select(builder.fcmp_ordered(">", x, least), x, least)
            x = builder.select(builder.fcmp_ordered("<", x, most), x, most)
            builder.store(
                builder.select(there, x, ir.Constant(kind[0], [0.0] * LANES if many else 0.0)),
                ends[2],
                align=4,
            )
            builder.store(builder.zext(there, kind[2]), ends[3], align=1)

        with blocks(builder, count) as loop:
            write(eighth(builder, loop), kinds[0])
        done = builder.and_(count, index(-LANES))
        with cgutils.for_range_slice(builder, done, count, index(1), intp=INDEX) as (place, _):
            write(place, kinds[1])
        return target.get_dummy_value()

    return types.void(FLOATS, SMALL, FLOATS, WORDS, types.int32, F32, F32, I64), code


def index(value: int) -> Any:
    return ir.Constant(INDEX, value)


def load(builder: Any, pointer: Any) -> Any:
    return builder.load(builder.bitcast(pointer, VECTOR.as_pointer()), align=4)


def store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, VECTOR.as_pointer()), align=4)


def splat(builder: Any, value: Any) -> Any:
    """Return a vector with `value`, of any kind, in every lane."""
    none = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(none, value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(WORD, LANES), [0] * LANES))


def _pick(builder: Any, one: Any, other: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(WORD, len(lanes)), lanes))


def fused(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """Return a b + total."""
    return builder.fadd(builder.fmul(a, b, flags=FLAGS), total, flags=FLAGS)


def _both(builder: Any, one: Any, other: Any, first: list[int], second: list[int]) -> Any:
    """Return the sum of two arrangements of the lanes of two vectors."""
    return builder.fadd(_pick(builder, one, other, first), _pick(builder, one, other, second), flags=FLAGS)


def _sums(builder: Any, vectors: list[Any]) -> Any:
    """Return the vector of the sums of eight vectors, in their order; of four, in its lower half."""
    even, odd = [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]
    low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    ways = 2 if len(vectors) == LANES else 1
    while len(vectors) > ways:
        vectors = [_both(builder, vectors[k], vectors[k + 1], even, odd) for k in range(0, len(vectors), 2)]
    return _both(builder, vectors[0], vectors[-1], low, high)


def _sum(builder: Any, vector: Any) -> Any:
    """Return the sum of the lanes of a vector."""
    for lanes in ([4, 5, 6, 7, 4, 5, 6, 7], [2, 3, 2, 3, 2, 3, 2, 3], [1] * LANES):
        vector = builder.fadd(vector, _pick(builder, vector, vector, lanes), flags=FLAGS)
    return builder.extract_element(vector, ir.Constant(WORD, 0))


def blocks(builder: Any, width: Any) -> Any:
    """Return a loop over the eighth places of a stretch."""
    return cgutils.for_range(builder, builder.lshr(width, index(_SHIFT)), intp=INDEX)


def eighth(builder: Any, loop: Any) -> Any:
    return builder.shl(loop.index, index(_SHIFT))


def _reduced(apart: bool) -> Any:
    """Return the code of a sum over two stretches: of products, or of squared differences."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, width = arguments
        total = cgutils.alloca_once(builder, VECTOR)
        builder.store(ir.Constant(VECTOR, [0.0] * LANES), total)
        with blocks(builder, width) as loop:
            place = eighth(builder, loop)
            x, y = (load(builder, builder.gep(at, [place])) for at in (a, b))
            if apart:
                x = y = builder.fsub(x, y, flags=FLAGS)
            builder.store(fused(builder, x, y, builder.load(total)), total)
        return _sum(builder, builder.load(total))

    return code


_dot_code, _apart_code = _reduced(False), _reduced(True)


@intrinsic
def dot(context: Any, a: Any, b: Any, width: Any) -> Any:
    """Return the scalar product of two stretches."""
    return F32(FLOATS, FLOATS, I64), _dot_code


@intrinsic
def apart(context: Any, a: Any, b: Any, width: Any) -> Any:
    """Return the squared distance of two stretches."""
    return F32(FLOATS, FLOATS, I64), _apart_code


@intrinsic
def blend(context: Any, a: Any, keep: Any, factor: Any, b: Any, width: Any) -> Any:
    """a <- keep a + factor b."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, keep, factor, other, width = arguments
        keep, factor = splat(builder, keep), splat(builder, factor)
        with blocks(builder, width) as loop:
            at = builder.gep(own, [eighth(builder, loop)])
            x = builder.fmul(keep, load(builder, at), flags=FLAGS)
            y = load(builder, builder.gep(other, [eighth(builder, loop)]))
            store(builder, fused(builder, factor, y, x), at)
        return target.get_dummy_value()

    return types.void(FLOATS, F32, F32, FLOATS, I64), code


@intrinsic
def scale(context: Any, a: Any, factor: Any, width: Any) -> Any:
    """a <- factor a."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, factor, width = arguments
        factor = splat(builder, factor)
        with blocks(builder, width) as loop:
            at = builder.gep(own, [eighth(builder, loop)])
            store(builder, builder.fmul(factor, load(builder, at), flags=FLAGS), at)
        return target.get_dummy_value()

    return types.void(FLOATS, F32, I64), code


@intrinsic
def move(context: Any, a: Any, b: Any, width: Any) -> Any:
    """Copy `width` elements of the same kind from b to a; the stretches may overlap."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, other, width = arguments
        size = target.get_abi_sizeof(own.type.pointee)
        cgutils.raw_memmove(builder, own, other, width, size)
        return target.get_dummy_value()

    return types.void(a, a, I64), code


@intrinsic
def copy(context: Any, a: Any, b: Any, width: Any) -> Any:
    """Copy `width` elements of 32 bits from b to a, which do not overlap: a call of the system's copy costs more."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, other = (builder.bitcast(each, FLOAT.as_pointer()) for each in arguments[:2])
        width = arguments[2]
        with blocks(builder, width) as loop:
            place = eighth(builder, loop)
            store(builder, load(builder, builder.gep(other, [place])), builder.gep(own, [place]))
        rest = builder.icmp_unsigned("!=", builder.and_(width, index(LANES - 1)), index(0))
        with (
            builder.if_then(rest),
            builder.if_else(builder.icmp_unsigned(">=", width, index(LANES))) as (many, few),
        ):
            with many:  # once more over the end
                place = builder.sub(width, index(LANES))
                store(builder, load(builder, builder.gep(other, [place])), builder.gep(own, [place]))
            with few, cgutils.for_range(builder, width, intp=INDEX) as loop:
                one = builder.load(builder.gep(other, [loop.index]))
                builder.store(one, builder.gep(own, [loop.index]))
        return target.get_dummy_value()

    return types.void(a, a, I64), code


def _group(
    builder: Any, arguments: Any, start: Any, size: int, sums: list[Any], bias: Any, mean: Any
) -> None:
    """Write the products with `size` rows (eight or four) from `start` on, and what is added to them."""
    out, own, table, stride, width, rows = arguments[:6]
    at, row = [], []
    for k in range(size):
        number = builder.sext(builder.load(builder.gep(rows, [builder.add(start, index(k))])), INDEX)
        at.append(number)
        row.append(builder.gep(table, [builder.mul(number, stride)]))
        builder.store(ir.Constant(VECTOR, [0.0] * LANES), sums[k])
    with blocks(builder, width) as loop:
        place = eighth(builder, loop)
        mine = load(builder, builder.gep(own, [place]))
        for k in range(size):
            theirs = load(builder, builder.gep(row[k], [place]))
            builder.store(fused(builder, mine, theirs, builder.load(sums[k])), sums[k])
    total = _sums(builder, [builder.load(each) for each in sums[:size]])
    if bias is not None:
        level: Any = ir.Constant(VECTOR, ir.Undefined)
        for k in range(size):
            own_bias = builder.load(builder.gep(bias, [at[k]]))
            level = builder.insert_element(level, own_bias, ir.Constant(WORD, k))
        level = builder.fadd(level, splat(builder, mean), flags=FLAGS)
        total = builder.fadd(total, level, flags=FLAGS)
    store(builder, total, builder.gep(out, [start]))


def _rows(biased: bool) -> Any:
    """Return the code of `dots` or of `logits`."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count = arguments[6]
        bias, mean = arguments[7:] if biased else (None, None)
        sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(LANES)]
        # One place after the other in groups of eight; a rest of up to four in one of four.
        whole = builder.add(count, index(LANES // 2 - 1))
        with blocks(builder, whole) as group:
            _group(builder, arguments, eighth(builder, group), LANES, sums, bias, mean)
        done = builder.and_(whole, index(-LANES))
        with builder.if_then(builder.icmp_signed("<", done, count)):
            _group(builder, arguments, done, LANES // 2, sums, bias, mean)
        return target.get_dummy_value()

    return code


_dots_code, _logits_code = _rows(False), _rows(True)


@intrinsic
def dots(context: Any, out: Any, a: Any, table: Any, stride: Any, width: Any, rows: Any, count: Any) -> Any:
    """Write the scalar products of a stretch with rows of a table, eight rows together.

        out[c] = <a, table[stride * rows[c] :]>,  width floats each, c = 0 .. count - 1

    `rows` must hold valid row numbers up to the next multiple of four after `count`, `out` room up to that of eight.
    """
    return types.void(FLOATS, FLOATS, FLOATS, I64, I64, WORDS, I64), _dots_code


@intrinsic
def logits(
    context: Any, out: Any, a: Any, table: Any, stride: Any, width: Any, rows: Any, count: Any, bias: Any, mean: Any
) -> Any:  # fmt: skip
    """As `dots`, with `bias[rows[c]] + mean` added to each."""
    return types.void(FLOATS, FLOATS, FLOATS, I64, I64, WORDS, I64, FLOATS, F32), _logits_code
