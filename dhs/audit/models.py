"""Lines of the audit about models: the retrained ones, and the deprecated old ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dhs.audit.artefact_checks import reason_of
from dhs.audit.artefacts import Artefacts
from dhs.audit.checklist import Finding, Line, Verdict, line
from dhs.checkpoint import Checkpoint
from dhs.checkpoint.folder import NOTICE
from dhs.checkpoint.published import read_old_spec
from dhs.constants import CUTOUT_SIZE
from dhs.model.networks import PLANNED_NETWORKS, paper_name
from dhs.preprocess.spec import PreprocessSpec
from dhs.statistics.threshold_scatter import UNCONDITIONAL
from fastnorm import LEGACY_ANNULUS
from fastnorm.text import one_line, quoted

PLANNED = PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45.0)
"""The preprocessing that every model is retrained with."""

OLD = PreprocessSpec()
"""The preprocessing of the published models on large cutouts: annulus (20, 32), no crop."""

_DR10 = re.compile(
    r"((desi[ _-]*)?legacy[ _-]*surveys?|ls|decals)?[ _-]*(dr|data[ _-]?release)[ _-]*10(\.\d+)?"
    r"([ _-]*(south|north))?",
    re.IGNORECASE,
)


def is_dr10(origin: str | None) -> bool:
    """Return whether an origin is DR10 of the Legacy Surveys, as the plan requires.

    Examples are ``legacysurvey-dr10``, ``DESI Legacy Surveys DR10`` and ``DR10 south``. Names with
    any other words do not count.
    """
    return _DR10.fullmatch((origin or "").strip()) is not None


def is_retrained(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint is a retrained one as the plan requires."""
    return (
        checkpoint.spec == PLANNED
        and checkpoint.size == CUTOUT_SIZE
        and checkpoint.deprecated is None
        and is_dr10(checkpoint.data_origin)
        and _is_by_its_own_word(checkpoint)
    )


def _is_by_its_own_word(checkpoint: Checkpoint) -> bool:
    """Return whether the annulus is from the training, not given by hand during an import."""
    if checkpoint.imported_from is None:
        return True
    dataset = checkpoint.config.get("dataset") or {}
    return checkpoint.spec.has_radii(dataset.get("annulus_r_in"), dataset.get("annulus_r_out"))


def best_retrained(found: Artefacts, name: str) -> Checkpoint | None:
    """Return the retrained checkpoint of an architecture with the highest validation AUC.

    A checkpoint without a validation AUC comes last. The result is None if there is no checkpoint.
    """
    able = [item for item in _of(found, name) if is_retrained(item)]
    return max(able, key=lambda item: item.validation_auc or 0.0, default=None)


def retrained(found: Artefacts) -> Line:
    """Check that both architectures have a checkpoint with the corrected annulus and DR10 data."""
    return line(
        "retrained",
        "Both architectures retrained with the corrected annulus",
        [_retrained(found, name) for name in PLANNED_NETWORKS],
    )


def _of(found: Artefacts, name: str) -> list[Checkpoint]:
    return [item for item in found.checkpoints if paper_name(item.arch) == name]


def _retrained(found: Artefacts, name: str) -> Finding:
    best = best_retrained(found, name)
    if best is not None:
        notes = [f"{best.spec}", f"trained on {best.data_origin}", f"written {best.created}"]
        if best.imported_from is not None:
            notes.append(f"imported from {best.imported_from.get('file')}")
        if best.config.get("train", {}).get("init_across_annuli"):
            notes.append("initialised with weights trained with a different annulus")
        return Finding(Verdict.HOLDS, f"{name}: {'; '.join(notes)}", (str(best.path),))
    others = _of(found, name)
    is_wrong = any(is_dr10(item.data_origin) and item.deprecated is None for item in others)
    return Finding(
        Verdict.FAILS if is_wrong else Verdict.UNKNOWN,
        f"{name}: no checkpoint{' that counts' if others else ''}",
        tuple(str(item.path) for item in others),
        f"Train {name} on a pack of DR10 cutouts (--data-origin legacysurvey-dr10): dhs train "
        f"{PLANNED_NETWORKS[name].retraining_config}.",
        tuple(_why_not(item) for item in others),
    )


def _why_not(checkpoint: Checkpoint) -> str:
    differ = checkpoint.spec.differences(PLANNED)
    origin = checkpoint.data_origin
    why = [] if is_dr10(origin) else [f"trained on data of origin {origin!r}"]
    why += [f"differs from the plan ({'; '.join(differ)})"] if differ else []
    why += [f"for cutouts of {checkpoint.size} pixels"] if checkpoint.size != CUTOUT_SIZE else []
    why += ["deprecated"] if checkpoint.deprecated is not None else []
    if not _is_by_its_own_word(checkpoint):
        why.append("imported with an annulus that was given by hand")
    return f"{checkpoint.path}: {', '.join(why)}"


