"""Instructions as functions that change the registers and the memory of many lanes at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.ptx import floats
from benchmarks.ptx.floats import Values
from benchmarks.ptx.instructions import resolve
from benchmarks.ptx.opcodes import DTYPES, UnknownInstructionError, split_opcode
from benchmarks.ptx.operands import Mask, Operands
from benchmarks.ptx.program import Instruction

if TYPE_CHECKING:
    from benchmarks.ptx.block import Warps

Step = Callable[["Warps", Mask], None]

_IGNORED = ("volatile", "nc", "relaxed", "cta", "gpu", "sys", "aligned", "sync", "weak")
SHARED = ("shared", "shared::cta")


def elements(operand: str) -> list[str]:
    """Return the registers of a vector operand, or the operand alone."""
    return [part.strip() for part in operand.strip("{} ").split(",")]


def make_step(instruction: Instruction, operands: Operands) -> Step:
    """Translate one instruction that is not a branch, a barrier or an exit."""
    root = instruction.opcode.split(".", 1)[0]
    step = STEPS.get(root, _calculation)(instruction, operands)
    if instruction.guard is None:
        return step
    read, negated = operands.reader(instruction.guard, "pred"), instruction.negated

    def guarded(warps: Warps, mask: Mask) -> None:
        active = ~read(warps) if negated else read(warps)
        if mask is not None:
            active = active & mask
        if active.all():
            step(warps, None)
        elif active.any():
            step(warps, active)

    return guarded


def _calculation(instruction: Instruction, operands: Operands) -> Step:
    opcode, (target, *sources) = instruction.opcode, instruction.operands
    compute, kinds, signed, approximate = resolve(opcode, len(sources))
    reads = [operands.reader(*pair) for pair in zip(sources, kinds, strict=True)]
    write = operands.writer(target, signed)

    def step(warps: Warps, mask: Mask) -> None:
        value = compute(*[read(warps) for read in reads])
        if approximate and warps.ulps:
            value = floats.perturbed(value, warps.ulps)
        write(warps, value, mask)

    return step


def _move(instruction: Instruction, operands: Operands) -> Step:
    """Move a value, or pack or unpack the halves of one."""
    target, source = instruction.operands
    if "{" not in target + source:
        return _calculation(instruction, operands)
    bits = 8 * DTYPES[split_opcode(instruction.opcode).types[0]].itemsize
    outer, inner = elements(target), elements(source)
    part = f"b{bits // max(len(outer), len(inner))}"
    if "{" in target:
        read, writers = operands.reader(source, f"b{bits}"), [operands.writer(x) for x in outer]

        def unpack(warps: Warps, mask: Mask) -> None:
            parts = np.broadcast_to(read(warps), warps.lanes).copy().view(DTYPES[part])
            for i, write in enumerate(writers):
                write(warps, parts[i :: len(writers)].copy(), mask)

        return unpack
    readers, write = [operands.reader(x, part) for x in inner], operands.writer(target)

    def pack(warps: Warps, mask: Mask) -> None:
        parts = [np.broadcast_to(read(warps), warps.lanes) for read in readers]
        write(warps, np.stack(parts, 1).view(f"u{bits // 8}").reshape(-1), mask)

    return pack


def _convert(instruction: Instruction, operands: Operands) -> Step:
    """Convert a value, or two float32 into a pair of halves, the first one above."""
    to = split_opcode(instruction.opcode).types[0]
    if "x2" not in to:
        return _calculation(instruction, operands)
    single = resolve(instruction.opcode.replace("x2", ""), 1)
    above, below = (operands.reader(x, "f32") for x in instruction.operands[1:])
    write = operands.writer(instruction.operands[0])

    def pair(warps: Warps, mask: Mask) -> None:
        halves = [single.compute(read(warps)).view(np.uint16) for read in (below, above)]
        both = [np.broadcast_to(half, warps.lanes) for half in halves]
        write(warps, np.stack(both, 1).view(np.uint32).reshape(-1), mask)

    return pair


def _space(opcode: str) -> tuple[str, int, str]:
    """Return space, number of values and type of a load or store."""
    op = split_opcode(opcode)
    space, count = "", 1
    for name in op.modifiers:
        if name in ("param", "global", *SHARED):
            space = name
        elif name in ("v2", "v4", "v8"):
            count = int(name[1])
        elif name not in _IGNORED and not name.startswith(("L1::", "L2::")):
            raise UnknownInstructionError(f"unknown modifier {name} in {opcode}")
    if not space:
        raise UnknownInstructionError(f"{opcode} in an unknown space")
    return space, count, op.types[0]


def _load(instruction: Instruction, operands: Operands) -> Step:
    space, count, kind = _space(instruction.opcode)
    target, source = instruction.operands
    dtype, signed = DTYPES[kind], kind.startswith("s")
    writers = [operands.writer(x, signed) for x in elements(target)]
    if space == "param":
        name = source.strip("[] ")

        def load_parameter(warps: Warps, mask: Mask) -> None:
            bits = warps.arguments[name] & ((1 << 8 * dtype.itemsize) - 1)
            value = np.array(bits, f"u{dtype.itemsize}").view(dtype)[()]
            writers[0](warps, value, mask)

        return load_parameter
    read, unit = operands.address(source), dtype.itemsize

    def load(warps: Warps, mask: Mask) -> None:
        where = slice(None) if mask is None else np.flatnonzero(mask)
        addresses, block = read(warps)[where], warps.block[where]
        if space == "global":
            values = warps.memory.load(addresses, unit, count, block)
        else:
            values = warps.shared.load(addresses, unit, count, block, warps.owner[where])
        for value, write in zip(values, writers, strict=True):
            if mask is not None:
                spread = np.zeros(warps.lanes, value.dtype)
                spread[where] = value
                value = spread
            write(warps, value, mask)

    return load


def _store(instruction: Instruction, operands: Operands) -> Step:
    space, _, kind = _space(instruction.opcode)
    target, source = instruction.operands
    unsigned = f"b{8 * DTYPES[kind].itemsize}"
    read = operands.address(target)
    readers = [operands.reader(x, kind) for x in elements(source)]

    def store(warps: Warps, mask: Mask) -> None:
        where = slice(None) if mask is None else np.flatnonzero(mask)
        addresses, block = read(warps)[where], warps.block[where]
        values = [
            np.broadcast_to(reader(warps), warps.lanes).view(DTYPES[unsigned])[where]
            for reader in readers
        ]
        if space == "global":
            warps.memory.store(addresses, values, block)
        else:
            warps.shared.store(addresses, values, block, warps.owner[where])

    return store


ATOMICS: dict[str, Callable[[Values, Values], Values]] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, value: value,
}


def _atomic(instruction: Instruction, operands: Operands) -> Step:
    op = split_opcode(instruction.opcode)
    names = set(op.modifiers) - set(_IGNORED) - {"acq_rel", "release", "acquire"}
    space = next((name for name in names if name in ("global", *SHARED)), "")
    functions = [ATOMICS[name] for name in names - {space} if name in ATOMICS]
    if not space or len(functions) != 1 or len(names) != 2:
        raise UnknownInstructionError(f"unknown atomic {instruction.opcode}")
    arguments = list(instruction.operands)
    write = operands.writer(arguments.pop(0)) if op.root == "atom" else None
    read, value = operands.address(arguments[0]), operands.reader(arguments[1], op.types[0])

    def atomic(warps: Warps, mask: Mask) -> None:
        where = np.arange(warps.lanes) if mask is None else np.flatnonzero(mask)
        amounts = np.broadcast_to(value(warps), warps.lanes)[where]

        def update(old: Values, lanes: Any) -> Values:
            return functions[0](old, amounts[lanes])

        addresses, block = read(warps)[where], warps.block[where]
        if space == "global":
            former = warps.memory.exchange(addresses, op.dtype.itemsize, op.dtype, update)
        else:
            former = warps.shared.exchange(addresses, op.dtype, update, block, warps.owner[where])
        if write is not None:
            spread = np.zeros(warps.lanes, op.dtype)
            spread[where] = former
            write(warps, spread, mask)

    return atomic


def _shuffle(instruction: Instruction, operands: Operands) -> Step:
    opcode, (target, source, place, clamp, members) = instruction.opcode, instruction.operands
    modes = {"bfly", "idx", "up", "down"} & set(opcode.split("."))
    if len(modes) != 1 or int(clamp, 0) != (0 if "up" in modes else 31):
        raise UnknownInstructionError(f"{opcode} of a part of a warp")
    if "|" in target:
        raise UnknownInstructionError(f"{opcode} with a predicate")
    (mode,) = modes
    read, read_place = operands.reader(source, "b32"), operands.reader(place, "u32")
    write, lane, every = operands.writer(target), np.arange(32), operands.reader(members, "u32")

    def shuffle(warps: Warps, mask: Mask) -> None:
        warps.require_whole(mask, every(warps))
        value = np.broadcast_to(read(warps), warps.lanes).reshape(-1, 32)
        step = np.broadcast_to(read_place(warps), warps.lanes).reshape(-1, 32).astype(np.int64)
        origin = {
            "bfly": lane ^ step, "idx": step & 31, "up": lane - step, "down": lane + step
        }[mode]  # fmt: skip
        origin = np.where((origin < 0) | (origin > 31), lane, origin)
        write(warps, np.take_along_axis(value, origin, 1).reshape(-1), mask)

    return shuffle


REDUCTIONS: dict[str, Callable[..., Values]] = {
    "add": np.add.reduce,
    "min": np.minimum.reduce,
    "max": np.maximum.reduce,
    "and": np.bitwise_and.reduce,
    "or": np.bitwise_or.reduce,
    "xor": np.bitwise_xor.reduce,
}


def _reduce(instruction: Instruction, operands: Operands) -> Step:
    op, (target, source, members) = split_opcode(instruction.opcode), instruction.operands
    names, keeps_nan = set(op.modifiers) - {"sync", "NaN"}, "NaN" in op.modifiers
    is_float = op.dtype.kind == "f"
    if len(names) != 1 or not names < set(REDUCTIONS) or (is_float and not names < {"min", "max"}):
        raise UnknownInstructionError(f"unknown reduction {instruction.opcode}")
    (name,) = names
    read, write = operands.reader(source, op.types[0]), operands.writer(target)
    every = operands.reader(members, "u32")

    def reduce(warps: Warps, mask: Mask) -> None:
        warps.require_whole(mask, every(warps))
        values = np.broadcast_to(read(warps), warps.lanes).reshape(-1, 32)
        if is_float:
            half = values
            while half.shape[1] > 1:
                half = floats.extreme(half[:, ::2], half[:, 1::2], name == "max", keeps_nan)
            total = half[:, 0]
        else:
            total = REDUCTIONS[name](values, axis=1, dtype=op.dtype)
        write(warps, np.repeat(total, 32), mask)

    return reduce


def _matrix(instruction: Instruction, operands: Operands) -> Step:
    """Load or store 8 x 8 matrices of 16-bit values, whose rows have an address each."""
    op = split_opcode(instruction.opcode)
    known = {"sync", "aligned", "m8n8", "x1", "x2", "x4", "trans", *SHARED}
    if set(op.modifiers) - known or op.types != ("b16",):
        raise UnknownInstructionError(f"unknown matrix {instruction.opcode}")
    loads, transposed = op.root == "ldmatrix", "trans" in op.modifiers
    registers, place = instruction.operands if loads else instruction.operands[::-1]
    read = operands.address(place)
    writers = [operands.writer(x) for x in elements(registers)] if loads else []
    readers = [] if loads else [operands.reader(x, "b32") for x in elements(registers)]

    def turned(words: Values) -> Values:
        """Turn the words of 32 lanes, each of which holds a quarter of a row."""
        if not transposed:
            return words
        halves = words.reshape(-1, 32).view(np.uint16).reshape(-1, 8, 8)
        return np.ascontiguousarray(halves.transpose(0, 2, 1)).view(np.uint32).reshape(-1)

    def matrix(warps: Warps, mask: Mask) -> None:
        warps.require_whole(mask)
        active = np.ones(warps.lanes, bool) if mask is None else mask
        rows = np.flatnonzero(active).reshape(-1, 32)
        addresses = read(warps)
        for i in range(max(len(writers), len(readers))):
            lanes = rows[:, 8 * i : 8 * i + 8].reshape(-1)
            where = (addresses[lanes], warps.block[lanes], warps.owner[lanes])
            if loads:
                words = warps.shared.load(where[0], 4, 4, *where[1:])
                spread = np.zeros(warps.lanes, np.uint32)
                spread[rows.reshape(-1)] = turned(np.stack(words, 1).reshape(-1))
                writers[i](warps, spread, mask)
            else:
                words = turned(readers[i](warps)[rows.reshape(-1)].copy()).reshape(-1, 4)
                warps.shared.store(where[0], list(words.T), *where[1:])

    return matrix


def _nothing(instruction: Instruction, operands: Operands) -> Step:
    return lambda warps, mask: None


STEPS: dict[str, Callable[[Instruction, Operands], Step]] = {
    "mov": _move,
    "cvt": _convert,
    "ld": _load,
    "st": _store,
    "atom": _atomic,
    "red": _atomic,
    "shfl": _shuffle,
    "redux": _reduce,
    "ldmatrix": _matrix,
    "stmatrix": _matrix,
    "membar": _nothing,
}
