"""Catalogues as other tools write them: formats of astropy, and the column names of DESI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pytest
from astropy.table import Table

from dhs.fetch.catalogue import read_catalogue
from dhs.fetch.service import Service

RA, DEC = [1.5, 3.25], [-2.0, 4.0]


@pytest.mark.parametrize("prefix", ["", "TARGET_"])
@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".ecsv", "ascii.ecsv"), (".vot", "votable"), (".xml", "votable"), (".fits", "fits")],
)
def test_formats_of_astropy(tmp_path: Path, suffix: str, kind: str, prefix: str) -> None:
    table = Table({f"{prefix}RA": RA, f"{prefix}DEC": DEC, "TARGETID": [7, 8], "NAME": ["x", "y"]})
    for name in ("RA", "DEC"):
        table[f"{prefix}{name}"].unit = "deg"
    path = tmp_path / f"a{suffix}"
    table.write(path, format=kind)
    found = read_catalogue(path, None)
    assert (found.ra.tolist(), found.dec.tolist()) == (RA, DEC)
    assert found.others.to_pydict() == {"TARGETID": [7, 8], "NAME": ["x", "y"]}
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(ValueError, match="has no readable table"):
        read_catalogue(path, None)


def test_plain_names_come_first() -> None:
    table = pyarrow.table({"ra": RA, "dec": DEC, "TARGET_RA": DEC, "TARGET_DEC": RA})
    found = read_catalogue(table, None)
    assert (found.ra.tolist(), found.dec.tolist()) == (RA, DEC)
    assert found.others.column_names == ["TARGET_RA", "TARGET_DEC"]
    with pytest.raises(ValueError, match="no column dec"):
        read_catalogue(pyarrow.table({"ra": RA, "TARGET_DEC": DEC}), None)


def test_positions_of_desi_in_other_units(tmp_path: Path) -> None:
    table = Table({"TARGET_RA": np.array(RA), "TARGET_DEC": np.array(DEC)})
    table["TARGET_RA"].unit = "hourangle"
    table.write(tmp_path / "a.ecsv")
    with pytest.raises(ValueError, match="TARGET_RA is in hourangle; convert it to degrees"):
        read_catalogue(tmp_path / "a.ecsv", None)


def test_the_layer_of_dr11() -> None:
    assert "&layer=ls-dr11&" in Service(layer="ls-dr11").address(1, 2)
    assert Service(layer="ls-dr11").settings()["data_origin"] == "legacysurvey-dr11"
