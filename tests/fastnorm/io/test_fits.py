"""Tests of reading Legacy Surveys FITS: bands, units, and masks of INVVAR and MASKBITS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from fastnorm.io.maskbits import RELEASES, MaskBits
from tests.fastnorm.io.fits_cases import (
    BITS,
    COLUMN,
    DEC,
    RA,
    ROW,
    SIDE,
    UNSEEN,
    expected_mask,
    legacy_units,
    read,
    refusal,
    save_legacy,
)


def test_the_mask_is_that_of_the_survey(tmp_path: Path) -> None:
    cutout = read(save_legacy(tmp_path / "a.fits"))
    assert cutout.mask is not None
    assert cutout.mask.dtype == bool
    assert np.array_equal(cutout.mask, expected_mask())
    assert (cutout.ra, cutout.dec) == (RA, DEC)


def test_numbers_of_bits_are_those_of_the_page() -> None:
    assert {name: k for k, name in enumerate(RELEASES["dr10"])} == BITS
    for release in ("dr8", "dr9"):
        assert RELEASES[release] == tuple(list(BITS)[:14])


@pytest.mark.parametrize("name", [*BITS])
def test_a_bit_chosen_by_name(tmp_path: Path, name: str) -> None:
    mask = read(save_legacy(tmp_path / "a.fits"), f"dr10: {name.lower()}").mask
    assert mask is not None
    wanted = np.zeros(mask.shape, bool)
    band = "GRZI".find(name[-1]) if name.startswith(("SATUR", "ALLMASK")) else None
    if band is None:
        wanted[:, ROW, COLUMN + BITS[name]] = True
    elif band < 3:
        wanted[band, ROW, COLUMN + BITS[name]] = True
    wanted[1, UNSEEN] = True
    assert np.array_equal(mask, wanted)


def test_choices_of_bits() -> None:
    chosen = MaskBits.parse("DR9: medium, BRIGHT")
    assert str(chosen) == "dr9:BRIGHT,MEDIUM"
    assert MaskBits.parse(str(chosen)) == chosen
    assert MaskBits.parse("dr10") == MaskBits()
    assert MaskBits.parse("dr10:").names == ()
    with pytest.raises(ValueError, match=r"MASKBITS of dr9 has no 'SATUR_I'; .* from NPRIM"):
        MaskBits.parse("dr9:SATUR_I")
    with pytest.raises(ValueError, match=r"release='dr7' is not known; .* one of dr8, dr9, dr10"):
        MaskBits.parse("dr7")
    with pytest.raises(ValueError, match="dtype float64; expected integers"):
        MaskBits().mask(np.zeros((3, 3)))


def test_the_highest_bit_of_short_integers(tmp_path: Path) -> None:
    units = legacy_units()
    units["MASKBITS"].data = units["MASKBITS"].data.astype(np.int16)
    units.writeto(tmp_path / "a.fits")
    mask = read(tmp_path / "a.fits", "dr10:ALLMASK_I,BRIGHT").mask
    assert mask is not None
    assert np.flatnonzero(mask[0, ROW]).tolist() == [COLUMN + BITS["BRIGHT"]]


def test_maskbits_of_bytes(tmp_path: Path) -> None:
    units = legacy_units()
    units["MASKBITS"].data = np.clip(units["MASKBITS"].data, 0, 2).astype(np.uint8)
    units.writeto(tmp_path / "a.fits")
    mask = read(tmp_path / "a.fits").mask
    assert mask is not None
    assert np.flatnonzero(mask[2, ROW]).tolist() == [COLUMN + k for k in range(1, 16)]


def test_bands_are_taken_by_name(tmp_path: Path) -> None:
    path = save_legacy(tmp_path / "a.fits", bands="zgir")
    with fits.open(path) as units:
        planes = units[0].data[[1, 3, 0]]
    cutout = read(path)
    assert np.array_equal(cutout.pixels, planes)
    assert cutout.mask is not None
    assert np.array_equal(cutout.mask, expected_mask())
    assert "lists the bands 'gri'" in refusal(save_legacy(tmp_path / "b.fits", bands="gri"))


def test_an_inverse_variance_that_is_no_number_is_bad(tmp_path: Path) -> None:
    units = legacy_units()
    units["INVVAR"].data[2, 50, 50:53] = np.nan, -1, np.inf
    units.writeto(tmp_path / "a.fits")
    mask = read(tmp_path / "a.fits").mask
    assert mask is not None
    assert mask[2, 50, 50:53].tolist() == [True, True, False]


def test_a_file_without_masks_has_none(tmp_path: Path) -> None:
    legacy_units()[0].writeto(tmp_path / "a.fits")
    assert read(tmp_path / "a.fits").mask is None


@pytest.mark.parametrize(
    "unit", ["Jy", "adu", "mgy", "nanomaggy / arcsec2", "nanomaggies/pixels/s"]
)
def test_other_units_are_refused(tmp_path: Path, unit: str) -> None:
    units = legacy_units()
    units[0].header["BUNIT"] = unit
    units.writeto(tmp_path / "a.fits")
    assert f"is in {unit!r} (BUNIT); expected nanomaggy" in refusal(tmp_path / "a.fits")


@pytest.mark.parametrize(
    "unit",
    ["nanomaggy", "nmgy", "NANOMAGGIES", "nanomaggie", "nanomaggies/pixel", "nmgy / pix", ""],
)
def test_names_of_the_unit(tmp_path: Path, unit: str) -> None:
    units = legacy_units()
    units[0].header["BUNIT"] = unit
    units.writeto(tmp_path / "a.fits")
    assert read(tmp_path / "a.fits").pixels.shape == (3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("INVVAR", (3, 50, 101), "INVVAR has shape (3, 50, 101); to fit the image it must be"),
        ("MASKBITS", (3, 101, 101), "it must be (101, 101) or (1, 101, 101)"),
    ],
)
def test_what_does_not_fit_the_image(
    tmp_path: Path, name: str, shape: tuple[int, ...], said: str
) -> None:
    units = legacy_units()
    units[name].data = np.zeros(shape, units[name].data.dtype)
    units.writeto(tmp_path / "a.fits")
    assert said in refusal(tmp_path / "a.fits")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"BANDS": "gr"}, "has 3 planes, and its header lists the bands 'gr'"),
        ({"BANDS": "g,r,i"}, "the bands 'gri'; expected one band per plane"),
    ],
)
def test_bands_that_do_not_fit(tmp_path: Path, change: dict[str, str], said: str) -> None:
    units = legacy_units()
    units[0].header.update(change)
    units.writeto(tmp_path / "a.fits")
    assert said in refusal(tmp_path / "a.fits")


def test_weights_of_other_bands_are_refused(tmp_path: Path) -> None:
    units = legacy_units()
    units["INVVAR"].header["BANDS"] = "zrg"
    units.writeto(tmp_path / "a.fits")
    assert "INVVAR has the bands 'zrg', but the image has 'grz'" in refusal(tmp_path / "a.fits")


def test_one_band_per_file_says_how_to_stack(tmp_path: Path) -> None:
    fits.PrimaryHDU(legacy_units()[0].data[0]).writeto(tmp_path / "a.fits")
    assert "one band; expected g, r and z in one image" in refusal(tmp_path / "a.fits")


def test_a_header_that_was_edited_says_so(tmp_path: Path) -> None:
    content = save_legacy(tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(content.replace(b"1501p022", b"1501p023"))
    assert "a checksum in it does not match. If you changed it, run `fitscheck" in refusal(
        tmp_path / "a.fits"
    )
