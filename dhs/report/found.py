"""The first section: what was found, one line for each kind of result, each with its section."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from dhs.audit import Audit, Verdict
from dhs.audit.artefact_checks import reason_of
from dhs.audit.artefacts import Artefacts, Document
from dhs.audit.validation_auc import validation_auc
from dhs.checkpoint import Checkpoint
from dhs.figures import DASH
from dhs.report.candidates import MOST_IN_SUMMARY, SIMULATED, Candidates
from dhs.report.parts import Block, Section
from dhs.report.provenance import alike
from dhs.report.style import badge, with_interval
from dhs.selection.completeness import FEWEST_PER_BIN
from dhs.selection.figure_style import drawn_thresholds
from dhs.selection.grid_result import MAGNITUDE, GridResult, kind, label
from dhs.selection.intervals import TOO_FEW
from dhs.selection.net import floor_warning, net_text
from dhs.selection.seeing import assumed_text
from dhs.statistics.digits import rate_text
from fastnorm.io import Rejected
from fastnorm.text import printable

SAYS = "Each name leads to the section with the details. Intervals are at 95 %."
SAME_AREA = 5e-4
"""AUCs of the same objects differ less, whatever the batch size and the device."""
MOST_SAID = 4
"""Largest number of artefacts of one kind that are described here."""


def section(
    artefacts: Artefacts,
    judged: Audit,
    best: Sequence[Candidates | Rejected],
    *,
    is_planned: bool,
    rejected: Sequence[Rejected],
) -> Section:
    """Return the section that a reader sees first.

    Parameters
    ----------
    artefacts : Artefacts
        Artefacts of the report.
    judged : Audit
        Verdicts that the report shows.
    best : sequence
        Result of `dhs.report.candidates.read_all`.
    is_planned : bool
        Whether the verdicts are those of the retraining plan.
    rejected : sequence of Rejected
        Files that could not be read.
    """
    checks = "plan" if is_planned else "checks"
    models = _models(artefacts.checkpoints, artefacts.evaluations)
    recall = _of_each(artefacts.evaluations, _recall, "evaluation", "dhs evaluate")
    complete = _of_each(artefacts.grids, _completeness, "grid", "dhs grid")
    rows = [
        _row("Data", "made", _data(artefacts)),
        _row("Models", "training", models, _badges(artefacts)),
        _row("Candidates", "candidates", _candidates(best), pictures=_pictures(best)),
        _row("Recall", "recall", recall),
        _row("Completeness", "completeness", complete),
    ]
    mixed = _annuli(judged, checks)
    # Results of two annuli that are not told apart make everything else doubtful.
    rows.insert(0 if mixed["kind"] == "fails" else len(rows), mixed)
    if rejected:
        count = f"{len(rejected)} file{'s' * (len(rejected) > 1)} could not be read"
        rows.append(_row("Unreadable", checks, [f"{count}: {rejected[0].path}"], kind="unreadable"))
    if is_planned:
        rows.append(_row("Retraining plan", checks, [judged.summary]))
    blocks = [Block("found", {"rows": rows})]
    origins = _origins(artefacts)
    if origins == {SIMULATED}:
        said = (
            "All data are simulated: the numbers show that the steps work, and say nothing about "
            "the sky."
        )
        blocks.insert(0, Block("note", {"text": said}))
    return Section("found", "What was found", SAYS, blocks)


def _row(
    name: str,
    key: str,
    said: Iterable[str],
    badges: Sequence[Block] = (),
    *,
    pictures: Sequence[Mapping[str, Any]] = (),
    kind: str = "",
) -> dict[str, Any]:
    lines = [printable(line) for line in said]
    content = {"name": name, "key": key, "lines": lines, "badges": list(badges)}
    return content | {"pictures": list(pictures), "kind": kind}


def _cut(said: list[str], things: str) -> list[str]:
    more = len(said) - MOST_SAID
    return said if more <= 0 else [*said[:MOST_SAID], f"and {more} more {things}"]


def _data(artefacts: Artefacts) -> list[str]:
    said = []
    for pack in artefacts.packs:
        count = pack.metadata.get("n")
        many = f"{count:,} cutouts" if isinstance(count, int) else "cutouts, number not recorded"
        origin = pack.metadata.get("data_origin") or "not stated"
        said.append(f"{many} in {pack.path}, origin: {origin}")
    if said:
        return _cut(said, "packs")
    origins = ", ".join(sorted(_origins(artefacts)))
    known = f"; the results are from data of origin {origins}" if origins else ""
    return [f"no pack of cutouts in these folders (dhs pack makes one){known}"]


def _origins(artefacts: Artefacts) -> set[str]:
    """Return the origins of the data of all artefacts, those of training data included."""
    documents = [*artefacts.packs, *artefacts.scores, *artefacts.evaluations]
    given = [document.metadata.get("data_origin") for document in documents]
    given += [item.data.get("data_origin") for item in artefacts.checkpoints]
    given += [grid.metadata["data_origin"] for grid in artefacts.grids]
    return {str(origin) for origin in given if origin}


def _models(checkpoints: Sequence[Checkpoint], evaluations: Sequence[Document]) -> list[str]:
    said = []
    for group in alike(checkpoints):
        item = group[0]
        try:
            parts = [f"{item.arch}, {_training(item)}", _area(item, evaluations)]
        except Exception as error:  # whatever is in one checkpoint, it hides no other
            said.append(f"{item.path} {reason_of(error)}")
            continue
        if item.deprecated is not None:
            parts.append(f"deprecated: {item.deprecated}")
        said.append("; ".join(parts))
    return _cut(said, "models") or ["no checkpoint in these folders (dhs train makes one)"]


def _badges(artefacts: Artefacts) -> list[Block]:
    kinds = {item.spec: badge(item.spec, item.size) for item in artefacts.checkpoints}
    return list(kinds.values())


def _training(item: Checkpoint) -> str:
    data, epoch = item.data, item.metrics.get("epoch")
    count, lenses = data.get("n_train"), data.get("n_train_lenses")
    on = f"data of origin {item.data_origin}"
    if count is not None:
        of_them = "" if lenses is None else f", {lenses:,} of them lenses"
        on = f"{count:,} cutouts{of_them}, origin: {item.data_origin}"
    best = f", best epoch {epoch + 1}" if isinstance(epoch, int) else ""
    return f"trained on {on}{best}"


def _area(item: Checkpoint, evaluations: Sequence[Document]) -> str:
    """Return the validation AUC with its interval, from its evaluation or from the counts."""
    found = validation_auc(item)
    if found is None:
        return "no validation AUC"
    said, of = f"validation AUC {found.value:.4f}", ""
    if found.lenses is not None:
        of = f", of {found.lenses:,} lenses and {found.non_lenses:,} non-lenses"
    judged = _evaluated(item, found.value, evaluations)
    if judged is not None:
        interval = with_interval(found.value, judged["low"], judged["high"], 4)
        return f"validation AUC {interval}{of}"
    if found.lenses is None:
        return f"{said}, interval not known (dhs evaluate gives it)"
    if found.has_few:
        return f"{said}{of}: too few for an interval"
    interval = with_interval(found.value, found.low, found.high, 4)
    return f"validation AUC {interval}{of}; the interval is from these numbers alone"


def _evaluated(
    item: Checkpoint, area: float, evaluations: Sequence[Document]
) -> Mapping[str, float] | None:
    """Return the AUC of an evaluation on the validation split that has the same value."""
    for evaluation in evaluations:
        # A damaged evaluation is named in its own section.
        with suppress(Exception):
            for judged in evaluation.metadata["tables"]:
                is_its = (
                    judged["combination"] == "single"
                    and judged["members"][0]["checkpoint_fingerprint"] == item.fingerprint
                    and evaluation.metadata["truth"]["split"] == "val"
                )
                found = judged["auc"]
                is_same = abs(found["value"] - area) < SAME_AREA
                if is_its and is_same and found.get("low") is not None:
                    return dict(found)
    return None


def _candidates(best: Sequence[Candidates | Rejected]) -> list[str]:
    said = [
        f"{item.path} could not be read"
        if isinstance(item, Rejected)
        else f"{item.title}: {item.above}"
        for item in best
    ]
    said = _cut(said, "tables")
    drawn = next((item for item in best if isinstance(item, Candidates) and _drawn(item)), None)
    if drawn is not None and len(best) > 1:
        said.append(f"pictures: the highest of {drawn.title}")
    return said or ["no table of scores in these folders (dhs score makes one)"]


def _pictures(best: Sequence[Candidates | Rejected]) -> list[dict[str, Any]]:
    """Return the highest of the first table that has pictures."""
    for item in best:
        if isinstance(item, Candidates) and _drawn(item):
            return _drawn(item)[:MOST_IN_SUMMARY]
    return []


def _drawn(item: Candidates) -> list[dict[str, Any]]:
    return [entry for entry in item.entries if entry["uri"]]


def _of_each(
    items: Sequence[Any], say: Callable[[Any], list[str]], noun: str, made_by: str
) -> list[str]:
    said = []
    for item in items:
        try:
            said += say(item)
        except Exception:  # named in its own section
            path = item.path if isinstance(item, Document) else item.folder
            said.append(f"{path} could not be read")
    return _cut(said, f"{noun}s") or [f"no {noun} in these folders ({made_by} makes one)"]


def _recall(evaluation: Document) -> list[str]:
    metadata = evaluation.metadata
    said = []
    for item in metadata["tables"]:
        area = item["auc"]
        shown = f"{area['value']:.4f}"
        if area.get("low") is not None:
            shown = with_interval(area["value"], area["low"], area["high"], 4)
        origin = metadata["data_origin"] or "origin not stated"
        scores = item.get("path") or evaluation.path
        of = f"{scores}, on {metadata['truth']['path']}, data: {origin}"
        parts = [f"{item['name']} ({of}): AUC {shown}"]
        for point in item["recall_at_fpr"][:1]:
            found = with_interval(point["recall"], point["low"], point["high"])
            parts.append(f"recall {found} at FPR {rate_text(point['fpr'])}")
        objects = f"{metadata['lenses']:,} lenses and {metadata['negatives']:,} non-lenses"
        parts.append(f"of {objects}, split {metadata['truth']['split'] or 'all'}")
        said.append("; ".join(parts))
    return said


def _completeness(grid: GridResult) -> list[str]:
    threshold = drawn_thresholds(grid.thresholds)[0]
    whole = grid.completeness(threshold)
    cells = grid.completeness(threshold, (MAGNITUDE, "theta_e"))
    said = f"{_share(whole, ())} of the injections at {label(threshold)}, {_net(whole, ())}"
    seeing = assumed_text(grid.assumed)
    notes = [seeing] if seeing else []
    notes += [text] if (text := floor_warning(whole, kind(threshold)).rstrip(".")) else []
    enough = cells.tried >= FEWEST_PER_BIN
    if not enough.any():
        return ["; ".join([f"{said}; no cell has {FEWEST_PER_BIN} injections", *notes])]
    place = np.unravel_index(np.argmax(np.where(enough, cells.share, -1)), cells.share.shape)
    faint, radius = grid.bins[place[0]].replace("-", DASH), grid.centres["theta_e"][place[1]]
    best = (
        f"best cell of {int(enough.sum())}: {_share(cells, place)}, {_net(cells, place)}, at an "
        f"Einstein radius of {radius:g}\N{DOUBLE PRIME} and source r {faint}"
    )
    return ["; ".join([said, best, *notes])]


def _share(found: Any, place: Any) -> str:
    share, low, high = (float(values[place]) for values in (found.share, found.low, found.high))
    if np.isnan(low):
        return f"{share:.3f} ({TOO_FEW} hosts for an interval)"
    return with_interval(share, low, high)


def _net(found: Any, place: Any) -> str:
    """Return completeness net of the hosts that pass without an arc."""
    return f"net of hosts that pass without an arc {net_text(found, place)}"


def _annuli(judged: Audit, key: str) -> dict[str, Any]:
    """Return the verdict on mixed annuli, which is shown with any plan and without one."""
    line = next((line for line in judged.lines if line.key == "unmixed"), None)
    if line is None:
        return _row("Annuli", key, ["not judged"])
    if line.verdict is Verdict.FAILS:
        said = ["An artefact mixes annuli; old and new results must not be mixed."]
        said += _cut(list(line.evidence), "findings")
        return _row("Annuli", key, said, kind="fails")
    return _row("Annuli", key, _cut(list(line.evidence), "findings"))
