"""Score cutouts in nanomaggies with one or more checkpoints, and write a table.

The work is divided into parts of a fixed number of batches. Each part is a file next to the table,
named by a hash of everything that determines it. An interrupted run resumes from the complete
parts and gives identical output.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import torch
from pyarrow import parquet

import fastnorm
from dhs.arguments import integer
from dhs.jobs.claim import remove_leftovers
from dhs.jobs.files import refuse_links
from dhs.jobs.lock import only_writer
from dhs.model.batch_size import choose_batch_size, choose_device, describe_device
from dhs.model.engines import Job, inference_of, set_up
from dhs.pack import MANIFEST
from dhs.score.copies import COPIES, TABLE, write_copy
from dhs.score.ensemble import (
    COMBINATIONS,
    Combiner,
    Labels,
    Member,
    common_mask_bits,
    load_members,
    mean_logits,
    read_labels,
)
from dhs.score.input import Input, open_input
from dhs.score.known import to_arrow
from dhs.score.parts import Part, parts_folder
from dhs.score.replace import require_replaceable
from dhs.score.table import FILE, joint_fingerprint, open_table, read_flat_bands
from dhs.score.work import Work, read_metadata, recorded_run
from dhs.statistics.few import few_for_auc
from fastnorm.atomic import atomic_path
from fastnorm.io import Rejected
from fastnorm.kinds import flag
from fastnorm.paths import local_path


class Scored(NamedTuple):
    """Result of `score`.

    ``out``: path of the table, None if no cutout was scored. ``written``: number of rows.
    ``rejected``: cutouts that could not be scored. ``metadata``: metadata of the table; see
    `dhs.score.table.ScoreTable`. ``was_complete``: the table was complete before this call.
    ``flat_bands``: number of flat bands of the scored cutouts that have any, by id. ``notes``:
    values of the input's manifest that are not a position or a label, whether a network could not
    be compiled, and whether few labels trained the combiner. ``copy``: path of the copy
    in another format.
    """

    out: Path | None
    written: int
    rejected: list[Rejected]
    metadata: dict[str, Any]
    was_complete: bool
    flat_bands: dict[str, int]
    notes: Sequence[str] = ()
    copy: Path | None = None


def score(
    checkpoints: str | Path | Sequence[str | Path],
    data: Sequence[str | Path],
    out: str | Path,
    *,
    combine: str = "mean",
    truth: str | Path | None = None,
    label_col: str = "label",
    across_annuli: bool = False,
    batch_size: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    allow_deprecated: bool = False,
    data_origin: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Score cutouts into a table, or finish one that was interrupted.

    Parameters
    ----------
    checkpoints : path, or sequence of paths
        Several checkpoints form an ensemble; each normalises with its own annulus.
    data : sequence of paths
        Same as in `dhs.score.input.open_input`.
    out : path
        Table to write, ``.parquet``; it appears when it is complete. Parts of unfinished work are
        next to it in ``.OUT.parts``. With ``.csv``, ``.fits`` or ``.vot``, the table is written
        beside this file with the suffix ``.parquet``, and this file is a copy of it, with a column
        ``rank`` and the highest score first. The table is in the order of the input.
    combine : {"mean", "trained"}
        Combine the members by the mean of their logits, or by a `dhs.score.ensemble.Combiner`.
    truth : path, optional
        Manifest or pack with the labels for training a combiner.
    label_col : str
        Column of the labels in ``truth``, 0 or 1.
    across_annuli : bool
        Allow members with different preprocessing; the table records it.
    batch_size : int, optional
        Cutouts per forward pass; the last bits of a logit depend on it. By default the batch size
        of the run that is resumed, otherwise the result of
        `dhs.model.batch_size.choose_batch_size`.
    device : {"auto", "cpu", "cuda"}
    engine : {"auto", "eager", "compile"}
        How the networks are computed, see `dhs.model.engines.set_up`; the last bits of a logit
        depend on it. "auto" takes that of the run that is resumed.
    allow_deprecated : bool
        Accept a checkpoint that is marked as deprecated.
    data_origin : str, optional
        Survey and release of the cutouts, for files and tables that do not state them.
    overwrite : bool
        Replace a table of other cutouts or checkpoints. Without it, only a table of the same
        checkpoints and the same input is written again.
    progress : function, optional
        Called with the number of cutouts done and the total.

    Returns
    -------
    Scored

    Raises
    ------
    SpecMismatchError
        Two members have different preprocessing, and ``across_annuli`` is false.
    TypeError, ValueError
        An argument is not allowed; a checkpoint cannot be used, is deprecated, or gives NaN or
        infinite logits; a pack has cutouts of a different size; there are too few labels; the data
        origin contradicts the input; or ``out`` is not a table of scores, or is of another run.
    OSError
        A file cannot be read or written, or another process is writing the same table. Complete
        parts are kept.
    """
    paths = [checkpoints] if isinstance(checkpoints, str | Path) else list(checkpoints)
    overwrite = flag("overwrite", overwrite)
    flag("across_annuli", across_annuli), flag("allow_deprecated", allow_deprecated)
    labels = _check_combination(combine, len(paths), truth, label_col)
    where = choose_device(device)
    inputs = [*data, *paths, *([] if truth is None else [truth])]
    out, copy = _outputs(local_path(out), inputs)
    members = load_members(paths, allow_deprecated=allow_deprecated, across_annuli=across_annuli)
    size = members[0].checkpoint.size
    cutouts = open_input(data, size, common_mask_bits(members), data_origin)
    for member in members:
        member.finder.to(where)
    metadata = _describe(members, combine, cutouts, where)
    earlier = recorded_run(out, metadata)
    finders = [member.finder for member in members]
    if batch_size is None:
        batch_size = (earlier or {}).get("batch_size")
    if batch_size is None:
        batch_size = choose_batch_size(finders, size, where)
    integer("batch_size", batch_size, 1, 2**31 - 1)
    known = inference_of(engine, earlier)
    if known is not None:
        metadata["inference"] = known.to_dict()
    require_replaceable(out, copy, metadata, cutouts, overwrite=overwrite)
    job = Job(len(cutouts), batch_size, size)
    inference = set_up(finders, engine if known is None else known, job, where)
    metadata |= {"batch_size": batch_size, "inference": inference.to_dict()}

    work = Work(members, cutouts, where, out, metadata)
    metadata["fingerprint"] = _fingerprint(work, cutouts, metadata, labels)
    folder = parts_folder(out)
    refuse_links(out.parent, glob.escape(folder.name), f"{folder.name}/*")
    with only_writer(folder, f"the parts of {out}") as record_owner:
        record_owner()
        remove_leftovers(out.parent, glob.escape(out.name))
        result = _complete(out, metadata, cutouts)
        if result is None:
            work.record(metadata)
            work.make_parts(progress or (lambda done, total: None))
            with work.keeping_parts():
                result = _merge(work, cutouts, out, metadata, labels)
        shutil.rmtree(folder)
    if copy is not None and result.out is not None:
        write_copy(result.out, copy)
        result = result._replace(copy=copy)
    notes = [*cutouts.notes, *inference.notes(), *_few_labels(result.metadata)]
    return result._replace(notes=notes)


