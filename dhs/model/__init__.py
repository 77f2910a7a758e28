"""Networks that find lenses."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dhs.model.networks import BOTTLENECKED_RESNET, TIMM_NAMES

if TYPE_CHECKING:
    from dhs.model.finder import LensFinder, build_model

__all__ = ["BOTTLENECKED_RESNET", "TIMM_NAMES", "LensFinder", "build_model"]


def __getattr__(name: str) -> Any:
    # Imported when first used: the names of networks are read without torch.
    if name in ("LensFinder", "build_model"):
        return getattr(importlib.import_module("dhs.model.finder"), name)
    raise AttributeError(f"module 'dhs.model' has no attribute {name!r}")
