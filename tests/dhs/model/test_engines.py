"""Layouts and engines give the logits of the network, or say why they cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from torch import Tensor

from benchmarks.forward import make_finder
from benchmarks.grid import NETWORKS
from dhs.manifest.format import METADATA_KEY
from dhs.model import LensFinder, engines
from dhs.model.engines import CompileError, Inference, Job, inference_of, set_up
from dhs.score import score
from dhs.score.work import read_metadata
from dhs.selection.run import Workers, run_grid
from fastnorm.io import read_cutouts
from fastnorm.json_text import parse_json
from tests import SHARED
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack
from tests.dhs.selection.grid_runs import bytes_of, grid, write_hosts
from tests.dhs.selection.grid_runs import write_model as write_grid_model

CPU = torch.device("cpu")
CUTOUTS = SHARED / "data" / "dr10_cutouts"


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compile anew, because compiled code outlives what it was made from."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("compiled")
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        yield


def finder(arch: str = "bottlenecked_resnet", **options: Any) -> LensFinder:
    return make_finder(arch, images_of_a_batch(), **options)


def images_of_a_batch() -> Tensor:
    """Return the real cutouts, turned and flipped until there are 16."""
    real = real_cutouts()
    turned = [torch.rot90(real, k, (2, 3)) for k in range(4)]
    return torch.cat([*turned, *[images.flip(3) for images in turned]])[:16]


def cutouts(count: int) -> Tensor:
    noise = torch.randn(count, 3, 101, 101, generator=torch.Generator().manual_seed(count))
    centre = torch.hypot(*torch.meshgrid(*[torch.arange(-50.0, 51)] * 2, indexing="ij"))
    return 0.003 * noise + torch.exp(-centre / 4) * torch.rand(count, 3, 1, 1)


def real_cutouts() -> Tensor:
    if not CUTOUTS.is_dir():
        return cutouts(4)
    paths = sorted(path for path in CUTOUTS.rglob("*") if path.suffix in (".npz", ".fits"))
    found = [np.nan_to_num(cutout.pixels) for path in paths for cutout in read_cutouts(path)]
    return torch.from_numpy(np.stack([image for image in found if image.shape[1] == 101])[:16])


def largest_difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("arch", NETWORKS)
@pytest.mark.parametrize(
    "engine",
    ["eager", *(pytest.param(name, marks=pytest.mark.slow) for name in ("auto", "compile"))],
)
def test_every_engine_gives_the_logits_of_the_network(arch: str, engine: str) -> None:
    made, images = finder(arch), images_of_a_batch()
    with torch.inference_mode():
        before = made(images)
        inference = set_up([made], engine, Job(16, 16, 101), CPU)
        after = made(images)
    assert inference.to_dict() == {
        "engine": "compile" if engine == "compile" else "eager",
        "layout": "channels_last",
    }
    assert largest_difference(after, before) < 1e-5


def test_few_cutouts_are_not_compiled_for() -> None:
    inference = set_up([finder(base_ch=2)], "auto", Job(99_999, 16, 101), CPU)
    assert inference.engine == "eager"
    assert inference.notes() == []
    assert inference.reason.startswith("99,999 cutouts are fewer than 100,000")


def test_an_unknown_engine() -> None:
    with pytest.raises(ValueError, match="engine='fast' is not known; use one of auto, eager, com"):
        set_up([], "fast", Job(1, 1, 101), CPU)


WITHOUT_A_COMPILER = """
import sys, torch
from dhs.model import engines
from tests.dhs.model.test_engines import CPU, Job, finder, set_up

made = finder(base_ch=2)
try:
    print(set_up([made], sys.argv[1], Job(100_000, 2, 101), CPU))
except engines.CompileError as error:
    print(error)
with torch.inference_mode():
    made(torch.zeros(2, 3, 101, 101))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "said"), [("auto", "eager"), ("compile", "bottlenecked_resnet")]
)
def test_without_a_compiler(engine: str, said: str, tmp_path: Path) -> None:
    place = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_COMPILER, engine],
        env=os.environ | place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(said), done.stdout + done.stderr
    if engine == "compile":
        assert (
            "install a C++ compiler and the headers of Python, or use engine='eager'" in done.stdout
        )


