"""Model of injection and recovery on GPUs: counted bytes and operations over data-sheet rates.

The model ignores latency, launches, caches and variable clocks. The time on the host is measured on
one core of this machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_model import gpu_model
from dhs.injection.psf_tensors import fast_length

BYTES_PER_SECOND = 3.35e12
"""Memory bandwidth, from the NVIDIA H100 SXM data sheet."""

TENSOR_FLOPS = {"TF32": 494.7e12, "FP16": 989.4e12}
"""Dense rates of the tensor cores: half of those with sparsity in the H100 SXM data sheet. float32
convolutions use TF32 by default."""

ACTIVATION_BYTES = {"TF32": 4, "FP16": 2}

FLOAT_FLOPS = 66.9e12
"""Rate of float32 without tensor cores, from the NVIDIA H100 SXM data sheet."""

LINK_BYTES_PER_SECOND = 64e9
"""Bandwidth from the host, PCIe Gen 5 x16: half of the data sheet's 128 GB/s."""

RENDER_WARP_INSTRUCTIONS = 219_684
"""Cost of a 101 x 101 image in three bands, sm_90: ``python -m benchmarks.gpu_model.compile_report
--variants lens``. A grid renders one band."""

EFFICIENCY = 0.3
"""Assumed fraction of every rate above that is reached, also by the network."""

HOST_CORES = 8
"""Assumed host cores per GPU, each as fast as a core of this machine."""

PLANE_PASSES = {"flux": 6, "MAD of the host": 3, "measures": 10, "sum": 9}
"""Planes of a stamp, three bands each, that `inject_tensors` reads or writes."""

CAPABILITY = 90


class Work(NamedTuple):
    """Work of one injection: bytes and operations, bound by memory bandwidth or arithmetic."""

    bytes: float
    flops: float = 0.0

    def seconds(self, flops_per_second: float, efficiency: float) -> float:
        bound = max(self.bytes / BYTES_PER_SECOND, self.flops / flops_per_second)
        return bound / efficiency


def count_network(backbone: nn.Module, seen: Tensor) -> Work:
    """Count operations of a forward pass of one cutout, and elements that its layers move.

    Every leaf layer reads its input and writes its output: nothing is fused. Weights are read once
    per batch, which costs nothing per cutout.
    """
    elements = 0

    def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal elements
        elements += inputs[0].numel() + output.numel()

    leaves = [module for module in backbone.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(add) for module in leaves]
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        backbone(seen[:1])
    for hook in hooks:
        hook.remove()
    return Work(elements, counter.get_total_flops())


def psf_work(side: int, psf_side: int) -> Work:
    """Count one transform of the light and three inverse ones, rows then columns.

    Each of the two passes of a transform reads and writes its array. The product reads one and
    three spectra and writes three. A real transform of N values takes 2.5 N log2 N operations.
    """
    padded = fast_length(side + psf_side // 2)
    transforms, spectra = 1 + 3, 1 + 3 + 3
    moved = transforms * 2 * 2 * 4 * padded**2 + spectra * 8 * padded * (padded // 2 + 1)
    cropped = 2 * 3 * 4 * side**2
    return Work(moved + cropped, transforms * 2.5 * padded**2 * math.log2(padded**2))


def gpu_stages(
    network: Work, side: int, psf_side: int, precision: str, efficiency: float
) -> dict[str, float]:
    """Return modelled seconds of an injection on one GPU, by stage."""
    plane = 4 * side**2
    forward = Work(network.bytes * ACTIVATION_BYTES[precision], network.flops)
    render = gpu_model.issue_seconds(RENDER_WARP_INSTRUCTIONS, CAPABILITY)
    return {
        "host to GPU": 3 * plane / LINK_BYTES_PER_SECOND / efficiency,
        "render": render / efficiency,
        "PSF": psf_work(side, psf_side).seconds(FLOAT_FLOPS, efficiency),
        "noise, sum, measures": Work(sum(PLANE_PASSES.values()) * plane).seconds(
            FLOAT_FLOPS, efficiency
        ),
        "normalise": Work(6 * plane).seconds(FLOAT_FLOPS, efficiency),
        "forward": forward.seconds(TENSOR_FLOPS[precision], efficiency),
    }


def hours(
    gpu: Mapping[str, float], host_seconds: float, cores: int, injections: float, gpus: int
) -> dict[str, float]:
    """Return hours of injections, with host and GPU in turn (one process per GPU) or overlapped."""
    on_gpu = sum(gpu.values())
    in_turn = on_gpu + host_seconds
    overlapped = max(on_gpu, host_seconds / cores)
    share = injections / gpus / 3600
    return {
        "in_turn": share * in_turn,
        "overlapped": share * overlapped,
        "gpu_alone": share * on_gpu,
    }


def assumptions(efficiency: float, cores: int) -> list[str]:
    """Return the assumptions of the model as sentences."""
    rates = ", ".join(f"{name} {rate / 1e12:g}" for name, rate in TENSOR_FLOPS.items())
    return [
        "Modelled, not measured: no GPU was used. Latency, launches, caches and clocks cost "
        "nothing.",
        f"Rates of the H100 SXM data sheet: memory {BYTES_PER_SECOND / 1e12:g} TB/s; dense tensor "
        f"TFLOP/s {rates}; float32 {FLOAT_FLOPS / 1e12:g} TFLOP/s; PCIe "
        f"{LINK_BYTES_PER_SECOND / 1e9:g} GB/s one way.",
        f"Assumed: {efficiency:.0%} of every rate is reached.",
        "A grid runs in float32, whose convolutions use TF32 by default; FP16 models half "
        "precision.",
        f"Render: {RENDER_WARP_INSTRUCTIONS:,} warp instructions, counted for three bands.",
        "Network: operations by torch.utils.flop_counter; every layer reads its input and writes "
        "its output, nothing fused.",
        "Work of the host (draws, hosts, plan, writing): as measured on this CPU. "
        f"In turn: one process per GPU. Overlapped: {cores} cores per GPU, assumed.",
    ]


def as_json(work: Work) -> dict[str, Any]:
    return {"bytes_at_4_per_element": 4 * work.bytes, "flops": work.flops}
