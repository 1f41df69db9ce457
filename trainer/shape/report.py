"""What turning a face costs, and what the landmark autoencoder makes of it, as Markdown with a plot."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from trainer.shape.autoencoder import ShapeErrors
from trainer.shape.verification import Bin
from trainer.tables import table

mpl.use("Agg")
from matplotlib import pyplot as plt


def errors_table(errors: ShapeErrors) -> str:
    """How near each guess of the canonical landmarks comes."""
    words = f"{errors.faces:,} faces of {errors.people} people who trained nothing; mean distance in eye distances."
    rows = (
        ("the landmarks as they are", f"{errors.untouched:.4f}"),
        ("turned to the front as the average head", f"{errors.turned_back:.4f}"),
        ("everybody's mean face", f"{errors.everybody:.4f}"),
        ("the autoencoder", f"{errors.restored:.4f}"),
    )
    return f"{words}\n\n{table(('canonical landmarks by', 'error'), rows)}"


def write_report(usual: Sequence[Bin], anew: Sequence[Bin], canonical: Sequence[Bin], folder: Path) -> str:
    """`report.md` and `yaw.png`; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        (f"{one.low:.0f} to {one.high:.0f}", f"{one.genuine:,}", *(f"{way.tar:.4f}" for way in (one, two, three)))
        for one, two, three in zip(usual, anew, canonical, strict=True)
    ]
    head = ("yaw of the more turned face", "genuine pairs", "TAR, canvases as they are", "aligned anew", "canonically")
    text = table(head, rows)
    figure, axes = plt.subplots(figsize=(6, 3.6))
    places = [f"{one.low:.0f} to {one.high:.0f}" for one in usual]
    axes.plot(places, [one.tar for one in usual], "o:", label="canvases as they are")
    axes.plot(places, [one.tar for one in anew], "o-", label="aligned anew, as the service does")
    axes.plot(places, [one.tar for one in canonical], "o--", label="by canonical landmarks")
    axes.set(xlabel="yaw of the more turned face", ylabel="true accept rate", ylim=(0, 1))
    axes.legend()
    figure.savefig(folder / "yaw.png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    words = "One threshold for all pairs, at FMR 1e-3 over them."
    (folder / "report.md").write_text(f"# Verification by yaw\n\n{words}\n\n{text}\n\n![by yaw](yaw.png)\n")
    return text
