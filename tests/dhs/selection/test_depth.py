"""Seeing and depth that ``dhs depth`` measures, against simulations of known noise and PSF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from astropy.io import fits
from astropy.modeling.models import Moffat2D
from astropy.stats import mad_std, sigma_clip
from numpy.typing import NDArray
from pyarrow import parquet
from scipy.ndimage import shift

from dhs.cli import app
from dhs.selection.config import GridConfig
from dhs.selection.depth import SeeingCard, psfdepth_of_invvar, psfdepth_of_sky, seeing_of_header
from dhs.selection.hosts import Hosts, depth_of_inverse_variance
from dhs.simulate.images import simulate_cutouts
from tests.command_line import invoke, message

SIDE, SCALE = 101, 0.262
WITHIN = 0.02


def point_source(fwhm: float, side: int = 63) -> NDArray[np.float64]:
    """Return a Moffat profile of astropy, of flux 1 in a box of the size that injections use."""
    alpha = 3.5
    gamma = fwhm / SCALE / (2 * np.sqrt(2 ** (1 / alpha) - 1))
    place = np.arange(side) - side // 2
    image = Moffat2D(1, 0, 0, gamma, alpha)(*np.meshgrid(place, place))
    psf: NDArray[np.float64] = image / image.sum()
    return psf


def magnitude(psfdepth: Any) -> Any:
    return depth_of_inverse_variance(np.asarray(psfdepth))


def forced_depth(images: NDArray[np.float64], psf: NDArray[np.float64], invvar: Any) -> float:
    """Return the 5-sigma depth from the scatter of fluxes fitted with the weights of pixels."""
    weights = psf * invvar
    flux = (images * weights).sum(axis=(1, 2)) / (psf * weights).sum()
    return 22.5 - 2.5 * float(np.log10(5 * flux.std()))


@pytest.mark.parametrize("fwhm", [0.9, 1.3, 1.8])
def test_invvar_gives_the_scatter_of_forced_photometry(fwhm: float) -> None:
    rng = np.random.default_rng(1)
    sigma = 0.005 * (1 + rng.random((63, 63)))
    sigma[30, 20:28] = np.inf
    is_seen = np.isfinite(sigma)
    invvar = np.where(is_seen, 1 / sigma**2, 0)
    psf = point_source(fwhm)
    noise = rng.standard_normal((8000, 63, 63)) * np.where(is_seen, sigma, 0)
    known = forced_depth(noise + 3 * psf, psf, invvar)
    assert magnitude(psfdepth_of_invvar(invvar, fwhm)) == pytest.approx(known, abs=WITHIN)


def test_depth_is_that_of_the_middle() -> None:
    invvar = np.zeros((SIDE, SIDE))
    invvar[: SIDE // 2 - 8] = 1e4
    edge = psfdepth_of_invvar(invvar, 1.3)
    assert edge < 0.01 * psfdepth_of_invvar(np.full((SIDE, SIDE), 1e4), 1.3)
    # An image smaller than the PSF loses only its wings.
    small = psfdepth_of_invvar(np.full((21, 21), 1e4), 1.3)
    assert magnitude(small) == pytest.approx(
        magnitude(psfdepth_of_invvar(np.full((SIDE, SIDE), 1e4), 1.3)), abs=0.01
    )
    assert psfdepth_of_invvar(np.full((SIDE, SIDE), np.nan), 1.3) == 0


def test_the_sky_of_a_simulated_survey_gives_its_depth_roughly() -> None:
    survey = simulate_cutouts(range(120), 5)
    errors, clipped = [], []
    annulus = np.hypot(*np.mgrid[-50:51, -50:51])
    for image, row in zip(survey.images[:, 1], survey.rows, strict=True):
        fwhm = row["psfsize_r"]
        found = psfdepth_of_sky(image, np.ones(image.shape, bool), fwhm)
        errors.append(magnitude(found) - magnitude(row["psfdepth_r"]))
        sky = image[(annulus >= 32.5) & (annulus < 45)]
        kept = sigma_clip(sky, 3, maxiters=10, stdfunc="mad_std", masked=False)
        sigma = mad_std(kept)
        clipped.append(magnitude((point_source(fwhm) ** 2).sum() / sigma**2) - magnitude(found))
    assert -0.06 < np.median(errors) < 0
    assert np.std(errors) < 0.08
    assert np.abs(clipped).max() < 0.005


def test_correlated_noise_looks_too_deep() -> None:
    rng = np.random.default_rng(3)
    images = np.array([shift(rng.normal(0, 0.005, (121, 121)), 0.5, order=1) for _ in range(600)])
    images = images[:, 10:111, 10:111]
    psf = point_source(1.3)
    inner = slice(SIDE // 2 - 31, SIDE // 2 + 32)
    known = forced_depth(images[:, inner, inner], psf, 1.0)
    is_good = np.ones((SIDE, SIDE), bool)
    found = [psfdepth_of_sky(image.astype(np.float32), is_good, 1.3) for image in images[:50]]
    # Four pixels are averaged, so a pixel has half of the noise; a source has nearly all of it.
    assert 0.7 < magnitude(np.median(found)) - known < 0.8


def header(**cards: Any) -> fits.Header:
    made = fits.Header()
    for name, card in cards.items():
        made[f"HIERARCH {name}" if len(name) > 8 else name] = card
    return made


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"SEEING": (1.2, "[arcsec] seeing")}, (1.2, "SEEING")),
        ({"FWHM": (5.0, "[pixel] median")}, (5 * SCALE, "FWHM")),
        ({"PSFSIZE_R": (1.1, "[arcsec]"), "SEEING": (9.0, "[arcsec]")}, (1.1, "PSFSIZE_R")),
    ],
)
def test_seeing_of_a_header(cards: dict[str, Any], expected: tuple[float, str]) -> None:
    fwhm, name = seeing_of_header(header(**cards))
    assert fwhm == pytest.approx(expected[0])
    assert name == expected[1]


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({}, "no card PSFSIZE_R or SEEING_R"),
        ({"SEEING": (1.2, "seeing in arcsec")}, "state it with --seeing-card SEEING=arcsec"),
        ({"SEEING": (1.2, "[mas] seeing")}, "does not begin its comment with the unit"),
        ({"SEEING": (0.0, "[arcsec] seeing")}, "is 0.0 arcsec; expected a width"),
        ({"SEEING": ("good", "[arcsec] seeing")}, "is 'good' arcsec"),
    ],
)
def test_no_seeing_is_guessed(cards: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        seeing_of_header(header(**cards))


def test_a_stated_card_is_read() -> None:
    card = SeeingCard.parse("DIQ=pixel")
    found = seeing_of_header(header(DIQ=4.0, SEEING=(1.0, "[arcsec]")), card)
    assert found == (4 * SCALE, "DIQ")
    with pytest.raises(ValueError, match="--seeing-card DIQ is not NAME=arcsec"):
        SeeingCard.parse("DIQ")


SIGMA = 0.006


def write_fits(path: Path, invvar: bool = True, **cards: Any) -> None:
    rng = np.random.default_rng(len(path.name))
    image = rng.normal(0, SIGMA, (3, SIDE, SIDE)).astype(np.float32)
    primary = fits.PrimaryHDU(image, header(**cards))
    weights = fits.ImageHDU(np.full(image.shape, SIGMA**-2, np.float32), name="INVVAR")
    fits.HDUList([primary, *([weights] if invvar else [])]).writeto(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cutouts = tmp_path / "cutouts"
    cutouts.mkdir()
    write_fits(cutouts / "a.fits", SEEING=(1.2, "[arcsec] FWHM"), RA=10.0, DEC=-5.0)
    write_fits(cutouts / "b.fits", False, FWHM=(5.0, "[pixel] FWHM"), RA=20.0, DEC=-5.0)
    write_fits(cutouts / "c.fits", SEEING=(1.2, "FWHM"), RA=30.0, DEC=-5.0)
    np.savez(cutouts / "d.npz", cutout=np.ones((SIDE, SIDE, 3), np.float32))
    (cutouts / "e.fits").write_bytes(b"SIMPLE")
    return tmp_path


def known(fwhm: float) -> float:
    return float((point_source(fwhm) ** 2).sum() / SIGMA**2)


def test_a_folder_is_measured_and_what_is_missing_is_said(folder: Path) -> None:
    out = folder / "table.parquet"
    result = invoke(app, "depth", folder / "cutouts", "--out", out)
    assert result.exit_code == 1
    assert "2 of 5 rows have a depth" in result.stdout
    assert "seeing: 3 missing, 1 header SEEING, 1 header FWHM" in result.stdout
    table = parquet.read_table(out).to_pandas()
    assert table["psfsize_r"].tolist()[:2] == pytest.approx([1.2, 5 * SCALE])
    assert table["psfdepth_r"][0] == pytest.approx(known(1.2), rel=0.01)
    assert magnitude(table["psfdepth_r"][1]) == pytest.approx(magnitude(known(1.31)), abs=0.1)
    assert table[["psfsize_r", "psfdepth_r"]][2:].isna().all(axis=None)
    origin = table["psfdepth_r_from"].tolist()
    assert origin[:2] == ["INVVAR", "sky noise"]
    assert all(text.startswith("missing: ") for text in origin[2:])
    assert "--seeing-card SEEING=arcsec" in origin[2]
    assert "the file has no FITS header" in origin[3]
    assert [Path(path).is_absolute() for path in table["cutout_path"]] == [True] * 5
    assert table["ra"].tolist()[:3] == [10, 20, 30]
    assert "need a column label" in message(result)
    for name in ("psfsize_r", "psfdepth_r"):
        assert parquet.read_schema(out).field(name).metadata is not None


def test_depth_with_an_assumed_seeing_leaves_the_seeing_empty(folder: Path) -> None:
    (folder / "cutouts" / "a.fits").unlink()
    (folder / "cutouts" / "b.fits").unlink()
    out = folder / "table.parquet"
    options = ("--out", out, "--psf-fwhm", 1.3, "--json")
    result = invoke(app, "depth", folder / "cutouts", *options)
    report = json.loads(result.stdout)
    where = "INVVAR at an assumed PSF FWHM of 1.3 arcsec"
    assert report["depth"] == {"missing": 2, where: 1}
    assert report["seeing"] == {"missing": 3}
    assert report["median_depth_mag"][where] == pytest.approx(magnitude(known(1.3)), abs=WITHIN)
    reasons = {Path(item["path"]).name: item["reason"] for item in report["rejected"]}
    assert "its sky has no noise" in reasons["d.npz"]
    # A column of missing values would forbid a constant.
    assert "psfsize_r" not in parquet.read_schema(out).names
    assert "hosts.psf_fwhm" in message(result)


def test_nothing_measured_writes_nothing(folder: Path) -> None:
    for name in "abc":
        (folder / "cutouts" / f"{name}.fits").unlink()
    for name in "pqrs":
        write_fits(folder / "cutouts" / f"{name}.fits")
    out = folder / "table.parquet"
    result = invoke(app, "depth", folder / "cutouts", "--out", out)
    assert result.exit_code == 1
    assert not out.exists()
    said = message(result)
    assert f"{out} was not written, because no row has a depth" in said
    assert "give --psf-fwhm 1.3 (typical of DR10 in r)" in said
    assert "of the 5 rows without a seeing" in said
    # The rows are grouped by reason, and no line of a pipe is a wide frame.
    assert said.count("its header has no card") == 1
    assert "4 the seeing is unknown" in said
    assert all(len(line) < 220 for line in result.stderr.splitlines())
    assert invoke(app, "depth", folder / "cutouts", "--out", out, "--psf-fwhm", 1.3).exit_code == 1
    assert (
        sum(value is not None for value in parquet.read_table(out)["psfdepth_r"].to_pylist()) == 4
    )


def test_rows_that_only_lack_a_seeing_are_said(folder: Path) -> None:
    result = invoke(app, "depth", folder / "cutouts", "--out", folder / "t.parquet")
    assert "depths of the 2 rows without a seeing" in message(result)
    assert "was not written" not in message(result)


@pytest.mark.parametrize(
    ("value", "where", "reason"),
    [
        (np.nan, (1,), "no pixel of r is finite"),
        (np.inf, (1,), "no pixel of r is finite"),
        (0.0, (1,), "all pixels of r have one value"),
        (0.5, (1,), "all pixels of r have one value"),
        (np.nan, (1, slice(18, 83), slice(18, 83)), "no finite pixel of r at the object"),
    ],
)
def test_a_blank_band_has_no_depth(
    folder: Path, value: float, where: tuple[Any, ...], reason: str
) -> None:
    path = folder / "cutouts" / "a.fits"
    with fits.open(path, mode="update") as units:
        units[0].data[where] = value
    out = folder / "table.parquet"
    result = invoke(app, "depth", folder / "cutouts", "--out", out)
    table = parquet.read_table(out).to_pandas()
    assert np.isnan(table["psfdepth_r"][0])
    assert reason in table["psfdepth_r_from"][0]
    assert reason in message(result)


def test_missing_pixels_at_the_object_carry_no_depth(folder: Path) -> None:
    path = folder / "cutouts" / "a.fits"
    weights = np.full((SIDE, SIDE), SIGMA**-2)
    weights[:, SIDE // 2 :] = 0
    with fits.open(path, mode="update") as units:
        units[0].data[1, :, SIDE // 2 :] = np.nan
    out = folder / "table.parquet"
    invoke(app, "depth", folder / "cutouts", "--out", out)
    expected = (point_source(1.2, 101) ** 2 * weights).sum()
    assert parquet.read_table(out)["psfdepth_r"][0].as_py() == pytest.approx(expected, rel=0.01)


def test_a_csv_becomes_a_csv(folder: Path) -> None:
    (folder / "given.csv").write_text("cutout_path,label\ncutouts/a.fits,0\ncutouts/b.fits,1\n")
    out = folder / "measured.csv"
    result = invoke(app, "depth", folder / "given.csv", "--out", out)
    assert result.exit_code == 0, result.output
    assert "a .csv does not state the unit of psfdepth_r" in message(result)
    assert "hosts.psfdepth_unit: nanomaggy^-2" in message(result)
    rows = pd.read_csv(out)
    assert rows["psfdepth_r"][0] == pytest.approx(known(1.2), rel=0.01)
    assert rows["cutout_path"].tolist() == ["cutouts/a.fits", "cutouts/b.fits"]
    for source in (write_table(folder), folder / "cutouts"):
        refused = invoke(app, "depth", source, "--out", folder / "other.csv")
        assert refused.exit_code == 2
        assert "is a .csv, which states neither" in message(refused)
        assert not (folder / "other.csv").exists()


def write_table(folder: Path, unit: bytes | None = None, **columns: Any) -> Path:
    paths = [f"cutouts/{name}" for name in ("a.fits", "b.fits", "c.fits")]
    table = pyarrow.table({"cutout_path": paths, "label": [0, 0, 0]} | columns)
    if unit is not None:
        place = table.schema.get_field_index("psfdepth_r")
        field = table.schema.field(place).with_metadata({b"unit": unit})
        table = table.set_column(place, field, table["psfdepth_r"])
    table = table.replace_schema_metadata({"dhs": '{"data_origin": "legacysurvey-dr10"}'})
    parquet.write_table(table, folder / "given.parquet")
    return folder / "given.parquet"


def test_the_grid_reads_the_table_and_values_of_the_table_stay(folder: Path) -> None:
    given = write_table(
        folder,
        b"mag",
        psfsize_r=[None, None, 1.4],
        psfdepth_r=[None, 23.1, None],
        split=["val"] * 3,
    )
    out = folder / "out.parquet"
    result = invoke(app, "depth", given, "--out", out)
    assert result.exit_code == 0, result.output
    section = {"mode": "file_manifest", "manifest_path": str(out), "fewest_per_cell": 1}
    wide = {"start": 1.3, "stop": 1.3, "step": 2.0}
    deep = {"start": 24.0, "stop": 24.0, "step": 4.0}
    config = {"checkpoint": "a", "out_dir": "b", "hosts": section}
    hosts = Hosts(GridConfig.model_validate(config | {"psf_fwhm": wide, "depth_5sig": deep}))
    expected = [magnitude(known(1.2)), 23.1, magnitude(known(1.4))]
    assert hosts.depth == pytest.approx(expected, abs=WITHIN)
    assert hosts.fwhm[:, 1] == pytest.approx([1.2, 5 * SCALE, 1.4])
    assert hosts.used == 3
    table = parquet.read_table(out).to_pandas()
    assert table["psfdepth_r_from"].tolist() == ["INVVAR", "table", "INVVAR"]
    assert table["psfsize_r_from"].tolist() == ["header SEEING", "header FWHM", "table"]
    assert table["cutout_path"].tolist()[0] == "cutouts/a.fits"
    again = folder / "again.parquet"
    assert invoke(app, "depth", out, "--out", again).exit_code == 0
    assert parquet.read_table(again).equals(parquet.read_table(out))


def test_a_table_that_lacks_nothing_needs_no_unit(folder: Path) -> None:
    given = write_table(folder, psfsize_r=[1.2] * 3, psfdepth_r=[23.0, 23.1, 400.0])
    out = folder / "out.parquet"
    assert invoke(app, "depth", given, "--out", out).exit_code == 0
    assert parquet.read_table(out)["psfdepth_r"].to_pylist() == [23.0, 23.1, 400.0]
    assert parquet.read_schema(out).field("psfdepth_r").metadata is None


def test_the_unit_of_given_depths_is_not_guessed(folder: Path) -> None:
    given = write_table(folder, psfdepth_r=[23.0, None, None])
    out = folder / "out.parquet"
    result = invoke(app, "depth", given, "--out", out)
    assert result.exit_code == 2
    assert "--psfdepth-unit nanomaggy^-2 (catalogues) or --psfdepth-unit mag" in message(result)
    assert not out.exists()
    assert invoke(app, "depth", given, "--out", out, "--psfdepth-unit", "mag").exit_code == 1
    assert parquet.read_schema(out).field("psfdepth_r").metadata == {b"unit": b"mag"}
    # A row whose seeing was found on a second attempt is no longer missing.
    options = ("--out", folder / "again.parquet", "--seeing-card", "SEEING=arcsec")
    assert invoke(app, "depth", out, *options).exit_code == 0


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"shard": ["a"] * 3}, "pack the result again"),
        ({"psfsize_r": ["wide"] * 3}, "psfsize_r is of type string; it must be a number"),
        ({"cutout_path": ["../a.fits"] * 3}, "leads out of the manifest's folder"),
    ],
)
def test_unusable_tables_are_refused(folder: Path, columns: dict[str, Any], reason: str) -> None:
    result = invoke(app, "depth", write_table(folder, **columns), "--out", folder / "o.parquet")
    assert result.exit_code == 2
    assert reason in message(result)
