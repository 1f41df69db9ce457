"""The scaling of pixels that a library's weights were trained with."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SYMMETRIC = ((0.5, 0.5, 0.5), (128 / 255, 128 / 255, 128 / 255))
"""Mean and deviation, on values of 0 to 1, of the encoder's input: (x - 127.5) / 128."""


class LibraryScaling(nn.Module):
    """Converts the encoder's input, (x - 127.5) / 128, to the scaling that a library's weights were trained with.

    It is a part of the encoder, so that every exported format contains it.

    Args:
        mean, deviation: Of red, green and blue, on values of 0 to 1.
        more_channels: Further input channels, which stay as they are.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float], more_channels: int = 0) -> None:
        super().__init__()
        means, deviations = torch.tensor(mean), torch.tensor(deviation)
        factor = torch.cat([128 / 255 / deviations, torch.ones(more_channels)])
        offset = torch.cat([(127.5 / 255 - means) / deviations, torch.zeros(more_channels)])
        self.register_buffer("factor", factor.view(1, -1, 1, 1))
        self.register_buffer("offset", offset.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset
