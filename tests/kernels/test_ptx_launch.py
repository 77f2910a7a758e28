"""Tests of how launches are bound: a small Triton kernel, compiled for a GPU, on CPU tensors."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

# Code of Triton 3.6 shuffles registers that no lane has written, and none uses.
pytest.importorskip("triton", "3.7")

import triton
import triton.language as tl

from benchmarks.ptx.block import ExecutionError
from benchmarks.ptx.launch import Execution, bits_of, bytes_of, triton_launches
from tests.kernels.ptx_snippets import kernel


@triton.jit  # type: ignore[untyped-decorator]
def _scale_rows(p_in, p_out, p_more, rows, stride, factor, wide: tl.float64, size: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0)
    lane = tl.arange(0, 128)
    value = tl.load(p_in + row * stride + lane, mask=lane < size, other=0.0)
    total = tl.sum(value)
    result = value * factor + (total + wide).to(tl.float32)
    if p_more is not None:
        result += tl.load(p_more + row)
    tl.store(p_out + row * size + lane, result, mask=(lane < size) & (row < rows))


def scaled(
    images: torch.Tensor, more: torch.Tensor | None, execution: Execution, size: int = 100
) -> torch.Tensor:
    out = torch.full((len(images), size), torch.nan)

    def grid(values: dict[str, Any]) -> tuple[int]:
        return (values["rows"],)

    with triton_launches(execution):
        _scale_rows[grid](
            images, out, more, len(images), images.stride(0), 0.5, wide=2.0**-40 + 1, size=size,
            num_warps=2, enable_fp_fusion=False,
        )  # fmt: skip
    return out


def expected(images: torch.Tensor, more: torch.Tensor | None) -> torch.Tensor:
    total = images.sum(1, keepdim=True)
    result = images * 0.5 + (total.double() + 2.0**-40 + 1).float()
    return result if more is None else result + more[:, None]


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("with_more", [False, True])
def test_arguments_are_bound_by_name(capability: int, with_more: bool) -> None:
    whole = torch.arange(5 * 140.0).reshape(5, 140) % 17
    images = whole[1:, 3:103]  # a view that starts at no multiple of 16 bytes
    more = torch.tensor([10.0, 20, 30, 40]) if with_more else None
    execution = Execution(capability)
    assert torch.equal(scaled(images, more, execution), expected(images, more))
    assert (execution.launches, execution.blocks, len(execution.codes)) == (1, 4, 1)
    # Two warps of four programs, in both orders.
    assert execution.opcodes["ret"] == 2 * 4 * 2
    assert sum(execution.source_lines.values()) == sum(execution.opcodes.values())
    # Triton caches compiled code by its source, so that the folder may be another one.
    files = {Path(chain[-1][0]).name for chain in execution.source_lines if chain}
    assert files == {Path(__file__).name}


def test_a_kernel_that_a_launch_returned_can_be_launched_again() -> None:
    images, out = torch.ones(3, 100), torch.full((3, 100), torch.nan)
    execution = Execution(90)
    options = {"num_warps": 2, "enable_fp_fusion": False}
    with triton_launches(execution):
        first = _scale_rows[(3,)](images, out, None, 3, 100, 0.5, 0.0, size=100, **options)
        other = torch.full((3, 100), torch.nan)
        first[(3,)](images + 1, other, None, 3, 100, 0.25, 0.0, 100)
    assert (out == 100.5).all()
    assert (other == 200.5).all()
    assert (execution.launches, len(execution.codes)) == (2, 1)


def test_a_store_outside_a_tensor_is_found() -> None:
    images = torch.ones(2, 100)
    with pytest.raises(ExecutionError, match=r"illegal address|past the end"):
        scaled(images[:, :50], None, Execution(90), size=120)


def test_an_edit_changes_what_runs() -> None:
    execution = Execution(90, edit=lambda ptx: ptx.replace("bar.sync", "// bar.sync"))
    with pytest.raises(ExecutionError, match="read before it is written"):
        scaled(torch.ones(1, 100), None, execution)


def test_a_result_that_depends_on_the_order_of_warps_is_found() -> None:
    body = """
    mov.u32 %r11, memory;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra $L_on;
    st.shared.b32 [%r11], 0;
    $L_on:
    bar.sync 0;
    atom.shared.add.u32 %r9, [%r11], 1;
    mad.wide.u32 %rd9, %r1, 4, %rd1;
    st.global.b32 [%rd9], %r9;
    """
    out = np.zeros(64 * 4, np.uint8)

    def run(execution: Execution) -> None:
        code = execution.code("", lambda: kernel(body, 1, 64))
        execution.run(code, [out], lambda memory: [memory.address(out)], (1, 1, 1), 64, 16, False)

    run(Execution(90, orders=(False,)))
    assert out.view(np.uint32).tolist() == list(range(64))
    with pytest.raises(ExecutionError, match="order of the warps"):
        run(Execution(90))


def test_bits_of_arguments() -> None:
    assert bits_of(1.5, "fp32") == struct.unpack("<I", struct.pack("<f", 1.5))[0]
    assert bits_of(1.5, "fp64") == struct.unpack("<Q", struct.pack("<d", 1.5))[0]
    assert bits_of(-1, "i64") == 2**64 - 1
    assert bits_of(True, "u1") == 1


def test_bytes_of_views() -> None:
    whole = torch.arange(24, dtype=torch.int16).reshape(4, 6)
    view = whole[1:, ::2]
    flat = bytes_of(view).view(np.int16)
    assert flat.tolist() == list(range(6, 23))
    flat[0] = -1
    assert whole[1, 0] == -1, "no copy"
    assert bytes_of(whole.to(torch.bfloat16)).size == 48
    assert bytes_of(whole[:0]).size == 0
    assert bytes_of(whole.t()).size == 48
