"""PSFs, convolution with them, and the noise of an arc."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from astropy.convolution import convolve_fft
from numpy.typing import NDArray
from scipy.signal import fftconvolve

import fastnorm
from dhs.injection import PSF, LensParams, Noise, PSFNormalisationWarning, SourceParams, inject
from dhs.injection.streams import Purpose, generator
from tests.dhs.injection.injection_draws import draws
from tests.fastnorm.nasty import as_array

BANDS = ("g", "r", "z")
# Kernels of random pixels have their peak anywhere.
OFF_CENTRE = pytest.mark.filterwarnings("ignore::dhs.injection.PSFCentreWarning")


def width(image: NDArray[np.float64], scale: float) -> float:
    """Measure the FWHM of a finely sampled PSF along a row through its centre."""
    half = image[image.shape[0] // 2, image.shape[1] // 2 :]
    beyond = int(np.argmax(half < half[0] / 2))
    between = (half[beyond - 1] - half[0] / 2) / (half[beyond - 1] - half[beyond])
    return float(2 * scale * (beyond - 1 + between))


def normalised(shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    images = np.random.default_rng(seed).uniform(0, 1, shape)
    images /= images.sum(axis=(-2, -1), keepdims=True)
    return images


@pytest.mark.parametrize("make", [PSF.gaussian, PSF.moffat])
def test_full_width_at_half_maximum(make: Callable[..., PSF]) -> None:
    psf = make([0.8, 1.3, 2.0], pixel_scale=0.02, side=401)
    assert psf.images.shape == (3, 3, 401, 401)
    for images, in_r in zip(psf.images, (0.8, 1.3, 2.0), strict=True):
        widths = [width(image, 0.02) for image in images]
        np.testing.assert_allclose(widths, np.array([1.07, 1.0, 0.94]) * in_r, rtol=1e-3)
    given = make(1.3, fwhm_g_arcsec=1.9, fwhm_z_arcsec=0.7, pixel_scale=0.02, side=401)
    widths = [width(image, 0.02) for image in given.images[0]]
    np.testing.assert_allclose(widths, [1.9, 1.3, 0.7], rtol=1e-3)


def test_shape_of_the_profiles() -> None:
    distance = np.hypot(*np.indices((63, 63)) - 31.0) * 0.262
    sigma = 1.3 / np.sqrt(8 * np.log(2))
    gaussian = np.exp(-(distance**2) / (2 * sigma**2))
    np.testing.assert_allclose(
        PSF.gaussian(1.3).images[0, 1], gaussian / gaussian.sum(), atol=1e-15
    )
    for beta, psf in ((3.5, PSF.moffat(1.3)), (2.0, PSF.moffat(1.3, beta=2.0))):
        alpha = 1.3 / (2 * np.sqrt(2 ** (1 / beta) - 1))
        moffat = (1 + (distance / alpha) ** 2) ** -beta
        np.testing.assert_allclose(psf.images[0, 1], moffat / moffat.sum(), atol=1e-15)


def test_width_on_an_image() -> None:
    """A point of light becomes the PSF, with its second moments and its width."""
    image = np.zeros((1, 1, 101, 101), np.float32)
    image[0, 0, 50, 50] = 7.0
    for psf in (PSF.gaussian(1.3), PSF.moffat(1.3)):
        seen = psf.convolve(image)
        np.testing.assert_allclose(seen[0, :, 19:82, 19:82], 7 * psf.images[0], atol=1e-6)
    seen = PSF.gaussian(1.3).convolve(image).astype(np.float64)[0]
    column = (np.arange(101) - 50) * 0.262
    variance = (seen * column**2).sum(axis=(1, 2)) / seen.sum(axis=(1, 2))
    expected = np.array([1.07, 1.0, 0.94]) * 1.3 / np.sqrt(8 * np.log(2))
    np.testing.assert_allclose(np.sqrt(variance), expected, rtol=1e-4)


@pytest.mark.parametrize("psf", [PSF.gaussian(1.3), PSF.moffat(2.0)])
def test_flux_is_kept_away_from_edges(psf: PSF) -> None:
    images = np.zeros((4, 3, 101, 101), np.float32)
    images[:, :, 40:61, 40:61] = np.random.default_rng(1).uniform(0, 1, (4, 3, 21, 21))
    before, after = (part.sum(axis=(2, 3), dtype=float) for part in (images, psf.convolve(images)))
    # Half a PSF is 31 pixels, less than the 40 pixels to the edge.
    np.testing.assert_allclose(after, before, rtol=1e-5)


@pytest.mark.parametrize("side", [31, 63])
@pytest.mark.parametrize("shape", [(101, 101), (32, 32), (40, 77)])
def test_nothing_wraps_around(shape: tuple[int, int], side: int) -> None:
    psf = PSF.moffat(2.0, side=side)
    rows, columns = np.indices(shape)
    for row, column in ((0, 0), (0, shape[1] - 1), (shape[0] - 1, 0), (shape[0] - 1, shape[1] - 1)):
        image = np.zeros((1, 3, *shape), np.float32)
        image[..., row, column] = 1.0
        seen = psf.convolve(image)[0, 1]
        assert seen[row, column] == seen.max() > 0.01
        distance = np.maximum(abs(rows - row), abs(columns - column))
        assert np.abs(seen[distance > side // 2]).max(initial=0.0) < 1e-8
        expected = fftconvolve(image[0, 1].astype(float), psf.images[0, 1])
        middle = slice(side // 2, -(side // 2))
        np.testing.assert_allclose(seen, expected[middle, middle], atol=1e-8)


@OFF_CENTRE
@pytest.mark.parametrize("kernel", [(63, 63), (1, 1), (5, 9), (7, 1)])
@pytest.mark.parametrize("shape", [(101, 101), (64, 64), (33, 50)])
def test_convolution_equals_others(shape: tuple[int, int], kernel: tuple[int, int]) -> None:
    """Asymmetric kernels would reveal a flip."""
    images = np.random.default_rng(2).normal(0, 1, (2, 3, *shape)).astype(np.float32)
    psf = PSF(normalised((2, 3, *kernel), 3))
    seen = psf.convolve(images)
    assert seen.shape == images.shape
    assert seen.dtype == np.float32
    assert seen.flags.c_contiguous
    for i in range(2):
        for k in range(3):
            wide = images[i, k].astype(np.float64)
            by_scipy = fftconvolve(wide, psf.images[i, k], mode="same")
            by_astropy = convolve_fft(wide, psf.images[i, k], boundary="fill", fill_value=0.0)
            np.testing.assert_allclose(by_scipy, by_astropy, atol=1e-12)
            np.testing.assert_allclose(seen[i, k], by_scipy, atol=2e-6)


@OFF_CENTRE
def test_pixelised_kernels() -> None:
    images = np.random.default_rng(4).uniform(0, 1, (3, 1, 31, 31)).astype(np.float32)
    one, bands, stamps = (
        normalised((9, 9), 5),
        normalised((3, 9, 9), 6),
        normalised((3, 3, 9, 9), 7),
    )
    seen = PSF(one).convolve(images)
    assert seen.shape == (3, 3, 31, 31)
    np.testing.assert_array_equal(seen[:, 0], seen[:, 2])
    np.testing.assert_array_equal(seen, PSF(np.stack([one] * 3)).convolve(images))
    for k in range(3):
        np.testing.assert_array_equal(
            PSF(bands).convolve(images)[:, k], PSF(bands[k]).convolve(images)[:, 0]
        )
    for i in range(3):
        np.testing.assert_array_equal(
            PSF(stamps).convolve(images)[i], PSF(stamps[i]).convolve(images[i : i + 1])[0]
        )
    assert (len(PSF(one)), len(PSF(bands)), len(PSF(stamps))) == (1, 1, 3)


@OFF_CENTRE
def test_normalisation_is_done_and_said() -> None:
    images = normalised((3, 9, 9), 8)
    with pytest.warns(PSFNormalisationWarning, match=r"sums to 1\.5 instead of 1;") as caught:
        psf = PSF(1.5 * images)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(psf.images[0], images, rtol=1e-14)
    with pytest.warns(PSFNormalisationWarning, match=r"sums to 0\.75 instead of 1;"):
        PSF(0.75 * images)
    PSF(images.astype(np.float32))  # rounding errors do not warn


BAD_PSFS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "negative": (lambda: PSF(-normalised((5, 5), 9)), ValueError, r"psf\[0, 0\]=-.*\[0, inf\)"),
    "NaN": (lambda: PSF([[0, 0, np.nan]]), ValueError, r"psf\[0, 2\]=nan"),
    "even rows": (lambda: PSF(np.ones((4, 5))), ValueError, r"\(4, 5\).*odd"),
    "even columns": (lambda: PSF(np.ones((3, 5, 4))), ValueError, r"\(3, 5, 4\).*odd"),
    "dark": (lambda: PSF(np.zeros((3, 5, 5))), ValueError, r"psf\[0, 0\] sums to 0"),
    "1-d": (lambda: PSF(np.ones(5)), ValueError, r"psf has shape \(5,\)"),
    "bands": (lambda: PSF(np.ones((2, 5, 5))), ValueError, r"psf has shape \(2, 5, 5\)"),
    "text": (lambda: PSF("narrow"), TypeError, "psf has dtype"),
    "width 0": (lambda: PSF.gaussian(0.0), ValueError, r"fwhm_r_arcsec=0 .*\[0.01, 20\]"),
    "width": (lambda: PSF.moffat([1, 21.0]), ValueError, r"fwhm_r_arcsec\[1\]=21 .*\[0.01, 20\]"),
    "width NaN": (lambda: PSF.moffat(np.nan), ValueError, r"fwhm_r_arcsec=nan"),
    "width g": (lambda: PSF.moffat(1.3, fwhm_g_arcsec=-1), ValueError, "fwhm_g_arcsec=-1 "),
    "width z": (lambda: PSF.gaussian(1.3, fwhm_z_arcsec=0), ValueError, "fwhm_z_arcsec=0 "),
    "widths": (
        lambda: PSF.gaussian([1.0, 1.1], fwhm_z_arcsec=[1.0, 1.1, 1.2]),
        ValueError,
        r"FWHM in g, r, z have shapes \(2,\), \(2,\), \(3,\)",
    ),
    "beta": (lambda: PSF.moffat(1.3, beta=1.0), ValueError, r"beta=1 .*\(1, 100\]"),
    "scale": (lambda: PSF.gaussian(1.3, pixel_scale=0), ValueError, r"pixel_scale=0 "),
    "even side": (lambda: PSF.gaussian(1.3, side=64), ValueError, "side=64 .*odd"),
    "side 0": (lambda: PSF.gaussian(1.3, side=0), ValueError, r"side=0 .*\[1, 1023\]"),
    "too large": (
        lambda: PSF(normalised((3, 11, 9), 10)).convolve(np.ones((1, 3, 5, 50), np.float32)),
        ValueError,
        "the PSF is 11 x 9 pixels, larger than the padded stamp, 9 x 99",
    ),
    "too wide": (
        lambda: PSF(normalised((3, 3, 11), 10)).convolve(np.ones((1, 3, 50, 5), np.float32)),
        ValueError,
        "the PSF is 3 x 11 pixels, larger than the padded stamp, 99 x 9",
    ),
    "number": (
        lambda: PSF.gaussian([1.0, 1.1]).convolve(np.ones((3, 3, 40, 40), np.float32)),
        ValueError,
        "psf has 2 PSFs for 3 images; give 1 or 3",
    ),
}


@OFF_CENTRE
@pytest.mark.parametrize("name", BAD_PSFS)
@pytest.mark.filterwarnings("ignore::dhs.injection.PSFNormalisationWarning")
def test_bad_psfs_are_refused(name: str) -> None:
    call, error, words = BAD_PSFS[name]
    with pytest.raises(error, match=words):
        call()


@OFF_CENTRE
def test_the_largest_psf_is_taken() -> None:
    image = np.random.default_rng(11).uniform(0, 1, (1, 3, 5, 8)).astype(np.float32)
    psf = PSF(normalised((3, 9, 15), 12))
    expected = fftconvolve(image[0, 1].astype(float), psf.images[0, 1])[4:9, 7:15]
    np.testing.assert_allclose(psf.convolve(image)[0, 1], expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(101, 101), (31, 45)])
@pytest.mark.parametrize("number", ["one", "each"])
def test_convolution_does_not_depend_on_the_batch(number: str, shape: tuple[int, int]) -> None:
    images = np.random.default_rng(13).normal(0, 1, (23, 1, *shape)).astype(np.float32)
    widths = np.full(23, 1.3) if number == "one" else np.linspace(0.8, 2.0, 23)

    def seen(rows: Any) -> NDArray[np.float32]:
        some = widths[rows]
        return PSF.moffat(some[0] if number == "one" else some, side=61).convolve(images[rows])

    fastnorm.set_num_threads(1)
    expected = seen(slice(0, 23))
    for threads in (2, 5):
        fastnorm.set_num_threads(threads)
        np.testing.assert_array_equal(seen(slice(0, 23)), expected)
    order = np.random.default_rng(14).permutation(23)
    np.testing.assert_array_equal(seen(order), expected[order])
    for start, stop in ((0, 1), (1, 3), (3, 8), (8, 15), (15, 23)):
        np.testing.assert_array_equal(seen(slice(start, stop)), expected[start:stop])


ARC = np.full((40, 3, 48, 48), 2.0, np.float32) * np.array([1, 2, 5], np.float32)[:, None, None]
SIGMA = np.tile([0.1, 0.2, 0.4], (40, 1))
IDS = np.arange(40) * 7


def test_no_noise_unless_asked_for() -> None:
    assert Noise().apply(ARC, SIGMA, 1, IDS) is ARC
    lens, source = draws(3, 40)
    hosts = np.random.default_rng(41).normal(0, 0.1, (3, 3, 64, 64)).astype(np.float32)
    for noise in (None, Noise()):
        found = inject(hosts, lens, source, PSF.moffat(1.3), noise)
        np.testing.assert_array_equal(found.stamps, hosts + found.arc)
        assert not found.table[["poisson_noise", "texture_noise"]].to_numpy().any()


@pytest.mark.parametrize("gain", [30.0, [20.0, 50.0, 80.0]])
def test_poisson_noise_has_its_variance(gain: Any) -> None:
    noisy = Noise(gain).apply(ARC, SIGMA, 1, IDS).astype(np.float64)
    per_band = np.broadcast_to(gain, 3)
    mean, variance = noisy.mean(axis=(0, 2, 3)), noisy.var(axis=(0, 2, 3))
    # With 92,160 numbers per band, the variance is known to 0.5%.
    np.testing.assert_allclose(mean, [2, 4, 10], rtol=5e-3)
    np.testing.assert_allclose(variance, np.array([2, 4, 10]) / per_band, rtol=0.03)
    electrons = noisy * per_band[:, None, None]
    np.testing.assert_allclose(electrons, np.round(electrons), atol=1e-3)
    assert (Noise(gain).apply(0 * ARC, SIGMA, 1, IDS) == 0).all()


def test_gain_per_injection() -> None:
    gain = np.repeat([[5.0], [500.0]], [20, 20], axis=0) * [1.0, 2.0, 3.0]
    noisy = Noise(gain).apply(ARC, SIGMA, 1, IDS).astype(np.float64)
    for rows in (slice(0, 20), slice(20, 40)):
        variance = noisy[rows].var(axis=(0, 2, 3))
        np.testing.assert_allclose(variance, np.array([2, 4, 10]) / gain[rows][0], rtol=0.04)


def test_gain_from_inverse_variance() -> None:
    noise = Noise.from_inverse_variance([4.0, 5.0, 6.0], [0.5, 2.0, 3.0], texture=0.3)
    np.testing.assert_allclose(as_array(noise.gain), [[2.0, 10.0, 18.0]])
    np.testing.assert_allclose(as_array(noise.texture), [[0.3, 0.3, 0.3]])
    each = Noise.from_inverse_variance(np.full((5, 3), 4.0), [0.5, 2.0, 3.0])
    np.testing.assert_allclose(as_array(each.gain), np.tile([2.0, 8.0, 12.0], (5, 1)))
    # By definition, the variance of the sky's electrons is the variance of the image.
    sky, inverse_variance = 3.0, 25.0
    gain = as_array(Noise.from_inverse_variance(inverse_variance, sky).gain)
    np.testing.assert_allclose(sky / gain, 1 / inverse_variance)


def test_texture_has_its_width() -> None:
    noisy = Noise(texture=[0.5, 1.0, 2.0]).apply(ARC, SIGMA, 1, IDS)
    added = noisy.astype(np.float64) - ARC
    np.testing.assert_allclose(added.std(axis=(0, 2, 3)), [0.05, 0.2, 0.8], rtol=0.01)
    assert np.abs(added.mean(axis=(0, 2, 3)) / [0.05, 0.2, 0.8]).max() < 0.015
    correlation = np.corrcoef(added.transpose(1, 0, 2, 3).reshape(3, -1))
    assert np.abs(correlation - np.eye(3)).max() < 0.02
    neighbours = np.corrcoef(added[:, 0, :, 1:].ravel(), added[:, 0, :, :-1].ravel())
    assert abs(neighbours[0, 1]) < 0.02


def test_noise_of_an_injection_is_its_own() -> None:
    gain = np.random.default_rng(42).uniform(10, 50, (40, 3))
    noise = Noise(gain, texture=0.5)
    expected = noise.apply(ARC, SIGMA, 1, IDS)
    order = np.random.default_rng(43).permutation(40)
    shuffled = Noise(gain[order], 0.5).apply(ARC[order], SIGMA[order], 1, IDS[order])
    np.testing.assert_array_equal(shuffled, expected[order])
    for i in (0, 17, 39):
        alone = Noise(gain[i], 0.5).apply(ARC[i : i + 1], SIGMA[i : i + 1], 1, IDS[i : i + 1])
        np.testing.assert_array_equal(alone[0], expected[i])
    assert (noise.apply(ARC, SIGMA, 2, IDS) != expected).mean() > 0.9
    assert (noise.apply(ARC, SIGMA, 1, IDS + 1) != expected).mean() > 0.9
    np.testing.assert_array_equal(ARC.mean(axis=(0, 2, 3)), [2, 4, 10])
    # Photon noise and texture have separate streams, so each is the same without the other.
    both = expected.astype(np.float64) - ARC
    photons = Noise(gain).apply(ARC, SIGMA, 1, IDS).astype(np.float64) - ARC
    texture = Noise(texture=0.5).apply(ARC, SIGMA, 1, IDS).astype(np.float64) - ARC
    np.testing.assert_allclose(both, photons + texture, atol=1e-5)
    numbers = generator(1, int(IDS[3]), Purpose.TEXTURE).standard_normal(ARC.shape[1:])
    np.testing.assert_allclose(texture[3], 0.5 * SIGMA[3, :, None, None] * numbers, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Noise(0.0), r"gain=0 .*\(0, inf\)"),
        (lambda: Noise([1.0, -2.0, 3.0]), r"gain\[1\]=-2 .*\(0, inf\)"),
        (lambda: Noise([[1.0, 2.0, np.nan]]), r"gain\[0, 2\]=nan"),
        (lambda: Noise([1.0, 2.0]), r"gain has shape \(2,\)"),
        (lambda: Noise(np.ones((2, 2, 3))), r"gain has shape \(2, 2, 3\)"),
        (lambda: Noise(texture=-0.1), r"texture=-0.1 .*\[0, inf\)"),
        (lambda: Noise(texture=np.inf), r"texture=inf"),
        (lambda: Noise(texture=np.ones(4)), r"texture has shape \(4,\)"),
        (lambda: Noise.from_inverse_variance([1, 1, 0], 1.0), r"inverse_variance\[2\]=0 .*\(0, "),
        (lambda: Noise.from_inverse_variance(1.0, [0.0, 1, 1]), r"sky_nmgy_per_pixel\[0\]=0 "),
        (lambda: Noise(np.ones((2, 3))).apply(ARC, SIGMA, 1, IDS), "gain has values for 2 .* 40"),
        (
            lambda: Noise(None, np.ones((2, 3))).apply(ARC, SIGMA, 1, IDS),
            "texture has values for 2",
        ),
    ],
)
def test_bad_noise_is_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_noise_is_recorded() -> None:
    hosts = np.random.default_rng(44).normal(0, 0.1, (2, 3, 64, 64)).astype(np.float32)
    arguments = (LensParams([1.0, 1.2]), SourceParams(0.2, 0.1, 0.3, 1.0), PSF.moffat(1.3))
    for noise, flags in ((Noise(50.0), (True, False)), (Noise(texture=0.5), (False, True))):
        found = inject(hosts, *arguments, noise, seed=3)
        for name, flag in zip(("poisson_noise", "texture_noise"), flags, strict=True):
            assert (found.table[name] == flag).all()
        for name, value in (("gain_z", noise.gain), ("texture_g", noise.texture)):
            expected = np.nan if value is None else np.ravel(value)[0]
            np.testing.assert_array_equal(found.table[name], [expected] * 2)
        sigma = found.table[[f"host_sigma_{band}" for band in BANDS]].to_numpy()
        noisy = noise.apply(found.arc, sigma, 3, np.arange(2))
        np.testing.assert_array_equal(found.stamps, hosts + noisy)
        assert (found.arc == inject(hosts, *arguments).arc).all()
