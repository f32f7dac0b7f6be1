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

_FLOAT, _WORD, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_SHIFT = LANES.bit_length() - 1
_I64, _F32 = types.int64, types.float32
_FLOATS, _WORDS, _DOUBLES = types.CPointer(_F32), types.CPointer(types.int32), types.CPointer(types.float64)
_KEYS, _SMALL, _SWITCHES = types.CPointer(types.uint64), types.CPointer(types.int8), types.CPointer(_I64)


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

        return kind(_I64), code

    return at_address


floats_at, words_at, doubles_at = (_from_address(kind) for kind in (_FLOATS, _WORDS, _DOUBLES))
keys_at, switches_at = _from_address(_KEYS), _from_address(_SWITCHES)


@intrinsic
def ahead(context: Any, start: Any, places: Any) -> Any:
    """Return a pointer to the element `places` further on."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return start(start, _I64), code


@intrinsic
def screened(
    context: Any, out: Any, mask: Any, scores: Any, rows: Any, items: Any, low: Any, high: Any, count: Any
) -> Any:
    """Write scores, held within bounds, and a mask; where a row number is not below `items`, both are 0."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, mask, scores, rows, items, low, high, count = arguments
        byte, words = ir.IntType(8), ir.VectorType(_WORD, LANES)
        kinds = ((_VECTOR, words, ir.VectorType(byte, LANES)), (_FLOAT, _WORD, byte))

        def write(place: Any, kind: tuple[Any, Any, Any]) -> None:
            many = kind[0] is _VECTOR
            limit, least, most = items, low, high
            if many:
                least, most = _splat(builder, low), _splat(builder, high)
                none = ir.Constant(words, ir.Undefined)
                first = builder.insert_element(none, items, ir.Constant(_WORD, 0))
                limit = builder.shuffle_vector(first, none, ir.Constant(words, [0] * LANES))
            ends = [
                builder.bitcast(builder.gep(start, [place]), part.as_pointer())
                for start, part in ((scores, kind[0]), (rows, kind[1]), (out, kind[0]), (mask, kind[2]))
            ]
            x = builder.load(ends[0], align=4)
            there = builder.icmp_signed("<", builder.load(ends[1], align=4), limit)
            x = builder.select(builder.fcmp_ordered(">", x, least), x, least)
            x = builder.select(builder.fcmp_ordered("<", x, most), x, most)
            builder.store(builder.select(there, x, _constant(kind[0], 0.0)), ends[2], align=4)
            builder.store(builder.zext(there, kind[2]), ends[3], align=1)

        with _blocks(builder, count) as loop:
            write(_place(builder, loop), kinds[0])
        done = builder.and_(count, _number(-LANES))
        with cgutils.for_range_slice(builder, done, count, _number(1), intp=_INDEX) as (place, _):
            write(place, kinds[1])
        return target.get_dummy_value()

    return types.void(_FLOATS, _SMALL, _FLOATS, _WORDS, types.int32, _F32, _F32, _I64), code


@intrinsic
def fetch(context: Any, start: Any) -> Any:
    """Ask for the line of memory that holds an element, so that it is there when it is read a little later."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _WORD, _WORD, _WORD])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch")
        words = [ir.Constant(_WORD, value) for value in (0, 3, 1)]  # to be read, kept near, data
        builder.call(function, [builder.bitcast(arguments[0], byte), *words])
        return target.get_dummy_value()

    return types.void(start), code


def _number(value: int) -> Any:
    return ir.Constant(_INDEX, value)


def _load(builder: Any, pointer: Any) -> Any:
    return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _splat(builder: Any, value: Any) -> Any:
    """Return a vector with `value` in every lane."""
    none = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(none, value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(_WORD, LANES), [0] * LANES))


def _pick(builder: Any, one: Any, other: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_WORD, len(lanes)), lanes))


def _fused(builder: Any, a: Any, b: Any, total: Any) -> Any:
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
    return builder.extract_element(vector, ir.Constant(_WORD, 0))


def _blocks(builder: Any, width: Any) -> Any:
    """Return a loop over the eighth places of a stretch."""
    return cgutils.for_range(builder, builder.lshr(width, _number(_SHIFT)), intp=_INDEX)


def _place(builder: Any, loop: Any) -> Any:
    return builder.shl(loop.index, _number(_SHIFT))


def _reduced(apart: bool) -> Any:
    """Return the code of a sum over two stretches: of products, or of squared differences."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, width = arguments
        total = cgutils.alloca_once(builder, _VECTOR)
        builder.store(ir.Constant(_VECTOR, [0.0] * LANES), total)
        with _blocks(builder, width) as loop:
            place = _place(builder, loop)
            x, y = (_load(builder, builder.gep(at, [place])) for at in (a, b))
            if apart:
                x = y = builder.fsub(x, y, flags=FLAGS)
            builder.store(_fused(builder, x, y, builder.load(total)), total)
        return _sum(builder, builder.load(total))

    return code


