"""``dhs grid plan``: what it counts, and whether the run takes as long as it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from dhs.selection.config import GridConfig
from dhs.selection.engine import Engine, Shard
from dhs.selection.plan import make_plan
from tests.dhs.model.model_cases import one_thread  # noqa: F401
from tests.dhs.selection.grid_runs import HOSTS, grid, write_hosts, write_model

INJECTIONS = 80


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    write_hosts(folder / "pack")
    write_model(folder / "model.safetensors")
    return folder


def config(home: Path, out: Path, **changes: Any) -> GridConfig:
    return grid(home / "pack", home / "model.safetensors", out, **changes)


@pytest.fixture
def short_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhs.selection.plan.TRIAL_SECONDS", 0.2)


@pytest.mark.slow
@pytest.mark.usefixtures("short_trial")
def test_the_plan_counts_what_the_run_makes(home: Path, tmp_path: Path) -> None:
    plan = make_plan(config(home, tmp_path / "a" / "b"), workers=2)
    assert (plan.cells, plan.cells_with_hosts) == (4, 4)
    assert (plan.injections, plan.negatives, plan.shards) == (INJECTIONS, HOSTS, 15)
    assert [entry["hosts"] for entry in plan.hosts] == [20, 20]
    assert plan.seconds_per_injection > 0 < plan.seconds_per_negative
    assert plan.seconds == plan.seconds_start + plan.seconds_work + plan.seconds_results
    # 5 shards of negatives and 10 of injections, 8 rows each, one after the other on two workers.
    negatives, injections = 8 * plan.seconds_per_negative, 8 * plan.seconds_per_injection
    half = (5 * negatives + 10 * injections) / 2
    assert half <= plan.seconds_work * 1.0001
    # One worker ends at most half of a shard later than if both ended at the same time.
    assert plan.seconds_work <= 1.0001 * (half + max(negatives, injections) / 2)
    assert plan.bytes_on_disk > 100 * INJECTIONS
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("short_trial")
def test_the_trial_is_spread_over_the_cells(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Shard] = []
    make = Engine.make

    def recorded(self: Engine, shard: Shard, *rest: Any) -> None:
        tried.append(shard)
        make(self, shard, *rest)

    monkeypatch.setattr(Engine, "make", recorded)
    plan = make_plan(config(home, tmp_path / "out"), workers=1)
    starts = [shard.start for shard in tried if shard.kind == "injections"]
    assert min(starts) < 0.2 * INJECTIONS
    assert max(starts) > 0.6 * INJECTIONS
    assert all(shard.stop <= INJECTIONS for shard in tried)
    assert plan.seconds_start > 1  # a process has to import torch first


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2])
def test_the_planned_time_is_that_of_the_command(home: Path, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "out"
    settings = config(home, out, injections_per_cell=600, shard_size=512).model_dump(mode="json")
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "dhs", "grid"]
    options = [str(tmp_path / "grid.yaml"), "--workers", str(workers), "--json"]
    tried = []
    # What else the machine does changes, and with it the time.
    for _ in range(3):
        planned = subprocess.run([*command, "plan", *options], capture_output=True, check=True)
        low, high = json.loads(planned.stdout)["seconds_range"]
        begun = time.perf_counter()
        subprocess.run([*command, *options], capture_output=True, check=True)
        tried.append((low, time.perf_counter() - begun, high))
        if low < tried[-1][1] < high:
            return
        shutil.rmtree(out)
    pytest.fail(f"never within the range (low, real, high): {tried}")
