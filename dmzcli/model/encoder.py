"""The encoder: stride-2 convolutions down to a few pixels, then one linear layer to the logits of q(z | x)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from dmzcli.model.batch_norm import BatchNorm2d


def encoder_channels(size: int) -> tuple[int, ...]:
    """The paper's channels of the stride-2 convolutions, 32, 64, … until 2×2 pixels are left.

    Example:
        >>> encoder_channels(32)
        (32, 64, 128, 256)
    """
    channels: list[int] = []
    while size > 2:
        channels.append(32 << len(channels))
        size = (size + 1) // 2
    return tuple(channels)


class Encoder(nn.Module):
    """Images to logits: stride-2 convolutions with batch norm and leaky ReLU, then one linear layer.

    Arguments:
        in_channels: Channels of the image.
        size: Height and width of the image.
        channels: Output channels of each convolution.
        logits: Shape of the logits of one image.
    """

    def __init__(self, in_channels: int, size: int, channels: Sequence[int], logits: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in channels:
            layers += [
                nn.Conv2d(in_channels, width, 3, stride=2, padding=1),
                BatchNorm2d(width),
                nn.LeakyReLU(),
            ]
            in_channels, size = width, (size + 1) // 2
        self.convolutions = nn.Sequential(*layers)
        self.logits = tuple(logits)
        self.linear = nn.Linear(in_channels * size * size, math.prod(logits))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, *logits) of images (B, C, H, W) in [−1, 1]."""
        return self.linear(self.convolutions(x).flatten(1)).unflatten(1, self.logits)
