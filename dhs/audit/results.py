"""Lines of the audit about results and about the files themselves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastnorm
from dhs.audit import methods
from dhs.audit.artefact_checks import SIDES
from dhs.audit.artefacts import Artefacts
from dhs.audit.checklist import Finding, Line, Verdict, line
from dhs.audit.methods import read_methods
from dhs.audit.models import PLANNED, is_dr10, is_retrained
from dhs.model.networks import PLANNED_NETWORKS, paper_name
from dhs.selection.grid_result import GridResult
from fastnorm import Annulus
from fastnorm.checksums import EXPECTED_CHECKSUMS, checksum, synthetic_cutout
from fastnorm.text import quoted

MOST_FAILED = 0.05
"""Largest fraction of injections without a score in a grid that counts."""


def selection_grid(found: Artefacts) -> Line:
    """Check that the retrained models have a selection function with their annulus."""
    return line(
        "selection_grid",
        "Selection-function grid regenerated with the new models and the new annulus",
        [_grid(found, name) for name in PLANNED_NETWORKS],
    )


def _grid(found: Artefacts, name: str) -> Finding:
    here = {item.fingerprint: item for item in found.checkpoints}
    notes, files, verdict = [], [], Verdict.UNKNOWN
    for grid in found.grids:
        record = grid.metadata["checkpoint"]
        if paper_name(record["architecture"]) != name:
            continue
        where, checkpoint = str(grid.folder), here.get(record["fingerprint"])
        files.append(where)
        if checkpoint is None:
            notes.append(
                f"{where} was scored by the checkpoint {record['name']} "
                f"{record['fingerprint'][:12]}, which is not in the folders"
            )
        elif not is_dr10(grid.metadata["data_origin"]):
            origin = grid.metadata["data_origin"]
            notes.append(f"{where} does not count: the origin of its hosts is {origin!r}")
        elif grid.spec != PLANNED:
            verdict = verdict if checkpoint.deprecated else Verdict.FAILS
            differ = "; ".join(grid.spec.differences(PLANNED))
            notes.append(f"{where} differs from the plan: {differ}")
        elif not is_retrained(checkpoint):
            notes.append(f"{where}: its checkpoint {checkpoint.path} does not count")
        elif grid.metadata["failed"] > MOST_FAILED * grid.rows:
            notes.append(f"{where}: {grid.metadata['failed']} of {grid.rows} injections failed")
        else:
            return Finding(Verdict.HOLDS, f"{name}: {_described(grid)}", (where,))
    return Finding(
        verdict,
        f"{name}: no finished grid{' that counts' if notes else ''}",
        tuple(files),
        f"The grid of the retrained {name} on DR10 hosts, with its checkpoint in the folders: "
        "dhs grid configs/selection_grid.yaml --set checkpoint=FILE.",
        tuple(notes),
    )


def _described(grid: GridResult) -> str:
    old = f". {grid.warning}" if grid.warning else ""
    failed, split = grid.metadata["failed"], grid.metadata["config"]["hosts"]["split"]
    return (
        f"{grid.rows:,} injections in {grid.cells} cells, {failed} failed, {grid.annulus}, hosts "
        f"{grid.metadata['data_origin']} of split {split!r}, scored by {grid.model}{old}"
    )


def checksums_hold(found: Artefacts) -> Line:
    """Check that every available backend reproduces the locked checksums."""
    return line(
        "lock",
        f"Normalisation lock: checksums {' and '.join(EXPECTED_CHECKSUMS.values())}, "
        "recomputed here",
        _checksums(),
    )


def _checksums() -> Iterator[Finding]:
    for backend in fastnorm.backends():
        if not backend.available:
            # Unavailable backends are listed and do not affect the verdict.
            yield Finding(Verdict.HOLDS, f"{backend.name}: not available ({backend.reason})")
            continue
        for annulus, expected in EXPECTED_CHECKSUMS.items():
            try:
                same = checksum(_normalized(annulus, backend.name, backend.device))
            except Exception as error:  # a broken backend fails the line, not the audit
                same = f"{type(error).__name__}: {error}"
            is_same = same == expected
            yield Finding(
                Verdict.HOLDS if is_same else Verdict.FAILS,
                f"{backend.name}, annulus {annulus}: {same}",
                missing=None if is_same else "A working installation: run fastnorm check.",
            )


def _normalized(annulus: Annulus, backend: str, device: str) -> Any:
    cutout: Any = synthetic_cutout()
    if device == "cuda":
        import torch

        cutout = torch.from_numpy(cutout).cuda()
    with warnings.catch_warnings():
        # The old annulus is intended here.
        warnings.simplefilter("ignore", fastnorm.AnnulusWarning)
        done = fastnorm.normalize_outer_annulus(
            cutout, annulus.r_in, annulus.r_out, clip=10, nan_to_zero=True, backend=backend
        )
    return np.asarray(done if device == "cpu" else done.cpu())


def methods_text(found: Artefacts) -> Line:
    """Check that the paper's paragraph describes a retrained checkpoint."""
    return line("methods_text", "Methods text generated from the same preprocessing", _texts(found))


