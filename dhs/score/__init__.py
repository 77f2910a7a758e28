"""Score cutouts with one checkpoint or an ensemble.

Read `dhs.score.run` first (what scoring does), then `dhs.score.work` (batches and resuming) and
`dhs.score.table` (the table). `dhs.score.input` opens packs, manifests and files, and
`dhs.score.picture` draws the highest scores.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dhs.score.run import Scored, score

__all__ = ["Scored", "score"]


def __getattr__(name: str) -> Any:
    # Imported when first used: evaluations read tables of scores without torch.
    if name in __all__:
        return getattr(importlib.import_module("dhs.score.run"), name)
    raise AttributeError(f"module 'dhs.score' has no attribute {name!r}")
