"""Commands that recreate artefacts, built only from the settings the artefacts recorded."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from dhs.audit.artefacts import Document
from dhs.checkpoint import Checkpoint
from dhs.selection.grid_result import GridResult

TRAINING_SECTIONS = {"dataset", "train"}


def command(*words: object) -> str:
    """Return a shell command; names in capitals stand for values that were not recorded."""
    return shlex.join(str(word) for word in words)


def with_file(name: str, content: Mapping[str, Any], line: str) -> str:
    """Return a command together with the YAML file that it reads.

    Parameters
    ----------
    name : str
        File name of the YAML file.
    content : mapping
        Content of the YAML file.
    line : str
        The command.
    """
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
    return f"# {name}\n{text}\n{line}"


def of_checkpoint(checkpoint: Checkpoint) -> str:
    """Return the training with the recorded configuration, or the import of an old file."""
    if checkpoint.imported_from is not None:
        old = checkpoint.imported_from["file"]
        line = command(
            *("dhs", "checkpoint", "import", old, "--out", checkpoint.path),
            *("--data-origin", checkpoint.data_origin),
        )
        return f"# {old}: sha256 {checkpoint.imported_from['sha256']}\n{line}"
    if not checkpoint.config.keys() >= TRAINING_SECTIONS:
        return "# the training was not recorded"
    return with_file("training.yaml", checkpoint.config, "dhs train training.yaml")


def of_grid(grid: GridResult) -> str:
    """Return the grid run with the recorded configuration."""
    config = {**grid.metadata["config"], "out_dir": str(grid.folder)}
    return with_file("grid.yaml", config, "dhs grid grid.yaml")


def of_scores(document: Document) -> str:
    """Return the scoring command; DATA stands for the cutouts, whose path is not recorded."""
    metadata = document.metadata
    first, *others = [member["checkpoint"] for member in metadata["members"]]
    words = ["dhs", "score", first, "DATA", "--out", document.path]
    for member in others:
        words += ["--ensemble", member]
    if metadata["combination"] == "trained":
        words += [
            "--combine",
            "trained",
            "--truth",
            metadata.get("combiner", {}).get("truth", "TRUTH"),
        ]
    if metadata.get("across_annuli"):
        words.append("--across-annuli")
    if "batch_size" in metadata:
        words += ["--batch-size", metadata["batch_size"]]
    return command(*words)


def of_evaluation(document: Document) -> str:
    """Return the evaluation command."""
    metadata, truth = document.metadata, document.metadata["truth"]
    words = ["dhs", "evaluate", *(item["path"] for item in metadata["tables"])]
    words += ["--truth", truth["path"], "--out", document.path.parent]
    for option, value in (
        ("--label-col", truth["label_col"]),
        ("--tier-col", truth["tier_col"]),
        ("--category-col", truth["category_col"]),
        ("--split", truth["split"]),
    ):
        words += [] if value is None else [option, value]
    # Rates are refused only if no --fpr was given.
    for point in [] if metadata["refused"] else metadata["tables"][0]["recall_at_fpr"]:
        words += ["--fpr", f"{point['fpr']:g}"]
    words += ["--interval", metadata["interval"]["method"]]
    words += [
        "--bootstrap",
        metadata["bootstrap"]["resamples"],
        "--seed",
        metadata["bootstrap"]["seed"],
    ]
    return command(*words, *(["--across-annuli"] if metadata["across_annuli"] else []))


def of_comparison(document: Document) -> str:
    """Return the comparison of two grids."""
    sides = [document.metadata[name]["folder"] for name in ("first", "second")]
    return command("dhs", "grid", "compare", *sides, "--out", document.path.parent)


def of_realism(document: Document) -> str:
    """Return the realism check; DATA stands for files that were not recorded."""
    metadata = document.metadata
    real, injected = metadata["real"], metadata["injected"]
    words = ["dhs", "realism", metadata["checkpoint"]["name"]]
    words += _data("--real", real) + _data("--injected", injected)
    words += ["--out", document.path.parent]
    for option, value in (
        ("--label-col", real.get("label_col")),
        ("--split", real.get("split")),
        ("--least-snr", injected.get("least_snr")),
        ("--sample", metadata.get("sample")),
        ("--permutations", metadata["probe"].get("permutations")),
        ("--seed", metadata.get("seed")),
    ):
        words += [] if value is None else [option, value]
    return command(*words)


def _data(option: str, metadata: Mapping[str, Any]) -> list[object]:
    names = [metadata[key] for key in ("pack", "grid") if key in metadata] + metadata.get(
        "files", []
    )
    return [word for name in names or ["DATA"] for word in (option, name)]


def of_pack(document: Document) -> str:
    """Return the simulation or the packing; only the checksum of a manifest is recorded."""
    metadata, out = document.metadata, document.path
    if "source_manifest_sha256" in metadata:
        words = ["dhs", "pack", "MANIFEST", "--out", out, "--data-origin", metadata["data_origin"]]
        drawn = metadata.get("split")
        if isinstance(drawn, Mapping):
            words += ["--train-fraction", drawn["train_fraction"], "--seed", drawn["seed"]]
        words += ["--shard-bytes", metadata["shard_bytes"]]
        return f"# MANIFEST: sha256 {metadata['source_manifest_sha256']}\n{command(*words)}"
    if {"n", "seed", "lens_fraction"} <= metadata.keys():
        words = ["dhs", "simulate", "--out", out, "--n", metadata["n"], "--seed", metadata["seed"]]
        return command(*words, "--lens-fraction", metadata["lens_fraction"])
    return "# the command was not recorded"