def _few_labels(metadata: Mapping[str, Any]) -> list[str]:
    """Return a line if a combiner was trained on few labels."""
    if "combiner" not in metadata:
        return []
    lenses, others = metadata["combiner"]["lenses"], metadata["combiner"]["non_lenses"]
    few = few_for_auc(lenses, others)
    if few is None:
        return []
    return [
        f"the combiner was trained on {lenses} lenses and {others} non-lenses: {few}, which hardly "
        "tells whether it is better than the mean"
    ]


def _check_combination(
    combine: str, members: int, truth: str | Path | None, label_col: str
) -> Labels | None:
    if combine not in COMBINATIONS:
        raise ValueError(
            f"combine={combine!r} is not known; expected one of {', '.join(COMBINATIONS)}."
        )
    if combine == "mean":
        if truth is not None:
            raise ValueError(
                f"truth={str(truth)!r} is only for combine='trained'; leave it out, or give both."
            )
        return None
    if members < 2:
        raise ValueError("combine='trained' needs two checkpoints or more; give an ensemble.")
    if truth is None:
        raise ValueError("combine='trained' needs labels; give truth, a manifest with labels.")
    return read_labels(truth, label_col)


def _outputs(out: Path, inputs: Sequence[str | Path]) -> tuple[Path, Path | None]:
    """Return the paths of the table and of its copy, if neither replaces something else."""
    if out.suffix not in (TABLE, *COPIES):
        raise ValueError(f"out={str(out)!r} must end in {', '.join((TABLE, *COPIES))}.")
    _refuse_to_replace(out, inputs)
    if out.suffix == TABLE:
        return out, None
    table = out.with_suffix(TABLE)
    _refuse_to_replace(table, inputs)
    return table, out


