"""Output folders that a stranger prepared with links, pipes and hard links."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from dhs.jobs.claim import output_folder
from dhs.jobs.files import open_own, write_new
from dhs.jobs.lock import WRITER, only_writer
from fastnorm.atomic import atomic_path
from fastnorm.cli import app
from tests.dhs.fetch.fetch_cases import catalogue, get
from tests.dhs.fetch.fetch_cases import server as server
from tests.dhs.fetch.flaky_server import FlakyServer
from tests.faults.fault_cases import JOBS, run, write_inputs
from tests.faults.fault_cases import quick as quick

NAMES = ("g00.fits", "journal.jsonl", "manifest.parquet", "rejected.parquet", "parts/g00.fits")
WRITTEN = {
    "simulate": ("manifest.parquet", "parts/settings.json"),
    "pack": ("shard-00000.npy", "manifest.parquet", "rejected.parquet"),
    "train": ("best.safetensors", "metrics.jsonl", "tensorboard"),
    "grid": ("settings.json", "shards/x.parquet", "selection_function.parquet"),
    "realism": ("realism.json",),
    "evaluate": ("roc.png", "evaluation.json"),
    "score": ("../.scores.parquet.parts", "../.scores.parquet.parts/metadata.json"),
}
"""Some of the files that a command writes into its folder."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("home"))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that somebody wants to have overwritten."""
    path = tmp_path / "home" / "key"
    path.parent.mkdir()
    path.write_text("precious")
    return path


@pytest.fixture
def fetched(server: FlakyServer, tmp_path: Path) -> Path:
    """A folder in which a download was begun."""
    out = tmp_path / "cutouts"
    get(server, out, catalogue(2), limit=1)
    return out


