"""Writes the report of a closed-set classifier: rates, a table of people, and a confusion matrix."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from trainer import html_report
from trainer.embedder.training_log import plot_curves, read_curves
from trainer.plot_style import new_figure, save_figure
from trainer.tables import table

MAX_PLOTTED_PEOPLE = 40


@dataclass(frozen=True)
class Measurement:
    """Predictions for N pictures.

    Attributes:
        probabilities: (N, people), 0 to 1.
        numbers: (N,) index of the right person in `labels`.
    """

    probabilities: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]
    labels: list[str]

    @property
    def predictions(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def accuracy(self) -> float:
        return float((self.predictions == self.numbers).mean())

    def top(self, count: int) -> float:
        """Returns the share (0 to 1) of pictures whose person is among the `count` most probable people."""
        ranked = np.argsort(-self.probabilities, axis=1)[:, :count]
        return float((ranked == self.numbers[:, None]).any(axis=1).mean())


def write_report(measured: Measurement, top_k: int, folder: Path, pictures: str = "pictures") -> str:
    """Writes `report.md` and `confusion.png`; returns a line to print."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = (
        f"accuracy {measured.accuracy:.4f}, top-{top_k} rate {measured.top(top_k):.4f}, on {len(measured.numbers)} "
        f"{pictures} of {len(measured.labels)} people"
    )
    caption = _plot_confusion(measured, folder / "confusion.png")
    confusion = f"## Confusion matrix\n\n![confusion matrix](confusion.png)\n\n{caption}"
    parts = ["# Closed-set classifier", f"{summary}.", confusion, f"## Figures by person\n\n{_people(measured)}"]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
    return summary


def write_training_report(classifier: Measurement, centroids: Measurement, run: Path, folder: Path) -> str:
    """Writes `report.html` of a trained classifier; returns a line to print."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = read_curves(run)
    plot_curves(curves, {"accuracy": "accuracy", "top_3": "top-3 rate"}, folder / "training.png")
    methods = (("classifier", classifier), ("nearest centroid", centroids))
    rows = [(name, f"{m.accuracy:.4f}", f"{m.top(3):.4f}") for name, m in methods]
    summary = (
        f"accuracy {classifier.accuracy:.4f}, top-3 rate {classifier.top(3):.4f}, on {len(classifier.numbers)} "
        f"held-out pictures of {len(classifier.labels)} people; nearest centroid: {centroids.accuracy:.4f}"
    )
    caption = _plot_confusion(classifier, folder / "confusion.png")
    parts = [
        "# Closed-set classifier",
        f"{len(classifier.numbers)} held-out pictures of {len(classifier.labels)} people. The same pictures selected "
        "the best epoch, so that the rates are slightly too high.",
        table(("method", "accuracy", "top-3 rate"), rows),
        "## Training\n\n![loss and accuracy](training.png)",
        f"## Confusion matrix\n\n![confusion matrix](confusion.png)\n\n{caption}",
        f"## Figures by person\n\n{_people(classifier)}",
    ]
    html_report.write("\n\n".join(parts) + "\n", "Closed-set classifier", folder)
    return summary


def _people(measured: Measurement) -> str:
    numbers = np.arange(len(measured.labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        measured.numbers, measured.predictions, labels=numbers, zero_division=0.0
    )
    worst_first = np.argsort(f1, kind="stable")
    rows = [
        (measured.labels[n], f"{precision[n]:.3f}", f"{recall[n]:.3f}", f"{f1[n]:.3f}", int(support[n]))
        for n in worst_first
    ]
    return table(("person", "precision", "recall", "F1", "pictures"), rows)


def _plot_confusion(measured: Measurement, path: Path) -> str:
    """Plots the people with the most errors, and returns the caption."""
    counts = confusion_matrix(measured.numbers, measured.predictions, labels=np.arange(len(measured.labels)))
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    chosen = np.sort(np.argsort(-errors, kind="stable")[:MAX_PLOTTED_PEOPLE])
    names = [measured.labels[number] for number in chosen]
    side = max(4.0, 0.28 * len(names))
    figure, axes = new_figure(side + 2, side)
    axes.grid(visible=False)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares[np.ix_(chosen, chosen)], cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="predicted person", ylabel="right person")
    figure.colorbar(image, shrink=0.7)
    save_figure(figure, path)
    if len(measured.labels) <= MAX_PLOTTED_PEOPLE:
        return "Each row adds up to 1."
    return f"The {MAX_PLOTTED_PEOPLE} of {len(measured.labels)} people with the most errors."
