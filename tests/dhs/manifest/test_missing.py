"""A table that does not exist is named with the folder that its path starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dhs.config.file import located
from dhs.data import DatasetConfig, LensDataset
from dhs.fetch.catalogue import read_catalogue
from dhs.manifest.table import read_manifest
from dhs.pack import write_pack
from dhs.score.input import open_input
from dhs.score.table import read_table

NAME = "tables/manifest.csv"


def _opened(path: str) -> LensDataset:
    return LensDataset(DatasetConfig(mode="file_manifest", manifest_path=path, data_origin="here"))


DOORS: dict[str, Callable[[str], object]] = {
    "LensDataset": _opened,
    "read_manifest": read_manifest,
    "write_pack": lambda path: write_pack(path, "out"),
    "open_input": lambda path: open_input([path], 101),
    "read_table": read_table,
    "read_catalogue": lambda path: read_catalogue(path, None),
    "read_catalogue of FITS": lambda path: read_catalogue(path.replace(".csv", ".fits"), None),
}


@pytest.mark.parametrize("name", DOORS)
def test_a_relative_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DHS_DATA", raising=False)
    with pytest.raises(FileNotFoundError) as error:
        DOORS[name](NAME)
    given = NAME.replace(".csv", ".fits") if "FITS" in name else NAME
    assert str(error.value) == (
        f"{given} does not exist; it starts from the working directory {tmp_path}; DHS_DATA, where "
        "data of a configuration start, is not set."
    )


def test_a_path_of_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHS_DATA", str(tmp_path))
    path = located(NAME)
    with pytest.raises(FileNotFoundError) as error:
        _opened(path)
    assert str(error.value) == f"{path} does not exist; it starts from DHS_DATA={tmp_path}."


def test_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DHS_DATA", raising=False)
    path = tmp_path / NAME
    with pytest.raises(FileNotFoundError) as error:
        read_manifest(path)
    assert str(error.value) == f"{path} does not exist; check the path."
