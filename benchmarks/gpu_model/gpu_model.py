"""Rates, latencies and sizes that the model of a GPU assumes."""

from __future__ import annotations

import functools
from typing import NamedTuple

WARP = 32
SCHEDULERS = 4  # per multiprocessor; each issues one warp instruction per cycle
REGISTERS = 65_536
REGISTER_UNIT = 256  # allocation unit of registers per warp
MOST_WARPS, MOST_BLOCKS = 64, 32
RESERVED_SHARED_BYTES = 1024  # per block, for the system
SHARED_UNIT = 128
LAUNCH_CYCLES = 300  # from the end of a program to the first instruction of the next
BARRIER_LATENCY = 20
LATENCY = {
    kind: cycles
    for cycles, kinds in {
        14: "P2R",
        20: "STS STG LDG CS2R",
        24: "SHFL POPC FCHK",
        26: "DADD DMUL DFMA DSETP DMNMX",
        30: "LDS S2R S2UR ULDC I2F F2I",
        33: "LDSM LDL MUFU F2F",
        35: "LDC LDCU REDUX CREDUX",
    }.items()
    for kind in kinds.split()
}
"""Cycles until an instruction releases a scoreboard; until it has read its operands, if it loads
or stores."""
USUAL_LATENCY = 20


class Device(NamedTuple):
    """Rates, sizes and latencies of a GPU."""

    capability: int
    multiprocessors: int
    hertz: float
    bytes_per_second: float  # bandwidth of a copy, reads and writes together
    shared_bytes: int  # per multiprocessor
    float_lanes: int  # per scheduler
    double_lanes: int
    l2_bytes_per_cycle: float  # of all multiprocessors together
    l2_latency: int  # cycles of a load that hits
    dram_latency: int  # cycles of a load while nothing else waits
    is_measured: bool  # whether the memory bandwidth is measured, not assumed


DEVICES = {
    "A100": Device(80, 108, 1.41e9, 1.4e12, 164 << 10, 16, 8, 5120, 200, 470, False),
    "H100": Device(90, 132, 1.755e9, 3.0e12, 228 << 10, 32, 16, 5120, 265, 560, True),
    "H200": Device(90, 132, 1.83e9, 4.3e12, 228 << 10, 32, 16, 5120, 265, 560, False),
    "B200": Device(100, 148, 1.85e9, 7.2e12, 228 << 10, 32, 16, 10240, 350, 700, False),
}
CAPABILITIES = tuple(dict.fromkeys(device.capability for device in DEVICES.values()))


def of_capability(capability: int) -> Device:
    """Return the first device of a capability: its sizes are those of all."""
    return next(device for device in DEVICES.values() if device.capability == capability)


_FLOAT = "FADD FMUL FFMA"
_FLOAT_PAIR = "FADD2 FMUL2 FFMA2"
_DOUBLE = "DADD DMUL DFMA DSETP DMNMX"
_INTEGER = (
    "IADD IADD3 VIADD LOP3 SHF SEL FSEL FMNMX FMNMX3 FSETP FSET ISETP IMNMX VIMNMX VIMNMX3 "
    "VIADDMNMX LEA PRMT PLOP3 P2R R2P I2FP F2FP MOV SGXT BMSK IABS FCHK"
)
_SPECIAL = "MUFU F2F F2I I2F FRND POPC FLO BREV REDUX CREDUX"
_MEMORY = "LDG STG LDS STS LDSM LDL STL SHFL ATOM ATOMG ATOMS RED"

PIPE_OF = {
    kind: pipe
    for pipe, kinds in {
        "float": _FLOAT,
        "float pair": _FLOAT_PAIR,
        "double": _DOUBLE,
        "integer": _INTEGER,
        "multiply": "IMAD",
        "special": _SPECIAL,
        "memory": _MEMORY,
    }.items()
    for kind in kinds.split()
}

