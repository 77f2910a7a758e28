"""Averages of weights: of timm and of torch, with every kind of footprint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm.utils
import torch
from torch import nn
from torch.optim import swa_utils
from torch.optim.swa_utils import AveragedModel

import fastnorm
from tests.clients import page

pytestmark = pytest.mark.clients

ModelEmaV3: Any = timm.utils.ModelEmaV3  # type: ignore[attr-defined]
SWA: Any = swa_utils

CORNERS = torch.zeros(101, 101, dtype=torch.bool)
CORNERS[:20, :20] = CORNERS[-20:, -20:] = True
OTHER_CORNERS = CORNERS.flip(0)
FOOTPRINTS: dict[str, tuple[Any, Any]] = {
    "annulus": (fastnorm.Annulus(32.5, 45.0), fastnorm.Annulus(20.0, 32.0)),
    "ellipse": (
        fastnorm.EllipticalAnnulus(32.5, 45.0, q=0.6, phi=0.5),
        fastnorm.EllipticalAnnulus(32.5, 45.0, q=0.7, phi=0.5),
    ),
    "pixels": (CORNERS, OTHER_CORNERS),
}

AVERAGES: dict[str, Callable[[nn.Module], Any]] = {
    "ModelEmaV3": lambda network: ModelEmaV3(network, decay=0.75),
    "ModelEmaV3, one by one": lambda network: ModelEmaV3(network, decay=0.75, foreach=False),
    "ModelEmaV3, bfloat16": lambda network: ModelEmaV3(network, decay=0.75, dtype=torch.bfloat16),
    "AveragedModel": AveragedModel,
    "AveragedModel, exponential": lambda network: AveragedModel(
        network, multi_avg_fn=SWA.get_ema_multi_avg_fn(0.75), use_buffers=True
    ),
}


def network_of(footprint: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        fastnorm.FootprintNorm(footprint),
        nn.Conv2d(3, 4, 5, stride=4),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 1),
    )


def step(network: nn.Module, average: Any) -> None:
    """Change the weights by one, and take them into the average."""
    with torch.no_grad():
        for value in network.parameters():
            value.add_(1)
    take = average.update_parameters if isinstance(average, AveragedModel) else average.update
    take(network)


@pytest.mark.parametrize("make", AVERAGES.values(), ids=AVERAGES)
@pytest.mark.parametrize(("footprint", "other"), FOOTPRINTS.values(), ids=FOOTPRINTS)
def test_an_average_normalises_as_its_network_and_refuses_another_footprint(
    footprint: Any, other: Any, make: Callable[[nn.Module], Any]
) -> None:
    network = network_of(footprint)
    before = page.weights(network)
    average = make(network)
    for _ in range(3):
        step(network, average)
    images = page.common()["images"][:2]
    layer, averaged = network[0], average.module[0]
    assert torch.equal(averaged(images), layer(images))
    after = page.weights(average.module)
    for name, value in page.weights(network).items():
        assert (before[name] + 0.4 < after[name].float()).all(), name
        assert (after[name].float() < value - 0.4).all(), name
    state = average.state_dict()
    make(network_of(footprint)).load_state_dict(state)
    with pytest.raises((ValueError, RuntimeError), match="must never be mixed"):
        make(network_of(other)).load_state_dict(state)


def test_statistics_of_batch_norm_are_those_of_normalised_cutouts() -> None:
    names = page.common()
    average: Any = AveragedModel(network_of(fastnorm.Annulus(32.5, 45.0)))
    SWA.update_bn(names["loader"], average)
    convolved = average.module[1](torch.from_numpy(page.by_numpy(names["images"].numpy())))
    torch.testing.assert_close(
        average.module[2].running_mean, convolved.mean((0, 2, 3)), rtol=1e-4, atol=1e-6
    )
