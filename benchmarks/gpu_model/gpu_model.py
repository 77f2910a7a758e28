"""Model of the time that a GPU takes to issue instructions and to move bytes.

The model ignores latency, barriers, caches and variable clocks.
"""

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


class Device(NamedTuple):
    """Rates and sizes of a GPU."""

    name: str
    multiprocessors: int
    hertz: float
    bytes_per_second: float  # bandwidth of a copy, reads and writes together
    shared_bytes: int  # per multiprocessor
    float_lanes: int  # per scheduler
    double_lanes: int
    is_measured: bool  # whether the memory bandwidth is measured, not assumed


DEVICES = {
    80: Device("A100 40 GB", 108, 1.41e9, 1.4e12, 164 << 10, 16, 8, False),
    90: Device("H100 SXM", 132, 1.755e9, 3.0e12, 228 << 10, 32, 16, True),
    100: Device("B200", 148, 1.85e9, 7.2e12, 228 << 10, 32, 16, False),
}

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
    f"{device.name}: {device.multiprocessors} at {device.hertz / 1e9:g} GHz, "
    f"{device.bytes_per_second / 1e12:g} TB/s "
    f"{'as a copy reaches' if device.is_measured else 'assumed'}"
    for device in DEVICES.values()
)
ASSUMPTIONS = (
    "Modelled, not measured: latency, barriers, occupancy, cache misses and bank conflicts cost "
    "nothing.",
    f"Issue: 4 warp instructions per cycle and multiprocessor. {_RATES}.",
    "Bytes: the plane is read once and written once; the statistics, the row index, the dihedral "
    "element, and the mask in sectors of 32 bytes are added. The image of a lens is written once.",
    "Pipes, lanes per cycle and scheduler: integer (add, compare, minimum, select, logic, shift) "
    "16; integer multiply 16; float 32 (A100 16, shared with multiply); special functions, "
    "population counts and conversions, float64 among them, 4; float64 16 (A100 8); memory and "
    "shuffles 8 for each 32 bits. From the throughput table of the CUDA programming guide; "
    "assumed for the B200.",
    "Executions of a block of instructions: the flow through the disassembled code that is closest "
    "to the counts of its statements in Triton's interpreter. Slow paths of divisions and of "
    "divergent warps count 0.",
)


@functools.cache
def pipe_cycles(opcode: str, capability: int) -> dict[str, float]:
    """Return the cycles for which a warp instruction occupies the pipes of its scheduler."""
    device = DEVICES[capability]
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
    device = DEVICES[capability]
    return warp_instructions / (SCHEDULERS * device.multiprocessors * device.hertz)


def memory_seconds(plane_bytes: float, capability: int) -> float:
    return plane_bytes / DEVICES[capability].bytes_per_second


def resident_warps(registers: int, shared_bytes: int, block_warps: int, capability: int) -> int:
    """Return the number of warps that fit on a multiprocessor at once."""
    per_warp = -(-registers * WARP // REGISTER_UNIT) * REGISTER_UNIT
    # Each scheduler has its own quarter of the registers.
    by_registers = SCHEDULERS * (REGISTERS // SCHEDULERS // per_warp) // block_warps
    shared = -(-(shared_bytes + RESERVED_SHARED_BYTES) // SHARED_UNIT) * SHARED_UNIT
    by_shared = DEVICES[capability].shared_bytes // shared
    return min(by_registers, by_shared, MOST_BLOCKS, MOST_WARPS // block_warps) * block_warps
