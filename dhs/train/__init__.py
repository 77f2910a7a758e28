"""Train a lens finder."""

from __future__ import annotations

from dhs.train.loop import NonFiniteLossError
from dhs.train.run import Trained, train

__all__ = ["NonFiniteLossError", "Trained", "train"]
