"""The files of a simulated survey, identical however they were created."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

import fastnorm
from dhs.data import SplitConfig
from dhs.evaluate.truth import read_truth
from dhs.jobs.lock import only_writer
from dhs.manifest.columns import Manifest
from dhs.simulate import Survey, files, write_survey
from dhs.simulate import write as simulate
from dhs.simulate.config import SurveyConfig, survey_config
from dhs.simulate.images import simulate_cutouts
from tests.dhs.simulate.test_simulated_sky import config_with

N, SEED, SHARE, PER_SHARD = 20, 3, 0.5, 8
SHAPE = (3, 101, 101)


def make(out: Path, **changes: Any) -> Survey:
    arguments: dict[str, Any] = {"n": N, "seed": SEED, "lens_fraction": SHARE} | changes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "CUTOUTS_PER_SHARD", PER_SHARD)
        return write_survey(out, **arguments)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("surveys") / "one"
    result = make(out)
    assert (result.cutouts, result.simulated, result.was_complete) == (N, N, False)
    return out


@pytest.fixture
def half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a survey that stopped after one of three shards."""
    out = tmp_path / "half"
    make_shard = files.make_shard

    def fail_at_the_second(out: Path, settings: Any, shard: int, advance: Any) -> None:
        if shard == 1:
            raise OSError(28, "No space left on device")
        make_shard(out, settings, shard, advance)

    with monkeypatch.context() as patch:
        patch.setattr(simulate, "make_shard", fail_at_the_second)
        with pytest.raises(OSError, match="No space left"):
            make(out)
    assert sorted(os.listdir(out)) == ["parts", "shard-00000.npy"]
    return out