def _texts(found: Artefacts) -> list[Finding]:
    findings = [_text(found, path) for path in found.methods]
    if any(item.verdict is Verdict.HOLDS for item in findings):
        return [item for item in findings if item.verdict is not Verdict.UNKNOWN]
    if findings:
        return findings
    missing = "The text: dhs methods CHECKPOINT --grid DIR --out methods.tex, in these folders."
    return [Finding(Verdict.UNKNOWN, "no text from dhs methods was found", missing=missing)]


def _text(found: Artefacts, path: Path) -> Finding:
    files = (str(path),)
    again = f"Write {path} again: dhs methods CHECKPOINT --grid DIR --out {quoted(path)}."
    try:
        metadata, text = read_methods(path)
    except (ValueError, OSError) as error:
        return Finding(Verdict.FAILS, str(error), files, again)
    fingerprint = metadata.get("checkpoint_fingerprint")
    checkpoint = next((c for c in found.checkpoints if c.fingerprint == fingerprint), None)
    if checkpoint is None:
        said = (
            f"{path} was written from the checkpoint {str(fingerprint)[:12]}, "
            "which is not in the folders"
        )
        return Finding(Verdict.UNKNOWN, said, files, f"That checkpoint. Or: {again}")
    named = metadata.get("injections_fingerprint")
    grid = next((g for g in found.grids if g.metadata["injections_fingerprint"] == named), None)
    if named is not None and grid is None:
        said = f"{path} was written from the grid {str(named)[:12]}, which is not in the folders"
        return Finding(Verdict.UNKNOWN, said, files, f"That grid. Or: {again}")
    try:
        expected = methods.methods_text(checkpoint, grid, latex=path.suffix == ".tex")
    except ValueError as error:
        return Finding(Verdict.FAILS, f"{path}: {error}", files, again)
    # An editor may wrap lines.
    if text.split() != expected.split():
        said = (
            f"{path} is not the text of {checkpoint.path}: it was changed, or written by another "
            "version"
        )
        return Finding(Verdict.FAILS, said, files, again)
    if not is_retrained(checkpoint):
        origin = checkpoint.data_origin
        said = f"{path} does not count: {checkpoint.path} was trained on {origin} data"
        if checkpoint.spec != PLANNED or checkpoint.deprecated is not None:
            said = f"{path} does not count: {checkpoint.path} is {checkpoint.status}"
        return Finding(Verdict.UNKNOWN, said, files, "The text of a retrained checkpoint.")
    return Finding(Verdict.HOLDS, f"{path} is the text of {checkpoint.path}", files)


