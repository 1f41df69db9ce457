"""A small residual network of dense convolutions."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from trainer.embedder.backbones.graph_weights import GraphWeights, require_same_output, set_folded


class ResidualBlock(nn.Module):
    """Two dense 3 x 3 convolutions with a shortcut (He et al., CVPR 2016) and PReLU (as in ArcFace)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.activation(self.body(x) + self.shortcut(x)))


class ResidualSmall(nn.Module):
    """3.6 M parameters. Its dense 3 x 3 convolutions train about ten times faster on a CPU than depthwise ones."""

    WIDTHS = (32, 64, 128, 256)
    DEPTHS = (1, 2, 3, 2)

    def __init__(self, embedding_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.PReLU(32)]
        channels = 32
        for width, depth in zip(self.WIDTHS, self.DEPTHS, strict=True):
            for block in range(depth):
                layers.append(ResidualBlock(channels, width, stride=2 if block == 0 else 1))
                channels = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * 4 * 4, embedding_dim, bias=False), nn.BatchNorm1d(embedding_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.head(self.dropout(self.features(x))))


def load_residual(network: ResidualSmall, graph: Path) -> None:
    """Loads the graph of a bundle. Its batch norms are folded into the convolutions and the linear layer.

    Raises:
        ValueError: The file has other weights than the network, or computes something else.
    """
    weights = GraphWeights(graph)
    layers = list(network.modules())
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    activations = [layer for layer in layers if isinstance(layer, nn.PReLU)]
    linear, last_norm = cast("nn.Linear", network.head[1]), cast("nn.BatchNorm1d", network.head[2])
    try:
        for convolution, norm, (weight, *bias) in zip(convolutions, norms, weights.of("Conv"), strict=True):
            set_folded(convolution, norm, weight, bias[0] if bias else torch.zeros(len(weight)))
        with torch.no_grad():
            for activation, (slope,) in zip(activations, weights.of("PRelu"), strict=True):
                activation.weight.copy_(slope.flatten())
        [[weight, *bias]] = weights.of("Gemm")
        set_folded(linear, last_norm, weight, bias[0] if bias else torch.zeros(len(weight)))
    except (ValueError, RuntimeError):
        raise ValueError(f"{graph} does not have the backbone's architecture with folded batch norms") from None
    require_same_output(network, graph)
