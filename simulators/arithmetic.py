"""How the compiled step is compiled, and its functions of numbers: exponential, logistic function, random bits."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from recworld.simulators.lanes import (
    F32,
    FLAGS,
    FLOAT,
    FLOATS,
    I64,
    INDEX,
    LANES,
    VECTOR,
    WORD,
    blocks,
    eighth,
    fused,
    index,
    load,
    splat,
    store,
)  # fmt: skip

inner = njit(
    nogil=True,
    fastmath=set(FLAGS),
    error_model="numpy",
    _nrt=False,
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)
"""Inner functions allocate nothing, so the reference counting of arrays is off (`_nrt`): it costs more than the step."""


def _constant(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * LANES if kind is VECTOR else value)


def _bounded(builder: Any, x: Any, low: float, high: float) -> Any:
    kind = x.type
    x = builder.select(builder.fcmp_ordered(">", x, _constant(kind, low)), x, _constant(kind, low))
    return builder.select(builder.fcmp_ordered("<", x, _constant(kind, high)), x, _constant(kind, high))


def _exponential(builder: Any, x: Any) -> Any:
    """Return e^x of a float or of a vector: 2^n times a polynomial (coefficients of Cephes' expf, Moshier 1992).

    ln 2 is taken off in two pieces; no flag of reordering may add them up.
    """
    kind = x.type
    whole = ir.VectorType(WORD, LANES) if kind is VECTOR else WORD

    def constant(value: float) -> Any:
        return _constant(kind, value)

    def integer(value: int) -> Any:
        return ir.Constant(whole, [value] * LANES if kind is VECTOR else value)

    x = _bounded(builder, x, -87.0, 88.0)
    shifted = builder.fadd(builder.fmul(x, constant(1.44269504088896341)), constant(128.5))
    octaves = builder.fptosi(shifted, whole)
    n = builder.sitofp(builder.sub(octaves, integer(128)), kind)
    for piece in (0.693359375, -2.12194440e-4):
        x = builder.fsub(x, builder.fmul(n, constant(piece)))
    series = constant(1.9875691500e-4)
    for term in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        series = fused(builder, series, x, constant(term))
    series = fused(builder, builder.fmul(series, x), x, builder.fadd(x, constant(1.0)))
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
    return F32(F32), _exp_code


@intrinsic
def sigmoid(context: Any, x: Any) -> Any:
    """Return 1 / (1 + exp(-x)) as float32."""
    return F32(F32), _sigmoid_code


@intrinsic
def sigmoids(context: Any, a: Any, count: Any) -> Any:
    """a <- 1 / (1 + exp(-a)); `count` is rounded up to a multiple of eight."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with blocks(builder, builder.add(arguments[1], index(LANES - 1))) as loop:
            at = builder.gep(arguments[0], [eighth(builder, loop)])
            store(builder, _logistic(builder, load(builder, at)), at)
        return target.get_dummy_value()

    return types.void(FLOATS, I64), code


@intrinsic
def dullness(context: Any, a: Any, spread: Any, count: Any) -> Any:
    """a <- 1 - exp(-max(0, a) / spread); `count` is rounded up to a multiple of eight."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, spread, count = arguments
        zero, one = _constant(VECTOR, 0.0), _constant(VECTOR, 1.0)
        share = splat(builder, builder.fdiv(ir.Constant(FLOAT, -1.0), spread))
        with blocks(builder, builder.add(count, index(LANES - 1))) as loop:
            at = builder.gep(start, [eighth(builder, loop)])
            near = load(builder, at)
            near = builder.select(builder.fcmp_ordered(">", near, zero), near, zero)
            store(builder, builder.fsub(one, _exponential(builder, builder.fmul(near, share))), at)
        return target.get_dummy_value()

    return types.void(FLOATS, F32, I64), code


@intrinsic
def folded_product(context: Any, a: Any, b: Any) -> Any:
    """Return the upper half of the 128 bits of a product of two uint64, exclusive or its lower half."""

    def code(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(each, wide) for each in arguments))
        upper = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), INDEX)
        return builder.xor(builder.trunc(product, INDEX), upper)

    return types.uint64(types.uint64, types.uint64), code
