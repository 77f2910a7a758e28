"""Tests of what single instructions compute, against Python's integers, fractions and `struct`."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.ptx.opcodes import DTYPES, UnknownInstructionError
from tests.kernels.ptx_snippets import computed

INF, NAN = math.inf, math.nan
RNG = np.random.default_rng(18)


def bits(values: Any) -> list[int]:
    array = np.asarray(values)
    return [int(x) for x in array.view(f"u{array.dtype.itemsize}")]


def integers(kind: str) -> NDArray[Any]:
    limits = np.iinfo(DTYPES[kind])
    edges = [limits.min, limits.min + 1, 0, 1, 2, 3, limits.max - 1, limits.max, limits.max // 2]
    random = RNG.integers(limits.min, limits.max, 20, DTYPES[kind], endpoint=True)
    return np.concatenate([np.array(edges, DTYPES[kind]), random])


def pairs(kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b = np.meshgrid(integers(kind), integers(kind))
    return a.ravel(), b.ravel()


def wrapped(values: list[int], kind: str) -> list[int]:
    size = DTYPES[kind].itemsize
    return [value % (1 << 8 * size) for value in values]


def truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


TWO_OPERANDS: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, n: a + b,
    "sub": lambda a, b, n: a - b,
    "mul.lo": lambda a, b, n: a * b,
    "mul.hi": lambda a, b, n: a * b >> n,
    "min": lambda a, b, n: min(a, b),
    "max": lambda a, b, n: max(a, b),
    "div": lambda a, b, n: truncated(a, b),
    "rem": lambda a, b, n: a - b * truncated(a, b),
}


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("name", TWO_OPERANDS)
def test_integers_of_two(name: str, kind: str) -> None:
    a, b = pairs(kind)
    if name in ("div", "rem"):
        overflows = (a == np.iinfo(a.dtype).min) & (b.astype(np.int64) == -1)
        keep = (b != 0) & ~overflows
        a, b = a[keep], b[keep]
    width = 8 * a.dtype.itemsize
    exact = [TWO_OPERANDS[name](x, y, width) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    got = computed(f"{name}.{kind}", f"{kind} {kind} {kind}", a, b)
    assert bits(got) == wrapped(exact, kind)


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32"])
def test_wide_products(kind: str) -> None:
    a, b = pairs(kind)
    wide = f"{kind[0]}{2 * int(kind[1:])}"
    exact = [x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    got = computed(f"mul.wide.{kind}", f"{wide} {kind} {kind}", a, b)
    assert bits(got) == wrapped(exact, wide)
    more = computed(f"mad.wide.{kind}", f"{wide} {kind} {kind} {wide}", a, b, np.full(a.size, 7))
    assert bits(more) == wrapped([x + 7 for x in exact], wide)


@pytest.mark.parametrize("kind", ["b16", "b32", "b64", "s16", "s32", "s64", "u32"])
def test_shifts_beyond_the_width(kind: str) -> None:
    width, values = 8 * DTYPES[kind].itemsize, integers(kind)
    for count in (0, 1, width - 1, width, width + 1, 255, 2**32 - 1):
        n = min(count, 70)
        left = [x << n if n < width else 0 for x in values.tolist()]
        right = [x >> n for x in values.tolist()]
        if kind[0] != "s":
            got = computed(f"shl.b{width}", f"{kind} {kind} u32", values, np.uint32(count))
            assert bits(got) == wrapped(left, kind), count
        got = computed(f"shr.{kind}", f"{kind} {kind} u32", values, np.uint32(count))
        assert bits(got) == wrapped(right, kind), count


def test_fields_of_bits() -> None:
    values = integers("u32")
    text = [format(x, "032b")[::-1] for x in values.tolist()]
    for first, length in ((0, 0), (0, 32), (3, 2), (31, 1), (28, 9), (40, 3)):
        field = [int(digits[first : first + length][::-1] or "0", 2) for digits in text]
        got = computed("bfe.u32", "u32 u32", values, extra=f", {first}, {length}")
        assert got.tolist() == field, (first, length)
    signed = computed("bfe.s32", "s32 u32", [0b1100, 0b0100], extra=", 2, 2")
    assert signed.tolist() == [-1, 1]
    inserted = computed("bfi.b32", "b32 b32 b32", [0b101], [0xFFFF_FFFF], extra=", 4, 3")
    assert inserted.tolist() == [0xFFFF_FFDF]


def test_bytes_are_permuted() -> None:
    a, b = struct.unpack("<II", bytes(range(0x80, 0x88)))
    got = computed("prmt.b32", "b32 b32 b32", [a], [b], extra=", 0xF210")
    assert struct.pack("<I", got[0]) == bytes([0x80, 0x81, 0x82, 0xFF])


def test_bits_are_counted() -> None:
    counts = integers("b32").tolist()
    got = computed("popc.b32", "b32 b32", counts)
    assert got.tolist() == [x.bit_count() for x in counts]
    got = computed("clz.b32", "b32 b32", counts)
    assert got.tolist() == [32 - x.bit_length() for x in counts]


def rounded(exact: Fraction, code: str) -> bytes:
    """Round a fraction to a float by `struct`, via Python's correctly rounded float if wider."""
    if code == "d":
        return struct.pack("<d", float(exact))
    # To 60 bits and odd, so that the rounding to double and then to float does no harm.
    if exact == 0:
        return struct.pack(f"<{code}", 0.0)
    exponent = math.frexp(float(exact))[1] - 50
    scaled = exact / Fraction(2) ** exponent
    whole = math.floor(scaled)
    whole |= int(whole != scaled)
    return struct.pack(f"<{code}", math.ldexp(float(whole), exponent))


