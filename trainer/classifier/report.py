"""How well a closed set is told apart: rates, a table of people, a picture of who is taken for whom."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from trainer.tables import table

mpl.use("Agg")
from matplotlib import pyplot as plt

MOST_IN_PICTURE = 40


@dataclass(frozen=True)
class Measured:
    """Probabilities (N, people) for pictures that were kept back, and the numbers of their people."""

    probabilities: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]
    labels: list[str]

    @property
    def guesses(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def accuracy(self) -> float:
        return float((self.guesses == self.numbers).mean())

    def top(self, count: int) -> float:
        """How often the right person is among the likeliest `count`."""
        ranked = np.argsort(-self.probabilities, axis=1)[:, :count]
        return float((ranked == self.numbers[:, None]).any(axis=1).mean())


def write_report(measured: Measured, top_k: int, folder: Path, which: str = "") -> str:
    """`report.md`, `people.csv` as a table in it, and `confusion.png`; returns a line to print."""
    folder.mkdir(parents=True, exist_ok=True)
    said = (
        f"accuracy {measured.accuracy:.4f}, among the likeliest {top_k}: {measured.top(top_k):.4f}, on "
        f"{len(measured.numbers)} pictures of {len(measured.labels)} people{which}"
    )
    shown = _confusion(measured, folder / "confusion.png")
    picture = f"## Who is taken for whom\n\n![confusion matrix](confusion.png)\n\n{shown}"
    parts = ["# A closed set of people", f"{said}.", picture, f"## Each person\n\n{_people(measured)}"]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
    return said


def _people(measured: Measured) -> str:
    numbers = np.arange(len(measured.labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        measured.numbers, measured.guesses, labels=numbers, zero_division=0.0
    )
    worst = np.argsort(f1, kind="stable")
    rows = [
        (measured.labels[n], f"{precision[n]:.3f}", f"{recall[n]:.3f}", f"{f1[n]:.3f}", int(support[n])) for n in worst
    ]
    return table(("person", "precision", "recall", "F1", "pictures"), rows)


def _confusion(measured: Measured, path: Path) -> str:
    """The picture; of many people those who are mistaken most often."""
    counts = confusion_matrix(measured.numbers, measured.guesses, labels=np.arange(len(measured.labels)))
    mistaken = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    chosen = np.sort(np.argsort(-mistaken, kind="stable")[:MOST_IN_PICTURE])
    names = [measured.labels[number] for number in chosen]
    side = max(4.0, 0.28 * len(names))
    figure, axes = plt.subplots(figsize=(side + 2, side))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares[np.ix_(chosen, chosen)], cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="taken for", ylabel="is")
    figure.colorbar(image, shrink=0.7)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)
    if len(measured.labels) <= MOST_IN_PICTURE:
        return "Rows add up to one."
    return f"The {MOST_IN_PICTURE} of {len(measured.labels)} people who are mistaken most often."