def _refuse_to_replace(out: Path, inputs: Sequence[str | Path]) -> None:
    files = [local_path(path) for path in inputs]
    files += [path / MANIFEST for path in files]
    # Path.resolve raises an error for a link to itself.
    if os.path.realpath(out) in {os.path.realpath(path) for path in files}:
        raise ValueError(f"out={str(out)!r} is an input and would be replaced; give another file.")


def _describe(
    members: list[Member], combine: str, cutouts: Input, device: torch.device
) -> dict[str, Any]:
    specs = [member.checkpoint.spec for member in members]
    return {
        "members": [member.describe() for member in members],
        "combination": combine if len(members) > 1 else "single",
        "across_annuli": any(specs[0].differences(spec) for spec in specs),
        "spec_fingerprint": joint_fingerprint(specs),
        "data_origin": cutouts.data_origin,
        "input": cutouts.source,
        "mask_bits": str(common_mask_bits(members)),
        "device": describe_device(device),
        "versions": {"dhs": fastnorm.__version__, "torch": torch.__version__},
    }


def _fingerprint(
    work: Work, cutouts: Input, metadata: Mapping[str, Any], truth: Labels | None
) -> str:
    """Compute the SHA-256 of everything that determines a table."""
    rejected = [str(item) for item in cutouts.rejected]
    labels = None if truth is None else truth.labels
    text = json.dumps([work.keys, metadata, labels, rejected], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _complete(out: Path, metadata: Mapping[str, Any], cutouts: Input) -> Scored | None:
    """Return an earlier run's table if it is the same and no cutout was rejected in reading."""
    there = read_metadata(out)
    if there is None or there.get("fingerprint") != metadata["fingerprint"]:
        return None
    rows = parquet.read_metadata(out).num_rows
    if rows != len(cutouts):
        return None
    flat = read_flat_bands(out)
    return Scored(out, rows, list(cutouts.rejected), there, was_complete=True, flat_bands=flat)


def _merge(
    work: Work, cutouts: Input, out: Path, metadata: dict[str, Any], truth: Labels | None
) -> Scored:
    """Merge the parts into the table."""
    rejected = list(cutouts.rejected)
    if not work.rows():
        rejected += [item for part in work.read() for item in part.rejected]
        return Scored(None, 0, rejected, metadata, was_complete=False, flat_bands={})
    combiner = None
    if truth is not None:
        combiner = _fit(work.read(), truth)
        metadata["combiner"] = combiner.describe() | {"truth": Path(truth.name).name}
    members = len(metadata["members"]) if metadata["combination"] != "single" else 0
    written = 0
    with (
        atomic_path(out) as temporary,
        open_table(
            temporary,
            metadata,
            members,
            has_folds=combiner is not None,
            has_flat=True,
            has_known=True,
            has_files=cutouts.origins is not None,
        ) as write,
    ):
        for part in work.read_groups():
            columns: dict[str, Any] = {
                "galaxy_id": pyarrow.array(part.ids, pyarrow.string()),
                "path": pyarrow.array(part.paths, pyarrow.string()),
                "flat_bands": part.flat_bands,
            } | to_arrow(part.known)
            if cutouts.origins is not None:
                columns[FILE] = cutouts.origins[part.known[:, 0].astype(int)]
            columns |= {f"logit_{k}": part.logits[:, k] for k in range(members)}
            if combiner is None:
                columns["logit"] = mean_logits(part.logits)
            else:
                columns["logit"], columns["fold"] = combiner(part.ids, part.logits)
            write(columns)
            rejected += part.rejected
            written += len(part.ids)
    flat = read_flat_bands(out)
    return Scored(out, written, rejected, metadata, was_complete=False, flat_bands=flat)


def _fit(parts: Iterator[Part], truth: Labels) -> Combiner:
    labelled = []
    for part in parts:
        has_label = np.array([identity in truth.labels for identity in part.ids], bool)
        labelled.append(part.at(has_label))
    ids = np.concatenate([part.ids for part in labelled])
    labels = np.array([truth.labels[identity] for identity in ids], int)
    logits = np.concatenate([part.logits for part in labelled])
    return Combiner(ids, logits, labels, f"the cutouts have in {truth.name}")
