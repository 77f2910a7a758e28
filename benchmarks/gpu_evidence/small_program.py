"""A small launch of every kind, for memory checkers and profilers.

Run as ``python -m benchmarks.gpu_evidence.small_program CUTOUTS``.
"""

from __future__ import annotations

import sys

from benchmarks.gpu_evidence.place import place
from benchmarks.gpu_evidence.speed import FLOAT32, TRAINING, known_variants, normalizer

NAMES = (FLOAT32, "bfloat16 out", TRAINING)


def main(cutouts: int) -> None:
    where, every = place(), known_variants()
    for name in NAMES:
        normalizer(every[name], "triton", where, cutouts)(0)
    where.synchronize()


if __name__ == "__main__":
    main(int(sys.argv[1]))
