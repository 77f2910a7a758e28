"""Tests of flat bands: how they are found, and that the commands name and count them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.stats import median_absolute_deviation
from numpy.typing import NDArray

from fastnorm.annulus import Annulus
from fastnorm.cli import app
from fastnorm.normalize.flat import is_flat
from tests.command_line import invoke
from tests.fastnorm.cli.test_cli import PLANE, make_pixels, save

ANNULUS = Annulus.default(*PLANE)
RING = ANNULUS.mask(*PLANE)


def beyond_the_edge(share: float, fill: float, seed: int = 0) -> NDArray[np.float32]:
    """Fill a share of the annulus pixels of g, as beyond the edge of a survey."""
    pixels = np.nan_to_num(make_pixels(seed))
    inside = np.flatnonzero(RING)
    pixels[0].ravel()[inside[: round(share * inside.size)]] = fill
    return pixels


def by_astropy(plane: NDArray[np.float32], bad: NDArray[np.bool_]) -> bool:
    """Tell whether a plane is flat, by another definition of the same statistics."""
    seen = plane[RING & ~bad].astype(np.float64)
    finite = seen[np.isfinite(seen)]
    if not finite.size:
        return True
    mads = [median_absolute_deviation(np.nan_to_num(seen)), median_absolute_deviation(finite)]
    return bool(min(mads) == 0)


@pytest.mark.parametrize("fill", [0.0, 0.25, np.nan])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.49, 0.51, 0.9, 1.0])
def test_a_band_is_flat_if_most_of_it_is_one_value(fill: float, share: float) -> None:
    pixels = beyond_the_edge(share, fill)
    none = np.zeros(pixels.shape, bool)
    found = is_flat(pixels, ANNULUS)
    assert found.tolist() == [by_astropy(plane, none[0]) for plane in pixels]
    assert found.tolist() == [share > 0.5, False, False]
    # The same pixels are no fault where they are masked, and the sky is left.
    if share < 1:
        mask = np.isnan(pixels) if np.isnan(fill) else pixels == fill
        assert not is_flat(pixels, ANNULUS, mask).any()


def test_masks_can_leave_one_value() -> None:
    pixels = beyond_the_edge(0.3, 0.0)
    inside = np.flatnonzero(RING)
    mask = np.zeros(pixels.shape, bool)
    mask.reshape(3, -1)[:, inside[round(0.5 * inside.size) :]] = True
    assert is_flat(pixels, ANNULUS, mask).tolist() == [True, False, False]
    assert [by_astropy(plane, bad) for plane, bad in zip(pixels, mask, strict=True)] == [
        True, False, False,
    ]  # fmt: skip
    assert is_flat(pixels, ANNULUS, np.ones(pixels.shape, bool)).all()


def test_the_legacy_annulus_does_not_warn_again() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_flat(np.nan_to_num(make_pixels()), Annulus(15, 22)).any()


def report_of(*arguments: object, status: int = 0) -> tuple[dict[str, Any], str]:
    found = invoke(app, *arguments, "--json")
    assert found.exit_code == status, found.output
    report: dict[str, Any] = json.loads(found.stdout)
    return report, " ".join(found.stderr.split())


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_normalize_names_and_counts_them(tmp_path: Path, fill: float) -> None:
    save(tmp_path / "a.npz", beyond_the_edge(0.6, fill))
    save(tmp_path / "b.npz", make_pixels(1))
    both = beyond_the_edge(0.6, fill, 2)
    both[2] = both[0]
    save(tmp_path / "c.npz", both)
    out = tmp_path / "out.npy"
    report, said = report_of("normalize", tmp_path, "--out", out)
    assert report["flat_bands"] == [{"id": "a", "bands": "g"}, {"id": "c", "bands": "g, z"}]
    assert "warning: flat bands (MAD 0): 3, of 2 cutouts: a (g), c (g, z)" in said
    # What the warning is about.
    assert (np.abs(np.load(out)[0, 0])[~RING] == 10).mean() > 0.9


def test_normalize_says_nothing_of_good_cutouts(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", make_pixels())
    report, said = report_of("normalize", tmp_path / "a.npz", "--out", tmp_path / "out.npy")
    assert report["flat_bands"] == []
    assert "flat" not in said


def test_normalize_fits_names_and_counts_them(tmp_path: Path) -> None:
    folder = tmp_path / "fits"
    folder.mkdir()
    save(folder / "a.fits", beyond_the_edge(0.6, 0.0))
    save(folder / "b.fits", make_pixels(1))
    report, said = report_of("normalize-fits", folder, "--out", tmp_path / "out")
    assert report["flat_bands"] == [{"id": "a.fits", "bands": "g"}]
    assert "warning: flat bands (MAD 0): 1, of 1 cutouts: a.fits (g)" in said
