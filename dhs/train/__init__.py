"""Train a lens finder.

Read `dhs.train.run` first (what a training does), then `dhs.train.loop` (epochs, steps and saves)
and `dhs.train.setup` (network, optimiser and schedule from a configuration).
`dhs.train.sampler` decides which cutouts a batch holds, `dhs.train.state` how a run resumes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dhs.train.config import TrainConfig

if TYPE_CHECKING:
    from dhs.train.loop import NonFiniteLossError
    from dhs.train.run import Trained, train
    from dhs.train.setup import FewForValidationWarning

_HOME = {
    "FewForValidationWarning": "setup",
    "NonFiniteLossError": "loop",
    "Trained": "run",
    "train": "run",
}

__all__ = ["FewForValidationWarning", "NonFiniteLossError", "TrainConfig", "Trained", "train"]


def __getattr__(name: str) -> Any:
    # Imported when first used: configurations are read without torch.
    if name in _HOME:
        return getattr(importlib.import_module(f"dhs.train.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dhs.train' has no attribute {name!r}")
