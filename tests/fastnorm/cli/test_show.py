"""``fastnorm show``: masked pixels, the annulus of the user, names of the rows of a stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import fastnorm.figure
from fastnorm.annulus import LEGACY_ANNULUS, Annulus
from fastnorm.figure import comparison_figure
from fastnorm.io import Cutout, read_cutouts
from fastnorm.io.maskbits import MaskBits
from tests.command_line import message
from tests.fastnorm.cli.test_cli import PLANE, make_pixels, run, save
from tests.fastnorm.cli.test_cli import folder as folder

BRIGHT, SATUR_R, GALAXY = 1 << 1, 1 << 3, 1 << 12


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Write a FITS file with a bright star, a saturated trail in r, and a large galaxy."""
    bits = np.zeros(PLANE, np.int32)
    bits[2:9, 3:7] |= BRIGHT
    bits[50:52] |= SATUR_R
    bits[30:40, 30:40] |= GALAXY
    image = fits.PrimaryHDU(make_pixels())
    fits.HDUList([image, fits.ImageHDU(bits, name="MASKBITS")]).writeto(tmp_path / "m.fits")
    return tmp_path / "m.fits"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Keep the figures that a command draws."""
    kept: list[Figure] = []
    make = comparison_figure

    def keep(*arguments: Any, **options: Any) -> Figure:
        kept.append(make(*arguments, **options))
        return kept[-1]

    monkeypatch.setattr(fastnorm.figure, "comparison_figure", keep)
    return kept


def marks(figure: Figure) -> list[Any]:
    """Return where each panel of the first row is marked as masked, None where no pixel is."""
    panels = [axes.get_images() for axes in figure.axes if axes.get_xlabel() == "column (px)"]
    overlays = [np.asarray(images[1].get_array()) if images[1:] else None for images in panels]
    return [None if marks is None else marks[..., 3] > 0 for marks in overlays]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def words(figure: Figure) -> str:
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    titles = [axes.get_title() for axes in figure.axes]
    return " ".join([*(text.get_text() for text in figure.texts), *inside, *titles])


def radii(figure: Figure) -> list[list[float]]:
    """Return the radii of the circles in every panel, without the half line width."""
    found = [[c for c in axes.patches if isinstance(c, Circle)] for axes in figure.axes]
    return [[round(c.radius) for c in circles] for circles in found if circles]


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ([], "dr10"),
        (["--mask-bits", "dr10:GALAXY"], "dr10:GALAXY"),
        (["--mask-bits", "dr9"], "dr9"),
    ],
)
def test_masked_pixels_are_marked(
    masked: Path, drawn: list[Figure], options: list[str], bits: str
) -> None:
    out = masked.parent / "p.png"
    result = run("show", masked, "--out", out, "--json", *options)
    assert result.exit_code == 0
    (cutout,) = read_cutouts(masked, mask_bits=MaskBits.parse(bits))
    assert cutout.mask is not None
    colour, *r_band = marks(drawn[0])
    np.testing.assert_array_equal(colour, cutout.mask.any(axis=0))
    for panel in r_band:
        np.testing.assert_array_equal(panel, cutout.mask[1])
    assert legend(drawn[0])[-1].startswith("masked")
    assert json.loads(result.stdout)["mask_bits"] == str(MaskBits.parse(bits))


def test_without_masked_pixels_nothing_is_marked(masked: Path, drawn: list[Figure]) -> None:
    run("show", masked, "--out", masked.parent / "p.png", "--mask-bits", "dr10:")
    assert marks(drawn[0]) == [None, None, None]
    assert len(legend(drawn[0])) == 2


@pytest.mark.parametrize("command", ["show", "normalize"])
def test_unknown_mask_bits_are_refused(masked: Path, command: str) -> None:
    out = masked.parent / ("p.png" if command == "show" else "s.npy")
    result = run(command, masked, "--out", out, "--mask-bits", "dr10:GALAXIES")
    assert result.exit_code == 2
    assert "MASKBITS of dr10 has no 'GALAXIES'" in message(result)


def test_normalize_uses_the_bits(masked: Path) -> None:
    out = masked.parent / "s.npy"
    medians = {}
    for bits in ("dr10", "dr10:"):
        result = run("normalize", masked, "--out", out, "--mask-bits", bits, "--json")
        assert json.loads(result.stdout)["mask_bits"] == str(MaskBits.parse(bits))
        medians[bits] = pd.read_parquet(out.with_suffix(".parquet"))["median"].tolist()
    (cutout,) = read_cutouts(masked)
    pixels = np.nan_to_num(cutout.pixels)
    radii = Annulus.default(*PLANE)
    for bits, mask in (("dr10", cutout.mask), ("dr10:", None)):
        median, _ = fastnorm.annulus_median_mad(pixels, radii.r_in, radii.r_out, mask=mask)
        assert medians[bits] == median.tolist()
    assert medians["dr10"] != medians["dr10:"]


@pytest.mark.parametrize(
    ("given", "name", "first"),
    [
        ([], "legacy", LEGACY_ANNULUS),
        ([18, 30], "given", Annulus(18, 30)),
        ([20, 32], "legacy", LEGACY_ANNULUS),
        # The corrected annulus is drawn anyway.
        ([22.75, 31.5], "legacy", LEGACY_ANNULUS),
    ],
)
def test_the_given_annulus_is_drawn_beside_the_corrected_one(
    folder: Path, drawn: list[Figure], given: list[float], name: str, first: Annulus
) -> None:
    out = folder.parent / "p.png"
    options = ["--annulus", *given] if given else []
    result = run("show", folder / "a.npz", "--out", out, "--json", *options)
    assert result.exit_code == 0
    corrected = Annulus.default(*PLANE)
    assert (corrected.r_in, corrected.r_out) == (22.75, 31.5)
    rounded = [[round(ring.r_in), round(ring.r_out)] for ring in (first, corrected)]
    assert radii(drawn[0])[0] == pytest.approx(rounded[0] + rounded[1], abs=1)
    assert legend(drawn[0])[0] == f"{name}, {first.r_in:g} to {first.r_out:g} px"
    assert f"r normalised, {name}" in words(drawn[0])
    median, _ = fastnorm.annulus_median_mad(make_pixels(), first.r_in, first.r_out)
    shown = f"{median[1] * 1000:.3f}".replace("-", fastnorm.figure.MINUS)
    assert shown in words(drawn[0])
    expected = [[first.r_in, first.r_out], [22.75, 31.5]]
    assert json.loads(result.stdout)["annuli"] == expected


def test_small_stamps_are_drawn_with_an_annulus_that_fits(tmp_path: Path) -> None:
    save(tmp_path / "small.npz", make_pixels(0, (30, 30)))
    out = tmp_path / "p.png"
    assert run("show", tmp_path / "small.npz", "--out", out).exit_code == 1
    assert run("show", tmp_path / "small.npz", "--out", out, "--annulus", 6, 12).exit_code == 0
    result = run("show", tmp_path / "small.npz", "--out", out, "--annulus", 40, 50)
    assert result.exit_code == 2
    assert "(40.0, 50.0) holds 0 pixels" in message(result)
    result = run("show", tmp_path / "small.npz", "--out", out, "--annulus", 12, 6)
    assert "r_in=12.0 is not below r_out=6.0" in message(result)


def test_rows_of_a_stack_have_the_names_and_positions_of_its_table(
    folder: Path, drawn: list[Figure]
) -> None:
    stack, out = folder.parent / "stack.npy", folder.parent / "p.png"
    run("normalize", folder, "--out", stack, "--annulus", 18, 30)
    for path in (stack, stack.with_suffix(".parquet")):
        result = run("show", path, "--out", out, "--json")
        assert result.exit_code == 0
        ids = ["lens", "b", "c[000000]", "c[000001]", "c[000002]"]
        assert json.loads(result.stdout)["drawn"] == ids
        said = words(drawn[-1])
        assert "lens   RA 1.50000°   Dec \N{MINUS SIGN}2.50000°" in said
        assert said.count("(position not known)") == 4
        # The pixels of the stack are no fluxes.
        assert "nanomaggy" not in said
        assert said.count("MAD of (18, 30)") == 5
        assert "stack.npy: is normalised with the annulus (18, 30)" in message(result)


def test_a_table_that_is_not_of_the_stack_gives_no_names(folder: Path) -> None:
    stack, out = folder.parent / "stack.npy", folder.parent / "p.png"
    run("normalize", folder, "--out", stack)
    np.save(stack, np.load(stack)[:3])
    result = run("show", stack, "--out", out, "--json")
    assert json.loads(result.stdout)["drawn"][0] == "stack[000000]"
    assert "its table stack.parquet is of 5 cutouts, but it has 3" in message(result)
    stack.with_suffix(".parquet").write_bytes(b"PAR1 no table")
    result = run("show", stack, "--out", out, "--json")
    assert json.loads(result.stdout)["drawn"][0] == "stack[000000]"
    assert "its table stack.parquet cannot be read" in message(result)
    pd.DataFrame({"id": list("abc")}).to_parquet(stack.with_suffix(".parquet"))
    result = run("show", stack, "--out", out, "--json")
    assert result.stderr == ""


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (("galaxy_id", "logit", "score", "path"), "is a table of scores; use dhs show {path}"),
        (("galaxy_id", "cutout_path", "ra"), "is a manifest; use dhs show {path}"),
        (("name", "size"), "has an unknown suffix"),
    ],
)
def test_tables_of_dhs_are_named(
    tmp_path: Path, suffix: str, columns: tuple[str, ...], words: str
) -> None:
    path = tmp_path / f"table{suffix}"
    frame = pd.DataFrame({name: ["1"] for name in columns})
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    result = run("show", path, "--out", tmp_path / "p.png", "--json")
    assert result.exit_code == 1
    (rejected,) = json.loads(result.stdout)["rejected"]
    assert words.format(path=path) in rejected["reason"]


def test_a_pack_is_named(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    save(pack / "shard-00000.npy", np.stack([make_pixels(seed) for seed in (2, 3)]))
    pd.DataFrame({"shard": ["shard-00000.npy"] * 2, "row": [0, 1]}).to_parquet(
        pack / "manifest.parquet"
    )
    for path in (pack, pack / "shard-00000.npy"):
        result = run("show", path, "--out", tmp_path / "p.png")
        assert result.exit_code == 0
        assert f"dhs show {pack} draws them with id, position and label" in message(result)


def test_a_mask_in_memory_is_marked(tmp_path: Path) -> None:
    mask = np.zeros((3, *PLANE), bool)
    mask[2, 5] = True
    cutout = Cutout("a", make_pixels(), None, None, tmp_path, mask)
    colour, *r_band = marks(comparison_figure([cutout]))
    np.testing.assert_array_equal(colour, mask[2])
    assert r_band == [None, None]
