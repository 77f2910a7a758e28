"""Checkpoint files: weights together with the preprocessing of their training."""

from __future__ import annotations

from dhs.checkpoint.file import (
    CheckpointError,
    DeprecatedCheckpointError,
    DeprecatedCheckpointWarning,
    NoCheckpointError,
    deprecate,
    load,
    read,
    save,
)
from dhs.checkpoint.header import Checkpoint
from dhs.preprocess.spec import PreprocessSpec

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "DeprecatedCheckpointError",
    "DeprecatedCheckpointWarning",
    "NoCheckpointError",
    "PreprocessSpec",
    "deprecate",
    "load",
    "read",
    "save",
]
