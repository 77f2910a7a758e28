"""Transfers of injections to a GPU and back, on a fake GPU and in counted reads."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dhs.injection import Noise, tensors, triton_backend
from dhs.injection.quadrature import MOST_TERMS, series_coefficients
from dhs.injection.tensors import inject_tensors
from dhs.injection.transfer import ALIGNMENT, send
from fastnorm.kernels import triton_lens
from tests.dhs.injection.lens_cases import draws, plan_of
from tests.dhs.model.fake_gpu import GPU, FakeGPU, HostReads
from tests.dhs.model.fake_gpu import gpu as gpu
from tests.kernels.test_gpu import no_waiting

CPU = torch.device("cpu")
SHAPE = (5, 7)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the arguments of each launch of the lens kernel, which does not run."""
    calls: list[Any] = []
    monkeypatch.setattr(triton_lens, "launch", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(triton_backend, "_constants", {})
    return calls


def render_on_gpu(plan: Any) -> None:
    triton_backend.run(plan, SimpleNamespace(device=GPU, is_cuda=True))  # type: ignore[arg-type]


def test_a_call_of_the_renderer_makes_one_copy(gpu: FakeGPU, launched: list[Any]) -> None:
    plans = [plan_of(*draws(count, count, clumps_prob=1.0), SHAPE) for count in (1, 3, 4)]
    render_on_gpu(plans[0])
    assert len(gpu.copies) == 4  # nodes, starts and coefficients, once
    for plan in plans:
        gpu.copies.clear()
        with HostReads() as reads:
            render_on_gpu(plan)
        parts = plan.table, plan.clumps, plan.flux
        padded = sum(-(-part.size // ALIGNMENT) * ALIGNMENT for part in parts)
        assert [one.bytes for one in gpu.copies] == [4 * padded]
        assert gpu.host_never_waits
        assert gpu.repinned == 0
        assert not reads.names
        *sent, _ = launched[-1]
        for tensor, part in zip(sent, parts, strict=False):
            assert np.array_equal(tensor.numpy(), part.astype(np.float32))
    for first, other in zip(launched[0][3:6], launched[-1][3:6], strict=True):
        assert first is other


def test_constants_are_those_of_the_plan(launched: list[Any]) -> None:
    lens, source = draws(2, 1)
    lens = dataclasses.replace(lens, q_lens=[0.9, 0.1])
    for oversample in (1, 4, 8, 4):
        plan = plan_of(lens, source, SHAPE, oversample)
        nodes, start, coefficients = triton_backend.constants_of(plan, CPU)
        expected = np.stack([plan.nodes.x, plan.nodes.y, plan.nodes.weight]).astype(np.float32)
        assert np.array_equal(nodes.numpy(), expected)
        assert np.array_equal(start.numpy(), plan.nodes.start)
        needed = series_coefficients(plan, triton_lens.TERMS_AT_ONCE.value)
        assert np.array_equal(coefficients.numpy()[: len(needed)], needed)
        assert len(needed) > 64
        assert len(coefficients) >= MOST_TERMS
        assert len(coefficients) % triton_lens.TERMS_AT_ONCE.value == 0
    assert len(triton_backend._constants) == 3
    changed = plan._replace(nodes=plan.nodes._replace(x=plan.nodes.x / 2))
    halved = triton_backend.constants_of(changed, CPU).nodes
    assert torch.equal(halved[0], nodes[0] / 2)


def test_constants_are_bounded(launched: list[Any]) -> None:
    plan = plan_of(*draws(1, 1), SHAPE)
    for k in range(triton_backend.MOST_CONSTANTS + 5):
        triton_backend.constants_of(
            plan._replace(nodes=plan.nodes._replace(x=plan.nodes.x + k)), CPU
        )
    assert len(triton_backend._constants) == triton_backend.MOST_CONSTANTS


def test_tables_of_one_copy_are_whole_and_aligned() -> None:
    rng = np.random.default_rng(1)
    tables = [rng.normal(0, 1, shape) for shape in ((3, 27), (3, 0, 5), (3, 2), (41,), ())]
    tables[2] = tables[2].T
    sent = send(tables, CPU)
    base = sent[0].untyped_storage().data_ptr()
    for tensor, table in zip(sent, tables, strict=True):
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous()
        assert np.array_equal(tensor.numpy(), table.astype(np.float32))
        assert tensor.untyped_storage().data_ptr() == base
        assert 4 * tensor.storage_offset() % 16 == 0
    used = sum(math.prod(table.shape) for table in tables)
    assert sent[0].untyped_storage().nbytes() < 4 * (used + ALIGNMENT * len(tables))


@pytest.mark.parametrize(("noise", "reads_"), [(Noise(), 1), (Noise(150.0, 0.3), 2)])
def test_an_injection_is_read_as_seldom_as_possible(noise: Noise, reads_: int) -> None:
    rng = np.random.default_rng(3)
    hosts = torch.from_numpy(rng.normal(0, 0.02, (4, 3, 33, 33)).astype(np.float32))
    lens, source = draws(4, 2)
    widths = rng.uniform(1.0, 1.5, (4, 3))
    with HostReads() as reads:
        inject_tensors(hosts, lens, source, widths, noise, 4, np.arange(4))
    assert reads.names == ["cpu"] * reads_


def test_the_annulus_of_the_signal_is_kept(gpu: FakeGPU) -> None:
    tensors._summed_pixels.cache_clear()
    for _ in range(3):
        mask, pixels = tensors._summed_pixels(33, 35, GPU)
        assert mask.sum(0).tolist() == [33 * 35, pixels]
    assert len(gpu.copies) == 1
    tensors._summed_pixels.cache_clear()


@pytest.mark.gpu
def test_on_a_gpu_the_renderer_does_not_wait() -> None:
    plan = plan_of(*draws(3, 1), SHAPE)
    first, again = (torch.empty((3, 3, *SHAPE), device=GPU) for _ in range(2))
    triton_backend.run(plan, first)
    with no_waiting():
        triton_backend.run(plan, again)
    assert torch.equal(first, again)