def validation_auc(found: Artefacts) -> Line:
    """Check the validation AUC of the retrained models, and the lower limit of its interval."""
    least_aucs = {name: network.least_auc or 0.0 for name, network in PLANNED_NETWORKS.items()}
    asked = ", ".join(f"{name} at least {least:g}" for name, least in least_aucs.items())
    return line(
        "validation_auc",
        f"Validation AUC: {asked}",
        [_auc(found, name, least) for name, least in least_aucs.items()],
    )


def _auc(found: Artefacts, name: str, least: float) -> Finding:
    best = best_retrained(found, name)
    if best is None:
        return Finding(
            Verdict.UNKNOWN,
            f"{name}: no checkpoint retrained on DR10",
            missing=f"The retrained checkpoint of {name}.",
            notes=tuple(
                f"{item.path}: {auc:.4f} on data of origin {item.data_origin!r} does not count"
                for item in _of(found, name)
                if (auc := item.validation_auc) is not None
            ),
        )
    auc = best.validation_auc
    files = (str(best.path),)
    if auc is None:
        missing = f"The validation AUC of {best.path}, whose metrics have none."
        return Finding(Verdict.UNKNOWN, f"{name}: no validation AUC", files, missing)
    old = [
        f"{value:.4f} of {item.path}"
        for item in _of(found, name)
        if item.spec == OLD
        and is_dr10(item.data_origin)
        and (value := item.validation_auc) is not None
    ]
    said = f"{name}: {auc:.4f}; at least {least:g} is required"
    said += f"; with the old annulus: {', '.join(old)}" if old else ""
    if auc < least:
        missing = f"A training of {name} that reaches {least:g}; see its training curves."
        return Finding(Verdict.FAILS, said, files, missing)
    return _at_lower_limit(found, best, said, least)


def _at_lower_limit(found: Artefacts, best: Checkpoint, said: str, least: float) -> Finding:
    """Compare the lower limit of the AUC with the requirement; the AUC itself meets it."""
    path, table = max(_areas(found, best), key=lambda item: item[1]["lenses"], default=(None, None))
    files = (str(best.path),)
    if path is None or table is None:
        return Finding(
            Verdict.UNKNOWN,
            f"{said}; no evaluation gives its interval, whose lower limit is compared",
            files,
            f"Score the validation split with {best.path.name}, then run dhs evaluate.",
        )
    low = table["auc"]["low"]
    said += (
        f"; the 95 % lower limit of the evaluation, {low:.4f} from {table['lenses']} lenses, is "
        "compared"
    )
    if low >= least:
        return Finding(Verdict.HOLDS, said, (*files, str(path)))
    return Finding(
        Verdict.UNKNOWN,
        f"{said}, and is too low: so few lenses do not show {least:g}",
        (*files, str(path)),
        f"An evaluation with more lenses, whose lower limit reaches {least:g}.",
    )


def _areas(found: Artefacts, checkpoint: Checkpoint) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Return evaluations of a checkpoint alone that count, with the interval of the AUC."""
    for document in found.evaluations:
        metadata = document.metadata
        if metadata.get("truth", {}).get("split") == "train" or not is_dr10(
            metadata["data_origin"]
        ):
            continue
        for table in metadata["tables"]:
            area = table.get("auc") or {}
            is_it = table["members"][0]["checkpoint_fingerprint"] == checkpoint.fingerprint
            if is_it and table["combination"] == "single" and area.get("low") is not None:
                yield document.path, table | {"lenses": metadata.get("lenses", 0)}


def real_lens_recall(found: Artefacts) -> Line:
    """Check that an evaluation on real lenses compares the old and the retrained models."""
    return line(
        "real_lens_recall",
        "Real-lens recall at fixed false-positive rate compared with the old models",
        [_recall(found, name) for name in PLANNED_NETWORKS],
    )


def _recall(found: Artefacts, name: str) -> Finding:
    retrained_here = {item.fingerprint for item in _of(found, name) if is_retrained(item)}
    notes, files = [], []
    for document in found.evaluations:
        for comparison, new, old in _old_and_new(document.metadata, name):
            where = str(document.path)
            fingerprint = new["members"][0]["checkpoint_fingerprint"]
            if not is_dr10(document.metadata["data_origin"]):
                origin = document.metadata["data_origin"]
                notes.append(f"{where} does not count: the origin of its data is {origin!r}")
            elif fingerprint not in retrained_here:
                notes.append(
                    f"{where}: its retrained model, {fingerprint[:12]}, is not in the folders"
                )
            elif document.metadata.get("truth", {}).get("split") == "train":
                notes.append(f"{where} does not count: it uses the training split")
            elif not comparison["at_fpr"]:
                notes.append(f"{where} has too few non-lenses for any false-positive rate")
            else:
                said = "; ".join(_rate(comparison, new, old))
                return Finding(Verdict.HOLDS, f"{name}: {said}", (where,))
            files.append(where)
    return Finding(
        Verdict.UNKNOWN,
        f"{name}: no evaluation of the old and the retrained model that counts",
        tuple(files),
        "Score the same DR10 lenses and non-lenses with the old and the retrained model of each "
        "architecture; then run dhs evaluate new.parquet old.parquet --truth MANIFEST "
        "--across-annuli --out DIR.",
        tuple(notes),
    )


def _old_and_new(
    metadata: Mapping[str, Any], name: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Return comparisons of one architecture under both annuli, with the new and old table."""
    tables = {table["name"]: table for table in metadata["tables"]}
    for comparison in metadata["comparisons"]:
        sides: dict[bool, dict[str, Any]] = {}
        for side in ("first", "second"):
            table = tables[comparison[side]]
            member = table["members"][0]
            architecture = paper_name(member["architecture"]["arch"])
            if table["combination"] != "single" or architecture != name:
                continue
            spec = PreprocessSpec.from_dict(member["spec"])
            if spec == PLANNED or (spec == OLD and is_dr10(member["data_origin"])):
                sides[spec == PLANNED] = table
        if len(sides) == 2:
            yield comparison, sides[True], sides[False]


