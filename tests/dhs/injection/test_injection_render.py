"""Accuracy of rendered images, compared with brute force, fluxes and lenstronomy's ray tracing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.Util.param_util import phi_q2_ellipticity
from numpy.typing import NDArray
from scipy.special import gamma, gammaincinv, ive

from dhs.injection import LensParams, SourceParams, render
from tests.dhs.injection.injection_draws import draws, lenstronomy_lens

SCALE = 0.262
Image = NDArray[np.float64]


def of_unit_flux(source: SourceParams) -> SourceParams:
    return dataclasses.replace(source, flux_nmgy_g=1.0, flux_nmgy_r=1.0, flux_nmgy_z=1.0)


def seen_at(lens: LensParams | None, source: SourceParams, i: int, x: Image, y: Image) -> Image:
    """Compute the elliptical radius in the source plane, without the package's code."""
    to_x, to_y = x - source.beta_x_arcsec[i], y - source.beta_y_arcsec[i]
    if lens is not None:
        theta_e, g1, g2, x0, y0, q, phi = (values[i] for values in lens.arrays().values())
        cos, sin = np.cos(phi), np.sin(phi)
        u, v = cos * (x - x0) + sin * (y - y0), cos * (y - y0) - sin * (x - x0)
        r, f = np.hypot(u, v), np.sqrt(1 - q**2)
        alpha_u = theta_e * np.sqrt(q) / f * np.arcsin(f * u / r)
        alpha_v = theta_e * np.sqrt(q) / f * np.arcsinh(f * v / (q * r))
        to_x = to_x - cos * alpha_u + sin * alpha_v - g1 * x - g2 * y
        to_y = to_y - sin * alpha_u - cos * alpha_v - g2 * x + g1 * y
    cos, sin = np.cos(source.phi_rad[i]), np.sin(source.phi_rad[i])
    radius: Image = np.hypot(cos * to_x + sin * to_y, (cos * to_y - sin * to_x) / source.q[i])
    return radius


def brute_force(
    lens: LensParams | None, source: SourceParams, i: int, x: Image, y: Image, side: int = 32
) -> Image:
    """Compute the light of pixels around ``x, y`` for a source of flux 1, with side^2 samples."""
    n, re = source.n_sersic[i], source.re_arcsec[i]
    b = gammaincinv(2 * n, 0.5)
    place = ((np.arange(side) + 0.5) / side - 0.5) * SCALE
    to_y, to_x = (part.ravel() for part in np.meshgrid(place, place))
    radius = seen_at(lens, source, i, x[:, None] + to_x, y[:, None] + to_y)
    total = 2 * np.pi * n * re**2 * source.q[i] * b ** (-2 * n) * gamma(2 * n)
    light: Image = np.exp(-b * (radius / re) ** (1 / n)).mean(axis=1) * SCALE**2 / total
    return light


def pixels(shape: tuple[int, int]) -> tuple[Image, Image]:
    """Return the centres of pixels, arcsec, in the order of a raveled image."""
    row, column = (part.ravel().astype(np.float64) for part in np.indices(shape))
    return (column - (shape[1] - 1) / 2) * SCALE, (row - (shape[0] - 1) / 2) * SCALE


def errors(
    lens: LensParams,
    source: SourceParams,
    brightest: int,
    side: int = 32,
    **options: Any,
) -> Image:
    """Return the largest error of every image relative to its peak, where errors are largest."""
    shape = (101, 101)
    source = of_unit_flux(source)
    images = render(lens, source, shape, bands=("r",), **options).reshape(len(source), -1)
    x, y = pixels(shape)
    worst = np.zeros(len(source))
    for i, image in enumerate(images):
        near = seen_at(lens, source, i, x, y)
        chosen = np.argpartition(near, brightest)[:brightest]
        from_lens = np.hypot(x - lens.x0_arcsec[i], y - lens.y0_arcsec[i])
        chosen = np.union1d(chosen, np.flatnonzero(from_lens < 2.5 * SCALE))
        expected = brute_force(lens, source, i, x[chosen], y[chosen], side)
        worst[i] = np.abs(image[chosen] - expected).max() / expected.max()
    return worst


def test_images_against_brute_force() -> None:
    lens, source = draws(200, 0)
    worst = errors(lens, source, 150)
    print(f"\n200 draws: worst {worst.max():.2e}, median {np.median(worst):.1e} of the peak")
    assert worst.max() < 0.01
    # The worst cases have half the allowed error, the typical ones a tenth.
    assert np.sort(worst)[-10] < 5e-3
    assert np.median(worst) < 1e-3


