"""Score cutouts with one checkpoint or an ensemble.

Read `dhs.score.run` first (what scoring does), then `dhs.score.work` (batches and resuming) and
`dhs.score.table` (the table). `dhs.score.input` opens packs, manifests and files.
"""

from __future__ import annotations

from dhs.score.run import Scored, score

__all__ = ["Scored", "score"]
