"""Addresses of object stores are refused where a path on a disk is expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastnorm.atomic import atomic_path
from fastnorm.io import find_cutouts, read_cutouts
from fastnorm.io.write import StackWriter
from fastnorm.paths import local_path

ADDRESS = "s3://bucket/cutouts/a.npz"
SAID = f"{ADDRESS} is an address of an object store; copy the files to a disk first"


@pytest.mark.parametrize("address", [ADDRESS, "https://host/a", "gs://b", "abfs+x://b/c", "S3://b"])
def test_addresses_are_refused_as_they_were_given(address: str) -> None:
    for given in (address, Path(address)):
        with pytest.raises(ValueError, match="copy the files to a disk first") as error:
            local_path(given)
        assert str(error.value).startswith(f"{address} is an address")


@pytest.mark.parametrize("path", ["a.npz", "/a//b", "a/s3://b", "1:20:30/a", "a:b", "", "./s3://b"])
def test_other_paths_are_paths(path: str) -> None:
    assert local_path(path) == Path(path)


DOORS: dict[str, Callable[[str | Path], object]] = {
    "find_cutouts": lambda path: find_cutouts([path]),
    "find_cutouts, with a list of rejected": lambda path: find_cutouts([path], []),
    "read_cutouts": lambda path: list(read_cutouts(path)),
    "atomic_path": lambda path: atomic_path(Path(path)).__enter__(),
    "StackWriter": lambda path: StackWriter(path, (9, 9)).__enter__(),
}


@pytest.mark.parametrize("as_path", [False, True])
@pytest.mark.parametrize("name", DOORS)
def test_doors(name: str, as_path: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The folder that a program without this check has left behind does not change the answer.
    folder = tmp_path / "s3:" / "bucket" / "cutouts"
    folder.mkdir(parents=True)
    np.savez(folder / "a.npz", cutout=np.zeros((9, 9, 3), np.float32))
    with pytest.raises(ValueError, match="object store") as error:
        DOORS[name](Path(ADDRESS) if as_path else ADDRESS)
    assert str(error.value) == SAID
