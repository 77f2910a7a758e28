"""Tests of the cost model of a grid on GPUs, against counts by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from benchmarks import scaling_model as model
from dhs.injection.psf import SIDE
from dhs.injection.psf_tensors import transform_size


def test_a_network_is_counted_layer_by_layer() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(400, 1)
    )
    work = model.count_network(network, torch.zeros(2, 3, 10, 10))
    assert work.flops == 2 * (4 * 100 * 3 * 9 + 400)
    assert work.bytes == (300 + 400) + (400 + 400) + (400 + 400) + (400 + 1)
    assert not any(layer._forward_hooks for layer in network)


def test_the_psf_is_counted_at_the_size_that_is_transformed() -> None:
    padded = transform_size(101, 101)[0]
    work = model.psf_work(101, SIDE)
    assert work.flops == pytest.approx(4 * 2.5 * padded**2 * math.log2(padded**2))
    assert work.bytes == 4 * 16 * padded**2 + 7 * 8 * padded * (padded // 2 + 1) + 24 * 101**2


def test_the_slower_of_memory_and_arithmetic_bounds() -> None:
    assert model.Work(3.35e12, 1.0).seconds(1e12, 1.0) == 1.0
    assert model.Work(3.35e12, 4e12).seconds(1e12, 0.5) == 8.0


def test_hours_fall_with_the_gpus_and_with_what_is_overlapped() -> None:
    gpu = {"forward": 20e-6, "PSF": 16e-6}
    one, eight = (model.hours(gpu, 360e-6, 4, 1e8, n) for n in (1, 8))
    assert one == pytest.approx({"in_turn": 11.0, "overlapped": 2.5, "gpu_alone": 1.0})
    assert eight == pytest.approx({name: value / 8 for name, value in one.items()})


def test_half_precision_moves_half_the_bytes_of_the_network_alone() -> None:
    network = model.Work(1e6, 1e6)
    full, half = (model.gpu_stages(network, 101, SIDE, name, 0.3) for name in ("TF32", "FP16"))
    assert full["forward"] == pytest.approx(4e6 / model.BYTES_PER_SECOND / 0.3)
    assert half.pop("forward") == pytest.approx(full.pop("forward") / 2)
    assert half == full
    assert any("not measured" in line for line in model.assumptions(0.3, 8))
