"""Train a lens finder.

Read `dhs.train.run` first (what a training does), then `dhs.train.loop` (epochs, steps and saves)
and `dhs.train.setup` (network, optimiser and schedule from a configuration).
`dhs.train.sampler` decides which cutouts a batch holds, `dhs.train.state` how a run resumes.
"""

from __future__ import annotations

from dhs.train.config import TrainConfig
from dhs.train.loop import NonFiniteLossError
from dhs.train.run import Trained, train
from dhs.train.setup import FewForValidationWarning

__all__ = ["FewForValidationWarning", "NonFiniteLossError", "TrainConfig", "Trained", "train"]
