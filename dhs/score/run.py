"""Score cutouts with one checkpoint or several: raw nanomaggies in, a table out.

The work is cut into parts of a fixed number of batches. Each becomes a file beside the table, under
the hash of all that determines it, so that an interrupted run goes on to the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import torch
from pyarrow import parquet

import fastnorm
from dhs.arguments import integer
from dhs.jobs.lock import only_writer, remove_leftovers
from dhs.model.batch_size import choose_batch_size, choose_device, describe_device
from dhs.pack import MANIFEST
from dhs.score.ensemble import (
    COMBINATIONS,
    Combiner,
    Member,
    Truth,
    common_mask_bits,
    load_members,
    mean_logits,
    read_truth,
)
from dhs.score.input import Input, open_input
from dhs.score.parts import (
    Part,
    count_rows,
    in_groups,
    parts_folder,
    read_metadata,
    read_rows,
    recorded_batch_size,
    write_metadata,
)
from dhs.score.table import joint_fingerprint, open_table
from dhs.score.work import Work
from fastnorm.atomic import atomic_path
from fastnorm.io import Rejected


class Scored(NamedTuple):
    """What `score` gives.

    ``out``: the table, None if there is nothing to write. ``written``: rows of it. ``rejected``:
    what could not be scored. ``metadata``: what the table says of itself, as
    `dhs.score.table.ScoreTable`. ``was_complete``: there was nothing to do.
    """

    out: Path | None
    written: int
    rejected: list[Rejected]
    metadata: dict[str, Any]
    was_complete: bool


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
    allow_deprecated: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Score cutouts into a table, or finish one that was interrupted.

    Parameters
    ----------
    checkpoints : path, or sequence of paths
        Several are an ensemble; each normalises with its own annulus.
    data : sequence of paths
        As of `dhs.score.input.open_input`.
    out : path
        .parquet; appears whole. Parts of unfinished work lie beside it in ``.OUT.parts``.
    combine : {"mean", "trained"}
        The mean of the members' logits, or a `dhs.score.ensemble.Combiner` of them.
    truth : path, optional
        Manifest with the labels that a combiner is trained on.
    label_col : str
        Its column of labels, 0 or 1.
    across_annuli : bool
        Members may differ in their preprocessing; the table says so.
    batch_size : int, optional
        Of every forward pass; the last bits of a logit depend on it. By default that of the run
        which is continued, otherwise as of `dhs.model.batch_size.choose_batch_size`.
    device : {"auto", "cpu", "cuda"}
    allow_deprecated : bool
        Score with a checkpoint that is marked as deprecated.
    progress : function, optional
        Called with how many cutouts are done and how many there are.

    Returns
    -------
    Scored

    Raises
    ------
    SpecMismatchError
        Two members differ in their preprocessing.
    ValueError
        An argument is not allowed; a checkpoint cannot be used, is deprecated, or gives logits
        that are no numbers; the cutouts are of another size; there are too few labels.
    OSError
        A file cannot be read or written, or another process writes the same table. The parts
        that are complete are kept.
    """
    paths = [checkpoints] if isinstance(checkpoints, str | Path) else list(checkpoints)
    labels = _check_combination(combine, len(paths), truth, label_col)
    where, out = choose_device(device), Path(out)
    _refuse_to_replace(out, [*data, *paths, *([] if truth is None else [truth])])
    members = load_members(paths, allow_deprecated=allow_deprecated, across_annuli=across_annuli)
    size = members[0].checkpoint.size
    cutouts = open_input(data, size, common_mask_bits(members))
    for member in members:
        member.finder.to(where)
    metadata = _describe(members, combine, cutouts, where)
    if batch_size is None:
        batch_size = recorded_batch_size(out, metadata)
    if batch_size is None:
        batch_size = choose_batch_size([member.finder for member in members], size, where)
    integer("batch_size", batch_size, 1, 2**31 - 1)
    metadata["batch_size"] = batch_size

    work = Work(members, cutouts, where, out, metadata)
    metadata["fingerprint"] = _fingerprint(work, cutouts, metadata, labels)
    folder = parts_folder(out)
    with only_writer(folder, f"the parts of {out}") as sign:
        sign()
        remove_leftovers(out.parent, out.name)
        result = _complete(out, metadata, cutouts)
        if result is None:
            write_metadata(folder, metadata)
            work.make_parts(progress or (lambda done, total: None))
            with work.keeping_parts():
                result = _merge(work, cutouts, out, metadata, labels)
        shutil.rmtree(folder)
    return result


