"""Reads and plots the metrics that a training run logs."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from trainer.plot_style import new_row, save_figure

METRICS = "csv*/metrics.csv"
"""An interrupted stage has several files: `csv`, then `csv-2`, `csv-3`, …"""


@dataclass
class Curve:
    """Values of one metric over the optimiser steps of a run."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def read_curves(run: Path) -> dict[str, Curve]:
    """Returns every logged metric of a run folder; the steps of its stages follow each other."""
    curves: dict[str, Curve] = {}
    first = 0
    for stage in sorted(run.glob("[0-9]*-*"), key=lambda folder: int(folder.name.partition("-")[0])):
        metrics = _read_stage(stage)
        for name, values in metrics.items():
            curve = curves.setdefault(name, Curve())
            curve.steps += [first + step for step in sorted(values)]
            curve.values += [values[step] for step in sorted(values)]
        first += 1 + max((step for values in metrics.values() for step in values), default=-1)
    return curves


def _read_stage(stage: Path) -> dict[str, dict[int, float]]:
    """Returns the value of each metric by step. Steps that a resumed stage repeated count once."""
    metrics: dict[str, dict[int, float]] = {}
    for file in sorted(stage.glob(METRICS), key=lambda path: int(path.parent.name.partition("-")[2] or 1)):
        with file.open(newline="") as opened:
            for row in csv.DictReader(opened):
                for name, value in row.items():
                    if value and name not in {"step", "epoch"}:
                        metrics.setdefault(name, {})[int(row["step"])] = float(value)
    return metrics


def plot_curves(curves: dict[str, Curve], validation: dict[str, str], path: Path) -> Path:
    """Draws the training losses, and the metrics of the validation over the steps of a run.

    Args:
        validation: metrics of the right diagram, with their names in the legend.
    """
    shown = {name: curve for name, curve in curves.items() if name in validation}
    figure, axes = new_row(2 if shown else 1)
    losses = {name: curve for name, curve in curves.items() if name.startswith("loss") or name == "validation_loss"}
    terms = [name for name in losses if name.startswith("loss_")]
    for name, curve in losses.items():
        if name == "loss" and len(terms) == 1:  # the only term is the sum
            continue
        label = "sum" if name == "loss" else name.removeprefix("loss_").replace("_", " ")
        axes[0].plot(curve.steps, curve.values, label=label, linewidth=2 if name == "loss" else 1)
    axes[0].set(xlabel="optimiser step", ylabel="loss", title="loss", ylim=(0, None))
    axes[0].legend()
    for name, curve in shown.items():
        axes[1].plot(curve.steps, curve.values, "o-", label=validation[name])
    if shown:
        axes[1].set(xlabel="optimiser step", ylabel="rate", title="held-out pictures", ylim=(None, 1.005))
        axes[1].legend()
    return save_figure(figure, path)
