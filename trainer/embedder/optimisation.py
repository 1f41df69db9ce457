"""Optimisers and learning-rate schedules by their names."""

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

from trainer.embedder.config import MultistepConfig, SgdConfig, StageConfig

LOWEST = 1e-3
"""Part of the rate that warming up begins with."""


def build_optimizer(stage: StageConfig, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """The stage's optimiser of the parameters that learn."""
    chosen, learning = stage.optimizer, [parameter for parameter in parameters if parameter.requires_grad]
    options: dict[str, Any] = {"lr": stage.learning_rate, "weight_decay": stage.weight_decay}
    if isinstance(chosen, SgdConfig):
        return optim.SGD(learning, momentum=chosen.momentum, nesterov=chosen.nesterov, **options)
    kind = optim.AdamW if chosen.name == "adamw" else optim.Adam
    return kind(learning, betas=chosen.betas, **options)


def build_schedule(stage: StageConfig, optimizer: optim.Optimizer, steps: int) -> LRScheduler:
    """The stage's schedule over so many steps of the optimiser."""
    chosen = stage.schedule
    if chosen.name == "one-cycle":
        return _one_cycle(stage, optimizer, steps)
    warm = round(stage.warm_up * steps)
    left = max(steps - warm, 1)
    after: LRScheduler
    if isinstance(chosen, MultistepConfig):
        milestones = sorted(max(round(part * steps) - warm, 0) for part in chosen.milestones)
        after = MultiStepLR(optimizer, milestones, chosen.factor)
    elif chosen.name == "cosine":
        after = CosineAnnealingLR(optimizer, left)
    else:
        after = ConstantLR(optimizer, factor=1.0, total_iters=1)
    if warm == 0:
        return after
    return SequentialLR(optimizer, [LinearLR(optimizer, LOWEST, total_iters=warm), after], [warm])


def _one_cycle(stage: StageConfig, optimizer: optim.Optimizer, steps: int) -> LRScheduler:
    """The momentum stays as configured. A rise of one step, which torch would divide by zero on, is left out."""
    if steps < 2:
        return ConstantLR(optimizer, factor=1.0, total_iters=1)
    rising = 0.0 if stage.warm_up * steps <= 1 else stage.warm_up
    return OneCycleLR(optimizer, stage.learning_rate, total_steps=steps, pct_start=rising, cycle_momentum=False)
