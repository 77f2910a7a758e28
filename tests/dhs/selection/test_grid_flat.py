"""Hosts with flat bands: a grid names and counts them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dhs.selection.hosts import Hosts
from dhs.selection.run import run_grid
from tests.dhs.model.model_cases import one_thread  # noqa: F401
from tests.dhs.selection.grid_runs import grid, write_hosts, write_model


def test_hosts_with_flat_bands_are_named_and_counted(tmp_path: Path) -> None:
    pack = write_hosts(tmp_path / "pack")
    settings = grid(pack, write_model(tmp_path / "model.safetensors"), tmp_path / "grid")
    hosts = Hosts(settings)
    flat = hosts.rows[[3, 5]]
    data = hosts.data
    shards = sorted(pack.glob("shard-*.npy"))
    per_shard = [np.load(path, mmap_mode="r").shape[0] for path in shards]
    for row, bands in zip(flat.tolist(), ([0], [0, 2]), strict=True):
        number = int(np.searchsorted(np.cumsum(per_shard), row, side="right"))
        stack = np.load(shards[number])
        place = row - sum(per_shard[:number])
        stack[place, bands, : stack.shape[-1] * 2 // 3] = 0
        np.save(shards[number], stack)
    said: list[str] = []
    result = run_grid(settings, warn=said.append)
    first, second = data.ids[flat]
    named = f"flat bands (MAD 0): 3, of 2 cutouts: {first} (1), {second} (2)"
    assert [line for line in said if line.startswith(named)]
    assert result.metadata["hosts"]["with_flat_bands"] == 2
    stored = json.loads((tmp_path / "grid" / "grid.json").read_text())
    assert stored["hosts"]["with_flat_bands"] == 2