def test_whole_images_against_brute_force() -> None:
    """The pixels that the other test skips are not worse."""
    lens, source = draws(4, 12)
    source = of_unit_flux(source)
    x, y = pixels((61, 47))
    images = render(lens, source, (61, 47), bands=("r",)).reshape(4, -1)
    for i, image in enumerate(images):
        expected = brute_force(lens, source, i, x, y, 16)
        assert np.abs(image - expected).max() < 0.01 * expected.max()
        assert abs(image.sum() / expected.sum() - 1) < 2e-3


def test_outside_of_the_priors() -> None:
    lens, source = draws(24, 13)
    rng = np.random.default_rng(14)
    hard = dataclasses.replace(
        lens,
        q_lens=rng.uniform(0.2, 0.5, 24),
        shear_g1=rng.uniform(-0.3, 0.3, 24),
        shear_g2=rng.uniform(-0.3, 0.3, 24),
    )
    assert errors(hard, source, 150).max() < 0.02
    spheroids = dataclasses.replace(source, n_sersic=rng.uniform(2, 4, 24))
    assert errors(lens, spheroids, 60, side=64).max() < 0.02


def test_flat_lenses() -> None:
    """A flat lens compresses light along its major axis as far as its convergence is high."""
    count, shape = 12, (41, 41)
    lens, source = draws(count, 13)
    lens, source = dataclasses.replace(lens, q_lens=np.full(count, 0.25)), of_unit_flux(source)
    x, y = pixels(shape)
    worst = np.zeros(count)
    images = render(lens, source, shape, bands=("r",)).reshape(count, -1)
    for i, image in enumerate(images):
        expected = brute_force(lens, source, i, x, y, 16)
        worst[i] = np.abs(image - expected).max() / expected.max()
    # 16 x 16 sub-pixels are themselves inaccurate for some of these.
    assert np.sort(worst)[-3] < 5e-3


def test_more_samples_err_less() -> None:
    lens, source = draws(12, 15)
    found = [errors(lens, source, 30, side=64, oversample=o) for o in (1, 2, 4, 8)]
    typical = [float(np.median(error)) for error in found]
    print("\nmedian error at 1, 2, 4, 8 samples:", *(f"{error:.1e}" for error in typical))
    assert typical == sorted(typical, reverse=True)
    assert typical[0] > 4 * typical[2]
    assert typical[3] < 0.8 * typical[2]
    assert found[3].max() < 1e-3