def test_files_and_manifest(survey: Path) -> None:
    names = [f"shard-{i:05d}.npy" for i in range(3)]
    assert sorted(os.listdir(survey)) == ["manifest.parquet", "picture.png", *names]
    stacks = [np.load(survey / name, allow_pickle=False) for name in names]
    assert [stack.shape for stack in stacks] == [(8, *SHAPE), (8, *SHAPE), (4, *SHAPE)]
    assert {stack.dtype for stack in stacks} == {np.dtype("<f4")}
    rows = parquet.read_table(survey / "manifest.parquet").to_pylist()
    assert [(row["shard"], row["row"]) for row in rows] == [
        (names[i // PER_SHARD], i % PER_SHARD) for i in range(N)
    ]
    assert len({row["galaxy_id"] for row in rows}) == N
    for row in rows:
        image = stacks[names.index(row["shard"])][row["row"]]
        assert hashlib.sha256(image.tobytes()).hexdigest() == row["sha256"]
        assert np.isfinite(image).all()
        assert row["label"] == (row["tier"] != "")
        truth = [row[name] for name in ("theta_e_arcsec", "source_q", "arc_snr_r", "magnification")]
        assert [value is None for value in truth] == [row["label"] == 0] * 4
        assert all(row[name] is not None for name in ("psfsize_g", "psfdepth_z", "host_q"))


def test_what_is_judged_is_what_a_training_leaves_out(survey: Path) -> None:
    table = parquet.read_table(survey / "manifest.parquet").to_pandas()
    given = SplitConfig()
    splits = Manifest(table.drop(columns="split"), "m").splits(
        given.split_col, given.train_fraction, given.seed
    )
    assert set(splits) == {"train", "val"}
    assert splits.tolist() == table["split"].tolist()
    judged = read_truth(survey)
    assert judged.split == "val"
    assert judged.ids.tolist() == table.loc[table["split"] == "val", "galaxy_id"].tolist()


def test_metadata(survey: Path) -> None:
    said = json.loads(parquet.read_schema(survey / "manifest.parquet").metadata[b"dhs"])
    config = said.pop("config")
    assert said == {
        "data_origin": "simulated",
        "n": N,
        "seed": SEED,
        "lens_fraction": SHARE,
        "cutouts_per_shard": PER_SHARD,
        "config_sha256": survey_config().sha256(),
        "package_version": fastnorm.__version__,
        "bands": ["g", "r", "z"],
        "flux_unit": "nanomaggy",
        "pixel_scale": 0.262,
    }
    assert SurveyConfig.model_validate(config["survey"]) == survey_config()
    # The settings include the priors of the arcs.
    assert config["injection_priors"]["source_params"]["re_arcsec_range"] == [0.15, 0.5]
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == said["config_sha256"]


def test_same_bytes_with_two_workers(survey: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = make(
        tmp_path / "two", workers=2, progress=lambda done, total: seen.append((done, total))
    )
    assert digests(tmp_path / "two") == digests(survey)
    assert result.simulated == N
    assert seen[0] == (0, N)
    assert seen[-1] == (N, N)


def test_a_cutout_depends_on_its_number_alone(survey: Path) -> None:
    stacks = [np.load(path) for path in sorted(survey.glob("*.npy"))]
    fastnorm.set_num_threads(1)
    alone = simulate_cutouts([13], SEED, SHARE)
    assert np.array_equal(alone.images[0], stacks[1][5])
    some = simulate_cutouts([19, 2], SEED, SHARE)
    assert np.array_equal(some.images, np.stack([stacks[2][3], stacks[0][2]]))
    assert not np.array_equal(simulate_cutouts([13], SEED + 1, SHARE).images[0], stacks[1][5])
    assert simulate_cutouts([], SEED).images.shape == (0, *SHAPE)


def test_interrupted_work_is_continued_to_the_same_bytes(survey: Path, half_done: Path) -> None:
    for name in (".shard-00001.npy.tmp-1", "parts/.shard-00001.parquet.tmp-1"):
        (half_done / name).write_bytes(b"half")
    kept = (half_done / "shard-00000.npy").stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    result = make(half_done, progress=lambda done, total: seen.append((done, total)))
    assert result.simulated == N - PER_SHARD
    assert seen[0] == (PER_SHARD, N)
    assert (half_done / "shard-00000.npy").stat().st_mtime_ns == kept
    assert digests(half_done) == digests(survey)


@pytest.mark.parametrize("damage", ["shard", "part", "cut"])
def test_a_shard_that_is_not_whole_is_made_again(
    survey: Path, half_done: Path, damage: str
) -> None:
    if damage == "cut":
        os.truncate(half_done / "shard-00000.npy", 5000)
    else:
        name = "shard-00000.npy" if damage == "shard" else "parts/shard-00000.parquet"
        (half_done / name).unlink()
    assert make(half_done).simulated == N
    assert digests(half_done) == digests(survey)


def test_killed_work_is_continued_to_the_same_bytes(survey: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    code = (
        "import sys\nfrom dhs.simulate import write\n"
        f"if __name__ == '__main__':\n    write.CUTOUTS_PER_SHARD = {PER_SHARD}\n"
        f"    write.write_survey(sys.argv[1], {N}, {SEED}, {SHARE}, workers=2)\n"
    )
    (tmp_path / "run.py").write_text(code)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py"), str(out)], stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob(".shard-*")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not (out / "manifest.parquet").exists()
    make(out)
    assert digests(out) == digests(survey)


def test_a_complete_survey_is_left_alone(survey: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in survey.iterdir()}
    result = make(survey)
    assert (result.simulated, result.was_complete) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in survey.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed is 3 in the folder and 4 in this run"),
        ({"n": 21}, "n is 20 in the folder and 21 in this run"),
        ({"lens_fraction": 0.25}, "lens_fraction is 0.5 in the folder and 0.25 in this run"),
        (
            {"config": config_with(stars={"per_arcmin2": 1.0})},
            r"settings: config\.survey\.stars\.per_arcmin2 is 2.2 in the folder and 1.0 in this "
            r"run\. Use",
        ),
    ],
)
def test_other_settings_are_refused(
    survey: Path, half_done: Path, change: dict[str, Any], message: str
) -> None:
    for folder in (survey, half_done):
        before = digests(folder / "parts" if folder == half_done else folder)
        with pytest.raises(ValueError, match=message):
            make(folder, **change)
        assert digests(folder / "parts" if folder == half_done else folder) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shard-00000.npy").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"does not contain a simulated survey \(shard-0"):
        make(tmp_path)
    assert os.listdir(tmp_path) == ["shard-00000.npy"]
    with pytest.raises(NotADirectoryError, match="is a file"):
        make(tmp_path / "shard-00000.npy")
    (tmp_path / "manifest.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ValueError, match="different settings"):
        make(tmp_path)


def test_a_damaged_survey_is_named(survey: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in survey.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    os.truncate(copy / "shard-00001.npy", 4000)
    with pytest.raises(ValueError, match=r"shard-00001\.npy is missing or has a different size"):
        make(copy)


def test_one_writer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhs.jobs.lock.SECONDS_TO_WAIT_FOR_THE_FOLDER", 0.05)
    with (
        only_writer(tmp_path, "a survey"),
        pytest.raises(BlockingIOError, match="another process is writing"),
    ):
        make(tmp_path)
    assert os.listdir(tmp_path) == []
    make(tmp_path, n=1)


def test_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table = parquet.write_table

    def refuse(table: Any, path: Path) -> None:
        write_table(table, path)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parquet, "write_table", refuse)
        with pytest.raises(OSError, match="No space"):
            make(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["parts", "shard-00000.npy"]
    assert os.listdir(tmp_path / "parts") == ["settings.json"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 0}, ValueError, "n=0 is not allowed"),
        ({"n": 10**12}, ValueError, "n=1000000000000 is not allowed"),
        ({"n": 2.0}, TypeError, "n=2.0 is not an integer"),
        ({"seed": -1}, ValueError, "seed=-1 is not allowed"),
        ({"lens_fraction": 1.01}, ValueError, "lens_fraction=1.01 is not allowed"),
        ({"lens_fraction": float("nan")}, ValueError, "lens_fraction=nan is not allowed"),
        ({"workers": 0}, ValueError, "workers=0 is not allowed"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(tmp_path / "new", **change)
    assert not (tmp_path / "new").exists()


def test_wrong_numbers_of_cutouts() -> None:
    with pytest.raises(ValueError, match=r"numbers=\d+ is not allowed"):
        simulate_cutouts([2**52], 1)
    with pytest.raises(ValueError, match="it must be in"):
        simulate_cutouts([-1], 1)
