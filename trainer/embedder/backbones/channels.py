"""Extends an encoder by input channels after red, green and blue."""

import torch
from torch import Tensor, nn


def widen_first_convolution(model: nn.Module, channels: int) -> None:
    """Adds `channels` inputs to the first convolution; their weights are the mean of the original weights."""
    name, layer = next((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d))
    wider = nn.Conv2d(
        layer.in_channels + channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )
    with torch.no_grad():
        wider.weight.copy_(widened(layer.weight, layer.in_channels + channels))
        if layer.bias is not None and wider.bias is not None:
            wider.bias.copy_(layer.bias)
    parent, _, attribute = name.rpartition(".")
    owner = model.get_submodule(parent)
    if isinstance(owner, nn.Sequential):
        owner[int(attribute)] = wider
    else:
        setattr(owner, attribute, wider)


def widened(weight: Tensor, channels: int) -> Tensor:
    """Returns an (out, in, k, k) weight with `channels` inputs; each new input has the mean of the others' weights."""
    additional = weight.mean(dim=1, keepdim=True).expand(-1, channels - weight.shape[1], -1, -1)
    return torch.cat([weight, additional], dim=1)
