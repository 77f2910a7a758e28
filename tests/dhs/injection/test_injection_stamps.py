"""Images of galaxies as sources: their flux, their frame, and their lensed images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dhs.injection import GalaxyStamps, LensParams, SourceParams, render
from tests.dhs.injection.injection_draws import draws

SCALE = 0.262
Image = NDArray[np.float64]


def picture(source: SourceParams, side: int = 201, scale: float = 0.03) -> Image:
    """Render a finely sampled Sersic profile in the middle, with its major axis along +x."""
    fields = {"beta_x_arcsec": 0.0, "beta_y_arcsec": 0.0, "phi_rad": 0.0}
    centred = SourceParams(**(source.arrays() | fields))
    image: Image = render(None, centred, (side, side), scale, bands=("r",))[0, 0].astype(np.float64)
    return image


def show(stamps: GalaxyStamps, lens: LensParams | None, source: SourceParams, **o: Any) -> Any:
    return render(lens, source, o.pop("shape", (61, 61)), stamps=stamps, **o)


@pytest.mark.parametrize("scale", [0.03, 0.131, 0.262, 0.5])
@pytest.mark.parametrize("phi", [0.0, 0.7, np.pi / 2])
def test_flux_is_kept_without_a_lens(phi: float, scale: float) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (4, 3, 13, 17))
    source = SourceParams(
        [0.0, 0.1, -1.3, 2.0], [0.0, 0.17, 0.4, -1.0], 0.3, 1.0, 1.0, phi, 2.0, 3, 5
    )
    out = show(GalaxyStamps(images, scale), None, source, shape=(81, 81))
    assert out.dtype == np.float32
    total = out.sum(axis=(2, 3), dtype=np.float64) / [2.0, 3.0, 5.0]
    # White noise is the worst case, because images are sampled, not integrated.
    np.testing.assert_allclose(total, 1, atol=1e-3)


def test_flux_is_kept_of_smooth_pictures() -> None:
    _, source = draws(8, 30)
    fine = np.stack([picture(one) for one in source])
    stamps = GalaxyStamps(np.stack([fine] * 3, axis=1), 0.03)
    total = show(stamps, None, source).sum(axis=(2, 3), dtype=np.float64)
    np.testing.assert_allclose(total, source.fluxes(), rtol=1e-4)


def test_lensed_pictures_equal_lensed_profiles() -> None:
    lens, source = draws(10, 31, re_arcsec_range=(0.3, 0.5), n_range=(0.5, 1.0))
    fine = np.stack([picture(one) for one in source])
    stamps = GalaxyStamps(np.stack([fine] * 3, axis=1), 0.03)
    images = show(stamps, lens, source, shape=(61, 61))
    expected = render(lens, source, (61, 61))
    error = np.abs(images - expected).max(axis=(2, 3)) / expected.max(axis=(2, 3))
    assert error.max() < 0.015
    flux, true_flux = (part.sum(axis=(2, 3), dtype=np.float64) for part in (images, expected))
    np.testing.assert_allclose(flux, true_flux, rtol=0.01)


def test_counter_images_close_to_the_lens() -> None:
    """The middle pixel shows the source next to its centre, although its centre shows nothing."""
    lens = LensParams(1.5)
    source = SourceParams([1.3, 1.4, 1.45], 0.0, 0.15, 1.0)
    image = show(GalaxyStamps(picture(source[0], 41), 0.03), lens, source)
    expected = render(lens, source, (61, 61))
    assert (expected[:, :, 30, 30] > 0.01).all()
    np.testing.assert_allclose(image[:, :, 30, 30], expected[:, :, 30, 30], rtol=0.1)


def test_the_frame_of_a_picture() -> None:
    along_x = np.zeros((9, 21))
    along_x[4, 3:] = 1.0  # the light is off-centre to the right
    stamps = GalaxyStamps(along_x, SCALE)
    angles = [0.0, np.pi / 2, np.pi, 3 * np.pi / 2]
    images = show(stamps, None, SourceParams(0.0, 0.0, 1.0, 1.0, 1.0, angles))[:, 1].astype(float)
    row, column = np.indices((61, 61)) - 30.0
    centre = np.stack([(images * part).sum(axis=(1, 2)) for part in (column, row)], axis=1)
    np.testing.assert_allclose(centre, [(1.5, 0), (0, 1.5), (-1.5, 0), (0, -1.5)], atol=2e-2)
    wide = np.stack([(images * part**2).sum(axis=(1, 2)) for part in (column, row)], axis=1)
    assert (wide[[0, 2], 0] > 20 * wide[[0, 2], 1]).all()
    assert (wide[[1, 3], 1] > 20 * wide[[1, 3], 0]).all()
    # y increases with the row.
    upper = np.zeros((9, 9))
    upper[8, 4] = 1.0
    image = show(GalaxyStamps(upper, SCALE), None, SourceParams(0.0, 0.0, 1.0, 1.0))[0, 0]
    assert np.argmax(image) == 34 * 61 + 30


def test_a_picture_on_the_grid_is_shown_as_it_is() -> None:
    """An image with the stamp's scale and pixel centres appears as it is, smoothed over a pixel."""
    point = np.zeros((5, 5))
    point[2, 2] = 1.0
    shifted = SourceParams(2 * SCALE, -SCALE, 1.0, 1.0)
    image = show(GalaxyStamps(point, SCALE), None, shifted, oversample=8)[0, 0]
    share = np.array([1 / 8, 3 / 4, 1 / 8])
    np.testing.assert_allclose(image[28:31, 31:34], np.outer(share, share), atol=2e-3)
    np.testing.assert_allclose(image.sum(), 1, rtol=1e-5)


