"""Checks of every GPU backend, as functions of a backend and a device.

On a GPU they run under pytest. Elsewhere they run in a separate process with
``TRITON_INTERPRET=1`` or ``NUMBA_ENABLE_CUDASIM=1``, which execute the device code in
Python: ``python -m tests.kernels.gpu_cases BACKEND [CHECK ...]`` prints JSON, a line per check.
Each check returns the number of planes that it compared with the definition.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
import traceback
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fastnorm
import tests.kernels.gpu_view_cases  # noqa: F401  # registers its checks
from fastnorm import Annulus, dispatch, reference
from fastnorm.check.adversarial import nasty_planes
from fastnorm.checksums import EXPECTED_CHECKSUMS, checksum, synthetic_cutout
from fastnorm.normalize import gpu
from tests import SHARED
from tests.kernels.gpu_oracle import (
    CHECKS,
    SMALL,
    SMALL_ANNULUS,
    check,
    compare,
    definition,
    nasty,
    noise,
    poisoned,
    same,
)

CUTOUTS = SHARED / "data" / "dr10_cutouts"


@check
def adversarial_float32(backend: str, device: torch.device) -> int:
    count = compare(backend, device, nasty("float32"), clip=None, nan_to_zero=False)
    return count + compare(
        backend, device, nasty("float32", 3, seed=1), clip=10.0, nan_to_zero=True
    )


@check
def adversarial_float64(backend: str, device: torch.device) -> int:
    count = compare(backend, device, nasty("float64", 2), clip=0.5, nan_to_zero=False)
    return count + compare(backend, device, nasty("float64", 5), clip=None, nan_to_zero=True)


@check
def adversarial_halves(backend: str, device: torch.device) -> int:
    images = nasty("float16", 2)
    count = compare(backend, device, images, clip=10.0, nan_to_zero=False)
    images = nasty("float32", 2).to(torch.bfloat16)
    return count + compare(backend, device, images, clip=None, nan_to_zero=False)


@check
def masks(backend: str, device: torch.device) -> int:
    images = nasty("float32", 4, seed=2).reshape(-1, 1, *SMALL)
    rng = np.random.default_rng(6)
    count = 0
    for mask in (
        rng.random(tuple(images.shape)) < 0.2,
        rng.random(SMALL) < 0.5,
        np.ones((1, 1, *SMALL), bool),
    ):
        full = np.broadcast_to(mask, tuple(images.shape))
        done = gpu.normalize(
            images.to(device),
            SMALL_ANNULUS,
            mask=torch.from_numpy(mask).to(device),
            backend=backend,
        )
        out, median, mad = definition(images, SMALL_ANNULUS, full)
        same(done.out, out)
        same(done.median, median)
        same(done.scale, np.asarray(reference.scale_of(mad, 1e-8)))
        count += median.size
    return count


@check
def shapes(backend: str, device: torch.device) -> int:
    """Check odd and even sides, an annulus up to the last pixel, and planes of any alignment."""
    count = compare(backend, device, nasty("float32", 7, (37, 58)), Annulus.default(37, 58))
    count += compare(backend, device, noise(5, 33, 31), Annulus(3, 50))
    count += compare(backend, device, noise(3, 64, 64), Annulus(20, 32))
    count += compare(backend, device, noise(2, 2, 2, 22, 20))
    return count + compare(backend, device, noise(*SMALL))


@check
def larger_images(backend: str, device: torch.device) -> int:
    images, annulus = noise(1, 256, 256), Annulus.default(256, 256)
    count = compare(backend, device, images, annulus, clip=10.0)
    return count + compare(backend, device, images.double(), annulus, nan_to_zero=True)


@check
def index_with_repeats(backend: str, device: torch.device) -> int:
    images = noise(5, 3, *SMALL)
    bad = np.random.default_rng(8).random(tuple(images.shape)) < 0.3
    rows = torch.tensor([4, 0, 0, 3, 4])
    done = gpu.normalize(
        images.to(device),
        SMALL_ANNULUS,
        index=rows.to(device),
        mask=torch.from_numpy(bad).to(device),
        backend=backend,
    )
    out, median, _ = definition(images[rows], SMALL_ANNULUS, bad[rows.numpy()])
    same(done.out, out)
    same(done.median, median)
    return median.size


@check
def every_dihedral_element(backend: str, device: torch.device) -> int:
    count = 0
    for side, channels_last in ((21, False), (45, True)):
        images, annulus = noise(8, 2, side, side), Annulus(2, 9)
        done = gpu.normalize(
            images.to(device),
            annulus,
            dihedral=torch.arange(8, dtype=torch.int32).to(device),
            channels_last=channels_last,
            backend=backend,
        )
        out = definition(images, annulus)[0]
        for element in range(8):
            kind = out[element, :, :, ::-1] if element >= 4 else out[element]
            turned = np.rot90(kind, element % 4, (-2, -1))
            same(done.out[element], np.ascontiguousarray(turned), f"element {element}")
        count += 16
    return count


@check
def every_output(backend: str, device: torch.device) -> int:
    """Check each dtype and layout against torch's own cast."""
    count = 0
    for source, dtype, channels_last in itertools.product(
        (torch.float32, torch.float64),
        (torch.float16, torch.bfloat16, torch.float32, torch.float64),
        (False, True),
    ):
        images = nasty("float32", 23)[:3].to(source).reshape(1, 3, *SMALL)
        done = gpu.normalize(
            images.to(device),
            SMALL_ANNULUS,
            dtype=dtype,
            channels_last=channels_last,
            backend=backend,
        )
        layout = torch.channels_last if channels_last else torch.contiguous_format
        assert done.out.is_contiguous(memory_format=layout)
        same(done.out, torch.from_numpy(definition(images, SMALL_ANNULUS)[0]).to(dtype))
        count += 3
    return count


