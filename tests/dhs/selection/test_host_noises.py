"""The noise of hosts that is kept is that of each host, whatever came before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from dhs.injection.matched_tensors import host_noise
from dhs.selection import host_noises, injector
from dhs.selection.engine import Engine
from dhs.selection.host_noises import HostNoises
from dhs.selection.hosts import Hosts
from dhs.selection.run import Workers, run_grid
from tests.dhs.selection.grid_runs import HOSTS, grid, write_hosts, write_model


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    write_hosts(tmp_path / "pack")
    write_model(tmp_path / "model.safetensors")
    return Engine(grid(tmp_path / "pack", tmp_path / "model.safetensors", tmp_path / "out")).hosts


def test_no_bit_depends_on_the_order(hosts: Hosts) -> None:
    places = np.random.default_rng(0).integers(0, HOSTS, 100)
    at_once = HostNoises(hosts).of(places)
    kept = HostNoises(hosts)
    one_by_one = [kept.of(places[k : k + 1]) for k in range(len(places) - 1, -1, -1)][::-1]
    for whole, parts in zip(at_once, zip(*one_by_one, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(parts))
    pixels, mask = hosts.data.read(hosts.rows[places])
    for found, expected in zip(at_once, host_noise(pixels, mask), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_grid_of_the_arithmetic_before_is_refused(tmp_path: Path) -> None:
    write_hosts(tmp_path / "pack")
    write_model(tmp_path / "model.safetensors")
    config = grid(tmp_path / "pack", tmp_path / "model.safetensors", tmp_path / "out")
    run_grid(config, Workers(1))
    path = tmp_path / "out" / "settings.json"
    settings = json.loads(path.read_text())
    del settings["rendering"], settings["inference"]
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"different configuration .*inference.*rendering"):
        run_grid(config, Workers(1))


def test_every_group_is_measured_once(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counting(pixels: torch.Tensor, mask: torch.Tensor | None) -> object:
        counts.append(len(pixels))
        return host_noise(pixels, mask)

    monkeypatch.setattr(host_noises, "host_noise", counting)
    kept = HostNoises(hosts)
    for start in range(0, HOSTS, 5):
        kept.of(np.arange(start, start + 5))
    assert sorted(counts) == [8, 16, 16]


def test_a_grid_measures_the_same_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hosts(tmp_path / "pack")
    write_model(tmp_path / "model.safetensors")
    tables = []
    for least in (1, 1000):
        monkeypatch.setattr(injector, "LEAST_USES", least)
        out = tmp_path / str(least)
        config = grid(tmp_path / "pack", tmp_path / "model.safetensors", out)
        assert (Engine(config).injector._noises is None) == (least == 1000)
        run_grid(config, Workers(1))
        tables.append(parquet.read_table(out / "injections.parquet").to_pandas())
    names = [name for name in tables[0] if "snr" in name]
    assert len(names) == 6
    np.testing.assert_allclose(tables[0][names], tables[1][names], rtol=1e-5)
    others = [name for name in tables[0] if name not in names]
    assert tables[0][others].equals(tables[1][others])
