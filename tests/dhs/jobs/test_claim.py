"""Output folders: what is created, recorded and removed, and when nothing is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhs.jobs.claim import output_folder
from dhs.jobs.lock import WRITER


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with temporary files of a killed writer, and with one of somebody else."""
    folder = tmp_path / "out"
    (folder / "parts").mkdir(parents=True)
    for name in (".shard-0.npy.tmp-1-a", "parts/.x.parquet.tmp-1-b", ".other.tmp-1-c"):
        (folder / name).touch()
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_unfinished_work_records_its_owner_and_loses_its_leftovers(out: Path) -> None:
    with output_folder(out, "a thing", "shard-*.npy", "parts/*", claim=lambda: False) as complete:
        assert not complete
        assert names(out) == {".other.tmp-1-c", WRITER}
    assert names(out) == {".other.tmp-1-c"}


def test_leftovers_of_workers_that_died_meanwhile_go_as_well(out: Path) -> None:
    with output_folder(out, "a thing", "shard-*.npy"):
        (out / ".shard-1.npy.tmp-2-d").touch()
    assert names(out) == {".x.parquet.tmp-1-b", ".other.tmp-1-c"}


def test_complete_work_has_no_owner(out: Path) -> None:
    with output_folder(out, "a thing", "shard-*.npy", claim=lambda: True) as complete:
        assert complete
        assert names(out) == {".x.parquet.tmp-1-b", ".other.tmp-1-c"}


def test_a_refused_folder_is_not_touched(out: Path) -> None:
    def refuse() -> bool:
        raise ValueError("it holds something else")

    before = names(out)
    with (
        pytest.raises(ValueError, match="something else"),
        output_folder(out, "a thing", "shard-*.npy", claim=refuse),
    ):
        pass
    assert names(out) == before


def test_folders_are_created_and_files_refused(tmp_path: Path) -> None:
    with output_folder(tmp_path / "a" / "b", "a thing"):
        assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with (
        pytest.raises(NotADirectoryError, match=r"file is a file; name a folder for a thing\."),
        output_folder(tmp_path / "file", "a thing"),
    ):
        pass


def work_that_fails(out: Path, kind: type[BaseException], *files: str) -> None:
    with output_folder(out, "a thing"):
        assert names(out) == {WRITER}
        for name in files:
            (out / name).touch()
        raise kind("it failed")


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_folder_created_for_work_that_fails_at_once_is_removed(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    out = tmp_path / "runs" / "one"
    with pytest.raises(kind, match="it failed"):
        work_that_fails(out, kind)
    assert not out.exists()
    with output_folder(out, "a thing"):
        pass
    assert out.is_dir()


def test_a_folder_of_somebody_or_with_a_file_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it failed"):
        work_that_fails(tmp_path, ValueError)
    assert tmp_path.is_dir()
    with pytest.raises(ValueError, match="it failed"):
        work_that_fails(tmp_path / "out", ValueError, "state")
    assert names(tmp_path / "out") == {"state"}
