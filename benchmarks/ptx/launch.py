"""Launches of Triton kernels on CPU tensors, executed as the PTX that a real GPU would get.

The hook is where every launch passes through, and arguments are bound by the kernel's
own signature, so that nothing here knows one kernel from another.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from benchmarks.ptx.block import WARP, Code, ExecutionError, Launch, run_blocks
from benchmarks.ptx.memory import GlobalMemory
from benchmarks.ptx.program import Chain, Instruction, parse

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "triton"
LANES_AT_ONCE = 2048  # of all blocks that run side by side, in warps of one number


@dataclass
class Execution:
    """How launches are executed, and what was executed.

    Attributes
    ----------
    capability : int
        Of the GPU to compile for, such as 90.
    orders : tuple of bool
        Whether the last warp of a block runs first. A launch with several warps to a block runs
        in each of these orders, and must store the same bytes in all of them.
    ulps : int
        By how much results of approximate instructions are changed.
    edit : function, optional
        Applied to the text of every kernel before it is parsed.
    blocks_at_once : int, optional
        How many blocks run side by side.
    launches, blocks : int
        How many were executed.
    codes : dict
        Kernels by what they were compiled for.
    counts : dict
        By kernel, how often each of its instructions ran, per warp.
    """

    capability: int
    orders: tuple[bool, ...] = (False, True)
    ulps: int = 0
    edit: Callable[[str], str] | None = None
    blocks_at_once: int = LANES_AT_ONCE // WARP
    launches: int = 0
    blocks: int = 0
    codes: dict[Any, Code] = field(default_factory=dict)
    counts: dict[Code, NDArray[np.int64]] = field(default_factory=dict)

    def code(self, key: Any, ptx: Callable[[], str]) -> Code:
        """Return the kernel of a key, translated when it is seen for the first time."""
        if key not in self.codes:
            text = ptx()
            self.codes[key] = Code(parse(self.edit(text) if self.edit else text))
        return self.codes[key]

    def _count(self, key: Callable[[Instruction], Any]) -> Counter[Any]:
        counts: Counter[Any] = Counter()
        for code, executed in self.counts.items():
            for instruction, count in zip(code.program.code, executed.tolist(), strict=True):
                counts[key(instruction)] += count
        return +counts

    @property
    def opcodes(self) -> Counter[str]:
        """How many warp instructions ran, by opcode."""
        return self._count(lambda instruction: instruction.opcode)

    @property
    def source_lines(self) -> Counter[Chain]:
        """How many warp instructions ran, by source line and the calls that it was inlined at."""
        return self._count(lambda instruction: instruction.source)

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
        """Execute a launch and count what ran.

        Parameters
        ----------
        code : Code
        arrays : sequence of byte arrays
            All memory that the kernel may touch.
        bind : function
            Returns the bits of the parameters in order; missing ones at the end are 0.
        grid : (x, y, z)
        threads, shared_bytes : int
            Of a block.
        uniform : bool
            Whether all lanes of a warp must branch alike.
        """
        names, total = list(code.program.parameters), int(np.prod(grid))
        stored = []
        for reverse in self.orders if threads > WARP else self.orders[:1]:
            memory = GlobalMemory(arrays)
            bits = list(bind(memory))
            arguments = dict(zip(names, bits + [0] * (len(names) - len(bits)), strict=True))
            launch = Launch(
                code, memory, arguments, grid, threads, shared_bytes, reverse, self.ulps, uniform
            )
            for first in range(0, total, self.blocks_at_once):
                blocks = range(first, min(first + self.blocks_at_once, total))
                self.counts[code] = self.counts.get(code, 0) + run_blocks(launch, blocks)
            stored.append(memory)
        if not all(memory.same_as(stored[0]) for memory in stored):
            raise ExecutionError("the result depends on the order of the warps")
        stored[0].copy_back(arrays)
        self.launches += 1
        self.blocks += total


def bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """Return the memory of a tensor from its first to its last element, without a copy."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    extent = 1 + sum((size - 1) * stride for size, stride in steps) if tensor.numel() else 0
    bits = {torch.bfloat16: torch.int16, torch.bool: torch.uint8}
    plain = tensor.detach().view(bits.get(tensor.dtype, tensor.dtype))
    flat = torch.as_strided(plain, (extent,), (1,), plain.storage_offset())
    array: NDArray[np.uint8] = flat.numpy().view(np.uint8)
    return array


def bits_of(value: float, kind: str) -> int:
    """Return the bits of a number as a kernel receives it: u1, i32, fp32, fp64 and so on."""
    if kind.startswith("fp"):
        return int.from_bytes(np.array(value, f"f{int(kind[2:]) // 8}").tobytes(), "little")
    return int(value) & ((1 << 64) - 1)


@contextmanager
def _device_of(capability: int) -> Iterator[None]:
    """Let Triton compile for a GPU that is not there, without assembling the result."""
    device = mock.Mock()
    device.get_current_device.return_value = capability
    device.get_current_target.return_value = GPUTarget("cuda", capability, 32)

    def without_assembler(*call: Any) -> tuple[str, str]:
        if call:
            call[1]["cubin"] = lambda source, metadata: b""
        return "text only", "text only"

    knobs = triton.knobs
    with (
        mock.patch.object(driver, "_active", device),
        knobs.runtime.scope(),
        knobs.cache.scope(),
    ):
        # Triton's own cache may hold the same code of another checkout, with its paths.
        knobs.cache.dir = str(CACHE)
        knobs.runtime.add_stages_inspection_hook = without_assembler
        yield


@contextmanager
def triton_launches(execution: Execution) -> Iterator[Execution]:
    """Execute every launch of a Triton kernel inside the context on CPU tensors.

    Parameters
    ----------
    execution : Execution
        How to execute; counts what ran.
    """
    compile_only = JITFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> CompiledKernel:
        with _device_of(execution.capability):
            kernel = compile_only(self, *args, grid=grid, warmup=True, **options)
        own = {name: value for name, value in options.items() if name in self.arg_names}
        bound = inspect.signature(self.fn).bind(*args, **own)
        bound.apply_defaults()
        compiled = CompiledKernel(execution, kernel)
        compiled[grid(bound.arguments) if callable(grid) else grid](*bound.arguments.values())
        return compiled

    with mock.patch.object(JITFunction, "run", run):
        yield execution


class CompiledKernel:
    """A compiled Triton kernel, launched with ``kernel[grid](*arguments)`` as on a GPU.

    Parameters
    ----------
    execution : Execution
    kernel : object
        What Triton's compiler returned.
    """

    def __init__(self, execution: Execution, kernel: Any) -> None:
        self._execution, self._kernel = execution, kernel
        self._code = execution.code(kernel.hash, lambda: str(kernel.asm["ptx"]))

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *arguments: self._launch(grid, arguments)

    def _launch(self, grid: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
        """Launch with all arguments in order, constants included."""
        named = zip(self._kernel.src.signature.items(), arguments, strict=True)
        given = [(kind, value) for (_, kind), value in named if kind != "constexpr"]
        arrays = [bytes_of(value) for kind, value in given if kind.startswith("*")]

        def bind(memory: GlobalMemory) -> list[int]:
            addresses = iter([memory.address(array) for array in arrays])
            return [
                next(addresses) if kind.startswith("*") else bits_of(value, kind)
                for kind, value in given
            ]

        x, y, z = (*grid, 1, 1)[:3]
        metadata = self._kernel.metadata
        threads = self._code.program.threads or WARP * metadata.num_warps
        self._execution.run(self._code, arrays, bind, (x, y, z), threads, metadata.shared, True)
