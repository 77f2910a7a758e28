"""Input to score: a pack, a manifest of files, or files, read in order from any position."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dhs.data.rows import Files, PackRows
from dhs.manifest.columns import CUTOUT_PATH, Manifest, splits_fingerprint, with_ids
from dhs.manifest.origin import agreed_origin
from dhs.pack import MANIFEST, open_pack, read_manifest
from dhs.pack.cutouts import require_pixel_scale
from dhs.score.known import Known, known_of
from fastnorm.io import CutoutError, Rejected, count_cutouts, find_cutouts, read_cutouts
from fastnorm.io.maskbits import MaskBits
from fastnorm.paths import local_path
from fastnorm.text import printable

TABLES = (".parquet", ".csv")


class InputCutout(NamedTuple):
    """A cutout: ``pixels`` (3, H, W) float32 in nanomaggies; ``mask`` (3, H, W) bool or None."""

    id: str
    path: str
    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    known: Known = Known()


class Input(Protocol):
    """Cutouts in a fixed order.

    Attributes
    ----------
    data_origin : str or None
        None if it is not stated.
    rejected : list of Rejected
        Paths rejected on opening, before any cutout is read.
    has_unique_ids : bool
        No two cutouts have the same id.
    source : dict or None
        For the metadata of a table: the ``path`` of a pack or manifest, and the
        ``splits_fingerprint`` of its column ``split``, None without one. None for files.
    notes : list of str
        Values of a manifest that are not a position or a label.
    origins : (N,) array of str, or None
        File that each cutout of a pack was packed from; None for other input, and for packs that
        do not name them.
    """

    data_origin: str | None
    rejected: list[Rejected]
    has_unique_ids: bool
    source: dict[str, str | None] | None
    notes: list[str]
    origins: NDArray[np.str_] | None

    def __len__(self) -> int:
        """Return the expected number of cutouts."""

    def files(self) -> list[Path]:
        """Return the files of the cutouts, if no pack or manifest is given; otherwise none."""

    def identities(self, start: int, stop: int) -> Iterator[str]:
        """Return strings that determine the result of `read`, without reading the pixels."""

    def read(self, start: int, stop: int) -> Iterator[InputCutout | Rejected]:
        """Read cutouts number ``start`` to ``stop``; yield the reason for each rejected one."""


def open_input(
    data: Sequence[str | Path],
    size: int,
    mask_bits: MaskBits = MaskBits(),  # noqa: B008
    data_origin: str | None = None,
) -> Input:
    """Open the cutouts to score.

    Parameters
    ----------
    data : sequence of paths
        One pack (its folder, or the manifest in it); one manifest, ``.parquet`` or ``.csv``, with
        a column ``cutout_path``; or paths for `fastnorm.io.find_cutouts`. A manifest may have
        columns ``galaxy_id`` (by default the file name without suffix is the id),
        ``mask_path``, ``ra``, ``dec`` and ``label``.
    size : int
        Side of the cutouts that the checkpoint takes, in pixels.
    mask_bits : MaskBits
        MASKBITS that marked bad pixels in the training of the checkpoint.
    data_origin : str, optional
        Survey and release of the cutouts, for input that does not state them.

    Returns
    -------
    Input

    Raises
    ------
    ValueError
        A pack or manifest is given with other paths, is damaged, or lacks a column; an id is
        missing or occurs twice; a path leads out of the manifest's folder; the cutouts of a
        pack have a different size, or its masks different MASKBITS; or the data origin is empty,
        or contradicts the input.
    OSError
        A table cannot be read.
    """
    paths = [local_path(path) for path in data]
    found = _opened(paths, size, mask_bits)
    name = "the input" if found.source is None else str(found.source["path"])
    found.data_origin = agreed_origin(data_origin, found.data_origin, name)
    return found


def _opened(paths: list[Path], size: int, mask_bits: MaskBits) -> Input:
    tables = [path for path in paths if path.suffix in TABLES or (path / MANIFEST).exists()]
    if not tables:
        return _Files(paths, size, mask_bits)
    if len(paths) > 1:
        raise ValueError(
            f"{tables[0]} is a pack or a manifest, but {len(paths)} paths are given; score each "
            "pack or manifest separately."
        )
    if tables[0].suffix not in TABLES:
        return _Packed(tables[0], size, mask_bits)
    table, metadata = read_manifest(tables[0])
    if tables[0].name == MANIFEST and "shard" in table:
        return _Packed(tables[0].parent, size, mask_bits)
    return _Listed(tables[0], table, metadata.get("data_origin"), size, mask_bits)


def require_same_mask_bits(ours: MaskBits, theirs: str | None, name: str | Path) -> None:
    """Refuse masks that were built from different MASKBITS than those of a model.

    Parameters
    ----------
    ours : MaskBits
        Bits of the model.
    theirs : str, optional
        Bits in the metadata of a pack; None means the default bits.
    name : path
        Path of the pack.

    Raises
    ------
    ValueError
        The bits differ.
    """
    if MaskBits.parse(theirs or str(MaskBits())) != ours:
        raise ValueError(
            f"{name} has masks from the MASKBITS {theirs or MaskBits()}, but the checkpoint was "
            f"trained with {ours}; pack the cutouts again, with --mask-bits '{ours}'."
        )


class _Packed:
    def __init__(self, folder: Path, size: int, mask_bits: MaskBits) -> None:
        self._pack = open_pack(folder)
        if self._pack.masks is not None:
            require_same_mask_bits(mask_bits, self._pack.metadata.get("mask_bits"), folder)
        side = self._pack.cutout_shape[-2:]
        if side != (size, size):
            raise ValueError(
                f"{folder} has cutouts of {side[0]} x {side[1]} pixels; the checkpoint expects "
                f"{size} x {size}."
            )
        self._name = printable(folder)
        self._ids = Manifest(self._pack.table, self._name).ids()
        self._rows = PackRows(self._pack)
        self.source: dict[str, str | None] | None = _source(self._pack.table, self._ids, folder)
        self.data_origin: str | None = self._pack.data_origin
        self.rejected: list[Rejected] = []
        self.notes: list[str] = []
        self._known = known_of(self._pack.table, self._name, self.notes)
        self.origins: NDArray[np.str_] | None = None
        if CUTOUT_PATH in self._pack.table:
            listed = self._pack.table[CUTOUT_PATH].fillna("")
            self.origins = np.array([printable(str(name)) for name in listed], str)
        self._known[:, 0] = np.arange(len(self._known))
        self.has_unique_ids = True

    def __len__(self) -> int:
        return len(self._pack)

    def files(self) -> list[Path]:
        return []

    def identities(self, start: int, stop: int) -> Iterator[str]:
        names = ("sha256", "mask_sha256")[: 1 + self._rows.has_masks]
        columns = [self._pack.table[name] for name in names]
        known = self._known[start:stop].tolist()
        for values, *row in zip(
            known, self._ids[start:stop], *(c[start:stop] for c in columns), strict=True
        ):
            yield "\t".join((self._name, *row, *map(str, values)))

    def read(self, start: int, stop: int) -> Iterator[InputCutout | Rejected]:
        for number in range(start, stop):
            known = Known(*self._known[number].tolist())
            identity, pixels = str(self._ids[number]), self._rows.cutout(number)
            yield InputCutout(identity, self._name, *pixels, known)


class _Listed:
    def __init__(
        self,
        path: Path,
        table: pd.DataFrame,
        origin: str | None,
        size: int,
        mask_bits: MaskBits,
    ) -> None:
        manifest = Manifest(with_ids(table, str(path)), str(path))
        self._files = Files(manifest, path.parent, CUTOUT_PATH, "the files", mask_bits)
        self._ids, self._size = manifest.ids(), size
        self.source: dict[str, str | None] | None = _source(table, self._ids, path)
        self.data_origin = origin
        self.rejected: list[Rejected] = []
        self.notes: list[str] = []
        self.origins: NDArray[np.str_] | None = None
        self._known = known_of(table, printable(path), self.notes)
        self.has_unique_ids = True

    def __len__(self) -> int:
        return len(self._ids)

    def files(self) -> list[Path]:
        return []

    def identities(self, start: int, stop: int) -> Iterator[str]:
        for number in range(start, stop):
            names = [self._files.paths[number], self._files.masks[number]]
            states = [_state(self._files.folder / name) for name in names if name is not None]
            known = map(str, self._known[number].tolist())
            yield "\t".join((str(self._ids[number]), *states, *known))

    def read(self, start: int, stop: int) -> Iterator[InputCutout | Rejected]:
        for number in range(start, stop):
            try:
                pixels, mask, *position = self._files.cutout(number)
            except CutoutError as error:
                yield Rejected(error.path, error.reason)
                continue
            identity, path = str(self._ids[number]), self._files.path(number)
            known = Known(*self._known[number].tolist()).at(*position)
            yield _fitting(InputCutout(identity, printable(path), pixels, mask, known), self._size)


class _Files:
    def __init__(self, paths: list[Path], size: int, mask_bits: MaskBits) -> None:
        self._size, self._mask_bits = size, mask_bits
        self.data_origin: str | None = None
        self.source: dict[str, str | None] | None = None
        self.rejected: list[Rejected] = []
        self.notes: list[str] = []
        self.origins: NDArray[np.str_] | None = None
        self.has_unique_ids = False
        self._paths = find_cutouts(paths, self.rejected)
        # A file without cutouts counts as one, so that it is reported.
        counts = (max(1, count_cutouts(path)) for path in self._paths)
        self._ends = list(accumulate(counts))
        self._open: tuple[int, int, Iterator[InputCutout | Rejected]] | None = None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def files(self) -> list[Path]:
        return self._paths

    def identities(self, start: int, stop: int) -> Iterator[str]:
        for k, first, last in self._slices(start, stop):
            yield f"{_state(self._paths[k])}\t{first}\t{last}"

    def read(self, start: int, stop: int) -> Iterator[InputCutout | Rejected]:
        for k, first, last in self._slices(start, stop):
            events = self._events(k, first)
            # Read the last slice to the end of the file, in case there are more rejections.
            yield from islice(events, None if last is None else last - first)
            self._open = None if last is None else (k, last, events)

    def _slices(self, start: int, stop: int) -> Iterator[tuple[int, int, int | None]]:
        """Yield file numbers and ranges of their cutouts; a stop of None is the end of the file."""
        while start < stop:
            k = bisect_right(self._ends, start)
            begin = self._ends[k - 1] if k else 0
            upto = min(stop, self._ends[k])
            yield k, start - begin, None if upto == self._ends[k] else upto - begin
            start = upto

    def _events(self, k: int, first: int) -> Iterator[InputCutout | Rejected]:
        """Read a file from a position on; reuse the open iterator if it is at this position."""
        opened, self._open = self._open, None
        if opened is not None and opened[:2] == (k, first):
            return opened[2]
        events = self._all_events(self._paths[k])
        next(islice(events, first, first), None)
        return events

    def _all_events(self, path: Path) -> Iterator[InputCutout | Rejected]:
        rejected: list[Rejected] = []
        for cutout in read_cutouts(path, rejected, mask_bits=self._mask_bits):
            yield from rejected
            rejected.clear()
            try:
                require_pixel_scale(cutout)
            except CutoutError as error:
                yield Rejected(error.path, error.reason)
            else:
                row = math.nan if cutout.row is None else cutout.row
                known = Known(row).at(cutout.ra, cutout.dec)
                found = InputCutout(cutout.id, printable(path), cutout.pixels, cutout.mask, known)
                yield _fitting(found, self._size)
        yield from rejected


def _source(table: pd.DataFrame, ids: NDArray[np.str_], path: Path) -> dict[str, str | None]:
    splits = None
    if "split" in table:
        splits = splits_fingerprint(ids, np.asarray(table["split"].fillna(""), str))
    return {"path": printable(path), "splits_fingerprint": splits}


def _state(path: Path) -> str:
    """Return path, size and modification time of a file, which change with its content."""
    try:
        found = path.stat()
    except OSError:
        return f"{printable(path)}\tabsent"
    return f"{printable(path)}\t{found.st_size}\t{found.st_mtime_ns}"


def _fitting(found: InputCutout, size: int) -> InputCutout | Rejected:
    height, width = found.pixels.shape[-2:]
    if (height, width) == (size, size):
        return found._replace(id=printable(found.id))
    reason = f"{found.id} has {height} x {width} pixels; the checkpoint expects {size} x {size}."
    return Rejected(Path(found.path), reason)
