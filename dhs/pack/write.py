"""``dhs pack``: cutouts of one file each, put into a few big ones that are read fast.

`write_pack` makes a pack, `verify_pack` checks every byte of one, and `open_pack` opens it for
reading. What its files hold is told in `dhs.pack.format`.
"""

from __future__ import annotations

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
from dhs.manifest.splits import NSIDE, SPLITS
from dhs.pack.finish import gather, read_rejected, record_rejected, write_manifest
from dhs.pack.format import FLUX_UNIT
from dhs.pack.shards import find_layout, is_made, make_shard, shard_jobs
from dhs.pack.source import Source, read_source
from dhs.pack.view import open_pack
from fastnorm.io import Rejected
from fastnorm.io.maskbits import MaskBits

SHARD_BYTES = 2 * 2**30


class PackResult(NamedTuple):
    """What `write_pack` gives.

    ``out``: the folder. ``is_finished``: it is a pack; otherwise too many files were rejected.
    ``cutouts``: how many are packed, by ``splits`` (empty unless finished), in ``shards``.
    ``rejected``: files that gave no cutout. ``read``: how many rows this call went through.
    ``was_complete``: there was nothing to do.
    """

    out: Path
    is_finished: bool
    cutouts: int
    splits: dict[str, int]
    shards: list[str]
    rejected: list[Rejected]
    read: int
    was_complete: bool


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
    mask_bits: MaskBits = MaskBits(),  # noqa: B008
    progress: Callable[[int, int], None] | None = None,
) -> PackResult:
    """Pack the cutouts of a manifest, or go on with a pack that was interrupted.

    The files are the same whatever the number of workers, and however often the work was
    interrupted. A pack that is complete already is left as it is.

    Parameters
    ----------
    manifest : str or Path
        ``.parquet`` or ``.csv``. Columns: ``cutout_path``, files that `fastnorm.io.read_cutouts`
        reads, of one cutout each, relative ones from the manifest's folder; ``label``, 0 or 1;
        optional ``galaxy_id`` (else the name of the file without its suffix), ``split`` (``train``,
        ``val``, ``test``), ``sample_weight``, ``ra`` and ``dec`` in degrees, ``mask_path``. All
        other columns are kept. A mask is bool, True is bad: an array ``mask`` of (rows, columns)
        or (rows, columns, bands) in an ``.npz``, that of the cutout or one of its own, or a
        ``.npy`` of (rows, columns) or (bands, rows, columns); INVVAR and MASKBITS of a FITS file
        make one, too. With several, a pixel is bad where any says so.
    out : str or Path
        A folder; made if need be. It has to be empty, or to hold an unfinished pack of the same
        manifest and settings.
    data_origin : str, optional
        Where the cutouts are from, as survey and release. Needed unless the manifest says it, in
        the key ``dhs`` of its Parquet metadata.
    train_fraction : float
        In (0, 1). Where there is no ``split``, this share of the HEALPix pixels (nside 128) goes
        into ``train``, and the rest into ``val``. Positions are those of the manifest or, if it
        has none, of the files; a cutout without one goes by its id. See `dhs.manifest.splits`.
    seed : int
        Of that draw.
    workers : int
        Processes; 1 stays in this one. Others are started afresh, so that a script needs
        ``if __name__ == "__main__":``.
    shard_bytes : int
        Size of the pixels of one shard, at most; but one cutout at least.
    allow_rejects : int
        Finish the pack if no more files than this are rejected; they are listed in
        ``rejected.parquet``.
    mask_bits : MaskBits
        Which of MASKBITS make a pixel of a FITS file bad. The pack keeps it, and so do the models
        that are trained on it.
    progress : function, optional
        Called with how many rows are done and how many there are.

    Returns
    -------
    PackResult
        Look at ``is_finished``: with too many files rejected, or all, there is no pack yet.
        Mend them, or allow for them, and call again.

    Raises
    ------
    TypeError, ValueError
        A number is out of its range; the manifest has faults (all are named), or splits that
        leak; nobody says where the cutouts are from; the folder holds something else, or a pack of
        other settings, or a complete one that was damaged.
    OSError
        The manifest cannot be read, the folder cannot be written, or another process writes it.
    """
    if not 0 < train_fraction < 1:
        raise ValueError(f"train_fraction={train_fraction!r} is not between 0 and 1.")
    integer("seed", seed, 0, 2**63 - 1)
    integer("workers", workers, 1, 1024)
    integer("shard_bytes", shard_bytes, 1, 2**63 - 1)
    integer("allow_rejects", allow_rejects, 0, 2**63 - 1)
    source, out = read_source(manifest, data_origin), Path(out)
    settings = _settings(source, train_fraction, seed, shard_bytes, mask_bits)
    claim = partial(claim_folder, out, settings, "pack")
    with output_folder(
        out, "a pack", "shard-*.npy", "mask-*.npy", REJECTED, *TEMPORARY, claim=claim
    ) as is_complete:
        if is_complete:
            remove_parts(out)
            return _finished(out, read_rejected(out, source), 0, was_complete=True)
        layout = find_layout(source, mask_bits)
        if isinstance(layout, list):
            record_rejected(out, source, [item.reason for item in layout])
            return PackResult(out, False, 0, {}, [], layout, len(source), False)
        jobs = shard_jobs(out, source, layout, shard_bytes, mask_bits)
        missing = [job for job in jobs if not is_made(job)]
        left, n = sum(len(job.cutouts) for job in missing), len(source)
        report = progress or (lambda done, total: None)
        run_jobs(make_shard, missing, workers, out, lambda done: report(n - left + done, n))
        rows = gather(jobs)
        rejected = record_rejected(out, source, rows["reason"].to_pylist())
        if len(rejected) > allow_rejects or len(rejected) == n:
            names = [job.name for job in jobs]
            return PackResult(out, False, n - len(rejected), {}, names, rejected, left, False)
        write_manifest(out, source, rows, jobs, settings, (train_fraction, seed))
        remove_parts(out)
        return _finished(out, rejected, left, was_complete=False)


def _settings(
    source: Source, train_fraction: float, seed: int, shard_bytes: int, mask_bits: MaskBits
) -> dict[str, Any]:
    """What the bytes of a pack depend on, besides its cutouts; part of its metadata."""
    drawn = {
        "method": "healpix",
        "nside": NSIDE,
        "order": "nested",
        "train_fraction": float(train_fraction),
        "seed": int(seed),
    }
    return {
        "data_origin": source.data_origin,
        "source_manifest_sha256": source.sha256,
        "split": drawn if source.split is None else "given",
        "shard_bytes": int(shard_bytes),
        "package_version": fastnorm.__version__,
        "bands": list(BANDS),
        "flux_unit": FLUX_UNIT,
        "pixel_scale": PIXEL_SCALE,
        # Packs that say nothing have the usual ones.
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
    return PackResult(out, True, len(pack), splits, pack.shard_names, rejected, read, was_complete)
