"""Tests that every backend equals the reference, value for value, on adversarial images."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fastnorm
from fastnorm import Annulus, reference
from fastnorm.check.adversarial import nasty_stack
from fastnorm.checksums import EXPECTED_CHECKSUMS, checksum, synthetic_cutout
from tests import SHARED
from tests.fastnorm.nasty import assert_same

EVERY = [b.name for b in fastnorm.backends() if b.available and b.device == "cpu"]
FAST = [name for name in EVERY if name != "reference"]
CUTOUTS = SHARED / "data" / "dr10_cutouts"

GEOMETRIES = [
    ((21, 21), Annulus(2, 9)),
    ((64, 64), Annulus(20, 32)),
    ((101, 101), Annulus(32.5, 45)),
    ((101, 101), Annulus(20, 32)),
    ((100, 101), Annulus.default(100, 101)),
    ((37, 58), Annulus.default(37, 58)),
    ((102, 64), Annulus(20, 32)),
    ((256, 256), Annulus.default(256, 256)),
    ((33, 31), Annulus(3, 50)),  # up to the last pixel of the plane, so that the gather has a tail
]
DTYPES = [
    "float16",
    "float32",
    "float64",
    "torch.bfloat16",
    "torch.float16",
    "torch.float32",
    "torch.float64",
]
CLIPS = [None, 10.0, 0.5]
MASKS = ["none", "random", "all bad", "all good", "broadcast"]

legacy_is_meant = pytest.mark.filterwarnings("ignore::fastnorm.AnnulusWarning")


class Case(NamedTuple):
    shape: tuple[int, int]
    annulus: Annulus
    dtype: str
    clip: float | None
    nan_to_zero: bool
    mask: str


def _cases() -> list[Any]:
    # The numbers of options are coprime, so that every pair of options occurs.
    cases = [
        Case(shape, annulus, dtype, CLIPS[i % 3], bool(i % 2), MASKS[i % 5])
        for i, ((shape, annulus), dtype) in enumerate(product(GEOMETRIES, DTYPES))
    ]
    for shape, annulus in (GEOMETRIES[0], GEOMETRIES[2], GEOMETRIES[5]):
        cases += [
            Case(shape, annulus, "float32", *options)
            for options in product(CLIPS, [False, True], MASKS)
        ]
    return [pytest.param(case, id=_label(case)) for case in dict.fromkeys(cases)]


def _label(case: Case) -> str:
    (height, width), (r_in, r_out) = case.shape, (case.annulus.r_in, case.annulus.r_out)
    zero = "nan0" if case.nan_to_zero else "nan"
    return f"{height}x{width}-{r_in:g}-{r_out:g}-{case.dtype}-{case.clip}-{zero}-{case.mask}"


def _images(case: Case) -> tuple[list[str], Any]:
    library, _, name = case.dtype.rpartition(".")
    drawn = np.dtype("float32" if name == "bfloat16" else name)
    names, images = nasty_stack(case.shape, drawn, 1, case.annulus)
    if not library:
        return names, images
    return names, torch.from_numpy(images).to(getattr(torch, name))


def _mask(kind: str, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    rng = np.random.default_rng(7)
    masks = {
        "none": None,
        "random": rng.random(shape) < 0.2,
        "all bad": np.ones(shape, bool),
        "all good": np.zeros(shape, bool),
        "broadcast": rng.random(shape[1:]) < 0.5,
    }
    return masks[kind]


@legacy_is_meant
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("case", _cases())
def test_equals_reference(case: Case, backend: str) -> None:
    names, images = _images(case)
    radii = (case.annulus.r_in, case.annulus.r_out)
    mask = _mask(case.mask, tuple(images.shape))

    def results(name: str) -> Any:
        return fastnorm.normalize_outer_annulus(
            images,
            *radii,
            mask=mask,
            clip=case.clip,
            nan_to_zero=case.nan_to_zero,
            return_stats=True,
            backend=name,
        ) + fastnorm.annulus_median_mad(images, *radii, mask=mask, backend=name)

    for actual, expected in zip(results(backend), results("reference"), strict=True):
        assert_same(actual, expected, names)


@legacy_is_meant
@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_definition_plane_by_plane(dtype: str, backend: str) -> None:
    """Check that conversions and pieces in the public function do not change values."""
    case = Case((37, 58), Annulus.default(37, 58), dtype, 10.0, False, "none")
    names, images = _images(case)
    mask = np.random.default_rng(8).random(tuple(images.shape)) < 0.3
    if isinstance(images, np.ndarray):
        wide = images.astype(np.float64 if dtype == "float64" else np.float32)
    else:
        wide = images.to(torch.float64 if dtype == "torch.float64" else torch.float32).numpy()
    planes = [
        reference.normalize_plane(plane, case.annulus, mask=bad, eps=0.01, clip=10)
        for plane, bad in zip(wide, mask, strict=True)
    ]
    expected: list[Any] = [np.array(values) for values in zip(*planes, strict=True)]
    expected[2] = reference.scale_of(expected[2], 0.01)
    if not isinstance(images, np.ndarray):
        expected = [torch.from_numpy(values) for values in expected]
        expected[0] = expected[0].to(images.dtype)
    else:
        expected[0] = expected[0].astype(images.dtype)

    radii = (case.annulus.r_in, case.annulus.r_out)
    actual = fastnorm.normalize_outer_annulus(
        images, *radii, mask=mask, eps=0.01, clip=10, return_stats=True, backend=backend
    )
    for got, wanted in zip(actual, expected, strict=True):
        assert_same(got, wanted, names)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("eps", [1e-30, 1.0, 1e30])
def test_any_positive_eps(eps: float, dtype: str, backend: str) -> None:
    names, images = nasty_stack((37, 58), dtype, 2)
    annulus = Annulus.default(37, 58)
    actual, expected = (
        fastnorm.normalize_outer_annulus(
            images, annulus.r_in, annulus.r_out, eps=eps, return_stats=True, backend=name
        )
        for name in (backend, "reference")
    )
    for got, wanted in zip(actual, expected, strict=True):
        assert_same(got, wanted, names)


@pytest.mark.parametrize("backend", FAST)
def test_eps_is_added_in_float64(backend: str) -> None:
    rng = np.random.default_rng(4)
    images = rng.normal(size=(300, 21, 21)) * 10 ** rng.uniform(-8.5, -6, (300, 1, 1))
    images = images.astype(np.float32)
    actual, expected = (
        fastnorm.normalize_outer_annulus(images, 2, 9, return_stats=True, backend=name)
        for name in (backend, "reference")
    )
    for got, wanted in zip(actual, expected, strict=True):
        assert_same(got, wanted)
    _, mad = fastnorm.annulus_median_mad(images, 2, 9, backend=backend)
    assert (mad + np.float32(1e-8) != expected[2]).any(), "a float32 sum would not be seen"


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [1e-30, 1e30, float("inf"), 1e300])
def test_any_positive_clip(clip: float, dtype: str, backend: str) -> None:
    names, images = nasty_stack((37, 58), dtype, 3)
    annulus = Annulus.default(37, 58)
    actual, expected = (
        fastnorm.normalize_outer_annulus(
            images, annulus.r_in, annulus.r_out, clip=clip, backend=name
        )
        for name in (backend, "reference")
    )
    assert_same(actual, expected, names)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ten_thousand_random_annuli(dtype: str, backend: str) -> None:
    """Check many draws of common distributions, to find errors that are rare."""
    rng = np.random.default_rng(11)
    shape = (5000, 21, 21)
    levels = rng.integers(1, 200, (shape[0], 1, 1))
    images = [rng.normal(size=shape), np.round(rng.exponential(size=shape) * levels) / levels]
    stack = np.concatenate(images).astype(dtype)
    actual, expected = (
        fastnorm.annulus_median_mad(stack, 2, 10, backend=name) for name in (backend, "reference")
    )
    for got, wanted in zip(actual, expected, strict=True):
        assert_same(got, wanted)


@pytest.mark.parametrize("backend", EVERY)
def test_lock_of_the_corrected_annulus(backend: str) -> None:
    out = fastnorm.normalize_outer_annulus(
        synthetic_cutout(), 32.5, 45.0, clip=10.0, nan_to_zero=True, backend=backend
    )
    assert checksum(out) == EXPECTED_CHECKSUMS[Annulus(32.5, 45)] == "1b21317c14b7e67c"


@pytest.mark.parametrize("backend", EVERY)
def test_lock_of_the_legacy_annulus(backend: str) -> None:
    with pytest.warns(fastnorm.AnnulusWarning):
        out = fastnorm.normalize_outer_annulus(
            synthetic_cutout(), 20.0, 32.0, clip=10.0, nan_to_zero=True, backend=backend
        )
    assert checksum(out) == EXPECTED_CHECKSUMS[Annulus(20, 32)] == "7e25b9e366471bda"


@legacy_is_meant
@pytest.mark.skipif(not CUTOUTS.is_dir(), reason="the real cutouts are not beside the project")
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("radii", [(32.5, 45.0), (20.0, 32.0)])
def test_real_cutouts_byte_for_byte(radii: tuple[float, float], dtype: str, backend: str) -> None:
    files = sorted(CUTOUTS.glob("*.npz"))
    assert files
    for file in files:
        with np.load(file, allow_pickle=False) as content:
            cutout = np.moveaxis(content["cutout"], -1, 0).astype(dtype)
        actual, expected = (
            fastnorm.normalize_outer_annulus(
                cutout, *radii, clip=10.0, return_stats=True, backend=b
            )
            for b in (backend, "reference")
        )
        for got, wanted in zip(actual, expected, strict=True):
            assert got.tobytes() == wanted.tobytes()