def test_pictures_per_band_and_per_injection() -> None:
    rng = np.random.default_rng(32)
    images = rng.uniform(0, 1, (5, 3, 9, 9))
    lens, source = draws(5, 33)
    whole = show(GalaxyStamps(images, 0.1), lens, source)
    for i in range(5):
        alone = show(GalaxyStamps(images[i], 0.1), lens[i], source[i])
        np.testing.assert_array_equal(alone[0], whole[i])
    for k in range(3):
        of_a_band = show(GalaxyStamps(images[0, k], 0.1), lens[0], source[0])
        np.testing.assert_array_equal(of_a_band[0, k], whole[0, k])
        assert (of_a_band[0, k] != whole[0, k - 1]).any()
    assert len(GalaxyStamps(images, 0.1)) == 5
    assert len(GalaxyStamps(images[0, 0], 0.1)) == 1
    np.testing.assert_array_equal(
        show(GalaxyStamps(images, 0.1), lens, source, bands=("z", "g")), whole[:, [2, 0]]
    )
    one = show(GalaxyStamps(images[0, 0], 0.1), lens, source)
    np.testing.assert_array_equal(
        show(GalaxyStamps(np.stack([images[0, 0]] * 3), 0.1), lens, source), one
    )
    # Only the shape of an image matters, not its flux.
    scaled = show(GalaxyStamps(images * 1e6, 0.1), lens, source)
    np.testing.assert_allclose(scaled, whole, rtol=1e-6, atol=1e-12)


@pytest.mark.usefixtures("poison")
def test_output_is_fully_written() -> None:
    lens, source = draws(3, 34)
    far = SourceParams(**(source.arrays() | {"beta_x_arcsec": 100.0}))
    stamps = GalaxyStamps(np.ones((5, 5)), 0.1)
    for one in (source, far):
        out = np.full((3, 3, 61, 61), np.nan, np.float32)
        images = show(stamps, lens, one)
        assert show(stamps, lens, one, out=out) is out
        np.testing.assert_array_equal(out, images)
        assert np.isfinite(out).all()
    assert (out == 0).all()


def spoiled(index: tuple[int, ...], value: float) -> Image:
    images = np.ones((2, 3, 5, 5))
    images[index] = value
    return images


DARK = np.ones((2, 3, 5, 5))
DARK[1, 2] = -1
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "NaN": (
        lambda: GalaxyStamps(spoiled((1, 2, 0, 3), np.nan), 0.1),
        ValueError,
        r"images\[1, 2, 0, 3\]=nan .*finite",
    ),
    "infinite": (
        lambda: GalaxyStamps(spoiled((0, 1, 4, 4), np.inf), 0.1),
        ValueError,
        r"images\[0, 1, 4, 4\]=inf",
    ),
    "dark": (lambda: GalaxyStamps(DARK, 0.1), ValueError, r"images\[1, 2\] sums to -25"),
    "1-d": (lambda: GalaxyStamps(np.ones(5), 0.1), ValueError, r"shape \(5,\)"),
    "5-d": (lambda: GalaxyStamps(np.ones((1, 1, 3, 5, 5)), 0.1), ValueError, "shape"),
    "two bands": (lambda: GalaxyStamps(np.ones((2, 5, 5)), 0.1), ValueError, r"\(3, h, w\)"),
    "text": (lambda: GalaxyStamps("galaxy", 0.1), TypeError, "images has dtype"),
    "scale 0": (lambda: GalaxyStamps(DARK[0], 0.0), ValueError, r"pixel_scale=0 .*\(0, 100\]"),
    "scale NaN": (lambda: GalaxyStamps(DARK[0], np.nan), ValueError, "pixel_scale=nan"),
    "number": (
        lambda: show(GalaxyStamps(np.ones((2, 3, 5, 5)), 0.1), *draws(3, 35)),
        ValueError,
        "stamps has 2 images for 3 injections; give 1 or 3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_pictures_are_refused(name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()
