"""The registry of networks: one entry is enough for training, audit and methods text."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dhs.model import LensFinder
from dhs.model.networks import NETWORKS, PLANNED_NETWORKS, Network, paper_name
from dhs.train.config import read_config
from tests import ROOT
from tests.dhs.model.model_cases import CORRECTED


class Tiny(nn.Module):
    def __init__(self, in_ch: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(in_ch, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.mean((2, 3)))
        return logits

    def get_classifier(self) -> nn.Linear:
        return self.head


def test_a_network_of_our_own_needs_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Network("tiny network", own_class=f"{__name__}:Tiny")
    monkeypatch.setitem(NETWORKS, "tiny", entry)
    finder = LensFinder(CORRECTED, "tiny")
    assert finder(torch.zeros(2, 3, 101, 101)).shape == (2,)
    assert paper_name("tiny") == "tiny network"


def test_networks_of_the_plan_have_a_configuration_that_builds_them() -> None:
    assert list(PLANNED_NETWORKS) == ["EfficientNetV2-S", "bottlenecked ResNet"]
    for name, network in PLANNED_NETWORKS.items():
        assert network.retraining_config is not None
        assert network.least_auc is not None
        config = read_config(ROOT / network.retraining_config)
        assert paper_name(config.train.arch) == name
    for network in NETWORKS.values():
        assert (network.timm_name is None) != (network.own_class is None)

    assert paper_name("resnet18") is None
