"""Two grids of the same injections, for tests of their comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.dhs.selection.grid_cases import CORRECTED, LEGACY, write_grid


def write_pair(root: Path) -> tuple[Path, Path]:
    """Write two grids of the same injections; the second model finds more of the bright ones."""
    common: dict[str, Any] = {"no_hosts": [(1.3, 23.5)], "per_cell": 100, "thresholds": [0.5]}
    old = write_grid(root / "old", spec=LEGACY, better=-2.5, noise_seed=2, row_group=37, **common)
    return old, write_grid(root / "new", spec=CORRECTED, failed=5, **common)
