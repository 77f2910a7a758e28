"""Bandwidth of every variant and stack size, and of peers, beside a copy of the same bytes.

Bytes are counted: every pixel is read once and written once, with the statistics, the row numbers
and the mask. The copy moves as many bytes on the device, in the same rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_evidence.place import (
    CLIP,
    CUTOUT_BYTES,
    RADII,
    Place,
    Row,
    normalize,
    place,
    sky,
)
from benchmarks.gpu_evidence.reasons import one_line
from benchmarks.gpu_evidence.timing import COPY, Call, Timed, copy_of, in_turns, row
from fastnorm.annulus import Annulus

FLOAT32, TRAINING = "float32", "training"
STACK_BYTES = 2**29
"""Bytes of the images of a variant: more than any cache, and a launch outlasts the host's work."""
SIZES = (16, 64, 256, 1024, 4096, 16384, 65536)
PEER_CUTOUTS = 1024
LEAST_BUFFERS = 2**28
"""Bytes that small stacks fill together, so that they are not read from the cache."""
MOST_BUFFERS = 64
VARIANTS_SECONDS, SIZES_SECONDS, PEERS_SECONDS = 1.0, 1.5, 8.0
"""Seconds of timing for each variant and stack size, and for all peers together."""


def variants() -> Iterator[Row]:
    """Yield the speed of every variant, and of the other backend."""
    where = place()
    every = known_variants()
    for name, variant in every.items():
        yield _variant(name, variant, "triton", where)
    if not where.is_rehearsal:
        yield _variant(FLOAT32, every[FLOAT32], "numba-cuda", where)


def sizes() -> Iterator[Row]:
    """Yield the speed of stacks of 16 to 65,536 cutouts, plain and as a training loop uses them."""
    where = place()
    every = known_variants()
    for count in (1, 2) if where.is_rehearsal else SIZES:
        for name in (FLOAT32, TRAINING):
            if not _fits(6 * count * CUTOUT_BYTES, where):
                yield {"name": name, "cutouts": count, "error": "too little device memory"}
                continue
            yield _timed(name, every[name], "triton", where, count, SIZES_SECONDS)


def known_variants() -> Mapping[str, Any]:
    """Return the variants of the model, with the training variant if it has none."""
    from benchmarks.gpu_model.variants import VARIANTS, Variant

    training = Variant(out=torch.bfloat16, channels_last=True, indexed=True, dihedral=True)
    return {TRAINING: training} | VARIANTS


def _variant(name: str, variant: Any, backend: str, where: Place) -> Row:
    image_bytes = 3 * variant.shape[0] * variant.shape[1] * variant.dtype.itemsize
    count = 1 if where.is_rehearsal else STACK_BYTES // image_bytes
    return _timed(name, variant, backend, where, count, VARIANTS_SECONDS)


def _fits(count: int, where: Place) -> bool:
    if where.is_rehearsal:
        return True
    torch.cuda.empty_cache()
    return count < int(torch.cuda.mem_get_info()[0])


def _timed(name: str, variant: Any, backend: str, where: Place, count: int, budget: float) -> Row:
    try:
        found = _speed(name, variant, backend, where, count, budget)
    except Exception as error:
        found = {"name": name, "error": one_line(error)}
    return found | {"backend": backend, "cutouts": count}


def _speed(name: str, variant: Any, backend: str, where: Place, count: int, budget: float) -> Row:
    from benchmarks.gpu_model.variants import plane_bytes

    moved = 3 * count * plane_bytes(variant)
    buffers = 1 if where.is_rehearsal else min(MOST_BUFFERS, max(1, LEAST_BUFFERS // moved))
    calls = {
        COPY: copy_of(moved, where, buffers),
        name: normalizer(variant, backend, where, count, buffers),
    }
    timed = in_turns(calls, where, budget)
    return row(name, timed[name], moved, timed[COPY])


def normalizer(variant: Any, backend: str, where: Place, count: int, buffers: int = 1) -> Call:
    """Return a function that normalises stacks in turn, as a variant of the model describes it.

    Parameters
    ----------
    variant : Variant
        Shape, radii, dtypes and options.
    backend : str
        GPU backend.
    where : Place
        Device.
    count : int
        Cutouts in a stack.
    buffers : int
        Stacks, each with its result.

    Returns
    -------
    callable
        Takes the number of the call.
    """
    stacks = [sky(count, where, variant.shape, variant.dtype) for _ in range(buffers)]
    options: dict[str, Any] = {"clip": CLIP, "nan_to_zero": True, "dtype": variant.out}
    if variant.indexed:
        generator = torch.Generator().manual_seed(0)
        options["index"] = torch.randperm(count, generator=generator).to(where.device)
    if variant.dihedral:
        options["dihedral"] = torch.arange(count, device=where.device) * 3 % 8
    if variant.mask:
        options["mask"] = torch.zeros(stacks[0].shape, dtype=torch.bool, device=where.device)
    outs: list[Tensor | None] = [None] * buffers
    if variant.channels_last:
        options["channels_last"] = True
    else:
        outs = [torch.empty_like(stack, dtype=variant.out) for stack in stacks]

    def call(i: int) -> object:
        k = i % buffers
        return normalize(stacks[k], variant.radii, backend, out=outs[k], **options)

    return call


def peers() -> Iterator[Row]:
    """Yield the speed of the kernel and of plain torch, on the same stack."""
    where = place()
    images = sky(1 if where.is_rehearsal else PEER_CUTOUTS, where)
    pixels = torch.from_numpy(Annulus(*RADII).pixels(101, 101).copy()).to(where.device)
    out = torch.empty_like(images)
    compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(plain)

    def ours(i: int) -> object:
        return normalize(images, clip=CLIP, out=out)

    calls: dict[str, Call] = {
        COPY: lambda i: out.copy_(images),
        "fastnorm triton": ours,
        "torch sort": lambda i: plain(images, pixels),
        "torch.compile of it": lambda i: compiled(images, pixels),
    }
    timed = in_turns(calls, where, PEERS_SECONDS)
    results = {"torch sort": plain, "torch.compile of it": compiled}
    if timed["fastnorm triton"].error:
        results.clear()
    else:
        ours(0)
    for name, found in timed.items():
        more: Row = {"cutouts": len(images)}
        if name in results and not found.error:
            difference = results[name](images, pixels) - out
            more["largest_difference"] = float(difference.abs().max())
        yield _times_ours(row(name, found, 2 * images.nbytes, timed[COPY]), timed) | more


def _times_ours(found: Row, timed: Mapping[str, Timed]) -> Row:
    ours = row("", timed["fastnorm triton"], 1, None)
    if "seconds" in found and "seconds" in ours:
        found["times_ours"] = found["seconds"] / ours["seconds"]
    return found


def plain(images: Tensor, pixels: Tensor) -> Tensor:
    """Normalise with sorts, as one would write it in torch."""
    values = images.flatten(-2)[..., pixels]
    median = _middle(values)
    mad = _middle((values - median).abs())
    return ((images - median[..., None]) / (mad[..., None] + 1e-8)).clamp(-CLIP, CLIP)


def _middle(values: Tensor) -> Tensor:
    ordered, count = values.sort(-1).values, values.shape[-1]
    return ((ordered[..., (count - 1) // 2] + ordered[..., count // 2]) * 0.5)[..., None]
