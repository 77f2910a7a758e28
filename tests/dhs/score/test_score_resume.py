"""Scoring that is interrupted anywhere resumes and gives identical output."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dhs import checkpoint
from dhs.cli import app
from dhs.jobs.lock import only_writer
from dhs.score import Scored, score
from dhs.score import input as score_input
from dhs.score import run as score_module
from dhs.score import work as score_work
from dhs.score.parts import parts_folder
from dhs.score.table import read_table
from fastnorm import io
from fastnorm.io import Cutout, Rejected
from fastnorm.io.maskbits import MaskBits
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.dhs.score.score_cases import CUTOUTS, images_of, save_all, write_model
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack

BATCH = 2
PER_PART = 4


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_work, "BATCHES_PER_PART", PER_PART // BATCH)


class KilledError(Exception):
    pass


def stop_at(count: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= count:
            raise KilledError

    return progress


def interrupt(model: Path, data: list[Path], out: Path, at: int, **options: Any) -> list[str]:
    """Score until ``at`` cutouts are done; return the names of the remaining parts."""
    with pytest.raises(KilledError):
        score(model, data, out, progress=stop_at(at), **{"batch_size": BATCH} | options)
    assert not out.exists()
    return sorted(path.name for path in parts_folder(out).glob("part-*"))


def go_on(model: Path, data: list[Path], out: Path, **options: Any) -> tuple[Scored, list[int]]:
    """Score; also return the number of cutouts done at every progress report."""
    seen: list[int] = []

    def report(done: int, total: int) -> None:
        assert done <= total
        seen.append(done)

    made = score(model, data, out, progress=report, **{"batch_size": BATCH} | options)
    assert not parts_folder(out).exists()
    return made, seen


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    model: Path, pack: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "scores.parquet"
    _, seen = go_on(model, [pack], whole)
    assert (seen[0], seen[-1]) == (0, CUTOUTS)
    first = interrupt(model, [pack], out, at=9)
    assert [name[:11] for name in first] == ["part-000000", "part-000001"]
    second = interrupt(model, [pack], out, at=15)
    assert second[:2] == first
    assert len(second) == 3
    (parts_folder(out) / second[1]).unlink()
    made, seen = go_on(model, [pack], out)
    assert seen == [8, 10, 12, 12, 14, 16, 16, 18, 20, 20]
    assert made.written == CUTOUTS
    assert out.read_bytes() == whole.read_bytes()


@pytest.fixture
def files(pack: Path, tmp_path: Path) -> Path:
    """Files, two of them bad, and a stack of 11 with a bad row that spans several parts."""
    pixels = images_of(pack)
    folder = save_all(tmp_path / "files", pixels[:5])
    np.savez(folder / "galaxy-000a.npz", cutout=np.ones((64, 64, 3), np.float32))
    (folder / "galaxy-003a.npz").write_bytes(b"PK")
    stack = pixels[5:16].copy()
    stack[6] = np.nan
    np.save(folder / "stack.npy", stack)
    return folder


def test_files_and_stacks_are_cut_anywhere_and_what_was_rejected_is_remembered(
    model: Path, pack: Path, files: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "scores.parquet"
    expected, _ = go_on(model, [files, tmp_path / "none"], whole)
    names = [item.path.name for item in expected.rejected]
    assert names == ["none", "galaxy-000a.npz", "galaxy-003a.npz", "stack.npy"]
    assert "row 6" in expected.rejected[3].reason
    table = read_table(whole)
    assert table.ids.tolist()[5:] == [f"stack[{k:06d}]" for k in range(11) if k != 6]
    score(model, [pack], tmp_path / "pack.parquet")
    logits = read_table(tmp_path / "pack.parquet").logits
    np.testing.assert_allclose(table.logits, np.delete(logits[:16], 11), rtol=1e-5)
    for at in (5, 10, 15):
        interrupt(model, [files, tmp_path / "none"], out, at)
    made, seen = go_on(model, [files, tmp_path / "none"], out)
    assert seen[0] == 12
    assert made.rejected == expected.rejected
    assert out.read_bytes() == whole.read_bytes()


def test_a_stack_is_read_once(
    model: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    read = io.read_cutouts

    def read_and_count(
        path: Path, rejected: list[Rejected], **options: MaskBits
    ) -> Iterator[Cutout]:
        opened.append(path)
        return read(path, rejected, **options)

    monkeypatch.setattr(score_input, "read_cutouts", read_and_count)
    score(model, [files / "stack.npy"], tmp_path / "scores.parquet", batch_size=BATCH)
    assert opened == [files / "stack.npy"]


def test_a_changed_file_costs_its_own_part_alone(model: Path, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    interrupt(model, [files], out, at=15)
    os.utime(files / "galaxy-001.npz", ns=(1, 1))
    _, seen = go_on(model, [files], out)
    assert seen[0] == 12 - PER_PART


@pytest.mark.parametrize("change", ["batch", "weights", "threads"])
def test_nothing_of_another_configuration_is_used(
    model: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    out, whole = tmp_path / "scores.parquet", tmp_path / "whole.parquet"
    assert len(interrupt(model, [pack], out, at=9)) == 2
    options = {}
    if change == "batch":
        # The parts contain the same cutouts.
        options = {"batch_size": PER_PART}
        monkeypatch.setattr(score_work, "BATCHES_PER_PART", 1)
    elif change == "weights":
        model = write_model(tmp_path / "model.safetensors", seed=2)
    else:
        monkeypatch.setattr(score_module, "describe_device", lambda device: "cpu, 99 threads")
    _, seen = go_on(model, [pack], out, **options)
    assert seen[0] == 0
    go_on(model, [pack], whole, **options)
    assert out.read_bytes() == whole.read_bytes()


def test_a_batch_size_is_chosen_once(
    model: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores.parquet"
    free = [2.0]

    def choose(*args: object) -> int:
        return int(free[0])

    monkeypatch.setattr(score_module, "choose_batch_size", choose)
    interrupt(model, [pack], out, at=9, batch_size=None)
    free[0] = 4
    made, seen = go_on(model, [pack], out, batch_size=None)
    assert seen[0] == 8
    assert made.metadata["batch_size"] == read_table(out).metadata["batch_size"] == 2
    again, seen = go_on(model, [pack], out, batch_size=None)
    assert again.was_complete
    assert seen == []
    other = write_model(tmp_path / "other.safetensors", seed=2)
    replaced, _ = go_on(other, [pack], out, batch_size=None, overwrite=True)
    assert replaced.metadata["batch_size"] == 4
    with pytest.raises(ValueError, match="batch_size"):
        score(model, [pack], out, batch_size=0)


def test_a_complete_table_is_left_as_it_is(model: Path, pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    arguments = ["score", str(model), str(pack), "--out", str(out)]
    CliRunner().invoke(app, arguments)
    before = out.stat().st_mtime_ns
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "20 cutouts already scored" in result.stdout
    assert out.stat().st_mtime_ns == before


def test_what_is_rejected_is_told_again(
    model: Path, pack: Path, files: Path, tmp_path: Path
) -> None:
    out, stack = tmp_path / "scores.parquet", files / "stack.npy"
    for data, is_complete in (([stack], False), ([pack / "shard-00000.npy", tmp_path / "x"], True)):
        out.unlink(missing_ok=True)
        made = [score(model, data, out, batch_size=BATCH) for _ in range(2)]
        assert made[1].was_complete == is_complete
        assert made[0].rejected == made[1].rejected
        assert len(made[1].rejected) == 1


def test_a_mark_that_came_later_is_written_down(model: Path, pack: Path, tmp_path: Path) -> None:
    own = tmp_path / "model.safetensors"
    own.write_bytes(model.read_bytes())
    go_on(own, [pack], tmp_path / "scores.parquet")
    checkpoint.deprecate(own, "of the wrong annulus")
    with pytest.warns(checkpoint.DeprecatedCheckpointWarning):
        made, _ = go_on(own, [pack], tmp_path / "scores.parquet", allow_deprecated=True)
    assert not made.was_complete
    assert made.metadata["members"][0]["deprecated"] == "of the wrong annulus"


def test_two_runs_do_not_write_the_same_table(
    model: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores.parquet"
    monkeypatch.setattr("dhs.jobs.lock.SECONDS_TO_WAIT_FOR_THE_FOLDER", 0.05)
    interrupt(model, [pack], out, at=9)
    with (
        only_writer(parts_folder(out), "the parts of another"),
        pytest.raises(BlockingIOError, match=r"another process is writing the parts of .*scores"),
    ):
        score(model, [pack], out, batch_size=BATCH)
    go_on(model, [pack], out)


def test_a_full_disk_keeps_what_is_complete(model: Path, pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done: int, total: int) -> None:
        if done == 9:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))

    expected = r"scores.parquet cannot be written: .* 4 of its 10 parts are complete and stay in"
    try:
        with pytest.raises(OSError, match=expected):
            score(model, [pack], out, batch_size=1, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(parts_folder(out).glob(".*tmp*"))
