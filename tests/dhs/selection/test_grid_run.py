"""Runs of grids: their output, and that interruptions do not change it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pyarrow import parquet

from dhs import checkpoint
from dhs.injection import PSF, LensParams, SourceParams, inject
from dhs.injection.psf_models import psf_profile
from dhs.jobs.executors import WorkersDiedError
from dhs.preprocess import preprocess_stack
from dhs.preprocess.spec import PreprocessSpec
from dhs.selection.config import GridConfig
from dhs.selection.folder import SHARDS
from dhs.selection.images import InjectedRows
from dhs.selection.run import Grid, Workers, run_grid
from tests.dhs.model.model_cases import one_thread  # noqa: F401
from tests.dhs.selection.grid_runs import HOSTS, SPEC, bytes_of, grid, write_hosts, write_model
from tests.dhs.train.training_runs import SIDE, write_pack

INJECTIONS = 80
ROWS = INJECTIONS + HOSTS
ALONE = Workers(1)


@pytest.fixture(autouse=True, scope="module")
def no_pictures() -> Iterator[None]:
    """Skip the figures, which have their own tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dhs.selection.figure.draw_grid", lambda out, **_: [])
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    write_hosts(folder / "pack")
    write_model(folder / "model.safetensors")
    return folder


def config(home: Path, out: Path, **changes: Any) -> GridConfig:
    return grid(home / "pack", home / "model.safetensors", out, **changes)


@pytest.fixture(scope="module")
def whole(home: Path) -> Grid:
    return run_grid(config(home, home / "whole"), ALONE)


def test_it_leaves_what_it_says(whole: Grid) -> None:
    assert sorted(path.name for path in whole.out.iterdir()) == [
        "false_positives.csv",
        "grid.json",
        "injections.parquet",
        "negatives.parquet",
        "selection_function.csv",
        "selection_function.parquet",
        "settings.json",
    ]
    assert (whole.scored, whole.deaths) == (ROWS, 0)
    table = pd.read_parquet(whole.out / "injections.parquet")
    assert len(table) == INJECTIONS
    assert table["cell"].tolist() == np.repeat(range(4), 20).tolist()
    for name in ("injections.parquet", "negatives.parquet", "selection_function.parquet"):
        metadata = json.loads(parquet.read_schema(whole.out / name).metadata[b"dhs"])
        assert PreprocessSpec.from_dict(metadata["spec"]) == SPEC
        assert metadata["data_origin"] == "made-up"
        assert metadata["injections_fingerprint"] == whole.metadata["injections_fingerprint"]
    assert whole.metadata["thresholds"][1]["false_positives"] == 10  # 0.25 of 40
    csv = pd.read_csv(whole.out / "selection_function.csv")
    pd.testing.assert_frame_equal(csv, pd.read_parquet(whole.out / "selection_function.parquet"))


def test_a_run_counts_by_host(whole: Grid) -> None:
    injections = pd.read_parquet(whole.out / "injections.parquet")
    # A cell has 20 injections and 20 hosts.
    assert (injections.groupby("cell")["host_id"].nunique() == 20).all()
    negatives = pd.read_parquet(whole.out / "negatives.parquet").set_index("host_row")
    own = negatives.loc[injections["host_row"]]
    assert own["galaxy_id"].tolist() == injections["host_id"].tolist()
    table = pd.read_csv(whole.out / "selection_function.csv")
    every = table[table["source_mag_bin"] == "all"]
    assert (every["n_hosts"] == 20).all()
    assert every["few_hosts"].all()
    assert whole.metadata["cells"]["few_hosts"] == 4
    kinds = every.groupby("threshold_type")["interval"].unique()
    assert kinds["fixed"].tolist() == ["hosts"]
    assert kinds["FPR=2.5e-01"].tolist() == ["hosts and non-lenses"]
    assert {"hosts", "hosts and non-lenses"} <= set(whole.metadata["intervals"])
    rates = pd.read_csv(whole.out / "false_positives.csv")
    assert rates["by"].tolist() == ["all", "cell", "cell"] * 2
    (said,) = whole.metadata["false_positives"]
    assert said["expected_rate"] == 11 / 41
    assert said["remark"]


