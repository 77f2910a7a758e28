"""FITS of the Legacy Surveys: the mask of INVVAR and MASKBITS, units, and normalised files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import median_absolute_deviation
from astropy.wcs import WCS
from numpy.typing import NDArray
from typer.testing import CliRunner

from fastnorm.cli import app
from fastnorm.fits_output import normalize_file
from fastnorm.io import Cutout, CutoutError, read_cutouts
from fastnorm.maskbits import RELEASES, MaskBits
from tests.fits_cases import (
    BITS,
    COLUMN,
    DEC,
    RA,
    ROW,
    SIDE,
    UNSEEN,
    expected_mask,
    legacy_units,
    save_legacy,
    sky,
)


def read(path: Path, mask_bits: str = "dr10") -> Cutout:
    (cutout,) = read_cutouts(path, mask_bits=MaskBits.parse(mask_bits))
    return cutout


def refusal(path: Path) -> str:
    with pytest.raises(CutoutError) as caught:
        list(read_cutouts(path))
    return caught.value.reason


def normalised_by_astropy(
    pixels: NDArray[np.float32], bad: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Mean and spread of what is good between 32.5 and 45 pixels from the centre."""
    y, x = np.indices(pixels.shape[1:]) - SIDE // 2
    radius = np.hypot(y, x)
    ring = (radius >= 32.5) & (radius < 45)
    result = []
    for plane, mask in zip(pixels, bad, strict=True):
        good = plane[ring & ~mask]
        scale = np.float32(np.float64(median_absolute_deviation(good)) + 1e-8)
        result.append((plane - np.median(good)) / scale)
    return np.stack(result)


def test_the_mask_is_that_of_the_survey(tmp_path: Path) -> None:
    cutout = read(save_legacy(tmp_path / "a.fits"))
    assert cutout.mask is not None
    assert cutout.mask.dtype == bool
    assert np.array_equal(cutout.mask, expected_mask())
    assert (cutout.ra, cutout.dec) == (RA, DEC)


def test_units_as_the_cutout_service_names_them(tmp_path: Path) -> None:
    units = legacy_units()
    for unit, kind in zip(units, ("IMAGE", "INVVAR", "MASKBITS"), strict=True):
        unit.header.pop("EXTNAME", None)
        unit.header["IMAGETYP"] = kind
    units.writeto(tmp_path / "a.fits")
    mask = read(tmp_path / "a.fits").mask
    assert mask is not None
    assert np.array_equal(mask, expected_mask())
    normalize_file(tmp_path / "a.fits", tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits") as out:
        scale = np.array([out[0].header[f"SCALE{k}"] for k in (1, 2, 3)])[:, None, None]
        np.testing.assert_allclose(out[1].data / scale**2, units[1].data, rtol=1e-6)
        assert np.array_equal(out[2].data, units[2].data)
        assert np.array_equal(out["MASK"].data, mask)


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
    with pytest.raises(ValueError, match=r"MASKBITS of dr9 have no 'SATUR_I'; allowed are NPRIM"):
        MaskBits.parse("dr9:SATUR_I")
    with pytest.raises(ValueError, match="release='dr7' is not known; allowed are dr8, dr9, dr10"):
        MaskBits.parse("dr7")
    with pytest.raises(ValueError, match="dtype float64; allowed are integers"):
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
    assert "has the bands 'gri'" in refusal(save_legacy(tmp_path / "b.fits", bands="gri"))


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


@pytest.mark.parametrize("unit", ["Jy", "adu", "mgy", "nanomaggy / arcsec2"])
def test_other_units_are_refused(tmp_path: Path, unit: str) -> None:
    units = legacy_units()
    units[0].header["BUNIT"] = unit
    units.writeto(tmp_path / "a.fits")
    assert f"is in {unit!r} (BUNIT); allowed is nanomaggy" in refusal(tmp_path / "a.fits")


@pytest.mark.parametrize("unit", ["nanomaggy", "nmgy", "NANOMAGGIES", ""])
def test_names_of_the_unit(tmp_path: Path, unit: str) -> None:
    units = legacy_units()
    units[0].header["BUNIT"] = unit
    units.writeto(tmp_path / "a.fits")
    assert read(tmp_path / "a.fits").pixels.shape == (3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("INVVAR", (3, 50, 101), "INVVAR has shape (3, 50, 101), its image allows (3, 101, 101)"),
        ("MASKBITS", (3, 101, 101), "its image allows (101, 101) and (1, 101, 101)"),
    ],
)
def test_what_does_not_fit_the_image(
    tmp_path: Path, name: str, shape: tuple[int, ...], said: str
) -> None:
    units = legacy_units()
    units[name].data = np.zeros(shape, units[name].data.dtype)
    units.writeto(tmp_path / "a.fits")
    assert said in refusal(tmp_path / "a.fits")