def test_a_fused_product_is_rounded_once() -> None:
    a, b = (RNG.normal(size=4000).astype(np.float32) for _ in "ab")
    c = (-a.astype(np.float64) * b * RNG.uniform(0.9, 1.1, 4000)).astype(np.float32)
    # Sums so close to half way between two float32 that float64 rounds them to half way.
    a[:1000] = RNG.choice([-0.25, 0.25], 1000) * (1 + np.ldexp(1.0, -RNG.integers(16, 24, 1000)))
    b[:1000] = 1 - np.ldexp(1.0, -RNG.integers(16, 24, 1000))
    c[:1000] = 2.0**22 + RNG.integers(0, 2**22, 1000) / 2
    exact = [
        Fraction(x) * Fraction(y) + Fraction(z)
        for x, y, z in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    ]
    wanted = b"".join(rounded(value, "f") for value in exact)
    assert computed("fma.rn.f32", "f32 f32 f32 f32", a, b, c).tobytes() == wanted
    twice = (a.astype(np.float64) * b + c).astype(np.float32)
    assert twice.tobytes() != wanted, "rounding twice would not be seen"


def test_a_fused_product_of_doubles_finds_the_error_of_a_product() -> None:
    a, b = RNG.normal(size=500), RNG.normal(size=500)
    error = computed("fma.rn.f64", "f64 f64 f64 f64", a, b, -(a * b))
    for x, y, rest in zip(a.tolist(), b.tolist(), error.tolist(), strict=True):
        assert Fraction(x) * Fraction(y) - Fraction(x * y) == Fraction(rest)
    special = computed(
        "fma.rn.f64", "f64 f64 f64 f64", [INF, 0, -0.0, 1], [0, 5, 5, 1], [1, -0.0, -0.0, -1]
    )
    assert bits(special)[1:] == bits(np.array([0.0, -0.0, 0.0]))
    assert math.isnan(special[0])


