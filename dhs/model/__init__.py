"""Networks that find lenses."""

from __future__ import annotations

from dhs.model.finder import LensFinder, build_model
from dhs.model.networks import BOTTLENECKED_RESNET, TIMM_NAMES

__all__ = ["BOTTLENECKED_RESNET", "TIMM_NAMES", "LensFinder", "build_model"]
