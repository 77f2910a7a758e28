"""Training steps per second of both networks with a resident pack, and injections per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.gpu_evidence.place import RADII, Place, Row, place, sky
from benchmarks.gpu_evidence.reasons import one_line

RESIDENT, BATCH = 20_000, 256
STEPS, ROUNDS = 10, 5
INJECTIONS, RENDERS = 4096, 5
CROPPED_RADII = (20.0, 32.0)
Step = Callable[[], object]


def training() -> Iterator[Row]:
    """Yield the steps per second of each network of the plan, with and without its input ready.

    With its input ready, a network trains on one batch that was normalised before.
    """
    from dhs.model.networks import NETWORKS

    where = place()
    pack = sky(8 if where.is_rehearsal else RESIDENT, where)
    planned = {name: network for name, network in NETWORKS.items() if network.retraining_config}
    small = [name for name, network in planned.items() if network.own_class is not None]
    # Our own network first: the normalisation is a larger part of its step.
    every = sorted(planned, key=lambda name: name not in small)
    cases = [(arch, crop, False) for arch in every for crop in (False, True)]
    # Compiling takes long, and longest for the large network.
    cases += [(arch, False, True) for arch in small]
    for arch, crop, is_compiled in cases:
        if where.is_rehearsal and crop:
            continue
        row: Row = {"name": arch, "crop": crop, "compiled": is_compiled}
        try:
            yield row | _trained(arch, pack, where, crop, is_compiled)
        except ModuleNotFoundError as error:
            yield row | {"error": f"not measured: needs {error.name}"}
        except Exception as error:
            yield row | {"error": one_line(error)}


def _trained(arch: str, pack: Tensor, where: Place, crop: bool, is_compiled: bool) -> Row:
    from dhs.model import LensFinder
    from dhs.preprocess.spec import PreprocessSpec

    r_in, r_out = CROPPED_RADII if crop else RADII
    spec = PreprocessSpec(annulus_r_in=r_in, annulus_r_out=r_out, crop=crop)
    torch.manual_seed(0)
    model = LensFinder(spec, arch, dtype=torch.bfloat16, channels_last=True)
    model.to(where.device).to(memory_format=torch.channels_last)
    model.train()
    network: Any = torch.compile(model.backbone) if is_compiled else model.backbone
    optimizer = torch.optim.AdamW(model.backbone.parameters(), 1e-3)
    batch = min(BATCH, len(pack))
    labels = (torch.arange(len(pack), device=where.device) % 2).float()

    def learn(images: Tensor, index: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(where.device.type, torch.bfloat16):
            logits = network(images).squeeze(1)
        loss = binary_cross_entropy_with_logits(logits.float(), labels[index])
        torch.autograd.backward(loss)
        optimizer.step()

    def step() -> None:
        index = torch.randint(0, len(pack), (batch,), device=where.device)
        learn(model.preprocess(pack, index=index, dihedral=index % 8), index)

    index = torch.arange(batch, device=where.device)
    ready = model.preprocess(pack, index=index)
    first = _seconds(step, where, 1)
    seconds = _median(step, where)
    alone = _median(lambda: learn(ready, index), where)
    return {
        "batch": batch,
        "resident_cutouts": len(pack),
        "first_step_seconds": first,
        "seconds": seconds,
        "steps_per_second": 1 / seconds,
        "cutouts_per_second": batch / seconds,
        "network_alone_seconds": alone,
        "steps_per_second_alone": 1 / alone,
    }


def _median(step: Step, where: Place) -> float:
    rounds, steps = (1, 1) if where.is_rehearsal else (ROUNDS, STEPS)
    _seconds(step, where, steps)
    return float(np.median([_seconds(step, where, steps) for _ in range(rounds)]))


def _seconds(step: Step, where: Place, steps: int) -> float:
    """Return the wall time of one step, waiting for the device before and after several."""
    where.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    where.synchronize()
    return (time.perf_counter() - started) / steps


def injection() -> Iterator[Row]:
    """Yield images per second of the renderer, and its difference from the CPU."""
    # The room imports pydantic; without it this part is not measured.
    from dhs.injection import render, sample_lens_params, sample_source_params

    where = place()
    count = 2 if where.is_rehearsal else INJECTIONS
    shape = (15, 15) if where.is_rehearsal else (101, 101)
    rng = np.random.default_rng(1)
    theta = rng.uniform(0.5, 3.0, count)
    lens, source = sample_lens_params(rng, theta), sample_source_params(rng, theta)
    found: list[Any] = []

    def draw() -> None:
        found[:] = [render(lens, source, shape, seed=1, backend="triton")]

    first = _seconds(draw, where, 1)
    seconds = [_seconds(draw, where, 1) for _ in range(1 if where.is_rehearsal else RENDERS)]
    yield {
        "name": "render, with its plan and its copies to the device",
        "images": count,
        "first_call_seconds": first,
        "rounds": seconds,
        "images_per_second": count / float(np.median(seconds)),
    }
    few = min(count, 64)
    ids = np.arange(few)
    expected = render(lens[:few], source[:few], shape, seed=1, ids=ids)
    difference = np.abs(found[0][:few].cpu().numpy() - expected).max() / np.abs(expected).max()
    yield {
        "name": f"largest difference from the CPU in {few} images, as a fraction of the brightest",
        "value": float(difference),
    }
