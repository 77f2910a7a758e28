"""Two writers at once: the second is refused and learns who the first is; files stay whole."""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dhs.audit.artefacts import find_artefacts
from dhs.jobs.claim import remove_leftovers
from dhs.jobs.lock import WRITER, only_writer
from dhs.score.parts import parts_folder
from fastnorm.atomic import atomic_path
from tests.faults.fault_cases import FOLDERS, JOBS, run, write_inputs
from tests.faults.fault_cases import quick as quick

HELD = [*FOLDERS, "score"]
HOLD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from dhs.jobs.lock import only_writer
with ExitStack() as exits:
    for folder in sys.argv[2:]:
        exits.enter_context(only_writer(Path(folder), "a thing"))()
    print("held", flush=True)
    input()
"""
WORK = """
import sys
from pathlib import Path
from dhs.jobs.lock import hold_until_exit
hold_until_exit(Path(sys.argv[2]))
print("held", flush=True)
input()
"""

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("home"))


def start(code: str, *folders: Path) -> subprocess.Popen[str]:
    """Start a process that locks folders until it reads a line."""
    command = [sys.executable, "-c", code, "some words", *map(str, folders)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def held_folder(name: str, out: Path) -> Path:
    return parts_folder(out) if name == "score" else out


@pytest.fixture(scope="module")
def holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    folders = [held_folder(name, home / "held" / JOBS[name].out) for name in HELD]
    (home / "held").mkdir()
    process = start(HOLD, *folders)
    yield process
    process.communicate("end\n")
    assert not any((folder / WRITER).exists() for folder in folders)


@pytest.mark.parametrize("name", HELD)
def test_the_second_is_told_of_the_first(
    name: str, home: Path, holder: subprocess.Popen[str]
) -> None:
    out = home / "held" / JOBS[name].out
    result = run(name, home, out)
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    first = rf"process {holder.pid} on host {re.escape(socket.gethostname())} since 20\d\d-"
    assert re.search(first, said), said
    assert re.search(r"another process is writing .* into .*: process", said)
    assert re.search(r":\d\d UTC \(-c 'some words' .*\); wait for it to finish, or stop it\.", said)
    assert [path.name for path in held_folder(name, out).iterdir()] == [WRITER]


@pytest.mark.parametrize("name", HELD)
def test_every_command_holds_what_it_writes(
    name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second writer is refused until the last file is in place; nothing is left over."""
    out = tmp_path / JOBS[name].out
    replace, told = os.replace, []

    def come_second(*paths: Any) -> None:
        try:
            with only_writer(held_folder(name, out), "a thing", 0):
                told.append("nothing")
        except BlockingIOError as error:
            told.append(str(error))
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", come_second)
        assert run(name, home, out).exit_code == 0
    assert all("another process is writing" in said for said in told)
    assert f"process {os.getpid()} on host" in told[-1]
    files = [out] if out.is_file() else [path for path in out.iterdir() if path.is_file()]
    for path in files:
        path.with_name(f".{path.name}.tmp-1-0a1b2c3d").touch()
    assert run(name, home, out).exit_code == 0
    assert not [*tmp_path.rglob(WRITER), *tmp_path.rglob(".*.tmp-*")]


def test_a_killed_writer_neither_refuses_nor_misleads(tmp_path: Path) -> None:
    process = start(HOLD, tmp_path)
    process.kill()
    process.communicate()
    killed = json.loads((tmp_path / WRITER).read_text())
    assert killed["pid"] == process.pid
    with only_writer(tmp_path, "a thing", 0):
        # The second writer has not recorded itself yet.
        with (
            pytest.raises(BlockingIOError, match=r"another .*: an unknown process.*; wait"),
            only_writer(tmp_path, "a thing", 0),
        ):
            pass
        assert not (tmp_path / WRITER).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"a"', b"\xff\x00", b'{"pid": 1}'])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, content: bytes) -> None:
    with only_writer(tmp_path, "a thing") as record_owner:
        record_owner()
        (tmp_path / WRITER).write_bytes(content)
        with (
            pytest.raises(BlockingIOError, match="an unknown process"),
            only_writer(tmp_path, "a thing", 0),
        ):
            pass


def test_a_disk_without_room_for_a_signature_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dhs.jobs.lock.write_new", fail)
    with only_writer(tmp_path, "a thing") as record_owner:
        record_owner()
        with (
            pytest.raises(BlockingIOError, match="an unknown process"),
            only_writer(tmp_path, "a thing", 0),
        ):
            pass


def wrap_flock(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Call ``act`` before the first lock of every kind."""
    flock, seen = fcntl.flock, set()

    def acting(descriptor: int, kind: int) -> None:
        if kind not in seen:
            seen.add(kind)
            act(kind & ~fcntl.LOCK_NB)
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", acting)


def test_a_folder_that_was_removed_and_made_anew_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring removes its folder at the end; the next run may already have opened it."""
    folder = tmp_path / "parts"

    def remove(kind: int) -> None:
        if kind == fcntl.LOCK_EX:
            shutil.rmtree(folder)

    wrap_flock(monkeypatch, remove)
    with (
        only_writer(folder, "a thing", 5),
        pytest.raises(BlockingIOError),
        only_writer(folder, "a thing", 0),
    ):
        pass


def test_a_lock_that_is_lost_as_it_changes_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(kind: int) -> None:
        if kind == fcntl.LOCK_SH:
            raise BlockingIOError

    wrap_flock(monkeypatch, lose)
    with pytest.raises(BlockingIOError, match="another"), only_writer(tmp_path, "a thing", -1):
        pass
    with (
        only_writer(tmp_path, "a thing", 5),
        pytest.raises(BlockingIOError),
        only_writer(tmp_path, "a thing", 0),
    ):
        pass


def test_a_file_system_without_locks_keeps_nobody_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    code = errno.ENOLCK
    with only_writer(tmp_path, "a thing", 0), only_writer(tmp_path, "a thing", 0):
        pass
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output"), only_writer(tmp_path, "a thing", 0):
        pass


def test_workers_of_a_killed_writer_keep_others_away(tmp_path: Path) -> None:
    worker = start(WORK, tmp_path)
    with pytest.raises(BlockingIOError), only_writer(tmp_path, "a thing", 0):
        pass
    worker.kill()
    worker.communicate()
    with only_writer(tmp_path, "a thing", 0):
        pass


def test_audits_and_emptiness_do_not_see_signatures(home: Path, tmp_path: Path) -> None:
    (tmp_path / WRITER).write_bytes(b"{")
    assert find_artefacts([tmp_path]).is_empty
    for name in ("grid", "simulate"):
        out = tmp_path / JOBS[name].out
        out.mkdir()
        # Left by a killed writer in a folder that was emptied by hand.
        (out / WRITER).write_bytes(b"{")
        assert run(name, home, out).exit_code == 0


def write_often(path: Path, letter: str) -> None:
    for length in range(100_000, 100_040):
        with atomic_path(path) as temporary:
            temporary.write_text(letter * length)


def test_writers_of_one_file_leave_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "table"
    errors: list[BaseException] = []

    def write(letter: str) -> None:
        try:
            write_often(path, letter)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            text = path.read_text()
            assert len(text) >= 100_000
            assert len(set(text)) == 1
    assert not errors
    assert os.listdir(tmp_path) == ["table"]


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    names = [".a[b].tmp-1", ".a[b].tmp-12-ab34cd56", ".ab.tmp-1", "a[b]", ".a[b].tmp"]
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, glob.escape("a[b]"), "absent")
    assert sorted(os.listdir(tmp_path)) == sorted(names[2:])