def test_scores_are_those_of_the_published_way(home: Path, whole: Grid) -> None:
    """Inject, preprocess with the checkpoint's annulus and score one stamp at a time."""
    table = pd.read_parquet(whole.out / "injections.parquet")
    finder, _ = checkpoint.load(home / "model.safetensors")
    images = np.concatenate([np.load(home / "pack" / f"shard-{k:05d}.npy") for k in (0, 1)])
    for _, row in table.iloc[::9].iterrows():
        host = images[int(row["host_id"].removeprefix("galaxy-"))]
        assert images[row["host_row"]].tobytes() == host.tobytes()
        lens = LensParams(**{name: row[name] for name in LensParams.ranges})
        source = SourceParams(**{name: row[f"source_{name}"] for name in SourceParams.ranges})
        psf = PSF.of_profile(psf_profile(), row["host_psf_fwhm"])
        ids = [row["injection_id"]]
        injected = inject(host[None], lens, source, psf, seed=row["seed"], ids=ids)
        seen = preprocess_stack(injected.stamps[0], **SPEC.preprocess_keywords())
        with torch.no_grad():
            expected = float(finder.backbone(torch.from_numpy(seen[None]))[0, 0])
        assert row["logit"] == pytest.approx(expected, abs=2e-5)
        assert row["arc_snr_r"] == pytest.approx(injected.table["arc_snr_r"][0], rel=1e-5)
        assert row["magnification"] == pytest.approx(injected.table["magnification"][0], rel=1e-6)
        assert row["score"] == pytest.approx(1 / (1 + np.exp(-row["logit"])), rel=1e-12)


def test_images_can_be_made_again(home: Path, whole: Grid) -> None:
    table = pd.read_parquet(whole.out / "injections.parquet").iloc[[61, 3, 17]]
    again = InjectedRows(whole.out, table["injection_id"].tolist())
    assert again.table["logit"].tolist() == table["logit"].tolist()
    finder, _ = checkpoint.load(home / "model.safetensors")
    images, _ = again.read(np.arange(3))
    with torch.no_grad():
        np.testing.assert_allclose(finder(images).numpy(), table["logit"], atol=1e-5)
    arcs = (images - again.hosts(np.arange(3))).numpy()
    assert (arcs.sum(axis=(2, 3))[:, 1] > 0).all()
    with pytest.raises(ValueError, match=r"has no injection 20 \(ids not found: 1\)"):
        InjectedRows(whole.out, [20])


class Interrupter:
    """Progress callback that acts once, when ``after`` rows are done."""

    def __init__(self, act: Callable[[], None], after: int = 16) -> None:
        self.act, self.after, self.is_done = act, after, False

    def __call__(self, done: int, total: int) -> None:
        assert total == ROWS
        if done >= self.after and not self.is_done:
            self.is_done = True
            self.act()


def kill_a_worker() -> None:
    victim = multiprocessing.active_children()[0]
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)


@pytest.mark.slow
def test_two_workers_one_of_which_is_killed(home: Path, whole: Grid, tmp_path: Path) -> None:
    said: list[str] = []
    progress = Interrupter(kill_a_worker)
    result = run_grid(config(home, tmp_path), Workers(2), progress=progress, warn=said.append)
    assert progress.is_done
    assert result.deaths == len(said) == 1
    assert "unfinished shards are built again" in said[0]
    assert bytes_of(tmp_path) == bytes_of(whole.out)


