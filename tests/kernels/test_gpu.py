"""Tests of the operator on a CUDA device: gradients, compilers, graphs, no synchronisation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastnorm
from fastnorm import OuterAnnulusNorm
from fastnorm.normalize.tensors import device_pixels
from tests.kernels.gpu_oracle import definition, same

pytestmark = pytest.mark.gpu

ANNULUS = fastnorm.Annulus(4, 10)
INDEX, DIHEDRAL = torch.tensor([3, 3, 1]), torch.tensor([5, 2, 3])


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(4, 2, 25, 25, dtype=torch.float64, generator=generator).to(dtype)


def run(x: Tensor, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.fastnorm.normalize_footprint(
        x, device_pixels(ANNULUS, *x.shape[-2:], x.device), **options
    )
    return result


def options(device: str) -> dict[str, Any]:
    return {
        "index": INDEX.to(device),
        "dihedral": DIHEDRAL.to(device),
        "mask": (torch.arange(25 * 25).reshape(25, 25) % 7 == 0).to(device),
        "clip": 1.5,
        "nan_to_zero": True,
        "dtype": torch.bfloat16,
        "channels_last": True,
    }


@contextmanager
def no_waiting() -> Iterator[None]:
    with warnings.catch_warnings():
        # torch says on every change that the mode is a prototype.
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_the_operator_gives_the_same_on_both_devices() -> None:
    for extra in ({}, options("cpu")):
        on_gpu = {k: v.cuda() if isinstance(v, Tensor) else v for k, v in extra.items()}
        for got, wanted in zip(run(images().cuda(), **on_gpu), run(images(), **extra), strict=True):
            assert got.dtype == wanted.dtype
            same(got, wanted)


def test_opcheck() -> None:
    x = images().cuda().requires_grad_()
    operator = torch.ops.fastnorm.normalize_footprint.default
    pixels = device_pixels(ANNULUS, *x.shape[-2:], x.device)
    for extra in ({}, {**options("cuda"), "dtype": None}):
        torch.library.opcheck(operator, (x, pixels), extra)


def test_gradients_are_those_of_the_cpu() -> None:
    extra: dict[str, Any]
    for extra in ({}, {"index": INDEX, "dihedral": DIHEDRAL, "clip": 1.5}):
        gradients = []
        for device in ("cpu", "cuda"):
            x = images(torch.float64).to(device).requires_grad_()
            given = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in extra.items()}
            (gradient,) = torch.autograd.grad((run(x, **given)[0] ** 2).sum(), x)
            gradients.append(gradient.cpu())
        torch.testing.assert_close(gradients[1], gradients[0])


def test_gradcheck() -> None:
    x = images(torch.float64)[:1, :1].cuda().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: run(x)[0], (x,))


def test_nothing_waits_for_the_device() -> None:
    x, extra = images().cuda(), options("cuda")
    expected = run(x, **extra)[0]
    with no_waiting():
        out = run(x, **extra)[0]
    same(out, expected.cpu())


def test_a_cuda_graph_captures_it() -> None:
    x, extra = images().cuda(), options("cuda")
    run(x, **extra)  # compiles, and copies the table to the device
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run(x, **extra)[0]
    other = images().flip(0)
    x.copy_(other)
    graph.replay()
    same(out, run(other, **options("cpu"))[0])


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_in_one_graph(mode: str) -> None:
    layer = OuterAnnulusNorm(ANNULUS.r_in, ANNULUS.r_out)
    network = nn.Sequential(layer, nn.Conv2d(2, 4, 3)).cuda()
    compiled: Callable[[Tensor], Tensor] = torch.compile(network, fullgraph=True, mode=mode)
    x = images().cuda()
    for _ in range(3):
        torch.testing.assert_close(compiled(x), network(x))


def test_an_index_out_of_range_is_found_where_waiting_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTNORM_DEBUG", "1")
    with pytest.raises(ValueError, match="index contains 4"):
        run(images().cuda(), index=torch.tensor([4]).cuda())


def test_an_index_out_of_range_gives_nan_and_leaves_the_device_usable() -> None:
    x = images().cuda().requires_grad_()
    out = run(x, index=torch.tensor([1, 4, -1, 2**40]).cuda())[0]
    same(out[:1], run(images()[1:2])[0])
    assert out[1:].isnan().all()
    (gradient,) = torch.autograd.grad(out[0].sum(), x)
    assert gradient.isfinite().all()
    same(run(images().cuda())[0], run(images())[0])


def test_a_capture_before_the_table_is_there_is_refused() -> None:
    layer, x = OuterAnnulusNorm(2.125, 9.0), images().cuda()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="call the layer once"), torch.cuda.graph(graph):
        layer(x)


def test_the_public_function_takes_cuda_tensors() -> None:
    x = images(torch.float16)
    out, median, scale = fastnorm.normalize_outer_annulus(
        x.cuda(), ANNULUS.r_in, ANNULUS.r_out, return_stats=True
    )
    expected = definition(x, ANNULUS)
    assert out.is_cuda
    assert scale.is_cuda
    same(out, expected[0])
    same(median, expected[1])
    with pytest.raises(ValueError, match="backend='numba' is for the cpu"):
        fastnorm.normalize_outer_annulus(x.cuda(), 4, 10, backend="numba")


def test_planes_beyond_the_reach_of_32_bit_addresses() -> None:
    count = 2**31 // (3 * 101 * 101) + 2
    if torch.cuda.mem_get_info()[0] < 12 * count * 3 * 101 * 101:
        pytest.skip("too little device memory")
    x = torch.zeros(count, 3, 101, 101, device="cuda")
    x[-1] = torch.randn(3, 101, 101, generator=torch.Generator().manual_seed(1)).cuda()
    out = fastnorm.normalize_outer_annulus(x, 32.5, 45.0)
    same(out[-1], definition(x[-1].cpu(), fastnorm.Annulus(32.5, 45.0))[0])
