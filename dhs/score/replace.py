"""Whether a run may replace the table of scores that is there already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyarrow import parquet

from dhs.model.engines import inference_of
from dhs.score.input import Input
from dhs.score.work import read_metadata
from fastnorm.text import printable


def require_replaceable(
    out: Path,
    copy: Path | None,
    metadata: Mapping[str, Any],
    cutouts: Input,
    *,
    overwrite: bool,
) -> None:
    """Refuse to replace a file that is not a table of scores, or the scores of another run.

    The same checkpoints on the same pack, manifest or files are no other run: files may be mended
    or added, and rows may change. A listed file that this run does not score would be lost.

    Parameters
    ----------
    out : Path
        Table to write.
    copy : Path or None
        Copy of the table in another format.
    metadata : mapping
        Metadata of the new table; see `dhs.score.table.ScoreTable`.
    cutouts : Input
        Cutouts of this run.
    overwrite : bool
        Allow to replace the scores of another run.

    Raises
    ------
    ValueError
        The message says what differs, in words.
    """
    if not out.exists():
        if copy is not None and copy.exists():
            raise ValueError(
                f"{copy} exists, but not the table {out.name} that dhs score writes beside it, so "
                "it may be another file; give another name, or delete it."
            )
        return
    there = read_metadata(out)
    if there is None:
        raise ValueError(
            f"{out} exists and is not a table of scores; give another name, or delete it."
        )
    differ = [] if overwrite else list(_differences(out, there, metadata, cutouts))
    if differ:
        raise ValueError(
            f"{out} has the scores of another run: {'; '.join(differ)}. Give another name, or "
            "overwrite=True to replace it."
        )


def _differences(
    out: Path, there: Mapping[str, Any], here: Mapping[str, Any], cutouts: Input
) -> Iterator[str]:
    names, weights = (
        [[str(member.get(key)) for member in record["members"]] for record in (there, here)]
        for key in ("checkpoint", "checkpoint_fingerprint")
    )
    if weights[0] != weights[1]:
        if names[0] == names[1]:
            pairs = zip(names[0], *weights, strict=True)
            changed = dict.fromkeys(name for name, before, now in pairs if before != now)
            yield f"the weights of {', '.join(changed)} changed since"
        else:
            yield (
                f"it was scored with {', '.join(names[0])}, and this run uses {', '.join(names[1])}"
            )
    elif there.get("combination") != here["combination"]:
        yield (
            f"its members are combined by {there.get('combination')}, and those of this run by "
            f"{here['combination']}"
        )
    if "inference" in here:
        was, now = inference_of("auto", there), inference_of("auto", here)
        if was != now:
            yield f"its networks were computed as {was}, and those of this run as {now}"
    # Older tables do not state their input.
    if "input" in there:
        yield from _other_input(out, there["input"], here["input"], cutouts)


def _other_input(
    out: Path, there: Mapping[str, Any] | None, here: Mapping[str, Any] | None, cutouts: Input
) -> Iterator[str]:
    if there is None and here is None:
        yield from _lost_files(out, cutouts)
        return
    was, now = ("files" if side is None else str(side["path"]) for side in (there, here))
    if None in (there, here) or os.path.realpath(was) != os.path.realpath(now):
        yield f"it is of {was}, and this run is of {now}"


def _lost_files(out: Path, cutouts: Input) -> Iterator[str]:
    """Find the files in a table that this run does not score."""
    listed = parquet.read_table(out, columns=["path"])["path"].unique().to_pylist()
    given = {printable(path) for path in cutouts.files()}
    lost = [path for path in listed if path not in given]
    if lost:
        real = {os.path.realpath(path) for path in given}
        lost = [path for path in lost if os.path.realpath(path) not in real]
    if lost:
        many = f"{len(lost):,} of its {len(listed):,} files are"
        yield f"{many} not among those of this run, the first {lost[0]}"
