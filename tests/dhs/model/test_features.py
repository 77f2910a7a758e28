"""Penultimate features: the input of the last layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.model import LensFinder
from dhs.model.features import features_of
from dhs.model.inference import logits_of
from tests.dhs.model.model_cases import one_thread  # noqa: F401
from tests.dhs.realism.realism_cases import CPU, SPEC, Noise
from tests.dhs.train.training_runs import SIDE


@pytest.mark.parametrize(
    ("arch", "options", "width"),
    [("bottlenecked_resnet", {"base_ch": 2}, 16), ("efficientnet_v2_s", {}, 1280)],
)
def test_the_last_layer_makes_the_logits_of_the_features(
    arch: str, options: dict[str, Any], width: int
) -> None:
    torch.manual_seed(1)
    model = LensFinder(SPEC, arch, size=SIDE, **options)
    data = Noise(5)
    features = features_of(model, data, 4, CPU)
    assert features.shape == (5, width)
    assert features.dtype == np.float32
    layer: Any = model.backbone.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        by_hand = layer(torch.from_numpy(features))[:, 0].numpy()
    logits = logits_of(model, data, 4, CPU)
    np.testing.assert_allclose(by_hand, logits, rtol=1e-5, atol=1e-6)
    assert np.ptp(features, axis=0).max() > 0


def test_features_are_those_of_all_layers_but_the_last() -> None:
    torch.manual_seed(1)
    model, data = LensFinder(SPEC, "bottlenecked_resnet", size=SIDE, base_ch=2), Noise(5)
    seen: list[tuple[int, int]] = []
    features = features_of(model, data, 2, CPU, lambda *pair: seen.append(pair))
    backbone: Any = model.backbone
    with torch.no_grad():
        expected = backbone.forward_features(model.preprocess(data.images)).mean(dim=(2, 3))
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert seen[-1] == (5, 5)


def test_no_hook_stays_behind() -> None:
    class Broken(Noise):
        def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, None]:
            raise OSError("gone")

    model = LensFinder(SPEC, "bottlenecked_resnet", size=SIDE, base_ch=2)
    features_of(model, Noise(3), 2, CPU)
    with pytest.raises(OSError, match="gone"):
        features_of(model, Broken(3), 2, CPU)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_network_without_a_linear_end_is_refused() -> None:
    model = LensFinder(SPEC, "bottlenecked_resnet", size=SIDE, base_ch=2)
    model.backbone.classifier = torch.nn.Identity()
    with pytest.raises(ValueError, match="bottlenecked_resnet ends in Identity"):
        features_of(model, Noise(3), 2, CPU)
