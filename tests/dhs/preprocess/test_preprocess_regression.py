"""Existing scripts get the same numbers as before; the retraining plan relies on this."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnorm
from dhs import constants
from dhs.preprocess import center_crop, preprocess_stack
from dhs.transforms import AugmentConfig, random_augment
from dhs.utils import (
    azimuthal_median_profile,
    center_slices,
    default_annulus_radii,
    normalize_outer_annulus,
    radial_mask,
    radial_profile_model,
    radial_rmap,
    robust_median_mad,
)
from fastnorm import LEGACY_ANNULUS, Annulus
from fastnorm.checksums import EXPECTED_CHECKSUMS, checksum, synthetic_cutout
from tests import SHARED

LEGACY, CORRECTED = ((annulus.r_in, annulus.r_out) for annulus in EXPECTED_CHECKSUMS)
Image = NDArray[Any]


@pytest.fixture
def cutout() -> Image:
    return synthetic_cutout()


@pytest.fixture
def no_legacy_warning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastnorm.AnnulusWarning)
        yield


def corrected(image: Image, mode: str = "raw_robust", **options: Any) -> Image:
    r_in, r_out = CORRECTED
    return preprocess_stack(
        image, mode, crop=False, annulus_r_in=r_in, annulus_r_out=r_out, **options
    )


def by_hand(band: Image, r_in: float, r_out: float) -> Image:
    """Normalise a band by the definition, with NumPy functions only."""
    rows, columns = np.indices(band.shape)
    radius = np.sqrt((rows - band.shape[0] // 2) ** 2.0 + (columns - band.shape[1] // 2) ** 2.0)
    values = band[(radius >= r_in) & (radius < r_out)]
    median = np.nanmedian(values)
    scale = np.float32(float(np.nanmedian(np.abs(values - median))) + 1e-8)
    normalized: Image = (band - median) / scale
    return normalized


@pytest.mark.usefixtures("no_legacy_warning")
@pytest.mark.parametrize("radii", [LEGACY, CORRECTED])
def test_raw_robust_no_crop_checksum(cutout: Image, radii: tuple[float, float]) -> None:
    out = preprocess_stack(
        cutout, "raw_robust", crop=False, annulus_r_in=radii[0], annulus_r_out=radii[1]
    )
    assert checksum(out) == EXPECTED_CHECKSUMS[Annulus(*radii)]


@pytest.mark.usefixtures("no_legacy_warning")
def test_default_annulus_is_the_legacy_one(cutout: Image) -> None:
    assert (
        checksum(preprocess_stack(cutout, "raw_robust", crop=False))
        == EXPECTED_CHECKSUMS[LEGACY_ANNULUS]
    )


def test_checksums_are_of_the_stated_definition(cutout: Image) -> None:
    out = np.stack([np.clip(by_hand(band, *CORRECTED), -10, 10) for band in cutout])
    assert checksum(out) == EXPECTED_CHECKSUMS[Annulus(*CORRECTED)]


def test_shape_and_dtype_are_kept(cutout: Image) -> None:
    out = corrected(cutout)
    assert out.shape == (3, 101, 101)
    assert out.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ">f4", np.int32])
def test_any_input_dtype_becomes_float32(cutout: Image, dtype: Any) -> None:
    converted = (100 * cutout).astype(dtype)
    out = corrected(converted)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, corrected(converted.astype(np.float32)))


def test_same_input_same_bytes(cutout: Image) -> None:
    assert corrected(cutout).tobytes() == corrected(cutout.copy()).tobytes()


def test_input_is_not_modified(cutout: Image) -> None:
    cutout[0, 3, 3] = np.nan
    before = cutout.tobytes()
    corrected(cutout)
    corrected(cutout, "residual_radial_profile")
    assert cutout.tobytes() == before


def test_bands_are_independent(cutout: Image) -> None:
    whole = corrected(cutout)
    cutout[0] *= 7
    np.testing.assert_array_equal(corrected(cutout)[1:], whole[1:])


def test_clip_range(cutout: Image) -> None:
    assert corrected(cutout).max() == 10
    narrow = corrected(cutout, clip_range=2.0)
    assert (narrow.min(), narrow.max()) == (-2, 2)
    np.testing.assert_array_equal(narrow, np.clip(corrected(cutout), -2, 2))


@pytest.mark.parametrize("clip_range", [0.0, -1.0, np.nan])
def test_clip_range_must_be_positive(cutout: Image, clip_range: float) -> None:
    with pytest.raises(ValueError, match=f"clip_range={clip_range}"):
        corrected(cutout, clip_range=clip_range)


def test_light_nan_counts_as_zero(cutout: Image) -> None:
    cutout[1, 10:12, 40:60] = np.nan
    zeroed = np.where(np.isnan(cutout), np.float32(0), cutout)
    np.testing.assert_array_equal(corrected(cutout), corrected(zeroed))


def test_heavy_nan_gives_finite_values(cutout: Image) -> None:
    cutout[:, :90] = np.nan
    out = corrected(cutout)
    assert np.isfinite(out).all()
    # Most of the annulus is 0, so median and MAD are 0 and any light is clipped.
    assert set(np.unique(out[:, 90:])) <= {-10, 10}
    assert (out[:, :90] == 0).all()


def test_a_band_of_nan_becomes_zero(cutout: Image) -> None:
    cutout[2] = np.nan
    assert (corrected(cutout)[2] == 0).all()


def test_infinite_pixels_do_not_spread(cutout: Image) -> None:
    cutout[0, 50, 50] = np.inf
    out = corrected(cutout)
    assert out[0, 50, 50] == 10
    assert np.isfinite(out).all()


def test_annulus_of_the_result_has_median_zero_and_mad_one(cutout: Image) -> None:
    out = corrected(cutout, clip_range=1000.0)
    for band in out:
        median, mad = robust_median_mad(band[radial_mask(101, 101, *CORRECTED)])
        assert abs(median) < 1e-6
        assert abs(mad - 1) < 1e-6


def test_crop_is_central_64_with_the_legacy_annulus(cutout: Image) -> None:
    out = preprocess_stack(cutout, "raw_robust")
    assert out.shape == (3, 64, 64)
    stamp = cutout[:, 18:82, 18:82]
    expected = np.stack([np.clip(by_hand(band, 20, 32), -10, 10) for band in stamp])
    np.testing.assert_array_equal(out, expected)


@pytest.mark.usefixtures("no_legacy_warning")
@pytest.mark.parametrize("size", [0, -1])
def test_crop_sizes_that_mean_no_crop(cutout: Image, size: int) -> None:
    out = preprocess_stack(cutout, "raw_robust", crop=True, crop_size=size)
    assert checksum(out) == EXPECTED_CHECKSUMS[LEGACY_ANNULUS]


def test_center_crop_of_minus_one_is_the_whole_image(cutout: Image) -> None:
    assert center_crop(cutout, -1).tobytes() == cutout.tobytes()
    for size in (0, -2):
        with pytest.raises(ValueError, match=rf"target_size={size} .*1 to 101, or -1"):
            center_crop(cutout, size)
    with pytest.raises(ValueError, match="crop_size=-2 is not allowed"):
        preprocess_stack(cutout, "raw_robust", crop_size=-2)


def test_crop_larger_than_the_image_raises(cutout: Image) -> None:
    with pytest.raises(ValueError, match=r"target_size=102 does not fit an image of 101 x 101"):
        preprocess_stack(cutout, "raw_robust", crop_size=102)


@pytest.mark.parametrize("size", [63, 64, 101])
def test_center_crop_offset(size: int) -> None:
    image = np.arange(101 * 101).reshape(101, 101)
    start = (101 - size) // 2
    np.testing.assert_array_equal(
        center_crop(image, size), image[start : start + size, start : start + size]
    )


@pytest.mark.parametrize("radii", [(20.0, None), (None, 32.0)])
def test_one_radius_alone_raises(cutout: Image, radii: tuple[float | None, float | None]) -> None:
    with pytest.raises(ValueError, match="give both radii"):
        preprocess_stack(
            cutout, "raw_robust", crop=False, annulus_r_in=radii[0], annulus_r_out=radii[1]
        )


def test_unknown_mode_raises(cutout: Image) -> None:
    with pytest.raises(ValueError, match=r"mode='asinh' is not known.*raw_robust"):
        corrected(cutout, "asinh")


def test_image_of_two_dimensions_raises(cutout: Image) -> None:
    with pytest.raises(ValueError, match=r"img3 has shape \(101, 101\)"):
        corrected(cutout[0])


def test_residual_mode_subtracts_the_profile_of_the_normalised_band(cutout: Image) -> None:
    out = corrected(cutout, "residual_radial_profile")
    for band, result in zip(cutout, out, strict=True):
        normalized = by_hand(band, *CORRECTED)
        rows, columns = np.indices(band.shape)
        ring = np.minimum(np.floor(np.hypot(rows - 50, columns - 50)), 31).astype(int)
        inside = np.hypot(rows - 50, columns - 50) < 32
        model = np.array([np.median(normalized[inside & (ring == k)]) for k in range(32)])
        expected = np.clip(normalized - model.astype(np.float32)[ring], -10, 10)
        np.testing.assert_array_equal(result, expected)


def test_residual_mode_ends_without_nan(cutout: Image) -> None:
    cutout[0, 50, 50] = np.inf
    cutout[1, 20:30] = np.nan
    out = corrected(cutout, "residual_radial_profile")
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 10


def test_azimuthal_profile_propagates_nan_and_fills_empty_rings() -> None:
    image = np.ones((21, 21))
    image[10, 13] = np.nan
    profile = azimuthal_median_profile(image)
    assert profile.dtype == np.float32
    assert np.isnan(profile[3])
    assert (profile[[0, 1, 2, 4, 10]] == 1).all()
    assert (profile[15:] == 0).all()


def test_radial_profile_model_paints_rings() -> None:
    radius = radial_rmap(101, 101)
    model = radial_profile_model(np.floor(radius))
    np.testing.assert_array_equal(model, np.minimum(np.floor(radius), 31).astype(np.float32))


@pytest.mark.parametrize(
    ("size", "expected"), [(101, (32.5, 45.0)), (64, (20.8, 28.8)), (256, (83.2, 115.2))]
)
def test_default_annulus_radii(size: int, expected: tuple[float, float]) -> None:
    assert default_annulus_radii(size, size) == pytest.approx(expected, rel=1e-15)
    assert default_annulus_radii(size, size + 40) == default_annulus_radii(size, size)


@pytest.mark.parametrize(("radii", "fraction"), [(LEGACY, 0.199), (CORRECTED, 0.064)])
def test_light_of_an_exponential_disc_in_the_annulus(
    radii: tuple[float, float], fraction: float
) -> None:
    light = np.exp(-radial_rmap(101, 101) / 8.0)
    share = light[radial_mask(101, 101, *radii)].sum() / light.sum()
    assert round(float(share), 3) == fraction


@pytest.mark.parametrize(("radii", "pixels"), [(LEGACY, 1960), (CORRECTED, 3036)])
def test_radial_mask_counts(radii: tuple[float, float], pixels: int) -> None:
    assert radial_mask(101, 101, *radii).sum() == pixels


def test_legacy_annulus_warns_at_101_and_names_both() -> None:
    image = np.random.default_rng(0).standard_normal((101, 101))
    with pytest.warns(fastnorm.AnnulusWarning, match=r"\(20.0, 32.0\).*\(32.5, 45.0\)") as caught:
        normalize_outer_annulus(image)
    assert caught[0].filename == __file__


def test_legacy_annulus_is_silent_at_64(cutout: Image) -> None:
    preprocess_stack(cutout, "raw_robust")
    normalize_outer_annulus(cutout[:, :64, :64])


def test_robust_median_mad_of_known_values() -> None:
    assert robust_median_mad(np.array([1.0, 2, 3, 4, np.nan])) == (2.5, 1.0 + 1e-8)
    assert robust_median_mad([5, 5, 5]) == (5.0, 1e-8)
    assert robust_median_mad(np.full(4, np.nan)) == (0.0, 1e-8)
    assert all(isinstance(value, float) for value in robust_median_mad(np.ones(3, np.float32)))


@pytest.mark.parametrize("size", [64, 101])
def test_center_slices(size: int) -> None:
    rows, columns = center_slices(size, size, constants.CORE_BOX)
    assert rows == columns
    assert (rows.start, rows.stop) == (size // 2 - 5, size // 2 + 5)


def test_constants() -> None:
    assert (constants.STAMP_SIZE, constants.CUTOUT_SIZE) == (64, 101)
    assert constants.BANDS == ("g", "r", "z")
    assert (constants.CORE_BOX, constants.CORE_RADIUS, constants.SEED_DEFAULT) == (10, 5, 1337)
    assert (constants.PIXEL_SCALE, constants.AB_ZEROPOINT_MAG) == (0.262, 22.5)


def test_real_cutouts_equal_the_definition_by_hand() -> None:
    folder = SHARED / "data" / "dr10_cutouts"
    if not folder.is_dir():
        pytest.skip("no real cutouts at ../shared/data/dr10_cutouts")
    paths = sorted(folder.glob("*.npz"))
    assert len(paths) == 4
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            bands = np.moveaxis(data["cutout"], -1, 0)
        clean = np.where(np.isnan(bands), np.float32(0), bands)
        expected = np.stack([np.clip(by_hand(band, *CORRECTED), -10, 10) for band in clean])
        assert corrected(bands).tobytes() == expected.tobytes()


def test_augmentation_draws_in_the_stated_order(cutout: Image) -> None:
    seen = set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        flips = rng.random() < 0.5, rng.random() < 0.5
        turns = int(rng.integers(0, 4))
        expected = cutout[..., ::-1] if flips[0] else cutout
        expected = expected[..., ::-1, :] if flips[1] else expected
        expected = np.rot90(expected, turns, axes=(-2, -1))
        np.testing.assert_array_equal(random_augment(cutout, seed, AugmentConfig()), expected)
        seen.add((*flips, turns))
    assert len(seen) == 16


def test_augmentation_flags_skip_their_draws(cutout: Image) -> None:
    config = AugmentConfig(hflip=False, vflip=True, rot90=False)
    for seed in range(20):
        flipped = np.random.default_rng(seed).random() < 0.5
        expected = cutout[:, ::-1] if flipped else cutout
        np.testing.assert_array_equal(random_augment(cutout, seed, config), expected)
    nothing = AugmentConfig(hflip=False, vflip=False, rot90=False)
    out = random_augment(cutout, 0, nothing)
    np.testing.assert_array_equal(out, cutout)
    assert not np.shares_memory(out, cutout)


def test_core_dropout(cutout: Image) -> None:
    config = AugmentConfig(False, False, False, core_dropout_prob=1.0)
    out = random_augment(cutout, 3, config)
    core = radial_rmap(101, 101) < 5.0
    assert (out[:, core] == 0).all()
    np.testing.assert_array_equal(out[:, ~core], cutout[:, ~core])


def test_azimuthal_shuffle_permutes_rings_alike_in_all_bands(cutout: Image) -> None:
    config = AugmentConfig(False, False, False, az_shuffle_prob=1.0)
    numbered = np.broadcast_to(np.arange(101.0 * 101).reshape(1, 101, 101), (3, 101, 101))
    out = random_augment(numbered, 3, config)
    radius = radial_rmap(101, 101)
    np.testing.assert_array_equal(out[0], out[1])
    np.testing.assert_array_equal(out[:, radius >= 32], numbered[:, radius >= 32])
    for k in range(32):
        ring = (radius >= k) & (radius < k + 1)
        np.testing.assert_array_equal(np.sort(out[0][ring]), np.sort(numbered[0][ring]))
    assert out[0, 50, 50] == numbered[0, 50, 50]
    assert (out != numbered).mean() > 0.2
    np.testing.assert_array_equal(out, random_augment(numbered, 3, config))
