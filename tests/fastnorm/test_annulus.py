"""Tests of the annulus: pixels, radii, errors and the warning."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastnorm
from fastnorm import LEGACY_ANNULUS, Annulus, AnnulusWarning
from fastnorm.annulus import MINIMUM_PIXELS, radius_map
from tests.fastnorm.test_backends import EVERY

CORRECTED = Annulus(32.5, 45.0)


@pytest.mark.parametrize(("annulus", "count"), [(LEGACY_ANNULUS, 1960), (CORRECTED, 3036)])
def test_pixel_count_of_the_specification(annulus: Annulus, count: int) -> None:
    assert annulus.pixel_count(101, 101) == count
    assert annulus.pixels(101, 101).size == count
    assert np.count_nonzero(annulus.mask(101, 101)) == count


@pytest.mark.parametrize("shape", [(40, 40), (41, 40), (40, 41), (41, 41), (64, 102)])
def test_pixels_one_by_one(shape: tuple[int, int]) -> None:
    height, width = shape
    annulus = Annulus(5, 13)
    expected = [
        row * width + column
        for row in range(height)
        for column in range(width)
        if 5 <= math.sqrt((row - height // 2) ** 2 + (column - width // 2) ** 2) < 13
    ]
    np.testing.assert_array_equal(annulus.pixels(*shape), expected)


def test_half_open_edge() -> None:
    mask = Annulus(5, 13).mask(41, 41)
    for dy, dx in ((0, 5), (3, 4), (-4, 3)):
        assert mask[20 + dy, 20 + dx], "r = r_in is inside"
    for dy, dx in ((0, 13), (5, 12), (-12, 5)):
        assert not mask[20 + dy, 20 + dx], "r = r_out is outside"
    assert mask[20, 20 + 12]
    assert not mask[20, 20 + 4]


@pytest.mark.parametrize("shape", [(100, 100), (101, 101), (100, 101), (37, 58)])
def test_centre_pixel(shape: tuple[int, int]) -> None:
    radius = radius_map(*shape)
    assert radius.dtype == np.float64
    assert radius.shape == shape
    assert np.argwhere(radius == 0).tolist() == [[shape[0] // 2, shape[1] // 2]]


@pytest.mark.parametrize(
    ("shape", "radii"),
    [((101, 101), (32.5, 45.0)), ((64, 64), (20.8, 28.8)), ((101, 64), (20.8, 28.8))],
)
def test_default_radii(shape: tuple[int, int], radii: tuple[float, float]) -> None:
    annulus = Annulus.default(*shape)
    half = min(shape) // 2
    assert (annulus.r_in, annulus.r_out) == (0.65 * half, 0.90 * half)
    assert (annulus.r_in, annulus.r_out) == pytest.approx(radii, rel=1e-15)


def test_smallest_size_that_the_error_text_promises() -> None:
    with pytest.raises(ValueError, match="at least 100") as caught:
        Annulus(0, 2).mask(15, 15)
    promised = re.search(r"fits images from (\d+) x (\d+) up", str(caught.value))
    assert promised
    least = int(promised[1])
    fits = [Annulus.default(n, n).pixel_count(n, n) >= MINIMUM_PIXELS for n in range(2, 200)]
    assert least == fits.index(True) + 2
    assert all(fits[least - 2 :])


def test_value_semantics() -> None:
    others: list[Any] = [np.float32(32), np.int64(32), Fraction(32)]
    for radius in others:
        assert Annulus(32, 45) == Annulus(32.0, 45.0) == Annulus(radius, 45)
        assert type(Annulus(radius, 45).r_in) is float
    assert hash(Annulus(32, 45)) == hash(Annulus(32.0, 45.0))
    assert len({Annulus(32, 45), Annulus(32.0, np.float64(45))}) == 1
    assert Annulus(32, 45) != Annulus(32, 46)
    with pytest.raises(FrozenInstanceError):
        CORRECTED.r_in = 3  # type: ignore[misc]


def test_pixels_are_read_only_and_shared() -> None:
    pixels = CORRECTED.pixels(101, 101)
    assert pixels is Annulus(32.5, 45).pixels(101, 101)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0


@pytest.mark.parametrize("name", ["r_in", "r_out"])
@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("20", TypeError, "'20'"),
        (None, TypeError, "None"),
        (True, TypeError, "True"),
        (np.bool_(True), TypeError, "np.True_"),
        (2j, TypeError, "2j"),
        ([20], TypeError, "[20]"),
        (np.array(20.0), TypeError, "array(20.)"),
        (-1.0, ValueError, "-1.0"),
        (math.nan, ValueError, "nan"),
        (math.inf, ValueError, "inf"),
    ],
)
def test_bad_radius(name: str, value: Any, error: type[Exception], text: str) -> None:
    radii = {"r_in": 20.0, "r_out": 32.0, name: value}
    with pytest.raises(error, match=rf"^{name}={re.escape(text)}.*radius in pixels"):
        Annulus(**radii)


@pytest.mark.parametrize("radii", [(32.0, 20.0), (32.0, 32.0), (0.0, 0.0)])
def test_radii_out_of_order(radii: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=rf"r_in={radii[0]} is not below r_out={radii[1]}"):
        Annulus(*radii)


def test_too_few_pixels() -> None:
    annulus = Annulus(10, 11)
    count = annulus.pixel_count(101, 101)
    assert 0 < count < MINIMUM_PIXELS
    for ask in (annulus.mask, annulus.pixels):
        with pytest.raises(ValueError, match=rf"\(10.0, 11.0\) holds {count} .*101 x 101.* 100"):
            ask(101, 101)
    assert Annulus(60, 70).pixel_count(50, 50) == 0


def _warnings_of(radii: tuple[float, float], shape: tuple[int, int]) -> list[str]:
    images = np.zeros(shape, np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fastnorm.normalize_outer_annulus(images, *radii)
        fastnorm.annulus_median_mad(images, *radii)
    assert len(caught) in (0, 2)
    for warning in caught:
        assert warning.category is AnnulusWarning
        assert warning.filename == __file__
    return [str(warning.message) for warning in caught]


def test_legacy_annulus_on_large_images_warns() -> None:
    for text in _warnings_of((20, 32), (101, 101)):
        for words in ("(20.0, 32.0)", "(32.5, 45.0)", "64 %", "101 x 101", "never be mixed"):
            assert words in text
    assert len(_warnings_of((20, 32), (101, 101))) == 2


@pytest.mark.parametrize(
    ("radii", "shape", "warns"),
    [
        ((20, 32), (64, 64), False),
        ((20, 32), (64, 500), False),
        ((20, 32), (65, 65), False),
        ((10, 20), (64, 64), False),
        ((10, 20), (65, 65), True),
        ((20, 32), (92, 92), True),  # 32 / 46 = 0.696
        ((20, 32), (91, 91), False),  # 32 / 45 = 0.711
        ((20, 35), (100, 100), False),  # 35 / 50 = 0.70 exactly
        ((20, 34.999), (100, 100), True),
        ((20, 32), (300, 91), False),
        ((32.5, 45), (101, 101), False),
        ((20, 100), (1000, 1), False),
        ((32.5, 45), (64, 64), True),  # only the corners
        ((32, 45), (64, 64), True),
        ((31.9, 45), (64, 64), False),
        ((40, 45), (101, 80), True),
        ((0, 13), (17, 17), False),
    ],
)
def test_when_it_warns(radii: tuple[float, float], shape: tuple[int, int], warns: bool) -> None:
    assert bool(_warnings_of(radii, shape)) is warns


def test_an_annulus_in_the_corners_names_the_one_that_fits() -> None:
    text, *_ = _warnings_of((32.5, 45), (64, 64))
    assert "begins beyond the sides of a 64 x 64 image, so that only its corners count" in text
    assert "The annulus that fits is (20.8, 28.8)" in text


def test_an_annulus_is_unpacked() -> None:
    assert [*Annulus.default(101, 101)] == [32.5, 45.0]
    images = np.random.default_rng(1).normal(size=(101, 101))
    median, mad = fastnorm.annulus_median_mad(images, *Annulus.default(101, 101))
    assert (median, mad) == fastnorm.annulus_median_mad(images, 32.5, 45.0)


@pytest.mark.parametrize("backend", EVERY)
def test_warning_points_at_the_line_of_the_call(backend: str) -> None:
    images = np.zeros((101, 101), np.float32)
    with pytest.warns(AnnulusWarning) as caught:
        fastnorm.normalize_outer_annulus(images, 20, 32, backend=backend)
    line = test_warning_points_at_the_line_of_the_call.__code__.co_firstlineno
    assert caught[0].filename == __file__
    assert 0 < caught[0].lineno - line <= 6


def test_warns_once_per_place() -> None:
    images = np.zeros((101, 101), np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            fastnorm.normalize_outer_annulus(images, 20, 32)
    assert len(caught) == 1
