"""The table of instructions: results from operands; those that touch memory are in `steps`.

An entry is a function of the opcode and of the operands, which are arrays with one
value per lane. The table also says of which type every operand is, and which
modifiers the function takes into account: an opcode with any other is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, reduce
from typing import NamedTuple

import numpy as np

from benchmarks.ptx import floats
from benchmarks.ptx.floats import Values
from benchmarks.ptx.opcodes import DTYPES, PAIRS, Opcode, UnknownInstructionError, split_opcode

Compute = Callable[..., Values]


class Operation(NamedTuple):
    """An entry of the table.

    Attributes
    ----------
    compute : function
    reads : str
        A letter per operand: t for the type of the opcode, s for its last type, w for
        twice the width, n for u32, p for a predicate. With + at the end, the last one may repeat.
    modifiers : set of str
    """

    compute: Compute
    reads: str
    modifiers: frozenset[str]


OPERATIONS: dict[str, Operation] = {}
ROUNDED = "rn ftz"  # of float arithmetic


def operation(root: str, reads: str, modifiers: str = "") -> Callable[[Compute], Compute]:
    def enter(compute: Compute) -> Compute:
        OPERATIONS[root] = Operation(compute, reads, frozenset(modifiers.split()))
        return compute

    return enter


class Resolved(NamedTuple):
    """An opcode ready to run.

    Attributes
    ----------
    compute : function
        Of the operands.
    reads : list of str
        Type of every operand.
    signed : bool
        Whether a result that is narrower than its register extends its sign.
    approximate : bool
        Whether a GPU may return another value than the correctly rounded one.
    """

    compute: Compute
    reads: list[str]
    signed: bool
    approximate: bool


@cache
def resolve(opcode: str, operands: int) -> Resolved:
    """Find an opcode with so many operands in the table."""
    op = split_opcode(opcode)
    if op.root not in OPERATIONS:
        raise UnknownInstructionError(f"unknown instruction {opcode}")
    entry = OPERATIONS[op.root]
    if unknown := set(op.modifiers) - entry.modifiers:
        raise UnknownInstructionError(f"unknown modifier {', '.join(unknown)} in {opcode}")
    letters = entry.reads.rstrip("+")
    if len(letters) < operands and entry.reads.endswith("+"):
        letters += letters[-1] * (operands - len(letters))
    if len(letters) != operands:
        raise UnknownInstructionError(f"{opcode} with {operands} operands")
    types = {"t": op.types[0], "s": op.types[-1], "n": "u32", "p": "pred"}
    if "w" in entry.reads and "wide" in op.modifiers:
        types["w"] = op.doubled
    reads = [types.get(letter, op.types[0]) for letter in letters]

    if len(op.types) != (2 if op.root == "cvt" else 1):
        return _resolve_mixed(opcode, op, operands)
    if op.types[0] in PAIRS and op.root not in ("mov", "cvt"):
        return _resolve_pairs(opcode, op, operands)

    def exact(*values: Values) -> Values:
        return entry.compute(op, *values)

    def flushing(*values: Values) -> Values:
        return floats.flushed(entry.compute(op, *(floats.flushed(value) for value in values)))

    return Resolved(
        flushing if "ftz" in op.modifiers else exact,
        reads,
        op.types[0].startswith("s"),
        bool({"approx", "full"} & set(op.modifiers)),
    )


def _resolve_mixed(opcode: str, op: Opcode, operands: int) -> Resolved:
    """Compute in float32 with operands of 16 bits, all but the last."""
    if op.root not in ("add", "sub", "fma") or op.types not in (("f32", "f16"), ("f32", "bf16")):
        raise UnknownInstructionError(f"unknown types in {opcode}")
    single = resolve(opcode.rsplit(".", 1)[0], operands)

    def compute(*values: Values) -> Values:
        *narrow, last = values
        if op.types[1] == "bf16":
            return single.compute(*(floats.from_bfloat16(value) for value in narrow), last)
        return single.compute(*(value.astype(np.float32) for value in narrow), last)

    return single._replace(compute=compute, reads=[op.types[1]] * (operands - 1) + ["f32"])


def _resolve_pairs(opcode: str, op: Opcode, operands: int) -> Resolved:
    """Compute with both halves of a register as two values."""
    pair, half = op.types[0], PAIRS[op.types[0]]
    single = resolve(opcode.replace(pair, half), operands)

    def compute(*values: Values) -> Values:
        halves = [value.view(DTYPES[half]) for value in np.broadcast_arrays(*values)]
        return single.compute(*halves).view(DTYPES[pair])

    return single._replace(compute=compute, reads=[pair] * len(single.reads))


def _arithmetic(op: Opcode, result: Values) -> Values:
    return floats.with_canonical_nan(result) if result.dtype.kind == "f" else result


@operation("mov", "t")
@operation("cvta", "t", "to global shared")
def _same(op: Opcode, a: Values) -> Values:
    return a


@operation("add", "tt", ROUNDED)
def _add(op: Opcode, a: Values, b: Values) -> Values:
    return _arithmetic(op, a + b)


@operation("sub", "tt", ROUNDED)
def _sub(op: Opcode, a: Values, b: Values) -> Values:
    return _arithmetic(op, a - b)


@operation("mul", "tt", ROUNDED + " lo hi wide")
def _mul(op: Opcode, a: Values, b: Values) -> Values:
    if "wide" in op.modifiers:
        wide = DTYPES[op.doubled]
        return a.astype(wide) * b.astype(wide)
    if "hi" in op.modifiers:
        return _high_half(op, a, b)
    return _arithmetic(op, a * b)


def _high_half(op: Opcode, a: Values, b: Values) -> Values:
    if op.dtype.itemsize < 8:
        wide = DTYPES[op.doubled]
        bits = wide.type(8 * op.dtype.itemsize)
        return ((a.astype(wide) * b.astype(wide)) >> bits).astype(op.dtype)
    low, shift = np.uint64(0xFFFF_FFFF), np.uint64(32)
    x, y = a.astype(np.uint64), b.astype(np.uint64)
    x0, x1, y0, y1 = x & low, x >> shift, y & low, y >> shift
    middle = x1 * y0 + ((x0 * y0) >> shift)
    other = x0 * y1 + (middle & low)
    high = x1 * y1 + (middle >> shift) + (other >> shift)
    if op.dtype.kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.astype(op.dtype)


@operation("mad", "ttw", "lo wide")
def _mad(op: Opcode, a: Values, b: Values, c: Values) -> Values:
    if op.dtype.kind == "f":
        raise UnknownInstructionError("mad of floats")
    return _mul(op, a, b) + c


@operation("fma", "ttt", ROUNDED)
def _fma(op: Opcode, a: Values, b: Values, c: Values) -> Values:
    return _arithmetic(op, floats.fused(a, b, c))


@operation("div", "tt", ROUNDED + " full approx")
def _div(op: Opcode, a: Values, b: Values) -> Values:
    if op.dtype.kind == "f":
        return _arithmetic(op, a / b)
    return np.asarray((a - np.fmod(a, b)) // b)  # towards 0


@operation("rem", "tt")
def _rem(op: Opcode, a: Values, b: Values) -> Values:
    return np.fmod(a, b)


def _rounded_from_double(name: str, function: Callable[[Values], Values]) -> None:
    @operation(name, "t", "approx ftz rn")
    def compute(op: Opcode, a: Values) -> Values:
        if op.dtype == np.float64 and "approx" in op.modifiers:
            raise UnknownInstructionError(f"{name}.approx of f64")
        return _arithmetic(op, function(a.astype(np.float64)).astype(op.dtype))


_rounded_from_double("sqrt", np.sqrt)
_rounded_from_double("rcp", lambda x: 1 / x)
_rounded_from_double("rsqrt", lambda x: 1 / np.sqrt(x))
_rounded_from_double("ex2", np.exp2)
_rounded_from_double("lg2", np.log2)
_rounded_from_double("sin", np.sin)
_rounded_from_double("cos", np.cos)


@operation("neg", "t", "ftz")
def _neg(op: Opcode, a: Values) -> Values:
    return -a


@operation("abs", "t", "ftz")
def _abs(op: Opcode, a: Values) -> Values:
    return np.abs(a)


@operation("copysign", "tt")
def _copysign(op: Opcode, sign: Values, magnitude: Values) -> Values:
    return np.copysign(magnitude, sign)


@operation("min", "tt+", "NaN xorsign abs ftz")
def _min(op: Opcode, *values: Values) -> Values:
    return reduce(lambda a, b: _extreme(op, a, b, False), values)


@operation("max", "tt+", "NaN xorsign abs ftz")
def _max(op: Opcode, *values: Values) -> Values:
    return reduce(lambda a, b: _extreme(op, a, b, True), values)


def _extreme(op: Opcode, a: Values, b: Values, is_max: bool) -> Values:
    if op.dtype.kind != "f":
        return np.maximum(a, b) if is_max else np.minimum(a, b)
    if "xorsign" not in op.modifiers:
        return floats.extreme(a, b, is_max, "NaN" in op.modifiers)
    size = floats.extreme(np.abs(a), np.abs(b), is_max, "NaN" in op.modifiers)
    sign = np.signbit(a) ^ np.signbit(b)
    return np.where(sign & (size == size), -size, size)


@operation("and", "tt")
def _and(op: Opcode, a: Values, b: Values) -> Values:
    return a & b


@operation("or", "tt")
def _or(op: Opcode, a: Values, b: Values) -> Values:
    return a | b


@operation("xor", "tt")
def _xor(op: Opcode, a: Values, b: Values) -> Values:
    return a ^ b


@operation("not", "t")
def _not(op: Opcode, a: Values) -> Values:
    return ~a


@operation("shl", "tn")
def _shl(op: Opcode, a: Values, count: Values) -> Values:
    bits = 8 * op.dtype.itemsize
    shifted = a << np.minimum(count, bits - 1).astype(op.dtype)
    return np.where(count < bits, shifted, op.dtype.type(0))


@operation("shr", "tn")
def _shr(op: Opcode, a: Values, count: Values) -> Values:
    bits = 8 * op.dtype.itemsize
    shifted = a >> np.minimum(count, bits - 1).astype(op.dtype)
    return shifted if op.dtype.kind == "i" else np.where(count < bits, shifted, op.dtype.type(0))


@operation("shf", "ttn", "l r wrap clamp")
def _shf(op: Opcode, low: Values, high: Values, count: Values) -> Values:
    most = np.minimum(count, np.uint32(32)) if "clamp" in op.modifiers else count & np.uint32(31)
    both = (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)
    if "l" in op.modifiers:
        return ((both << most.astype(np.uint64)) >> np.uint64(32)).astype(op.dtype)
    return (both >> most.astype(np.uint64)).astype(op.dtype)


@operation("bfe", "tnn")
def _bfe(op: Opcode, a: Values, first: Values, length: Values) -> Values:
    bits = 8 * op.dtype.itemsize
    start, count = np.minimum(first & 255, bits), np.minimum(length & 255, bits)
    stop = np.minimum(start + count, bits)
    # Shift out what is above the field, then what is below; the sign is that of its top bit.
    up, down = (bits - stop).astype(op.dtype), (bits - stop + start).astype(op.dtype)
    is_empty = (count == 0) | (start >= bits)
    return np.where(is_empty, op.dtype.type(0), (a << up) >> np.minimum(down, bits - 1))


@operation("bfi", "ttnn")
def _bfi(op: Opcode, field: Values, base: Values, first: Values, length: Values) -> Values:
    bits = 8 * op.dtype.itemsize
    start, count = np.minimum(first & 255, bits - 1).astype(op.dtype), length & 255
    ones = np.iinfo(op.dtype).max
    mask = np.where(count >= bits, ones, (op.dtype.type(1) << count.astype(op.dtype)) - 1)
    mask = np.where(first & 255 >= bits, 0, mask.astype(op.dtype) << start).astype(op.dtype)
    return (base & ~mask) | ((field << start) & mask)


@operation("prmt", "ttt")
def _prmt(op: Opcode, a: Values, b: Values, selector: Values) -> Values:
    both = (b.astype(np.uint64) << np.uint64(32)) | a.astype(np.uint64)
    result = np.zeros_like(both)
    for i in range(4):
        choice = (selector >> np.uint32(4 * i)) & np.uint32(15)
        byte = (both >> ((choice & 7) * 8).astype(np.uint64)) & np.uint64(255)
        sign = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
        result = result | np.where(choice & 8, sign, byte) << np.uint64(8 * i)
    return result.astype(np.uint32)


@operation("popc", "t")
def _popc(op: Opcode, a: Values) -> Values:
    return np.bitwise_count(a).astype(np.uint32)


@operation("clz", "t")
def _clz(op: Opcode, a: Values) -> Values:
    bits = 8 * op.dtype.itemsize
    filled = a
    for shift in (1, 2, 4, 8, 16, 32)[: bits.bit_length() - 1]:
        filled = filled | (filled >> op.dtype.type(shift))
    return (bits - np.bitwise_count(filled)).astype(np.uint32)


COMPARISONS: dict[str, Callable[[Values, Values], Values]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
FLOAT_COMPARISONS = ("equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")


@operation("setp", "tt", " ".join((*COMPARISONS, *FLOAT_COMPARISONS, "ftz")))
def _setp(op: Opcode, a: Values, b: Values) -> Values:
    name = op.modifiers[0]
    if op.dtype.kind != "f":
        return COMPARISONS[name](a, b)
    unordered = (a != a) | (b != b)
    if name in ("num", "nan"):
        return unordered if name == "nan" else ~unordered
    if name == "ne":  # true for NaN in NumPy, false here
        return (a != b) & ~unordered
    if name in COMPARISONS:
        return COMPARISONS[name](a, b)
    return COMPARISONS[name[:-1]](a, b) | unordered


@operation("selp", "ttp")
def _selp(op: Opcode, a: Values, b: Values, chosen: Values) -> Values:
    return np.where(chosen, a, b)


@operation("cvt", "s", "rn rni rzi rmi rpi ftz sat")
def _cvt(op: Opcode, a: Values) -> Values:
    to, of = op.types[0], op.types[-1]
    if "x2" in to:
        raise UnknownInstructionError("a pair is made by its own step")
    if of == "bf16":
        a = floats.from_bfloat16(a)
    mode = next((name for name in op.modifiers if name in floats.ROUNDINGS), None)
    if "sat" in op.modifiers and "f" in to:
        a = np.where(a > 0, np.minimum(a, a.dtype.type(1)), a.dtype.type(0))
    if to == "bf16":
        return floats.to_bfloat16(a.astype(np.float32, copy=False))
    if "f" not in to and "f" in of:
        if mode is None:
            raise UnknownInstructionError("a conversion to an integer without rounding mode")
        return floats.to_integer(a, op.dtype.type, mode)
    if "f" not in to and "sat" in op.modifiers:
        limits = np.iinfo(op.dtype)
        return np.clip(a, limits.min, limits.max).astype(op.dtype)
    if mode is not None and a.dtype == op.dtype:
        return _arithmetic(op, floats.ROUNDINGS[mode](a))
    result = a.astype(op.dtype)
    return _arithmetic(op, result)
