"""CUDA graphs, streams, and the first call under torch.compile in a fresh process."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_evidence.place import CLIP, RADII, Place, Row, normalize, place, sky
from benchmarks.gpu_evidence.reasons import NotMeasuredError
from benchmarks.gpu_evidence.timing import COPY, copy_of, in_turns, row
from fastnorm import OuterAnnulusNorm

CUTOUTS = 64
OF_A_STREAM = 512
REPEATS = 20


def replay() -> Iterator[Row]:
    """Capture one call in a CUDA graph; yield whether its replay is equal, and its speed."""
    where = _cuda()
    images = sky(CUTOUTS, where)
    out = torch.empty_like(images)

    def call(i: int = 0) -> object:
        return normalize(images, clip=CLIP, out=out)

    call()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    others = sky(CUTOUTS + 1, where)[1:]
    images.copy_(others)
    graph.replay()
    replayed = out.clone()
    call()
    yield {"name": "values that differ after new images", "value": _differences(replayed, out)}
    calls = {
        COPY: copy_of(2 * images.nbytes, where),
        "call": call,
        "replay": lambda i: graph.replay(),
    }
    timed = in_turns(calls, where, 3.0)
    for name, found in timed.items():
        yield row(name, found, 2 * images.nbytes, timed[COPY]) | {"cutouts": CUTOUTS}


def streams() -> Iterator[Row]:
    """Normalise on two streams at once; yield how many values differ from one stream."""
    where = _cuda()
    stacks = [sky(OF_A_STREAM + k, where) for k in range(2)]
    expected = [normalize(stack, clip=CLIP) for stack in stacks]
    torch.cuda.synchronize()
    make_stream: Any = torch.cuda.Stream
    sides = [make_stream() for _ in stacks]
    wrong = 0
    for _ in range(REPEATS):
        found = []
        for side, stack in zip(sides, stacks, strict=True):
            with torch.cuda.stream(side):
                found.append(normalize(stack, clip=CLIP))
        torch.cuda.synchronize()
        wrong += sum(_differences(a, b) for a, b in zip(found, expected, strict=True))
    yield {"name": f"values that differ in {REPEATS} runs on two streams", "value": wrong}


def fresh() -> Iterator[Row]:
    """Call a compiled network in ``reduce-overhead`` mode; this process ran nothing before.

    Tables that the operator allocates at its first call would be in the pool of the graph.
    """
    where = place()
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    network = nn.Sequential(OuterAnnulusNorm(*RADII), nn.Conv2d(3, 4, 3)).to(where.device)
    plain = copy.deepcopy(network)
    compiled: Callable[[Tensor], Tensor] = torch.compile(
        network, fullgraph=True, mode="reduce-overhead"
    )
    images = sky(1 if where.is_rehearsal else 8, where)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torch.no_grad():
            for _ in range(4):
                result = compiled(images).clone()
            difference = (result - plain(images)).abs().max()
        yield {"name": "largest difference from the plain network", "value": float(difference)}
        leaf = images.clone().requires_grad_()
        for _ in range(4):
            torch.autograd.backward(compiled(leaf).square().mean())
        yield {"name": "backward passes that ran", "value": 4}
    yield {"name": "graphs that were not captured", "value": _skipped()}
    yield {"name": "warnings", "value": len(caught), "texts": [str(w.message) for w in caught]}


def _skipped() -> int | str:
    """Return how many CUDA graphs the compiler left out, as torch counts them."""
    from torch._dynamo.utils import counters

    found: Any = counters.get("inductor", {})
    return int(found.get("cudagraph_skips", 0))


def _cuda() -> Place:
    where = place()
    if where.is_rehearsal:
        raise NotMeasuredError("a rehearsal has no CUDA device")
    return where


def _differences(a: Tensor, b: Tensor) -> int:
    return int((a != b).sum())
