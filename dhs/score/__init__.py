"""Score cutouts with one checkpoint or an ensemble."""

from __future__ import annotations

from dhs.score.run import Scored, score

__all__ = ["Scored", "score"]
