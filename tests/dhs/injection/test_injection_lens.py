"""The lens compared with 50-digit arithmetic, with lenstronomy, and with its own definition."""

from __future__ import annotations

import itertools
from typing import Any

import mpmath
import numpy as np
import pytest
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LensModel.Solver.lens_equation_solver import LensEquationSolver
from numpy.typing import NDArray

from dhs.injection import (
    LensParams,
    SourceParams,
    image_positions,
    magnification,
    render,
    shear_deflection,
    sie_deflection,
    source_position,
)
from tests.dhs.injection.injection_draws import draws, lenstronomy_lens

AXIS_RATIOS = [1e-3, 0.05, 0.3, 0.7, 0.99, 1 - 1e-9, 1.0]
KNOWN = [
    ((1.0, 0.5, 1.2, 0.7, 0.0), (0.97408653724236, 0.62103142871591)),
    ((-0.8, 1.3, 1.5, 0.5, 1.0), (-1.0109670516098, 1.2092448656688)),
]


def by_mpmath(x: float, y: float, theta_e: float, q: float, phi: float) -> tuple[float, float]:
    """Compute the formula of Kormann, Schneider & Bartelmann (1994), as printed, to 50 digits."""
    with mpmath.workdps(50):
        x, y, theta_e, q, phi = (mpmath.mpf(float(value)) for value in (x, y, theta_e, q, phi))
        cos, sin = mpmath.cos(phi), mpmath.sin(phi)
        u, v = cos * x + sin * y, cos * y - sin * x
        r = mpmath.hypot(u, v)
        if q == 1:
            alpha_u, alpha_v = theta_e * u / r, theta_e * v / r
        else:
            f = mpmath.sqrt(1 - q**2)
            alpha_u = theta_e * mpmath.sqrt(q) / f * mpmath.asin(f * u / r)
            alpha_v = theta_e * mpmath.sqrt(q) / f * mpmath.asinh(f * v / (r * q))
        return (
            float(cos * alpha_u - sin * alpha_v),
            float(sin * alpha_u + cos * alpha_v),
        )


