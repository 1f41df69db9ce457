"""Small networks of the architecture that `identity-trainer slim` makes slim."""

import torch

from trainer.embedder.backbones.mobilenet_v1 import MobileNetV1, Widths
from trainer.embedder.slimming import Slimmed, slim

WIDE = Widths((8,) * 14, None)
SEED = 0


def network(widths: Widths = WIDE, dim: int = 16, batches: int = 40) -> MobileNetV1:
    """Returns a network with random weights and random batch norm statistics."""
    torch.manual_seed(SEED)
    result = MobileNetV1(dim, widths=widths).eval()
    for module in result.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2)
    with torch.inference_mode():
        result.train()
        for _ in range(batches):
            result(torch.rand(8, 3, 112, 112) * 2 - 1)
    return result.eval()


def some_pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 112, 112) * 2 - 1


def slim_of(original: MobileNetV1) -> Slimmed:
    """Removes one of eight channels of each layer."""
    return slim(original, Widths((7,) * 14, 6), [some_pictures(32)])
