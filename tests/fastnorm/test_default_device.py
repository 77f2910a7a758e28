"""CPU tensors give CPU results under `torch.set_default_device`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fastnorm
from fastnorm.check import speed
from fastnorm.check.cases import Setting
from fastnorm.check.compare import Outcome, compare_checksums, compare_with_reference
from fastnorm.checksums import synthetic_cutout
from tests.elsewhere import elsewhere as elsewhere

RADII = (32.5, 45.0)
Door = Callable[[Tensor], Any]


def cutouts() -> Tensor:
    return torch.from_numpy(synthetic_cutout())[None].repeat(2, 1, 1, 1)


def gradient(images: Tensor) -> Tensor | None:
    images = images.clone().requires_grad_()
    torch.autograd.backward(fastnorm.OuterAnnulusNorm(*RADII)(images).square().sum())
    return images.grad


def of_layer(**options: Any) -> Door:
    given = {name: torch.from_numpy(np.array(value)) for name, value in options.items()}
    return lambda images: fastnorm.OuterAnnulusNorm(*RADII)(images, **given)


OFF_CENTRE = np.hypot(*np.mgrid[-50:51, -50:51]) > 40
DOORS: dict[str, Door] = {
    "normalize_outer_annulus": lambda x: fastnorm.normalize_outer_annulus(
        x, *RADII, return_stats=True
    ),
    "bfloat16": lambda x: fastnorm.normalize_outer_annulus(x, *RADII, dtype=torch.bfloat16),
    "strided": lambda x: fastnorm.normalize_outer_annulus(x.flip(-1)[..., ::2, :], 20, 24),
    "mask": lambda x: fastnorm.normalize_outer_annulus(x, *RADII, mask=x > 5),
    "annulus_median_mad": lambda x: fastnorm.annulus_median_mad(x, *RADII),
    "normalize_footprint": lambda x: fastnorm.normalize_footprint(x, OFF_CENTRE),
    "footprint tensor": lambda x: fastnorm.normalize_footprint(x, torch.from_numpy(OFF_CENTRE)),
    "footprint_median_mad": lambda x: fastnorm.footprint_median_mad(x, OFF_CENTRE),
    "layer": of_layer(),
    "layer, index": of_layer(index=[1, 0, 1]),
    "layer, dihedral": of_layer(dihedral=[5, 2]),
    "layer, mask": of_layer(mask=OFF_CENTRE),
    "FootprintNorm": lambda x: fastnorm.FootprintNorm(OFF_CENTRE)(x),
    "gradient": gradient,
    "vmap": lambda x: torch.func.vmap(fastnorm.OuterAnnulusNorm(*RADII))(x),
    "compiled": lambda x: torch.compile(
        fastnorm.OuterAnnulusNorm(31.5, 44.0), backend="aot_eager", fullgraph=True
    )(x),
}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("name", DOORS)
def test_a_door_gives_what_it_gives_without_a_default_device(name: str) -> None:
    images = cutouts()
    found = DOORS[name](images)
    torch.set_default_device(None)
    expected = DOORS[name](images)
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, expected)), strict=True):
        assert a.device == torch.device("cpu")
        assert torch.equal(a, b)


FOOTPRINTS = (
    fastnorm.Annulus(*RADII),
    fastnorm.EllipticalAnnulus(*RADII, q=0.8, phi=30.0),
    OFF_CENTRE,
)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("footprint", FOOTPRINTS, ids=lambda x: type(x).__name__)
def test_a_state_dict_made_under_a_default_device_can_be_loaded(footprint: Any) -> None:
    state = fastnorm.FootprintNorm(footprint).state_dict()
    assert {value.device.type for value in state.values()} == {"cpu"}
    fastnorm.FootprintNorm(footprint).load_state_dict(state)


@pytest.mark.usefixtures("elsewhere")
def test_the_check_compares_and_times_values() -> None:
    outcome = Outcome("numba", "cpu", "cpu", "")
    compare_with_reference(outcome, Setting((101, 101), fastnorm.Annulus(*RADII), "float32"))
    compare_checksums(outcome)
    assert outcome.cases > 3
    assert outcome.failures == []
    _, speeds = speed.measure("cpu", ["numba"], rounds=1, least_bytes=1)
    assert [found.backend for found in speeds] == ["torch", "numba"]