@check
def everything_at_once(backend: str, device: torch.device) -> int:
    images = noise(4, 3, 33, 33).to(torch.float16)
    annulus, rows, elements = Annulus(4, 15), torch.tensor([2, 2, 0]), torch.tensor([6, 1, 3])
    bad = np.random.default_rng(9).random((33, 33)) < 0.2
    done = gpu.normalize(
        images.to(device),
        annulus,
        index=rows.to(device),
        dihedral=elements.to(device),
        mask=torch.from_numpy(bad).to(device),
        clip=1.5,
        nan_to_zero=True,
        dtype=torch.bfloat16,
        channels_last=True,
        backend=backend,
    )
    full = np.broadcast_to(bad, (3, 3, 33, 33))
    out = definition(images[rows], annulus, full, clip=1.5, nan_to_zero=True)[0]
    for got, wanted, element in zip(done.out, out, elements.tolist(), strict=True):
        kind = wanted[:, :, ::-1] if element >= 4 else wanted
        same(got, np.rot90(kind, element % 4, (-2, -1)).copy())
    return 9


@check
def subnormal_quotients(backend: str, device: torch.device) -> int:
    """Check a median near 0 with a large scale, where a product would round unlike a quotient."""
    # The double nearest to 1 / 49, times 49, is not 1; the same holds for the others.
    halves = np.array([49, 103, 107, 161, 187, 197])[:, None]
    images = np.ldexp(halves * (2.0 * np.arange(SMALL[0] * SMALL[1]) + 1), -149)
    pixels = SMALL_ANNULUS.pixels(*SMALL)
    images[:, pixels] = 2 * np.where(np.arange(pixels.size) % 2, halves, -halves)
    images[:, pixels[:2]] = 0  # as many negative as positive values, so that the median is 0
    return compare(backend, device, torch.from_numpy(images.astype(np.float32)).reshape(-1, *SMALL))


@check
def small_scales(backend: str, device: torch.device) -> int:
    images = noise(6, *SMALL) * torch.logspace(-9, -6, 6)[:, None, None]
    count = compare(backend, device, images)
    return count + compare(backend, device, images, eps=1e30)


@check
def statistics_alone(backend: str, device: torch.device) -> int:
    images = nasty("float32", 5)
    median, mad = fastnorm.annulus_median_mad(images.to(device), 2, 9, backend=backend)
    out = torch.empty_like(images, device=device)
    result = fastnorm.normalize_outer_annulus(images.to(device), 2, 9, out=out, backend=backend)
    assert result is out
    expected = definition(images, SMALL_ANNULUS)
    same(out, expected[0])
    same(median, expected[1])
    same(mad, expected[2])
    return 2 * len(images)