@pytest.mark.parametrize("n", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("re", [0.15, 0.3, 0.5])
@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_flux_without_a_lens(backend: str, re: float, n: float) -> None:
    """The whole flux is in the image, because 201 pixels span at least 50 half-light radii."""
    rng = np.random.default_rng(16)
    count = 12 if backend == "numba" else 3
    source = SourceParams(
        beta_x_arcsec=rng.uniform(-0.5, 0.5, count) * SCALE,
        beta_y_arcsec=rng.uniform(-0.5, 0.5, count) * SCALE,
        re_arcsec=re,
        n_sersic=n,
        q=np.resize([0.3, 0.5, 1.0], count),
        phi_rad=rng.uniform(0, np.pi, count),
        flux_nmgy_g=2.0,
        flux_nmgy_r=3.0,
        flux_nmgy_z=5.0,
    )
    images = render(None, source, (201, 201), backend=backend)
    total = images.sum(axis=(2, 3), dtype=np.float64) / [2.0, 3.0, 5.0]
    np.testing.assert_allclose(total, 1, atol=1e-3)


def traced(lens: LensParams | None, source: SourceParams, i: int, side: int, fine: int) -> float:
    """Compute the flux in a stamp with lenstronomy, with fine x fine rays per pixel."""
    n, q = source.n_sersic[i], source.q[i]
    b = gammaincinv(2 * n, 0.5)
    # lenstronomy uses the product-average radius and a fit for b; this is the same profile.
    radius = source.re_arcsec[i] * np.sqrt(q) * ((1.9992 * n - 0.3271) / b) ** n
    e1, e2 = phi_q2_ellipticity(source.phi_rad[i], q)
    keywords = {
        "amp": 1.0,
        "R_sersic": radius,
        "n_sersic": n,
        "e1": e1,
        "e2": e2,
        "center_x": source.beta_x_arcsec[i],
        "center_y": source.beta_y_arcsec[i],
    }
    place = (np.arange(side * fine) - (side * fine - 1) / 2) * SCALE / fine
    x, y = (part.ravel() for part in np.meshgrid(place, place))
    if lens is not None:
        model, lens_keywords = lenstronomy_lens(lens, "SIE", i)
        x, y = model.ray_shooting(x, y, lens_keywords)
    light = LightModel(["SERSIC_ELLIPSE"]).surface_brightness(x, y, [keywords])
    return float(light.sum() * (SCALE / fine) ** 2)


def test_magnified_flux_equals_lenstronomys() -> None:
    lens, source = draws(6, 17, theta_e=(0.6, 2.5))
    source = of_unit_flux(source)
    lensed = render(lens, source, (51, 51), bands=("r",)).sum(axis=(1, 2, 3), dtype=np.float64)
    plain = render(None, source, (51, 51), bands=("r",)).sum(axis=(1, 2, 3), dtype=np.float64)
    for i in range(len(lens)):
        expected = traced(lens, source, i, 51, 16) / traced(None, source, i, 51, 16)
        assert expected > 2
        assert abs(lensed[i] / plain[i] / expected - 1) < 5e-3


def test_magnification_of_a_tiny_source_is_that_of_its_images() -> None:
    """A round lens magnifies a point inside its Einstein radius by 2 theta_E / beta."""
    beta = np.array([0.2, 0.3, 0.5, 0.8])
    source = SourceParams(beta, 0.0, 0.05, 0.5)
    images = render(LensParams(1.5), source, (61, 61), bands=("r",))
    sigma = 0.05 / np.sqrt(2 * np.log(2))
    inverse_distance = np.sqrt(np.pi / 2) / sigma * ive(0, (beta / sigma) ** 2 / 4)
    np.testing.assert_allclose(images.sum(axis=(1, 2, 3)), 3 * inverse_distance, rtol=5e-4)


@pytest.mark.parametrize("shear", [(0.8, 0.0), (0.0, -0.6), (0.5, 0.5)])
def test_light_that_a_shear_takes_far_out(shear: tuple[float, float]) -> None:
    """A shear alone magnifies by 1 / (1 - g^2)."""
    source = SourceParams(0.3, -0.2, 0.5, 0.5)
    image = render(LensParams(1e-6, *shear), source, (201, 201), bands=("r",))
    assert abs(image.sum() * (1 - np.hypot(*shear) ** 2) - 1) < 1e-3


def test_the_frame_of_an_image() -> None:
    """x is the column, y is the row, angles run from +x to +y, and the middle is the origin."""
    source = SourceParams(
        [3 * SCALE, 0.0, 0.0], [0.0, -2 * SCALE, 0.0], 1.0, 1.0, 0.3, [0.0, 0.0, np.pi / 4]
    )
    images = render(None, source, (21, 31), bands=("r",))[:, 0]
    peaks = [np.unravel_index(np.argmax(image), image.shape) for image in images]
    np.testing.assert_array_equal(peaks, [(10, 18), (8, 15), (10, 15)])
    assert images[0, 10, 18 + 4] > 4 * images[0, 10 + 4, 18]
    assert images[2, 10 + 3, 15 + 3] > 4 * images[2, 10 + 3, 15 - 3]
    even = render(None, SourceParams(0.0, 0.0, 0.3, 1.0), (8, 6), bands=("r",))[0, 0]
    middle = even[3:5, 2:4]
    assert (middle > even.max() * 0.999).all()
    np.testing.assert_allclose(even, even[::-1, ::-1], rtol=1e-4, atol=1e-9)


def test_the_frame_of_a_lens() -> None:
    """Images of a centred source lie along the minor axis of the mass and along the shear."""
    source = SourceParams(0.0, 0.0, 0.1, 1.0)

    def spread(lens: LensParams) -> tuple[float, float]:
        image = render(lens, source, (41, 41), bands=("r",))[0, 0].astype(np.float64)
        x, y = pixels((41, 41))
        return float((image.ravel() * x**2).sum()), float((image.ravel() * y**2).sum())

    along_x, along_y = spread(LensParams(1.5, q_lens=0.6))
    turned_x, turned_y = spread(LensParams(1.5, q_lens=0.6, phi_lens_rad=np.pi / 2))
    assert along_y > 1.05 * along_x
    np.testing.assert_allclose((turned_y, turned_x), (along_x, along_y), rtol=1e-2)
    sheared_x, sheared_y = spread(LensParams(1.5, shear_g1=0.1))
    assert sheared_x > 1.05 * sheared_y


@pytest.mark.parametrize("scale", [0.05, 0.262, 1.0])
def test_pixel_scales(scale: float) -> None:
    """Light adds up when the same sky has pixels of a different size."""
    lens, source = draws(3, 18)
    source = of_unit_flux(source)
    fine = render(lens, source, (303, 303), scale / 3, bands=("r",)).astype(np.float64)
    coarse = render(lens, source, (101, 101), scale, bands=("r",)).astype(np.float64)
    binned = fine.reshape(3, 101, 3, 101, 3).sum(axis=(2, 4))
    assert np.abs(binned - coarse[:, 0]).max() < 5e-3 * coarse.max()