def test_in_and_out_nothing_is_lost(tmp_path: Path) -> None:
    units = legacy_units()
    table = fits.BinTableHDU.from_columns([fits.Column("ccd", "10A", array=["N4", "S7"])])
    table.name = "CCDS"
    units.append(table)
    units.writeto(tmp_path / "a.fits")
    normalize_file(tmp_path / "a.fits", tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits", checksum=True) as out:
        assert [unit.name for unit in out] == ["PRIMARY", "INVVAR", "MASKBITS", "CCDS", "MASK"]
        image, mask = out[0].data, expected_mask()
        assert np.array_equal(image, normalised_by_astropy(units[0].data, mask))
        assert np.array_equal(out["MASK"].data, mask)
        assert np.array_equal(out["MASKBITS"].data, units["MASKBITS"].data)
        assert out["CCDS"].data["ccd"].tolist() == ["N4", "S7"]
        header = out[0].header
        for card in units[0].header.cards:
            assert header[card.keyword] == card.value
            assert header.comments[card.keyword] == card.comment
        for x, y in ((0, 0), (50, 50), (3, 97)):
            there = WCS(header).celestial.pixel_to_world(x, y)
            assert there.separation(sky().pixel_to_world(x, y)).arcsec < 1e-9
        assert (header["ANNRIN"], header["ANNROUT"]) == (32.5, 45.0)
        assert header["BUNIT"] == ""
        scale = np.array([header[f"SCALE{k}"] for k in (1, 2, 3)])[:, None, None]
        middle = np.array([header[f"MEDIAN{k}"] for k in (1, 2, 3)])[:, None, None]
        np.testing.assert_allclose(image * scale + middle, units[0].data, rtol=0, atol=1e-7)
        weights = units["INVVAR"].data
        np.testing.assert_allclose(out["INVVAR"].data / scale**2, weights, rtol=1e-6)
        assert np.array_equal(out["INVVAR"].data == 0, weights == 0)


def test_a_normalised_file_is_not_normalised_again(tmp_path: Path) -> None:
    normalize_file(save_legacy(tmp_path / "a.fits"), tmp_path / "out.fits")
    assert "is normalised already, with the annulus (32.5, 45.0)" in refusal(tmp_path / "out.fits")


def test_compressed_units(tmp_path: Path) -> None:
    image, invvar, maskbits = legacy_units()
    packed = [
        fits.CompImageHDU(
            unit.data, unit.header, name=name, compression_type="GZIP_2", quantize_level=0
        )
        for unit, name in ((image, "IMAGE"), (invvar, "INVVAR"), (maskbits, "MASKBITS"))
    ]
    fits.HDUList([fits.PrimaryHDU(), *packed]).writeto(tmp_path / "a.fits.fz")
    cutout = read(tmp_path / "a.fits.fz")
    assert cutout.mask is not None
    assert np.array_equal(cutout.mask, expected_mask())
    normalize_file(tmp_path / "a.fits.fz", tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits") as out:
        assert np.array_equal(out["IMAGE"].data, normalised_by_astropy(image.data, cutout.mask))
        assert np.array_equal(out["MASKBITS"].data, maskbits.data)


def test_the_input_is_not_replaced(tmp_path: Path) -> None:
    path = save_legacy(tmp_path / "a.fits")
    (tmp_path / "b.fits").symlink_to(path)
    with pytest.raises(ValueError, match=r"b\.fits' is what is read, and would be replaced"):
        normalize_file(path, tmp_path / "b.fits")


def test_the_command(tmp_path: Path) -> None:
    save_legacy(tmp_path / "a.fits", seed=1)
    save_legacy(tmp_path / "b.fits", seed=2)
    (tmp_path / "c.fits").write_bytes(b"no FITS")
    out = tmp_path / "out"
    command = ["normalize-fits", str(tmp_path), "--out", str(out), "--mask-bits", "dr9:GALAXY"]
    done = CliRunner().invoke(app, [*command, "--json", "--clip", "3"])
    assert done.exit_code == 1, done.output
    report = json.loads(done.stdout)
    assert (report["written"], report["mask_bits"]) == (2, "dr9:GALAXY")
    assert [item["path"] for item in report["rejected"]] == [str(tmp_path / "c.fits")]
    assert sorted(path.name for path in out.iterdir()) == ["a.fits", "b.fits"]
    with fits.open(out / "b.fits") as units:
        assert np.abs(units[0].data).max() == 3
        assert units["MASK"].data[0].sum() == 1
        assert units["MASK"].header["MASKBITS"] == "dr9:GALAXY"
    refused = CliRunner().invoke(app, [*command[:-1], "dr10:FOO"])
    assert refused.exit_code == 2
    assert "have no 'FOO'" in " ".join(refused.stderr.split())


def test_two_of_one_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save_legacy(tmp_path / folder / "a.fits")
    done = CliRunner().invoke(
        app, ["normalize-fits", str(tmp_path / "one"), str(tmp_path / "two"), "--out", "out"]
    )
    assert done.exit_code == 2
    assert "would both be written to out/a.fits" in " ".join(done.stderr.split())


def test_a_stack_of_files_is_normalised_with_their_masks(tmp_path: Path) -> None:
    save_legacy(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as units:
        units[0].writeto(tmp_path / "b.fits")
        pixels = units[0].data
    out = tmp_path / "stack.npy"
    files = [str(tmp_path / name) for name in ("a.fits", "b.fits")]
    done = CliRunner().invoke(app, ["normalize", *files, "--out", str(out), "--raw"])
    assert done.exit_code == 0, done.output
    stack = np.load(out)
    assert np.array_equal(stack[0], normalised_by_astropy(pixels, expected_mask()))
    assert np.array_equal(stack[1], normalised_by_astropy(pixels, np.zeros((3, 101, 101), bool)))
