"""The cache of compiled CPU kernels: folders that cannot be written, and files that are damaged."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core import caching

from fastnorm.kernels import numba_cache, numba_cpu, numba_render
from tests import ROOT

SOURCE = """
from fastnorm.kernels.numba_cache import cached_njit

@cached_njit(nogil=True)
def double(x):
    return 2 * x
"""


@pytest.fixture(autouse=True)
def _every_notice() -> Iterator[None]:
    numba_cache._say.cache_clear()
    yield
    numba_cache._say.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "kernel.py").write_text(SOURCE)
    return tmp_path / "kernels"


def call(folder: Path) -> Any:
    """Import the kernel again, as another process would, call it, and return it."""
    spec = importlib.util.spec_from_file_location("kernel", folder / "kernel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.double(4.5) == 9
    return module.double


def hits(folder: Path) -> int:
    return sum(call(folder).stats.cache_hits.values())


def file(folder: Path, suffix: str) -> Path:
    [found] = folder.parent.rglob(f"*{suffix}")
    return found


def test_nothing_is_left_in_the_installation(folder: Path) -> None:
    call(folder)
    kept = file(folder, ".nbc")
    assert any(kept.is_relative_to(folder.parent / name) for name in ("user", "home"))
    assert not list(folder.rglob("*.nb?"))


def test_a_second_process_compiles_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert hits(folder) == 0
    assert hits(folder) == 1
    assert capfd.readouterr().err == ""


def test_kernels_have_this_cache() -> None:
    for kernel in (numba_cpu.normalize_planes, numba_render.render_images):
        assert isinstance(kernel._cache, numba_cache.KernelCache)


def test_a_change_in_another_file_of_the_folder_compiles_again(folder: Path) -> None:
    (folder / "called.py").write_text("a = 1\n")
    assert hits(folder) == 0
    (folder / "called.py").write_text("a = 2\n")
    assert hits(folder) == 0
    assert hits(folder) == 1


def refuse(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_no_folder_can_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)
    call(folder)
    call(folder)
    said = capfd.readouterr().err
    assert said.count("NUMBA_CACHE_DIR") == 1
    assert "cannot be kept on disk" in said
    assert not list(folder.parent.rglob("*.nb?"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_the_disk_fills_up_later(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: int,
) -> None:
    def fail(self: Any, path: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", fail)
    call(folder)
    said = capfd.readouterr().err
    assert said.count("NUMBA_CACHE_DIR") == 1
    assert os.strerror(number) in said


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "half": lambda content: content[: len(content) // 2],
    "a bit": flipped,
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"<html>No such page</html>",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".nbc", ".nbi"])
def test_damaged_files_are_written_again(
    folder: Path, capfd: pytest.CaptureFixture[str], suffix: str, damage: str
) -> None:
    call(folder)
    path = file(folder, suffix)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert hits(folder) == 0
    said = capfd.readouterr().err
    if suffix == ".nbc" or said:  # an index of other values is one without this function
        assert str(path.parent) in said
        assert "is damaged" in said
    numba_cache._say.cache_clear()
    assert hits(folder) == 1
    assert capfd.readouterr().err == ""


PROGRAM = """
import errno, sys
from numba.core import caching

def refuse(self):
    raise OSError(errno.EROFS, "Read-only file system")

caching._CacheLocator.ensure_cache_path = refuse
from fastnorm.cli import app
app(sys.argv[1:])
"""


@pytest.mark.slow
def test_commands_on_a_read_only_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "backends", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"name": "numba", "device": "cpu", "available": true' in done.stdout
    assert done.stderr == ""
