"""Files of strangers: what is not a file on a disk is refused before it is read."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dhs.audit.artefacts import find_artefacts
from dhs.checkpoint.file import read as read_checkpoint
from dhs.checkpoint.published import read_old
from dhs.config.file import read_yaml
from dhs.fetch.catalogue import read_catalogue
from dhs.manifest.table import read_manifest
from dhs.model.finder import build_model
from dhs.pack.format import open_stack
from dhs.pack.source import read_source
from dhs.pack.view import open_pack
from dhs.report.training import read_metrics
from dhs.score.table import read_table
from dhs.score.work import read_metadata
from dhs.selection.grid_result import GridResult
from fastnorm.io import read_cutouts
from fastnorm.io.numpy_files import load_mask
from fastnorm.paths import NotAFileError, open_file

LONGEST = 2.0
"""Seconds until a reader that waits for a pipe is let go."""

DOORS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "cutout of npz": ("a.npz", lambda path: list(read_cutouts(path))),
    "cutout of npy": ("a.npy", lambda path: list(read_cutouts(path))),
    "cutout of FITS": ("a.fits", lambda path: list(read_cutouts(path))),
    "mask": ("a.npy", load_mask),
    "manifest of Parquet": ("a.parquet", read_manifest),
    "manifest of CSV": ("a.csv", read_manifest),
    "table of a new pack": ("a.csv", lambda path: read_source(path, "simulated")),
    "manifest of a pack": ("manifest.parquet", lambda path: open_pack(path.parent)),
    "shard": ("shard-00000.npy", lambda path: open_stack(path, "<f4")),
    "scores": ("a.parquet", read_table),
    "configuration": ("a.yaml", read_yaml),
    "checkpoint": ("a.safetensors", read_checkpoint),
    "old checkpoint": ("a.pt", read_old),
    "ImageNet weights": (
        "a.safetensors",
        lambda path: build_model("efficientnet_v2_s", pretrained=True, weights=path),
    ),
    "catalogue of CSV": ("a.csv", lambda path: read_catalogue(path, None)),
    "catalogue of VOTable": ("a.vot", lambda path: read_catalogue(path, None)),
    "catalogue of FITS": ("a.fits", lambda path: read_catalogue(path, None)),
    "grid": ("grid.json", lambda path: GridResult(path.parent)),
    "learning curve": ("metrics.jsonl", read_metrics),
}


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    # A path of a socket has at most about 100 characters.
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/null")


KINDS: dict[str, Callable[[Path], None]] = {"a pipe": make_pipe, "a device": make_device}
if Path("/proc/self/fd").exists():
    KINDS["a socket"] = make_socket


@contextmanager
def let_go(path: Path) -> Iterator[None]:
    """Open a pipe for writing after a while, which ends a reader's wait, and fail if one waited."""
    waited, done = [], threading.Event()

    def release() -> None:
        if not done.wait(LONGEST):
            with suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                waited.append(True)

    timer = threading.Thread(target=release)
    timer.start()
    try:
        yield
    finally:
        done.set()
        timer.join()
        assert not waited, "the reader waited for the pipe"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_only_files_are_read(tmp_path: Path, door: str, kind: str) -> None:
    name, read = DOORS[door]
    path = tmp_path / name
    KINDS[kind](path)
    with let_go(path), pytest.raises((OSError, ValueError)) as error:
        read(path)
    said = str(error.value)
    assert f"is {kind}, not a regular file: save its content to a file" in said
    assert name in said
    assert "\n" not in said


def test_an_endless_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to("/dev/zero")
    with pytest.raises(NotAFileError, match="is a device"):
        open_file(tmp_path / "a.csv")


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a.npy")
    monkeypatch.setattr("fastnorm.paths.require_file", lambda path: None)
    with let_go(tmp_path / "a.npy"), pytest.raises(NotAFileError, match="is a pipe"):
        open_file(tmp_path / "a.npy")


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    content = os.urandom(2**20)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "link").symlink_to("a")
    with open_file(tmp_path / "link") as stream:
        assert stream.read() == content
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "none")


def test_a_table_of_scores_is_not_written_over_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    os.mkfifo(path)
    with let_go(path):
        assert read_metadata(path) is None


def test_a_folder_of_pipes_is_audited(tmp_path: Path) -> None:
    names = ("a.safetensors", "grid.json", "evaluation.json", "b.parquet", "c.pt", "d.md")
    for name in names:
        os.mkfifo(tmp_path / name)
    with let_go(tmp_path / names[0]):
        found = find_artefacts([tmp_path])
    assert {item.path.name for item in found.rejected} == set(names)
