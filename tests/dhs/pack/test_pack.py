"""Packs are byte-identical, however they were written."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from pyarrow import parquet

from dhs.jobs.lock import only_writer
from dhs.pack import open_pack, verify_pack, write_pack
from dhs.pack import shards as write
from dhs.pack import write as door
from tests import SHARED
from tests.command_line import message
from tests.dhs.pack.pack_cases import (
    MASKS,
    NAMES,
    PER_SHARD,
    PLANE,
    SHARD_BYTES,
    STACK,
    N,
    digests,
    make,
    run,
    write_cutouts,
)

REAL = SHARED / "data" / "dr10_cutouts"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_cutouts(tmp_path)


def test_what_a_pack_holds(manifest: Path) -> None:
    made = make(manifest)
    assert (made.is_finished, made.cutouts, made.read, made.rejected) == (True, N, N, [])
    assert sum(made.splits.values()) == N
    names = [f"{kind}-{k:05d}.npy" for kind in ("mask", "shard") for k in range(4)]
    assert sorted(os.listdir(made.out)) == sorted(["manifest.parquet", *names])
    pack = open_pack(made.out)
    assert [len(shard) for shard in pack.shards] == [6, 6, 6, 2]
    assert {shard.dtype for shard in pack.shards} == {np.dtype("<f4")}
    assert (pack.cutout_shape, len(pack)) == ((3, *PLANE), N)
    assert [str(a.dtype) for a in (pack.shard_index, pack.row)] == ["int32", "int64"]
    assert pack.masks is not None
    for k in range(N):
        place = pack.shard_index[k], pack.row[k]
        assert np.array_equal(pack.shards[place[0]][place[1]], STACK[k])
        assert np.array_equal(pack.masks[place[0]][place[1]], MASKS[k])
    table = pack.table
    assert table["galaxy_id"].tolist() == [name.partition(".")[0] for name in NAMES]
    assert table["sha256"].tolist() == [hashlib.sha256(i.tobytes()).hexdigest() for i in STACK]
    source = parquet.read_table(manifest)
    for name in source.column_names:
        assert table[name].tolist() == source[name].to_pylist()
    # Pairs of neighbours are in the same split.
    splits = table["split"].to_numpy()
    assert (splits[::2] == splits[1::2]).all()
    assert set(splits) == {"train", "val"}
    schema = parquet.read_schema(made.out / "manifest.parquet")
    types = {"shard": "string", "row": "int32", "sha256": "string", "label": "int8"}
    assert {name: str(schema.field(name).type) for name in types} == types
    metadata = pack.metadata
    assert metadata["source_manifest_sha256"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert metadata["split"] == {
        "method": "healpix",
        "nside": 128,
        "order": "nested",
        "train_fraction": 0.7,
        "seed": 42,
    }
    assert (metadata["data_origin"], metadata["n"], metadata["n_rejected"]) == ("made-up", N, 0)
    assert (metadata["bands"], metadata["flux_unit"]) == (["g", "r", "z"], "nanomaggy")
    assert (metadata["pixel_scale"], metadata["positions"]) == (0.262, "manifest")


def test_same_bytes_with_two_workers(manifest: Path) -> None:
    seen: list[tuple[int, int]] = []
    one = make(manifest)
    two = make(manifest, "two", workers=2, progress=lambda done, n: seen.append((done, n)))
    assert digests(two.out) == digests(one.out)
    assert (seen[0], seen[-1]) == ((0, N), (N, N))


def test_killed_work_is_continued_to_the_same_bytes(manifest: Path) -> None:
    out = manifest.parent / "killed"
    # The process kills itself in the middle of the second shard.
    code = (
        "import os, signal, sys\nfrom dhs.pack import shards, write_pack\n"
        "read = shards.ShardJob.read\n"
        "def read_until_killed(job, place):\n"
        "    if job.name == 'shard-00001.npy' and place == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return read(job, place)\n"
        "shards.ShardJob.read = read_until_killed\n"
        f"write_pack(sys.argv[1], sys.argv[2], data_origin='made-up', shard_bytes={SHARD_BYTES})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(manifest), str(out)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in out.glob("*.npy")].count("shard-00000.npy") == 1
    assert list(out.glob(".shard-00001.npy.tmp-*"))
    with pytest.raises(FileNotFoundError, match=r"is still being written: it has no manifest"):
        open_pack(out)
    kept = (out / "shard-00000.npy").stat().st_mtime_ns
    assert make(manifest, "killed").read == N - PER_SHARD
    assert (out / "shard-00000.npy").stat().st_mtime_ns == kept
    assert digests(out) == digests(make(manifest).out)


@pytest.mark.parametrize("damage", ["shard", "mask", "part", "cut", "short"])
def test_a_shard_that_is_not_whole_is_made_again(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    whole = digests(make(manifest, "whole").out)
    out = manifest.parent / "pack"
    with monkeypatch.context() as patch:
        patch.setattr(door, "write_manifest", fail)
        with pytest.raises(OSError, match="No space left"):
            make(manifest)
    assert not (out / "manifest.parquet").exists()
    if damage == "cut":
        os.truncate(out / "shard-00002.npy", 400)
    elif damage == "short":
        np.save(out / "shard-00002.npy", STACK[12:14])
    else:
        parts = {"part": "parts/shard-00002.parquet"}
        (out / parts.get(damage, f"{damage}-00002.npy")).unlink()
    assert make(manifest).read == PER_SHARD
    assert digests(out) == whole


def test_a_complete_pack_is_left_alone(manifest: Path) -> None:
    made = make(manifest)
    before = {path: path.stat().st_mtime_ns for path in made.out.iterdir()}
    # A complete pack no longer needs the cutouts.
    for name in NAMES:
        (manifest.parent / name).unlink()
    again = make(manifest)
    assert (again.read, again.was_complete) == (0, True)
    assert again[:6] == made[:6]
    assert {path: path.stat().st_mtime_ns for path in made.out.iterdir()} == before
    for option, named in (
        ({"seed": 1}, r"split\.seed is 42 in the folder and 1 in this run"),
        ({"data_origin": "b"}, "data_origin is made-up in the folder and b in this run"),
        ({"shard_bytes": 10**6}, "shard_bytes is"),
    ):
        with pytest.raises(ValueError, match=named):
            make(manifest, **option)
    os.truncate(made.out / "mask-00001.npy", 200)
    with pytest.raises(ValueError, match=r"was complete, but is damaged: .*mask-00001\.npy"):
        make(manifest)


def test_other_folders_are_refused(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="is not empty and does not contain a pack"):
        write_pack(manifest, manifest.parent, data_origin="made-up")
    with pytest.raises(NotADirectoryError, match="is a file"):
        write_pack(manifest, manifest, data_origin="made-up")
    (manifest.parent / "pack").mkdir()
    monkeypatch.setattr("dhs.jobs.lock.SECONDS_TO_WAIT_FOR_THE_FOLDER", 0.05)
    with (
        only_writer(manifest.parent / "pack", "a pack"),
        pytest.raises(BlockingIOError, match="another process is writing a pack"),
    ):
        make(manifest)
    for options, error in (
        ({"train_fraction": 1.0}, "train_fraction=1.0 is not between 0 and 1"),
        ({"workers": 0}, "workers=0 is not allowed"),
        ({"shard_bytes": 0}, "shard_bytes=0 is not allowed"),
        ({"allow_rejects": -1}, "allow_rejects=-1 is not allowed"),
        ({"seed": -1}, "seed=-1 is not allowed"),
    ):
        with pytest.raises(ValueError, match=error):
            make(manifest, "new", **options)
    assert not (manifest.parent / "new").exists()


def test_rejected_files_are_mended_or_allowed(manifest: Path) -> None:
    folder = manifest.parent
    whole = digests(make(manifest, "whole").out)
    for k in (1, 13):
        (folder / NAMES[k]).rename(folder / f"away-{k}")
    arguments = ("--data-origin", "made-up", "--shard-bytes", SHARD_BYTES, "--workers", 1)
    result = run(manifest, "--out", folder / "pack", *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "is not finished: 2 files were rejected; fix those listed" in message(result)
    assert "(--allow-rejects 2), and run the same command again" in message(result)
    assert "2 rejected" in message(result)
    with pytest.raises(FileNotFoundError, match="cutouts were rejected"):
        open_pack(folder / "pack")
    allowed = run(manifest, "--out", folder / "less", *arguments, "--allow-rejects", 2)
    assert allowed.exit_code == 0
    assert allowed.stdout.startswith("18 cutouts (")
    assert "2 rejected" in message(allowed)
    again = run(manifest, "--out", folder / "less", *arguments, "--json")
    assert again.exit_code == 1
    report = json.loads(again.stdout)
    assert (report["was_complete"], report["cutouts"], len(report["rejected"])) == (True, 18, 2)
    less = open_pack(folder / "less")
    assert less.metadata["n_rejected"] == 2
    assert [len(shard) for shard in less.shards] == [5, 6, 5, 2]
    assert np.array_equal(np.concatenate(less.shards), np.delete(STACK, (1, 13), 0))
    assert less.table["cutout_path"].tolist() == [n for n in NAMES if n not in NAMES[1::12]]
    assert parquet.read_table(folder / "less" / "rejected.parquet").to_pylist() == [
        {"path": NAMES[k], "reason": "cannot be read: No such file or directory."} for k in (1, 13)
    ]
    assert verify_pack(folder / "less").faults == []
    for k in (1, 13):
        (folder / f"away-{k}").rename(folder / NAMES[k])
    # Only the two shards with fixed files are written again.
    made = make(manifest)
    assert (made.is_finished, made.read) == (True, 2 * PER_SHARD)
    assert digests(made.out) == whole


def test_a_part_is_never_of_another_shard(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    def hide(hidden: int, shown: int | None = None) -> None:
        if shown is not None:
            (folder / "away").rename(folder / NAMES[shown])
        (folder / NAMES[hidden]).rename(folder / "away")

    folder = manifest.parent
    hide(1)
    assert not make(manifest).is_finished
    # The run stops between a shard and its part, while another file is missing.
    hide(2, shown=1)
    with monkeypatch.context() as patch:
        patch.setattr(write, "atomic_path", fail)
        with pytest.raises(OSError, match="No space"):
            make(manifest)
    hide(1, shown=2)
    made = make(manifest, allow_rejects=1)
    assert verify_pack(made.out).faults == []
    assert digests(made.out) == digests(make(manifest, "whole", allow_rejects=1).out)


def test_nothing_that_can_be_packed(manifest: Path) -> None:
    for name in NAMES:
        (manifest.parent / name).write_bytes(b"no cutout")
    result = run(manifest, "--out", manifest.parent / "pack", "--data-origin", "x", "--json")
    assert result.exit_code == 1
    assert "every file was rejected; fix them" in message(result)
    assert len(json.loads(result.stdout)["rejected"]) == N
    assert not make(manifest, "all", allow_rejects=N).is_finished
    # A shard without any cutout is not part of the pack.
    for name, image in zip(NAMES[PER_SHARD:], STACK[PER_SHARD:], strict=True):
        (manifest.parent / name).with_suffix(".fits").unlink(missing_ok=True)
        if name.endswith(".npy"):
            np.save(manifest.parent / name, image)
        else:
            fits.PrimaryHDU(image).writeto(manifest.parent / name)
    made = make(manifest, "all", allow_rejects=N)
    assert made.shards == [f"shard-{k:05d}.npy" for k in (1, 2, 3)]
    assert verify_pack(made.out).faults == []
    assert len(list(made.out.glob("*-00000.npy"))) == 0


@pytest.mark.skipif(not REAL.is_dir(), reason="the real cutouts are not next to the project")
def test_real_cutouts(tmp_path: Path) -> None:
    files = sorted(REAL.glob("*.npz"))
    rows = "".join(f"{path},1\n" for path in files)
    (tmp_path / "real.csv").write_text(f"cutout_path,label\n{rows}")
    result = run(tmp_path / "real.csv", "--out", tmp_path / "pack", "--data-origin", "ls-dr10")
    assert result.exit_code == 0
    pack = open_pack(tmp_path / "pack")
    assert pack.table["galaxy_id"].tolist() == [path.stem for path in files]
    for k, path in enumerate(files):
        with np.load(path, allow_pickle=False) as archive:
            assert np.array_equal(pack.shards[0][k], archive["cutout"].transpose(2, 0, 1))
            assert pack.table["ra"][k] == archive["meta_ra"]


def test_commands(manifest: Path) -> None:
    out = manifest.parent / "pack"
    result = run("--out", out, manifest, "--data-origin", "made-up", "--seed", 3)
    assert result.exit_code == 0
    assert result.stdout.startswith("20 cutouts (")
    assert "20 of 20" in result.stderr
    again = run("create", manifest, "--out", out, "--data-origin", "made-up", "--seed", 3)
    assert "is already complete with these settings: 20 cutouts" in again.stdout
    refused = run(manifest, "--out", out)
    assert refused.exit_code == 2
    assert "give --data-origin" in message(refused)
    listed = run("--help").stdout
    assert "no cutout is in" not in message(result)
    whole = run(manifest, "--out", f"{out}-2", "--data-origin", "x", "--train-fraction", 0.9999)
    assert "no cutout is in val" in message(whole)
    assert "create" in listed
    assert "verify" in listed
    assert "--allow-rejects" in run(manifest, "--help").stdout
    assert run("verify").exit_code == 2
    assert run(manifest).exit_code == 2
