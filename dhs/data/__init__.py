"""Datasets of cutouts with labels."""

from __future__ import annotations

from dhs.data.config import DatasetConfig, SplitConfig
from dhs.data.dataset import LensDataset

__all__ = ["DatasetConfig", "LensDataset", "SplitConfig"]
