"""Draws the memory of each process over time."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from tools.soak.memory import Series


def draw(series: Mapping[str, Series], warm_up_s: float, file: Path) -> None:
    """Writes a plot; the grey area is the warm-up, which the growth does not include."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, values in series.items():
        axes.plot([second / 60 for second in values.seconds], values.mib, label=name)
    axes.axvspan(0, warm_up_s / 60, color="0.93")
    axes.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), title="Memory at 80 % of the capacity")
    axes.grid(color="0.9")
    axes.legend()
    figure.savefig(file, dpi=120)
