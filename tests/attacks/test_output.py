"""Output that cannot be written ends a command with one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


@pytest.mark.parametrize(
    "command", ["fastnorm backends", "fastnorm backends --json", "fastnorm --version", "dhs --help"]
)
def test_a_full_disk_under_the_output(command: str) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "error: the output cannot be written: No space left on device.\n"


def test_a_closed_pipe_ends_a_command_without_a_word() -> None:
    command = [sys.executable, "-m", "dhs", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
