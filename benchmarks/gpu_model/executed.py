"""How often each source line of a kernel runs, and what it moves, by executing the PTX."""

from __future__ import annotations

import tempfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import triton
from numpy.typing import NDArray

from benchmarks.gpu_model.statements import Chain, own_line
from benchmarks.ptx.block import WARP, Branch, Code, Launch, run_blocks
from benchmarks.ptx.launch import Execution, triton_launches
from benchmarks.ptx.memory import GlobalMemory
from benchmarks.ptx.program import Instruction

SECTOR = 32  # bytes that DRAM and the L2 cache move at once
L1_SECTORS = 512  # that the L1 cache keeps for a program


class Traffic(NamedTuple):
    """Bytes that the loads or stores of a statement move, all warps of its programs together."""

    dram: float
    l2: float


class Executed(NamedTuple):
    """One program, or several together."""

    programs: int
    counts: dict[Chain, int]  # executions by one warp of each
    # By statement: the assembler confuses the calls that a statement was inlined at.
    loads: dict[Chain, Traffic]
    stores: dict[Chain, Traffic]


class _Access(NamedTuple):
    place: int  # in the code
    is_store: bool
    size: int  # bytes of each lane
    addresses: NDArray[np.int64]

    def sectors(self) -> list[int]:
        ends = self.addresses, self.addresses + (self.size - 1)
        return np.unique(np.concatenate(ends) // SECTOR).tolist()  # type: ignore[no-any-return]


class _Watched(GlobalMemory):
    """Memory that keeps a list of accesses."""

    place = 0

    def __init__(self, arrays: Sequence[NDArray[np.uint8]]) -> None:
        super().__init__(arrays)
        self.accesses: list[_Access] = []

    def load(self, addresses: Any, unit: int, count: int, block: Any) -> list[Any]:
        self.accesses.append(_Access(self.place, False, unit * count, addresses))
        return super().load(addresses, unit, count, block)

    def store(self, addresses: Any, values: Sequence[Any], block: Any) -> None:
        size = values[0].dtype.itemsize * len(values)
        self.accesses.append(_Access(self.place, True, size, addresses))
        super().store(addresses, values, block)


def _named(step: Callable[..., None], place: int) -> Callable[..., None]:
    """Let the memory know which instruction accesses it."""

    def named(warps: Any, mask: Any) -> None:
        warps.memory.place = place
        step(warps, mask)

    return named


def _chain(instruction: Instruction, directory: Path) -> Chain:
    return tuple(
        link for file, line in instruction.source for link in own_line(file, line, directory)
    )


class Recorder(Execution):
    """Executes launches one program after the other, or a few at once, and records them.

    Parameters
    ----------
    capability : int
        Of the GPU to compile for.
    directory : Path
        Chains contain only lines of files in this directory.
    at_once : int, optional
        Programs that are executed and recorded together.
    """

    def __init__(self, capability: int, directory: Path, at_once: int = 1) -> None:
        super().__init__(capability, blocks_at_once=at_once)
        self._directory = directory
        self.recorded: list[Executed] = []

    def run(
        self,
        code: Code,
        arrays: Sequence[NDArray[np.uint8]],
        bind: Callable[[GlobalMemory], Sequence[int]],
        grid: tuple[int, int, int],
        threads: int,
        shared_bytes: int,
        uniform: bool,
    ) -> None:
        """Execute a launch; the parameters are those of `Execution.run`."""
        instructions = code.program.code
        for i, instruction in enumerate(instructions):
            step = code.steps[i]
            if ".global" in instruction.opcode and not isinstance(step, Branch):
                code.steps[i] = _named(step, i)
        names = list(code.program.parameters)
        memory = _Watched(arrays)
        bits = list(bind(memory))
        arguments = dict(zip(names, bits + [0] * (len(names) - len(bits)), strict=True))
        launch = Launch(code, memory, arguments, grid, threads, shared_bytes, uniform=uniform)
        total, groups = int(np.prod(grid)), []
        for first in range(0, total, self.blocks_at_once):
            blocks = range(first, min(first + self.blocks_at_once, total))
            ran = run_blocks(launch, blocks) // (threads // WARP)
            groups.append((len(blocks), ran.tolist(), memory.accesses))
            memory.accesses = []
        memory.copy_back(arrays)
        chains = [_chain(instruction, self._directory) for instruction in instructions]
        # What several programs read is in the L2 cache.
        readers: Counter[int] = Counter()
        for _, _, accesses in groups:
            read = [access.sectors() for access in accesses if not access.is_store]
            readers.update(set().union(*read))
        shared = {sector for sector, count in readers.items() if count > 1}
        for programs, executions, accesses in groups:
            counts: dict[Chain, int] = {}
            for chain, count in zip(chains, executions, strict=False):
                # Some instructions of a statement have been moved out of its loop.
                counts[chain] = max(counts.get(chain, 0), count)
            self.recorded.append(Executed(programs, counts, *_traffic(accesses, chains, shared)))


def _traffic(
    accesses: list[_Access], chains: list[Chain], shared: set[int]
) -> tuple[dict[Chain, Traffic], dict[Chain, Traffic]]:
    """Return the bytes that the loads and the stores of a program move, by statement."""
    cached, stored = set(shared), set[int]()
    recent: OrderedDict[int, None] = OrderedDict()
    moved: tuple[dict[Chain, Traffic], dict[Chain, Traffic]] = {}, {}
    for access in accesses:
        found, sectors = moved[access.is_store], access.sectors()
        statement = chains[access.place][:1]
        if access.is_store:
            # Parts of a sector meet in the L2 cache, also those of other programs.
            added = set(access.addresses.tolist()) - stored
            dram, passed = access.size * len(added), len(sectors)
            stored |= added
        else:
            dram = SECTOR * len(set(sectors) - cached)
            passed = sum(sector not in recent for sector in sectors)
            cached.update(sectors)
            for sector in sectors:
                recent[sector] = None
                recent.move_to_end(sector)
            while len(recent) > L1_SECTORS:
                recent.popitem(last=False)
        before = found.get(statement, Traffic(0, 0))
        found[statement] = Traffic(before.dram + dram, before.l2 + SECTOR * passed)
    return moved


def record(
    launch: Callable[[], object], capability: int, directory: Path, at_once: int = 1
) -> list[Executed]:
    """Execute the launch of a Triton kernel, and return what its programs did.

    Parameters
    ----------
    launch : function
        Launches the kernel on CPU tensors.
    capability, directory, at_once
        See `Recorder`.
    """
    recorder = Recorder(capability, directory, at_once)
    # A cached kernel may name the files of another checkout.
    with tempfile.TemporaryDirectory() as cache, triton.knobs.cache.scope():
        triton.knobs.cache.dir = cache
        with triton_launches(recorder):
            launch()
    return recorder.recorded


def together(parts: list[Executed]) -> Executed:
    """Add up programs."""

    def total(moved: list[dict[Chain, Traffic]]) -> dict[Chain, Traffic]:
        return {
            statement: Traffic(
                sum(each[statement].dram for each in moved if statement in each),
                sum(each[statement].l2 for each in moved if statement in each),
            )
            for statement in set().union(*moved)
        }

    counts: Counter[Chain] = Counter()
    for part in parts:
        counts.update(part.counts)
    return Executed(
        sum(part.programs for part in parts),
        dict(counts),
        total([part.loads for part in parts]),
        total([part.stores for part in parts]),
    )
