"""The style of every figure: one size of text, one grid, one resolution, no time stamps.

Importing this module selects Matplotlib's Agg backend, which needs no display.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes as Axes
from matplotlib.figure import Figure as Figure

WIDTH, HEIGHT = 6.0, 4.5
"""Inches of one diagram."""
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.which": "both",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.alpha": 0.3,
    "savefig.bbox": "tight",
    "savefig.dpi": 200,  # legible in print
    "svg.hashsalt": "identity-registry",  # the same numbers produce the same SVG file
}


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Returns a figure of one diagram; width and height in inches."""
    with mpl.rc_context(STYLE):
        return plt.subplots(figsize=(width, height))


def new_row(columns: int, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """Returns a figure of several diagrams in one row; width and height in inches of each."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(columns * width, height), squeeze=False)
    return figure, list(axes[0])


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes the figure as PNG or SVG by the suffix of `path`, closes it, and returns `path`."""
    with mpl.rc_context(STYLE):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return path
