"""Which parts of an encoder learn, and its layout in memory."""

import torch
from torch import nn

from trainer.configuration import ConfigError

TRUNKS = ("backbone", "features", "encoder", "layers", "blocks", "stages", "trunk_output")
"""What libraries call the part that holds the stages of a backbone one after another."""


def channels_last(model: nn.Module) -> nn.Module:
    """The memory layout that convolutions on CPUs and tensor cores want."""
    return model.to(memory_format=torch.channels_last)


def freeze_batch_norms(model: nn.Module) -> None:
    """Hold the statistics of batch norms; their scales and shifts go on learning. `train()` undoes it."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def freeze_but(encoder: nn.Module, unfrozen_stages: int) -> None:
    """Only the head, and the last stages of the backbone, learn. What doesn't is in evaluation mode, also its dropout.

    `train()` undoes the mode: call it anew in every epoch.
    """
    trunk = stages_of(encoder)
    if unfrozen_stages > len(trunk):
        raise ConfigError(f"unfrozen_stages is {unfrozen_stages}, and this backbone has {len(trunk)}")
    learning = {id(parameter) for stage in trunk[len(trunk) - unfrozen_stages :] for parameter in stage.parameters()}
    learning |= {id(parameter) for parameter in _after_trunk(encoder)}
    for parameter in encoder.parameters():
        parameter.requires_grad_(id(parameter) in learning)
    for module in encoder.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def stages_of(encoder: nn.Module) -> list[nn.Module]:
    """The parts of the backbone that follow one another, the first first."""
    trunk = encoder
    while inner := next((child for name, child in trunk.named_children() if name in TRUNKS), None):
        trunk = inner
    return [child for child in trunk.children() if any(True for _ in child.parameters())]


def _after_trunk(encoder: nn.Module) -> list[nn.Parameter]:
    """Of the head, and of norms that stand between trunk and head."""
    parameters = list(encoder.parameters())
    inside = {id(parameter) for parameter in stages_of(encoder)[-1].parameters()}
    end = max(row for row, parameter in enumerate(parameters) if id(parameter) in inside)
    return parameters[end + 1 :]
