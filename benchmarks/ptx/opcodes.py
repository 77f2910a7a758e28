"""Opcodes and types of PTX by name."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

DTYPES: dict[str, Any] = {
    f"{letter}{bits}": np.dtype(f"{code}{bits // 8}")
    for letter, code in (("b", "u"), ("u", "u"), ("s", "i"))
    for bits in (8, 16, 32, 64)
}
DTYPES |= {"f16": np.dtype("f2"), "f32": np.dtype("f4"), "f64": np.dtype("f8")}
DTYPES |= {"bf16": np.dtype("u2"), "f16x2": np.dtype("u4"), "bf16x2": np.dtype("u4")}
DTYPES |= {"f32x2": np.dtype("u8"), "pred": np.dtype(bool)}
PAIRS = {"f32x2": "f32", "f16x2": "f16"}


class UnknownInstructionError(NotImplementedError):
    """An instruction, or a modifier of one, that the interpreter does not know."""


class Opcode(NamedTuple):
    """An opcode in parts: ``mul.wide.s32`` has the root mul, a modifier and a type."""

    root: str
    modifiers: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def dtype(self) -> Any:
        return DTYPES[self.types[0]]

    @property
    def doubled(self) -> str:
        """Name of the integer type of twice the width."""
        return f"{self.types[0][0]}{2 * int(self.types[0][1:])}"


def split_opcode(opcode: str) -> Opcode:
    root, *rest = opcode.split(".")
    return Opcode(
        root,
        tuple(part for part in rest if part not in DTYPES),
        tuple(part for part in rest if part in DTYPES),
    )
