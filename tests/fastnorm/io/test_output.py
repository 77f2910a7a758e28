"""Tests of the writers of stacks and tables: complete files or none."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from fastnorm.atomic import atomic_path
from fastnorm.io.write import StackWriter, open_table


def make_pixels(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("counts", [[], [1], [3, 4, 5]])
def test_stack_of_unknown_length(tmp_path: Path, counts: list[int]) -> None:
    parts = [make_pixels((n, 3, 20, 21), seed=i) for i, n in enumerate(counts)]
    with StackWriter(tmp_path / "s.npy", (20, 21)) as stack:
        for part in parts:
            stack.write(part)
        assert not (tmp_path / "s.npy").exists()
    written = np.load(tmp_path / "s.npy", allow_pickle=False)
    assert written.dtype == np.float32
    assert np.array_equal(written, np.concatenate([*parts, np.empty((0, 3, 20, 21))]))
    assert os.listdir(tmp_path) == ["s.npy"]


@pytest.mark.parametrize("wrong", [np.float64, "shape"])
def test_stack_refuses_what_does_not_fit(tmp_path: Path, wrong: Any) -> None:
    part = make_pixels((2, 3, 20, 21))
    part = part[:, :2] if wrong == "shape" else part.astype(wrong)
    with (
        pytest.raises(ValueError, match=r"expected shape \(n, 3, 20, 21\) and float32"),
        StackWriter(tmp_path / "s.npy", (20, 21)) as stack,
    ):
        stack.write(part)
    assert os.listdir(tmp_path) == []


def test_failure_leaves_the_older_stack(tmp_path: Path) -> None:
    (tmp_path / "s.npy").write_bytes(b"older")

    def write() -> None:
        with StackWriter(tmp_path / "s.npy", (20, 21)) as stack:
            stack.write(make_pixels((2, 3, 20, 21)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert os.listdir(tmp_path) == ["s.npy"]
    assert (tmp_path / "s.npy").read_bytes() == b"older"


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"), StackWriter(tmp_path / "s.npy", (20, 21)):
        pass
    assert os.listdir(tmp_path) == []


def test_atomic_path_fails_whole(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert os.listdir(tmp_path) == []


def columns(count: int) -> dict[str, Any]:
    numbers = np.arange(count)
    floats = numbers.astype(np.float32)
    return {
        "row": numbers,
        "id": ["a"] * count,
        "band": ["g"] * count,
        "ra": [None] * count,
        "dec": [None] * count,
        "median": floats,
        "mad": floats,
        "nan_count": numbers.astype(np.int32),
        "path": ["a.npz"] * count,
    }


def test_table_in_pieces(tmp_path: Path) -> None:
    with open_table(tmp_path / "t.parquet", {"eps": 1e-8}) as write_rows:
        write_rows(columns(2))
        write_rows(columns(3))
        assert not (tmp_path / "t.parquet").exists()
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table["row"].to_pylist() == [0, 1, 0, 1, 2]
    assert json.loads(table.schema.metadata[b"fastnorm"]) == {"eps": 1e-8}
    assert os.listdir(tmp_path) == ["t.parquet"]


def test_table_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with open_table(tmp_path / "t.parquet", {}) as write_rows:
            write_rows(columns(2))
            write_rows(columns(2) | {"row": ["text"] * 2})

    with pytest.raises(pyarrow.ArrowInvalid):
        write()
    assert os.listdir(tmp_path) == []


def test_missing_pyarrow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    table = open_table(tmp_path / "t.parquet", {})
    with pytest.raises(ImportError, match=r"pip install '\.\[cli\]' in a checkout"):
        table.__enter__()


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, file = tmp_path / "a.txt", tmp_path / "disk" / "b.txt"
    file.write_text("old")
    link.symlink_to(file)
    with atomic_path(link) as temporary:
        assert temporary.parent == file.parent
        temporary.write_text("content")
    assert link.is_symlink()
    assert file.read_text() == "content"
    assert os.listdir(file.parent) == ["b.txt"]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="loop"), atomic_path(tmp_path / "loop"):
        pass
