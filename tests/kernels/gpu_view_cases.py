"""Checks of every GPU backend on views, broadcast masks, wrong rows and any footprint."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

import fastnorm
from fastnorm import dispatch
from fastnorm.footprint import open_footprint
from fastnorm.normalize import gpu
from fastnorm.normalize.tensors import device_pixels, turn_each
from tests.fastnorm.footprints import random_case, statistics_of
from tests.kernels.gpu_oracle import SMALL, SMALL_ANNULUS, check, definition, noise, same


@check
def views_are_read_in_place(backend: str, device: torch.device) -> int:
    """Check crops, other strides and any alignment, with every way to store a plane."""
    stack = noise(4, 2, 33, 40).to(device)
    views = {
        "crop": stack[..., 6:27, 9:30],
        "crop in float16": stack.half()[1:, :, 6:27, 9:30],
        "unaligned rows": noise(4, 1, *SMALL).to(device)[1:],
        "unaligned in float16": noise(4, 1, *SMALL).half().to(device)[1:],
        "every other image": noise(6, 1, *SMALL).to(device)[::2],
        "one image, expanded": noise(1, 1, *SMALL).to(device).expand(3, 2, *SMALL),
        "channels last": noise(3, 2, *SMALL).to(device, memory_format=torch.channels_last),
        "transposed": noise(3, 1, *SMALL).to(device).transpose(-1, -2),
    }
    count = 0
    for i, (name, view) in enumerate(views.items()):
        rows = torch.tensor([len(view) - 1, 0])
        elements = torch.tensor([5, 4 - i % 4])
        out = definition(view.cpu(), SMALL_ANNULUS)[0]
        same(gpu.normalize(view, SMALL_ANNULUS, backend=backend).out, out, name)
        gathered: dict[str, Any] = {
            "index": rows.to(device),
            "channels_last": True,
            "backend": backend,
        }
        same(gpu.normalize(view, SMALL_ANNULUS, **gathered).out, out[rows], name)
        turned = turn_each(torch.from_numpy(out[rows]), elements)
        done = gpu.normalize(view, SMALL_ANNULUS, dihedral=elements.to(device), **gathered)
        same(done.out, turned, name)
        count += (len(view) + 4) * view.shape[1]
    return count


@check
def mask_broadcasts(backend: str, device: torch.device) -> int:
    images = noise(3, 2, *SMALL)
    rng = np.random.default_rng(11)
    count = 0
    for shape in ((3, 1, *SMALL), (2, *SMALL), (21, 1), (1, 21), (3, 1, 1, 21), (1,)):
        mask = rng.random(shape) < 0.3
        full = np.broadcast_to(mask, tuple(images.shape))
        done = gpu.normalize(
            images.to(device),
            SMALL_ANNULUS,
            mask=torch.from_numpy(mask).to(device),
            backend=backend,
        )
        same(done.out, definition(images, SMALL_ANNULUS, full)[0], f"mask of shape {shape}")
        count += 6
    return count


@check
def index_out_of_range(backend: str, device: torch.device) -> int:
    """Check that rows out of range are NaN, also in 16 bits, and change no other row."""
    images = noise(4, 1, *SMALL)
    rows = torch.tensor([2, 4, -1, 0, 2**40])
    wanted = images[[2, 0, 0, 0, 0]]
    launch = dispatch.choose(backend, "cuda")
    count = 0
    for dtype, clip, elements in (
        (torch.float32, None, None),
        (torch.float32, 10.0, torch.arange(5)),
        (torch.bfloat16, 10.0, None),
        (torch.float16, None, torch.arange(5)),
    ):
        out = torch.zeros(5, 1, *SMALL, dtype=dtype, device=device)
        median, scale = (torch.zeros(5, 1, device=device) for _ in range(2))
        pixels = device_pixels(SMALL_ANNULUS, *SMALL, device)
        with np.errstate(all="ignore"):
            launch(
                images.to(device), None, pixels, rows.to(device),
                None if elements is None else elements.to(device), out, median, None, scale,
                1e-8, clip, True,
            )  # fmt: skip
        plain = gpu.normalize(
            wanted.to(device),
            SMALL_ANNULUS,
            dihedral=None if elements is None else elements.to(device),
            clip=clip,
            nan_to_zero=True,
            dtype=dtype,
            backend=backend,
        )
        for got, right in zip((out, median, scale), plain, strict=True):
            right[[1, 2, 4]] = torch.nan
            same(got, right.cpu(), f"{dtype}, clip {clip}")
        count += 5
    return count


@check
def footprints(backend: str, device: torch.device) -> int:
    """Check ellipses, and boolean arrays from one pixel to all of them."""
    rng = np.random.default_rng(12)
    images = noise(3, 2, *SMALL)
    given: list[Any] = [fastnorm.EllipticalAnnulus(3, 10, 0.6, 0.7)]
    given += [rng.random(SMALL) < share for share in (0.01, 0.3, 0.9)]
    given += [np.arange(441).reshape(SMALL) == 440, np.ones(SMALL, bool)]
    for footprint in given:
        opened = open_footprint(footprint)
        done = gpu.normalize(images.to(device), footprint, backend=backend)
        for got, right in zip(done[:2], definition(images, opened)[:2], strict=True):
            same(got, right, str(opened))
    return 6 * len(given)


@check
def random_footprints(backend: str, device: torch.device) -> int:
    """Check the statistics of 40 footprints, or of FOOTPRINTS, against NumPy."""
    count = int(os.environ.get("FOOTPRINTS", "40"))
    for seed in range(count):
        image, footprint, mask = random_case(seed)
        found = fastnorm.footprint_median_mad(
            torch.from_numpy(image).to(device),
            footprint,
            mask=None if mask is None else torch.from_numpy(mask).to(device),
            backend=backend,
        )
        expected = statistics_of(image, footprint, mask)
        assert tuple(map(float, found)) == expected, f"footprint {seed}"
    return count
