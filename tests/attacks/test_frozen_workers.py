"""Workers that outlive their writer because they are stopped, and keep its folder locked."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dhs.jobs import holders, lock
from dhs.jobs.holders import Holder, holders_of, is_gone
from dhs.jobs.lock import WRITER, only_writer

WRITE = """
import subprocess, sys
from pathlib import Path
from dhs.jobs.lock import only_writer
with only_writer(Path(sys.argv[1]), "a thing") as record_owner:
    record_owner()
    worker = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]])
    worker.wait()
"""
WORK = """
import os, sys, time
from pathlib import Path
from dhs.jobs.lock import hold_until_exit
hold_until_exit(Path(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Kill a writer whose worker is stopped; return the numbers of both."""
    arguments = [sys.executable, "-c", WRITE, str(tmp_path), WORK]
    writer = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    worker = int(writer.stdout.readline())
    os.kill(worker, signal.SIGSTOP)
    writer.kill()
    writer.wait()
    try:
        yield writer.pid, worker
    finally:
        os.kill(worker, signal.SIGKILL)
        writer.stdout.close()


def refusal(folder: Path) -> str:
    with pytest.raises(BlockingIOError) as error, only_writer(folder, "a thing", 0):
        pass
    return str(error.value)


def test_the_workers_of_a_killed_writer_are_named(
    frozen: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, worker = frozen
    expected = (
        rf"{tmp_path} is locked for a thing: process {writer} on host .* is gone, but its workers "
        rf"hold the folder: process {worker} \(stopped\); .* kill -9 {worker}"
    )
    assert re.fullmatch(expected, refusal(tmp_path))
    # The system may give the number of the writer to another process.
    owner = json.loads((tmp_path / WRITER).read_text())
    (tmp_path / WRITER).write_text(json.dumps(owner | {"pid": os.getpid()}))
    assert f"process {os.getpid()} on host" in refusal(tmp_path)
    assert f"is gone, but its workers hold the folder: process {worker}" in refusal(tmp_path)
    # Numbers of another host mean nothing here.
    (tmp_path / WRITER).write_text(json.dumps(owner | {"host": "elsewhere"}))
    assert refusal(tmp_path).startswith("another process is writing a thing")
    (tmp_path / WRITER).write_text("{")
    assert f"an unknown process (here, process {worker} (stopped) holds" in refusal(tmp_path)
    # Another system does not tell who holds a folder.
    (tmp_path / WRITER).write_text(json.dumps(owner))
    monkeypatch.setattr(holders, "PROCESSES", tmp_path / "none")
    said = refusal(tmp_path)
    assert f"process {writer} on host" in said
    assert "is gone, but others hold the folder, perhaps its workers, that cannot be seen" in said
    assert f"lsof {tmp_path}" in said


def test_a_writer_that_runs_is_named_alone(tmp_path: Path) -> None:
    with only_writer(tmp_path, "a thing") as record_owner:
        record_owner()
        said = refusal(tmp_path)
    assert said.startswith(f"another process is writing a thing into {tmp_path}: process ")
    assert f"process {os.getpid()} on host" in said


def test_only_those_that_hold_the_lock_are_found(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert holders_of(tmp_path) == []
        with only_writer(tmp_path, "a thing"):
            assert holders_of(tmp_path) == [Holder(os.getpid(), is_stopped=False)]
        assert holders_of(tmp_path) == []
    finally:
        os.close(descriptor)
    assert holders_of(tmp_path / "none") == []


@pytest.mark.parametrize("pid", [0, -1, -(10**6), pytest.param(os.getpid(), id="own"), 1, 10**30])
def test_numbers_that_are_not_known_to_be_gone(pid: int) -> None:
    assert not is_gone(pid)


@pytest.mark.parametrize("pid", ['"1e3"', "null", "[]", "9" * 4000, "9" * 30, "-1", "0", "NaN"])
def test_a_signature_that_lies_ends_nothing(
    pid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "holders_of", lambda folder: [])
    host = socket.gethostname()
    text = f'{{"pid": {pid}, "host": "{host}", "since": "s", "command": "a\\u001b[2J\\nb"}}'
    with only_writer(tmp_path, "a thing"):
        (tmp_path / WRITER).write_text(text)
        said = refusal(tmp_path)
    assert said.startswith("another process is writing a thing into")
    assert said.isprintable()
