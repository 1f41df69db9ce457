"""Freezes parts of an encoder, and sets its memory layout."""

import itertools
from typing import Any

import torch
from torch import nn

from trainer.configuration import ConfigError

TRUNKS = ("backbone", "features", "encoder", "layers", "blocks", "stages", "trunk_output")
"""Names that libraries use for the module that contains the blocks of a backbone."""
SMALL_GROUP = 2
"""Number of parameters of a norm or a convolution alone."""
Stage = list[nn.Parameter]


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


def freeze_but(encoder: nn.Module, unfrozen_stages: int, input_size: int) -> None:
    """Freezes the encoder except its head and the last stages of the backbone.

    Frozen modules are in evaluation mode, including their dropout. `train()` reverts the mode, so call this at the
    start of each epoch.

    Raises:
        ConfigError: The backbone has fewer stages.
    """
    stages = stages_of(encoder, input_size)
    if unfrozen_stages > len(stages):
        raise ConfigError(f"unfrozen_stages is {unfrozen_stages} but this backbone has {len(stages)} stages; lower it")
    trained = itertools.chain(*stages[len(stages) - unfrozen_stages :], _after(encoder, stages[-1]))
    trainable = {id(parameter) for parameter in trained}
    for parameter in encoder.parameters():
        parameter.requires_grad_(id(parameter) in trainable)
    for module in encoder.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def stages_of(encoder: nn.Module, input_size: int) -> list[Stage]:
    """Returns the parameters of each stage of the backbone in order.

    A model of timm groups its layers itself. In other models, consecutive blocks with the same resolution form a stage;
    a transformer has the same resolution throughout, and each of its blocks is a stage.
    """
    backbone = getattr(encoder, "backbone", encoder)
    if hasattr(backbone, "group_matcher"):
        return _timm_groups(backbone)
    return _groups_of_one_resolution(encoder, input_size)


def _timm_groups(backbone: Any) -> list[Stage]:
    from timm.models import group_parameters

    parameters = dict(backbone.named_parameters())
    groups = group_parameters(backbone, backbone.group_matcher(coarse=True))
    stages = [[parameters[name] for name in groups[key] if name in parameters] for key in sorted(groups)]
    stages = [stage for stage in stages if stage]
    if len(stages) > 1 and len(stages[-1]) <= SMALL_GROUP:
        stages[-2:] = [stages[-2] + stages[-1]]
    return stages


def _groups_of_one_resolution(encoder: nn.Module, input_size: int) -> list[Stage]:
    blocks = _blocks(encoder)
    shapes = _output_shapes(encoder, blocks, input_size)
    stages: list[Stage] = []
    previous: tuple[int, ...] | None = None
    for block, shape in zip(blocks, shapes, strict=True):
        resolution = shape[2:] if len(shape) == 4 else None
        if not stages or resolution is None or resolution != previous:
            stages.append([])
        stages[-1] += list(block.parameters())
        previous = resolution
    return [stage for stage in stages if stage]


def _blocks(encoder: nn.Module) -> list[nn.Module]:
    """Returns the blocks of the backbone in order."""
    trunk = encoder
    while inner := next((child for name, child in trunk.named_children() if name in TRUNKS), None):
        trunk = inner
    return [child for child in trunk.children() if any(True for _ in child.parameters())]


def _output_shapes(encoder: nn.Module, blocks: list[nn.Module], input_size: int) -> list[tuple[int, ...]]:
    """Runs the encoder once. A block that does not run gets the shape ()."""
    shapes: dict[int, tuple[int, ...]] = {}

    def record(module: nn.Module, _: Any, output: Any) -> None:
        shapes[id(module)] = tuple(output.shape) if isinstance(output, torch.Tensor) else ()

    handles = [block.register_forward_hook(record) for block in blocks]
    modes = [(module, module.training) for module in encoder.modules()]
    first = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, first.in_channels, input_size, input_size, device=first.weight.device))
    finally:
        for module, training in modes:
            module.training = training
        for handle in handles:
            handle.remove()
    return [shapes.get(id(block), ()) for block in blocks]


def _after(encoder: nn.Module, last: Stage) -> Stage:
    """Returns the parameters of the head and of norms between the last stage and the head."""
    parameters = list(encoder.parameters())
    inside = {id(parameter) for parameter in last}
    end = max(row for row, parameter in enumerate(parameters) if id(parameter) in inside)
    return parameters[end + 1 :]
