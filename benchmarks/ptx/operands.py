"""Access to the operands of instructions: registers, constants and addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.ptx.floats import Values
from benchmarks.ptx.memory import WINDOW, MemoryFaultError
from benchmarks.ptx.opcodes import DTYPES, UnknownInstructionError
from benchmarks.ptx.program import Program

if TYPE_CHECKING:
    from benchmarks.ptx.block import Warps

Mask = Values | None
"""Which lanes are active; None for all."""
Reader = Callable[["Warps"], Values]
Writer = Callable[["Warps", Values, Mask], None]

_ADDRESS = re.compile(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\w+)\s*)?\]")


class Operands:
    """Access to the registers, constants and addresses of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._numbers: dict[str, int] = {}
        self._written: set[int] = set()
        self._places: dict[str, int] = {}
        offset = WINDOW
        for name, variable in program.variables.items():
            if variable.space == "shared":
                offset = -(-offset // variable.alignment) * variable.alignment
                self._places[name] = offset
                offset += variable.bytes

    def number(self, register: str) -> int:
        return self._numbers.setdefault(register, len(self._numbers))

    def first_registers(self, lanes: int) -> list[Values]:
        """Return the registers before the first instruction.

        None makes reading an error. Where no instruction writes a register, the compiler
        found that its value does not matter, and it holds an odd one.
        """
        return [
            None if number in self._written else np.full(lanes, 0xDB, self._dtype_of(register))
            for register, number in self._numbers.items()
        ]

    def _dtype_of(self, register: str) -> Any:
        return DTYPES[self.program.registers[register.rstrip("0123456789")]]

    def reader(self, operand: str, kind: str) -> Reader:
        """Return a function that reads an operand as values of a type."""
        dtype = DTYPES[kind]
        if not operand.startswith("%"):
            constant = self._constant(operand, dtype)
            return lambda warps: constant
        if operand.rstrip("0123456789") not in self.program.registers:
            return lambda warps: warps.special[operand].astype(dtype)
        number, own = self.number(operand), self._dtype_of(operand)
        if own.itemsize < dtype.itemsize:
            raise UnknownInstructionError(f"{operand} is narrower than {kind}")
        if own.itemsize > dtype.itemsize:
            whole, part = f"b{8 * own.itemsize}", f"u{dtype.itemsize}"
            read_whole = self.reader(operand, whole)
            return lambda warps: read_whole(warps).astype(part).view(dtype)

        def read(warps: Warps) -> Values:
            value = warps.registers[number]
            if value is None:
                raise MemoryFaultError(f"{operand} is read before it is written")
            return value if value.dtype is dtype else value.view(dtype)

        return read

    def _constant(self, text: str, dtype: Any) -> Values:
        if text in self._places:
            return dtype.type(self._places[text])
        if text[:2] in ("0f", "0d"):
            bits = np.array(int(text[2:], 16), "u4" if text[1] == "f" else "u8")
            return bits.view("f4" if text[1] == "f" else "f8").view(dtype)[()]
        try:
            number = int(text.rstrip("U"), 0)
        except ValueError:
            raise UnknownInstructionError(f"unknown operand {text}") from None
        if dtype.kind == "b":
            return np.bool_(number)
        bits = 8 * dtype.itemsize
        return np.array(number & ((1 << bits) - 1), f"u{dtype.itemsize}").view(dtype)[()]

    def writer(self, operand: str, signed: bool = False) -> Writer:
        """Return a function that writes the active lanes of a register."""
        if operand == "_":
            return lambda warps, value, mask: None
        number, size = self.number(operand), self._dtype_of(operand).itemsize
        self._written.add(number)

        def write(warps: Warps, value: Values, mask: Mask) -> None:
            if value.dtype.itemsize < size:
                letter = "i" if signed else "u"
                value = value.view(f"{letter}{value.dtype.itemsize}").astype(f"{letter}{size}")
            elif value.dtype.itemsize > size:
                raise UnknownInstructionError(f"{operand} is narrower than its value")
            if value.ndim == 0:
                value = np.full(warps.lanes, value)
            if mask is not None and (old := warps.registers[number]) is not None:
                value = np.where(mask, value, old.view(value.dtype))
            warps.registers[number] = value

        return write

    def address(self, operand: str) -> Reader:
        """Return a function that reads an address as int64."""
        found = _ADDRESS.fullmatch(operand)
        if found is None:
            raise UnknownInstructionError(f"unknown address {operand}")
        base, offset = found[1], np.int64(int(found[2] or "0", 0))
        if not base.startswith("%"):
            constant = self._constant(base, np.dtype("i8")) + offset
            return lambda warps: np.full(warps.lanes, constant)
        read = self.reader(base, f"u{8 * self._dtype_of(base).itemsize}")
        return lambda warps: read(warps).astype(np.int64) + offset
