"""MobileFaceNet (Chen et al., CCBR 2018), and its initialisation with published weights."""

from pathlib import Path
from typing import cast

from torch import Tensor, nn

from trainer.embedder.backbones.graph_weights import GraphWeights, require_same_output, set_folded

RESIDUALS = (
    # expanded channels, channels out, stride
    (128, 64, 2),
    (128, 64, 1),
    (128, 64, 1),
    (128, 64, 1),
    (128, 64, 1),
    (256, 128, 2),
    *[(256, 128, 1)] * 6,
    (512, 128, 2),
    (256, 128, 1),
    (256, 128, 1),
)


class ConvUnit(nn.Sequential):
    """Convolution, batch norm and an optional activation."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        activation: type[nn.Module] | None = nn.ReLU6,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(channels_in, channels, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(channels),
        ]
        if activation is not None:
            layers.append(activation())
        super().__init__(*layers)


class Bottleneck(nn.Module):
    """Inverted residual block of MobileNetV2: expansion, depthwise convolution, projection.

    The block has a shortcut if input and output have the same shape.
    """

    def __init__(self, channels_in: int, expanded: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvUnit(channels_in, expanded, 1),
            ConvUnit(expanded, expanded, 3, stride, 1, groups=expanded),
            ConvUnit(expanded, channels, 1, activation=None),
        )
        self._shortcut = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        y = cast("Tensor", self.body(x))
        return x + y if self._shortcut else y


class MobileFaceNet(nn.Module):
    """1 M parameters. A depthwise convolution weights the last 7 x 7 positions instead of averaging them."""

    def __init__(self, embedding_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            ConvUnit(3, 64, 3, 2, 1),
            ConvUnit(64, 64, 3, 1, 1, groups=64, activation=nn.ReLU),
            ConvUnit(64, 64, 1, activation=nn.ReLU),
        ]
        channels = 64
        for expanded, channels_out, stride in RESIDUALS:
            layers.append(Bottleneck(channels, expanded, channels_out, stride))
            channels = channels_out
        self.features = nn.Sequential(*layers, ConvUnit(channels, 512, 1))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(
            ConvUnit(512, 512, 7, groups=512, activation=None),
            ConvUnit(512, embedding_dim, 1, activation=None),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.head(self.dropout(self.features(x))))


def load_published(encoder: nn.Module, graph: Path) -> None:
    """Loads the weights of an ONNX file of the same architecture: published ones, or those of a bundle.

    The file's batch norms are folded into its convolutions. The encoder's batch norms become the identity plus the
    folded bias; their statistics are no statistics of the data, so set freeze_batch_norm.

    Raises:
        ValueError: The file has other convolutions than the encoder, or computes something else.
    """
    published = GraphWeights(graph).of("Conv")
    units = [module for module in encoder.modules() if isinstance(module, ConvUnit)]
    shapes = [cast("nn.Conv2d", unit[0]).weight.shape for unit in units]
    if any(len(pair) != 2 for pair in published) or [weight.shape for weight, _ in published] != shapes:
        raise ValueError(f"{graph} does not have the backbone's architecture with folded batch norms")
    for unit, (weight, bias) in zip(units, published, strict=True):
        set_folded(cast("nn.Conv2d", unit[0]), cast("nn.BatchNorm2d", unit[1]), weight, bias)
    require_same_output(encoder, graph)
