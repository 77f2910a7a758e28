"""Paths in tables that lead elsewhere are rejected, and named, before any file is opened."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from dhs.cli import app
from dhs.data import DatasetConfig, LensDataset
from dhs.manifest.paths import path_faults, refuse_escapes
from dhs.pack import open_pack, verify_pack, view
from dhs.score.input import open_input
from tests.dhs.pack.pack_cases import PLANE, write_cutouts
from tests.dhs.train.training_runs import SIDE, write_pack

OUT_OF_IT = ["../x.npy", "a/../../x.npy", "..", "./../x", "a//..//../x"]
INSIDE = ["x.npy", "a/x.npy", "a/../x.npy", "./x", "..x", "...", "a..b/x", "/etc/x", ""]
NO_SHARDS = [
    *("../../x.npy", "/etc/x", "a/b", "a/shard-00000.npy", "../pack/shard-00000.npy", "..", ""),
    *("shard-00000.npy\0", "shard-00000.npy\n", "shard-0000.npy", "shard-\u0661\u0661111.npy"),
    *("shard-00000.npy/", "mask-00000.npy", "http://x/shard-00000.npy", ".writer.json"),
]


@pytest.mark.parametrize("path", OUT_OF_IT)
def test_what_climbs_out_is_seen(path: str) -> None:
    (fault,) = path_faults("cutout_path", ["in.npy", path])
    assert fault.startswith("1 rows whose cutout_path leads out of the manifest's folder: row 1 (")
    assert repr(path) in fault


@pytest.mark.parametrize("path", INSIDE)
def test_what_stays_inside_or_says_where_it_reads_is_not(path: str) -> None:
    assert list(path_faults("cutout_path", [path, None, float("nan")])) == []


def test_faults_name_the_first_rows() -> None:
    paths = ["a\0b", *["../x"] * 7]
    with pytest.raises(ValueError, match=r"^m\.csv: 7 rows whose mask_path leads out") as error:
        refuse_escapes("m.csv", "mask_path", paths)
    said = str(error.value)
    assert "row 5 ('../x'); ..." in said
    assert "row 6" not in said
    assert "whose mask_path contains a NUL character" in said
    assert r"row 0 ('a\x00b')." in said
    refuse_escapes("m.csv", "mask_path", ["a"])


@pytest.fixture
def nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **more: Any) -> None:
        pytest.fail(f"{given[0]} was opened")

    monkeypatch.setattr(view, "open_stack", refuse)
    monkeypatch.setattr(np, "load", refuse)


@pytest.mark.usefixtures("nothing_is_opened")
@pytest.mark.parametrize("name", NO_SHARDS)
def test_a_pack_names_its_own_shards_alone(tmp_path: Path, name: str) -> None:
    path = write_pack(tmp_path / "pack", 4) / "manifest.parquet"
    table = parquet.read_table(path)
    names = pyarrow.array(["shard-00000.npy", name, "shard-00001.npy", "shard-00001.npy"])
    place = table.column_names.index("shard")
    parquet.write_table(table.set_column(place, "shard", names), path)
    for read in (open_pack, verify_pack):
        with pytest.raises(ValueError, match=r"manifest\.parquet names a shard ") as error:
            read(tmp_path / "pack")
        assert repr(name) in str(error.value)
        assert str(path) in str(error.value)


def rows(column: str, values: list[str], folder: Path) -> Path:
    """Write a manifest whose cutouts all exist, one of them outside its folder."""
    (folder / "in").mkdir()
    path = write_cutouts(folder / "in")
    table = parquet.read_table(path).slice(0, len(values))
    place = table.column_names.index(column)
    parquet.write_table(table.set_column(place, column, pyarrow.array(values)), path)
    return path


def opened_outside(folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Record the files opened outside the folder ``in`` from now on."""
    seen: list[str] = []

    def watch(opener: Callable[..., Any]) -> Callable[..., Any]:
        def watched(file: Any, *given: Any, **more: Any) -> Any:
            if isinstance(file, str | os.PathLike) and "out-of-it" in os.path.abspath(file):
                seen.append(os.fspath(file))
            return opener(file, *given, **more)

        return watched

    patch.setattr(builtins, "open", watch(builtins.open))
    patch.setattr(os, "open", watch(os.open))
    return seen


@pytest.mark.parametrize("column", ["cutout_path", "mask_path"])
def test_a_manifest_that_climbs_out_is_not_packed(
    tmp_path: Path, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "out-of-it.npy", np.ones((3, *PLANE), np.float32))
    manifest = rows(column, ["a.npy", "../out-of-it.npy"], tmp_path)
    seen = opened_outside(tmp_path, monkeypatch)
    out = tmp_path / "pack"
    command = ["pack", str(manifest), "--out", str(out), "--data-origin", "x", "--workers", "1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert f"1 rows whose {column} leads out of the manifest's folder: row 1" in result.stderr
    assert "'../out-of-it.npy'" in result.stderr
    assert str(manifest) in result.stderr
    assert not out.exists()
    assert not seen


@pytest.mark.parametrize("column", ["cutout_path", "mask_path"])
def test_a_manifest_that_climbs_out_is_neither_scored_nor_trained_on(
    tmp_path: Path, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "out-of-it.npy", np.ones((3, *PLANE), np.float32))
    manifest = rows(column, ["a.npy", "../out-of-it.npy"], tmp_path)
    seen = opened_outside(tmp_path, monkeypatch)
    expected = rf"{manifest}: 1 rows whose {column} leads out of .*row 1 \('\.\./out-of-it.npy'\)"
    with pytest.raises(ValueError, match=expected):
        open_input([manifest], SIDE)
    config = DatasetConfig(mode="file_manifest", manifest_path=str(manifest), data_origin="x")
    with pytest.raises(ValueError, match=expected):
        LensDataset(config, None)
    assert not seen


def test_an_absolute_path_says_where_it_reads(tmp_path: Path) -> None:
    outside = tmp_path / "out-of-it.npy"
    np.save(outside, np.ones((3, *PLANE), np.float32))
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"cutout_path,label\n{outside},1\n")
    command = ["pack", str(manifest), "--out", str(tmp_path / "pack"), "--data-origin", "x"]
    assert CliRunner().invoke(app, [*command, "--workers", "1"]).exit_code == 0
    assert np.asarray(open_pack(tmp_path / "pack").shards[0]).sum() == 3 * PLANE[0] * PLANE[1]
