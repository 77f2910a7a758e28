"""Datasets of cutouts with labels."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dhs.data.config import DatasetConfig, SplitConfig

if TYPE_CHECKING:
    from dhs.data.dataset import LensDataset

__all__ = ["DatasetConfig", "LensDataset", "SplitConfig"]


def __getattr__(name: str) -> Any:
    # Imported when first used: configurations are read without torch.
    if name == "LensDataset":
        return importlib.import_module("dhs.data.dataset").LensDataset
    raise AttributeError(f"module 'dhs.data' has no attribute {name!r}")
