"""Splits by position on the sky, independent of other cutouts and without leaks."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units
from astropy_healpix import HEALPix

from dhs.manifest.splits import NSIDE, assign_splits, find_leaks

SKY = HEALPix(nside=NSIDE, order="nested")
N = 3000
IDS = np.array([f"g{k:04d}" for k in range(N)])


@pytest.fixture(scope="module")
def positions() -> tuple[np.ndarray, np.ndarray]:
    """Return positions in a field of 15 degrees, a few per pixel, with every tenth unknown."""
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(355, 370, N) % 360, rng.uniform(-8, 7, N)
    ra[::10] = dec[::10] = np.nan
    return ra, dec


def test_neighbours_never_straddle(positions: tuple[np.ndarray, np.ndarray]) -> None:
    ra, dec = positions
    split = assign_splits(IDS, ra, dec)
    known = np.isfinite(ra)
    pixel = SKY.lonlat_to_healpix(ra[known] * units.deg, dec[known] * units.deg)
    pairs = set(zip(pixel.tolist(), split[known].tolist(), strict=True))
    assert len(pairs) == len(np.unique(pixel)) < known.sum() / 2
    # A second cutout in the same pixel goes into the same split.
    corners = SKY.healpix_to_lonlat(pixel, dx=0.93, dy=0.06)
    beside = assign_splits(
        [f"other-{k}" for k in range(known.sum())], *(angle.to_value("deg") for angle in corners)
    )
    assert (beside == split[known]).all()
    assert find_leaks(IDS, ra, dec, split) == []


def test_a_split_depends_on_nothing_else(positions: tuple[np.ndarray, np.ndarray]) -> None:
    ra, dec = positions
    split = assign_splits(IDS, ra, dec)
    order = np.random.default_rng(1).permutation(N)[:700]
    assert (assign_splits(IDS[order], ra[order], dec[order]) == split[order]).all()
    # The id matters only without a position.
    renamed = assign_splits([f"x{name}" for name in IDS], ra, dec)
    known = np.isfinite(ra)
    assert (renamed[known] == split[known]).all()
    assert (renamed[~known] != split[~known]).any()
    assert (assign_splits(IDS, None, None)[~known] == split[~known]).all()
    assert (assign_splits(IDS, ra, dec, seed=43) != split).any()


@pytest.mark.parametrize("fraction", [0.7, 0.2])
def test_shares(fraction: float) -> None:
    split = assign_splits(IDS, None, None, train_fraction=fraction)
    assert set(split) == {"train", "val"}
    assert (split == "train").mean() == pytest.approx(fraction, abs=3 * np.sqrt(0.25 / N))
    # A larger fraction keeps the cutouts of a smaller one.
    more = assign_splits(IDS, None, None, train_fraction=fraction + 0.1)
    assert (more[split == "train"] == "train").all()


def test_splits_are_for_good() -> None:
    """The splits of existing packs must not change with the version of the code."""
    ra = np.array([0.106, 150.1, 150.11, 221.3, *[np.nan] * 4])
    dec = np.array([-3.96, 2.2, 2.21, -1.0, *[np.nan] * 4])
    trained = {seed: assign_splits(list("abcdefgh"), ra, dec, seed=seed) for seed in (42, 7)}
    assert "".join(np.array(list("abcdefgh"))[trained[42] == "train"]) == "abcdh"
    assert "".join(np.array(list("abcdefgh"))[trained[7] == "train"]) == "bcdefgh"


def test_leaks_are_named() -> None:
    ra, dec = np.array([10.0, 10.01, 200.0, np.nan, np.nan]), np.array([5.0, 5.0, 5.0, np.nan, 1.0])
    pixel = SKY.lonlat_to_healpix(10.0 * units.deg, 5.0 * units.deg)
    ids = ["a", "b", "c", "d", "d"]
    found = find_leaks(ids, ra, dec, ["train", "val", "val", "train", "test"])
    assert sorted(found) == [f"HEALPix {pixel} is in train and val", "id d is in test and train"]
    assert find_leaks(ids, ra, dec, ["val", "val", "train", "test", "test"]) == []


def test_wrong_arguments() -> None:
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="is not between 0 and 1"):
            assign_splits(["a"], None, None, train_fraction=fraction)
    with pytest.raises(ValueError, match="all three must be equal"):
        assign_splits(["a"], np.zeros(2), np.zeros(2))
    assert assign_splits([], None, None).tolist() == []
