"""The injections of the compile report, as input tables of the lens kernel.

Device code does not import ``dhs``, which draws and plans the injections, so their tables are
saved in ``benchmarks/gpu_model``. ``python -m tests.dhs.injection.lens_draws`` saves them again.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from dhs.constants import CUTOUT_SIZE, PIXEL_SCALE
from dhs.injection import sample_lens_params, sample_source_params
from dhs.injection.quadrature import USUAL_OVERSAMPLE, make_plan
from dhs.injection.source import draw_clumps
from tests import ROOT

FILE = ROOT / "benchmarks" / "gpu_model" / "lens_draws.json"
SEED, EINSTEIN_RADII = 3, np.array([0.8, 1.4, 2.2])
CLUMPS_PROBABILITY = {"smooth": 0.0, "clumpy": 1.0}
"""Probability of clumps by group. Everything else is the same draw from the priors."""


def _rounded(values: Any) -> list[Any]:
    """Convert to nested lists, with as many digits as float32 keeps."""
    array = np.asarray(values)
    if array.ndim > 1:
        return [_rounded(row) for row in array]
    return [float(f"{value:.9g}") for value in array]


def planned() -> dict[str, Any]:
    lens = sample_lens_params(np.random.default_rng(SEED), EINSTEIN_RADII)
    groups: dict[str, Any] = {}
    for group, probability in CLUMPS_PROBABILITY.items():
        rng = np.random.default_rng(SEED)
        source = sample_source_params(rng, EINSTEIN_RADII, clumps_prob=probability)
        plan = make_plan(
            lens,
            source,
            draw_clumps(source, SEED, np.arange(len(source))),
            source.fluxes(),
            (CUTOUT_SIZE, CUTOUT_SIZE),
            PIXEL_SCALE,
            USUAL_OVERSAMPLE,
        )
        groups[group] = {"table": _rounded(plan.table), "clumps": _rounded(plan.clumps)}
    nodes = plan.nodes
    return {
        "pixel_scale": plan.pixel_scale,
        "start": nodes.start.tolist(),
        "nodes": _rounded([nodes.x, nodes.y, nodes.weight]),
        "groups": groups,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(planned()) + "\n")
