"""Why a part does not run, or only rehearses. Imports nothing heavy."""

from __future__ import annotations

import os

REHEARSAL = "GPU_EVIDENCE_REHEARSAL"
"""Environment variable of a rehearsal: every part runs on a CPU, in Triton's interpreter."""


class NotMeasuredError(Exception):
    """A part cannot run here; the message is the reason."""


def is_rehearsal() -> bool:
    return os.environ.get(REHEARSAL) == "1"


def one_line(error: BaseException) -> str:
    """Return the type and message of an error on one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
