"""Tests of what an engineer tries first, and of what the errors and warnings then say."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import fastnorm
from fastnorm import Annulus, EllipticalAnnulus

CORRECTED = Annulus(32.5, 45.0)
ELLIPSE = EllipticalAnnulus(32.5, 45.0, q=0.6, phi=0.5)
FUNCTIONS: list[Callable[[Any], Any]] = [
    lambda images: fastnorm.normalize_outer_annulus(images, 32.5, 45.0),
    lambda images: fastnorm.annulus_median_mad(images, 32.5, 45.0),
    lambda images: fastnorm.normalize_footprint(images, CORRECTED),
    lambda images: fastnorm.normalize_footprint(images, ELLIPSE),
    lambda images: fastnorm.normalize_footprint(images, np.ones((101, 101), np.bool_)),
    lambda images: fastnorm.footprint_median_mad(images, CORRECTED),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bands_that_come_last_are_named(function: Callable[[Any], Any]) -> None:
    cutout = np.zeros((101, 101, 3), np.float32)
    expected = r"\(101, 101, 3\).*axes are \(\.\.\., H, W\): np\.moveaxis\(images, -1, -3\)"
    with pytest.raises(ValueError, match=expected):
        function(cutout)
    expected = r"\(101, 101, 3\).*axes are \(\.\.\., H, W\): images\.movedim\(-1, -3\)"
    with pytest.raises(ValueError, match=expected):
        function(torch.from_numpy(cutout))
    assert np.moveaxis(cutout, -1, -3).shape == (3, 101, 101)
    function(np.moveaxis(cutout, -1, -3))


@pytest.mark.parametrize(
    "layer",
    [
        fastnorm.OuterAnnulusNorm(32.5, 45.0),
        fastnorm.FootprintNorm(ELLIPSE),
        fastnorm.FootprintNorm(torch.ones(101, 101) > 0),
    ],
    ids=["annulus", "ellipse", "array"],
)
def test_the_layer_names_bands_that_come_last(layer: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match=r"images\.movedim\(-1, -3\)"):
        layer(torch.zeros(8, 101, 101, 3))


def test_large_stamps_with_the_bands_last_are_no_annulus() -> None:
    # Two strips of 25 x 3 pixels are enough for the statistics, and are no annulus.
    annulus = Annulus.default(200, 200)
    assert annulus.pixel_count(200, 3) >= 100
    stamps = np.zeros((200, 200, 3), np.float32)
    with pytest.raises(ValueError, match=r"np\.moveaxis\(images, -1, -3\)"):
        fastnorm.normalize_outer_annulus(stamps, annulus.r_in, annulus.r_out)
    layer = fastnorm.OuterAnnulusNorm(annulus.r_in, annulus.r_out)
    with pytest.raises(ValueError, match=r"images\.movedim\(-1, -3\)"):
        layer(torch.from_numpy(stamps)[None])


@pytest.mark.parametrize("shape", [(101, 3), (5, 101, 3), (101, 3, 101), (3, 3, 3), (20, 20, 17)])
def test_other_small_images_are_not_taken_for_bands(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="holds") as caught:
        fastnorm.normalize_outer_annulus(np.zeros(shape, np.float32), 32.5, 45.0)
    assert "moveaxis" not in str(caught.value)


def test_narrow_images_with_a_footprint_of_their_shape_are_images() -> None:
    images = np.arange(40.0 * 40 * 4).reshape(40, 40, 4)
    median, _ = fastnorm.footprint_median_mad(images, np.ones((40, 4), bool))
    assert np.array_equal(median, np.median(images, axis=(-2, -1)))
    fastnorm.normalize_outer_annulus(images, 0, 50)


@pytest.mark.parametrize("function", FUNCTIONS[:4])
def test_a_gradient_is_refused_with_the_layer_that_has_one(function: Callable[[Any], Any]) -> None:
    images = torch.zeros(3, 101, 101, requires_grad=True)
    expected = "^images requires a gradient.*OuterAnnulusNorm.*images.detach"
    with pytest.raises(ValueError, match=expected):
        function(images)


def test_the_gradient_of_a_mask_is_not_that_of_a_layer() -> None:
    out = torch.zeros(3, 101, 101, requires_grad=True)
    with pytest.raises(ValueError, match=r"^out requires a gradient") as caught:
        fastnorm.normalize_outer_annulus(torch.zeros(3, 101, 101), 32.5, 45.0, out=out)
    assert "OuterAnnulusNorm" not in str(caught.value)


@pytest.mark.parametrize(
    "layer",
    [
        fastnorm.OuterAnnulusNorm(20, 32),
        torch.nn.Sequential(torch.nn.Sequential(fastnorm.OuterAnnulusNorm(20, 32))),
        fastnorm.FootprintNorm(fastnorm.LEGACY_ANNULUS),
        torch.compile(fastnorm.OuterAnnulusNorm(20, 32), backend="eager"),
    ],
    ids=["layer", "sequential", "footprint", "compiled"],
)
def test_the_warning_of_a_layer_points_at_the_line_of_the_call(layer: torch.nn.Module) -> None:
    images = torch.zeros(2, 3, 101, 101)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", fastnorm.AnnulusWarning)
        layer(images)
    places = {
        (item.filename, item.lineno)
        for item in caught
        if issubclass(item.category, fastnorm.AnnulusWarning)
    }
    code = test_the_warning_of_a_layer_points_at_the_line_of_the_call.__code__
    lines = [line for _, _, line in code.co_lines() if line]
    assert len(places) == 1
    ((file, line),) = places
    assert file == __file__
    assert min(lines) < line <= max(lines)
