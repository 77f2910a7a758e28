"""The section of the objects with the highest scores, with their pictures."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from dhs.audit.artefact_checks import reason_of
from dhs.audit.artefacts import Artefacts, Document
from dhs.figures import MINUS
from dhs.report.parts import (
    Block,
    Section,
    heading,
    missing,
    note,
    table,
    text,
    unreadable,
)
from dhs.report.pixels import png
from dhs.report.style import badge
from dhs.score.picture import Shown, read_best
from dhs.score.table import ScoreTable, read_table, specs_of
from dhs.selection.figure_style import drawn_thresholds
from dhs.selection.grid_result import label
from dhs.statistics.digits import rate_text, score_text
from fastnorm.figure import MASKED, colour_picture
from fastnorm.io import Rejected
from fastnorm.text import printable

SAYS = (
    "The objects with the highest scores of every table, in z, r and g as red, green and blue; "
    "masked pixels are purple. dhs show draws more of them."
)
SIMULATED = "simulated"
MOST_SHOWN, MOST_IN_SUMMARY = 12, 6
LABELS = {1.0: "lens", 0.0: "non-lens"}


class Candidates(NamedTuple):
    """The highest scores of a table.

    ``document``: the table. ``name``: architecture and annulus. ``total``: number of objects.
    ``above``: number above the threshold, as a sentence. ``entries``: the highest, for the page.
    ``problem``: why a picture is missing, or "". ``lacks``: that its checkpoint is missing, or "".
    """

    document: Document
    name: str
    total: int
    above: str
    entries: list[dict[str, Any]]
    problem: str
    lacks: str = ""

    @property
    def title(self) -> str:
        """The table, its model and its data."""
        parts = [self.name, f"data: {_origin(self.document) or 'origin not stated'}"]
        parts += [self.lacks] if self.lacks else []
        return f"{self.document.path} ({'; '.join(parts)})"


def read_all(artefacts: Artefacts) -> list[Candidates | Rejected]:
    """Read the highest scores of every table, and their cutouts as far as there are.

    Parameters
    ----------
    artefacts : Artefacts
        Tables of scores; evaluations and grids set the threshold.

    Returns
    -------
    list of Candidates or Rejected
        One per table; `Rejected` for a table that cannot be read. Tables whose checkpoints are
        among the artefacts come first, the newest of them before the others.
    """
    found: list[Candidates | Rejected] = []
    for document in sorted(artefacts.scores, key=lambda item: _place(item, artefacts)):
        try:
            found.append(_read(document, artefacts))
        except Exception as error:
            found.append(Rejected(document.path, reason_of(error)))
    return found


def _place(document: Document, artefacts: Artefacts) -> tuple[bool, float]:
    """Return the key that sorts tables: with their checkpoints first, then the newest first."""
    try:
        return bool(_lacks(document, artefacts)), -document.path.stat().st_mtime
    except Exception:  # a damaged table is named in its own block
        return True, 0.0


def _lacks(document: Document, artefacts: Artefacts) -> str:
    there = {item.fingerprint for item in artefacts.checkpoints}
    members = _members(document.metadata)[1:]
    gone = sum(fingerprint not in there for fingerprint in members)
    if not gone:
        return ""
    which = "its checkpoint is" if len(members) == 1 else f"{gone} of its checkpoints are"
    return f"{which} not in these folders"


def _origin(document: Document) -> str | None:
    return document.metadata.get("data_origin")


def section(found: Sequence[Candidates | Rejected], rejected: list[Rejected]) -> Section:
    """Return the section with the pictures and a table of the highest scores of every table."""
    result = Section("candidates", "Candidates", SAYS)
    for position, item in enumerate(found):
        if isinstance(item, Rejected):
            rejected.append(item)
            result.blocks.append(unreadable(item))
        else:
            result.blocks += _blocks(position, item)
    if not result.blocks:
        result.blocks.append(
            missing("No table of scores was found.", "dhs score CHECKPOINT PATH... --out FILE")
        )
    return result


def _read(document: Document, artefacts: Artefacts) -> Candidates:
    scores = read_table(document.path)
    try:
        shown, problems = read_best(scores, min(MOST_SHOWN, max(len(scores), 1)))
        problem = problems[0].reason if problems else ""
    except Exception as error:
        shown, problem = [], reason_of(error)
    order = np.argsort(-scores.logits, kind="stable")[:MOST_SHOWN].tolist()
    pictures = {item.row: _picture(item) for item in shown}
    entries = [
        _entry(
            scores, row, rank, pictures.get(row, ""), is_simulated=_origin(document) == SIMULATED
        )
        for rank, row in enumerate(order, 1)
    ]
    above, lacks = _above(scores, document, artefacts), _lacks(document, artefacts)
    return Candidates(document, scores.name, len(scores), above, entries, problem, lacks)


def _picture(item: Shown) -> str:
    picture = colour_picture(item.pixels)
    if item.mask is not None and item.mask.any():
        *colour, opacity = MASKED
        bad = item.mask.any(axis=0)
        blended = (1 - opacity) * picture[bad] + opacity * 255 * np.array(colour)
        picture[bad] = blended.astype(np.uint8)
    return png(picture)


def _entry(
    scores: ScoreTable, row: int, rank: int, uri: str, *, is_simulated: bool
) -> dict[str, Any]:
    name, score = printable(str(scores.ids[row])), float(scores.scores[row])
    known = {key: float(values[row]) for key, values in scores.known.items()}
    parameters = [("rank", f"{rank}"), ("score", f"{score:.4f}"), ("id", name)]
    for key, form in (("ra", ".5f"), ("dec", "+.5f")):
        value = known.get(key, math.nan)
        if not math.isnan(value):
            parameters.append((key, f"{value:{form}}\N{DEGREE SIGN}".replace("-", MINUS)))
    if known.get("label") in LABELS:
        parameters.append(("label", LABELS[known["label"]]))
    if scores.flat_bands is not None and scores.flat_bands[row]:
        parameters.append(("flat bands", f"{scores.flat_bands[row]}"))
    if is_simulated:
        parameters.append(("data", SIMULATED))
    kind = f", {SIMULATED}" if is_simulated else ""
    return {
        "uri": uri,
        "alt": f"rank {rank}: {name}, score {score:.4f}{kind}",
        "short": f"{rank}: {score:.4f}, {name}{kind}",
        "parameters": parameters,
    }


def _above(scores: ScoreTable, document: Document, artefacts: Artefacts) -> str:
    """Count the objects above the threshold, by label where labels are known."""
    threshold = next(_thresholds(document, artefacts), None)
    if threshold is None:
        return f"{len(scores):,} scored; no evaluation or grid sets a threshold for this model"
    logit, words = threshold
    # A score equal to the threshold is not above it.
    is_above = scores.logits.astype(np.float64) > logit
    said = f"{int(is_above.sum()):,} of {len(scores):,} above {words}"
    labels = scores.known.get("label")
    if labels is None or np.isnan(labels).all():
        return said
    lenses, others = (int((is_above & (labels == value)).sum()) for value in (1, 0))
    unlabelled = int((is_above & np.isnan(labels)).sum())
    counts = (
        f"{lenses:,} labelled lenses, {others:,} labelled non-lenses, {unlabelled:,} without label"
    )
    return f"{said}: {counts}{_seen_in_training(document, artefacts)}"


def _seen_in_training(document: Document, artefacts: Artefacts) -> str:
    """Say so if the model was trained on cutouts of the pack or manifest that was scored."""
    scored = (document.metadata.get("input") or {}).get("path")
    members = _members(document.metadata)[1:]
    for item in artefacts.checkpoints:
        data = item.config.get("dataset") or {}
        trained = data.get("parquet_path") or data.get("manifest_path")
        if not (scored and trained and item.fingerprint in members):
            continue
        if os.path.realpath(scored) == os.path.realpath(trained):
            return "; the training cutouts of the model are among them"
    return ""


def _thresholds(document: Document, artefacts: Artefacts) -> Iterator[tuple[float, str]]:
    """Return thresholds of the same model, those for which the completeness is known first."""
    members = _members(document.metadata)
    for grid in artefacts.grids:
        # A damaged grid is named in its own section.
        with suppress(Exception):
            if members == ("single", grid.metadata["checkpoint"]["fingerprint"]):
                threshold = drawn_thresholds(grid.thresholds)[0]
                yield threshold.logit, f"the threshold of {grid.folder}, {label(threshold)}"
    for evaluation in artefacts.evaluations:
        # A damaged evaluation is named in its own section.
        with suppress(Exception):
            for judged in evaluation.metadata["tables"]:
                if _members(judged) == members:
                    point = judged["recall_at_fpr"][0]
                    score = score_text(point["threshold"])
                    words = f"FPR {rate_text(point['fpr'])} (score > {score})"
                    yield float(point["threshold"]), f"the threshold of {evaluation.path}, {words}"


def _members(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    prints = [str(member["checkpoint_fingerprint"]) for member in metadata["members"]]
    return str(metadata["combination"]), *prints


def _blocks(position: int, item: Candidates) -> list[Block]:
    specs = specs_of(item.document.metadata)
    blocks = [heading(str(item.document.path), badge(specs[0]) if len(specs) == 1 else None)]
    origin = _origin(item.document) or "not stated"
    lacks = f" {item.lacks[0].upper()}{item.lacks[1:]}." if item.lacks else ""
    blocks.append(text(f"{item.name}; origin of the cutouts: {origin}.{lacks} {item.above}."))
    drawn = [entry for entry in item.entries if entry["uri"]]
    if item.problem:
        lacking = len(item.entries) - len(drawn)
        which = f"{lacking} of {len(item.entries)} are not drawn" if drawn else "No pictures"
        blocks.append(note(f"{which}: {item.problem}"))
    if drawn:
        title = f"The {len(drawn)} highest of {item.total:,}"
        blocks.append(
            Block("gallery", {"key": f"candidates-{position}", "title": title, "of": drawn})
        )
    else:
        head = list(
            dict.fromkeys(name for entry in item.entries for name, _ in entry["parameters"])
        )
        rows = [
            [dict(entry["parameters"]).get(name, "") for name in head] for entry in item.entries
        ]
        blocks.append(table(f"The {len(rows)} highest of {item.total:,}", head, rows))
    return blocks