_RATES = "; ".join(
    f"{name}: {device.multiprocessors} at {device.hertz / 1e9:g} GHz, "
    f"{device.bytes_per_second / 1e12:g} TB/s "
    f"{'as a copy reaches' if device.is_measured else 'assumed'}"
    for name, device in DEVICES.items()
)
_LATENCIES = "; ".join(
    f"{name}: {device.l2_latency} and {device.dram_latency} cycles, {device.l2_bytes_per_cycle:,}"
    for name, device in DEVICES.items()
)
ASSUMPTIONS = (
    "Simulated, not measured: four multiprocessors, each with as many programs as its registers, "
    "shared memory and warps allow. A warp issues the disassembled instructions in order, with the "
    "assembler's own stall counts and scoreboards; a scheduler issues one instruction per cycle.",
    f"Memory: {_RATES}. All multiprocessors share one queue for DRAM, first come, first served. "
    "Latencies of the L2 cache and of DRAM, and bytes of the L2 cache per cycle, assumed: "
    f"{_LATENCIES}.",
    "Bytes: the sectors of 32 bytes that the compiled PTX touches when it is executed. What a "
    "program reads for the first time comes from DRAM, unless others read it too; what it loaded "
    "among its last 16 KB is in the L1 cache; a sector that is stored in parts is written once.",
    "Pipes, lanes per cycle and scheduler: integer (add, compare, minimum, select, logic, shift) "
    "16; integer multiply 16; float 32 (A100 16, shared with multiply); special functions, "
    "population counts and conversions, float64 among them, 4; float64 16 (A100 8); memory and "
    "shuffles 8 for each 32 bits. From the throughput table of the CUDA programming guide; "
    "assumed for the B200.",
    "Path of a warp: the flow through the disassembled code that is closest to the counts of the "
    "source lines in the executed PTX. Slow paths of divisions and of divergent warps count 0.",
    "Left out, so that times are lower bounds: misses of the instruction cache, bank conflicts, "
    "the time that DRAM takes to turn from reads to writes, misses of the L2 cache by programs "
    "that started before, lower clocks, launches, the last wave of programs.",
)


@functools.cache
def pipe_cycles(opcode: str, capability: int) -> dict[str, float]:
    """Return the cycles for which a warp instruction occupies the pipes of its scheduler."""
    device = of_capability(capability)
    kind, *modifiers = opcode.split(".")
    pipe = PIPE_OF.get(kind)
    if pipe in ("float", "float pair"):
        return {"float": (1 + (pipe == "float pair")) * WARP / device.float_lanes}
    if pipe == "multiply":
        # It runs on 16 lanes, which are all of the float lanes or half of them.
        return {"float": WARP / device.float_lanes, "multiply": WARP / 16}
    if pipe == "double":
        return {"double": WARP / device.double_lanes}
    if pipe == "memory":
        words = 4 if "128" in modifiers else 2 if "64" in modifiers else 1
        return {"memory": words * WARP / 8}
    lanes = {"integer": 16, "special": 4}
    return {pipe: WARP / lanes[pipe]} if pipe else {}


def issue_seconds(warp_instructions: float, capability: int) -> float:
    device = of_capability(capability)
    return warp_instructions / (SCHEDULERS * device.multiprocessors * device.hertz)


def memory_seconds(plane_bytes: float, device: Device) -> float:
    return plane_bytes / device.bytes_per_second


def resident_warps(registers: int, shared_bytes: int, block_warps: int, capability: int) -> int:
    """Return the number of warps that fit on a multiprocessor at once."""
    per_warp = -(-registers * WARP // REGISTER_UNIT) * REGISTER_UNIT
    # Each scheduler has its own quarter of the registers.
    by_registers = SCHEDULERS * (REGISTERS // SCHEDULERS // per_warp) // block_warps
    shared = -(-(shared_bytes + RESERVED_SHARED_BYTES) // SHARED_UNIT) * SHARED_UNIT
    by_shared = of_capability(capability).shared_bytes // shared
    return min(by_registers, by_shared, MOST_BLOCKS, MOST_WARPS // block_warps) * block_warps
