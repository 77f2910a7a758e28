"""Penultimate features: what the last layer of a lens finder makes its logit of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dhs.model.finder import LensFinder
from dhs.model.inference import Rows, run_batches


def last_layer(model: LensFinder) -> nn.Linear:
    """The linear layer that gives the logit.

    Raises
    ------
    ValueError
        The backbone ends in something else.
    """
    backbone: Any = model.backbone
    layer = backbone.get_classifier() if hasattr(backbone, "get_classifier") else None
    if not isinstance(layer, nn.Linear) or layer.out_features != 1:
        raise ValueError(
            f"{model.architecture['arch']} ends in {layer}, and not in a linear layer of one "
            "output; it has no penultimate features."
        )
    return layer


def features_of(
    model: LensFinder,
    data: Rows,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Run a lens finder over a dataset, and keep what its last layer takes in.

    Parameters
    ----------
    model : LensFinder
        On ``device``; it is put into evaluation mode, and is otherwise left as it was.
    data : Rows
    batch_size : int
        Of every forward pass, as of `dhs.model.inference.logits_of`.
    device : torch.device
    progress : function, optional
        Called with how many cutouts are done and how many there are.

    Returns
    -------
    (N, D) float32
        D is 216 for the bottlenecked ResNet of 27 channels, 1280 for EfficientNetV2-S.

    Raises
    ------
    ValueError
        The model does not end in a linear layer of one output.
    """
    layer = last_layer(model)
    features = np.zeros((len(data), layer.in_features), np.float32)
    seen: list[Tensor] = []

    def watch(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    def keep(start: int, logits: Tensor) -> None:
        features[start : start + len(logits)] = seen.pop()[: len(logits)].float().cpu().numpy()

    hook = layer.register_forward_pre_hook(watch)
    try:
        run_batches(model, data, batch_size, device, keep, progress=progress)
    finally:
        hook.remove()
    return features