ORDERED = [-INF, -1.0, -0.0, 0.0, 1.0, INF]


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_minimum_and_maximum_know_zeros_and_nan(kind: str) -> None:
    a, b = (x.ravel() for x in np.meshgrid(ORDERED, ORDERED))
    first, second = (x.ravel() for x in np.meshgrid(range(6), range(6)))
    dtype = DTYPES[kind]
    wanted = np.array(ORDERED, dtype)
    got = computed(f"min.{kind}", f"{kind} {kind} {kind}", a, b)
    assert bits(got) == bits(wanted[np.minimum(first, second)])
    got = computed(f"max.{kind}", f"{kind} {kind} {kind}", a, b)
    assert bits(got) == bits(wanted[np.maximum(first, second)])
    for name in ("min", "max"):
        got = computed(f"{name}.{kind}", f"{kind} {kind} {kind}", [NAN, 2, NAN], [1, NAN, NAN])
        assert bits(got)[:2] == bits(np.array([1, 2], dtype))
        assert math.isnan(got[2])
    if kind == "f32":
        assert np.isnan(computed("min.NaN.f32", "f32 f32 f32", [NAN, 2], [1, NAN])).all()


def test_minimum_of_magnitudes_with_the_product_of_signs() -> None:
    got = computed("min.xorsign.abs.f32", "f32 f32 f32", [-3, 3, -3, 9], [2, -2, -5, 4])
    assert got.tolist() == [-2, -2, 3, 4]


