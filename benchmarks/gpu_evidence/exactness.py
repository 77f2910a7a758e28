"""Compare the GPU backends with the definition, value for value, without a test framework.

The checks are those of ``fastnorm check``: the adversarial planes, both checksums, and all options.
A setting compiles a kernel, so the plain ones come first, and the last ones may find no time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import fastnorm
from benchmarks.gpu_evidence.place import RADII, Place, Row, place, sky
from benchmarks.gpu_evidence.reasons import is_rehearsal, one_line

SECONDS = 45
"""Seconds after which no further setting starts."""


def compare() -> Iterator[Row]:
    """Yield one row per backend and setting: how many planes were compared and how many differ."""
    from fastnorm.check.cases import settings
    from fastnorm.check.compare import Outcome, compare_checksums, compare_with_reference

    where, started = place(), time.monotonic()
    kind: Any = "interpreter" if where.is_rehearsal else "cuda"
    names = []
    for backend in fastnorm.backends():
        if backend.device != "cuda":
            continue
        if backend.available:
            names.append(backend.name)
        else:
            yield {"name": "all", "backend": backend.name, "error": backend.reason}
    for name in names:
        if not where.is_rehearsal:
            outcome = Outcome(name, "cuda", kind, "")
            compare_checksums(outcome)
            yield _row("both checksums", outcome)
    yield from _layer(where)
    quick = list(settings(kind, True))
    others = [] if is_rehearsal() else [s for s in settings(kind, False) if s not in quick]
    left_out = 0
    for setting in (*reversed(quick), *others):
        for name in names:
            if time.monotonic() - started > SECONDS:
                left_out += 1
                continue
            outcome = Outcome(name, "cuda", kind, "")
            compare_with_reference(outcome, setting)
            yield _row(str(setting), outcome)
    if not where.is_rehearsal:
        # Last, since an illegal address would cost the context of this process.
        yield out_of_range(fastnorm.OuterAnnulusNorm(*RADII), sky(8, where))
    if left_out:
        yield {"name": f"{left_out} more settings", "backend": "all", "error": "no time was left"}


def _row(name: str, outcome: Any) -> Row:
    return {
        "name": name,
        "backend": outcome.name,
        "planes": outcome.cases,
        "differ": outcome.failed,
        "failures": [str(failure) for failure in outcome.failures],
        "first_call_seconds": outcome.first_call_seconds,
    }


def _layer(where: Place) -> Iterator[Row]:
    """Compare the layer and its gradient with those on the CPU, on the same images."""
    images = sky(2 if where.is_rehearsal else 64, where)
    index = torch.arange(len(images), device=where.device).flip(0)
    mask = (torch.arange(101 * 101, device=where.device) % 7 == 0).reshape(101, 101)
    plain = fastnorm.OuterAnnulusNorm(*RADII)
    train = fastnorm.OuterAnnulusNorm(*RADII, dtype=torch.bfloat16, channels_last=True)
    options = {"index": index, "dihedral": index % 8}
    yield _compared("layer", plain, images, {})
    yield _compared("layer, mask", plain, images, {"mask": mask})
    yield _compared("layer, index, dihedral, bfloat16, channels last", train, images, options)
    cropping = fastnorm.OuterAnnulusNorm(20.0, 29.0)
    crop = images.half()[..., 18:82, 18:82]
    yield _compared("layer, crop of a float16 stack", cropping, crop, {"index": index})
    yield _gradient(plain, images)


def _compared(name: str, layer: nn.Module, images: Tensor, options: dict[str, Tensor]) -> Row:
    try:
        found = layer(images, **options).cpu()
        wrong = found != layer(images.cpu(), **{k: v.cpu() for k, v in options.items()})
    except Exception as error:
        return {"name": name, "backend": "layer", "error": one_line(error)}
    differ = int(wrong.flatten(2).any(-1).sum())
    return {
        "name": name,
        "backend": "layer",
        "planes": wrong[..., 0, 0].numel(),
        "differ": differ,
    }


def out_of_range(layer: Callable[..., Tensor], images: Tensor) -> Row:
    """Return whether rows out of range give planes of NaN, and the others what they should."""
    name, rows = "layer, two of three rows out of range", [1, len(images), -1]
    try:
        found = layer(images, index=torch.tensor(rows, device=images.device))
        right = [(found[0] == layer(images)[1]).all(-1).all(-1), *found[1:].isnan().all(-1).all(-1)]
        differ = int((~torch.stack(right)).sum())
    except Exception as error:
        return {"name": name, "backend": "layer", "error": one_line(error)}
    return {"name": name, "backend": "layer", "planes": 9, "differ": differ}


def _gradient(layer: nn.Module, images: Tensor) -> Row:
    """Return the largest difference of a gradient from that on the CPU, as a fraction of it."""
    name = "gradient"
    try:
        gradients = []
        for device in (images.device, torch.device("cpu")):
            leaf = images[:2].double().to(device).requires_grad_()
            (gradient,) = torch.autograd.grad(layer(leaf).square().sum(), leaf)
            gradients.append(gradient.cpu())
    except Exception as error:
        return {"name": name, "backend": "layer", "error": one_line(error)}
    difference = (gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max()
    is_close = float(difference) < 1e-9
    return {
        "name": f"gradient, within {float(difference):.1e} of the largest (limit 1e-9)",
        "backend": "layer",
        "planes": 6,
        "differ": 0 if is_close else 6,
        "largest_difference": float(difference),
    }
