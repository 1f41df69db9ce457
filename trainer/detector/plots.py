"""Precision-recall curves."""

from pathlib import Path

from trainer.detector.evaluation import MIN_FACE_PX, DetectionFigures


def precision_recall(figures: dict[str, DetectionFigures], title: str, path: Path) -> None:
    """One curve for each detector, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 5))
    for name, values in figures.items():
        axes.plot(values.recall, values.precision, label=f"{name} (AP50 {values.ap50:.3f})")
    axes.set(
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1),
        ylim=(0, 1.02),
        title=f"{title}: faces of {MIN_FACE_PX} px or more",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
