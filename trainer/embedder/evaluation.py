"""1:1 figures of the whole engine on photos as people send them: decode, find the face, align, embed, compare."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.errors import RegistryError
from service.inference.bundle import Calibration
from service.inference.engine import FaceChoice, ImageInput
from service.inference.local import LocalEngine
from trainer.embedder.scores import PairScores, all_pairs, ten_fold_accuracy

Floats = npt.NDArray[np.float32]
BATCH = 8
RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class EngineFigures:
    """What was measured on one set of pairs and on all cross pairs of its photos."""

    photos: int
    faces_found: int
    pairs: int
    accuracy: float
    accuracy_std: float
    cross: PairScores
    tar_at_fmr: dict[float, float]
    measured_fmr: dict[float, float]

    def summary(self) -> dict[str, float]:
        """Flat figures, as they go into a manifest."""
        return {
            "photos": self.photos,
            "face_found": round(self.faces_found / self.photos, 5),
            "pairs_accuracy_10_fold": round(self.accuracy, 4),
            "pairs_accuracy_std": round(self.accuracy_std, 4),
            "cross_genuine": len(self.cross.genuine),
            "cross_impostor": len(self.cross.impostor),
            **{f"tar_at_fmr_{rate:g}": round(value, 4) for rate, value in self.tar_at_fmr.items()},
            **{f"measured_fmr_at_calibrated_{rate:g}": float(f"{v:.3g}") for rate, v in self.measured_fmr.items()},
        }


def evaluate(
    engine: LocalEngine,
    folder: Path,
    calibration: Calibration | None,
    choice: FaceChoice = FaceChoice.STRONGEST,
) -> EngineFigures:
    """Measure on `pairs.csv` (image_a, image_b, same) and the photos beside it, `<identity>/<photo>`.

    A photo without a face takes part in its pairs with a score of -1: not finding a face is an error too.
    """
    photos = sorted(path for path in folder.rglob("*.jpg"))
    embeddings = embed_photos(engine, photos, choice)
    rows = {str(path.relative_to(folder)): row for row, path in enumerate(photos)}
    with (folder / "pairs.csv").open() as file:
        pairs = [(rows[line["image_a"]], rows[line["image_b"]], line["same"] == "1") for line in csv.DictReader(file)]
    scores = np.array([_score(embeddings[a], embeddings[b]) for a, b, _ in pairs])
    accuracy, deviation = ten_fold_accuracy(scores, np.array([same for _, _, same in pairs]))
    found = [row for row, embedding in enumerate(embeddings) if embedding is not None]
    cross = all_pairs(
        np.stack([embeddings[row] for row in found]),  # type: ignore[misc]
        [photos[row].parent.name for row in found],
    )
    return EngineFigures(
        photos=len(photos),
        faces_found=len(found),
        pairs=len(pairs),
        accuracy=accuracy,
        accuracy_std=deviation,
        cross=cross,
        tar_at_fmr={
            rate: cross.true_accept_rate(cross.threshold_at(rate)) for rate in RATES if rate * len(cross.impostor) >= 10
        },
        measured_fmr={
            point.fmr: cross.false_match_rate(point.threshold)
            for point in (calibration.points if calibration else [])
            if point.fmr in RATES
        },
    )


def embed_photos(engine: LocalEngine, photos: Sequence[Path], choice: FaceChoice) -> list[Floats | None]:
    """The embedding of each photo's chosen face, or None where none was found."""
    embeddings: list[Floats | None] = []
    for start in track(range(0, len(photos), BATCH), description="through the engine"):
        images = [ImageInput(path.read_bytes(), choice) for path in photos[start : start + BATCH]]
        for result in engine.observe_now(images):
            missing = isinstance(result, RegistryError) or not result.faces
            embeddings.append(None if missing else result.faces[0].embedding)  # type: ignore[union-attr]
    return embeddings


def plot(figures: EngineFigures, path: Path) -> None:
    """DET curve and score histograms."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cross = figures.cross
    thresholds = np.linspace(-0.2, 1.0, 400)
    fmr = np.array([cross.false_match_rate(value) for value in thresholds])
    fnmr = np.array([1 - cross.true_accept_rate(value) for value in thresholds])
    figure, (curve, histogram) = pyplot.subplots(1, 2, figsize=(11, 4.5))
    curve.plot(fmr, fnmr)
    curve.set(xscale="log", yscale="log", xlabel="false match rate", ylabel="false non-match rate", title="DET")
    curve.grid(which="both", alpha=0.3)
    bins = np.linspace(-0.5, 1, 90).tolist()
    histogram.hist(cross.impostor, bins, density=True, alpha=0.6, label=f"{len(cross.impostor):,} impostor pairs")
    histogram.hist(cross.genuine, bins, density=True, alpha=0.6, label=f"{len(cross.genuine):,} genuine pairs")
    histogram.set(xlabel="comparison score", title="scores")
    histogram.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def _score(a: Floats | None, b: Floats | None) -> float:
    return -1.0 if a is None or b is None else float(a @ b)
