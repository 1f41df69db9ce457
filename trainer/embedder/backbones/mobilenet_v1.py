"""MobileNet (Howard et al. 2017) with PReLU and a fully connected layer over the last 7 x 7 positions.

SFace (Zhong et al., IEEE TIP 2021), as OpenCV Zoo publishes it, has this architecture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

EPSILON = 1e-3
LAST_EPSILON = 2e-5
"""Of the batch norms without an activation, as in the published weights."""
POSITIONS = 7 * 7
DOWNSAMPLING = (2, 4, 6, 12)
"""Indices of the depthwise convolutions with stride 2, counted from 1. The first convolution has stride 1."""


@dataclass(frozen=True)
class Widths:
    """Numbers of channels.

    Attributes:
        convolutions: After the first convolution and after each of the 13 pointwise convolutions.
        code: Channels of each position before the fully connected layer; None: those of the last convolution.
    """

    convolutions: Sequence[int]
    code: int | None


PUBLISHED = Widths((32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024), None)
SLIM = Widths((16, 48, 96, 96, 192, 192, 400, 400, 400, 400, 400, 400, 704, 576), 160)


class ConvolutionUnit(nn.Module):
    """Convolution, batch norm and PReLU."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=EPSILON)
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.activation(self.norm(self.convolution(x))))


class MobileNetV1(nn.Module):
    """Pairs of depthwise and pointwise convolutions without shortcuts, at 112, 56, 28, 14 and 7 pixels.

    Attributes:
        features: The first convolution, and then each depthwise and its pointwise convolution.
        norm: Batch norm of the last pointwise convolution's output.
        reduction: Linear map of the channels of each position.
    """

    def __init__(self, embedding_dim: int, dropout: float = 0.0, widths: Widths = SLIM) -> None:
        super().__init__()
        channels = widths.convolutions[0]
        layers: list[nn.Module] = [ConvolutionUnit(3, channels, 3)]
        for block, width in enumerate(widths.convolutions[1:], 1):
            layers += [
                ConvolutionUnit(channels, channels, 3, 2 if block in DOWNSAMPLING else 1, channels),
                ConvolutionUnit(channels, width, 1),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(channels, eps=LAST_EPSILON)
        self.reduction: nn.Module = (
            nn.Identity() if widths.code is None else nn.Conv2d(channels, widths.code, 1, bias=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear((widths.code or channels) * POSITIONS, embedding_dim),
            nn.BatchNorm1d(embedding_dim, eps=LAST_EPSILON),
        )

    @property
    def linear(self) -> nn.Linear:
        """The layer from the code of all positions to the embedding."""
        return cast("nn.Linear", self.head[1])

    @property
    def last_norm(self) -> nn.BatchNorm1d:
        """The batch norm of the embedding."""
        return cast("nn.BatchNorm1d", self.head[2])

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding_of(self.features(x))

    def embedding_of(self, x: Tensor) -> Tensor:
        """Returns the embeddings of (N, C, 7, 7) outputs of the last convolution."""
        return cast("Tensor", self.head(self.dropout(self.reduction(self.norm(x)))))
