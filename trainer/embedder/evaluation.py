"""1:1 figures of the whole engine on photos as people send them: decode, find the face, align, embed, compare."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.errors import RegistryError
from service.inference.bundle import Calibration, IdentificationPoint
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceChoice, Picture
from service.inference.local import LocalEngine
from service.inference.rates import rate_of_one
from trainer.embedder.calibration import GALLERY_SIZES, measured_searches
from trainer.embedder.canvases import CanvasSet
from trainer.embedder.embedding import embed_canvases
from trainer.embedder.identification import (
    ClosedSet,
    People,
    centroid_identification,
    largest_gallery,
    rank_of_mate,
)
from trainer.embedder.scores import PairScores, all_pairs, ten_fold_accuracy

Floats = npt.NDArray[np.float32]
BATCH = 8
RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
TEMPLATE_COUNTS = (1, 2, 3, 5, 10)
TEMPLATE_RATES = (1e-2, 1e-3)
HARDEST = 24
MANY_PICTURES = 80


@dataclass(frozen=True)
class TemplateFigures:
    """Errors against people with several templates.

    Attributes:
        people: how many have so many templates and a picture more.
        fmr_plain: measured at the threshold for one comparison.
        fmr, fnmr: measured at the threshold for `templates` comparisons.
    """

    templates: int
    people: int
    asked: float
    fmr_plain: float
    fmr: float
    fnmr: float


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
    people: int
    ranks: npt.NDArray[np.intp]
    searches: list[IdentificationPoint]
    hardest_genuine: list[tuple[Path, Path, float]]
    hardest_impostor: list[tuple[Path, Path, float]]

    def summary(self) -> dict[str, float]:
        """Flat figures, as they go into a manifest."""
        return {
            "photos": self.photos,
            "face_found": round(self.faces_found / self.photos, 5),
            "pairs_accuracy_10_fold": round(self.accuracy, 4),
            "pairs_accuracy_std": round(self.accuracy_std, 4),
            "cross_genuine": len(self.cross.genuine),
            "cross_impostor": len(self.cross.impostor),
            "rank_1": round(float((self.ranks < 1).mean()), 4),
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
    vectors = np.stack([embeddings[row] for row in found])  # type: ignore[misc]
    names = [photos[row].parent.name for row in found]
    cross = all_pairs(vectors, names)
    people = People(vectors, names, np.zeros((0, vectors.shape[1]), np.float32))
    sizes = (*GALLERY_SIZES, largest_gallery(people))
    genuine, impostor = _hardest(vectors, names, [photos[row] for row in found])
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
        people=len(set(names)),
        ranks=rank_of_mate(people),
        searches=[] if calibration is None else measured_searches(calibration, people, sizes),
        hardest_genuine=genuine,
        hardest_impostor=impostor,
    )


def closed_set(embedder: FaceEmbedder, canvases: CanvasSet) -> ClosedSet | None:
    """Identification through centroids among the people with the most pictures, whether they trained or not."""
    counts = Counter(canvases.identities)
    rows = [row for row, name in enumerate(canvases.identities) if name and counts[name] >= MANY_PICTURES]
    if not rows:
        return None
    embeddings, _ = embed_canvases(embedder, canvases, rows)
    return centroid_identification(embeddings, [canvases.identities[row] for row in rows])


def several_templates(embeddings: Floats, names: list[str], calibration: Calibration) -> list[TemplateFigures]:
    """Enrol n pictures of each person who has more, and compare the rest of the pictures with the nearest of them."""
    _, labels = np.unique(np.asarray(names), return_inverse=True)
    figures = []
    for count in TEMPLATE_COUNTS:
        members = np.flatnonzero(np.bincount(labels) > count)
        if len(members) < 2:
            break
        enrolled = np.stack([np.flatnonzero(labels == member)[:count] for member in members])
        probes = np.setdiff1d(np.arange(len(labels)), enrolled)
        best = np.stack([(embeddings[probes] @ embeddings[rows].T).max(axis=1) for rows in enrolled], axis=1)
        own = labels[probes][:, None] == members[None]
        for asked in TEMPLATE_RATES:
            of_one = rate_of_one(asked, count)
            if of_one < calibration.points[-1].fmr:
                continue
            plain, strict = calibration.threshold_for(asked), calibration.threshold_for(of_one)
            figures.append(
                TemplateFigures(
                    templates=count,
                    people=len(members),
                    asked=asked,
                    fmr_plain=float((best[~own] >= plain).mean()),
                    fmr=float((best[~own] >= strict).mean()),
                    fnmr=float((best[own] < strict).mean()),
                )
            )
    return figures


def embed_photos(engine: LocalEngine, photos: Sequence[Path], choice: FaceChoice) -> list[Floats | None]:
    """The embedding of each photo's chosen face, or None where none was found."""
    embeddings: list[Floats | None] = []
    for start in track(range(0, len(photos), BATCH), description="through the engine"):
        images = [Picture(path.read_bytes(), choice) for path in photos[start : start + BATCH]]
        for result in engine.observe_now(images):
            missing = isinstance(result, RegistryError) or not result.faces
            embeddings.append(None if missing else result.faces[0].embedding)  # type: ignore[union-attr]
    return embeddings


def _hardest(
    embeddings: Floats, names: list[str], photos: list[Path]
) -> tuple[list[tuple[Path, Path, float]], list[tuple[Path, Path, float]]]:
    """The genuine pairs of lowest and the impostor pairs of highest score."""
    _, labels = np.unique(np.asarray(names), return_inverse=True)
    first, second = np.triu_indices(len(names), 1)
    scores = (embeddings @ embeddings.T)[first, second]
    same = labels[first] == labels[second]

    def pictured(chosen: npt.NDArray[np.intp]) -> list[tuple[Path, Path, float]]:
        return [(photos[first[pair]], photos[second[pair]], float(scores[pair])) for pair in chosen]

    genuine, impostor = np.flatnonzero(same), np.flatnonzero(~same)
    return (
        pictured(genuine[np.argsort(scores[genuine])[:HARDEST]]),
        pictured(impostor[np.argsort(-scores[impostor])[:HARDEST]]),
    )


def _score(a: Floats | None, b: Floats | None) -> float:
    return -1.0 if a is None or b is None else float(a @ b)