def positions(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions far and near, on the axes and off them."""
    rng = np.random.default_rng(seed)
    radius, angle = 10 ** rng.uniform(-9, 3, count), rng.uniform(0, 2 * np.pi, count)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    x[: count // 10] = 0.0
    y[count // 10 : count // 5] = 0.0
    return x, y


@pytest.mark.parametrize(("arguments", "expected"), KNOWN)
def test_known_deflections(arguments: tuple[float, ...], expected: tuple[float, float]) -> None:
    x, y, theta_e, q, phi = arguments
    assert np.abs(np.subtract(sie_deflection(x, y, theta_e, q, phi), expected)).max() < 1e-10
    single = sie_deflection(*(np.float32(value) for value in arguments))
    assert {part.dtype for part in single} == {np.dtype(np.float32)}
    assert np.abs(np.subtract(single, expected)).max() < 1e-6


@pytest.mark.parametrize("q", AXIS_RATIOS)
def test_deflection_to_50_digits(q: float) -> None:
    rng = np.random.default_rng(5)
    x, y = positions(60, 1)
    phi, theta_e = rng.uniform(-4, 4, x.size), rng.uniform(0.3, 5, x.size)
    # Some positions are on the axes of the lens, not only on those of the stamp.
    phi[::7] = 0.0
    expected = np.array([by_mpmath(*a[:3], q, a[3]) for a in zip(x, y, theta_e, phi, strict=True)])
    actual = np.stack(sie_deflection(x, y, theta_e, q, phi), axis=1)
    # artanh(z) loses 1 / (1 - z^2) = (1 + q)^2 / 4 q of its digits.
    allowed = theta_e[:, None] * (1 + 0.1 / q)
    assert (np.abs(actual - expected) / allowed).max() < 2e-15
    given = [a.astype(np.float32) for a in (x, y, theta_e, np.full_like(x, q), phi)]
    expected = np.array([by_mpmath(*map(float, values)) for values in zip(*given, strict=True)])
    single = np.stack(sie_deflection(*given), axis=1)
    assert single.dtype == np.float32
    assert (np.abs(single - expected) / allowed).max() < 1e-6


@pytest.mark.parametrize("place", [(1.0, 0.5), (-0.3, 2.0), (1e-6, -3e-6), (1.0, 0.0), (0.0, -1.0)])
def test_deflection_is_smooth_through_a_round_lens(place: tuple[float, float]) -> None:
    x, y = place
    for q in 1 - 10.0 ** -np.arange(1.0, 17.0):
        error = np.subtract(sie_deflection(x, y, 1.3, q, 0.4), by_mpmath(x, y, 1.3, q, 0.4))
        assert np.abs(error).max() < 1e-14
    r = np.hypot(x, y)
    np.testing.assert_allclose(
        sie_deflection(x, y, 1.3, 1.0, 0.4), (1.3 * x / r, 1.3 * y / r), atol=4e-16
    )
    # Third differences of a smooth function are small down to rounding.
    for step in (1e-3, 1e-4, 1e-5, 1e-6):
        alpha = np.stack(sie_deflection(x, y, 1.3, 1 - step * np.arange(40), 0.4))
        assert np.isfinite(alpha).all()
        assert np.abs(np.diff(alpha, 3, axis=1)).max() < 5 * step**3 + 1e-14
        slope = np.diff(alpha, axis=1) / -step
        assert np.abs(np.diff(slope, axis=1)).max() < 3 * step + 1e-14 / step


def test_deflection_at_the_centre_is_zero() -> None:
    for q, dtype in itertools.product(AXIS_RATIOS, (np.float32, np.float64)):
        zero = np.zeros(3, dtype)
        for alpha in sie_deflection(zero, zero, 1.0, q, 0.3):
            assert alpha.dtype == dtype
            np.testing.assert_array_equal(alpha, 0)


def test_types_of_deflections() -> None:
    single, double = np.ones(4, np.float32), np.ones(4)
    for given, expected in ((single, np.float32), (double, np.float64), (np.ones(4, int), float)):
        for alpha in sie_deflection(given, given, 1.0, 0.7, 0.1):
            assert (alpha.dtype, alpha.shape) == (np.dtype(expected), (4,))
        for alpha in shear_deflection(given, given, 0.1, 0.2):
            assert (alpha.dtype, alpha.shape) == (np.dtype(expected), (4,))
    assert sie_deflection(single, single, double, 0.7, 0.1)[0].dtype == np.float64
    wide = sie_deflection(double[:, None], double, 1.0, np.full((5, 1, 1), 0.7), 0.1)
    assert wide[0].shape == wide[1].shape == (5, 4, 4)


def test_shear_deflection() -> None:
    np.testing.assert_allclose(shear_deflection(2.0, 3.0, 0.1, 0.02), (0.26, -0.26), rtol=1e-15)
    x, y = positions(50, 2)
    expected = LensModel(["SHEAR"]).alpha(x, y, [{"gamma1": 0.11, "gamma2": -0.07}])
    np.testing.assert_allclose(shear_deflection(x, y, 0.11, -0.07), expected, atol=1e-13)


@pytest.mark.parametrize("profile", ["EPL", "SIE"])
def test_lens_equation_equals_lenstronomy(profile: str) -> None:
    lens, _ = draws(30, 3)
    x, y = (part[None] for part in positions(200, 4))
    beta = source_position(lens, x, y)
    inverse = 1 / magnification(lens, x, y)
    for i in range(len(lens)):
        model, keywords = lenstronomy_lens(lens, profile, i)
        # Close to the centre, lenstronomy's softening of 1e-10 arcsec matters.
        far = np.hypot(x[0] - lens.x0_arcsec[i], y[0] - lens.y0_arcsec[i]) > 1e-3
        expected = model.ray_shooting(x[0], y[0], keywords)
        np.testing.assert_allclose(np.stack(beta)[:, i, far], np.stack(expected)[:, far], atol=1e-6)
        theirs = 1 / model.magnification(x[0], y[0], keywords)
        error = np.abs(inverse[i] - theirs) / (1 + np.abs(theirs))
        assert error[far].max() < 1e-4


def test_magnification_by_finite_differences() -> None:
    lens, _ = draws(40, 6)
    rng = np.random.default_rng(7)
    x, y = rng.uniform(-3, 3, (2, 40, 25))
    step = 1e-6
    (a, c), (b, d) = (
        (np.subtract(source_position(lens, x + dx, y + dy), source_position(lens, x - dx, y - dy)))
        / (2 * step)
        for dx, dy in ((step, 0.0), (0.0, step))
    )
    inverse = a * d - b * c
    error = np.abs(1 / magnification(lens, x, y) - inverse) / (1 + np.abs(inverse))
    assert error.max() < 1e-6


def test_magnification_at_and_around_singular_places() -> None:
    lens = LensParams(1.0)
    assert magnification(lens, [[0.0]], [[0.0]]) == 0
    assert np.isinf(magnification(lens, [[1.0]], [[0.0]]))
    np.testing.assert_allclose(magnification(lens, [[2.0, 0.5]], [[0.0, 0.0]]), [[2.0, -1.0]])


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_every_image_maps_back_to_the_source(spread: float) -> None:
    lens, _ = draws(400, 8)
    beta_x, beta_y = np.random.default_rng(9).normal(0, spread, (2, len(lens)))
    x, y = image_positions(lens, beta_x, beta_y)
    assert x.shape == y.shape == (400, 8)
    assert x.dtype == y.dtype == np.float64
    back_x, back_y = source_position(lens, x, y)
    is_image = np.isfinite(x)
    np.testing.assert_array_equal(is_image, np.isfinite(y))
    assert np.abs((back_x - beta_x[:, None])[is_image]).max() < 1e-10
    assert np.abs((back_y - beta_y[:, None])[is_image]).max() < 1e-10
    number = is_image.sum(axis=1)
    # Images first, then NaN; an isothermal lens has 1 to 4 images.
    assert (np.diff(is_image.astype(int), axis=1) <= 0).all()
    assert set(np.unique(number)) <= {1, 2, 3, 4}
    angle = np.arctan2(y - lens.y0_arcsec[:, None], x - lens.x0_arcsec[:, None]) % (2 * np.pi)
    assert (np.diff(angle, axis=1)[is_image[:, 1:]] > 0).all()
    # The number of images is even for a source inside the cut, and odd outside.
    sign = np.sign(magnification(lens, x, y))
    assert (np.nansum(np.where(is_image, sign, 0), axis=1)[number % 2 == 0] == 0).all()
    assert (np.nansum(np.where(is_image, sign, 0), axis=1)[number % 2 == 1] == 1).all()


def test_every_place_that_maps_to_the_source_is_an_image() -> None:
    lens, _ = draws(3000, 16)
    rng = np.random.default_rng(17)
    radius = lens.theta_e_arcsec * rng.uniform(0.05, 2.5, 3000)
    angle = rng.uniform(0, 2 * np.pi, 3000)
    at_x, at_y = ((radius * part)[:, None] for part in (np.cos(angle), np.sin(angle)))
    beta_x, beta_y = source_position(lens, at_x, at_y)
    x, y = image_positions(lens, beta_x[:, 0], beta_y[:, 0])
    nearest = np.nanmin(np.hypot(x - at_x, y - at_y), axis=1)
    # Both images of a pair that is about to merge may be missed; such a pair is very bright.
    is_single = np.abs(magnification(lens, at_x, at_y)[:, 0]) < 300
    assert is_single.mean() > 0.98
    assert nearest[is_single].max() < 1e-8


def test_images_equal_those_of_lenstronomy() -> None:
    lens, source = draws(12, 10)
    x, y = image_positions(lens, source.beta_x_arcsec, source.beta_y_arcsec)
    mu = magnification(lens, x, y)
    for i in range(len(lens)):
        model, keywords = lenstronomy_lens(lens, "EPL", i)
        theirs = LensEquationSolver(model).image_position_from_source(
            source.beta_x_arcsec[i],
            source.beta_y_arcsec[i],
            keywords,
            min_distance=0.05,
            search_window=12,
            precision_limit=1e-12,
            num_iter_max=200,
        )
        ours = np.stack([x[i], y[i]])[:, np.isfinite(x[i])]
        assert ours.shape == np.shape(theirs), i
        ours, strengths = _ordered(ours, mu[i][np.isfinite(x[i])])
        expected, their_strengths = _ordered(
            np.array(theirs), model.magnification(*theirs, keywords)
        )
        np.testing.assert_allclose(ours, expected, atol=1e-6)
        np.testing.assert_allclose(strengths, their_strengths, rtol=1e-3)


def _ordered(places: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    order = np.argsort(np.arctan2(places[1], places[0]))
    return places[:, order], values[order]


def test_images_of_a_round_lens() -> None:
    x, y = image_positions(LensParams([1.0, 1.0]), [0.25, 1.5], 0.0)
    np.testing.assert_allclose(x[0, :2], [1.25, -0.75], atol=1e-12)
    np.testing.assert_allclose(x[1, :1], [2.5], atol=1e-12)
    np.testing.assert_allclose(y[0, :2], 0, atol=1e-12)
    assert np.isnan(x[0, 2:]).all()
    assert np.isnan(x[1, 1:]).all()
    np.testing.assert_allclose(magnification(LensParams(1.0), x[:1, :2], y[:1, :2]), [[5.0, -3.0]])


def test_number_of_images_by_place_of_the_source() -> None:
    # The astroid caustic of this lens ends at 0.24, the cut at 0.85 to 1.1.
    lens = LensParams(1.0, q_lens=0.7)
    for beta, expected in ((0.05, 4), (0.5, 2), (0.75, 2), (1.3, 1), (5.0, 1)):
        angle = np.linspace(0.01, 6.29, 37)
        x, _ = image_positions(lens[np.zeros(37, int)], beta * np.cos(angle), beta * np.sin(angle))
        np.testing.assert_array_equal(np.isfinite(x).sum(axis=1), expected)


def test_image_positions_refuse_bad_sources() -> None:
    with pytest.raises(ValueError, match=r"beta_x\[1\]=nan .*finite"):
        image_positions(LensParams([1.0, 1.0]), [0.0, np.nan], 0.0)
    with pytest.raises(TypeError, match="beta_y has dtype"):
        image_positions(LensParams(1.0), 0.0, "north")


def test_light_is_where_the_images_are() -> None:
    """The renderer and the lens equation agree on where a small source is seen."""
    lens, source = draws(30, 11)
    source = SourceParams(source.beta_x_arcsec, source.beta_y_arcsec, 0.1, 1.0)
    images = render(lens, source, bands=("r",))[:, 0]
    unlensed = render(None, SourceParams(0.0, 0.0, 0.1, 1.0), bands=("r",)).max()
    x, y = image_positions(lens, source.beta_x_arcsec, source.beta_y_arcsec)
    mu = np.abs(magnification(lens, x, y))
    for image, *places in zip(images, x, y, mu, strict=True):
        for at_x, at_y, strength in zip(*places, strict=True):
            if strength > 0.5:
                row, column = round(at_y / 0.262 + 50), round(at_x / 0.262 + 50)
                around = image[row - 1 : row + 2, column - 1 : column + 2]
                assert around.max() > 0.4 * unlensed