@check
def nothing_to_do(backend: str, device: torch.device) -> int:
    done = gpu.normalize(torch.empty(0, 3, *SMALL, device=device), SMALL_ANNULUS, backend=backend)
    assert (tuple(done.out.shape), tuple(done.median.shape)) == ((0, 3, *SMALL), (0, 3))
    return 0


def doubling_gaps(dtype: Any) -> Tensor:
    """Draw bit patterns with doubling gaps, and values so low that no finite mean exists."""
    bits = 30 if dtype == "float32" else 61
    pixels = SMALL_ANNULUS.pixels(*SMALL)
    key: Any = np.int32 if dtype == "float32" else np.int64
    values = (key(1) << (np.arange(pixels.size, dtype=key) % bits)).view(dtype)
    # Neighbours in the kernel's tensors of 128 values: their medians of three are low and overflow.
    values[:59] = values[128:187] = np.finfo(dtype).min
    plane = np.zeros((1, *SMALL), dtype)
    plane.reshape(-1)[pixels] = values
    return torch.from_numpy(plane)


@check
def passes_are_bounded(backend: str, device: torch.device) -> int:
    """Check for at most 10 counting and 32 bisecting passes (64 in float64) for any values."""
    if backend != "triton":
        return 0
    launch = dispatch.choose("triton", "cuda")
    count = 0
    for dtype, every in (("float32", 1), ("float64", 4)):
        images = torch.cat([nasty(dtype, every, seed=3), doubling_gaps(dtype)])
        planes = images.reshape(-1, 1, *SMALL).to(device)
        pixels = torch.from_numpy(SMALL_ANNULUS.pixels(*SMALL).astype(np.int32)).to(device)
        statistics = [torch.empty(len(planes), 1, dtype=images.dtype, device=device) for _ in "abc"]
        passes = torch.full((len(planes), 1, 2, 2), 999, dtype=torch.int32, device=device)
        with np.errstate(all="ignore"):
            launch(planes, None, pixels, None, None, None, *statistics, 1e-8, None, False, passes)
        bound = torch.tensor([10, 32 if images.dtype == torch.float32 else 64])
        most = passes.cpu().amax((0, 1, 2))
        assert (most <= bound).all(), most
        assert (most >= bound - 2).all(), f"nothing came near the bound: {most}"
        same(statistics[0][:, 0], definition(images, SMALL_ANNULUS)[1])
        count += len(planes)
    return count


@check
def checksums(backend: str, device: torch.device) -> int:
    cutout = torch.from_numpy(synthetic_cutout()).to(device)
    for annulus, expected in EXPECTED_CHECKSUMS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fastnorm.AnnulusWarning)
            out = fastnorm.normalize_outer_annulus(
                cutout, annulus.r_in, annulus.r_out, clip=10.0, nan_to_zero=True, backend=backend
            )
        assert checksum(out.cpu().numpy()) == expected, annulus
    return 6


@check
def thresholds_of_zero(backend: str, device: torch.device) -> int:
    """Check planes whose first threshold is exactly 0, at the size of real cutouts."""
    planes = nasty_planes((101, 101), "float32", 0, Annulus(32.5, 45))
    stack = [plane for name, plane in planes if "threshold" in name]
    assert len(stack) == 4
    return compare(backend, device, torch.from_numpy(np.concatenate(stack)), Annulus(32.5, 45))


@check
def real_cutouts(backend: str, device: torch.device) -> int:
    files = sorted(CUTOUTS.glob("*.npz"))
    stack = []
    for file in files:
        with np.load(file, allow_pickle=False) as content:
            stack.append(np.moveaxis(content["cutout"], -1, 0).astype(np.float32))
    if not stack:
        return 0
    return compare(backend, device, torch.from_numpy(np.stack(stack)), Annulus(32.5, 45), clip=10.0)


def main(backend: str, *names: str) -> None:
    if backend == "numba-cuda":
        # Each thread of a block is a Python thread: use few of them and switch often.
        kernels: Any = importlib.import_module("fastnorm.kernels.numba_cuda_normalize")
        kernels.THREADS = 8
        sys.setswitchinterval(1e-4)
    with poisoned():
        for name in names or CHECKS:
            start, error, planes = time.perf_counter(), "", 0
            try:
                planes = CHECKS[name](backend, torch.device("cpu"))
            except Exception:
                error = traceback.format_exc()
            line = {"check": name, "planes": planes, "error": error}
            print(json.dumps({**line, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(*sys.argv[1:])
