"""Blocks of threads, executed side by side: lane by lane in values, warp by warp in time.

NumPy's cost is per call, so that the warps of the same number of many blocks run
together. Between two barriers the warps of a block run one after the other, in either
order, so that what one of them wrongly expects of another is not there, or is too new.

Lanes that branch differently are kept as fronts: sets of lanes with a place in the code.
The front that is furthest behind runs first, and fronts that meet are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.ptx.floats import Values
from benchmarks.ptx.memory import GlobalMemory, SharedMemory
from benchmarks.ptx.opcodes import UnknownInstructionError
from benchmarks.ptx.operands import Operands, Reader
from benchmarks.ptx.program import Instruction, Program
from benchmarks.ptx.steps import Step, make_step

WARP = 32
ALL = np.uint32(0xFFFF_FFFF)
FINISHED, RUNNING = -2, -1
MOST_STEPS = 500_000  # of one warp; a kernel that takes more does not end


class ExecutionError(RuntimeError):
    """A kernel did what it must not; the message names the instruction."""


class Branch(NamedTuple):
    """A place where lanes may part, stop or wait."""

    kind: str  # bra, bar or ret
    target: int
    guard: Reader | None
    negated: bool


class Code:
    """A program translated into steps.

    Parameters
    ----------
    program : Program
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        operands = Operands(program)
        self.first_registers = operands.first_registers
        self.steps: list[Step | Branch] = []
        for instruction in program.code:
            try:
                branch = self._branch(instruction, operands)
                self.steps.append(branch or make_step(instruction, operands))
            except UnknownInstructionError as error:
                raise UnknownInstructionError(f"{instruction}: {error}") from None
        self.steps.append(Branch("ret", 0, None, False))
        self.unit = min((_shared_bytes(i.opcode) for i in program.code), default=4)

    def _branch(self, instruction: Instruction, operands: Operands) -> Branch | None:
        root, *rest = instruction.opcode.split(".")
        guard = None
        if instruction.guard is not None:
            guard = operands.reader(instruction.guard, "pred")
        if root == "bra":
            target = self.program.labels[instruction.operands[-1]]
            return Branch("bra", target, guard, instruction.negated)
        if root in ("ret", "exit"):
            return Branch("ret", 0, guard, instruction.negated)
        if root in ("bar", "barrier") and rest[:2] == ["warp", "sync"]:
            return Branch("warp", 0, guard, instruction.negated)
        if root in ("bar", "barrier"):
            if rest not in (["sync"], ["sync", "aligned"]) or instruction.operands != ("0",):
                raise UnknownInstructionError("a barrier of a part of the block")
            return Branch("bar", 0, guard, instruction.negated)
        return None


