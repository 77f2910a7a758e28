"""Tests of the layer's state: what it refuses, and what casts and averages leave whole."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastnorm import Annulus, EllipticalAnnulus, FootprintNorm, OuterAnnulusNorm
from fastnorm.footprint import is_same

DEFAULT = Annulus.default(64, 64)  # 20.8 and 28.8, which no binary fraction equals
FOOTPRINTS: dict[str, Any] = {
    "annulus": DEFAULT,
    "ellipse": EllipticalAnnulus(20.8, 28.8, 0.7, 0.3),
    "array": np.random.default_rng(3).random((21, 300)) < 0.3,
}


def _model(footprint: Any = DEFAULT, **options: Any) -> nn.Sequential:
    return nn.Sequential(FootprintNorm(footprint, **options), nn.Linear(2, 2))


def _state(model: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = copy.deepcopy(model.state_dict())
    return state


@pytest.mark.parametrize("name", FOOTPRINTS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip": None}, "has clip=10, .*this layer has clip=None"),
        ({"clip": 5.0}, "has clip=10, .*this layer has clip=5"),
        ({"eps": 1e-6}, "eps=1e-08, .*this layer .*eps=1e-06"),
        ({"nan_to_zero": False}, "nan_to_zero=True, but .*nan_to_zero=False"),
    ],
)
def test_states_of_other_settings_are_refused(name: str, options: Any, words: str) -> None:
    footprint = FOOTPRINTS[name]
    with pytest.raises(ValueError, match=words):
        _model(footprint, **options).load_state_dict(_state(_model(footprint)))
    _model(footprint, **options).load_state_dict(_state(_model(footprint, **options)))


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("annulus", torch.tensor([20.8, 28.8], dtype=torch.float64)),
        ("ellipse", torch.tensor([20.8, 28.8, 0.7, 0.3], dtype=torch.float64)),
        ("array", torch.from_numpy(FOOTPRINTS["array"])),
    ],
)
def test_older_states_have_no_settings_and_load(name: str, old: Tensor) -> None:
    for options in ({}, {"clip": None}, {"nan_to_zero": False}):
        model = _model(FOOTPRINTS[name], **options)
        model.load_state_dict(_state(model) | {"0._extra_state": old})
    with pytest.raises(ValueError, match="must never be mixed"):
        _model(Annulus(4, 9)).load_state_dict(_state(model) | {"0._extra_state": old})


@pytest.mark.parametrize("name", FOOTPRINTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("clip", [None, 10.0, 3.3])
def test_a_cast_state_is_of_the_same_annulus(
    name: str, dtype: torch.dtype, clip: float | None
) -> None:
    model = _model(FOOTPRINTS[name], clip=clip)
    cast = {key: value.to(dtype) for key, value in _state(model).items()}
    model.load_state_dict(cast)
    with pytest.raises(ValueError, match="must never be mixed"):
        _model(Annulus(20, 32), clip=clip).load_state_dict(cast)
    with pytest.raises(ValueError, match="clip"):
        _model(FOOTPRINTS[name], clip=7.0).load_state_dict(cast)
    back = {key: value.double() for key, value in cast.items()}
    if dtype == torch.float32:
        model.load_state_dict(back)


@pytest.mark.parametrize("name", FOOTPRINTS)
@pytest.mark.parametrize("count", range(2, 13))
def test_an_average_of_checkpoints_is_of_the_same_annulus(name: str, count: int) -> None:
    for clip in (None, 10.0, 3.3):
        model = _model(FOOTPRINTS[name], clip=clip)
        states = [_state(model) for _ in range(count)]
        mean = {key: sum(state[key] for state in states) / count for key in states[0]}
        model.load_state_dict(mean)
        average = _state(model)
        for state in states:  # as exponential moving averages do
            average = {key: average[key].lerp(state[key], 0.1) for key in average}
        model.load_state_dict(average)


def test_an_average_of_two_annuli_is_refused() -> None:
    first, second = _state(_model(Annulus(20, 32))), _state(_model(Annulus(32.5, 45)))
    mean = {key: (first[key] + second[key]) / 2 for key in first}
    for annulus in (Annulus(20, 32), Annulus(32.5, 45)):
        with pytest.raises(ValueError, match="must never be mixed"):
            _model(annulus).load_state_dict(mean)
    arrays = [FOOTPRINTS["array"], ~FOOTPRINTS["array"]]
    first, second = (_state(_model(array)) for array in arrays)
    mean = {key: (first[key] + second[key]) / 2 for key in first}
    with pytest.raises(ValueError, match="no footprint of this version"):
        _model(arrays[0]).load_state_dict(mean)


def test_annuli_of_the_same_pixels_are_one() -> None:
    # 430 and 432 are no sums of two squares, nor is 431; 433 = 12^2 + 17^2.
    assert is_same(Annulus(20.8, 28.8), Annulus(20.75, 28.8))
    assert is_same(Annulus(20.8, 28.8), Annulus(np.sqrt(433.0), 28.8))
    assert not is_same(Annulus(20.8, 28.8), Annulus(np.nextafter(np.sqrt(433.0), 99), 28.8))
    assert not is_same(Annulus(20.0, 32.0), Annulus(20.001, 32.0))
    assert not is_same(Annulus(20.0, 32.0), EllipticalAnnulus(20.0, 32.0, 1, 0))
    assert not is_same(Annulus(20.0, 32.0), Annulus(20.0, 1e9))
    assert is_same(Annulus(20.0, 1e9), Annulus(20.0, np.nextafter(1e9, 0)))
    pixels = {tuple(Annulus(r_in, 45).pixels(101, 101)) for r_in in (32.5, np.sqrt(1058.0), 32.49)}
    assert len(pixels) == 1
    OuterAnnulusNorm(32.5, 45).load_state_dict(OuterAnnulusNorm(32.49, 45).state_dict())


def test_a_state_without_a_footprint_is_named() -> None:
    for wrong in (torch.zeros(3), torch.zeros(5, 4, 4), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="no footprint of this version"):
            OuterAnnulusNorm(20, 32).load_state_dict({"_extra_state": wrong})
