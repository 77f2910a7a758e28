"""Run a part in its own process, under its own time limit.

Nothing that a part does can stop the others: an exception, a crash, an illegal address and a hang
are recorded, with the rows that were written before and the end of what was printed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu_evidence.parts import Part

ROOT = Path(__file__).resolve().parents[2]
CHILD = "benchmarks.gpu_evidence.child"
TAIL = 2000
Record = dict[str, Any]
DONE, PARTLY, FAILED, NOT_MEASURED = "done", "partly", "failed", "not measured"
"""Status of a part. ``partly`` and ``failed`` ended early, with and without rows."""


def run_part(part: Part, environment: Mapping[str, str] | None = None) -> Record:
    """Run a part and return its record for the JSON file.

    Parameters
    ----------
    part : Part
        Part to run.
    environment : mapping, optional
        Variables that are added to the environment of the process.

    Returns
    -------
    dict
        ``status`` with its ``reason``, ``device``, ``rows``, ``seconds``, ``limit_seconds``,
        ``exit_status`` (None if the part was stopped) and ``output_tail``.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        file = Path(folder) / "part.json"
        exit_status = _run(part, file, output, environment or {})
        state = _read(file)
        tail = _tail(output)
    status, reason = _judge(part, state, exit_status)
    return {
        "title": part.title,
        "status": status,
        "reason": reason,
        "device": state.get("device", ""),
        "rows": state.get("rows", []),
        "seconds": round(time.monotonic() - started, 1),
        "limit_seconds": part.seconds,
        "exit_status": exit_status,
        "output_tail": tail,
    }


def _run(part: Part, file: Path, output: IO[bytes], environment: Mapping[str, str]) -> int | None:
    # Output goes to a file: a process that the part left behind would hold a pipe open.
    process = subprocess.Popen(
        [sys.executable, "-m", CHILD, part.run, str(file)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=os.environ | environment,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        return process.wait(part.seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A process that waits inside a driver may outlive its end.
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tail(output: IO[bytes]) -> str:
    length = output.seek(0, os.SEEK_END)
    output.seek(max(0, length - TAIL))
    return output.read().decode("utf-8", "replace").replace("\0", "?").strip()


def _judge(part: Part, state: dict[str, Any], exit_status: int | None) -> tuple[str, str]:
    """Return the status of a part, and the reason if it is not done."""
    if exit_status is None:
        reason = f"stopped at its limit of {part.seconds} s"
    elif state.get("not_measured"):
        reason = state["not_measured"]
        return (PARTLY if state["rows"] else NOT_MEASURED), reason
    elif state.get("error"):
        reason = state["error"]
    elif exit_status < 0:
        reason = f"died of {signal.Signals(-exit_status).name}"
    elif exit_status or not state.get("is_complete"):
        reason = f"ended with exit status {exit_status} before its end"
    else:
        return DONE, ""
    return (PARTLY if state.get("rows") else FAILED), reason