def _shared_bytes(opcode: str) -> int:
    """Return the bytes of one shared access, at most 4; the unit in which races are sought."""
    if ".shared" not in opcode or "matrix" in opcode:
        return 4
    return min(int(opcode.rsplit(".", 1)[1][1:]) // 8, 4)


class Launch(NamedTuple):
    """Everything that the blocks of a launch have in common.

    Attributes
    ----------
    code : Code
    memory : GlobalMemory
    arguments : dict
        Bits of every parameter by name.
    grid : (x, y, z)
    threads : int
        Of a block.
    shared_bytes : int
        Shared memory of a block.
    reverse : bool
        Whether the last warp of a block runs first.
    ulps : int
        By how much results of approximate instructions are changed.
    uniform : bool
        Whether all lanes of a warp must branch alike. If not, each thread is taken by itself
        when races are sought.
    """

    code: Code
    memory: GlobalMemory
    arguments: dict[str, int]
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    reverse: bool = False
    ulps: int = 0
    uniform: bool = True


class Warps:
    """The warps of one number, of several blocks.

    Parameters
    ----------
    launch : Launch
    blocks : array of int
        Numbers of the blocks in the grid.
    number : int
        Number of the warp in its block.
    shared : SharedMemory
    """

    def __init__(self, launch: Launch, blocks: Values, number: int, shared: SharedMemory) -> None:
        self.lanes = WARP * blocks.size
        self.memory, self.shared, self.ulps = launch.memory, shared, launch.ulps
        self.arguments = launch.arguments
        self.registers = launch.code.first_registers(self.lanes)
        self.block = np.repeat(np.arange(blocks.size, dtype=np.int32), WARP)
        thread = np.tile(np.arange(WARP, dtype=np.uint32) + WARP * number, blocks.size)
        self.owner = np.full(self.lanes, number) if launch.uniform else thread
        x, y, _ = launch.grid
        places = {"x": blocks % x, "y": blocks // x % y, "z": blocks // (x * y)}
        self.special: dict[str, Values] = {"%tid.x": thread, "%laneid": thread % WARP}
        self.special["%dynamic_smem_size"] = np.uint32(launch.shared_bytes)
        for axis, size in zip("xyz", launch.grid, strict=True):
            self.special[f"%ctaid.{axis}"] = np.repeat(places[axis], WARP).astype(np.uint32)
            self.special[f"%nctaid.{axis}"] = np.uint32(size)
            self.special[f"%ntid.{axis}"] = np.uint32(launch.threads if axis == "x" else 1)
        self._launch = launch
        self.executed = np.zeros(len(launch.code.steps), np.int64)
        alive = thread < launch.threads
        self.state = np.where(alive, RUNNING, FINISHED)
        self._fronts = {0: alive}
        self._steps = 0

    def require_whole(self, mask: Values | None, members: Values = ALL) -> None:
        """Check that all lanes of a warp take part in what they do together."""
        if (members != ALL).any():
            raise ExecutionError("only some lanes of a warp are asked to take part")
        if mask is not None:
            warps = mask.reshape(-1, WARP)
            if (warps.any(1) != warps.all(1)).any():
                raise ExecutionError("not all lanes of a warp take part")

    def resume(self) -> None:
        """Go on behind the barriers where lanes wait."""
        for place in np.unique(self.state[self.state >= 0]).tolist():
            self._join(place + 1, self.state == place)
        self.state[self.state >= 0] = RUNNING

    def _join(self, place: int, lanes: Values) -> None:
        self._fronts[place] = self._fronts[place] | lanes if place in self._fronts else lanes

    def advance(self) -> None:
        """Run until every lane waits at a barrier or has finished."""
        while self._fronts:
            place = min(self._fronts)
            self._run(place, self._fronts.pop(place))

    def _run(self, place: int, lanes: Values) -> None:
        """Run one front until it stops, parts, or reaches another one."""
        steps, executed = self._launch.code.steps, self.executed
        behind = min(self._fronts, default=len(steps))
        mask = None if lanes.all() else lanes
        warps = int(lanes.reshape(-1, WARP).any(1).sum())
        begin = place
        try:
            while place < behind:
                step = steps[place]
                if not isinstance(step, Branch):
                    step(self, mask)
                    place += 1
                    continue
                executed[begin : place + 1] += warps
                self._steps += place + 1 - begin
                if self._steps > MOST_STEPS:
                    raise ExecutionError("the kernel does not end")
                onward = self._branch(step, place, lanes)
                if onward is None:
                    return
                begin = place = onward
        except Exception as error:
            where = self._launch.code.program.code
            what = where[place] if place < len(where) else "the end"
            raise ExecutionError(f"{type(error).__name__} at {place}, {what}: {error}") from error
        executed[begin:place] += warps
        self._join(place, lanes)

    def _branch(self, branch: Branch, place: int, lanes: Values) -> int | None:
        """Return where all lanes go on, or None if they part, stop or wait."""
        taken = lanes
        if branch.guard is not None:
            taken = lanes & (~branch.guard(self) if branch.negated else branch.guard(self))
        kept = lanes & ~taken
        if branch.kind == "warp":
            self.require_whole(taken)
            return place + 1
        if not taken.any():
            return place + 1
        if branch.kind == "bra" and not kept.any():
            return branch.target
        if branch.kind == "bra":
            both = taken.reshape(-1, WARP).any(1) & kept.reshape(-1, WARP).any(1)
            if self._launch.uniform and both.any():
                raise ExecutionError("the lanes of a warp branch differently")
            self._join(branch.target, taken)
        elif branch.kind == "bar":
            self.state[taken] = place
        else:
            self.state[taken] = FINISHED
        if kept.any():
            self._join(place + 1, kept)
        return None


def run_blocks(launch: Launch, blocks: Sequence[int]) -> Values:
    """Run blocks of a launch to their end, and return how often each instruction ran, per warp.

    Parameters
    ----------
    launch : Launch
    blocks : sequence of int
        Numbers of the blocks in the grid.
    """
    numbers = np.asarray(blocks)
    shared = SharedMemory(len(numbers), launch.shared_bytes, launch.code.unit)
    count = -(-launch.threads // WARP)
    groups = [Warps(launch, numbers, number, shared) for number in range(count)]
    with np.errstate(all="ignore"):
        while True:
            for warps in groups[::-1] if launch.reverse else groups:
                warps.advance()
            states = np.stack([warps.state.reshape(-1, WARP) for warps in groups])
            if (states == FINISHED).all():
                break
            _check_barriers(states, launch)
            shared.next_epoch()
            for warps in groups:
                warps.resume()
    counts = np.sum([warps.executed for warps in groups], axis=0)
    return counts[:-1]  # without the end that every program was given


def _check_barriers(states: Values, launch: Launch) -> None:
    """Check that all threads of a block wait at the same barrier, or have all finished."""
    threads = states.transpose(1, 0, 2).reshape(states.shape[1], -1)[:, : launch.threads]
    if (threads != threads[:, :1]).any():
        raise ExecutionError("a barrier is not reached by all threads of a block")