def known_origin(found: Artefacts) -> Line:
    """Check that every artefact records the origin of its data."""
    given: list[tuple[str, str | None]] = [
        *((str(item.path), item.data_origin) for item in found.checkpoints),
        *((str(item.folder), item.metadata["data_origin"]) for item in found.grids),
        *(
            (str(item.path), item.metadata.get("data_origin"))
            for items in (found.scores, found.evaluations, found.comparisons, found.packs)
            for item in items
        ),
        *(
            (f"{item.path} ({side})", item.metadata[side].get("data_origin"))
            for item in found.realism
            for side in ("real", "injected")
        ),
    ]
    unknown = [name for name, origin in given if not origin]
    origins = ", ".join(dict.fromkeys(origin for _, origin in given if origin)) or "none"
    findings = [
        Finding(
            Verdict.FAILS,
            f"{name} does not record the origin of its data",
            (name,),
            "Pack or score the cutouts with --data-origin TEXT, and create the rest again from it.",
        )
        for name in unknown
    ]
    findings += _contradictions(found)
    if not given:
        missing = "Artefacts: checkpoints, tables of scores, grids."
        findings = [Finding(Verdict.UNKNOWN, "nothing was found", missing=missing)]
    return line(
        "known_origin",
        "Every artefact records the origin of its data",
        findings or [Finding(Verdict.HOLDS, f"{len(given)} artefacts; origins: {origins}")],
    )


def _contradictions(found: Artefacts) -> Iterator[Finding]:
    """Find artefacts that record different origins of the same data."""
    said: dict[str, tuple[str, str | None]] = {}
    for name, fingerprint, origin in _trainings(found):
        first, known = said.setdefault(fingerprint, (name, origin))
        if origin != known:
            yield Finding(
                Verdict.FAILS,
                f"the training data of the checkpoint {fingerprint[:12]} are of origin {known!r} "
                f"according to {first}, and of origin {origin!r} according to {name}",
                (first, name),
                "Create the relabelled artefact again from the pack.",
            )
    for document in found.evaluations:
        origins = {table.get("data_origin") for table in document.metadata["tables"]} - {None}
        if origins - {document.metadata["data_origin"]}:
            yield Finding(
                Verdict.FAILS,
                f"{document.path} records data of origin {document.metadata['data_origin']!r}, "
                f"but its scores record {', '.join(map(repr, sorted(origins)))}",
                (str(document.path),),
                "Evaluate the scores again.",
            )


def _trainings(found: Artefacts) -> Iterator[tuple[str, str, str | None]]:
    """Return artefact, checkpoint fingerprint and recorded origin of the training data."""
    for checkpoint in found.checkpoints:
        yield str(checkpoint.path), checkpoint.fingerprint, checkpoint.data_origin
    tables = [(d.path, d.metadata["members"]) for d in found.scores]
    tables += [(d.path, t["members"]) for d in found.evaluations for t in d.metadata["tables"]]
    for path, members in tables:
        for member in members:
            yield str(path), member["checkpoint_fingerprint"], member.get("data_origin")
    recorded = [(grid.folder, grid.metadata["checkpoint"]) for grid in found.grids]
    recorded += [(d.path, d.metadata["checkpoint"]) for d in found.realism]
    recorded += [
        (d.path, d.metadata[side]["checkpoint"]) for d in found.comparisons for side in SIDES
    ]
    for path, checkpoint_of in recorded:
        yield str(path), checkpoint_of["fingerprint"], checkpoint_of.get("data_origin")


def readable(found: Artefacts) -> Line:
    """Check that no file is damaged, unfinished or from a newer version, without reading pixels."""
    findings = [
        Finding(
            Verdict.FAILS,
            item.reason,
            (str(item.path),),
            "Intact copies of these files, or the version that wrote them.",
        )
        for item in found.rejected
    ]
    if found.is_empty:
        folders = ", ".join(map(str, found.folders))
        missing = "Artefacts: name the folders written by dhs train, score, evaluate and grid."
        findings = [Finding(Verdict.UNKNOWN, f"nothing in {folders}", missing=missing)]
    return line(
        "readable",
        "Every file can be read",
        findings
        or [Finding(Verdict.HOLDS, "all files are readable, complete, and from a known version")],
    )