@pytest.mark.slow
def test_three_workers_after_the_whole_job_was_killed(
    home: Path, whole: Grid, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (tmp_path / "grid.json").write_text(config(home, out).model_dump_json())
    job = subprocess.Popen(
        [sys.executable, "-m", "tests.dhs.selection.grid_runs", tmp_path / "grid.json", "1"]
    )
    while not len(list((out / SHARDS).glob("*.parquet"))) >= 2:
        assert job.poll() is None
        time.sleep(0.005)
    job.kill()
    job.wait()
    assert not (out / "injections.parquet").exists()
    result = run_grid(config(home, out), Workers(3))
    assert 0 < result.scored < ROWS
    assert bytes_of(out) == bytes_of(whole.out)


def test_what_is_complete_is_not_made_again(home: Path, whole: Grid) -> None:
    before = bytes_of(whole.out)
    again = run_grid(config(home, whole.out), ALONE)
    assert again.scored == 0
    assert bytes_of(whole.out) == before
    other = run_grid(config(home, whole.out, thresholds=[0.4, 0.6]), ALONE)
    assert other.scored == 0
    assert [entry["threshold"] for entry in other.metadata["thresholds"]][:2] == [0.4, 0.6]
    run_grid(config(home, whole.out), ALONE)
    assert bytes_of(whole.out) == before


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"batch_size": 8}, "batch_size 4 against 8"),
        ({"seed": 8}, "draws.seed 7 against 8"),
        ({"threads": 2}, "threads 1 against 2"),
        ({"noise": {"poisson": True}}, "draws.noise.poisson False against True"),
        ({"hosts": {"split": "train"}, "fpr_targets": []}, "hosts changed"),
    ],
)
def test_shards_of_another_configuration_are_refused(
    home: Path, whole: Grid, changes: dict[str, Any], difference: str
) -> None:
    before = bytes_of(whole.out)
    with pytest.raises(ValueError, match=f"with a different configuration .*{difference}") as told:
        run_grid(config(home, whole.out, **changes), ALONE)
    assert not re.search("[0-9a-f]{16}", str(told.value).replace(str(whole.out), ""))
    assert bytes_of(whole.out) == before


def test_another_annulus_is_another_grid(home: Path, whole: Grid) -> None:
    write_model(home / "other.safetensors", PreprocessSpec(annulus_r_in=8, annulus_r_out=12))
    with pytest.raises(ValueError, match=r"spec.annulus_r_in 10.4 against 8.0"):
        run_grid(grid(home / "pack", home / "other.safetensors", whole.out), ALONE)


def test_a_deprecated_checkpoint_and_a_foreign_file_are_refused(home: Path, tmp_path: Path) -> None:
    marked = write_model(tmp_path / "old.safetensors")
    checkpoint.deprecate(marked, "of the wrong annulus")
    with pytest.raises(checkpoint.DeprecatedCheckpointError, match="of the wrong annulus"):
        run_grid(grid(home / "pack", marked, tmp_path / "out"), ALONE)
    (tmp_path / "foreign.safetensors").write_bytes(b"not this")
    with pytest.raises(checkpoint.CheckpointError, match="foreign"):
        run_grid(grid(home / "pack", tmp_path / "foreign.safetensors", tmp_path / "out"), ALONE)
    assert not (tmp_path / "out").exists()