def _rate(
    comparison: Mapping[str, Any], new: Mapping[str, Any], old: Mapping[str, Any]
) -> Iterator[str]:
    # Differences are first minus second.
    sign = 1 if comparison["first"] == new["name"] else -1
    pairs = zip(comparison["at_fpr"], new["recall_at_fpr"], old["recall_at_fpr"], strict=True)
    for item, ours, theirs in pairs:
        ends = sorted(sign * item[f"bootstrap_{end}"] for end in ("low", "high"))
        yield (
            f"at FPR {item['fpr']:g} recall {ours['recall']:.3f}{_lower_limit(ours)} against "
            f"{theirs['recall']:.3f} of the old model, difference "
            f"{sign * item['recall_difference']:+.3f} (95 % {ends[0]:+.3f} to {ends[1]:+.3f}, "
            f"{_p_text(item)})"
        )


def _lower_limit(recall: Mapping[str, Any]) -> str:
    """Return the lower limit of a recall, if it includes the scatter of the threshold."""
    if recall.get("interval_kind") != UNCONDITIONAL:
        return ""
    return f" (lower limit {recall['low']:.3f})"


def _p_text(item: Mapping[str, Any]) -> str:
    p = item.get("p_value")
    return "interval of the old kind, without a p-value" if p is None else f"p = {p:.2g}"


def deprecated(found: Artefacts) -> Line:
    """Check that every model with the old annulus is marked as deprecated."""
    return line(
        "deprecated",
        "Models with the old annulus (20, 32) marked as deprecated",
        _marks(found),
    )


def _marks(found: Artefacts) -> list[Finding]:
    findings = []
    for item in found.checkpoints:
        if item.spec.annulus == LEGACY_ANNULUS and item.spec.is_inside_galaxy(item.size):
            is_marked = item.deprecated is not None
            findings.append(_mark(item.path, is_marked, item.deprecated))
    for path in found.old:
        notice = path.parent / NOTICE
        try:
            spec = read_old_spec(path)
            said = notice.read_text("utf-8", "replace") if notice.is_file() else ""
        except Exception as error:  # whatever is in one file, it hides no other
            missing = f"The annulus of {path}: import it with dhs checkpoint import."
            said = one_line(f"{path}: {reason_of(error)}")
            findings.append(Finding(Verdict.UNKNOWN, said, (str(path),), missing))
            continue
        if spec.annulus == LEGACY_ANNULUS and spec.is_inside_galaxy():
            is_named = f"| {path.name} |" in said
            findings.append(_mark(path, is_named, f"named in {notice}" if is_named else None))
    is_published = any(c.spec == OLD and is_dr10(c.data_origin) for c in found.checkpoints)
    if findings and (found.old or is_published):
        return findings
    missing = "The folder of the published checkpoints; name it to check their deprecation marks."
    return [
        *findings,
        Finding(
            Verdict.UNKNOWN,
            "no model with the old annulus, trained on DR10, was found",
            missing=missing,
        ),
    ]


def _mark(path: Path, is_marked: bool, reason: str | None) -> Finding:
    if is_marked:
        return Finding(Verdict.HOLDS, f"{path} is marked: {reason}", (str(path),))
    missing = f"Mark it: dhs checkpoint deprecate {quoted(path.parent)} --reason TEXT."
    return Finding(
        Verdict.FAILS,
        f"{path} has the annulus (20, 32) and no deprecation mark",
        (str(path),),
        missing,
    )
