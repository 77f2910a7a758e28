"""Weights of the published networks give the same logits under our names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from dhs import checkpoint
from dhs.checkpoint.published import import_old
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.dhs.model.model_cases import write


class PublishedBlock(nn.Module):
    def __init__(self, inputs: int, middle: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(images)))
        inner = torch.relu(self.bn2(self.conv2(inner)))
        return torch.relu(self.bn3(self.conv3(inner)) + self.shortcut(images))


class PublishedNetwork(nn.Module):
    """The published bottlenecked ResNet with its own names of layers."""

    def __init__(self, c: int) -> None:
        super().__init__()
        stem = nn.Conv2d(3, c, 5, stride=2, padding=2, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(c), nn.ReLU())
        self.layer1 = PublishedBlock(c, c, 2 * c, 1)
        self.layer2 = PublishedBlock(2 * c, c, 4 * c, 2)
        self.layer3 = PublishedBlock(4 * c, 2 * c, 8 * c, 2)
        self.layer4 = PublishedBlock(8 * c, 2 * c, 8 * c, 2)
        self.fc = nn.Linear(8 * c, 1)

    def forward(self, images: Tensor) -> Tensor:
        inner = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images)))))
        logits: Tensor = self.fc(inner.mean(dim=(2, 3)))
        return logits


def test_the_published_resnet_gives_the_same_logits(tmp_path: Path) -> None:
    torch.manual_seed(5)
    published = PublishedNetwork(4)
    for module in published.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            for values in (module.running_var, module.weight):
                nn.init.uniform_(values, 0.5, 2)
    path = write(tmp_path / "a.pt", model=published.state_dict())
    import_old(path, tmp_path / "a.safetensors")
    finder, _ = checkpoint.load(tmp_path / "a.safetensors")
    images = torch.randn(4, 3, 101, 101)
    with torch.no_grad():
        expected, got = published.eval()(images), finder.backbone(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-3 * float(expected.std()))
