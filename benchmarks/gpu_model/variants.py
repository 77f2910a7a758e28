"""Variants of the Triton kernel in the report, compiled and executed without a GPU."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.driver import driver

import fastnorm.kernels.triton_normalize as triton_normalize
from benchmarks.gpu_model.executed import Executed, record

KERNELS = Path(triton_normalize.__file__).resolve().parent
CUTOUTS = KERNELS.parents[1] / "shared" / "data" / "dr10_cutouts"
HEADLINE = "float32"
EXECUTED_CAPABILITY = 90  # source lines run as often on the others
REAL, SIMULATED = "real", "simulated"


class Variant(NamedTuple):
    """A variant. The headline has the defaults: float32, contiguous, 101 x 101, no options."""

    shape: tuple[int, int] = (101, 101)
    radii: tuple[float, float] = (32.5, 45.0)
    dtype: torch.dtype = torch.float32
    out: torch.dtype = torch.float32
    channels_last: bool = False
    indexed: bool = False
    dihedral: bool = False
    mask: bool = False


VARIANTS = {
    HEADLINE: Variant(),
    "bfloat16 out": Variant(out=torch.bfloat16),
    "float16 out": Variant(out=torch.float16),
    "channels last": Variant(channels_last=True),
    "index": Variant(indexed=True),
    "dihedral": Variant(dihedral=True),
    "mask": Variant(mask=True),
    "float64": Variant(dtype=torch.float64, out=torch.float64),
    "annulus 20-32": Variant(radii=(20.0, 32.0)),
    "64 x 64": Variant((64, 64), (20.8, 28.8)),
    "training": Variant(out=torch.bfloat16, channels_last=True, indexed=True, dihedral=True),
    "256 x 256": Variant((256, 256), (83.2, 115.2)),
}


def annulus_pixels(variant: Variant) -> np.ndarray:
    rows, columns = (np.arange(size) - size // 2 for size in variant.shape)
    radius = np.hypot(rows[:, None], columns[None, :])
    r_in, r_out = variant.radii
    return np.flatnonzero((radius >= r_in) & (radius < r_out)).astype(np.int32)


def simulated(shape: tuple[int, int], count: int) -> np.ndarray:
    """Return exponential discs on a noisy sky in three bands, (count, 3, H, W) float32."""
    rng = np.random.default_rng(20)
    rows, columns = (np.arange(size) - size // 2 for size in shape)
    radius = np.hypot(rows[:, None], columns[None, :])
    flux, size, sky, noise = (
        rng.uniform(low, high, (count, 3, 1, 1))
        for low, high in ((0.5, 10), (0.03, 0.1), (-0.02, 0.2), (0.005, 0.1))
    )
    disc = flux * np.exp(-radius / (size * min(shape)))
    return (disc + sky + noise * rng.standard_normal((count, 3, *shape))).astype(np.float32)


def stacks(name: str) -> dict[str, np.ndarray]:
    """Return the images to count on: real ones if available, otherwise simulated ones."""
    shape = VARIANTS[name].shape
    # The other variants differ from the headline in their output, not in their counts.
    count = 8 if name == HEADLINE else 2
    files = sorted(CUTOUTS.glob("*.npz"))[:count] if shape == (101, 101) else []
    found = {}
    if files:
        cutouts = [np.load(file, allow_pickle=False)["cutout"] for file in files]
        found[REAL] = np.ascontiguousarray(np.moveaxis(np.stack(cutouts), -1, 1))
    if name == HEADLINE or not files:
        found[SIMULATED] = simulated(shape, count)
    return found


def launch(variant: Variant, images: torch.Tensor) -> torch.Tensor:
    """Launch the kernel on (N, C, H, W) float32 images, and return the number of its passes."""
    images = images.to(variant.dtype)
    device, (count, channels) = images.device, images.shape[:2]
    rows = torch.arange(count, device=device)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    out = torch.empty_like(images, dtype=variant.out, memory_format=layout)
    dtype = torch.float64 if variant.dtype is torch.float64 else torch.float32
    median, mad, scale = (
        torch.empty((count, channels), dtype=dtype, device=device) for _ in range(3)
    )
    passes = torch.zeros((count, channels, 2, 2), dtype=torch.int32, device=device)
    # A kernel that was compiled before would run where it was compiled for.
    compiled = mock.patch.dict(triton_normalize._compiled, clear=True)
    with compiled, np.errstate(all="ignore"):
        triton_normalize.launch(
            images,
            torch.zeros_like(images, dtype=torch.bool) if variant.mask else None,
            torch.from_numpy(annulus_pixels(variant)).to(device),
            rows if variant.indexed else None,
            rows * 3 % 8 if variant.dihedral else None,  # identity, rotations and flips
            out, median, mad, scale, 1e-8, 10.0, True,
            # Without it, the compiled kernel does not count passes.
            None if images.is_meta else passes,
        )  # fmt: skip
    return passes


def plane_bytes(variant: Variant) -> int:
    """Return the bytes per plane that have to cross the memory bus."""
    size = variant.shape[0] * variant.shape[1]
    statistics_bytes = 3 * max(variant.dtype.itemsize, 4)
    images = size * (variant.dtype.itemsize + variant.out.itemsize)
    mask = 32 * np.unique(annulus_pixels(variant) // 32).size if variant.mask else 0
    return images + statistics_bytes + mask + 8 * (variant.indexed + variant.dihedral)


class Compiled(NamedTuple):
    """A kernel compiled by Triton."""

    cubin: bytes
    ptx: str
    shared_bytes: int
    warps: int
    seconds: float
    fuses: bool  # whether the compiler may fuse products and sums


@contextmanager
def recording(capability: int) -> Iterator[list[dict[str, Any]]]:
    """Record what Triton would compile for a device of this capability, without running it."""
    recorded: list[dict[str, Any]] = []

    def record(**call: Any) -> bool:
        recorded.append({"kernel": call["fn"].jit_function, **call["compile"]})
        return True

    device = mock.Mock()
    # Triton caches kernels by device.
    device.get_current_device.return_value = capability
    device.get_current_target.return_value = GPUTarget("cuda", capability, 32)
    with mock.patch.object(driver, "_active", device), triton.knobs.runtime.scope():
        triton.knobs.runtime.jit_cache_hook = record
        yield recorded


def _with_first_locations(ptx: str) -> str:
    """Keep only the first location of inline assembly: those behind are lines that follow it.

    Triton writes loads and stores as inline assembly, whose lines are no lines of a kernel.
    """
    blocks = re.compile(r"// begin inline asm.*?// end inline asm", re.DOTALL)
    return blocks.sub(lambda block: re.sub(r"(?<!asm)\n\t\.loc\t[^\n]*", "", block[0]), ptx)


def _tidy(*call: Any) -> tuple[str, str]:
    """Let a compilation assemble tidied PTX; Triton calls this hook, also for a key."""
    if call:
        stages = call[1]
        write = stages["ptx"]
        stages["ptx"] = lambda source, metadata: _with_first_locations(write(source, metadata))
    return "first locations", "first locations"


def compile_kernel(run: Callable[[], object], capability: int) -> Compiled:
    """Compile the kernel that ``run`` launches, with the options of that launch."""
    with recording(capability) as recorded:
        run()
    (call,) = recorded
    options = json.loads(call["specialization_data"])["options"]
    source = ASTSource(call["kernel"], call["signature"], call["constants"], call["configs"][0])
    with (
        tempfile.TemporaryDirectory() as cache,
        triton.knobs.cache.scope(),
        triton.knobs.runtime.scope(),
    ):
        triton.knobs.cache.dir = cache
        triton.knobs.runtime.add_stages_inspection_hook = _tidy
        start = time.perf_counter()
        kernel = triton.compile(
            source,
            target=GPUTarget("cuda", capability, 32),
            # Lists were default tuples before JSON.
            options={k: v for k, v in options.items() if not isinstance(v, list)},
        )
        seconds = time.perf_counter() - start
    return Compiled(
        kernel.asm["cubin"], kernel.asm["ptx"], kernel.metadata.shared, kernel.metadata.num_warps,
        seconds, kernel.metadata.enable_fp_fusion,
    )  # fmt: skip


def compile_variant(name: str, capability: int) -> Compiled:
    images = torch.empty((8, 3, *VARIANTS[name].shape), device="meta")
    return compile_kernel(lambda: launch(VARIANTS[name], images), capability)


def execute(name: str, images: np.ndarray) -> tuple[list[Executed], torch.Tensor]:
    """Execute a variant on images, and return what every program did, and the passes it took."""
    passes: list[torch.Tensor] = []
    programs = record(
        lambda: passes.append(launch(VARIANTS[name], torch.from_numpy(images))),
        EXECUTED_CAPABILITY,
        KERNELS,
    )
    return programs, passes[0]
