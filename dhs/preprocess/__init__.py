"""Published preprocessing, its specification, and the layer that carries it."""

from __future__ import annotations

from dhs.preprocess.stack import MODES, center_crop, preprocess_stack

__all__ = ["MODES", "center_crop", "preprocess_stack"]
