"""Time the forward pass of the networks by layout and engine, against other runtimes.

Run as ``python -m benchmarks.forward``. All take the same normalised batch, interleaved in one run.
ONNX Runtime and OpenVINO take part where they are installed: ``pip install '.[peers]'``.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.grid import NETWORKS
from benchmarks.timing import Case, time_in_turns
from dhs.constants import CUTOUT_SIZE
from dhs.model import LensFinder
from dhs.model.engines import Job, set_up, use_layout
from dhs.model.threads import threads_of
from dhs.preprocess.spec import PreprocessSpec

BATCH = 16
LEAST_SECONDS = 0.5
CPU = torch.device("cpu")
BEFORE = "eager, contiguous"
ENGINES = {"eager, channels last (default)": "eager", "compiled": "compile"}
PEERS = {"ONNX Runtime": "onnxruntime", "OpenVINO, float32": "openvino"}

Forward = Callable[[Tensor], Tensor]


def make_finder(arch: str, images: Tensor, **options: Any) -> LensFinder:
    """Build a network with a step of training, and batch norms that fit the images.

    Random weights magnify rounding more than those of a trained network.
    """
    torch.manual_seed(1)
    spec = PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45.0)
    finder = LensFinder(spec, arch, **(options or NETWORKS[arch]))
    finder.train()
    labels = torch.arange(len(images), device=images.device) % 2
    torch.autograd.backward(binary_cross_entropy_with_logits(finder(images), labels.float()))
    torch.optim.AdamW(finder.parameters(), 1e-3).step()
    for module in finder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        finder(images)
    return finder.eval()


def forwards(finder: LensFinder, seen: Tensor, folder: Path) -> Iterator[tuple[str, Forward]]:
    """Yield every engine and every installed runtime as a function of a normalised batch."""
    plain = copy.deepcopy(finder)
    use_layout(plain, "contiguous")
    yield BEFORE, plain.backbone
    for name, engine in ENGINES.items():
        own = copy.deepcopy(finder)
        set_up([own], engine, Job(len(seen), len(seen), CUTOUT_SIZE), CPU)
        yield name, _channels_last(own.backbone)
    if any(map(importlib.util.find_spec, PEERS.values())):
        path = folder / "network.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(plain.backbone, (seen,), path, dynamo=True, verbose=False)
        for name, package in PEERS.items():
            if importlib.util.find_spec(package):
                yield name, {"onnxruntime": _onnxruntime, "openvino": _openvino}[package](path)


def _channels_last(network: nn.Module) -> Forward:
    return lambda seen: network(seen.contiguous(memory_format=torch.channels_last))


def _onnxruntime(path: Path) -> Forward:
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda seen: torch.from_numpy(session.run(None, {name: seen.numpy()})[0])


def _openvino(path: Path) -> Forward:
    openvino = importlib.import_module("openvino")
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(path, "CPU", options)
    return lambda seen: torch.from_numpy(compiled(seen.numpy())[0])


def measure(arch: str, rounds: int, console: Console) -> dict[str, dict[str, float]]:
    """Return milliseconds per cutout by contender, and the largest difference of a logit.

    The difference is to `BEFORE`, in units of the largest logit.
    """
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.normal(0, 0.02, (BATCH, 3, *[CUTOUT_SIZE] * 2)).astype("f4"))
    finder = make_finder(arch, images)
    with TemporaryDirectory() as folder, torch.inference_mode():
        seen = finder.preprocess(images)
        found = dict(forwards(finder, seen, Path(folder)))
        logits = {name: forward(seen) for name, forward in found.items()}
        cases = [
            Case(name, "peer" if name in PEERS else "ours", partial(forward, seen))
            for name, forward in found.items()
        ]
        # Threads of the runtime before wait actively for a while.
        timed = time_in_turns({0: cases}, rounds, console, least=LEAST_SECONDS)[0]
    largest = logits[BEFORE].abs().max()
    return {
        name: {
            "ms": 1e3 * float(np.median(taken.seconds)) / BATCH,
            "difference": float((logits[name] - logits[BEFORE]).abs().max() / largest),
        }
        for name, taken in timed.items()
    }


def table_of(arch: str, result: dict[str, dict[str, float]], threads: int) -> Table:
    """Return a table of milliseconds per cutout, and times of the first."""
    table = Table(title=f"{arch}: forward pass, batches of {BATCH}, {threads} threads")
    for heading in ("", "ms / cutout", "speed", "difference"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, row in result.items():
        speed = result[BEFORE]["ms"] / row["ms"]
        table.add_row(name, f"{row['ms']:.2f}", f"{speed:.2f}", f"{row['difference']:.0e}")
    return table


def main(
    rounds: Annotated[int, typer.Option(help="Time every contender this often.", min=3)] = 15,
    threads: Annotated[int, typer.Option(help="Use this many threads.", min=1)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time the forward pass by layout and engine, against ONNX Runtime and OpenVINO."""
    logging.disable(logging.WARNING)
    console = Console(stderr=as_json, width=100)
    with threads_of(threads):
        results: dict[str, Any] = {arch: measure(arch, rounds, console) for arch in NETWORKS}
    if as_json:
        typer.echo(json.dumps({"threads": threads, "batch": BATCH, "networks": results}))
        return
    for arch, result in results.items():
        console.print(table_of(arch, result, threads))
    missing = [name for name, package in PEERS.items() if not importlib.util.find_spec(package)]
    if missing:
        console.print(f"Not installed: {', '.join(missing)}; pip install '.[peers]'.")


if __name__ == "__main__":
    typer.run(main)
