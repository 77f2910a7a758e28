"""Scores come from the network with the checkpoint's annulus, which the table records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor, nn
from typer.testing import CliRunner

from dhs import checkpoint
from dhs.cli import app
from dhs.model import batch_size as score_batch
from dhs.model.inference import logits_of
from dhs.preprocess import preprocess_stack
from dhs.preprocess.spec import PreprocessSpec, SpecMismatchError
from dhs.score import score
from dhs.score.table import ScoreTable, highest, read_table, require_same_preprocessing, write_table
from tests import SHARED
from tests.dhs.data.data_cases import add_masks
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.dhs.score.score_cases import (
    CUTOUTS,
    OTHER_SPEC,
    SPEC,
    images_of,
    save,
    save_all,
    write_model,
)
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack
from tests.dhs.train.training_runs import write_pack

REAL = SHARED / "data" / "dr10_cutouts"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def logits_by_id(table: ScoreTable) -> dict[str, float]:
    return dict(zip(table.ids.tolist(), table.logits.tolist(), strict=True))


def test_a_pack_is_scored_as_the_published_preprocessing_and_the_backbone_do(
    model: Path, pack: Path, tmp_path: Path
) -> None:
    finder, _ = checkpoint.load(model)
    seen = [preprocess_stack(image, **SPEC.preprocess_keywords()) for image in images_of(pack)]
    with torch.no_grad():
        expected = finder.backbone(torch.from_numpy(np.stack(seen)))[:, 0].numpy()
    scored = score(model, [pack], tmp_path / "scores.parquet", batch_size=8)
    table = read_table(tmp_path / "scores.parquet")
    assert (scored.written, scored.rejected, scored.was_complete) == (CUTOUTS, [], False)
    np.testing.assert_allclose(table.logits, expected, rtol=1e-5, atol=1e-6)
    exact = 1 / (1 + np.exp(-table.logits.astype(np.float64)))
    np.testing.assert_allclose(table.scores, exact, rtol=1e-15)
    assert table.ids.tolist() == [f"galaxy-{k:03d}" for k in range(CUTOUTS)]


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


def test_the_table_says_what_made_it(model: Path, pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    result = run(model, pack, "--out", out, "--batch-size", 4, "--device", "cpu")
    assert result.exit_code == 0, result.output
    schema = parquet.read_schema(out)
    assert [f"{field.name} {field.type}" for field in schema] == [
        "galaxy_id string",
        "logit float",
        "score double",
        "path string",
        "number int64",
        "ra double",
        "dec double",
        "label int8",
        "flat_bands int8",
    ]
    metadata = json.loads(schema.metadata[b"dhs"])
    (member,) = metadata["members"]
    assert member["checkpoint"] == "model.safetensors"
    assert member["checkpoint_fingerprint"] == checkpoint.read(model).fingerprint
    assert PreprocessSpec.from_dict(member["spec"]) == SPEC
    assert (member["data_origin"], member["deprecated"]) == ("simulated", None)
    assert metadata["spec_fingerprint"] == member["spec_fingerprint"] == SPEC.fingerprint
    assert (metadata["combination"], metadata["across_annuli"]) == ("single", False)
    assert (metadata["data_origin"], metadata["batch_size"]) == ("made-up", 4)
    assert metadata["device"].startswith("cpu, ")
    assert metadata["versions"]["torch"] == torch.__version__
    assert "annulus (10.4, 14.4)" in " ".join(result.stdout.split())
    table = read_table(out)
    assert table.specs == [SPEC]
    assert table.name == "bottlenecked_resnet (10.4, 14.4)"
    best = np.argsort(-table.logits)[:10]
    shown = [(item["id"], item["score"], item["logit"]) for item in highest(out, 10)]
    assert shown == [(table.ids[k], table.scores[k], table.logits[k]) for k in best]


def test_files_are_scored_and_what_does_not_fit_is_named(
    model: Path, pack: Path, tmp_path: Path
) -> None:
    folder = save_all(tmp_path / "cutouts", images_of(pack)[:3])
    np.savez(folder / "large.npz", cutout=np.ones((64, 64, 3), np.float32))
    (folder / "broken.npz").write_bytes(b"PK")
    (tmp_path / "other").mkdir()
    save(tmp_path / "other" / "galaxy-000.npz", images_of(pack)[3])
    out = tmp_path / "scores.parquet"
    result = run(model, folder, tmp_path / "other", tmp_path / "none", "--out", out, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["written"] == 3
    reasons = {Path(item["path"]).name: item["reason"] for item in report["rejected"]}
    assert set(reasons) == {"large.npz", "broken.npz", "none", "galaxy-000.npz"}
    assert "large has 64 x 64 pixels; the checkpoint expects 33 x 33" in reasons["large.npz"]
    assert "has the same id as an earlier cutout, galaxy-000;" in reasons["galaxy-000.npz"]
    table = read_table(out)
    assert table.metadata["data_origin"] is None
    assert table.paths.tolist() == [str(folder / f"galaxy-00{k}.npz") for k in range(3)]
    score(model, [pack], tmp_path / "pack.parquet")
    np.testing.assert_allclose(
        table.logits, read_table(tmp_path / "pack.parquet").logits[:3], rtol=1e-5
    )


def test_nothing_is_written_where_everything_is_rejected(model: Path, tmp_path: Path) -> None:
    result = run(model, tmp_path / "none", "--out", tmp_path / "scores.parquet", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["out"] is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_manifest_of_files_needs_no_labels(
    model: Path, pack: Path, tmp_path: Path, suffix: str
) -> None:
    save_all(tmp_path / "cutouts", images_of(pack)[:3])
    mask = np.zeros((33, 33), bool)
    mask[2:9] = True
    np.save(tmp_path / "mask.npy", mask)
    columns = {
        "cutout_path": ["cutouts/galaxy-000.npz", "absent.npz", "cutouts/galaxy-002.npz"],
        "galaxy_id": ["a", "b", "c"],
        "mask_path": [None, None, "mask.npy"],
    }
    manifest = tmp_path / f"manifest{suffix}"
    frame = pd.DataFrame(columns)
    frame.to_csv(manifest) if suffix == ".csv" else frame.to_parquet(manifest)
    out = tmp_path / "scores.parquet"
    scored = score(model, [manifest], out, batch_size=4)
    assert [item.path.name for item in scored.rejected] == ["absent.npz"]
    finder, _ = checkpoint.load(model)
    images = torch.from_numpy(images_of(pack)[[0, 2]])
    bad = torch.from_numpy(np.stack([np.zeros_like(mask), mask]))[:, None]
    with torch.no_grad():
        expected = finder(images, mask=bad)
    table = read_table(out)
    assert table.ids.tolist() == ["a", "c"]
    np.testing.assert_allclose(table.logits, expected, rtol=1e-5)
    assert not np.allclose(table.logits, finder(images).detach(), rtol=1e-5)


def test_masks_of_a_pack_are_used(model: Path, tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack")
    score(model, [pack], tmp_path / "without.parquet")
    masks = np.concatenate(add_masks(pack))
    score(model, [pack / "manifest.parquet"], tmp_path / "with.parquet")
    finder, _ = checkpoint.load(model)
    with torch.no_grad():
        expected = finder(torch.from_numpy(images_of(pack)), mask=torch.from_numpy(masks))
    logits = read_table(tmp_path / "with.parquet").logits
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(logits, read_table(tmp_path / "without.parquet").logits)


def test_what_cannot_be_scored_together_is_refused(model: Path, pack: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a pack or a manifest, but 2 paths are given"):
        score(model, [pack, tmp_path], tmp_path / "scores.parquet")
    large = write_model(tmp_path / "large.safetensors", size=101)
    with pytest.raises(ValueError, match="33 x 33 pixels; the checkpoint expects 101 x 101"):
        score(large, [pack], tmp_path / "scores.parquet")
    (tmp_path / "table.csv").write_text("galaxy_id,label\na,1\n")
    with pytest.raises(ValueError, match=r"manifest.parquet' is an input and would be replaced"):
        score(model, [pack], pack / "manifest.parquet")
    with pytest.raises(ValueError, match="no column 'cutout_path'"):
        score(model, [tmp_path / "table.csv"], tmp_path / "scores.parquet")


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
    assert read_table(out).metadata["members"][0]["deprecated"] == "of the wrong annulus"


def test_a_checkpoint_that_is_none_or_gives_no_numbers_is_named(pack: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"no checkpoint")
    result = run(foreign, pack, "--out", tmp_path / "scores.parquet")
    assert result.exit_code == 2
    assert "foreign.safetensors is truncated, damaged or not" in " ".join(result.stderr.split())
    broken = write_model(tmp_path / "broken.safetensors", bias=float("nan"))
    expected = (
        "broken.safetensors gives NaN or infinite logits for 8 of the 8 cutouts of a "
        "batch, the first galaxy-000"
    )
    with pytest.raises(ValueError, match=expected):
        score(broken, [pack], tmp_path / "scores.parquet", batch_size=8)


def test_the_batch_is_the_largest_that_fits_a_quarter_of_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sequential(nn.ReLU(), nn.Flatten()))
    needed = 3 * 2 * 5 * 5 * 4
    assert score_batch.activation_bytes(network, 5, cpu) == needed
    assert not any(module._forward_hooks for module in network.modules())
    for free, expected in ((4 * 8 * needed, 8), (4 * 8 * needed - 1, 4), (0, 1), (1e12, 16)):
        monkeypatch.setattr(score_batch, "free_bytes", lambda device, free=free: free)
        assert score_batch.choose_batch_size([network], 5, cpu) == expected
    monkeypatch.undo()
    assert 2**20 < score_batch.free_bytes(cpu) < 2**50


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert score_batch.choose_device("auto").type == "cpu"
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        score_batch.choose_device("cuda")
    with pytest.raises(ValueError, match="use one of auto, cpu, cuda"):
        score_batch.choose_device("gpu")


@pytest.mark.skipif(not REAL.is_dir(), reason="no real cutouts at ../shared/data/dr10_cutouts")
def test_real_cutouts_are_scored(tmp_path: Path) -> None:
    spec = PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45)
    large = write_model(tmp_path / "large.safetensors", spec=spec, size=101)
    out = tmp_path / "scores.parquet"
    result = run(large, REAL, "--out", out)
    assert result.exit_code == 0, result.output
    assert "4 cutouts scored" in result.stdout
    assert len(read_table(out)) == 4
    assert Path(read_table(out).paths[0]).parent == REAL


@pytest.fixture
def table(model: Path, pack: Path, tmp_path: Path) -> ScoreTable:
    score(model, [pack], tmp_path / "scores.parquet")
    return read_table(tmp_path / "scores.parquet")


def test_a_table_is_read_as_it_was_written(table: ScoreTable, tmp_path: Path) -> None:
    copy = tmp_path / "copy.parquet"
    whole = replace(
        table,
        member_logits=np.stack([table.logits, -table.logits], 1),
        fold=np.arange(CUTOUTS, dtype=np.int8),
        files=table.paths,
        metadata=table.metadata
        | {"combination": "trained", "members": table.metadata["members"] * 2},
    )
    write_table(copy, whole)
    found = read_table(copy)
    for name in ("ids", "logits", "scores", "paths", "member_logits", "fold"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    for name, values in whole.known.items():
        np.testing.assert_array_equal(found.known[name], values)
    assert list(found.known) == ["number", "ra", "dec", "label"]
    assert found.files is not None
    assert found.files.tolist() == whole.paths.tolist()
    assert found.metadata == whole.metadata
    assert found.name == "trained of 2 x bottlenecked_resnet (10.4, 14.4)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.full(CUTOUTS, np.nan, np.float32)}, "20 of 20 scores are NaN.*galaxy-000"),
        ({"ids": np.array(["a", "b"] * 10)}, "18 rows have the id of another row, the first a"),
        ({"metadata": {}}, "has no provenance of its scores"),
        ({"metadata": {"spec_fingerprint": "00"}}, "does not match its fingerprint"),
        ({"metadata": {"members": [{"spec": {"mode": "other"}}]}}, "members.0.spec: mode=.other."),
    ],
)
def test_a_table_that_is_not_sound_is_refused(
    table: ScoreTable, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    if change.get("metadata"):
        change = {"metadata": table.metadata | change["metadata"]}
    write_table(tmp_path / "bad.parquet", replace(table, **change))
    with pytest.raises(ValueError, match=f"bad.parquet.*{message}"):
        read_table(tmp_path / "bad.parquet")


def test_another_table_is_no_table_of_scores(pack: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest.parquet has no column logit, score, path"):
        read_table(pack / "manifest.parquet")


def test_tables_of_different_preprocessing_are_not_compared(
    table: ScoreTable, pack: Path, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other.safetensors", spec=OTHER_SPEC)
    score(other, [pack], tmp_path / "others.parquet")
    against = read_table(tmp_path / "others.parquet")
    require_same_preprocessing([table, table])
    with pytest.raises(
        SpecMismatchError, match=r"scores.parquet and .*others.parquet.*annulus_r_in 10.4 against 8"
    ):
        require_same_preprocessing([table, table, against])
