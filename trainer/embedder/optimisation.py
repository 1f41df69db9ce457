"""Builds optimisers and learning-rate schedules from their settings."""

from collections.abc import Iterable
from typing import Any

from torch import nn, optim
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)

from trainer.embedder.optimiser_config import CosineConfig, MultistepConfig, SgdConfig
from trainer.embedder.stage_config import StageConfig

WARM_UP_START = 1e-3
"""Fraction of the learning rate at which warm-up starts."""


def build_optimizer(stage: StageConfig, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Returns the optimiser of a stage for the parameters that require a gradient."""
    settings, trainable = stage.optimizer, [parameter for parameter in parameters if parameter.requires_grad]
    options: dict[str, Any] = {"lr": stage.learning_rate, "weight_decay": stage.weight_decay}
    if isinstance(settings, SgdConfig):
        return optim.SGD(trainable, momentum=settings.momentum, nesterov=settings.nesterov, **options)
    kind = optim.AdamW if settings.name == "adamw" else optim.Adam
    return kind(trainable, betas=settings.betas, **options)


def build_schedule(stage: StageConfig, optimizer: optim.Optimizer, steps: int) -> LRScheduler:
    """Returns the learning-rate schedule of a stage with `steps` optimiser steps."""
    settings = stage.schedule
    if settings.name == "one-cycle":
        return _one_cycle(stage, optimizer, steps)
    warm_up = round(stage.warm_up * steps)
    remaining = max(steps - warm_up, 1)
    main: LRScheduler
    per_epoch = steps / stage.epochs
    if isinstance(settings, MultistepConfig):
        positions = (part * (per_epoch if isinstance(part, int) else steps) for part in settings.milestones)
        main = MultiStepLR(optimizer, sorted(max(round(step) - warm_up, 0) for step in positions), settings.factor)
    elif isinstance(settings, CosineConfig):
        period = remaining if settings.t_max is None else max(round(settings.t_max * per_epoch), 1)
        main = CosineAnnealingLR(optimizer, period)
    else:
        main = ConstantLR(optimizer, factor=1.0, total_iters=1)
    if warm_up == 0:
        return main
    return SequentialLR(optimizer, [LinearLR(optimizer, WARM_UP_START, total_iters=warm_up), main], [warm_up])


def _one_cycle(stage: StageConfig, optimizer: optim.Optimizer, steps: int) -> LRScheduler:
    """Keeps the momentum constant. Omits a rise of one step, on which torch would divide by zero."""
    if steps < 2:
        return ConstantLR(optimizer, factor=1.0, total_iters=1)
    rise = 0.0 if stage.warm_up * steps <= 1 else stage.warm_up
    return OneCycleLR(optimizer, stage.learning_rate, total_steps=steps, pct_start=rise, cycle_momentum=False)
