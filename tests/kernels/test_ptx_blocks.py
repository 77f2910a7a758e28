"""Tests of how blocks of threads run: memory, races, barriers, branches and exchanges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.ptx import block
from benchmarks.ptx.block import ExecutionError
from benchmarks.ptx.memory import GAP, GlobalMemory, MemoryFaultError
from benchmarks.ptx.program import parse, split_operands
from tests.kernels.ptx_snippets import execute, kernel

STORE = """
mad.wide.u32 %rd9, %r2, 4, %rd1;
st.global.b32 [%rd9], %r9;
"""


def stored(body: str, count: int = 64, threads: int = 64, **options: Any) -> NDArray[Any]:
    """Run a body that leaves its result in ``%r9``, and return the results of all threads."""
    out = np.zeros(count, np.uint32)
    execute(kernel(body + STORE, 1, threads), out, blocks=count // threads, **options)
    return out


def test_memory_has_gaps_and_keeps_alignment() -> None:
    whole = np.zeros(4096, np.uint8)
    parts = [whole[16:48], whole[48:80], whole[100:101], whole[100:140], whole[:0]]
    memory = GlobalMemory(parts)
    first, second, inner, outer, empty = (memory.address(part) for part in parts)
    assert second - first >= 32 + GAP
    assert inner == outer, "arrays that overlap share their bytes"
    for part, address in zip(parts[:4], (first, second, inner, outer), strict=True):
        assert (address - part.ctypes.data) % 256 == 0
    for bad in (first - 1, first + 32, empty, 0, 2**63):
        with pytest.raises(MemoryFaultError, match="illegal address"):
            memory.allocation(bad)


@pytest.mark.parametrize(
    ("offset", "message"),
    [("256", "illegal"), ("-4", "illegal"), ("4", "illegal"), ("2", "misaligned"), ("1", "misal")],
)
def test_an_access_outside_or_unaligned_is_found(offset: str, message: str) -> None:
    body = f"mad.wide.u32 %rd9, %r2, 4, %rd1;\nld.global.b32 %r9, [%rd9+{offset}];"
    with pytest.raises(ExecutionError, match=message) as caught:
        execute(kernel(body, 1, 64), np.zeros(64, np.uint32))
    assert "ld.global.b32" in str(caught.value)


def test_a_wide_access_past_the_end_is_found() -> None:
    body = "shl.b32 %r9, %r1, 3;\ncvt.u64.u32 %rd9, %r9;\nadd.s64 %rd9, %rd9, %rd1;\n"
    body += "ld.global.v4.b32 {%r10, %r11, %r12, %r13}, [%rd9];"
    with pytest.raises(ExecutionError, match="misaligned"):
        execute(kernel(body, 1), np.zeros(66, np.uint32))
    with pytest.raises(ExecutionError, match="past the end"):
        execute(kernel(body.replace("%r1, 3", "%r1, 4"), 1), np.zeros(32 * 4 - 1, np.uint32))
    execute(kernel(body.replace("%r1, 3", "%r1, 4"), 1), np.zeros(32 * 4, np.uint32))


def test_a_masked_access_may_be_anywhere() -> None:
    body = """
    mov.b32 %r9, 7;
    setp.lt.u32 %p1, %r1, 5;
    mad.wide.u32 %rd9, %r1, 4, %rd2;
    @%p1 ld.global.b32 %r9, [%rd9];
    mad.wide.u32 %rd9, %r2, 4, %rd1;
    st.global.b32 [%rd9], %r9;
    """
    out, table = np.zeros(32, np.uint32), np.arange(5, dtype=np.uint32)
    execute(kernel(body, 2), out, table)
    assert out.tolist() == [0, 1, 2, 3, 4] + [7] * 27
    with pytest.raises(ExecutionError, match="illegal"):
        execute(kernel(body.replace("@%p1 ld", "@!%p1 ld"), 2), out, table)


def test_blocks_may_not_share_what_one_of_them_stores() -> None:
    same_place = "st.global.b32 [%rd1], %r3;"
    with pytest.raises(ExecutionError, match="two blocks store"):
        execute(kernel(same_place, 1), np.zeros(8, np.uint32), blocks=2)
    execute(kernel("st.global.b32 [%rd1], %r3;", 1), np.zeros(8, np.uint32), blocks=1)
    neighbour = "mad.wide.u32 %rd9, %r3, 4, %rd1;\nst.global.b32 [%rd9], %r3;\n"
    neighbour += (
        "xor.b32 %r9, %r3, 1;\nmad.wide.u32 %rd9, %r9, 4, %rd1;\nld.global.b32 %r9, [%rd9];"
    )
    with pytest.raises(ExecutionError, match="another block stored"):
        execute(kernel(neighbour, 1), np.zeros(8, np.uint32), blocks=2)


TURN_ROUND = """
shl.b32 %r10, %r1, 2;
mov.u32 %r11, memory;
add.s32 %r12, %r10, %r11;
mul.lo.s32 %r13, %r1, 3;
st.shared.b32 [%r12], %r13;
bar.sync 0;
xor.b32 %r14, %r10, 252;
add.s32 %r14, %r14, %r11;
ld.shared.b32 %r9, [%r14];
"""


@pytest.mark.parametrize("reverse", [False, True])
def test_warps_exchange_values_across_a_barrier(reverse: bool) -> None:
    out = stored(TURN_ROUND, 256, reverse=reverse)
    assert out.tolist() == [3 * (63 - i) for i in range(64)] * 4
    without = TURN_ROUND.replace("bar.sync 0;", "")
    with pytest.raises(ExecutionError, match=r"race|before it is written"):
        stored(without, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_race_after_the_exchange_is_found(reverse: bool) -> None:
    again = "st.shared.b32 [%r12], %r9;"
    with pytest.raises(ExecutionError, match="race"):
        stored(TURN_ROUND + again, reverse=reverse)
    stored(TURN_ROUND + "bar.sync 0;\n" + again, reverse=reverse)


def test_a_write_after_another_warp_has_read_is_found() -> None:
    # The first warp reads what the second one then writes; no warp reads what was written.
    body = (
        TURN_ROUND
        + """
    bar.sync 0;
    setp.lt.u32 %p1, %r1, 32;
    @%p1 ld.shared.b32 %r9, [%r12+128];
    @!%p1 st.shared.b32 [%r12], %r9;
    """
    )
    with pytest.raises(ExecutionError, match="write after read"):
        stored(body)
    stored(body.replace("+128", "+0"))


def test_faults_of_shared_memory() -> None:
    with pytest.raises(ExecutionError, match="outside"):
        stored(TURN_ROUND, shared_bytes=252)
    with pytest.raises(ExecutionError, match="before it is written"):
        stored("mov.u32 %r11, memory;\nld.shared.b32 %r9, [%r11];")
    different = "mov.u32 %r11, memory;\nst.shared.b32 [%r11], %r1;\nmov.b32 %r9, 1;"
    with pytest.raises(ExecutionError, match="different values"):
        stored(different, 32, 32)
    stored(different.replace("], %r1", "], 5"), 32, 32)


def test_threads_that_branch_alone_race_alone() -> None:
    # Two lanes of one warp: no race if all lanes of a warp run in step, one if they may not.
    neighbour = TURN_ROUND.replace("bar.sync 0;", "").replace("252", "4")
    assert stored(neighbour, 32, 32).tolist() == [3 * (i ^ 1) for i in range(32)]
    with pytest.raises(ExecutionError, match="race"):
        stored(neighbour, 32, 32, uniform=False)


def test_a_barrier_must_be_reached_by_all() -> None:
    some = "setp.lt.u32 %p1, %r1, 32;\nmov.b32 %r9, 0;\n@%p1 bar.sync 0;"
    with pytest.raises(ExecutionError, match="not reached by all"):
        stored(some)
    left = "setp.lt.u32 %p1, %r1, 32;\nmov.b32 %r9, 0;\n@%p1 ret;\nbar.sync 0;"
    with pytest.raises(ExecutionError, match="not reached by all"):
        stored(left)


COLLATZ = """
add.s32 %r10, %r2, 1;
mov.b32 %r9, 0;
$L_next:
setp.eq.u32 %p1, %r10, 1;
@%p1 bra $L_end;
add.s32 %r9, %r9, 1;
and.b32 %r11, %r10, 1;
setp.eq.u32 %p2, %r11, 0;
@%p2 bra $L_even;
mad.lo.s32 %r10, %r10, 3, 1;
bra.uni $L_next;
$L_even:
shr.u32 %r10, %r10, 1;
bra.uni $L_next;
$L_end:
"""


def collatz(x: int) -> int:
    count = 0
    while x != 1:
        x, count = (x // 2 if x % 2 == 0 else 3 * x + 1), count + 1
    return count


def test_lanes_that_branch_differently_meet_again() -> None:
    out = stored(COLLATZ, 192, uniform=False)
    assert out.tolist() == [collatz(i + 1) for i in range(192)]
    with pytest.raises(ExecutionError, match="branch differently"):
        stored(COLLATZ)


def test_a_barrier_after_lanes_have_parted() -> None:
    parted = "and.b32 %r20, %r1, 1;\nsetp.eq.u32 %p3, %r20, 0;\n@%p3 bra $L_other;\n"
    parted += "add.s32 %r21, %r1, 0;\n$L_other:\n"
    out = stored(parted + TURN_ROUND, 64, uniform=False)
    assert out.tolist() == [3 * (63 - i) for i in range(64)]


def test_a_kernel_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "MOST_STEPS", 1000)
    with pytest.raises(ExecutionError, match="does not end"):
        stored("mov.b32 %r9, 0;\n$L_again:\nbra.uni $L_again;", 32, 32)


def test_an_unwritten_register_is_not_read_unless_no_instruction_writes_it() -> None:
    with pytest.raises(ExecutionError, match=r"%r10 is read before"):
        stored("bra.uni $L_on;\nmov.b32 %r10, 1;\n$L_on:\nadd.s32 %r9, %r10, 1;")
    stored("add.s32 %r9, %r10, 1;")


def test_atomics_count_and_return_former_values() -> None:
    body = """
    mov.u32 %r11, memory;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra $L_on;
    st.shared.b32 [%r11], 100;
    $L_on:
    bar.sync 0;
    atom.shared.add.u32 %r9, [%r11], 2;
    """
    out = stored(body, 128, uniform=False)
    assert [sorted(out[i : i + 64]) for i in (0, 64)] == [list(range(100, 228, 2))] * 2
    reversed_ = stored(body, 128, uniform=False, reverse=True)
    assert sorted(out) == sorted(reversed_)
    assert out.tolist() != reversed_.tolist(), "another order of warps hands out other numbers"
    with pytest.raises(ExecutionError, match="race"):
        stored(body + "ld.shared.b32 %r9, [%r11];", uniform=False)


def test_global_atomics_of_several_blocks() -> None:
    total = np.zeros(1, np.uint32)
    execute(kernel("red.global.add.u32 [%rd1], %r2;", 1, 64), total, blocks=3)
    assert total[0] == sum(range(192))


SHUFFLES: dict[str, Callable[[int], int]] = {
    "bfly.b32 %r9, %r1, 5, 31": lambda lane: lane ^ 5,
    "idx.b32 %r9, %r1, 7, 31": lambda lane: 7,
    "down.b32 %r9, %r1, 3, 31": lambda lane: lane + 3 if lane + 3 < 32 else lane,
    "up.b32 %r9, %r1, 3, 0": lambda lane: lane - 3 if lane >= 3 else lane,
}


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_shuffles(shuffle: str) -> None:
    out = stored(f"shfl.sync.{shuffle}, -1;", 64, 64)
    expected = [SHUFFLES[shuffle](lane) for lane in range(32)]
    assert out.tolist() == expected + [32 + lane for lane in expected]


def test_what_lanes_do_together_needs_all_of_them() -> None:
    some = "setp.lt.u32 %p1, %r1, 9;\nmov.b32 %r9, 0;\n@%p1 shfl.sync.bfly.b32 %r9, %r1, 1, 31, -1;"
    with pytest.raises(ExecutionError, match="not all lanes"):
        stored(some, 32, 32)
    with pytest.raises(ExecutionError, match="only some lanes"):
        stored("shfl.sync.bfly.b32 %r9, %r1, 1, 31, 255;", 32, 32)


def test_reductions_of_a_warp() -> None:
    assert stored("redux.sync.add.s32 %r9, %r1, -1;").tolist() == [496] * 32 + [1520] * 32
    assert set(stored("redux.sync.max.u32 %r9, %r1, -1;").tolist()) == {31, 63}
    floats = "cvt.rn.f32.u32 %r10, %r1;\nredux.sync.min.f32 %r9, %r10, -1;"
    assert set(stored(floats).view(np.float32).tolist()) == {0.0, 32.0}


@pytest.mark.parametrize("transposed", [False, True])
def test_matrices_of_halves(transposed: bool) -> None:
    body = f"""
    shl.b32 %r10, %r1, 4;
    mov.u32 %r11, memory;
    add.s32 %r10, %r10, %r11;
    mul.lo.s32 %r12, %r1, 4;
    add.s32 %r13, %r12, 1;
    add.s32 %r14, %r12, 2;
    add.s32 %r15, %r12, 3;
    st.shared.v4.b32 [%r10], {{%r12, %r13, %r14, %r15}};
    bar.warp.sync -1;
    ldmatrix.sync.aligned.m8n8.x2{".trans" * transposed}.shared.b16 {{%r16, %r9}}, [%r10];
    """
    out = stored(body, 32, 32, shared_bytes=512)
    second = np.arange(32, 64, dtype=np.uint32).view(np.uint16).reshape(8, 8)
    expected = np.ascontiguousarray(second.T if transposed else second).view(np.uint32)
    assert out.tolist() == expected.ravel().tolist()
    back = body.replace("ldmatrix", "stmatrix").replace(
        "{%r16, %r9}, [%r10]", "[%r10], {%r12, %r13}"
    )
    check = "bar.warp.sync -1;\nmad.lo.s32 %r17, %r1, 4, %r11;\nld.shared.b32 %r9, [%r17];"
    words = np.arange(32, dtype=np.uint32) * 4
    halves = words.view(np.uint16).reshape(8, 8)
    expected = np.ascontiguousarray(halves.T if transposed else halves).view(np.uint32)
    assert stored(back + check, 32, 32, shared_bytes=512).tolist() == expected.ravel().tolist()


def test_vectors_are_packed_and_unpacked() -> None:
    body = """
    add.s32 %r10, %r1, 1000;
    mov.b64 %rd10, {%r10, %r1};
    mov.b64 {%r11, %r12}, %rd10;
    mov.b32 {%rs1, %rs2}, %r11;
    mov.b32 %r13, {%rs2, %rs1};
    shr.u32 %r14, %r13, 16;
    add.s32 %r9, %r14, %r12;
    """
    assert stored(body).tolist() == [2 * i + 1000 for i in range(64)]


def test_source_lines_of_inlined_code() -> None:
    lines = [
        ".loc 1 10 3", "mov.b32 %r9, 0;",
        ".loc 2 20 5, function_name $L__info_string0, inlined_at 1 10 3", "mov.b32 %r10, 0;",
        ".loc 2 30 7, function_name $L__info_string0, inlined_at 2 20 5", "mov.b32 %r11, 0;",
        "// begin inline asm", ".loc 2 31 7", "mov.b32 %r12, 0;", ".loc 2 32 7",
        "mov.b32 %r13, 0;", "// end inline asm",
    ]  # fmt: skip
    text = kernel("\n".join(lines), 0) + '\n.file 1 "/a/first.py"\n.file 2 "/b/second.py"\n'
    chains = [instruction.source for instruction in parse(text).code if instruction.source]
    outer, middle = ("/a/first.py", 10), ("/b/second.py", 20)
    assert chains[:5] == [
        (outer,), (middle, outer), (("/b/second.py", 30), middle, outer),
        (("/b/second.py", 31),), (("/b/second.py", 31),),
    ]  # fmt: skip
    for instruction in parse(text).code:
        assert instruction.opcode in text.splitlines()[instruction.line]
    assert split_operands("{ %r1, %r2 }, [ %rd1 + 0 ], 5") == ("{ %r1, %r2 }", "[ %rd1 + 0 ]", "5")


def test_executions_are_counted_by_warp() -> None:
    body = """
    mov.b32 %r9, 0;
    $L_again:
    add.s32 %r9, %r9, 1;
    shr.u32 %r10, %r1, 5;
    setp.le.u32 %p1, %r9, %r10;
    @%p1 bra $L_again;
    """
    executed = execute(kernel(body, 0, 64), blocks=3)
    assert executed["mov.b32 %r9, 0"] == 6, "two warps of three blocks"
    assert executed["add.s32 %r9, %r9, 1"] == 9, "once in the first warp, twice in the second"
