"""Networks that find lenses."""

from __future__ import annotations

from dhs.model.finder import BOTTLENECKED_RESNET, TIMM_NAMES, LensFinder, build_model

__all__ = ["BOTTLENECKED_RESNET", "TIMM_NAMES", "LensFinder", "build_model"]
