"""Plots precision-recall curves."""

from pathlib import Path

from trainer.detector.evaluation import MIN_FACE_PX, DetectionMetrics
from trainer.plot_style import new_figure, save_figure


def precision_recall(metrics: dict[str, DetectionMetrics], title: str, path: Path) -> None:
    """Plots one curve per detector into one figure."""
    figure, axes = new_figure()
    for name, values in metrics.items():
        axes.plot(values.recall, values.precision, label=f"{name} (AP50 {values.ap50:.3f})")
    axes.set(
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1),
        ylim=(0, 1.02),
        title=f"{title}: faces of {MIN_FACE_PX} px or more",
    )
    axes.legend(loc="lower left")
    save_figure(figure, path)
