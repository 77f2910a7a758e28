"""Evaluate scores of cutouts whose labels are known."""

from __future__ import annotations

from dhs.evaluate.evaluation import Evaluation
from dhs.evaluate.run import evaluate, write_evaluation

__all__ = ["Evaluation", "evaluate", "write_evaluation"]
