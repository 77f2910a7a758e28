"""Writers of results, whose files appear complete or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fastnorm.atomic import atomic_path
from fastnorm.io.cutout import BANDS, INSTALL_EXTRA
from fastnorm.paths import local_path


class StackWriter:
    """A writer of a float32 ``.npy`` stack (N, 3, H, W) whose N is unknown until the end.

    It is a context manager. The file appears when the block ends without an error.

    Parameters
    ----------
    path : str or Path
        File to write.
    plane_shape : (int, int)
        Height and width in pixels.
    """

    def __init__(self, path: str | Path, plane_shape: tuple[int, int]) -> None:
        self.path = local_path(path)
        self.cutout_shape = (len(BANDS), *plane_shape)
        self.count = 0
        self._exits = ExitStack()
        self._header_bytes = 0
        self._stream: BinaryIO

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            temporary = exits.enter_context(atomic_path(self.path))
            self._stream = exits.enter_context(temporary.open("wb"))
            self._write_header()
            self._header_bytes = self._stream.tell()
            exits.push(self._finish_unless_failed)
            self._exits = exits.pop_all()
        return self

    def write(self, cutouts: NDArray[np.float32]) -> None:
        """Append cutouts, shape (n, 3, H, W), float32.

        Raises
        ------
        ValueError
            ``cutouts`` has another shape or dtype.
        """
        if cutouts.dtype != np.float32 or cutouts.shape[1:] != self.cutout_shape:
            raise ValueError(
                f"cutouts has shape {cutouts.shape} and dtype {cutouts.dtype}; expected shape "
                f"(n, {', '.join(map(str, self.cutout_shape))}) and float32."
            )
        self._stream.write(np.ascontiguousarray(cutouts, dtype="<f4").data)
        self.count += len(cutouts)

    def finish(self) -> None:
        """Write the number of cutouts to the header and flush the file to disk."""
        self._stream.seek(0)
        self._write_header()
        assert self._stream.tell() == self._header_bytes
        self._stream.seek(0, os.SEEK_END)
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exits.__exit__(kind, error, trace)

    def _finish_unless_failed(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()

    def _write_header(self) -> None:
        # NumPy pads the header so that the first axis can grow in place.
        shape = (self.count, *self.cutout_shape)
        npy.write_array_header_1_0(
            self._stream, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )


@contextmanager
def open_table(
    path: Path, metadata: Mapping[str, object]
) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """Write the Parquet table of a stack, one row per cutout and band, in pieces.

    Parameters
    ----------
    path : Path
        File to write; it appears when the block ends without an error.
    metadata : mapping
        Metadata, stored as JSON under the key ``fastnorm`` of the schema.

    Yields
    ------
    function
        Appends rows, given as columns by name.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f"{path} needs pyarrow to be written: {INSTALL_EXTRA}") from error
    schema = pyarrow.schema(
        {
            "row": pyarrow.int64(),
            "id": pyarrow.string(),
            "band": pyarrow.string(),
            "ra": pyarrow.float64(),
            "dec": pyarrow.float64(),
            "median": pyarrow.float32(),
            "mad": pyarrow.float32(),
            "nan_count": pyarrow.int32(),
            "path": pyarrow.string(),
        },
        metadata={"fastnorm": json.dumps(metadata, allow_nan=False)},
    )
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        yield lambda columns: writer.write_table(pyarrow.table(columns, schema=schema))