def lead(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("to", ["file", "nothing"])
def test_fetch_does_not_write_through_a_link(
    name: str, to: str, server: FlakyServer, fetched: Path, victim: Path
) -> None:
    target = victim if to == "file" else victim.with_name("authorized_keys")
    before = (fetched / name).read_bytes() if (fetched / name).exists() else b""
    lead(fetched / name, target)
    server.asked.clear()
    with pytest.raises(ValueError, match=f"where files are to be written: {name} -> {target}"):
        get(server, fetched, catalogue(2))
    assert not server.asked
    assert (os.listdir(victim.parent), victim.read_text()) == (["key"], "precious")
    (fetched / name).unlink()
    (fetched / name).write_bytes(before)
    assert get(server, fetched, catalogue(2)).cutouts == 2


def test_fetch_neither_writes_nor_deletes_in_a_folder_behind_a_link(
    server: FlakyServer, fetched: Path, victim: Path
) -> None:
    temporary = victim.with_name(".g00.fits.tmp-1-a")
    temporary.touch()
    (fetched / "parts").symlink_to(victim.parent)
    with pytest.raises(ValueError, match=f"parts -> {victim.parent}"):
        get(server, fetched, catalogue(2))
    assert sorted(os.listdir(victim.parent)) == sorted(["key", temporary.name])


@pytest.mark.parametrize("name", NAMES)
def test_fetch_does_not_wait_for_a_pipe(name: str, server: FlakyServer, fetched: Path) -> None:
    (fetched / name).parent.mkdir(exist_ok=True)
    (fetched / name).unlink(missing_ok=True)
    os.mkfifo(fetched / name)
    with pytest.raises(ValueError, match=rf"{name} \(a pipe, a socket or a device\)"):
        get(server, fetched, catalogue(2))


def test_a_link_that_appears_while_fetching_is_replaced(
    server: FlakyServer, fetched: Path, victim: Path
) -> None:
    def prepare(done: int, total: int) -> None:
        for name in ("g01.fits", "parts/g01.fits", "manifest.parquet"):
            if done == 1:
                lead(fetched / name, victim)

    assert get(server, fetched, catalogue(2), progress=prepare).cutouts == 2
    assert victim.read_text() == "precious"
    assert not [path for path in fetched.rglob("*") if path.is_symlink()]


def test_the_journal_is_not_written_under_another_name(
    server: FlakyServer, fetched: Path, victim: Path
) -> None:
    other = victim.with_name("other")
    os.link(fetched / "journal.jsonl", other)
    before = other.read_bytes()
    assert get(server, fetched, catalogue(2)).downloaded == 1
    assert other.read_bytes() == before
    assert (fetched / "journal.jsonl").read_bytes().startswith(before)


def test_a_journal_that_became_a_link_is_not_appended_to(tmp_path: Path, victim: Path) -> None:
    lead(tmp_path / "journal.jsonl", victim)
    with pytest.raises(OSError, match="symbolic links"):
        open_own(tmp_path / "journal.jsonl", os.O_WRONLY | os.O_APPEND)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe is not a regular file"):
        open_own(tmp_path / "pipe", os.O_RDONLY)


@pytest.mark.parametrize("make", [Path.symlink_to, os.link], ids=["link", "hard link"])
def test_the_signature_of_a_lock_is_not_written_elsewhere(
    make: Callable[..., None], tmp_path: Path, victim: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with only_writer(folder, "a thing") as record_owner:
        if make is os.link:
            os.link(victim, folder / WRITER)
        else:
            make(folder / WRITER, victim)
        record_owner()
        assert not (folder / WRITER).is_symlink()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe"])
def test_a_signature_that_never_ends_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    with only_writer(tmp_path, "a thing"):
        os.mkfifo(tmp_path / ("pipe" if kind.startswith("link") else WRITER))
        if kind.startswith("link"):
            (tmp_path / WRITER).symlink_to("pipe")
        with (
            pytest.raises(BlockingIOError, match="an unknown process"),
            only_writer(tmp_path, "a thing", 0),
        ):
            pass


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("job", "name"), [(job, name) for job, names in WRITTEN.items() for name in names]
)
def test_no_command_writes_through_a_link(
    job: str, name: str, home: Path, tmp_path: Path, victim: Path
) -> None:
    out = tmp_path / JOBS[job].out
    lead(Path(os.path.normpath(out / name)), victim)
    done = run(job, home, out)
    assert done.exit_code == 2
    assert f"{name.removeprefix('../')} -> {victim}" in " ".join(done.output.split())
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_normalised_fits_are_not_written_through_a_link(
    options: list[str], tmp_path: Path, victim: Path
) -> None:
    pixels = np.random.default_rng(3).normal(size=(3, 101, 101)).astype(np.float32)
    for name in ("a", "b", "c"):
        fits.writeto(tmp_path / f"{name}.fits", pixels)
    out = tmp_path / "out"
    lead(out / "a.fits", victim)
    lead(out / "b.fits", victim.with_name("nothing"))
    given = [str(tmp_path / f"{name}.fits") for name in ("a", "b", "c")]
    done = CliRunner().invoke(app, ["normalize-fits", *given, "--out", str(out), *options])
    assert done.exit_code == 1
    assert done.output.count("is a link, which may lead anywhere; delete it") == 2
    assert victim.read_text() == "precious"
    assert os.listdir(victim.parent) == [victim.name]
    assert not (out / "c.fits").is_symlink()


def test_only_names_that_are_written_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to("/")
    with output_folder(tmp_path, "a thing", "*.npy", "parts/*"):
        pass
    # The folder itself is named by its user.
    link = tmp_path.with_name(f"{tmp_path.name}-link")
    link.symlink_to(tmp_path)
    with output_folder(link, "a thing", "*.npy", "parts/*"):
        pass
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "a.npy"))
        with (
            pytest.raises(ValueError, match=r"a\.npy \(a pipe, a socket or a device\)"),
            output_folder(tmp_path, "a thing", "*.npy"),
        ):
            pass


def test_files_are_new_and_replace_links(tmp_path: Path, victim: Path) -> None:
    for number in range(2):
        lead(tmp_path / "a", victim)
        write_new(tmp_path / "a", b"%d" % number)
        assert (tmp_path / "a").read_bytes() == b"%d" % number
    lead(tmp_path / "a", victim)
    with atomic_path(tmp_path / "a", follow=False) as temporary:
        temporary.write_text("new")
    assert not (tmp_path / "a").is_symlink()
    assert victim.read_text() == "precious"
