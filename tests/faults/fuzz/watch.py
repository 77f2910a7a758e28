"""Checks that a reader does not hang, use much memory, warn, write, execute or unpickle."""

from __future__ import annotations

import signal
import sys
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.memory import peak_bytes, reset_peak
from fastnorm.io import CutoutWarning

MOST_SECONDS = 5.0
"""Largest processor time for one input; elapsed time depends on other processes."""
OWN_BYTES = 8 * 2**20
"""Memory that a reader may use in addition to `TIMES_SIZE` times the size of the file."""
TIMES_SIZE = 20
"""Memory that a reader may use, as a multiple of the size of the file."""
RESIDENT_BYTES = 64 * 2**20

_FORBIDDEN = (
    *("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"),
    *("os.remove", "os.rename", "os.mkdir", "os.chmod", "os.link", "os.symlink", "os.truncate"),
    *("socket.connect", "shutil.copyfile", "shutil.move", "shutil.rmtree", "ctypes.dlopen"),
)
_seen: list[str] | None = None
_is_warming = False


class Hang(BaseException):
    """A reader took too long; a BaseException, so that no reader converts it."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    is_writing = (
        event == "open"
        and isinstance(arguments[1], str)
        and not set(arguments[1]).isdisjoint("wax+")
    )
    if is_writing or event in _FORBIDDEN:
        _seen.append(f"{event} {arguments!r}")


sys.addaudithook(_audit)


def _hang(*_: object) -> None:
    raise Hang(f"more than {MOST_SECONDS:g} s of processor time")


@contextmanager
def watched(size: int, *, is_traced: bool = True) -> Iterator[None]:
    """Fail if the code inside does something that no reader may do.

    Parameters
    ----------
    size : int
        Unpacked size of the input in bytes.
    is_traced : bool
        Trace every allocation by Python and NumPy. Use False with Arrow, whose threads may still
        allocate when tracing stops; that crashes Python 3.11 (gh-128679).
    """
    global _seen
    did: list[str] = []
    before = signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    started, resident = time.process_time(), reset_peak()
    if is_traced:
        tracemalloc.start()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            _seen = did
            yield
    finally:
        _seen = None
        _, peak = tracemalloc.get_traced_memory()
        if is_traced:
            tracemalloc.stop()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    took = time.process_time() - started
    if _is_warming:
        return
    assert not did, f"did {did}"
    # A reader may give one notice of what is unusual in a file.
    is_silent = len(said) <= 1 and all(issubclass(item.category, CutoutWarning) for item in said)
    assert is_silent, f"warned: {[str(item.message) for item in said]}"
    most = OWN_BYTES + TIMES_SIZE * size
    assert peak <= most, f"took {peak:,} bytes to read {size:,}; at most {most:,} are allowed"
    grew = peak_bytes() - resident
    # Libraries also allocate memory that Python does not trace, and keep some of it.
    assert grew <= RESIDENT_BYTES + most, f"grew by {grew:,} bytes to read {size:,}"
    assert took <= MOST_SECONDS, f"took {took:.1f} s"


@contextmanager
def warming() -> Iterator[None]:
    """Do not measure, because libraries import parts of themselves on first use."""
    global _is_warming
    _is_warming = True
    try:
        yield
    finally:
        _is_warming = False


def require_message(text: str, path: Path) -> None:
    """Require a message that names the file; a list of faults may have several lines."""
    assert str(path) in text, repr(text)
    for line in text.splitlines():
        require_one_line(line.strip())


def require_one_line(text: str) -> None:
    """Require one printable line, without line breaks or terminal control codes."""
    assert text.isprintable(), repr(text)
    assert text == text.strip() != "", repr(text)
    assert len(text) < 4000, len(text)
