"""One small artefact of every kind, and odd values in place of each value that they record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pyarrow import parquet

from dhs.audit.methods import write_methods
from dhs.checkpoint import Checkpoint
from dhs.evaluate import evaluate
from dhs.evaluate.run import write_evaluation
from dhs.pack import write_pack
from dhs.realism.probe import probe
from dhs.score.table import ScoreTable, write_table
from dhs.selection.compare import compare_grids
from dhs.selection.grid_result import GridResult
from dhs.simulate import write_survey
from dhs.statistics.thresholds import sigmoid
from tests.dhs.audit.audit_cases import member
from tests.dhs.evaluate import evaluate_cases
from tests.dhs.model.model_cases import save
from tests.dhs.pack import pack_cases
from tests.dhs.realism.realism_cases import samples
from tests.dhs.selection.grid_cases import Axes, write_grid

METRICS = [
    {"epoch": k, "train_loss": 0.5 - k / 10, "val_loss": 0.6, "val_auc": 0.7 + k / 10}
    for k in range(2)
]


class Kind(NamedTuple):
    """A place of metadata: the file, and how its JSON text is read and written."""

    path: str
    read: Callable[[Path], str]
    write: Callable[[Path, str], object]


def _read_header(path: Path) -> str:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return str(header["__metadata__"]["dhs"])


def _write_header(path: Path, text: str) -> None:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"]["dhs"] = text
    said = json.dumps(header).encode()
    path.write_bytes(len(said).to_bytes(8, "little") + said + content[end:])


def _read_parquet(path: Path) -> str:
    return str(parquet.read_schema(path).metadata[b"dhs"].decode())


def _write_parquet(path: Path, text: str) -> None:
    table = parquet.read_table(path)
    parquet.write_table(table.replace_schema_metadata({"dhs": text}), path)


def _read_lines(path: Path) -> str:
    return f"[{','.join(path.read_text().splitlines())}]"


def _write_lines(path: Path, text: str) -> None:
    # The walk changes one leaf of a list of two objects, whose order and number stay.
    inner = text.strip()[1:-1]
    path.write_text(f"{inner.replace('}, {', chr(125) + chr(10) + chr(123))}\n")


def _read_methods(path: Path) -> str:
    return path.read_text().partition("dhs methods: ")[2].partition(" -->")[0]


def _write_methods(path: Path, text: str) -> None:
    path.write_text(f"<!-- dhs methods: {text} -->\n{path.read_text().partition(chr(10))[2]}")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


KINDS = {
    "checkpoint": Kind("training/best.safetensors", _read_header, _write_header),
    "imported checkpoint": Kind("imported/old.safetensors", _read_header, _write_header),
    "scores": Kind("scores.parquet", _read_parquet, _write_parquet),
    "scores of an evaluation": Kind("new.parquet", _read_parquet, _write_parquet),
    "evaluation": Kind("evaluation/evaluation.json", Path.read_text, _write_text),
    "grid": Kind("grid/grid.json", Path.read_text, _write_text),
    "table of a grid": Kind("grid/selection_function.parquet", _read_parquet, _write_parquet),
    "comparison": Kind("comparison/comparison.json", Path.read_text, _write_text),
    "realism": Kind("realism/realism.json", Path.read_text, _write_text),
    "survey": Kind("survey/manifest.parquet", _read_parquet, _write_parquet),
    "pack": Kind("pack/manifest.parquet", _read_parquet, _write_parquet),
    "metrics": Kind("training/metrics.jsonl", _read_lines, _write_lines),
    "methods": Kind("methods.md", _read_methods, _write_methods),
}


def write_all(folder: Path) -> Path:
    """Write one artefact of every kind; all are small."""
    for name in ("training", "imported", "cutouts"):
        (folder / name).mkdir(parents=True)
    counts = {"n_train": 700, "n_train_lenses": 70, "n_validation": 90, "n_validation_lenses": 30}
    config = {"dataset": {"seed": 42, "parquet_path": "survey"}, "train": {"lr": 5e-4}}
    checkpoint = save(
        folder / "training" / "best.safetensors",
        config=config,
        data={"data_origin": "simulated", "fingerprint": "ab" * 32, **counts},
    )
    save(
        folder / "imported" / "old.safetensors",
        imported_from={"file": "old.pt", "sha256": "cd" * 32, "defaults": {}, "left_out": []},
    )
    lines = "".join(f"{json.dumps(line)}\n" for line in METRICS)
    (folder / "training" / "metrics.jsonl").write_text(lines)
    truth = evaluate_cases.write_truth(folder / "truth.parquet")
    tables = [
        evaluate_cases.write_scores(folder / "new.parquet"),
        evaluate_cases.write_scores(folder / "old.parquet", evaluate_cases.SECOND),
    ]
    made = evaluate(tables, truth, resamples=100, tier_col="tier", category_col="kind")
    write_evaluation(folder / "evaluation", made)
    axes = Axes((0.5, 1.0, 0.5), (1.3, 1.3, 0.1), (22.5, 22.5, 1.0))
    for name, seed in (("grid", 1), ("grid of another model", 2)):
        write_grid(folder / name, axes=axes, noise_seed=seed, edges=(23, 24, 25))
    _record_checkpoint(folder / "grid", checkpoint)
    (folder / "comparison").mkdir()
    compared = compare_grids(folder / "grid", folder / "grid of another model", resamples=100)
    _write_text(folder / "comparison" / "comparison.json", json.dumps(compared.metadata()))
    _write_realism(folder / "realism" / "realism.json", checkpoint)
    write_survey(folder / "survey", 4, 1)
    _write_scores(folder / "scores.parquet", checkpoint, folder / "survey")
    manifest = pack_cases.write_cutouts(folder / "cutouts")
    write_pack(manifest, folder / "pack", data_origin="simulated")
    write_methods(folder / "methods.md", checkpoint, GridResult(folder / "grid"))
    for path in folder.rglob("*.png"):
        path.unlink()
    shutil.rmtree(folder / "cutouts")
    return folder


def _write_scores(path: Path, checkpoint: Checkpoint, survey: Path) -> None:
    ids = np.array(parquet.read_table(survey / "manifest.parquet")["galaxy_id"].to_pylist())
    logits = np.linspace(-3, 3, len(ids), dtype=np.float32)
    metadata = {
        "members": [member(checkpoint)],
        "combination": "single",
        "spec_fingerprint": checkpoint.spec.fingerprint,
        "data_origin": "simulated",
        "mask_bits": None,
        "input": {"path": str(survey), "splits_fingerprint": None},
        "batch_size": 64,
        "device": "cpu",
        "fingerprint": "ef" * 32,
        "across_annuli": False,
        "versions": checkpoint.versions,
    }
    write_table(path, ScoreTable(path, ids, logits, sigmoid(logits), ids, metadata))


def _record_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    metadata = json.loads((folder / "grid.json").read_text())
    metadata["checkpoint"] |= {"fingerprint": checkpoint.fingerprint}
    (folder / "grid.json").write_text(json.dumps(metadata))


def _write_realism(path: Path, checkpoint: Checkpoint) -> None:
    side = {"data_origin": "simulated", "label_col": "label", "split": None, "files": ["a.npy"]}
    record = {
        "checkpoint": {
            "name": checkpoint.path.name,
            "fingerprint": checkpoint.fingerprint,
            "architecture": checkpoint.architecture,
            "data_origin": "simulated",
            "deprecated": None,
        },
        "spec": checkpoint.spec.to_dict(),
        "spec_fingerprint": checkpoint.spec.fingerprint,
        "real": side,
        "injected": {"data_origin": "simulated", "grid": "grid", "least_snr": 5.0},
        "features": 4,
        "sample": 60,
        "seed": 1,
        "batch_size": 64,
        "device": "cpu",
        "probe": probe(*samples(0, 30), permutations=19).to_dict(),
        "versions": checkpoint.versions,
        "created": checkpoint.created,
    }
    path.parent.mkdir()
    path.write_text(json.dumps(record))