def test_too_few_negatives_and_another_size_are_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pack, split all: .*1000 non-lenses"):
        run_grid(config(home, tmp_path / "out", fpr_targets=[0.01]), ALONE)
    large = tmp_path / "large.safetensors"
    write_model(large, PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45), side=101)
    with pytest.raises(ValueError, match=f"{SIDE} x {SIDE} pixels; .* expects 101 x 101"):
        run_grid(grid(home / "pack", large, tmp_path / "out"), ALONE)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_keeps_what_is_complete(
    home: Path, whole: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = parquet.write_table, []

    def fill_up(table: Any, path: Path) -> None:
        write(table, path)
        written.append(path)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", fill_up)
    with pytest.raises(OSError, match=r"No space left.*are kept in"):
        run_grid(config(home, tmp_path), ALONE)
    monkeypatch.undo()
    assert len(list((tmp_path / SHARDS).iterdir())) == 3
    assert run_grid(config(home, tmp_path), ALONE).scored == ROWS - 24
    assert bytes_of(tmp_path) == bytes_of(whole.out)


def test_a_damaged_shard_is_named(home: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(config(home, tmp_path), ALONE, progress=Interrupter(stop))
    shard = sorted((tmp_path / SHARDS).iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{shard.name} is damaged.*delete it"):
        run_grid(config(home, tmp_path), ALONE)


def test_a_host_that_is_not_finite_fails_and_is_counted(home: Path, tmp_path: Path) -> None:
    write_hosts(tmp_path / "pack")
    shard = tmp_path / "pack" / "shard-00000.npy"
    images = np.load(shard)
    images[0, 1, 5, 5] = np.nan
    np.save(shard, images)
    settings = {"fpr_targets": [], "injections_per_cell": 60}
    out = tmp_path / "out"
    result = run_grid(grid(tmp_path / "pack", home / "model.safetensors", out, **settings), ALONE)
    table = pd.read_parquet(out / "injections.parquet")
    of_it = table["host_id"] == "galaxy-000"
    assert result.metadata["failed"] == of_it.sum() > 0
    assert (table["failure"] == np.where(of_it, "a pixel of the host is not finite", "")).all()
    assert table["logit"].isna().equals(of_it)
    selection = pd.read_csv(out / "selection_function.csv")
    whole = selection[selection["source_mag_bin"] == "all"]
    assert whole["n_failed"].sum() == of_it.sum()
    assert (whole["n_injections"] + whole["n_failed"] == 60).all()
    assert whole["sufficient"].tolist() == (whole["n_failed"] == 0).tolist()


def test_a_network_that_gives_nan_is_named(home: Path, tmp_path: Path) -> None:
    broken = write_model(tmp_path / "broken.safetensors", bias=float("nan"))
    with pytest.raises(ValueError, match=r"broken.safetensors gives 8 NaN or infinite of 8 logits"):
        run_grid(grid(home / "pack", broken, tmp_path / "out"), ALONE)
    with pytest.raises(
        ValueError, match=r"broken.safetensors gives 4 NaN or infinite of 4 logits.*injection"
    ):
        run_grid(grid(home / "pack", broken, tmp_path / "no", fpr_targets=[]), ALONE)


def test_a_foreign_folder_is_not_touched(home: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match=r"does not contain a grid \(thesis.tex\)"):
        run_grid(config(home, tmp_path), ALONE)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_columns_that_a_pack_lacks_are_named(home: Path, tmp_path: Path) -> None:
    write_pack(tmp_path / "pack")
    with pytest.raises(ValueError, match=r"no column 'psfsize_r' \(hosts.psfsize_col\)"):
        run_grid(grid(tmp_path / "pack", home / "model.safetensors", tmp_path / "out"), ALONE)


@pytest.mark.slow
def test_dask_workers_one_of_which_is_killed(home: Path, whole: Grid, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    progress = Interrupter(kill_a_worker)
    run_grid(config(home, tmp_path), Workers(dask_local=2), progress=progress)
    assert progress.is_done
    assert bytes_of(tmp_path) == bytes_of(whole.out)


CLUSTER = """
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None)
    print(cluster.scheduler_address, flush=True)
    input()
"""


@pytest.mark.slow
def test_a_scheduler_that_goes_away(home: Path, whole: Grid, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pipe, command = subprocess.PIPE, [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as cluster:
        assert cluster.stdout is not None
        where = Workers(dask=cluster.stdout.readline().strip())
        with pytest.raises(WorkersDiedError, match=r"scheduler is gone.*shards are kept"):
            run_grid(config(home, tmp_path), where, progress=Interrupter(cluster.kill))
    done = len(list((tmp_path / SHARDS).glob("*.parquet")))
    assert 2 <= done < 15
    assert run_grid(config(home, tmp_path), ALONE).scored < ROWS
    assert bytes_of(tmp_path) == bytes_of(whole.out)


@pytest.mark.parametrize(
    ("workers", "problem"),
    [
        (Workers(0), "workers"),
        (Workers(2, dask_local=2), "processes on this machine"),
        (Workers(dask="tcp://a:1", dask_local=2), "exclude each other"),
        (Workers(dask="no.json"), "scheduler file does not exist"),
    ],
)
def test_workers_that_cannot_be(home: Path, tmp_path: Path, workers: Workers, problem: str) -> None:
    with pytest.raises((ValueError, OSError), match=problem):
        run_grid(config(home, tmp_path / "out"), workers)
