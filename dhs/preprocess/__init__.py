"""The published preprocessing as a function, a specification and a layer."""

from __future__ import annotations

from dhs.preprocess.stack import MODES, center_crop, preprocess_stack

__all__ = ["MODES", "center_crop", "preprocess_stack"]
