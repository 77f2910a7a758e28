"""Compiled CPU kernels on disk: checked when they are read, and left out where nothing can be kept.

Numba's own cache raises an error on import if no folder can be written, and runs or stumbles over
whatever bytes its files contain.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    NullCache,
)

DIGEST_BYTES = 32


def cached_njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function with ``numba.njit`` and keep the result on disk, if that is possible."""

    def compile_later(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        try:
            dispatcher._cache = KernelCache(function)
        except RuntimeError as error:
            # Numba found no folder that it can write to.
            if "no locator available" not in str(error):
                raise
            dispatcher._cache = NoCache()
        return dispatcher

    return compile_later


class OfUser(CompileResultCacheImpl):
    """Files in ``NUMBA_CACHE_DIR``, or the user's cache folder, rather than in the installation.

    ``pip uninstall`` leaves files there that it did not install.
    """

    _locator_classes = sorted(
        CompileResultCacheImpl._locator_classes, key=lambda locator: "InTree" in locator.__name__
    )


class KernelCache(FunctionCache):
    """Numba's cache of one function, which compiles again whatever it cannot read or write."""

    _impl_class = OfUser

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # The type of Numba's stamp depends on its version.
        stamp = repr(self._impl.locator.get_source_stamp()).encode()
        stamp += _sources(Path(function.__code__.co_filename).parent)
        # The name differs from that of Numba's own files, which have no digest.
        name = f"{self._impl.filename_base}.checked"
        self._cache_file = CheckedFile(self.cache_path, name, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        # Damaged bytes may raise anything.
        except Exception as error:
            kind = f"{type(error).__name__}: {error}"
            _say(f"a compiled kernel in {self.cache_path} is damaged ({kind}); compiling it again.")
            with suppress(OSError):
                self.flush()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say(_not_kept(f"{self.cache_path}: {error.strerror or error}"))


class CheckedFile(IndexDataCacheFile):
    """Numba's pair of files, whose data begin with a digest of the sources and of themselves."""

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as stream:
            stream.write(self._digest(content) + content)

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        digest, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if digest != self._digest(content):
            raise ValueError(f"{name} does not have its checksum")
        # Numba stores compiled code in this way; the digest finds damage, and is no signature.
        return pickle.loads(content)

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(self._source_stamp + content).digest()


class NoCache(NullCache):
    """A cache that keeps nothing, and says so when it is asked to."""

    def save_overload(self, sig: Any, cres: Any) -> None:
        _say(_not_kept("neither the installation nor the home folder can be written"))


def _sources(folder: Path) -> bytes:
    """Return a digest of all sources in a folder, since a kernel contains others that it calls."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.digest()


def _not_kept(reason: str) -> str:
    return (
        f"compiled kernels cannot be kept on disk ({reason}), so that every process compiles them "
        "again. Set NUMBA_CACHE_DIR to a folder that can be written."
    )


@cache
def _say(text: str) -> None:
    print(f"fastnorm: {text}", file=sys.stderr, flush=True)
