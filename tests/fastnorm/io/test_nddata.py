"""Tests of normalising and reading `astropy.nddata`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    NDDataArray,
    NDUncertainty,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)

from fastnorm import nddata, normalize_outer_annulus
from fastnorm.io.cutout import CutoutError
from tests.fastnorm.io.fits_cases import (
    SIDE,
    expected_mask,
    legacy_units,
    normalised_by_astropy,
    save_legacy,
    sky,
)

NMGY = units.Unit("nmgy")
PLANE = np.random.default_rng(0).normal(0.1, 0.02, (SIDE, SIDE)).astype(np.float32)
BAD = np.random.default_rng(1).random((SIDE, SIDE)) < 0.1


def ccd(**options: Any) -> CCDData:
    return CCDData(PLANE, **{"unit": NMGY, "mask": BAD, "wcs": sky()} | options)


def test_an_image_keeps_its_class_mask_wcs_and_meta() -> None:
    given = ccd(meta={"OBJECT": "a lens"})
    done = nddata.normalize(given)
    assert type(done) is CCDData
    assert np.array_equal(done.data, normalised_by_astropy(PLANE[None], BAD[None])[0])
    assert np.array_equal(done.mask, BAD)
    assert done.unit == units.dimensionless_unscaled
    assert done.wcs.pixel_to_world(3, 4).separation(sky().pixel_to_world(3, 4)).arcsec == 0
    assert (done.meta["OBJECT"], done.meta["ANNRIN"], done.meta["ANNROUT"]) == ("a lens", 32.5, 45)
    assert done.meta["NORMCLIP"] == "none"
    # The input is not modified.
    assert np.array_equal(given.data, PLANE)
    assert dict(given.meta) == {"OBJECT": "a lens"}


def test_a_masked_pixel_leaves_the_statistics_and_not_the_image() -> None:
    spoilt, bad = PLANE.copy(), np.zeros(PLANE.shape, bool)
    bad[10, 30:70] = True
    spoilt[bad] = 1e6
    done = nddata.normalize(NDData(spoilt, mask=bad, unit=NMGY))
    clean = np.where(bad, np.nan, PLANE)
    expected = nddata.normalize(NDData(clean, unit=NMGY)).data
    assert np.array_equal(done.data[~bad], expected[~bad])
    assert (done.data[bad] > 1e6).all()


def test_bands_are_normalised_each_on_its_own() -> None:
    stack = np.stack([PLANE, 2 * PLANE + 1, -PLANE])
    with pytest.warns(match="inside the galaxy"):
        done = nddata.normalize(NDData(stack, mask=BAD, unit=NMGY), 20, 32, clip=3)
    for k, plane in enumerate(stack):
        with pytest.warns(match="inside the galaxy"):
            one = nddata.normalize(NDData(plane, mask=BAD, unit=NMGY), 20, 32, clip=3)
        assert np.array_equal(done.data[k], one.data)
        assert done.meta[f"SCALE{k + 1}"] == one.meta["SCALE1"]
    assert done.mask.shape == stack.shape
    assert done.meta["NORMCLIP"] == 3.0


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_an_uncertainty_is_scaled_along(kind: type[NDUncertainty]) -> None:
    sigma = np.full(PLANE.shape, 0.02)
    given = kind(StdDevUncertainty(sigma, unit=NMGY).represent_as(kind).array)
    done = nddata.normalize(ccd(uncertainty=given))
    assert type(done.uncertainty) is kind
    found = done.uncertainty.represent_as(StdDevUncertainty).array
    np.testing.assert_allclose(found, sigma / done.meta["SCALE1"], rtol=1e-12)


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_the_unit_and_type_of_an_uncertainty_count(kind: type[NDUncertainty]) -> None:
    plain = kind(np.full(PLANE.shape, 4))
    power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[kind]
    factor = (units.Unit("mgy") ** power).to(NMGY**power)
    large = kind(np.full(PLANE.shape, 4 / factor), unit=units.Unit("mgy") ** power)
    found = [nddata.normalize(ccd(uncertainty=given)).uncertainty for given in (plain, large)]
    expected = 4.0 * nddata.normalize(ccd()).meta["SCALE1"] ** -power
    for uncertainty in found:
        np.testing.assert_allclose(uncertainty.array, expected, rtol=1e-12)
        assert uncertainty.unit == units.dimensionless_unscaled


def test_pixels_without_weight_are_bad() -> None:
    weights = np.ones(PLANE.shape)
    weights[:30] = 0
    done = nddata.normalize(ccd(mask=None, uncertainty=InverseVariance(weights)))
    assert np.array_equal(done.mask, weights == 0)
    assert np.array_equal(done.data, normalised_by_astropy(PLANE[None], done.mask[None])[0])


def test_masks_of_other_types() -> None:
    expected = nddata.normalize(ccd()).data
    done = nddata.normalize(NDData(PLANE, unit=NMGY, mask=BAD.astype(np.uint8)))
    assert np.array_equal(done.data, expected)
    for mask, error, said in (
        (BAD * 4, TypeError, "mask of dtype int64; expected bool, or 0 and 1"),
        (BAD[1:], ValueError, r"mask of shape \(100, 101\), .* the images, \(101, 101\)"),
        (np.ones_like(BAD), ValueError, "image 0: 0 of 3,036 pixels in the annulus"),
    ):
        with pytest.raises(error, match=said):
            nddata.normalize(NDData(PLANE, unit=NMGY, mask=mask))


@pytest.mark.parametrize("kind", ["SIP", "TPV", "LINEAR"])
def test_any_wcs_is_read(tmp_path: Path, kind: str) -> None:
    units_of_file = legacy_units()
    header = units_of_file[0].header
    if kind == "SIP":
        header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2})
        header.update({"B_ORDER": 2, "A_2_0": 1e-9, "B_0_2": 1e-9})
    elif kind == "TPV":
        header.update({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV2_1": 1.0})
    else:
        header.update({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"})
    units_of_file.writeto(tmp_path / "a.fits")
    data = nddata.read(tmp_path / "a.fits")
    if kind == "LINEAR":
        assert data.wcs is None
    else:
        there = data.wcs.pixel_to_world(50, 50)
        assert there.separation(sky().pixel_to_world(50, 50)).arcsec < 1e-3


def test_bands_are_in_the_order_that_the_header_says(tmp_path: Path) -> None:
    data = nddata.read(save_legacy(tmp_path / "a.fits", bands="zrg"))
    assert np.array_equal(data.data, legacy_units(bands="zrg")[0].data[::-1])
    assert data.meta["BANDS"] == "grz"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"unit": "adu"}, ValueError, "has the unit 'adu'; expected nanomaggy"),
        ({"unit": "mgy"}, ValueError, "has the unit 'mgy'; expected nanomaggy"),
        ({"uncertainty": UnknownUncertainty(PLANE)}, TypeError, "of type UnknownUncertainty"),
        ({"meta": {"ANNRIN": 20.0, "ANNROUT": 32.0}}, ValueError, r"already .* \(20.0, 32.0\)"),
    ],
)
def test_refusals(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        nddata.normalize(ccd(**options))


def test_refusals_of_arguments() -> None:
    with pytest.raises(ValueError, match="has no unit; expected nanomaggy"):
        nddata.normalize(NDData(PLANE))
    with pytest.raises(TypeError, match="data is of type ndarray; expected an NDData or CCDData"):
        nddata.normalize(PLANE)
    with pytest.raises(ValueError, match="r_out=None: give both radii, or neither"):
        nddata.normalize(ccd(), 32.5)
    with pytest.raises(ValueError, match=r"has shape \(101,\)"):
        nddata.normalize(NDData(PLANE[0], unit=NMGY))


def test_a_cutout_is_read_and_normalised(tmp_path: Path) -> None:
    given = nddata.read(save_legacy(tmp_path / "a.fits"))
    image, invvar, _ = legacy_units()
    assert np.array_equal(given.data, image.data)
    assert np.array_equal(given.mask, expected_mask())
    assert np.array_equal(given.uncertainty.array, invvar.data)
    assert given.unit == NMGY
    assert given.meta["BRICK"] == "1501p022"
    assert given.wcs.pixel_to_world(9, 8).separation(sky().pixel_to_world(9, 8)).arcsec < 1e-9
    done = nddata.normalize(given)
    assert np.array_equal(done.data, normalised_by_astropy(image.data, expected_mask()))
    assert given.meta.get("ANNRIN") is None
    assert done.meta["ANNRIN"] == 32.5


def test_what_is_normalised_can_be_written_by_astropy(tmp_path: Path) -> None:
    nddata.normalize(ccd(meta={"BUNIT": "nanomaggy"})).write(tmp_path / "a.fits")
    again = CCDData.read(tmp_path / "a.fits")
    assert np.array_equal(again.mask, BAD)
    assert (again.meta["ANNRIN"], again.unit) == (32.5, units.dimensionless_unscaled)


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(b"no FITS")
    with pytest.raises(CutoutError, match=r"a\.fits: is damaged"):
        nddata.read(tmp_path / "a.fits")


def test_given_radii_need_no_default_annulus() -> None:
    # A default annulus of an image that is one row high would be empty.
    image = np.random.default_rng(0).normal(size=(3, 1, 500)).astype(np.float32)
    out = nddata.normalize(NDData(image, unit=NMGY), 10, 200)
    expected = normalize_outer_annulus(image, 10, 200)
    np.testing.assert_array_equal(out.data, expected)
    with pytest.raises(ValueError, match="r_in=10 and r_out=None: give both radii"):
        nddata.normalize(NDData(image, unit=NMGY), 10)


def test_flags_are_kept() -> None:
    flags = np.arange(PLANE.size).reshape(PLANE.shape)
    done = nddata.normalize(NDDataArray(PLANE, unit=NMGY, flags=flags))
    assert isinstance(done, NDDataArray)
    assert np.array_equal(done.flags, flags)


def test_nanomaggies_per_pixel_are_nanomaggies() -> None:
    plain = nddata.normalize(ccd(uncertainty=StdDevUncertainty(np.abs(PLANE))))
    unit = NMGY / units.pix
    done = nddata.normalize(ccd(unit=unit, uncertainty=StdDevUncertainty(np.abs(PLANE))))
    assert np.array_equal(done.data, plain.data)
    assert np.array_equal(done.uncertainty.array, plain.uncertainty.array)
