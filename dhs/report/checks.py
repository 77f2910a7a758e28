"""The sections on realism checks and on comparisons of grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dhs.audit.artefacts import Document
from dhs.figures import DASH
from dhs.preprocess.spec import PreprocessSpec
from dhs.report.parts import Block, Section, each, heading, missing, note, table, text
from dhs.report.style import badge, number, rate, with_interval
from dhs.selection.intervals import TOO_FEW
from fastnorm.io import Rejected

REALISM_SAYS = (
    "Whether the network can tell injected arcs from real lenses. An AUC near 0.5 means that it "
    "cannot: completeness measured with injections then applies to real lenses too."
)
COMPARED_BEFORE = (
    "This comparison is of the old kind: its intervals take thresholds as known, and injections "
    "that share a host as independent. Run dhs grid compare again."
)
COMPARISON_SAYS = (
    "Two models on the same injected arcs: which one finds more, and whether the difference is "
    "significant."
)


def realism_section(documents: Sequence[Document], rejected: list[Rejected]) -> Section:
    """Return the section with the probe of every realism.json."""
    result = Section("realism", "Realism check", REALISM_SAYS)
    result.blocks += each(documents, lambda document: document.path, _realism, rejected)
    if not result.blocks:
        command = "dhs realism CHECKPOINT --real DATA --injected GRID --out DIR"
        result.blocks.append(missing("No realism check was found.", command))
    return result


def comparison_section(documents: Sequence[Document], rejected: list[Rejected]) -> Section:
    """Return the section with the table of every comparison.json."""
    result = Section("comparisons", "Models compared on the same injections", COMPARISON_SAYS)
    result.blocks += each(documents, lambda document: document.path, _comparison, rejected)
    if not result.blocks:
        result.blocks.append(
            missing("No comparison of grids was found.", "dhs grid compare A B --out DIR")
        )
    return result


def _realism(document: Document) -> list[Block]:
    metadata = document.metadata
    probe, spec = metadata["probe"], PreprocessSpec.from_dict(metadata["spec"])
    size = metadata["checkpoint"]["architecture"]["size"]
    trained = metadata["checkpoint"]["data_origin"]
    rows = [
        ["AUC, 95 % interval", with_interval(probe["auc"], *probe["interval"])],
        ["told apart", "yes" if probe["told_apart"] else "no"],
        ["p-value of the permutation test", rate(probe["p_value"])],
        ["smallest detectable AUC", number(probe["detectable_auc"])],
        ["cutouts of each kind", f"{probe['used_of_each']:,}"],
        ["data of the real lenses", metadata["real"]["data_origin"] or "unknown"],
        ["hosts of the injections", metadata["injected"]["data_origin"] or "unknown"],
        ["network", f"{metadata['checkpoint']['architecture']['arch']}, trained on {trained}"],
    ]
    blocks = [heading(str(document.path), badge(spec, size)), text(probe["verdict"])]
    if metadata["real"]["data_origin"] == "simulated":
        blocks.append(note("The “real” lenses of this check are simulated."))
    return [*blocks, table("The probe", ["quantity", "value"], rows)]


def _comparison(document: Document) -> list[Block]:
    metadata = document.metadata
    blocks = [heading(str(document.path))]
    for name in ("first", "second"):
        side = metadata[name]
        spec = PreprocessSpec.from_dict(side["spec"])
        architecture = side["checkpoint"]["architecture"]
        blocks.append(text(f"{name.capitalize()}: {side['folder']}, {architecture}"))
        blocks.append(badge(spec))
    rows = [
        [
            item["threshold"],
            number(item["completeness_first"]),
            number(item["completeness_second"]),
            _difference(item),
            f"{item['n_only_first']:,}",
            f"{item['n_only_second']:,}",
            *_tests(item),
        ]
        for item in metadata["thresholds"]
    ]
    head = ["threshold", "first", "second", "second minus first", "only first", "only second"]
    head += ["p", "resampled", "cells that differ"]
    caption = (
        f"Completeness on {metadata['injections']:,} injections; hosts: {metadata['data_origin']}"
    )
    notes = metadata.get("warnings", [COMPARED_BEFORE])
    return [*blocks, table(caption, head, rows), *map(note, notes)]


def _difference(item: Mapping[str, Any]) -> str:
    low, high = item["difference_ci95_lo"], item["difference_ci95_hi"]
    if low is None:
        return f"{number(item['difference'], 4)} ({TOO_FEW} hosts)"
    return with_interval(item["difference"], low, high, 4)


def _tests(item: Mapping[str, Any]) -> list[str]:
    """Return the p-value, its kind, and the number of cells that differ."""
    if "p_value" not in item:
        return [DASH, "old kind", DASH]
    p = TOO_FEW if item["p_value"] is None else rate(item["p_value"])
    return [p, item["interval"], f"{item['significant_cells']} of {item['cells']}"]
