"""Packs of a folder of cutouts, without a table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from pyarrow import parquet

from dhs.pack import open_pack, verify_pack, write_pack
from dhs.score import score
from dhs.score.table import read_table
from dhs.train import train
from tests.command_line import message
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.dhs.pack.pack_cases import digests, run
from tests.dhs.score.score_cases import model as model
from tests.dhs.train.training_runs import SIDE, configuration

ORIGIN = "--data-origin", "made-up"
NAMES = ["a.npz", "b.fits", "c.npy", "deeper/d.npz"]
IMAGES = np.random.default_rng(5).normal(0, 1, (len(NAMES), 3, SIDE, SIDE)).astype(np.float32)


def header(ra: float, dec: float) -> fits.Header:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = (ra, dec), ((SIDE + 1) / 2,) * 2
    wcs.wcs.cdelt = [-0.262 / 3600, 0.262 / 3600]
    return wcs.to_header()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write four cutouts, two of them with positions, and a file of another kind."""
    found = tmp_path / "cutouts"
    (found / "deeper").mkdir(parents=True)
    for name, image in zip(NAMES[::-1], IMAGES[::-1], strict=True):
        if name.endswith(".fits"):
            fits.PrimaryHDU(image, header(150.0, 2.0)).writeto(found / name)
        elif name.endswith(".npy"):
            np.save(found / name, image)
        else:
            np.savez(found / name, cutout=image.transpose(1, 2, 0))
    np.savez(found / "a.npz", cutout=IMAGES[0].transpose(1, 2, 0), meta_ra=10.0, meta_dec=-3.0)
    (found / "notes.txt").write_text("mine")
    return found


def test_every_file_is_a_row(folder: Path) -> None:
    out = folder.parent / "pack"
    result = run(folder, "--out", out, *ORIGIN, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["cutouts"] == len(NAMES)
    pack = open_pack(out)
    assert pack.table["cutout_path"].tolist() == NAMES
    assert pack.table["galaxy_id"].tolist() == ["a", "b", "c", "d"]
    assert "label" not in pack.table
    assert pack.data_origin == "made-up"
    assert np.array_equal(np.stack([pack.shards[0][k] for k in range(len(NAMES))]), IMAGES)
    # A pixel is 0.262 arcsec; astropy places the reference pixel at the centre.
    assert pack.table["ra"].tolist() == pytest.approx([10, 150, np.nan, np.nan], nan_ok=True)
    assert pack.table["dec"].tolist() == pytest.approx([-3, 2, np.nan, np.nan], nan_ok=True)
    assert verify_pack(out).faults == []
    again = run(folder, "--out", out, *ORIGIN)
    assert "is already complete with these settings" in again.stdout
    assert "no labels, so it can be scored, but not trained on" in message(again)


def test_a_pack_of_a_folder_is_scored_but_not_trained_on(folder: Path, model: Path) -> None:
    home = folder.parent
    write_pack(folder, home / "pack", data_origin="made-up")
    score(model, [home / "pack"], home / "scores.parquet")
    table = read_table(home / "scores.parquet")
    assert table.ids.tolist() == ["a", "b", "c", "d"]
    assert np.isnan(table.known["label"]).all()
    assert table.metadata["data_origin"] == "made-up"
    with pytest.raises(ValueError, match="has no column 'label'"):
        train(configuration(home / "pack", home / "run"), "run")


def test_files_that_came_or_went_are_said_in_words(folder: Path) -> None:
    out = folder.parent / "pack"
    assert run(folder, "--out", out, *ORIGIN).exit_code == 0
    shutil.copy(folder / "a.npz", folder / "e.npz")
    np.savez(folder / "e.npz", cutout=IMAGES[0].transpose(1, 2, 0) + 1)
    result = run(folder, "--out", out, *ORIGIN)
    assert result.exit_code == 2
    assert "the list of its files changed since this pack was begun" in message(result)
    assert run(folder, "--out", out, *ORIGIN, "--overwrite").exit_code == 0
    fresh = write_pack(folder, folder.parent / "fresh", data_origin="made-up")
    assert digests(out) == digests(fresh.out)
    # A moved folder with the same files is the same.
    folder.rename(folder.parent / "moved")
    moved = run(folder.parent / "moved", "--out", out, *ORIGIN)
    assert "is already complete with these settings" in moved.stdout


def test_a_mended_file_is_packed_by_the_same_command(folder: Path) -> None:
    whole = write_pack(folder, folder.parent / "whole", data_origin="made-up")
    good = (folder / "c.npy").read_bytes()
    (folder / "c.npy").write_bytes(b"broken")
    out = folder.parent / "pack"
    assert run(folder, "--out", out, *ORIGIN).exit_code == 1
    (folder / "c.npy").write_bytes(good)
    assert run(folder, "--out", out, *ORIGIN).exit_code == 0
    assert digests(out) == digests(whole.out)


def test_the_manifest_of_a_folder_is_used(folder: Path) -> None:
    table = pyarrow.table({"cutout_path": NAMES[2:], "galaxy_id": ["one", "two"]})
    schema = table.schema.with_metadata({"dhs": json.dumps({"data_origin": "ls-dr10"})})
    parquet.write_table(table.cast(schema), folder / "manifest.parquet")
    made = write_pack(folder, folder.parent / "pack")
    pack = open_pack(made.out)
    assert pack.table["galaxy_id"].tolist() == ["one", "two"]
    assert pack.data_origin == "ls-dr10"
    # A table that is given itself must have labels, so that a misspelt column is not overlooked.
    with pytest.raises(ValueError, match="no column label"):
        write_pack(folder / "manifest.parquet", folder.parent / "other")


def test_what_is_no_folder_of_cutouts(folder: Path) -> None:
    home = folder.parent
    (home / "empty").mkdir()
    cases = [
        (folder, home / "pack", [], "does not say where its cutouts are from; give --data-origin"),
        (home / "empty", home / "pack", ORIGIN, "the folder has no file with a suffix of .npz"),
        (home / "none", home / "pack", ORIGIN, "does not exist"),
        (folder, folder / "pack", ORIGIN, "is in the folder of the cutouts"),
        (folder, folder, ORIGIN, "is in the folder of the cutouts"),
    ]
    for source, out, options, expected in cases:
        result = run(source, "--out", out, *options)
        assert result.exit_code == 2
        assert expected in message(result)
        assert not (home / "pack").exists()
        assert not (folder / "pack").exists()
    pack = write_pack(folder, home / "made", data_origin="made-up").out
    with pytest.raises(ValueError, match="is a pack already"):
        write_pack(pack, home / "pack", data_origin="made-up")
    shutil.copy(folder / "a.npz", folder / "deeper" / "a.npz")
    with pytest.raises(ValueError, match=r"2 rows with the galaxy_id of another row: a\.npz"):
        write_pack(folder, home / "pack", data_origin="made-up")
    for path in [path for path in folder.rglob("*.*") if path.suffix != ".txt"]:
        path.write_bytes(b"broken")
    (folder / "deeper" / "a.npz").unlink()
    result = run(folder, "--out", home / "pack", *ORIGIN)
    assert result.exit_code == 1
    assert "every file was rejected" in message(result)
