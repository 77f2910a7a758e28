"""``dhs pack``: packing of many small cutout files into a few large files that are fast to read.

`write_pack` writes a pack, `verify_pack` verifies every byte of one, and `open_pack` opens one for
reading. `dhs.pack.format` describes the files.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import fastnorm
from dhs.arguments import integer
from dhs.constants import BANDS, PIXEL_SCALE
from dhs.jobs.claim import output_folder
from dhs.jobs.processes import run_jobs
from dhs.manifest.claim import claim_folder, remove_parts
from dhs.manifest.format import REJECTED, TEMPORARY
from dhs.manifest.naming import Naming
from dhs.manifest.splits import NSIDE, SPLITS
from dhs.pack.finish import gather, read_rejected, record_rejected, write_manifest
from dhs.pack.format import FLUX_UNIT
from dhs.pack.replace import SOURCE, replace_pack
from dhs.pack.shards import find_layout, is_made, make_shard, shard_jobs
from dhs.pack.source import Source, read_source, refuse_inside
from dhs.pack.view import open_pack
from fastnorm.io import Rejected
from fastnorm.io.maskbits import MaskBits
from fastnorm.kinds import flag
from fastnorm.paths import local_path

SHARD_BYTES = 2 * 2**30
OR_OVERWRITE = "use another folder, or give overwrite=True to replace this one"


class PackResult(NamedTuple):
    """Result of `write_pack`.

    ``out``: the folder. ``is_finished``: whether it is a pack; otherwise too many files were
    rejected. ``cutouts``: number of packed cutouts. ``splits``: their number per split, empty
    unless finished. ``shards``: names of the shards. ``rejected``: files without a usable cutout.
    ``read``: number of rows that this call processed. ``was_complete``: whether there was nothing
    to do. ``flat_bands``: number of flat bands of the packed cutouts that have any, by id.
    ``has_labels``: whether the cutouts have labels, as only those of a folder may lack.
    """

    out: Path
    is_finished: bool
    cutouts: int
    splits: dict[str, int]
    shards: list[str]
    rejected: list[Rejected]
    read: int
    was_complete: bool
    flat_bands: dict[str, int]
    has_labels: bool = True


def write_pack(
    manifest: str | Path,
    out: str | Path,
    *,
    data_origin: str | None = None,
    train_fraction: float = 0.7,
    seed: int = 42,
    workers: int = 1,
    shard_bytes: int = SHARD_BYTES,
    allow_rejects: int = 0,
    allow_flat: bool = False,
    mask_bits: MaskBits = MaskBits(),  # noqa: B008
    label_col: str | None = None,
    id_col: str | None = None,
    path_pattern: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> PackResult:
    """Pack the cutouts of a manifest or folder, or resume an interrupted pack.

    The files do not depend on the number of workers or on interruptions. A complete pack is only
    changed with ``overwrite``.

    Parameters
    ----------
    manifest : str or Path
        A ``.parquet`` or ``.csv`` file with these columns: ``cutout_path``, files with one cutout
        each that `fastnorm.io.read_cutouts` can read, relative to the manifest's folder;
        ``label``, 0 or 1; and optionally ``galaxy_id`` (by default the file name without its
        suffix), ``split`` (``train``, ``val`` or ``test``), ``sample_weight``, ``ra`` and ``dec``
        in degrees, and ``mask_path``. All other columns are kept. Masks are bool, where True is
        bad. A mask is an array ``mask`` with shape (rows, columns) or (rows, columns, bands) in
        the cutout's ``.npz`` or in a separate one, or a ``.npy`` with shape (rows, columns) or
        (bands, rows, columns). INVVAR and MASKBITS in a FITS file also give a mask. If there are
        several masks, a pixel is bad if any of them flags it. Or a folder: its
        ``manifest.parquet`` if it has one, as one from `dhs.fetch.fetch`, and otherwise a row for
        every file that `fastnorm.io.find_cutouts` finds, with the position in the file. Only a
        folder may lack labels; its pack can be scored, but not trained on.
    out : str or Path
        Folder of the pack, created if needed. Without ``overwrite``, it must be empty, or contain
        a pack of the same manifest and settings.
    data_origin : str, optional
        Survey and release of the cutouts. Required unless the manifest has it under the key
        ``dhs`` of its Parquet metadata.
    train_fraction : float
        Fraction of the HEALPix pixels (nside 128) that go into ``train``, in (0, 1); the others
        go into ``val``. Only used if there is no ``split``. Positions come from the manifest, or
        if it has none, from the files. A cutout without a position is assigned by its id. See
        `dhs.manifest.splits`.
    seed : int
        Random seed of the splits.
    workers : int
        Number of processes. 1 uses the current process. Others are spawned, so a script needs
        ``if __name__ == "__main__":``.
    shard_bytes : int
        Largest size of the pixels of a shard, bytes. A shard has at least one cutout.
    allow_rejects : int
        Largest number of rejected files with which the pack is still finished. They are listed
        in ``rejected.parquet``.
    allow_flat : bool
        Accept cutouts with flat bands, whose annulus has a MAD of 0; otherwise they are rejected.
        The column ``flat_bands`` counts them. The annulus is the corrected one of the cutouts'
        size.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel of a FITS file bad. The pack records them, and so do
        the models trained on it.
    label_col, id_col : str, optional
        Columns of the labels and ids; by default ``label`` and ``galaxy_id``. In a CSV, ids are
        read as text.
    path_pattern : str, optional
        Files of the cutouts for a table without ``cutout_path``, relative to its folder, with
        names of columns in braces, such as ``cutouts/{TARGETID}.fits``.
    overwrite : bool
        Replace a pack in ``out``, whatever its settings, by one made from scratch. The old pack is
        there until the new one is complete; see `dhs.pack.replace.replace_pack`.
    progress : function, optional
        Called with the number of finished rows and the number of all rows.
    warn : function
        Called with a message when a worker died, or the same pixels are several times in a split;
        by default it becomes a warning.

    Returns
    -------
    PackResult
        Check ``is_finished``: if too many files or all of them were rejected, there is no pack
        yet. Fix the files or allow the rejections, and call the function again.

    Raises
    ------
    TypeError, ValueError
        A number is out of its range; the manifest has faults (the message lists all) or leaking
        splits; the data origin is missing; the same pixels are in several splits or have both
        labels; or the folder contains something else, a pack with
        different settings, or a damaged complete pack.
    dhs.jobs.executors.WorkersDiedError
        Workers died three times with the same shard.
    OSError
        The manifest cannot be read, the folder cannot be written, or another process is writing
        it.
    """
    if not 0 < train_fraction < 1:
        raise ValueError(f"train_fraction={train_fraction!r} is not between 0 and 1.")
    integer("seed", seed, 0, 2**63 - 1)
    integer("workers", workers, 1, 1024)
    integer("shard_bytes", shard_bytes, 1, 2**63 - 1)
    integer("allow_rejects", allow_rejects, 0, 2**63 - 1)
    flag("allow_flat", allow_flat), flag("overwrite", overwrite)
    naming = Naming.of(label_col, id_col, path_pattern)
    source, out = read_source(manifest, data_origin, naming), local_path(out)
    refuse_inside(source, out)
    settings = _settings(source, train_fraction, seed, shard_bytes, mask_bits)
    # A pack without this entry has the names of a manifest.
    settings["columns"] = naming.settings()
    listed = "list of its files" if source.path.is_dir() else "table"
    words = {SOURCE: f"the {listed} changed since this pack was begun"}

    def make(folder: Path) -> PackResult:
        claim = partial(claim_folder, folder, settings, "pack", OR_OVERWRITE, words)
        with output_folder(
            folder, "a pack", "shard-*.npy", "mask-*.npy", REJECTED, *TEMPORARY, claim=claim
        ) as is_complete:
            if is_complete:
                remove_parts(folder)
                return _finished(folder, read_rejected(folder, source), 0, was_complete=True)
            layout = find_layout(source, mask_bits)
            if isinstance(layout, list):
                record_rejected(folder, source, [item.reason for item in layout])
                return PackResult(folder, False, 0, {}, [], layout, len(source), False, {})
            jobs = shard_jobs(folder, source, layout, shard_bytes, mask_bits, allow_flat=allow_flat)
            missing = [job for job in jobs if not is_made(job)]
            left, n = sum(len(job.cutouts) for job in missing), len(source)
            report = progress or (lambda done, total: None)
            run_jobs(
                make_shard,
                missing,
                workers,
                folder,
                lambda done: report(n - left + done, n),
                describe=lambda job: job.name,
                warn=warn,
            )
            rows = gather(jobs)
            rejected = record_rejected(folder, source, rows["reason"].to_pylist())
            kept = n - len(rejected)
            if len(rejected) > allow_rejects or not kept:
                names = [job.name for job in jobs]
                return PackResult(folder, False, kept, {}, names, rejected, left, False, {})
            write_manifest(folder, source, rows, jobs, settings, (train_fraction, seed), warn)
            remove_parts(folder)
            return _finished(folder, rejected, left, was_complete=False)

    if not overwrite:
        return make(out)
    made = replace_pack(out, settings, make, lambda result: result.is_finished)
    return made._replace(out=out, was_complete=False) if made.is_finished else made


def _settings(
    source: Source, train_fraction: float, seed: int, shard_bytes: int, mask_bits: MaskBits
) -> dict[str, Any]:
    """Return the settings that determine a pack, besides its cutouts, for its metadata."""
    drawn = {
        "method": "healpix",
        "nside": NSIDE,
        "order": "nested",
        "train_fraction": float(train_fraction),
        "seed": int(seed),
    }
    return {
        "data_origin": source.data_origin,
        SOURCE: source.sha256,
        "split": drawn if source.split is None else "given",
        "shard_bytes": int(shard_bytes),
        "package_version": fastnorm.__version__,
        "bands": list(BANDS),
        "flux_unit": FLUX_UNIT,
        "pixel_scale": PIXEL_SCALE,
        # A pack without this entry has the default bits.
        "mask_bits": None if mask_bits == MaskBits() else str(mask_bits),
    }


def _finished(out: Path, rejected: list[Rejected], read: int, *, was_complete: bool) -> PackResult:
    try:
        pack = open_pack(out)
    except (OSError, ValueError) as error:
        if not was_complete:
            raise
        raise ValueError(
            f"{out} was complete, but is damaged: {error} Delete the folder and pack the cutouts "
            "again."
        ) from error
    counts = pack.table["split"].value_counts()
    splits = {name: int(counts[name]) for name in SPLITS if name in counts}
    return PackResult(
        out,
        True,
        len(pack),
        splits,
        pack.shard_names,
        rejected,
        read,
        was_complete,
        pack.flat_bands(),
        "label" in pack.table,
    )