_dot_code, _apart_code = _reduced(False), _reduced(True)


@intrinsic
def dot(context: Any, a: Any, b: Any, width: Any) -> Any:
    """Return the scalar product of two stretches."""
    return _F32(_FLOATS, _FLOATS, _I64), _dot_code


@intrinsic
def apart(context: Any, a: Any, b: Any, width: Any) -> Any:
    """Return the squared distance of two stretches."""
    return _F32(_FLOATS, _FLOATS, _I64), _apart_code


@intrinsic
def blend(context: Any, a: Any, keep: Any, factor: Any, b: Any, width: Any) -> Any:
    """a <- keep a + factor b."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, keep, factor, other, width = arguments
        keep, factor = _splat(builder, keep), _splat(builder, factor)
        with _blocks(builder, width) as loop:
            at = builder.gep(own, [_place(builder, loop)])
            x = builder.fmul(keep, _load(builder, at), flags=FLAGS)
            y = _load(builder, builder.gep(other, [_place(builder, loop)]))
            _store(builder, _fused(builder, factor, y, x), at)
        return target.get_dummy_value()

    return types.void(_FLOATS, _F32, _F32, _FLOATS, _I64), code


@intrinsic
def scale(context: Any, a: Any, factor: Any, width: Any) -> Any:
    """a <- factor a."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, factor, width = arguments
        factor = _splat(builder, factor)
        with _blocks(builder, width) as loop:
            at = builder.gep(own, [_place(builder, loop)])
            _store(builder, builder.fmul(factor, _load(builder, at), flags=FLAGS), at)
        return target.get_dummy_value()

    return types.void(_FLOATS, _F32, _I64), code


