"""The model's prediction of the speed of a variant, to stand beside its measurement.

The predictions come from the JSON of ``python -m benchmarks.gpu_model --json``. That needs no GPU:
its file can be made on any machine and handed to the evidence or to its page.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_evidence.reasons import NotMeasuredError

KERNEL = "triton"
Row = dict[str, Any]


def model() -> Iterator[Row]:
    """Run the model for the device of this machine, the headline first; yield its rows."""
    import torch

    from benchmarks.gpu_evidence.place import place
    from benchmarks.gpu_evidence.speed import FLOAT32
    from benchmarks.gpu_model.gpu_model import CAPABILITIES
    from benchmarks.gpu_model.variants import VARIANTS

    if place().is_rehearsal:
        raise NotMeasuredError("a rehearsal has no device to model")
    major, minor = torch.cuda.get_device_capability()
    capability = 10 * major + minor
    if capability not in CAPABILITIES:
        raise NotMeasuredError(f"the model has no device of compute capability {major}.{minor}")
    yield from _rows_of([FLOAT32], capability)
    yield from _rows_of([name for name in VARIANTS if name != FLOAT32], capability)


def _rows_of(names: Sequence[str], capability: int) -> Iterator[Row]:
    command = [sys.executable, "-m", "benchmarks.gpu_model", "--json"]
    command += ["--architectures", str(capability), "--variants", *names]
    done = subprocess.run(command, capture_output=True, text=True)
    # An exit status of 1 with a report says that the headline misses a limit of its own.
    if not done.stdout:
        printed = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"the model failed: {printed[-1]}")
    yield from rows_of(json.loads(done.stdout))


def rows_of(report: Mapping[str, Any]) -> list[Row]:
    """Return the modelled rows of the Triton kernel from a report of the model."""
    return [row for row in report["rows"] if row["kernel"] == KERNEL and "modelled" in row]


def read(file: Path) -> list[Row]:
    """Return the modelled rows of a file.

    Raises
    ------
    OSError, ValueError, KeyError
        The file cannot be read, or is not a report of the model.
    """
    return rows_of(json.loads(file.read_text("utf-8")))


def predicted(variant: str, device_name: str, rows: Sequence[Row]) -> float | None:
    """Return the predicted speed of a variant, as a fraction of a copy.

    Parameters
    ----------
    variant : str
        Name of the variant.
    device_name : str
        Name of the GPU, as torch gives it.
    rows : sequence of dict
        Modelled rows, from `read` or from the part ``model``.

    Returns
    -------
    float or None
        None without a prediction for this variant and device.
    """
    words = device_name.replace("-", " ").split()
    for row in rows:
        groups = row["modelled"]
        figures: dict[str, Any] = groups.get("real") or next(iter(groups.values()), {"devices": {}})
        for name, times in figures["devices"].items():
            # "H100" is "NVIDIA H100 80GB HBM3" to torch.
            if row["variant"] == variant and name in words:
                return min(1.0, float(times["share_of_copy"]))
    return None