@pytest.mark.slow
def test_compiled_logits_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MOST_DIFFERENCE", -1.0)
    made = finder(base_ch=2)
    with pytest.raises(CompileError, match=r"bottlenecked_resnet differ by .* of the largest"):
        set_up([made], "compile", Job(1, 2, 101), CPU)
    inference = set_up([made], "auto", Job(100_000, 2, 101), CPU)
    assert (inference.engine, "differ by" in inference.reason) == ("eager", True)
    assert "not compiled, and computed eagerly: comp" in inference.notes()[0]
    assert made.backbone._compiled_call_impl is None


def test_earlier_runs_are_resumed_as_they_began() -> None:
    assert inference_of("auto", {}) == Inference("eager", "contiguous")
    recorded = {"engine": "compile", "layout": "channels_last"}
    assert inference_of("auto", {"inference": recorded}) == Inference("compile")
    assert inference_of("auto", None) is None
    for odd in ("eager", {"engine": "eager"}, {"engine": "fast", "layout": "contiguous"}, 1, {}):
        with pytest.raises(ValueError, match=r"the earlier run has inference=.* is not known here"):
            inference_of("auto", {"inference": odd})
    assert inference_of("eager", {"inference": recorded}) == Inference("eager")


def test_a_table_without_an_inference_keeps_its_bytes(
    model: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of an earlier version is complete, and a part of one is completed, as it was."""
    out = tmp_path / "scores.parquet"
    layouts: list[str] = []
    use = engines.use_layout

    def seen(finder: LensFinder, layout: str) -> None:
        layouts.append(layout)
        use(finder, layout)

    monkeypatch.setattr(engines, "use_layout", seen)
    score(model, [pack], out, batch_size=4)
    assert inference_of("auto", read_metadata(out)) == Inference("eager")
    table = parquet.read_table(out)
    metadata = parse_json(table.schema.metadata[METADATA_KEY])
    del metadata["inference"]
    parquet.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)}), out)
    score(model, [pack], out, batch_size=4)
    assert layouts == ["channels_last", "contiguous"]
    assert inference_of("auto", read_metadata(out)) == Inference("eager", "contiguous")
    with pytest.raises(ValueError, match="computed as eager, contiguous, and those of this run as"):
        score(model, [pack], out, batch_size=4, engine="eager")
    score(model, [pack], out, batch_size=4, engine="eager", overwrite=True)
    assert inference_of("auto", read_metadata(out)) == Inference("eager")


def test_a_failure_to_compile_is_said(
    model: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CompileError("no compiler")

    monkeypatch.setattr(engines, "compile_network", fail)
    monkeypatch.setattr(engines, "WORTH_COMPILING", 1)
    scored = score(model, [pack], tmp_path / "scores.parquet")
    assert "the network is not compiled, and computed eagerly: no compiler" in scored.notes
    with pytest.raises(CompileError, match="no compiler"):
        score(model, [pack], tmp_path / "other.parquet", engine="compile")
    write_hosts(tmp_path / "pack")
    write_grid_model(tmp_path / "model.safetensors")
    said: list[str] = []
    config = grid(tmp_path / "pack", tmp_path / "model.safetensors", tmp_path / "grid")
    made = run_grid(config, Workers(1), warn=said.append)
    assert said == ["the network is not compiled, and computed eagerly: no compiler"]
    assert made.metadata["inference"]["reason"] == "no compiler"


@pytest.mark.slow
def test_a_compiled_grid_has_the_same_bytes_from_any_workers(tmp_path: Path) -> None:
    write_hosts(tmp_path / "pack")
    write_grid_model(tmp_path / "model.safetensors")
    outs = []
    for name, workers in (("alone", 1), ("both", 2)):
        config = grid(
            tmp_path / "pack", tmp_path / "model.safetensors", tmp_path / name, engine="compile"
        )
        made = run_grid(config, Workers(workers))
        assert made.metadata["determining"]["inference"]["engine"] == "compile"
        outs.append(bytes_of(made.out))
    assert outs[0] == outs[1]

    stopped = tmp_path / "stopped"
    config = grid(tmp_path / "pack", tmp_path / "model.safetensors", stopped, engine="compile")

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(config, Workers(1), progress=stop)
    run_grid(config, Workers(1))
    assert bytes_of(stopped) == outs[0]
    other = grid(tmp_path / "pack", tmp_path / "model.safetensors", stopped, engine="eager")
    with pytest.raises(ValueError, match=r"inference\.engine"):
        run_grid(other, Workers(1))
