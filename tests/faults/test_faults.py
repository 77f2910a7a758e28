"""Full disks and read-only folders: reported in one line, without half-written files."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from typer.testing import Result

from dhs.manifest.table import content_sha256
from dhs.score.parts import parts_folder
from dhs.selection.config import GridConfig
from dhs.selection.engine import Engine
from dhs.selection.folder import read_shard
from dhs.selection.injector import SCHEMA
from fastnorm.atomic import atomic_path
from fastnorm.io.write import StackWriter
from tests.dhs.train.training_runs import bytes_of as bytes_of_training
from tests.faults.fault_cases import JOBS, run, write_inputs
from tests.faults.fault_cases import quick as quick

PAGE = 4096
LARGE = 2**26
NOBODY = 65534
FULL = ("No space left on device", "File too large")
NOT_REPEATED = ("train", "report")
"""Jobs whose output contains the time of the run."""

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Write inputs that every user can read."""
    folder = Path(tempfile.mkdtemp(prefix="dhs-faults-"))
    folder.chmod(0o755)
    yield write_inputs(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def whole(home: Path) -> Path:
    """Run every job undisturbed, each in a folder of its name."""
    for name in JOBS.keys() - {"realism"}:
        (home / "whole" / name).mkdir(parents=True)
        assert run(name, home, home / "whole" / name / JOBS[name].out).exit_code == 0
    return home / "whole"


class Disk:
    """A small disk in memory; where none can be mounted, a limit on the size of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError:
            self.is_mounted = False
        else:
            self.is_mounted = not done.returncode

    def too_small(self, older: dict[str, bytes], files: dict[str, bytes]) -> tuple[int, int]:
        """Return two sizes: no space besides older files, and one page too few for all files."""
        if not self.is_mounted:
            return 0, max(map(len, files.values())) - 1
        before, after = (
            sum(-(-len(content) // PAGE) * PAGE for content in there.values())
            for there in (older, files | older)
        )
        # A disk of size 0 would have no limit.
        return max(before, PAGE), max(before, PAGE, after - PAGE)

    @contextmanager
    def full(self, size: int, files: int | None = None) -> Iterator[None]:
        """Limit the bytes and the number of files on the disk."""
        if self.is_mounted:
            self._remount(size, files or 0)
            yield
            self._remount(LARGE, 0)
            return
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0 if files else size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def _remount(self, size: int, files: int) -> None:
        options = f"remount,size={size},nr_inodes={files}"
        subprocess.run(["mount", "-o", options, str(self.folder)], check=True)

    def count(self) -> int:
        return 1 + sum(1 for _ in self.folder.rglob("*"))

    def close(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "disk").mkdir()
    made = Disk(tmp_path / "disk")
    yield made
    made.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def repeated(name: str, folder: Path) -> Any:
    """Return the output of a job that is the same in every run."""
    out, files = folder / JOBS[name].out, contents(folder)
    if name == "train":
        return bytes_of_training(out), [file for file in files if "tensorboard" not in file]
    return list(files) if name in NOT_REPEATED else files


def assert_refused(result: Result, reasons: tuple[str, ...], path: Path) -> None:
    said = [line for line in result.stderr.splitlines() if "error:" in line]
    assert result.exit_code == 2, result.output
    assert len(said) == 1, result.output
    assert any(reason in said[0] for reason in reasons), said
    assert str(path) in said[0]
    assert "Traceback" not in result.output


def leftovers(folder: Path) -> list[Path]:
    return [*folder.rglob(".*.tmp-*"), *folder.rglob(".writer.json")]


@pytest.mark.parametrize("name", [name for name in JOBS if name != "realism"])
def test_a_full_disk(name: str, home: Path, whole: Path, disk: Disk) -> None:
    """Run a job without space for any file, then with too little space, then with enough."""
    expected, out = contents(whole / name), disk.folder / JOBS[name].out
    older = {} if JOBS[name].is_folder else {JOBS[name].out: older_file(name, whole)}
    for file, text in older.items():
        (disk.folder / file).write_bytes(text)
    none, few = disk.too_small(older, expected)
    for size, files in ((none, disk.count()), (few, None)):
        with disk.full(size, files):
            result = run(name, home, out)
        assert_refused(result, FULL, disk.folder)
        assert not leftovers(disk.folder)
        there = contents(disk.folder)
        assert older.items() <= there.items()
        if name not in NOT_REPEATED:
            known = there.keys() & expected.keys() - older.keys()
            assert all(there[file] == expected[file] for file in known)
    assert run(name, home, out).exit_code == 0
    assert repeated(name, disk.folder) == repeated(name, whole / name)


def older_file(name: str, whole: Path) -> bytes:
    """Return a file that a job may replace: any, but for scores a table of the same run."""
    if name != "score":
        return b"older"
    stream = BytesIO()
    parquet.write_table(parquet.read_table(whole / name / JOBS[name].out).slice(1), stream)
    return stream.getvalue()


def fail_at(count: int, function: Callable[..., None]) -> Callable[..., None]:
    """Make a system call fail from its n-th call on."""
    calls = 0

    def failing(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls >= count:
            names = [str(path) for path in given[:1] if isinstance(path, Path)]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *names)
        function(*given)

    return failing


def test_a_disk_that_is_full_at_the_end_of_a_file(home: Path, whole: Path, tmp_path: Path) -> None:
    """Many file systems accept the bytes and report only later that the disk is full."""
    out = tmp_path / JOBS["grid"].out
    for call, count in (("fsync", 1), ("replace", 2), ("fsync", 4)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, call, fail_at(count, getattr(os, call)))
            assert_refused(run("grid", home, out), FULL, tmp_path)
        assert not leftovers(tmp_path)
    assert run("grid", home, out).exit_code == 0
    assert contents(tmp_path) == contents(whole / "grid")


@contextmanager
def as_somebody() -> Iterator[None]:
    """Give up root's permission to write everywhere."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*")) if path.is_dir()}
    for path, mode in modes.items():
        path.chmod(stat.S_IMODE(mode) & ~0o222)
    try:
        with as_somebody():
            yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.mark.parametrize("name", JOBS)
def test_a_read_only_folder(
    name: str, home: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command reports the folder before it does any work."""
    shown: list[int] = []
    monkeypatch.setattr(
        "rich.progress.Progress.update",
        lambda bar, task, completed, **given: shown.append(completed),
    )
    folder = home / f"read-only-{name}"
    out = folder / JOBS[name].out
    # First the parent is read-only, then the folder itself.
    for made in (folder, out) if JOBS[name].is_folder else (folder,):
        made.mkdir()
        with read_only(folder):
            result = run(name, home, out)
        assert_refused(result, ("not writable", "Permission denied"), made)
        assert contents(folder) == {}
        assert not any(shown)


def test_an_interrupted_grid_in_a_folder_that_became_read_only(home: Path, whole: Path) -> None:
    folder = home / "became-read-only"
    folder.mkdir()
    out = folder / "grid"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", fail_at(3, os.replace))
        assert run("grid", home, out).exit_code == 2
    before = contents(folder)
    with read_only(folder):
        assert_refused(run("grid", home, out), ("is not writable",), out)
    assert contents(folder) == before
    assert run("grid", home, out).exit_code == 0
    assert contents(folder) == contents(whole / "grid")


def test_the_file_is_named_where_the_system_names_none(tmp_path: Path) -> None:
    def write(error: OSError) -> None:
        with atomic_path(tmp_path / "table"):
            raise error

    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS):
        with pytest.raises(OSError, match=rf"{os.strerror(code)}: .*/table'"):
            write(OSError(code, "Error writing bytes to file"))
    # An error about another file keeps its name.
    with pytest.raises(FileNotFoundError, match="'input'"):
        write(FileNotFoundError(errno.ENOENT, "No such file", "input"))
    with pytest.raises(OSError, match=r"^a message of its own$"):
        write(OSError("a message of its own"))
    with (
        pytest.raises(FileNotFoundError, match=r"/none/table'"),
        atomic_path(tmp_path / "none" / "table") as temporary,
    ):
        temporary.write_text("")
    assert os.listdir(tmp_path) == []


def test_the_name_is_on_the_disk_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("all")
    assert synced == [False, True]
    with StackWriter(tmp_path / "s.npy", (20, 20)):
        pass
    assert synced[-1]

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    with atomic_path(tmp_path / "b") as temporary:
        temporary.write_text("all")
    assert (tmp_path / "b").read_text() == "all"


def test_a_shard_of_which_a_bit_changed_is_named_or_the_same(home: Path, tmp_path: Path) -> None:
    """A flipped bit is reported, or is in bytes that do not affect the values."""
    config = GridConfig.model_validate_json((home / "grid.json").read_text())
    engine = Engine(config)
    shard = engine.shards()[-1]
    path = engine.path(tmp_path, shard)
    engine.make(shard, path, lambda rows: None)
    content, dice = path.read_bytes(), random.Random(1)
    whole = read_shard(path, engine, shard, SCHEMA)
    named = []
    for _ in range(60):
        changed = bytearray(content)
        changed[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
        try:
            found = read_shard(path, engine, shard, SCHEMA)
        except ValueError as error:
            named.append(str(error))
        else:
            assert content_sha256(found) == content_sha256(whole)
    assert all(f"{path} is damaged" in said for said in named)
    assert len(named) > 15


@pytest.mark.parametrize("damage", ["cut", "changed", "of another"])
def test_a_damaged_part_of_scores_is_named(
    damage: str, home: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / JOBS["score"].out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dhs.score.run._merge", fail_at(1, os.replace))
        assert run("score", home, out).exit_code == 2
    first, second = sorted(parts_folder(out).glob("part-*"))[:2]
    if damage == "cut":
        os.truncate(first, first.stat().st_size - 9)
    elif damage == "changed":
        table = parquet.read_table(first)
        logits = pyarrow.array(table["logit_0"].to_numpy() + 1)
        parquet.write_table(table.set_column(2, "logit_0", logits), first)
    else:
        first.write_bytes(second.read_bytes())
    result = run("score", home, out)
    assert_refused(result, ("is damaged",), first)
    assert "delete it and run again" in result.stderr
    first.unlink()
    assert run("score", home, out).exit_code == 0
    assert contents(tmp_path) == contents(whole / "score")
