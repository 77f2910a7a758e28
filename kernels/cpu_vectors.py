"""Vector instructions that Numba cannot express, written as LLVM IR.

LLVM lowers them for any target, such as AVX2 and NEON. Every pointer is an integer
address; callers keep the arrays alive and stay within their bounds. ``typingctx`` is
Numba's typing context, which callers do not pass.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR_BYTES = 32
LINE_BYTES = 64
_I32 = ir.IntType(32)


def _splat(builder: Any, vector: Any, scalar: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    lanes = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, lanes)


@intrinsic
def copy_vector(typingctx: Any, target: Any, source: Any, like: Any) -> Any:
    """Copy 32 bytes of values and return non-zero if one of them is NaN.

    Parameters
    ----------
    typingctx : Numba typing context
    target, source : intp
        Addresses, aligned to 4 bytes.
    like : float32 or float64
        A value of the type to copy.

    Returns
    -------
    uint32
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = VECTOR_BYTES * 8 // like.bitwidth
        vector = ir.VectorType(context.get_value_type(like), lanes)
        value = builder.load(builder.inttoptr(args[1], vector.as_pointer()), align=4)
        builder.store(value, builder.inttoptr(args[0], vector.as_pointer()), align=4)
        is_nan = builder.fcmp_unordered("uno", value, value)
        return builder.zext(builder.bitcast(is_nan, ir.IntType(lanes)), _I32)

    return types.uint32(types.intp, types.intp, like), codegen


@intrinsic
def stream_normalized(
    typingctx: Any, target: Any, source: Any, median: Any, scale: Any, clip: Any, for_nan: Any
) -> Any:
    """Normalise a cache line of pixels and store it bypassing the cache.

    The arithmetic is that of ``numba_cpu.normalize``. An ordinary store reads its cache
    line first. A non-temporal store does not, which saves a third of the memory traffic
    of a stack that fits in no cache.

    Parameters
    ----------
    typingctx : Numba typing context
    target : intp
        Address, aligned to 64 bytes.
    source : intp
        Address, aligned to 4 bytes.
    median, scale : float32 or float64
        Statistics of the plane.
    clip : float of that type
        Limit of the result; inf for none.
    for_nan : float of that type
        Value that replaces NaN before and after: 0, or NaN.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = context.get_value_type(median)
        lanes = LINE_BYTES * 8 // median.bitwidth
        vector = ir.VectorType(real, lanes)
        low_clip = _splat(builder, vector, builder.fneg(args[4]))
        centre, width, high_clip, replacement = (_splat(builder, vector, x) for x in args[2:])

        def replace_nan(value: Any) -> Any:
            return builder.select(builder.fcmp_ordered("ord", value, value), value, replacement)

        value = builder.load(builder.inttoptr(args[1], vector.as_pointer()), align=4)
        value = builder.fdiv(builder.fsub(replace_nan(value), centre), width)
        value = replace_nan(value)
        value = builder.select(builder.fcmp_ordered(">", value, high_clip), high_clip, value)
        value = builder.select(builder.fcmp_ordered("<", value, low_clip), low_clip, value)
        pointer = builder.inttoptr(args[0], vector.as_pointer())
        store = builder.store(value, pointer, align=LINE_BYTES)
        hint = builder.module.add_metadata([ir.Constant(_I32, 1)])
        store.set_metadata("nontemporal", hint)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, *[median] * 4), codegen


@intrinsic
def stream_fence(typingctx: Any) -> Any:
    """Make non-temporal stores visible to other threads."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def between_bits(typingctx: Any, address: Any, low: Any, high: Any) -> Any:
    """Return 32 bits, of which bit ``i`` is set if ``low <= value[i] <= high``.

    Parameters
    ----------
    typingctx : Numba typing context
    address : intp
        Address of 32 values, aligned to 4 bytes.
    low, high : float32 or float64
        Bounds, of the type of the values.

    Returns
    -------
    uint32
    """
    if low != high or not isinstance(low, types.Float):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(context.get_value_type(low), 32)
        values = builder.load(builder.inttoptr(args[0], vector.as_pointer()), align=4)

        at_least = builder.fcmp_ordered(">=", values, _splat(builder, vector, args[1]))
        at_most = builder.fcmp_ordered("<=", values, _splat(builder, vector, args[2]))
        return builder.bitcast(builder.and_(at_least, at_most), _I32)

    return types.uint32(types.intp, low, high), codegen


@intrinsic
def lowest_bit(typingctx: Any, bits: Any) -> Any:
    """Return the index of the lowest set bit of a non-zero uint32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint32(types.uint32), codegen


@intrinsic
def prefetch_line(typingctx: Any, address: Any) -> Any:
    """Prefetch the cache line at ``address``; any address is safe."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        read, into_second_level, data = (ir.Constant(_I32, number) for number in (0, 2, 1))
        pointer = builder.inttoptr(args[0], byte)
        builder.call(prefetch, [pointer, read, into_second_level, data])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def borrow(typingctx: Any, array: Any) -> Any:
    """Return the same array without an owner; the caller keeps the memory alive.

    Slicing an owned array counts references with an atomic instruction, which
    waits for every store in flight. Here that costs more than a counting pass.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        borrowed = context.make_array(array)(context, builder, value=args[0])
        borrowed.meminfo = cgutils.get_null_value(borrowed.meminfo.type)
        borrowed.parent = cgutils.get_null_value(borrowed.parent.type)
        return borrowed._getvalue()

    return array(array), codegen
