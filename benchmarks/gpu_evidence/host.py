"""Time that the host takes for one call, which small batches wait for.

With the launch replaced by nothing, it needs no GPU. On a GPU, the queue is never full: calls are
few, stacks small, and the device is waited for between the measurements.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import torch

from benchmarks.gpu_evidence.place import CLIP, RADII, Place, Row, normalize, sky
from benchmarks.gpu_evidence.reasons import NotMeasuredError, is_rehearsal
from fastnorm import OuterAnnulusNorm
from fastnorm.dispatch import registry

CUTOUTS, CALLS, ROUNDS = 8, 100, 21


def calls() -> Iterator[Row]:
    """Yield the host time of each way to call the normalisation."""
    yield stubbed()
    if is_rehearsal() or not torch.cuda.is_available():
        raise NotMeasuredError("with a launch: torch sees no CUDA device")
    where = Place(torch.device("cuda"), False)
    images = sky(CUTOUTS, where)
    leaf = images.clone().requires_grad_()
    layer, out = OuterAnnulusNorm(*RADII), torch.empty_like(images)
    yield _row("kernel and its checks", lambda: normalize(images, clip=CLIP, out=out))
    yield _row("layer", lambda: layer(images))
    yield _row("layer with autograd", lambda: layer(leaf))
    yield _row("copy of torch, for scale", lambda: out.copy_(images))


def stubbed() -> Row:
    """Return the host time before the launch, with the launch replaced by nothing."""
    images = torch.zeros(CUTOUTS, 3, 101, 101)
    out = torch.empty_like(images)
    loaders = {"triton": ("cuda", lambda: lambda *arguments, **options: None)}
    with (
        mock.patch.dict(registry._LOADERS, loaders),
        # Only an interpreted backend takes tensors of the CPU.
        mock.patch.dict("os.environ", {"TRITON_INTERPRET": "1"}),
    ):
        return _row(
            "checks, on CPU tensors, launch replaced by nothing",
            lambda: normalize(images, clip=CLIP, out=out),
        )


def _row(name: str, call: Callable[[], object]) -> Row:
    seconds = []
    for _ in range(ROUNDS):
        for _ in range(2):
            call()
        _wait()
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        seconds.append((time.perf_counter() - started) / CALLS)
        _wait()
    low, middle, high = np.percentile(seconds, [25, 50, 75]).tolist()
    return {
        "name": name,
        "seconds": middle,
        "seconds_25": low,
        "seconds_75": high,
        "rounds": seconds,
    }


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
