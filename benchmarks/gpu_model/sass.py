"""Instructions of a compiled kernel, and the number of times that each block runs.

The instructions come from the disassembly, the counts from the same kernel in
Triton's interpreter. Chains of statements connect the two.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import networkx as nx  # type: ignore[import-untyped]
import triton

from benchmarks.gpu_model.statements import Chain, own_line

AVOIDED = 1_000_000  # weight of a slow path, larger than any number of instructions

_LOCATION = re.compile(r'\s*//## File "([^"]+)", line (\d+)')
_LABEL = re.compile(r"\s*([.$\w]+):")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)\s*([^;]*);")
_TARGET = re.compile(r"`\(([^)]+)\)")


class Instruction(NamedTuple):
    """One instruction of a warp, and its chain of statements."""

    opcode: str  # with its modifiers, such as LDG.E.128
    operands: str
    is_predicated: bool
    chain: Chain

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
    for line in run_tool("nvdisasm", "-c", "-gi", cubin).splitlines():
        if location := _LOCATION.match(line):
            # A place has one line of output per inlined function.
            chain = () if is_new_place else chain
            chain += own_line(location[1], int(location[2]), directory)
            is_new_place = False
        elif found := _INSTRUCTION.match(line):
            is_new_place = True
            instruction = Instruction(found[2], found[3].strip(), bool(found[1]), chain)
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


def successors(blocks: list[Block]) -> list[list[int]]:
    """Return the successors of each block, without calls and divergent threads."""
    by_label = {label: i for i, block in enumerate(blocks) for label in block.labels}
    found = []
    for i, (_, instructions) in enumerate(blocks):
        last = instructions[-1]
        # The condition is a predicate before the instruction or an operand before the label.
        is_final = not last.is_predicated and (
            last.kind in ("EXIT", "RET") or bool(last.jump and last.operands.startswith("`"))
        )
        to = [by_label[last.jump]] if last.jump else []
        found.append(to if is_final or i + 1 == len(blocks) else [*to, i + 1])
    return found


def reachable(blocks: list[Block]) -> set[int]:
    """Return the indices of the blocks that are reachable, see `successors`."""
    onward = successors(blocks)
    seen, ahead = set(), [0]
    while ahead:
        i = ahead.pop()
        if i not in seen:
            seen.add(i)
            ahead += onward[i]
    return seen


def executions(blocks: list[Block], counts: Mapping[Chain, int], programs: int = 1) -> list[int]:
    """Return how often each block runs, summed over one warp of every program.

    Every instruction has the count of its chain. The compiler moves some instructions
    out of a loop, or merges those of two statements, so neighbours disagree. But a warp
    that leaves a block has to enter another. Of all flows from the entry to an exit, this
    function returns one that differs least from the counts, summed over the instructions.
    It avoids calls, the slow paths of divisions, where possible.

    Parameters
    ----------
    blocks : list of Block
        Blocks of the kernel.
    counts : mapping
        How often each chain ran, in all programs. Any other chain did not run.
    programs : int
        Number of programs, each of which runs from the entry to an exit.
    """
    onward = successors(blocks)
    alive = reachable(blocks)
    graph = nx.MultiDiGraph()
    graph.add_node(("into", 0), demand=-programs)
    graph.add_node("exit", demand=programs)
    for i in alive:
        into, out = ("into", i), ("out of", i)
        instructions = blocks[i].instructions
        counted = [] if blocks[i].is_slow else [x.chain for x in instructions if x.chain]
        votes = Counter(counts.get(chain, 0) for chain in counted)
        # The slope of the sum of |flow - count|, from one count to the next.
        slope, before = -votes.total(), 0
        for count in sorted(votes):
            graph.add_edge(into, out, weight=slope, capacity=count - before)
            slope, before = slope + 2 * votes[count], count
        graph.add_edge(into, out, weight=slope + AVOIDED * blocks[i].is_slow)
        for j in onward[i]:
            graph.add_edge(out, ("into", j), weight=0)
        if instructions[-1].kind == "EXIT":
            graph.add_edge(out, "exit", weight=0)
    _, flow = nx.network_simplex(graph)
    return [
        sum(flow["into", i]["out of", i].values()) if i in alive else 0 for i in range(len(blocks))
    ]


def agreement(blocks: list[Block], counts: Mapping[Chain, int], runs: list[int]) -> tuple[int, int]:
    """Return the instructions run according to both counts and executions, and to either."""
    both = either = 0
    for i in reachable(blocks):
        for x in () if blocks[i].is_slow else blocks[i].instructions:
            count = counts.get(x.chain, 0) if x.chain else runs[i]
            both += min(count, runs[i])
            either += max(count, runs[i])
    return both, either


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
