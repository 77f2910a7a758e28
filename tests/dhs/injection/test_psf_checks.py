"""Pixelised PSFs whose peak is off the middle, and those with negative pixels."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, shift

from dhs.injection import PSF, PSFCentreWarning, PSFNormalisationWarning

SIDE = 31


def gaussian(down: float = 0.0, right: float = 0.0, fwhm: float = 5.0) -> NDArray[np.float64]:
    rows, columns = np.indices((SIDE, SIDE)) - SIDE // 2
    sigma = fwhm / np.sqrt(8 * np.log(2))
    image = np.exp(-((rows - down) ** 2 + (columns - right) ** 2) / (2 * sigma**2))
    result: NDArray[np.float64] = image / image.sum()
    return result


@pytest.mark.parametrize("fwhm", [2.5, 5.0])
@pytest.mark.parametrize(
    ("down", "right"), [(1, 0), (0, -2), (3, 4), (0.3, 0), (-0.4, 0.3), (14, 0), (15, -15)]
)
def test_a_peak_off_the_middle_is_named(down: float, right: float, fwhm: float) -> None:
    image = gaussian(down, right, fwhm)
    image /= image.sum()
    with pytest.warns(PSFCentreWarning) as caught:
        PSF(image)
    assert caught[0].filename == __file__
    said = str(caught[0].message)
    assert said.startswith("the peak of psf[0, 0] (g) is ")
    found = [float(word.lstrip("(")) for word in said.split() if word.lstrip("(")[0] in "+-"]
    np.testing.assert_allclose(found, [down, right], atol=0.06)
    assert float(said.split()[7]) == pytest.approx(np.hypot(down, right), abs=0.08)


def test_arcs_move_by_what_is_said() -> None:
    image = np.zeros((1, 1, 41, 41), np.float32)
    image[0, 0, 20, 20] = 1
    with pytest.warns(PSFCentreWarning, match=r"\+2\.00 rows, -1\.00 columns"):
        psf = PSF(gaussian(2, -1))
    moved = np.array(center_of_mass(psf.convolve(image)[0, 0])) - 20
    np.testing.assert_allclose(moved, [2, -1], atol=1e-3)


@pytest.mark.parametrize("worst", [(0, 1), (2, 2)])
def test_the_worst_of_many_is_named(worst: tuple[int, int]) -> None:
    images = np.broadcast_to(gaussian(), (3, 3, SIDE, SIDE)).copy()
    images[1, 0] = gaussian(0, 0.5)
    images[worst] = gaussian(-2, 0)
    with pytest.warns(PSFCentreWarning) as caught:
        PSF(images)
    said = str(caught[0].message)
    assert said.startswith(f"the peak of psf[{worst[0]}, {worst[1]}] ({'grz'[worst[1]]}) is 2.00")
    assert "2 of 9 images are off by more than 0.1" in said


def test_centred_psfs_do_not_warn() -> None:
    flat = np.zeros((SIDE, SIDE))
    flat[10:21, 10:21] = 1 / 121
    noisy = gaussian() + np.random.default_rng(1).uniform(0, 1e-5, (SIDE, SIDE))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in (gaussian(), gaussian(0.05, 0.05), flat, noisy / noisy.sum(), [[1.0]]):
            PSF(image)
        PSF.moffat([0.8, 1.3])
        PSF.gaussian(0.01)


def test_small_negative_pixels_become_zero_and_this_is_said() -> None:
    image = shift(gaussian(fwhm=3.0), (0.02, 0.01), order=3)  # the interpolation rings
    assert -1e-4 < image.min() < 0
    with pytest.warns(PSFNormalisationWarning) as caught:
        psf = PSF(image)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    said = str(caught[0].message)
    assert f"{(image < 0).sum()} negative pixels, the lowest {image.min():.3g}" in said
    assert "set to 0" in said
    clipped = np.clip(image, 0, None)
    np.testing.assert_allclose(psf.images[0, 1], clipped / clipped.sum(), rtol=1e-12)


@pytest.mark.parametrize(("share", "is_allowed"), [(0.9e-3, True), (1.2e-3, False)])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_more_than_a_thousandth_is_refused(
    share: float, is_allowed: bool, lead: tuple[int, ...]
) -> None:
    images = np.broadcast_to(gaussian(), (*lead, SIDE, SIDE)).copy()
    last = (*(size - 1 for size in lead), 0, 7)
    images[last] = -share
    if is_allowed:
        with pytest.warns(PSFNormalisationWarning, match="1 negative pixels"):
            PSF(images)
    else:
        index = ", ".join(map(str, last))
        with pytest.raises(ValueError, match=rf"psf\[{index}\]=-0\.0012 .*\[0, inf\).*at most 0"):
            PSF(images)


def test_negative_pixels_do_not_hide_one_another() -> None:
    """Small in the mean of a stack, but not in their own image."""
    images = np.broadcast_to(gaussian(), (50, 3, SIDE, SIDE)).copy()
    images[7, 2, 0, 0] = -0.01
    with pytest.raises(ValueError, match=r"psf\[7, 2, 0, 0\]=-0\.01"):
        PSF(images)
    with pytest.raises(ValueError, match=r"psf\[0, 0\]=-"):
        PSF(-gaussian())
