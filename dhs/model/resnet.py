"""The bottlenecked ResNet: a small network for three-band cutouts."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """A bottleneck block: 1x1, 3x3 and 1x1 convolutions with a shortcut around them.

    Parameters
    ----------
    inputs, middle, outputs : int
        Number of channels before, inside and after the block.
    stride : int
        Stride of the 3x3 convolution.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, middle, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.activation(self.path(images) + self.shortcut(images)))


class BottleneckedResNet(nn.Module):
    """A network of a stem, four bottleneck blocks, a global average and one logit.

    Parameters
    ----------
    in_ch : int
        Number of bands.
    base_ch : int
        Number of channels ``c`` of the stem. The blocks have (inputs, middle, outputs, stride) of
        (c, c, 2c, 1), (2c, c, 4c, 2), (4c, 2c, 8c, 2) and (8c, 2c, 8c, 2). With 27 channels the
        network has 195,589 parameters.
    """

    def __init__(self, in_ch: int = 3, base_ch: int = 27) -> None:
        super().__init__()
        c = base_ch
        self.stem = nn.Sequential(
            nn.Conv2d(in_ch, c, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(c),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(
            Bottleneck(c, c, 2 * c, 1),
            Bottleneck(2 * c, c, 4 * c, 2),
            Bottleneck(4 * c, 2 * c, 8 * c, 2),
            Bottleneck(8 * c, 2 * c, 8 * c, 2),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(8 * c, 1)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the feature maps before the average, (N, 8c, H', W')."""
        return cast(Tensor, self.blocks(self.stem(images)))

    def get_classifier(self) -> nn.Linear:
        """Return the last layer; timm's models have a method of the same name."""
        return self.classifier

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (N, 1) of normalised images (N, in_ch, H, W)."""
        return cast(Tensor, self.classifier(self.pool(self.forward_features(images)).flatten(1)))
