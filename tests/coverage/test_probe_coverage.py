"""The interval of the realism probe contains the AUC that such probes have on average."""

from __future__ import annotations

import numpy as np
import pytest

from dhs.realism.probe import Probe, probe
from tests.coverage.coverage_rows import AT_LEAST, LEVEL, RUNS, hold

pytestmark = pytest.mark.coverage

# A probe with its permutations takes long.
PROBES = max(RUNS // 2, 40)


def probes(count: int, features: int, distance: float) -> list[Probe]:
    """Run probes of normal features; the means of five features differ by ``distance`` in all."""
    rng = np.random.default_rng([count, features, int(10 * distance)])
    shift = np.zeros(features)
    shift[:5] = distance / np.sqrt(5)
    return [
        probe(
            rng.normal(size=(count, features)) + shift,
            rng.normal(size=(count, features)),
            permutations=99,
            seed=run,
        )
        for run in range(PROBES)
    ]


@pytest.mark.parametrize(("count", "features"), [(40, 40), (120, 40), (120, 400)])
@pytest.mark.parametrize("distance", [0.0, 1.5, 3.0])
def test_the_interval_of_the_probe(count: int, features: int, distance: float) -> None:
    found = probes(count, features, distance)
    # The mean of the runs is unbiased, and scatters 10 times less than one of them.
    mean = float(np.mean([each.auc for each in found]))
    truth = 0.5 if distance == 0 else mean
    assert abs(mean - truth) < 0.02
    name = f"realism probe, {count} objects x {features} features, distance {distance:g}"
    hits = [each.interval[0] <= truth <= each.interval[1] for each in found]
    hold(name, hits, AT_LEAST if mean > 0.85 else (0.93, 0.985))
    if distance == 0:
        hold(f"p of {name}", [each.p_value <= 0.05 for each in found], LEVEL)
