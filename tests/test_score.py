"""Scores: those of the network under the checkpoint's own annulus, in a table that says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor
from typer.testing import CliRunner

from dhs import checkpoint
from dhs.cli import app
from dhs.inference import logits_of
from dhs.model import LensFinder
from dhs.preprocess import preprocess_stack
from dhs.score import score
from dhs.spec import PreprocessSpec
from tests.training_runs import SIDE, write_pack

SPEC = PreprocessSpec(annulus_r_in=10.4, annulus_r_out=14.4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    finder = LensFinder(SPEC, "bottlenecked_resnet", size=SIDE, base_ch=2)
    checkpoint.save(path, finder, config={}, metrics={}, data={"data_origin": "simulated"})
    return path


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("data") / "pack", 20, "made-up")


def images_of(pack: Path) -> NDArray[np.float32]:
    return np.concatenate([np.load(pack / f"shard-{k:05d}.npy") for k in range(2)])


def test_a_pack_is_scored_as_the_published_preprocessing_and_the_backbone_do(
    model: Path, pack: Path
) -> None:
    finder, _ = checkpoint.load(model)
    seen = [preprocess_stack(image, **SPEC.preprocess_keywords()) for image in images_of(pack)]
    with torch.no_grad():
        expected = finder.backbone(torch.from_numpy(np.stack(seen)))[:, 0].numpy()
    scored = score(model, [pack], batch_size=8)
    np.testing.assert_allclose(scored.logits, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scored.probabilities, 1 / (1 + np.exp(-expected)), rtol=1e-5)
    assert scored.ids == [f"galaxy-{k:03d}" for k in range(20)]


class Recorder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        self.sizes.append(len(images))
        return images[:, 0, 0, 0]


class Numbers:
    def __len__(self) -> int:
        return 10

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, None]:
        return torch.from_numpy(rows.astype(np.float32)).reshape(-1, 1, 1, 1), None


@pytest.mark.parametrize("world", [1, 2])
def test_every_batch_has_one_size_and_nothing_is_lost(world: int) -> None:
    network, seen = Recorder(), []
    parts = [
        logits_of(
            network,
            Numbers(),
            4,
            torch.device("cpu"),
            rank=rank,
            world=world,
            progress=lambda *pair: seen.append(pair),
        )
        for rank in range(world)
    ]
    assert np.array_equal(sum(parts), np.arange(10))
    assert set(network.sizes) == {4}
    assert (10, 10) in seen


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_the_table_says_what_made_it(model: Path, pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    result = run(model, pack, "--out", out)
    assert result.exit_code == 0, result.output
    table = parquet.read_table(out)
    about = json.loads(table.schema.metadata[b"dhs"])
    made = checkpoint.read(model)
    assert about["checkpoint_fingerprint"] == made.fingerprint
    assert about["spec_fingerprint"] == SPEC.fingerprint
    assert PreprocessSpec.from_dict(about["spec"]) == SPEC
    assert about["training_data_origin"] == "simulated"
    assert about["data_origin"] == "made-up"
    assert table.num_rows == 20
    assert "annulus (10.4, 14.4)" in " ".join(result.stdout.split())


def test_files_are_scored_and_what_does_not_fit_is_named(
    model: Path, pack: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for k, image in enumerate(images_of(pack)[:3]):
        np.savez(folder / f"{k}.npz", cutout=image.transpose(1, 2, 0))
    np.savez(folder / "large.npz", cutout=np.ones((64, 64, 3), np.float32))
    (folder / "broken.npz").write_bytes(b"PK")
    result = run(model, folder, "--out", tmp_path / "scores.parquet", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["written"] == 3
    reasons = {Path(item["path"]).name: item["reason"] for item in report["rejected"]}
    assert set(reasons) == {"large.npz", "broken.npz"}
    assert "large is 64 x 64; the checkpoint takes 33 x 33" in reasons["large.npz"]
    files = score(model, [folder])
    assert files.data_origin is None
    assert files.logits.tolist() == pytest.approx(
        score(model, [pack]).logits[:3].tolist(), rel=1e-5
    )


def test_a_deprecated_checkpoint_needs_a_word(model: Path, pack: Path, tmp_path: Path) -> None:
    marked = tmp_path / "old.safetensors"
    marked.write_bytes(model.read_bytes())
    checkpoint.deprecate(marked, "of the wrong annulus")
    out = tmp_path / "scores.parquet"
    refused = run(marked, pack, "--out", out)
    assert refused.exit_code == 2
    assert "--allow-deprecated" in refused.stderr
    assert not out.exists()
    with pytest.warns(checkpoint.DeprecatedCheckpointWarning, match="of the wrong annulus"):
        result = run(marked, pack, "--out", out, "--allow-deprecated")
    assert result.exit_code == 0
    assert json.loads(parquet.read_schema(out).metadata[b"dhs"])["deprecated"]


def test_a_pack_of_another_size_is_refused(tmp_path: Path, pack: Path) -> None:
    path = tmp_path / "model.safetensors"
    spec = PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45)
    finder = LensFinder(spec, "bottlenecked_resnet", base_ch=2)
    checkpoint.save(path, finder, config={}, metrics={}, data={"data_origin": "simulated"})
    with pytest.raises(ValueError, match="33 x 33; the checkpoint takes 101 x 101"):
        score(path, [pack])
