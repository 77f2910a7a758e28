"""Background programs, which start when tests are collected and whose tests run last.

Interpreted kernels take minutes on one core, which would otherwise be idle.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests import ROOT

_begun: dict[tuple[str, ...], subprocess.Popen[str]] = {}


def begin(*command: str, **environment: str) -> None:
    """Start ``python -m command`` in the background, at low priority."""
    _begun[command] = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.nice(10),
    )


def printed_by(*command: str) -> list[str]:
    """Wait for a program to succeed and return the lines that it printed."""
    process = _begun.pop(command)
    printed, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors
    assert not [line for line in errors.splitlines() if "compiling" not in line], errors
    return printed.splitlines()


def end() -> None:
    """Kill the programs that no test waited for."""
    while _begun:
        _, process = _begun.popitem()
        process.kill()
        process.communicate()
