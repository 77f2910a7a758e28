"""The shards of a pack, each written from a fixed range of rows of the source manifest.

A rejected cutout makes its shard shorter. The result for every row is kept in ``parts/`` until
the manifest is written.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.lib import format as npy
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.pack.cutouts import Layout, MaskedCutout, check_layout, read_cutout
from dhs.pack.format import (
    MOST_SHARDS,
    mask_name,
    mask_sha256,
    open_stack,
    part_path,
    pixel_sha256,
    shard_name,
)
from dhs.pack.source import Source
from fastnorm.annulus import MINIMUM_PIXELS, Annulus
from fastnorm.atomic import atomic_path
from fastnorm.io import CutoutError, Rejected
from fastnorm.io.maskbits import MaskBits
from fastnorm.io.write import StackWriter
from fastnorm.normalize.flat import EFFECT, is_flat, named_bands

BYTES_PER_VALUE = 4

PART_SCHEMA = pyarrow.schema(
    {
        "sha256": pyarrow.string(),
        "mask_sha256": pyarrow.string(),
        "ra": pyarrow.float64(),
        "dec": pyarrow.float64(),
        "flat_bands": pyarrow.int8(),
        "reason": pyarrow.string(),
    }
)
"""Columns of a part, with one row per row of the manifest: checksums, position and the number of
flat bands, or a reason."""


class MaskWriter(StackWriter):
    """A `fastnorm.io.write.StackWriter` for masks, (N, 3, H, W) bool."""

    def write(self, cutouts: NDArray[Any]) -> None:
        """Append masks, (n, 3, H, W) bool."""
        if cutouts.dtype != bool or cutouts.shape[1:] != self.cutout_shape:
            raise ValueError(
                f"masks have shape {cutouts.shape} and dtype {cutouts.dtype}; expected "
                f"(n, {', '.join(map(str, self.cutout_shape))}) and bool."
            )
        self._stream.write(np.ascontiguousarray(cutouts).data)
        self.count += len(cutouts)

    def _write_header(self) -> None:
        shape = (self.count, *self.cutout_shape)
        npy.write_array_header_1_0(
            self._stream, {"descr": "|b1", "fortran_order": False, "shape": shape}
        )


@dataclass(frozen=True)
class ShardJob:
    """One shard to write.

    Attributes
    ----------
    out : Path
        Folder of the pack.
    name : str
        File name of the shard.
    folder : Path
        Base folder of relative paths.
    cutouts : list of str
        Files of the cutouts.
    masks : list of str or None
        Files of the masks, if the manifest lists any.
    layout : Layout
        Layout of the pack.
    wants_positions : bool
        Whether to take positions from the files, because the manifest has none.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel bad.
    allow_flat : bool
        Whether to accept cutouts with flat bands; see `fastnorm.normalize.flat`.
    """

    out: Path
    name: str
    folder: Path
    cutouts: list[str]
    masks: list[str] | None
    layout: Layout
    wants_positions: bool
    mask_bits: MaskBits
    allow_flat: bool

    @property
    def part(self) -> Path:
        """File with the results for the rows."""
        return part_path(self.out, self.name)

    @property
    def annulus(self) -> Annulus | None:
        """Annulus that flat bands are looked for in; None if the cutouts are too small for one."""
        if min(self.layout.plane) < 2:  # its radii would be 0
            return None
        annulus = Annulus.default(*self.layout.plane)
        return annulus if annulus.pixel_count(*self.layout.plane) >= MINIMUM_PIXELS else None

    def flat_bands(self, found: MaskedCutout) -> int | None:
        """Count the flat bands of a cutout; None if it is too small for an annulus."""
        if self.annulus is None:
            return None
        return int(is_flat(found.pixels, self.annulus, found.mask).sum())

    def _refuse_flat(self, found: MaskedCutout, path: Path) -> None:
        if self.allow_flat or not self.flat_bands(found) or self.annulus is None:
            return
        bands = named_bands(is_flat(found.pixels, self.annulus, found.mask))
        reason = (
            f"is flat in {bands}: the MAD of the annulus {self.annulus} is 0, because {EFFECT}. "
            "Leave it out, or allow it (--allow-flat)."
        )
        raise CutoutError(path, reason)

    def read(self, place: int) -> MaskedCutout | str:
        """Read the cutout at a place in the job, or return the reason for its rejection."""
        name = self.cutouts[place]
        path = self.folder / name
        try:
            mask = self.masks[place] if self.masks else None
            found = read_cutout(self.folder, name, mask, self.mask_bits)
            check_layout(found, self.layout, path)
            if self.wants_positions:
                _check_position(found, path)
            self._refuse_flat(found, path)
        except CutoutError as error:
            return error.reason
        return found


def _check_position(found: MaskedCutout, path: Path) -> None:
    ra, dec = found.ra, found.dec
    if ra is not None and dec is not None and not (0 <= ra <= 360 and -90 <= dec <= 90):
        reason = (
            f"has the invalid position ra={ra:g}, dec={dec:g} degrees; fix it, or add columns ra "
            "and dec to the manifest."
        )
        raise CutoutError(path, reason)


def find_layout(source: Source, mask_bits: MaskBits) -> Layout | list[Rejected]:
    """Return the layout of the first good cutout, or all rejected files if no cutout is good."""
    rejected = []
    folder = source.folder
    for place, name in enumerate(source.cutouts):
        try:
            mask = source.masks[place] if source.masks else None
            found = read_cutout(folder, name, mask, mask_bits)
        except CutoutError as error:
            rejected.append(Rejected(folder / name, error.reason))
        else:
            _, rows, columns = found.pixels.shape
            return Layout((rows, columns), found.mask is not None, name)
    return rejected


def shard_jobs(
    out: Path,
    source: Source,
    layout: Layout,
    shard_bytes: int,
    mask_bits: MaskBits,
    *,
    allow_flat: bool,
) -> list[ShardJob]:
    """Divide a manifest into shards of a limited size, each with at least one row.

    Parameters
    ----------
    out : Path
        Folder of the pack.
    source : Source
        Manifest of the cutouts.
    layout : Layout
        Layout of the pack.
    shard_bytes : int
        Largest size of the pixels of a shard, bytes.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel bad.
    allow_flat : bool
        Whether to accept cutouts with flat bands.

    Returns
    -------
    list of ShardJob

    Raises
    ------
    ValueError
        There are more shards than five digits can number.
    """
    rows, columns = layout.plane
    size = max(1, shard_bytes // (3 * rows * columns * BYTES_PER_VALUE))
    starts = range(0, len(source), size)
    if len(starts) > MOST_SHARDS:
        raise ValueError(
            f"shard_bytes={shard_bytes} gives {len(starts):,} shards; at most {MOST_SHARDS:,} are "
            "allowed."
        )
    return [
        ShardJob(
            out,
            shard_name(number),
            source.folder,
            source.cutouts[start : start + size],
            source.masks[start : start + size] if source.masks else None,
            layout,
            source.ra is None,
            mask_bits,
            allow_flat,
        )
        for number, start in enumerate(starts)
    ]


def make_shard(job: ShardJob, advance: Callable[[int], None]) -> None:
    """Write a shard and its masks, then its part, which marks the shard as finished.

    Parameters
    ----------
    job : ShardJob
        The shard to write.
    advance : function
        Called with the number of rows done since the last call.
    """
    # An old part may describe files that were fixed since.
    job.part.unlink(missing_ok=True)
    rows: list[dict[str, Any]] = []
    with ExitStack() as files:
        pixels = files.enter_context(StackWriter(job.out / job.name, job.layout.plane))
        masks = None
        if job.layout.has_masks:
            masks = files.enter_context(MaskWriter(job.out / mask_name(job.name), job.layout.plane))
        for place in range(len(job.cutouts)):
            found = job.read(place)
            if isinstance(found, str):
                rows.append({"reason": found})
            else:
                row = {"sha256": pixel_sha256(found.pixels), "ra": found.ra, "dec": found.dec}
                row["flat_bands"] = job.flat_bands(found)
                pixels.write(found.pixels[None])
                if masks is not None and found.mask is not None:
                    row["mask_sha256"] = mask_sha256(found.mask)
                    masks.write(found.mask[None])
                rows.append(row)
            advance(1)
    with atomic_path(job.part) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, PART_SCHEMA), temporary)


def is_made(job: ShardJob) -> bool:
    """Tell whether a shard is finished and would be the same if written again.

    This is false if a rejected file was fixed or is now rejected for another reason, or it has
    flat bands that this run does not allow.
    """
    if not job.part.exists():
        return False
    rows = parquet.read_table(job.part, schema=PART_SCHEMA)
    reasons = rows["reason"].to_pylist()
    if not job.allow_flat and any(rows["flat_bands"].to_pylist()):
        return False
    shape = (reasons.count(None), 3, *job.layout.plane)
    files = [(job.name, "<f4")]
    if job.layout.has_masks:
        files.append((mask_name(job.name), "?"))
    try:
        stacks = [open_stack(job.out / name, dtype) for name, dtype in files]
    except (OSError, ValueError):
        return False
    return (
        len(reasons) == len(job.cutouts)
        and all(stack.shape == shape for stack in stacks)
        and all(
            job.read(place) == reason for place, reason in enumerate(reasons) if reason is not None
        )
    )
