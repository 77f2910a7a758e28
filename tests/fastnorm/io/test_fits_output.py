"""Tests of normalising FITS files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance
from astropy.wcs import WCS
from typer.testing import CliRunner

from fastnorm.annulus import Annulus
from fastnorm.cli import app
from fastnorm.io import CutoutError, CutoutWarning
from fastnorm.io.maskbits import MaskBits
from fastnorm.nddata.fits_output import normalize_file
from tests.fastnorm.io.fits_cases import (
    expected_mask,
    legacy_units,
    normalised_by_astropy,
    read,
    refusal,
    save_legacy,
    sky,
)
from tests.fastnorm.io.test_io import save_npz


def masked(path: Path, rows: slice, name: str = "MASKBITS", value: int = 2) -> Path:
    units = legacy_units()
    units[name].data[..., rows, :] = value
    units.writeto(path)
    return path


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
    assert "is already normalised, with the annulus (32.5, 45.0)" in refusal(tmp_path / "out.fits")


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
    with pytest.raises(ValueError, match=r"b\.fits' is the input and would be replaced"):
        normalize_file(path, tmp_path / "b.fits")


def test_the_command(tmp_path: Path) -> None:
    save_legacy(tmp_path / "a.fits", seed=1)
    save_legacy(tmp_path / "b.fits", seed=2)
    (tmp_path / "c.fits").write_bytes(b"no FITS")
    out = tmp_path / "out"
    save_npz(tmp_path / "d.npz", np.zeros((3, 40, 40), np.float32))
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
    for arguments, said in (
        ([*command[:-1], "dr10:FOO"], "has no 'FOO'"),
        ([*command[:-1], "BRIGHT,MEDIUM"], "has no release; write dr10:BRIGHT,MEDIUM"),
        ([*command, "--clip", "-1"], "clip=-1.0 is out of range"),
        (
            ["normalize-fits", str(out / "a.fits"), "--out", str(out)],
            "is an input and would be replaced",
        ),
    ):
        refused = CliRunner().invoke(app, arguments)
        assert refused.exit_code == 2
        assert said in " ".join(refused.stderr.split())
    again = CliRunner().invoke(app, [*command, "--json"])
    assert "already exists; use --overwrite" in json.loads(again.stdout)["rejected"][0]["reason"]
    assert json.loads(again.stdout)["written"] == 0
    again = CliRunner().invoke(app, [*command, "--json", "--overwrite", "--annulus", "20", "32"])
    assert json.loads(again.stdout)["written"] == 2
    assert again.stderr.count("warning: the annulus") == 1


def test_two_of_one_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save_legacy(tmp_path / folder / "a.fits")
    done = CliRunner().invoke(
        app, ["normalize-fits", str(tmp_path / "one"), str(tmp_path / "two"), "--out", "out"]
    )
    assert done.exit_code == 2
    assert "would both be written to out/a.fits" in " ".join(done.stderr.split())


def test_a_mask_that_covers_the_sky_is_refused(tmp_path: Path) -> None:
    path = masked(tmp_path / "a.fits", slice(None))
    said = "g: 0 of 3,036 pixels in the annulus (32.5, 45.0) are good; at least 100 are needed"
    assert said in refusal(path)
    with pytest.raises(CutoutError, match="omit it, or use fewer mask bits"):
        normalize_file(path, tmp_path / "out.fits", Annulus(20, 32))
    normalize_file(path, tmp_path / "out.fits", mask_bits=MaskBits.parse("dr10:GALAXY"))
    # The mask is checked for the given annulus: rows 30 to 70 cover most of this one.
    near = masked(tmp_path / "b.fits", slice(30, 71))
    assert read(near).mask is not None
    with pytest.raises(CutoutError, match=r"of 1,\d+ pixels in the annulus \(5.0, 20.5\)"):
        normalize_file(near, tmp_path / "c.fits", Annulus(5, 20.5))


def test_a_band_that_was_not_seen_stays_zero(tmp_path: Path) -> None:
    units = legacy_units()
    units[0].data[1], units["INVVAR"].data[1] = 0, 0
    units.writeto(tmp_path / "a.fits")
    normalize_file(tmp_path / "a.fits", tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits") as out:
        assert not out[0].data[1].any()
        assert out["MASK"].data[1].all()


def test_nan_are_bad_unless_they_count_as_zero(tmp_path: Path) -> None:
    units = legacy_units()
    units[0].data[0, :40] = np.nan
    units.writeto(tmp_path / "a.fits")
    normalize_file(tmp_path / "a.fits", tmp_path / "out.fits")
    bad = expected_mask()
    bad[0, :40] = True
    expected = normalised_by_astropy(units[0].data, bad)
    with fits.open(tmp_path / "out.fits") as out:
        assert np.array_equal(out[0].data, expected, equal_nan=True)
        assert np.array_equal(out["MASK"].data, bad)
    normalize_file(tmp_path / "a.fits", tmp_path / "zero.fits", nan_to_zero=True)
    with fits.open(tmp_path / "zero.fits") as out:
        filled = normalised_by_astropy(np.nan_to_num(units[0].data), expected_mask())
        assert np.array_equal(out[0].data, filled)


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ({"BANDS": "zrg"}, "zrg"),
        ({"BANDS": "z,r,g"}, "zrg"),
        ({"BANDS": "GRZ"}, "grz"),
        ({"BAND0": "z", "BAND1": "r", "BAND2": "g"}, "zrg"),
        ({"BANDS": "griz", "BAND0": "g", "BAND1": "r", "BAND2": "i", "BAND3": "z"}, "griz"),
    ],
)
def test_ways_to_name_bands(tmp_path: Path, header: dict[str, str], order: str) -> None:
    units = legacy_units(bands=order)
    for unit in units[:2]:
        del unit.header["BANDS"]
        unit.header.update(header)
    flags = np.zeros(units[0].data.shape, np.uint8)
    flags[order.index("z"), 40] = 1
    units.append(fits.ImageHDU(flags, name="MASK"))
    units.writeto(tmp_path / "a.fits")
    wanted = expected_mask()
    wanted[2, 40] = True
    cutout, planes = read(tmp_path / "a.fits"), [order.index(band) for band in "grz"]
    assert np.array_equal(cutout.pixels, units[0].data[planes])
    assert cutout.mask is not None
    assert np.array_equal(cutout.mask, wanted)
    normalize_file(tmp_path / "a.fits", tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits") as out:
        assert np.array_equal(out[0].data, normalised_by_astropy(cutout.pixels, wanted))
        assert np.array_equal(out["MASK"].data, wanted)
        said = {name: out[0].header.get(name) for name in ("BANDS", "BAND0", "BAND2", "BAND3")}
    has_numbers = "BAND0" in header
    assert said == {
        "BANDS": "grz",
        "BAND0": "g" if has_numbers else None,
        "BAND2": "z" if has_numbers else None,
        "BAND3": None,
    }


def test_images_among_which_none_is_named(tmp_path: Path) -> None:
    image, invvar, _ = legacy_units()
    other = fits.ImageHDU(invvar.data, image.header, name="WHT")
    fits.HDUList([image, other]).writeto(tmp_path / "a.fits")
    said = "has 2 images of the same shape, 'PRIMARY', 'WHT'; set EXTNAME to IMAGE"
    assert said in refusal(tmp_path / "a.fits")
    image.name = "SCI"
    fits.HDUList([image, other]).writeto(tmp_path / "b.fits")
    assert np.array_equal(read(tmp_path / "b.fits").pixels, image.data)
    with pytest.raises(CutoutError, match="has an HDU WHT, which would be wrong next to"):
        normalize_file(tmp_path / "b.fits", tmp_path / "out.fits")


def test_uncertainties_of_astropy_are_scaled_along(tmp_path: Path) -> None:
    image, invvar, _ = legacy_units()
    given = CCDData(image.data, unit="nmgy", uncertainty=InverseVariance(invvar.data))
    given.write(tmp_path / "a.fits")
    normalize_file(tmp_path / "a.fits", tmp_path / "out.fits")
    done = CCDData.read(tmp_path / "out.fits")
    assert done.unit == ""
    scale = np.array([done.meta[f"SCALE{k}"] for k in (1, 2, 3)])[:, None, None]
    np.testing.assert_allclose(done.uncertainty.array, invvar.data * scale**2, rtol=1e-6)


def test_tables_with_a_heap_and_odd_cards_are_kept(tmp_path: Path) -> None:
    units = legacy_units()
    lists = np.array([[1, 2], [3, 4, 5]], object)
    units.append(fits.BinTableHDU.from_columns([fits.Column("ids", "PJ()", array=lists)]))
    units[0].header["OBSERVER"] = "somebody"
    units.writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    odd = content.replace(b"OBSERVER= 'somebody'", b"my key  =  'abc'    ")
    assert odd != content
    (tmp_path / "b.fits").write_bytes(odd)
    normalize_file(tmp_path / "a.fits", tmp_path / "out-a.fits")
    with pytest.warns(CutoutWarning, match="Illegal keyword name 'MY KEY'"):
        normalize_file(tmp_path / "b.fits", tmp_path / "out-b.fits")
    for name in ("a", "b"):
        with fits.open(tmp_path / f"out-{name}.fits") as out:
            assert [row.tolist() for row in out[3].data["ids"]] == [[1, 2], [3, 4, 5]]
    assert b"'abc" in (tmp_path / "out-b.fits").read_bytes()


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