@intrinsic
def copy(context: Any, a: Any, b: Any, width: Any) -> Any:
    """Copy `width` elements of the same kind from b to a; the stretches may overlap."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own, other, width = arguments
        size = target.get_abi_sizeof(own.type.pointee)
        cgutils.raw_memmove(builder, own, other, width, size)
        return target.get_dummy_value()

    return types.void(a, a, _I64), code


def _group(
    builder: Any, arguments: Any, start: Any, size: int, sums: list[Any], bias: Any, mean: Any
) -> None:
    """Write the products with `size` rows (eight or four) from `start` on, and what is added to them."""
    out, own, table, stride, width, rows = arguments[:6]
    at, row = [], []
    for k in range(size):
        number = builder.sext(builder.load(builder.gep(rows, [builder.add(start, _number(k))])), _INDEX)
        at.append(number)
        row.append(builder.gep(table, [builder.mul(number, stride)]))
        builder.store(ir.Constant(_VECTOR, [0.0] * LANES), sums[k])
    with _blocks(builder, width) as loop:
        place = _place(builder, loop)
        mine = _load(builder, builder.gep(own, [place]))
        for k in range(size):
            theirs = _load(builder, builder.gep(row[k], [place]))
            builder.store(_fused(builder, mine, theirs, builder.load(sums[k])), sums[k])
    total = _sums(builder, [builder.load(each) for each in sums[:size]])
    if bias is not None:
        level: Any = ir.Constant(_VECTOR, ir.Undefined)
        for k in range(size):
            own_bias = builder.load(builder.gep(bias, [at[k]]))
            level = builder.insert_element(level, own_bias, ir.Constant(_WORD, k))
        level = builder.fadd(level, _splat(builder, mean), flags=FLAGS)
        total = builder.fadd(total, level, flags=FLAGS)
    _store(builder, total, builder.gep(out, [start]))


def _rows(biased: bool) -> Any:
    """Return the code of `dots` or of `logits`."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count = arguments[6]
        bias, mean = arguments[7:] if biased else (None, None)
        sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(LANES)]
        # One place after the other in groups of eight; a rest of up to four in one of four.
        whole = builder.add(count, _number(LANES // 2 - 1))
        with _blocks(builder, whole) as group:
            _group(builder, arguments, _place(builder, group), LANES, sums, bias, mean)
        done = builder.and_(whole, _number(-LANES))
        with builder.if_then(builder.icmp_signed("<", done, count)):
            _group(builder, arguments, done, LANES // 2, sums, bias, mean)
        return target.get_dummy_value()

    return code


_dots_code, _logits_code = _rows(False), _rows(True)


@intrinsic
def dots(context: Any, out: Any, a: Any, table: Any, stride: Any, width: Any, rows: Any, count: Any) -> Any:
    """Write the scalar products of a stretch with rows of a table, eight rows together.

        out[c] = <a, table[stride * rows[c] :]>,  width floats each, c = 0 .. count - 1

    `count` is rounded up to a multiple of eight: `rows` must hold valid row numbers, and `out` room, up to there.
    """
    return types.void(_FLOATS, _FLOATS, _FLOATS, _I64, _I64, _WORDS, _I64), _dots_code


@intrinsic
def logits(
    context: Any, out: Any, a: Any, table: Any, stride: Any, width: Any, rows: Any, count: Any, bias: Any, mean: Any
) -> Any:  # fmt: skip
    """As `dots`, with `bias[rows[c]] + mean` added to each."""
    return types.void(_FLOATS, _FLOATS, _FLOATS, _I64, _I64, _WORDS, _I64, _FLOATS, _F32), _logits_code


def _constant(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * LANES if kind is _VECTOR else value)


def _bounded(builder: Any, x: Any, low: float, high: float) -> Any:
    kind = x.type
    x = builder.select(builder.fcmp_ordered(">", x, _constant(kind, low)), x, _constant(kind, low))
    return builder.select(builder.fcmp_ordered("<", x, _constant(kind, high)), x, _constant(kind, high))


def _exponential(builder: Any, x: Any) -> Any:
    """Return e^x of a float or of a vector: 2^n times a polynomial (coefficients of Cephes' expf, Moshier 1992).

    ln 2 is taken off in two pieces; no flag of reordering may add them up.
    """
    kind = x.type
    whole = ir.VectorType(_WORD, LANES) if kind is _VECTOR else _WORD

    def constant(value: float) -> Any:
        return _constant(kind, value)

    def integer(value: int) -> Any:
        return ir.Constant(whole, [value] * LANES if kind is _VECTOR else value)

    x = _bounded(builder, x, -87.0, 88.0)
    shifted = builder.fadd(builder.fmul(x, constant(1.44269504088896341)), constant(128.5))
    octaves = builder.fptosi(shifted, whole)
    n = builder.sitofp(builder.sub(octaves, integer(128)), kind)
    for piece in (0.693359375, -2.12194440e-4):
        x = builder.fsub(x, builder.fmul(n, constant(piece)))
    series = constant(1.9875691500e-4)
    for term in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        series = _fused(builder, series, x, constant(term))
    series = _fused(builder, builder.fmul(series, x), x, builder.fadd(x, constant(1.0)))
    power = builder.shl(builder.sub(octaves, integer(1)), integer(23))  # 128 - 1 is the exponent's bias
    return builder.fmul(series, builder.bitcast(power, kind))


def _logistic(builder: Any, x: Any) -> Any:
    one = _constant(x.type, 1.0)
    minus = builder.fsub(_constant(x.type, 0.0), x)
    return builder.fdiv(one, builder.fadd(one, _exponential(builder, minus)))


def _scalar(function: Any) -> Any:
    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return function(builder, arguments[0])

    return code


_exp_code, _sigmoid_code = _scalar(_exponential), _scalar(_logistic)


@intrinsic
def exp(context: Any, x: Any) -> Any:
    """Return e^x as float32, relative error below 2e-7, x held within -87..88."""
    return _F32(_F32), _exp_code


@intrinsic
def sigmoid(context: Any, x: Any) -> Any:
    """Return 1 / (1 + exp(-x)) as float32."""
    return _F32(_F32), _sigmoid_code


@intrinsic
def sigmoids(context: Any, a: Any, count: Any) -> Any:
    """a <- 1 / (1 + exp(-a)); `count` is rounded up to a multiple of eight."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with _blocks(builder, builder.add(arguments[1], _number(LANES - 1))) as loop:
            at = builder.gep(arguments[0], [_place(builder, loop)])
            _store(builder, _logistic(builder, _load(builder, at)), at)
        return target.get_dummy_value()

    return types.void(_FLOATS, _I64), code


@intrinsic
def dullness(context: Any, a: Any, spread: Any, count: Any) -> Any:
    """a <- 1 - exp(-max(0, a) / spread); `count` is rounded up to a multiple of eight."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, spread, count = arguments
        zero, one = _constant(_VECTOR, 0.0), _constant(_VECTOR, 1.0)
        share = _splat(builder, builder.fdiv(ir.Constant(_FLOAT, -1.0), spread))
        with _blocks(builder, builder.add(count, _number(LANES - 1))) as loop:
            at = builder.gep(start, [_place(builder, loop)])
            near = _load(builder, at)
            near = builder.select(builder.fcmp_ordered(">", near, zero), near, zero)
            _store(builder, builder.fsub(one, _exponential(builder, builder.fmul(near, share))), at)
        return target.get_dummy_value()

    return types.void(_FLOATS, _F32, _I64), code


@intrinsic
def folded_product(context: Any, a: Any, b: Any) -> Any:
    """Return the upper half of the 128 bits of a product of two uint64, exclusive or its lower half."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(each, wide) for each in arguments))
        upper = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), _INDEX)
        return builder.xor(builder.trunc(product, _INDEX), upper)

    return types.uint64(types.uint64, types.uint64), code
