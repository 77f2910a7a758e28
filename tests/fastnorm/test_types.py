"""Types of the results of the public functions: mypy checks them, and the tests run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_type, get_overloads

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import fastnorm
from fastnorm import (
    Annulus,
    annulus_median_mad,
    footprint_median_mad,
    normalize_footprint,
    normalize_outer_annulus,
)

Array = NDArray[Any]
RING = Annulus(20, 32)
CORNERS = np.ones((64, 64), np.bool_)
EVERY: list[Callable[..., Any]] = [
    normalize_outer_annulus,
    normalize_footprint,
    annulus_median_mad,
    footprint_median_mad,
]


def test_arrays_give_arrays() -> None:
    images = np.zeros((2, 64, 64), np.float32)
    results = [
        assert_type(normalize_outer_annulus(images, 20, 32, clip=10, out=None), Array),
        assert_type(normalize_footprint(images, RING, mask=CORNERS), Array),
        *assert_type(
            normalize_outer_annulus(images, 20, 32, return_stats=True), tuple[Array, Array, Array]
        ),
        *assert_type(
            normalize_footprint(images, CORNERS, return_stats=True), tuple[Array, Array, Array]
        ),
        *assert_type(annulus_median_mad(images, 20, 32), tuple[Array, Array]),
        *assert_type(footprint_median_mad(images, RING), tuple[Array, Array]),
    ]
    assert {type(each) for each in results} == {np.ndarray}
    wanted: NDArray[np.float32] = normalize_outer_annulus(images, 20, 32)
    assert wanted.dtype == np.float32


def test_tensors_give_tensors() -> None:
    images = torch.zeros(2, 64, 64)
    results = [
        assert_type(normalize_outer_annulus(images, 20, 32, dtype=torch.float64), Tensor),
        assert_type(normalize_footprint(images, torch.from_numpy(CORNERS)), Tensor),
        *assert_type(
            normalize_outer_annulus(images, 20, 32, return_stats=True),
            tuple[Tensor, Tensor, Tensor],
        ),
        *assert_type(
            normalize_footprint(images, RING, return_stats=True), tuple[Tensor, Tensor, Tensor]
        ),
        *assert_type(annulus_median_mad(images, 20, 32), tuple[Tensor, Tensor]),
        *assert_type(footprint_median_mad(images, RING, mask=None), tuple[Tensor, Tensor]),
    ]
    assert {type(each) for each in results} == {Tensor}


@pytest.mark.parametrize("wants_statistics", [False, True])
@pytest.mark.parametrize("images", [np.zeros((64, 64)), torch.zeros(64, 64)], ids=["np", "torch"])
def test_either(images: Array | Tensor, wants_statistics: bool) -> None:
    either = normalize_footprint(images, RING, return_stats=wants_statistics)
    assert_type(either, Array | Tensor | tuple[Array, Array, Array] | tuple[Tensor, Tensor, Tensor])
    median, _ = assert_type(
        annulus_median_mad(images, 20, 32), tuple[Array | Tensor, Array | Tensor]
    )
    assert type(median) is type(images)
    assert isinstance(either, tuple) == wants_statistics


@pytest.mark.parametrize("function", EVERY)
def test_no_result_is_untyped(function: Callable[..., Any]) -> None:
    for each in get_overloads(function) or [function]:
        assert "Any" not in each.__annotations__["return"].replace("NDArray[Any]", "")
        assert each.__annotations__["images"] in ("Images", "Either")


if TYPE_CHECKING:
    # A type checker reports each of these: `make lint` fails if one needs no comment.
    normalize_outer_annulus([[0.0]], 20, 32)  # type: ignore[call-overload]
    normalize_outer_annulus(np.zeros(9), 20, 32, out=torch.zeros(9))  # type: ignore[type-var]
    annulus_median_mad(np.zeros((64, 64)), "20", 32)  # type: ignore[arg-type]
    footprint_median_mad(np.zeros((64, 64)), 20)  # type: ignore[arg-type]
    _ = fastnorm.nonsense  # type: ignore[attr-defined]
