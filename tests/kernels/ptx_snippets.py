"""Tiny hand-written kernels, and arrays to run them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ptx.block import Code, Launch, run_blocks
from benchmarks.ptx.memory import GlobalMemory
from benchmarks.ptx.opcodes import DTYPES
from benchmarks.ptx.program import parse

WIDTHS = {1: "%p", 2: "%rs", 4: "%r", 8: "%rd"}
FRAME = """
.extern .shared .align 16 .b8 memory[];
.visible .entry snippet(
{parameters}
)
.reqntid {threads}
{{
\t.reg .pred %p<99>;
\t.reg .b16 %rs<99>;
\t.reg .b32 %r<99>;
\t.reg .b64 %rd<99>;
{body}
\tret;
}}
"""


def kernel(body: str, arrays: int, threads: int = 32) -> str:
    """Return a kernel whose parameters are the addresses of arrays, in ``%rd1`` and so on.

    Parameters
    ----------
    body : str
    arrays : int
    threads : int
        Of a block; ``%r1`` is the thread, ``%r2`` the number of the thread in the grid.
    """
    parameters = ",\n".join(f"\t.param .u64 p_{i}" for i in range(1, arrays + 1))
    loads = [f"ld.param.b64 %rd{i}, [p_{i}];" for i in range(1, arrays + 1)]
    place = ["mov.u32 %r1, %tid.x;", "mov.u32 %r3, %ctaid.x;", "mov.u32 %r4, %ntid.x;"]
    place.append("mad.lo.s32 %r2, %r3, %r4, %r1;")
    lines = [*loads, *place, *body.strip().splitlines()]
    return FRAME.format(parameters=parameters, threads=threads, body="\n".join(lines))


def execute(ptx: str, *arrays: NDArray[Any], blocks: int = 1, **options: Any) -> dict[str, int]:
    """Run a kernel on arrays, which it may change; return how often each instruction ran.

    Parameters
    ----------
    ptx : str
    *arrays : arrays
    blocks : int
    **options : any
        Fields of `Launch`.
    """
    raw = [array.reshape(-1).view(np.uint8) for array in arrays]
    memory = GlobalMemory(raw)
    code = Code(parse(ptx))
    addresses = [memory.address(array) for array in raw]
    arguments = dict(zip(code.program.parameters, addresses, strict=True))
    threads = code.program.threads or 32
    options = {"grid": (blocks, 1, 1), "shared_bytes": 256, **options}
    executed = run_blocks(
        Launch(code, memory, arguments, threads=threads, **options), range(blocks)
    )
    memory.copy_back(raw)
    return dict(zip(map(str, code.program.code), executed.tolist(), strict=True))


def computed(opcode: str, kinds: str, *arrays: Any, extra: str = "", ulps: int = 0) -> NDArray[Any]:
    """Apply one instruction to arrays.

    Parameters
    ----------
    opcode : str
    kinds : str
        Types of the result and of every array, such as ``f32 f32 u32``.
    *arrays : arrays
    extra : str
        More operands, as written.
    ulps : int
        By how much a result of an approximate instruction is changed.
    """
    out_kind, *in_kinds = kinds.split()
    count = np.broadcast(*arrays).size
    padded = -(-count // 32) * 32
    inputs = [
        np.resize(np.broadcast_to(np.asarray(array, DTYPES[kind]), (count,)), padded)
        for array, kind in zip(arrays, in_kinds, strict=True)
    ]
    is_predicate = out_kind == "pred"
    out: NDArray[Any] = np.zeros(padded, DTYPES["u32" if is_predicate else out_kind])
    body, operands = [], []
    for i, array in enumerate(inputs):
        size = max(array.dtype.itemsize, 2)
        register = f"{WIDTHS[size]}{20 + i}"
        body.append(f"mad.wide.u32 %rd{50 + i}, %r2, {array.dtype.itemsize}, %rd{i + 1};")
        body.append(f"ld.global.b{8 * array.dtype.itemsize} {register}, [%rd{50 + i}];")
        operands.append(register)
    target = "%p9" if is_predicate else f"{WIDTHS[max(out.dtype.itemsize, 2)]}40"
    body.append(f"{opcode} {', '.join([target, *operands])}{extra};")
    if is_predicate:
        body.append("selp.b32 %r40, 1, 0, %p9;")
        target = "%r40"
    size = out.dtype.itemsize
    body.append(f"mad.wide.u32 %rd60, %r2, {size}, %rd{len(inputs) + 1};")
    body.append(f"st.global.b{8 * size} [%rd60], {target};")
    text = kernel("\n".join(body), len(inputs) + 1)
    execute(text, *inputs, out, blocks=padded // 32, ulps=ulps)
    return out[:count]
