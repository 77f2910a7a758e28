"""The line of the audit that finds mixed annuli."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from dhs.audit.artefact_checks import SIDES
from dhs.audit.artefacts import Artefacts
from dhs.audit.checklist import Finding, Line, Verdict, line
from dhs.preprocess.spec import PreprocessSpec, SpecMismatchError

_ANEW = (
    "One preprocessing for all: mark old checkpoints (dhs checkpoint deprecate), and create the "
    "rest again."
)


class Use(NamedTuple):
    """The use of a checkpoint by the artefact ``name``, with the preprocessing ``spec``.

    ``is_marked`` is true for a deprecated checkpoint, ``is_compared`` in a comparison that records
    the difference in preprocessing.
    """

    name: str
    spec: PreprocessSpec
    checkpoint: str
    is_marked: bool
    is_compared: bool = False


def unmixed(found: Artefacts) -> Line:
    """Check that all artefacts, and the parts of each artefact, have the same preprocessing.

    Deprecated models may differ from the others, and so may the sides of a comparison that records
    that it is across annuli.
    """
    uses = list(_uses(found))
    findings = [*_within(found), *_against_checkpoints(found, uses), *_side_by_side(uses)]
    if not findings and not uses:
        missing = "Artefacts: checkpoints, tables of scores, grids."
        findings = [Finding(Verdict.UNKNOWN, "no artefact has an annulus", missing=missing)]
    specs = dict.fromkeys(str(use.spec) for use in uses if not use.is_marked)
    marked = sum(use.is_marked for use in uses)
    said = f"{len(uses)} uses of a model agree: {'; '.join(specs) or 'no current model'}"
    said += f"; {marked} of them marked deprecated" if marked else ""
    return line("unmixed", "No artefact mixes annuli", findings or [Finding(Verdict.HOLDS, said)])


def _uses(found: Artefacts) -> Iterator[Use]:
    marked = {item.fingerprint for item in found.checkpoints if item.deprecated is not None}
    for item in found.checkpoints:
        yield Use(str(item.path), item.spec, item.fingerprint, item.deprecated is not None)
    for document in found.scores:
        for member in document.metadata["members"]:
            yield _member(str(document.path), member, marked)
    for grid in found.grids:
        yield _scored(str(grid.folder), grid.metadata, marked)
    for document in found.realism:
        yield _scored(str(document.path), document.metadata, marked)
    for document in found.evaluations:
        is_said = bool(document.metadata["across_annuli"])
        for table in document.metadata["tables"]:
            for member in table["members"]:
                use = _member(str(document.path), member, marked)
                yield use._replace(is_compared=is_said)
    for document in found.comparisons:
        is_said = bool(document.metadata["preprocessing_differs"])
        for side in SIDES:
            use = _scored(str(document.path), document.metadata[side], marked)
            yield use._replace(is_compared=is_said)


def _member(name: str, member: Mapping[str, Any], marked: set[str]) -> Use:
    fingerprint = member["checkpoint_fingerprint"]
    is_marked = bool(member.get("deprecated")) or fingerprint in marked
    return Use(name, PreprocessSpec.from_dict(member["spec"]), fingerprint, is_marked)


def _scored(name: str, metadata: Mapping[str, Any], marked: set[str]) -> Use:
    record = metadata["checkpoint"]
    is_marked = bool(record.get("deprecated")) or record["fingerprint"] in marked
    return Use(name, PreprocessSpec.from_dict(metadata["spec"]), record["fingerprint"], is_marked)


def _within(found: Artefacts) -> Iterator[Finding]:
    """Find artefacts with two preprocessings that are not comparisons across annuli."""
    for document in found.scores:
        yield from _unlike(document.path, document.metadata["members"])
    for document in found.evaluations:
        if not document.metadata["across_annuli"]:
            tables = document.metadata["tables"]
            yield from _unlike(document.path, [m for table in tables for m in table["members"]])
    for document in found.comparisons:
        if not document.metadata["preprocessing_differs"]:
            first, second = (document.metadata[side] for side in SIDES)
            yield from _differ(
                PreprocessSpec.from_dict(first["spec"]),
                PreprocessSpec.from_dict(second["spec"]),
                f"{first['folder']} in {document.path}",
                f"{second['folder']} in {document.path}",
            )


def _unlike(path: Path, members: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for first, second in pairwise(members):
        names = [
            f"{member['checkpoint']} {member['checkpoint_fingerprint'][:8]} in {path}"
            for member in (first, second)
        ]
        specs = [PreprocessSpec.from_dict(member["spec"]) for member in (first, second)]
        yield from _differ(specs[0], specs[1], names[0], names[1])


def _against_checkpoints(found: Artefacts, uses: list[Use]) -> Iterator[Finding]:
    """Find results whose preprocessing differs from that of their checkpoint."""
    here = {item.fingerprint: item for item in found.checkpoints}
    for use in uses:
        checkpoint = here.get(use.checkpoint)
        if checkpoint is not None:
            yield from _differ(use.spec, checkpoint.spec, use.name, str(checkpoint.path))


def _side_by_side(uses: list[Use]) -> Iterator[Finding]:
    """Compare the first artefact of each preprocessing that is in use and not deprecated."""
    current = [use for use in uses if not use.is_marked and not use.is_compared]
    first_of_each = list({use.spec: use for use in reversed(current)}.values())[::-1]
    for first, second in pairwise(first_of_each):
        yield from _differ(first.spec, second.spec, first.name, second.name)


def _differ(
    ours: PreprocessSpec, theirs: PreprocessSpec, our_name: str, their_name: str
) -> Iterator[Finding]:
    try:
        ours.require_same(theirs, our_name, their_name)
    except SpecMismatchError as error:
        yield Finding(Verdict.FAILS, str(error), (our_name, their_name), _ANEW)
