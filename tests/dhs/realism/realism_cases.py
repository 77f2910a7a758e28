"""Images and features in memory for tests of the realism check."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.preprocess.spec import PreprocessSpec
from tests.dhs.train.training_runs import SIDE

CPU = torch.device("cpu")
SPEC = PreprocessSpec(annulus_r_in=10.4, annulus_r_out=14.4)


class Noise:
    """Noise images in memory."""

    def __init__(self, count: int, side: int = SIDE) -> None:
        rng = np.random.default_rng(5)
        self.images = torch.from_numpy(rng.normal(0, 1, (count, 3, side, side)).astype(np.float32))

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, None]:
        return self.images[torch.from_numpy(rows)], None


class InMemory(Noise):
    def __init__(self, images: NDArray[np.float32]) -> None:
        self.images = torch.from_numpy(images)


def samples(shift: float, count: int = 60, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    real, injected = rng.normal(size=(2, count, 4))
    injected[:, 1] += shift
    return real, injected
