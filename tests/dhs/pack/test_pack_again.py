"""A pack whose table, settings or files changed: what is said, and how it is replaced."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from dhs.jobs.lock import only_writer
from dhs.pack import open_pack, verify_pack
from dhs.pack import replace as replacing
from dhs.pack import write as door
from tests.command_line import message
from tests.dhs.pack.pack_cases import NAMES, SHARD_BYTES, STACK, N, digests, make, run
from tests.dhs.pack.pack_cases import write_cutouts as write_cutouts

DIGEST = re.compile(r"[0-9a-f]{16}")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "cutouts").mkdir()
    return write_cutouts(tmp_path / "cutouts")


def change_table(manifest: Path) -> None:
    """Drop the first row."""
    parquet.write_table(parquet.read_table(manifest).slice(1), manifest)


def beside(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir() if "pack" in path.name)


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_changed_table_is_said_in_words(manifest: Path, is_finished: bool) -> None:
    folder = manifest.parent
    if not is_finished:
        (folder / NAMES[1]).unlink()
    assert make(manifest).is_finished == is_finished
    change_table(manifest)
    options = "--data-origin", "made-up", "--shard-bytes", SHARD_BYTES
    result = run(manifest, "--out", folder / "pack", *options)
    assert result.exit_code == 2
    told = message(result)
    assert "the table changed since this pack was begun" in told
    assert "--overwrite" in told
    assert not DIGEST.search(told.replace(str(folder), ""))
    assert run(manifest, "--out", folder / "pack", *options, "--overwrite").exit_code == (
        0 if is_finished else 1
    )


def test_each_changed_setting_is_named_with_its_values(manifest: Path) -> None:
    make(manifest)
    with pytest.raises(ValueError, match=r"split\.seed is 42 in the folder and 1 in this run"):
        make(manifest, seed=1)
    change_table(manifest)
    with pytest.raises(ValueError, match=r"the table changed .*; data_origin is made-up in the"):
        make(manifest, data_origin="other")


@pytest.mark.parametrize("change", ["table", "setting", "file"])
def test_a_replaced_pack_equals_one_from_scratch(manifest: Path, change: str) -> None:
    made = make(manifest)
    old = digests(made.out)
    options: dict[str, Any] = {}
    if change == "table":
        change_table(manifest)
    elif change == "setting":
        options = {"seed": 3}
    else:
        np.save(manifest.parent / NAMES[0], STACK[0] + 1)
    replaced = make(manifest, overwrite=True, **options)
    assert (replaced.out, replaced.is_finished, replaced.was_complete) == (made.out, True, False)
    assert beside(made.out) == ["pack"]
    assert digests(made.out) == digests(make(manifest, "scratch", **options).out)
    assert digests(made.out) != old
    assert verify_pack(made.out).faults == []


def test_mended_files_of_a_finished_pack(manifest: Path) -> None:
    folder = manifest.parent
    whole = digests(make(manifest, "whole").out)
    (folder / NAMES[1]).rename(folder / "away")
    options = "--data-origin", "made-up", "--shard-bytes", SHARD_BYTES, "--allow-rejects", 1
    assert run(manifest, "--out", folder / "pack", *options).exit_code == 0
    (folder / "away").rename(folder / NAMES[1])
    again = run(manifest, "--out", folder / "pack", *options)
    assert "1 file was rejected when this pack was written" in message(again)
    assert "if it is mended, give --overwrite" in message(again)
    assert run(manifest, "--out", folder / "pack", *options, "--overwrite").exit_code == 0
    assert digests(folder / "pack") == whole


def test_the_old_pack_stays_until_the_new_one_is_complete(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    made = make(manifest)
    old = digests(made.out)
    change_table(manifest)
    with monkeypatch.context() as patch:
        patch.setattr(door, "write_manifest", fail)
        with pytest.raises(OSError, match="No space left"):
            make(manifest, overwrite=True)
    assert digests(made.out) == old
    assert make(manifest, overwrite=True).read == 0, "all shards were already written"
    assert len(open_pack(made.out)) == N - 1
    assert beside(made.out) == ["pack"]


def test_the_old_pack_stays_if_files_are_rejected(manifest: Path) -> None:
    folder = manifest.parent
    old = digests(make(manifest).out)
    (folder / NAMES[1]).rename(folder / "away")
    options = "--data-origin", "made-up", "--shard-bytes", SHARD_BYTES, "--overwrite"
    result = run(manifest, "--out", folder / "pack", *options)
    assert result.exit_code == 1
    assert f"{folder / 'pack'} is as before, because the new pack is not finished: 1 file was" in (
        message(result)
    )
    assert digests(folder / "pack") == old
    (folder / "away").rename(folder / NAMES[1])
    assert run(manifest, "--out", folder / "pack", *options).exit_code == 0
    assert digests(folder / "pack") == old
    assert beside(folder / "pack") == ["pack"]


@pytest.mark.parametrize("renames", [1, 2])
def test_a_run_killed_between_the_renames_is_finished(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    class KilledError(BaseException):
        pass

    done: list[object] = []

    def rename(old: Path, new: Path) -> None:
        os.rename(old, new)
        done.append(new)
        if len(done) == renames:
            raise KilledError

    made = make(manifest)
    change_table(manifest)
    monkeypatch.setattr(replacing, "rename", rename)
    with pytest.raises(KilledError):
        make(manifest, overwrite=True)
    assert len(beside(made.out)) == 2
    make(manifest, overwrite=True)
    assert beside(made.out) == ["pack"]
    assert len(open_pack(made.out)) == N - 1


def test_an_unfinished_replacement_by_other_settings_is_not_used(manifest: Path) -> None:
    make(manifest)
    (manifest.parent / NAMES[1]).rename(manifest.parent / "away")
    assert not make(manifest, seed=5, overwrite=True).is_finished
    (manifest.parent / "away").rename(manifest.parent / NAMES[1])
    replaced = make(manifest, seed=6, overwrite=True)
    assert digests(replaced.out) == digests(make(manifest, "scratch", seed=6).out)


def test_without_a_pack_nothing_is_replaced(manifest: Path) -> None:
    (manifest.parent / "pack").mkdir()
    made = make(manifest, overwrite=True)
    assert digests(made.out) == digests(make(manifest, "new", overwrite=True).out)


@pytest.mark.parametrize("kind", ["a note", "no pack", "survey", "file", "folder in parts"])
def test_only_a_pack_is_replaced(manifest: Path, kind: str) -> None:
    out = make(manifest).out
    if kind == "a note":
        (out / "notes.txt").write_text("mine")
        expected = r"also contains notes\.txt"
    elif kind == "folder in parts":
        (out / "parts" / "mine").mkdir(parents=True)
        expected = r"also contains parts/mine"
    elif kind == "no pack":
        (out / "manifest.parquet").unlink()
        expected = "is not a pack"
    elif kind == "survey":
        table = parquet.read_table(out / "manifest.parquet")
        schema = table.schema.with_metadata({"dhs": '{"data_origin": "simulated", "n": 3}'})
        parquet.write_table(pyarrow.table(table.columns, schema=schema), out / "manifest.parquet")
        expected = "is not a pack"
    else:
        out = manifest
        expected = "is a file"
    before = sorted(out.rglob("*")) if out.is_dir() else out.read_bytes()
    with pytest.raises((ValueError, NotADirectoryError), match=expected):
        door.write_pack(manifest, out, data_origin="made-up", seed=3, overwrite=True)
    assert (sorted(out.rglob("*")) if out.is_dir() else out.read_bytes()) == before
    assert not (out.parent / f".{out.name}.new").exists()


def test_a_pack_that_is_being_written_is_not_replaced(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = make(manifest).out
    monkeypatch.setattr("dhs.jobs.lock.SECONDS_TO_WAIT_FOR_THE_FOLDER", 0.05)
    with (
        only_writer(out, "a pack"),
        pytest.raises(BlockingIOError, match="another process is writing a pack"),
    ):
        make(manifest, overwrite=True, seed=3)


def test_a_link_to_a_pack_stays(manifest: Path) -> None:
    out = make(manifest, "real-pack").out
    link = out.with_name("link")
    link.symlink_to(out.name)
    replaced = make(manifest, "link", seed=3, overwrite=True)
    assert replaced.out == link
    assert link.is_symlink()
    assert open_pack(out).metadata["split"]["seed"] == 3
