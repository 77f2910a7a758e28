"""Commands that recreate artefacts, built only from the settings the artefacts recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dhs.audit.artefacts import Document
from dhs.checkpoint import Checkpoint
from dhs.selection.grid_result import GridResult
from fastnorm.text import quoted, visible

TRAINING_SECTIONS = {"dataset", "train"}


class Recreation(NamedTuple):
    """How an artefact is created again.

    ``line``: the command, or "" if it was not recorded. ``note``: a sentence on its inputs, or "".
    ``file``, ``content``: name and text of the YAML file that the command reads, or "".
    """

    line: str
    note: str = ""
    file: str = ""
    content: str = ""


def command(*words: object) -> str:
    """Return a shell command on one line, every word quoted where a shell needs it.

    Names in capitals stand for values that were not recorded.
    """
    return " ".join(quoted(str(word)) for word in words)


def with_file(name: str, content: Mapping[str, Any], line: str) -> Recreation:
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
    if any(visible(row) != row for row in text.split("\n")):
        # YAML has escapes of its own for what would be hidden.
        text = yaml.safe_dump(dict(content), sort_keys=False)
    return Recreation(line, "", name, text)


def of_checkpoint(checkpoint: Checkpoint) -> Recreation:
    """Return the training with the recorded configuration, or the import of an old file."""
    if checkpoint.imported_from is not None:
        old = checkpoint.imported_from["file"]
        line = command(
            *("dhs", "checkpoint", "import", old, "--out", checkpoint.path),
            *("--data-origin", checkpoint.data_origin),
        )
        return Recreation(line, f"{old} has the SHA-256 {checkpoint.imported_from['sha256']}.")
    if not checkpoint.config.keys() >= TRAINING_SECTIONS:
        return Recreation("", "The training was not recorded.")
    return with_file("training.yaml", checkpoint.config, "dhs train training.yaml")


def of_grid(grid: GridResult) -> Recreation:
    """Return the grid run with the recorded configuration."""
    config = {**grid.metadata["config"], "out_dir": str(grid.folder)}
    return with_file("grid.yaml", config, "dhs grid grid.yaml")


def of_scores(document: Document) -> Recreation:
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
    return Recreation(command(*words))


def of_evaluation(document: Document) -> Recreation:
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
    words += ["--across-annuli"] if metadata["across_annuli"] else []
    return Recreation(command(*words))


def of_comparison(document: Document) -> Recreation:
    """Return the comparison of two grids."""
    sides = [document.metadata[name]["folder"] for name in ("first", "second")]
    words = ("dhs", "grid", "compare", *sides, "--out", document.path.parent)
    return Recreation(command(*words))


def of_realism(document: Document) -> Recreation:
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
    return Recreation(command(*words))


def _data(option: str, metadata: Mapping[str, Any]) -> list[object]:
    names = [metadata[key] for key in ("pack", "grid") if key in metadata] + metadata.get(
        "files", []
    )
    return [word for name in names or ["DATA"] for word in (option, name)]


def of_pack(document: Document) -> Recreation:
    """Return the simulation or the packing; only the checksum of a manifest is recorded."""
    metadata, out = document.metadata, document.path
    if "source_manifest_sha256" in metadata:
        words = ["dhs", "pack", "MANIFEST", "--out", out, "--data-origin", metadata["data_origin"]]
        drawn = metadata.get("split")
        if isinstance(drawn, Mapping):
            words += ["--train-fraction", drawn["train_fraction"], "--seed", drawn["seed"]]
        words += ["--shard-bytes", metadata["shard_bytes"]]
        note = f"MANIFEST has the SHA-256 {metadata['source_manifest_sha256']}."
        return Recreation(command(*words), note)
    if {"n", "seed", "lens_fraction"} <= metadata.keys():
        words = ["dhs", "simulate", "--out", out, "--n", metadata["n"], "--seed", metadata["seed"]]
        words += ["--lens-fraction", metadata["lens_fraction"]]
        return Recreation(command(*words))
    return Recreation("", "The command was not recorded.")


def of_methods(path: Path) -> Recreation:
    """Return the command that writes the methods text."""
    return Recreation(command("dhs", "methods", "CHECKPOINT", "--out", path.name))


def of_old(path: Path) -> Recreation:
    """Return the import of an old checkpoint."""
    out = f"{path.stem}.safetensors"
    return Recreation(command("dhs", "checkpoint", "import", path, "--out", out))
