"""Matched-filter signal-to-noise ratio: simulated truth, bad pixels, sources, and devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dhs.injection import PSF, Noise, arc_snr_matched, inject, render
from dhs.injection.matched import MOST_LAG, Lags
from dhs.injection.tensors import inject_tensors
from tests.dhs.injection.injection_draws import draws

SIDE = 101
LENS, SOURCE = draws(6, 70, r_mag_range=(22, 22))
# Bright enough for the mean of simulated amplitudes to be exact.
ARC = 300 * PSF.moffat(1.3).convolve(render(LENS, SOURCE))
Images = NDArray[np.float32]


def noise(count: int, fwhm: float, seed: int, side: int = SIDE) -> Images:
    """Draw noise of variance 1, smoothed to this FWHM in pixels."""
    images = np.random.default_rng(seed).standard_normal((count, 3, side, side))
    if fwhm:
        images = gaussian_filter(images, (0, 0, *[fwhm / 2.3548] * 2), mode="wrap")
    scaled: Images = (images / images.std()).astype(np.float32)
    return scaled


def measured(arc: Images, hosts: Images) -> NDArray[np.float64]:
    """Measure with the true level and sigma of the noise."""
    zero = np.zeros(hosts.shape[:2])
    return arc_snr_matched(np.broadcast_to(arc, hosts.shape), hosts, zero, zero + 1)


def simulated(arc: Images, fwhm: float) -> NDArray[np.float64]:
    """Return mean over standard deviation of the amplitude of (B, H, W) arcs, with true noise."""
    weights = arc.reshape(len(arc), -1).astype(np.float64)
    weights /= np.square(weights).sum(axis=1)[:, None]
    seen = noise(700, fwhm, 90).reshape(-1, SIDE * SIDE)
    amplitudes = 1 + seen @ weights.T
    ratio: NDArray[np.float64] = amplitudes.mean(axis=0) / amplitudes.std(axis=0)
    return ratio


@pytest.mark.parametrize(("fwhm", "tolerance"), [(0, 0.05), (2, 0.1), (3, 0.1), (4, 0.1)])
def test_simulated_truth(fwhm: float, tolerance: float) -> None:
    hosts = noise(30, fwhm, 71)
    truth = simulated(ARC[:, 1], fwhm)
    for arc, expected in zip(ARC[:, 1], truth, strict=True):
        found = measured(arc, hosts) / expected
        assert found.mean() == pytest.approx(1, abs=tolerance)
        # One host has finitely many pixels.
        assert found.std() < 0.12
    white = np.sqrt(np.square(ARC[:, 1], dtype=np.float64).sum(axis=(1, 2)))
    if fwhm:
        assert (white > 2 * truth).all()
    else:
        np.testing.assert_allclose(truth, white, rtol=0.05)


def test_the_autocorrelation_is_the_sum_over_pairs() -> None:
    images = np.random.default_rng(3).normal(0, 1, (2, 1, 20, 17)).astype(np.float32)
    found = Lags.of(20, 17).autocorrelation(images)
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (6, 6), (6, 6)))
    for row in range(-MOST_LAG, MOST_LAG + 1):
        for column in range(MOST_LAG + 1):
            moved = padded[:, :, 6 + row : 26 + row, 6 + column : 23 + column]
            expected = (images * moved).sum(axis=(2, 3))
            np.testing.assert_allclose(found[:, :, row + 6, column], expected, atol=1e-3)


def test_level_and_unit_of_the_images_do_not_matter() -> None:
    hosts = noise(6, 2, 72)
    three = np.full((6, 3), 3.0)
    moved = arc_snr_matched(ARC * 3, hosts * 3 + 1, three / 3, three)
    np.testing.assert_allclose(moved, measured(ARC, hosts), rtol=1e-4)
    np.testing.assert_allclose(measured(ARC * 5, hosts), 5 * measured(ARC, hosts), rtol=1e-4)


def test_sources_around_the_host_are_no_noise() -> None:
    hosts = noise(6, 0, 73)
    crowded = hosts.copy()
    for row, column in ((8, 20), (50, 93), (94, 40)):
        crowded[:, 1, row - 2 : row + 3, column - 2 : column + 3] += 40
    crowded[:, :, 40:61, 40:61] += 1000  # the host
    change = measured(ARC, crowded) / measured(ARC, hosts)
    np.testing.assert_allclose(change, 1, atol=0.05)


def test_pixels_that_are_not_finite_are_left_out() -> None:
    hosts = noise(6, 2, 74)
    whole = measured(ARC, hosts)
    holes = hosts.copy()
    holes[1, 0, 3:9, 3:9], holes[2, 1, 90, 5] = np.nan, np.inf
    found = measured(ARC, holes)
    np.testing.assert_array_equal(found[[0, 3, 4, 5]], whole[[0, 3, 4, 5]])
    np.testing.assert_allclose(found, whole, rtol=0.1)
    assert (found[1] != whole[1]).all()
    holes[1, 0] = np.nan
    found = measured(ARC, holes)
    assert np.isnan(found[1]).all()
    assert np.isfinite(np.delete(found, 1, axis=0)).all()


def test_a_small_stamp_has_too_few_pixels() -> None:
    for side, is_finite in ((32, False), (46, False), (50, True), (64, True)):
        arc = PSF.moffat(1.3, side=31).convolve(render(LENS, SOURCE, (side, side)))
        found = measured(arc, noise(6, 0, 75, side))
        assert np.isfinite(found).all() == is_finite
        assert np.isnan(found).all() != is_finite


def test_no_arc_and_no_noise() -> None:
    assert (measured(ARC * 0, noise(6, 0, 76)) == 0).all()
    flat = np.zeros((6, 3, SIDE, SIDE), np.float32)
    zero = np.zeros((6, 3))
    assert np.isposinf(arc_snr_matched(ARC, flat, zero, zero)).all()
    assert np.isnan(arc_snr_matched(ARC * 0, flat, zero, zero)).all()


def on_a_device(hosts: Images, **options: Any) -> dict[str, NDArray[np.float64]]:
    widths, ids = np.full((6, 3), 1.3), np.arange(6)
    there = torch.from_numpy(hosts)
    return inject_tensors(there, LENS, SOURCE, widths, Noise(), 0, ids, **options).measured


def test_tensors_are_measured_like_arrays() -> None:
    hosts = 0.01 * noise(6, 2, 77)
    hosts[:, 2, 10:15, 10:15] += 1
    psf = PSF.moffat(1.3, fwhm_g_arcsec=1.3, fwhm_z_arcsec=1.3)
    table = inject(hosts, LENS, SOURCE, psf, seed=0).table
    assert np.isfinite(table["arc_snr_matched_r"]).all()
    found = on_a_device(hosts)
    for band in "grz":
        name = f"arc_snr_matched_{band}"
        np.testing.assert_allclose(found[name], table[name], rtol=2e-5)


def test_masked_pixels_change_this_measure_alone() -> None:
    hosts = 0.01 * noise(6, 0, 78)
    mask = np.zeros(hosts.shape, bool)
    mask[2, 0, 4:20, 4:90] = True
    # A gradient below the threshold of a source looks like noise of large lags.
    streaked = np.where(mask, hosts + np.float32(0.015), hosts)
    found = on_a_device(streaked, mask=torch.from_numpy(mask))
    unmasked = on_a_device(streaked)
    clean = on_a_device(hosts)
    for name, values in found.items():
        is_matched = name.startswith("arc_snr_matched")
        others = np.arange(6) != 2
        np.testing.assert_array_equal(values[others], unmasked[name][others])
        if not is_matched:
            np.testing.assert_array_equal(values, unmasked[name])
    name = "arc_snr_matched_g"
    assert unmasked[name][2] < 0.7 * clean[name][2]
    assert found[name][2] == pytest.approx(clean[name][2], rel=0.2)


def test_a_tensor_with_a_pixel_that_is_not_finite_leaves_the_others_alone() -> None:
    hosts = 0.01 * noise(6, 0, 79)
    whole = on_a_device(hosts)
    hosts[3, 1, 2, 2] = np.nan
    found = on_a_device(hosts)
    for name, values in found.items():
        np.testing.assert_array_equal(np.delete(values, 3), np.delete(whole[name], 3))
        assert np.isfinite(values).all()
