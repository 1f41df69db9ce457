"""Freezes parts of an encoder, and sets its memory layout."""

import torch
from torch import nn

from trainer.configuration import ConfigError

TRUNKS = ("backbone", "features", "encoder", "layers", "blocks", "stages", "trunk_output")
"""Names that libraries use for the module that contains the stages of a backbone."""


def channels_last(model: nn.Module) -> nn.Module:
    """Converts the model to the channels-last layout, which is fastest for convolutions on CPUs and tensor cores."""
    return model.to(memory_format=torch.channels_last)


def freeze_batch_norms(model: nn.Module) -> None:
    """Freezes the statistics of batch norms; their scales and shifts are still trained.

    `train()` reverts this, so call it at the start of each epoch.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def freeze_but(encoder: nn.Module, unfrozen_stages: int) -> None:
    """Freezes the encoder except its head and the last stages of the backbone.

    Frozen modules are in evaluation mode, including their dropout. `train()` reverts the mode, so call this at the
    start of each epoch.

    Raises:
        ConfigError: The backbone has fewer stages.
    """
    trunk = stages_of(encoder)
    if unfrozen_stages > len(trunk):
        raise ConfigError(f"unfrozen_stages is {unfrozen_stages} but this backbone has {len(trunk)} stages; lower it")
    trainable = {id(parameter) for stage in trunk[len(trunk) - unfrozen_stages :] for parameter in stage.parameters()}
    trainable |= {id(parameter) for parameter in _after_trunk(encoder)}
    for parameter in encoder.parameters():
        parameter.requires_grad_(id(parameter) in trainable)
    for module in encoder.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def stages_of(encoder: nn.Module) -> list[nn.Module]:
    """Returns the stages of the backbone in order."""
    trunk = encoder
    while inner := next((child for name, child in trunk.named_children() if name in TRUNKS), None):
        trunk = inner
    return [child for child in trunk.children() if any(True for _ in child.parameters())]


def _after_trunk(encoder: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters of the head and of norms between trunk and head."""
    parameters = list(encoder.parameters())
    inside = {id(parameter) for parameter in stages_of(encoder)[-1].parameters()}
    end = max(row for row, parameter in enumerate(parameters) if id(parameter) in inside)
    return parameters[end + 1 :]