def _check_combination(
    combine: str, members: int, truth: str | Path | None, label_col: str
) -> Truth | None:
    if combine not in COMBINATIONS:
        raise ValueError(
            f"combine={combine!r} is not known; allowed are {', '.join(COMBINATIONS)}."
        )
    if combine == "mean":
        if truth is not None:
            raise ValueError(
                f"truth={str(truth)!r} is only for combine='trained'; leave it out, or ask for it."
            )
        return None
    if members < 2:
        raise ValueError("combine='trained' needs two checkpoints or more; name an ensemble.")
    if truth is None:
        raise ValueError("combine='trained' needs labels; give truth, a manifest that has them.")
    return read_truth(truth, label_col)


def _refuse_to_replace(out: Path, inputs: Sequence[str | Path]) -> None:
    files = [Path(path) for path in inputs]
    files += [path / MANIFEST for path in files]
    if out.resolve() in {path.resolve() for path in files}:
        raise ValueError(f"out={str(out)!r} is read, and would be replaced; name another file.")


def _describe(
    members: list[Member], combine: str, cutouts: Input, device: torch.device
) -> dict[str, Any]:
    specs = [member.checkpoint.spec for member in members]
    return {
        "members": [member.describe() for member in members],
        "combination": combine if len(members) > 1 else "single",
        "across_annuli": len(set(specs)) > 1,
        "spec_fingerprint": joint_fingerprint(specs),
        "data_origin": cutouts.data_origin,
        "mask_bits": str(common_mask_bits(members)),
        "device": describe_device(device),
        "versions": {"dhs": fastnorm.__version__, "torch": torch.__version__},
    }


def _fingerprint(
    work: Work, cutouts: Input, metadata: Mapping[str, Any], truth: Truth | None
) -> str:
    """The sha256 of all that determines a table."""
    rejected = [str(item) for item in cutouts.rejected]
    labels = None if truth is None else truth.labels
    text = json.dumps([work.keys, metadata, labels, rejected], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _complete(out: Path, metadata: Mapping[str, Any], cutouts: Input) -> Scored | None:
    """An earlier run's table, if it is this one and no cutout was rejected while it was read."""
    there = read_metadata(out)
    if there is None or there.get("fingerprint") != metadata["fingerprint"]:
        return None
    rows = parquet.read_metadata(out).num_rows
    if rows != len(cutouts):
        return None
    return Scored(out, rows, list(cutouts.rejected), there, was_complete=True)


def _merge(
    work: Work, cutouts: Input, out: Path, metadata: dict[str, Any], truth: Truth | None
) -> Scored:
    """Put the parts together."""
    rejected = list(cutouts.rejected)
    parts = partial(read_rows, work.paths, cutouts.has_unique_ids)
    if not count_rows(work.paths):
        rejected += [item for part in parts() for item in part.rejected]
        return Scored(None, 0, rejected, metadata, was_complete=False)
    combiner = None
    if truth is not None:
        combiner = _fit(parts(), truth)
        metadata["combiner"] = combiner.describe() | {"truth": Path(truth.name).name}
    members = len(metadata["members"]) if metadata["combination"] != "single" else 0
    written = 0
    with (
        atomic_path(out) as temporary,
        open_table(temporary, metadata, members, combiner is not None) as write,
    ):
        for part in in_groups(parts()):
            columns: dict[str, Any] = {
                "galaxy_id": pyarrow.array(part.ids, pyarrow.string()),
                "path": pyarrow.array(part.paths, pyarrow.string()),
            } | {f"logit_{k}": part.logits[:, k] for k in range(members)}
            if combiner is None:
                columns["logit"] = mean_logits(part.logits)
            else:
                columns["logit"], columns["fold"] = combiner(part.ids, part.logits)
            write(columns)
            rejected += part.rejected
            written += len(part.ids)
    return Scored(out, written, rejected, metadata, was_complete=False)


def _fit(parts: Iterator[Part], truth: Truth) -> Combiner:
    labelled = []
    for part in parts:
        has_label = np.array([identity in truth.labels for identity in part.ids], bool)
        labelled.append(part.at(has_label))
    ids = np.concatenate([part.ids for part in labelled])
    labels = np.array([truth.labels[identity] for identity in ids], int)
    logits = np.concatenate([part.logits for part in labelled])
    return Combiner(ids, logits, labels, f"the cutouts have in {truth.name}")
