"""Instructions of a compiled kernel, and the number of times that each block runs.

The instructions come from the disassembly, the counts from the same kernel in
Triton's interpreter. Chains of statements connect the two.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import triton

from benchmarks.gpu_model.statements import Chain, own_line

_LOCATION = re.compile(r'\s*//## File "([^"]+)", line (\d+)')
_LABEL = re.compile(r"\s*([.$\w]+):")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)\s*([^;]*);")
_UPPER_HALF = re.compile(r"\s*/\* 0x([0-9a-f]{16}) \*/\s*$")
_TARGET = re.compile(r"`\(([^)]+)\)")


class Control(NamedTuple):
    """Bits by which the assembler schedules an instruction."""

    stall: int = 1  # cycles until the next instruction of the warp
    written: int = 7  # scoreboard that the result releases; 7 for none
    read: int = 7  # scoreboard that is released when the operands are read
    waits: int = 0  # mask of scoreboards that must be released before

    @classmethod
    def of(cls, high: int) -> Control:
        """Take the bits from the upper half of an encoded instruction."""
        bits = high >> 41
        return cls(bits & 15, bits >> 5 & 7, bits >> 8 & 7, bits >> 11 & 63)


class Instruction(NamedTuple):
    """One instruction of a warp, and its chain of statements."""

    opcode: str  # with its modifiers, such as LDG.E.128
    operands: str
    is_predicated: bool
    chain: Chain
    control: Control = Control()

    @property
    def kind(self) -> str:
        return self.opcode.partition(".")[0]

    @property
    def jump(self) -> str | None:
        """Return the label that a warp jumps to without returning."""
        # Some loops end with a call to a label that never returns.
        target = _TARGET.search(self.operands) if self.kind in ("BRA", "CALL") else None
        is_jump = target and self.opcode != "BRA.DIV" and target[1].startswith(".")
        return target[1] if target and is_jump else None

    @property
    def calls(self) -> bool:
        return self.kind == "CALL" and self.jump is None


class Block(NamedTuple):
    """A sequence of instructions from a label or a branch to the next."""

    labels: tuple[str, ...]
    instructions: list[Instruction]

    @property
    def is_slow(self) -> bool:
        """Return whether the block is part of a slow path, such as that of a division."""
        return any(x.calls for x in self.instructions)


def tool(name: str) -> str:
    """Return the path of an NVIDIA tool in Triton's package."""
    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name)


def run_tool(name: str, *arguments: str | Path) -> str:
    command = [tool(name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def disassemble(cubin: Path, directory: Path) -> list[Block]:
    """Split the code of a binary into blocks.

    Parameters
    ----------
    cubin : Path
        A binary with line information.
    directory : Path
        Chains contain only lines of files in this directory.
    """
    blocks = [Block((), [])]
    chain: Chain = ()
    is_new_place = True
    pending: Instruction | None = None
    for line in run_tool("nvdisasm", "-c", "-gi", "-hex", cubin).splitlines():
        if location := _LOCATION.match(line):
            # A place has one line of output per inlined function.
            chain = () if is_new_place else chain
            chain += own_line(location[1], int(location[2]), directory)
            is_new_place = False
        elif found := _INSTRUCTION.match(line):
            is_new_place = True
            pending = Instruction(found[2], found[3].strip(), bool(found[1]), chain)
        elif (half := _UPPER_HALF.match(line)) and pending:
            instruction = pending._replace(control=Control.of(int(half[1], 16)))
            pending = None
            if instruction.kind == "NOP":
                continue
            blocks[-1].instructions.append(instruction)
            if instruction.jump or instruction.kind in ("BRA", "EXIT", "RET"):
                blocks.append(Block((), []))
        elif label := _LABEL.match(line):
            if blocks[-1].instructions:
                blocks.append(Block((), []))
            blocks[-1] = Block((*blocks[-1].labels, label[1]), [])
    return [block for block in blocks if block.instructions]


def resources(cubin: Path) -> tuple[int, int]:
    """Return registers and bytes of stack per thread, as recorded in the binary."""
    stated = run_tool("cuobjdump", "--dump-resource-usage", cubin)
    found = re.search(r"REG:(\d+) STACK:(\d+)", stated)
    if found is None:
        raise RuntimeError(f"the output of cuobjdump has no registers: {stated}")
    return int(found[1]), int(found[2])


def code(cubin: bytes) -> bytes:
    """Return the instructions of a binary, without its line information."""
    (offset,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", cubin, offset + i * size) for i in range(count)]
    name, _, _, _, start, length = range(6)
    return b"".join(
        cubin[header[start] : header[start] + header[length]]
        for header in headers
        if cubin.startswith(b".text.", headers[names][start] + header[name])
    )


def assemble(ptx: str, capability: int, fmad: bool) -> bytes:
    """Assemble PTX; with ``fmad``, ptxas may contract products and sums."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx)
        # The newer of the two assemblers also supports older devices.
        options = f"--gpu-name=sm_{capability}", f"--fmad={str(fmad).lower()}"
        run_tool("ptxas-blackwell", *options, source, "-o", target)
        return target.read_bytes()
