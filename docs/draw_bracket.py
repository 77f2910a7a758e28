"""Draw docs/bracket.png: how the bracket closes on the median and the MAD of one band.

``TRITON_INTERPRET=1 python docs/draw_bracket.py CUTOUT.npz docs/bracket.png``
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
os.environ["TRITON_INTERPRET"] = "1"

import matplotlib.pyplot as plt
import numpy as np
import torch

from fastnorm import Annulus
from fastnorm.kernels import triton_select
from fastnorm.normalize import gpu

ANNULUS = Annulus(32.5, 45.0)
BLUE, ORANGE = "#0072b2", "#d55e00"
Pass = tuple[int, int]


def record(plane: torch.Tensor) -> list[list[Pass]]:
    """Return the two counts of every pass, first for the median, then for the MAD."""
    statistics: list[list[Pass]] = []
    count_below, middle_pair = triton_select._count_below, triton_select.middle_pair

    def counted(*arguments: Any) -> Any:
        below = count_below(*arguments)
        statistics[-1].append((int(below[0].handle.data[0]), int(below[1].handle.data[0])))
        return below

    def started(*arguments: Any) -> Any:
        statistics.append([])
        return middle_pair(*arguments)

    from fastnorm.kernels import triton_normalize

    triton_select._count_below = counted
    triton_normalize.middle_pair = started
    gpu.normalize(plane, ANNULUS, backend="triton")
    return statistics


def draw(statistics: list[list[Pass]], count: int, title: str, path: Path) -> None:
    """Draw one row per pass: the bracket in ranks from the middle, and the thresholds.

    Parameters
    ----------
    statistics : list of list of tuple of int
        Counts below the two thresholds, by pass, for the median and for the MAD.
    count : int
        Number of pixels in the annulus.
    title : str
        Title of the figure.
    path : Path
        PNG file to write.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), sharex=True, layout="constrained")
    middle = count / 2
    for axis, passes, name in zip(axes, statistics, ("median", "MAD"), strict=True):
        base, top = 0, count
        for row, (p, q) in enumerate(passes):
            (bracket,) = axis.barh(
                row, top - base, left=base - middle, height=0.62, color=BLUE, alpha=0.25
            )
            (thresholds,) = axis.plot(
                [p - middle, q - middle], [row, row], "o", color=ORANGE, markersize=5
            )
            axis.text(
                1.01, row, f"{top - base:,}", va="center", transform=axis.get_yaxis_transform()
            )
            for below in (p, q):
                base, top = (max(base, below), top) if below < middle else (base, min(top, below))
        sought = axis.axvline(0, color="black", linewidth=0.8)
        axis.set_xscale("symlog", linthresh=1)
        axis.set_yticks(range(len(passes)), [f"pass {i + 1}" for i in range(len(passes))])
        axis.set_ylim(max(map(len, statistics)) - 0.4, -0.6)
        axis.set_xlim(-1.3 * middle, 1.3 * middle)
        axis.set_xticks([-1000, -100, -10, 0, 10, 100, 1000], minor=False)
        axis.set_xticklabels(["-1000", "-100", "-10", "0", "10", "100", "1000"], fontsize=8)
        axis.set_xlabel("ranks from the middle")
        axis.set_title(name, loc="left")
        axis.text(1.01, -0.75, "inside", transform=axis.get_yaxis_transform())
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(
        [bracket, thresholds, sought],
        [
            "bracket before the pass",
            "the two thresholds of the pass",
            "middle rank, which is sought",
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)


def main(cutout: str, path: str) -> None:
    with np.load(cutout, allow_pickle=False) as content:
        plane = torch.from_numpy(content["cutout"][..., 1].astype(np.float32).copy())
    count = ANNULUS.pixels(*plane.shape).size
    title = f"r band of a DR10 cutout: {count:,} pixels of the annulus (32.5, 45.0)"
    draw(record(plane), count, title, Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
