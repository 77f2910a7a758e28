"""Penultimate features: the input of the last layer of a lens finder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dhs.model.finder import LensFinder
from dhs.model.inference import Rows, run_batches
from dhs.model.transfer import Gathered


def last_layer(model: LensFinder) -> nn.Linear:
    """Return the linear layer that computes the logit.

    Raises
    ------
    ValueError
        The backbone does not end in a linear layer of one output.
    """
    backbone: Any = model.backbone
    layer = backbone.get_classifier() if hasattr(backbone, "get_classifier") else None
    if not isinstance(layer, nn.Linear) or layer.out_features != 1:
        raise ValueError(
            f"{model.architecture['arch']} ends in {layer}, not in a linear layer of one output, "
            "so it has no penultimate features."
        )
    return layer


def features_of(
    model: LensFinder,
    data: Rows,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Run a lens finder over a dataset, and return the inputs of its last layer.

    Parameters
    ----------
    model : LensFinder
        Model on ``device``. It is switched to evaluation mode and otherwise unchanged.
    data : Rows
        Source of the cutouts.
    batch_size : int
        Cutouts per forward pass, see `dhs.model.inference.logits_of`.
    device : torch.device
        Device of the model.
    progress : function, optional
        Called after each batch with the number of cutouts done and the total.

    Returns
    -------
    (N, D) float32 array
        D is 216 for the bottlenecked ResNet with 27 channels, and 1280 for EfficientNetV2-S.

    Raises
    ------
    ValueError
        The model does not end in a linear layer of one output.
    """
    layer = last_layer(model)
    features = np.zeros((len(data), layer.in_features), np.float32)
    gathered = Gathered(features, device)
    seen: list[Tensor] = []

    def watch(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    def keep(start: int, logits: Tensor) -> None:
        gathered.add(start, seen.pop()[: len(logits)])

    hook = layer.register_forward_pre_hook(watch)
    try:
        run_batches(model, data, batch_size, device, keep, progress=progress)
    finally:
        hook.remove()
    gathered.read()
    return features