COMPARISONS = {
    "lt": (1, 0, 0, 0), "le": (1, 1, 0, 0), "gt": (0, 0, 1, 0), "ge": (0, 1, 1, 0),
    "eq": (0, 1, 0, 0), "ne": (1, 0, 1, 0), "ltu": (1, 0, 0, 1), "leu": (1, 1, 0, 1),
    "gtu": (0, 0, 1, 1), "geu": (0, 1, 1, 1), "equ": (0, 1, 0, 1), "neu": (1, 0, 1, 1),
    "num": (1, 1, 1, 0), "nan": (0, 0, 0, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_with_nan(name: str) -> None:
    got = computed(f"setp.{name}.f32", "pred f32 f32", [1, 0.0, 3, NAN], [2, -0.0, 2, 1])
    assert tuple(got.tolist()) == COMPARISONS[name]


def test_flushing_subnormals() -> None:
    least = 2.0**-149
    got = computed(
        "mul.rn.ftz.f32",
        "f32 f32 f32",
        [least, 2.0**-80, -(2.0**-80)],
        [2.0**30, 2.0**-60, 2.0**-60],
    )
    assert bits(got) == bits(np.array([0, 0, -0.0], np.float32))
    kept = computed("mul.rn.f32", "f32 f32 f32", [least], [2.0**30])
    assert kept.tolist() == [2.0**-119]
    assert computed("setp.eq.ftz.f32", "pred f32 f32", [least], [0.0]).tolist() == [1]


INTEGERS = [
    ("cvt.rzi.s32.f32", "s32 f32", [1.9, -1.9, NAN], [1, -1, 0]),
    ("cvt.rzi.s32.f32", "s32 f32", [3e9, -3e9, INF], [2**31 - 1, -(2**31), 2**31 - 1]),
    ("cvt.rni.s32.f32", "s32 f32", [0.5, 1.5, 2.5, -0.5, -1.5], [0, 2, 2, 0, -2]),
    ("cvt.rmi.s32.f64", "s32 f64", [1.9, -1.1, -1e300, NAN], [1, -2, -(2**31), -(2**31)]),
    ("cvt.rzi.s32.f64", "s32 f64", [2.0**31 - 2, 2.0**31], [2**31 - 2, 2**31 - 1]),
    ("cvt.rpi.u32.f32", "u32 f32", [1.1, -5, 5e9, NAN], [2, 0, 2**32 - 1, 0]),
    ("cvt.rzi.s64.f32", "s64 f32", [2.0**62, 2.0**63], [2**62, 2**63 - 1]),
    ("cvt.rzi.s64.f32", "s64 f32", [-(2.0**64), NAN], [-(2**63), -(2**63)]),
    ("cvt.rzi.u64.f64", "u64 f64", [2.0**63, 2.0**64, -1], [2**63, 2**64 - 1, 0]),
    ("cvt.s64.s32", "s64 s32", [-5, 7], [-5, 7]),
    ("cvt.u64.u32", "u64 u32", [2**32 - 1], [2**32 - 1]),
    ("cvt.s32.s8", "s32 b32", [0x1FF, 0x17F], [-1, 127]),
    ("cvt.u16.u32", "u16 u32", [0x12345], [0x2345]),
    ("cvt.sat.u8.s32", "u16 s32", [-5, 300, 17], [0, 255, 17]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("opcode", "kinds", "values", "wanted"), INTEGERS, ids=lambda x: str(x)[:20]
)
def test_conversions_to_integers(opcode: str, kinds: str, values: Any, wanted: Any) -> None:
    assert computed(opcode, kinds, values).tolist() == wanted


def test_conversions_round_to_even() -> None:
    whole = integers("s64")
    got = computed("cvt.rn.f32.s64", "f32 s64", whole)
    assert got.tobytes() == b"".join(rounded(Fraction(x), "f") for x in whole.tolist())
    values = np.concatenate([RNG.normal(size=200), [65519.9, 2.0**-25, 6e-8, 2049, 2051]])
    narrow = computed("cvt.rn.f16.f32", "b16 f32", values.astype(np.float32))
    packed = b"".join(struct.pack("<e", x) for x in values.astype(np.float32).tolist())
    assert narrow.tobytes() == packed
    assert computed("cvt.rn.f16.f32", "f16 f32", [65520.0, 1e30]).tolist() == [INF, INF]
    single = computed("cvt.rn.f32.f64", "f32 f64", values)
    assert single.tobytes() == b"".join(struct.pack("<f", x) for x in values.tolist())
    halves = np.array([0x3F80_8000, 0x3F81_8000, 0x3F80_8001, 0x3F80_7FFF], np.uint32)
    brain = computed("cvt.rn.bf16.f32", "b16 b32", halves)
    assert brain.tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F80]


def test_pairs_of_values_in_one_register() -> None:
    a = np.array([[1, 2], [3, INF]], np.float32)
    b = np.array([[10, 20], [2.0**-24, -INF]], np.float32)
    got = computed("add.rn.f32x2", "b64 b64 b64", *(x.view(np.uint64).ravel() for x in (a, b)))
    sums = got.view(np.float32)
    assert sums[:3].tolist() == [11, 22, 3]
    assert bits(sums)[3] == 0x7FFF_FFFF, "the NaN of a GPU"
    packed = computed("cvt.rn.f16x2.f32", "b32 f32 f32", [2.0], [1.0])
    assert packed.view(np.float16).tolist() == [1, 2]
    mixed = computed("sub.rn.f32.f16", "f32 f16 f32", [1.5], [0.25])
    assert mixed.tolist() == [1.25]


def test_approximations_are_near_and_are_perturbed() -> None:
    x = RNG.uniform(0.1, 10, 300).astype(np.float32)
    for opcode, exact in (
        ("ex2.approx.ftz.f32", np.exp2),
        ("lg2.approx.f32", np.log2),
        ("sqrt.approx.f32", np.sqrt),
    ):
        truth = exact(x.astype(np.float64)).astype(np.float32)
        assert (computed(opcode, "f32 f32", x) == truth).all()
        changed = computed(opcode, "f32 f32", x, ulps=2)
        steps = np.abs(changed.view(np.int32) - truth.view(np.int32))
        assert set(steps.tolist()) == {0, 1, 2}, opcode
    assert (computed("sqrt.rn.f32", "f32 f32", x, ulps=2) == np.sqrt(x)).all()
    quotient = computed("div.full.f32", "f32 f32 f32", x, x[::-1], ulps=2)
    assert (quotient != x / x[::-1]).any()


@pytest.mark.parametrize(
    "opcode", ["frobnicate.b32", "add.sat.f32", "mul.rz.f32", "add.rn.f32.f64"]
)
def test_an_unknown_instruction_is_an_error_that_names_it(opcode: str) -> None:
    with pytest.raises(UnknownInstructionError, match=opcode.split(".", 1)[0]):
        computed(opcode, "f32 f32 f32", [1], [2])
