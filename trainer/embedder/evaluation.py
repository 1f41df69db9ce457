"""Measures the whole engine on photos: decode, detect, align, embed, compare."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import RegistryError
from service.inference.calibration import Calibration, IdentificationPoint, Interval, rate_of_one
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceChoice, Picture
from service.inference.pipeline import FacePipeline
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.bootstrap import fnmr_intervals
from trainer.embedder.calibration import GALLERY_SIZES, measured_searches
from trainer.embedder.embedding import embed_crops
from trainer.embedder.identification import (
    ClosedSet,
    People,
    centroid_identification,
    largest_gallery,
    rank_of_mate,
)
from trainer.embedder.scores import PairScores, all_pairs, ten_fold_accuracy
from trainer.progress import track

Floats = npt.NDArray[np.float32]
ScoredPair = tuple[Path, Path, float]
BATCH = 8
RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
MIN_PAIRS_ABOVE = 10
TEMPLATE_COUNTS = (1, 2, 3, 5, 10)
TEMPLATE_RATES = (1e-2, 1e-3)
HARDEST = 24
MIN_PICTURES_OF_CLOSED_SET = 80


@dataclass(frozen=True)
class TemplateFigures:
    """Errors of comparisons with people who have several templates.

    Attributes:
        people: Number of people with more than `templates` pictures.
        requested: False match rate of the request.
        fmr_plain: Measured at the threshold for one comparison.
        fmr: Measured at the threshold for `templates` comparisons.
        fnmr: Measured at the threshold for `templates` comparisons.
    """

    templates: int
    people: int
    requested: float
    fmr_plain: float
    fmr: float
    fnmr: float


@dataclass(frozen=True)
class EngineFigures:
    """Figures of one list of pairs, and of all pairs of its photos (`cross`).

    Attributes:
        accuracy: 10-fold accuracy on the listed pairs.
        tar_at_fmr: True accept rate by false match rate, on all pairs.
        fnmr_intervals: 95 % interval of the false non-match rate by false match rate, by bootstrap over people.
        measured_fmr: Measured false match rate by the false match rate of the calibrated threshold.
        ranks: Rank of the right person, from 0, of searches in a closed set.
        hardest_genuine: Pairs of one person with the lowest scores.
        hardest_impostor: Pairs of two people with the highest scores.
    """

    photos: int
    faces_detected: int
    pairs: int
    accuracy: float
    accuracy_std: float
    cross: PairScores
    tar_at_fmr: dict[float, float]
    fnmr_intervals: dict[float, Interval]
    measured_fmr: dict[float, float]
    people: int
    ranks: npt.NDArray[np.intp]
    searches: list[IdentificationPoint]
    hardest_genuine: list[ScoredPair]
    hardest_impostor: list[ScoredPair]

    def summary(self) -> dict[str, float]:
        """Returns the figures for a manifest."""
        return {
            "photos": self.photos,
            "face_found": round(self.faces_detected / self.photos, 5),
            "pairs_accuracy_10_fold": round(self.accuracy, 4),
            "pairs_accuracy_std": round(self.accuracy_std, 4),
            "cross_genuine": len(self.cross.genuine),
            "cross_impostor": len(self.cross.impostor),
            "roc_auc": round(self.cross.area_under_roc, 5),
            "rank_1": round(float((self.ranks < 1).mean()), 4),
            **{f"tar_at_fmr_{rate:g}": round(value, 4) for rate, value in self.tar_at_fmr.items()},
            **{f"measured_fmr_at_calibrated_{rate:g}": float(f"{v:.3g}") for rate, v in self.measured_fmr.items()},
        }


def evaluate(
    engine: FacePipeline,
    folder: Path,
    calibration: Calibration | None,
    choice: FaceChoice = FaceChoice.STRONGEST,
) -> EngineFigures:
    """Measures `pairs.csv` (image_a, image_b, same) and the photos beside it, `<identity>/<photo>.jpg`.

    The score of a listed pair is -1 if a photo shows no face, so that a missed face counts as an error.
    """
    photos = sorted(path for path in folder.rglob("*.jpg"))
    embeddings = embed_photos(engine, photos, choice)
    scores, same = _listed_pairs(folder, photos, embeddings)
    accuracy, deviation = ten_fold_accuracy(scores, same)
    rows = [row for row, embedding in enumerate(embeddings) if embedding is not None]
    vectors = np.stack([embeddings[row] for row in rows])  # type: ignore[misc]
    names = [photos[row].parent.name for row in rows]
    cross = all_pairs(vectors, names)
    people = People(vectors, names, np.zeros((0, vectors.shape[1]), np.float32))
    sizes = (*GALLERY_SIZES, largest_gallery(people))
    genuine, impostor = hardest_pairs(vectors, names, [photos[row] for row in rows])
    rates = [rate for rate in RATES if rate * len(cross.impostor) >= MIN_PAIRS_ABOVE]
    thresholds = {rate: cross.threshold_at(rate) for rate in rates}
    points = [point for point in (calibration.points if calibration else []) if point.fmr in RATES]
    return EngineFigures(
        photos=len(photos),
        faces_detected=len(rows),
        pairs=len(scores),
        accuracy=accuracy,
        accuracy_std=deviation,
        cross=cross,
        tar_at_fmr={rate: cross.true_accept_rate(thresholds[rate]) for rate in rates},
        fnmr_intervals=fnmr_intervals(vectors, names, thresholds),
        measured_fmr={point.fmr: cross.false_match_rate(point.threshold) for point in points},
        people=len(set(names)),
        ranks=rank_of_mate(people),
        searches=[] if calibration is None else measured_searches(calibration, people, sizes),
        hardest_genuine=genuine,
        hardest_impostor=impostor,
    )


def closed_set(embedder: FaceEmbedder, crops: AlignedCrops) -> ClosedSet | None:
    """Measures identification by centroids among people with at least 80 pictures; None if there are none."""
    counts = Counter(crops.identities)
    rows = [row for row, name in enumerate(crops.identities) if name and counts[name] >= MIN_PICTURES_OF_CLOSED_SET]
    if not rows:
        return None
    embeddings, _ = embed_crops(embedder, crops, rows)
    return centroid_identification(embeddings, [crops.identities[row] for row in rows])


def several_templates(embeddings: Floats, names: list[str], calibration: Calibration) -> list[TemplateFigures]:
    """Enrols n pictures of each person who has more, and compares the other pictures with the nearest template."""
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
        for requested in TEMPLATE_RATES:
            of_one = rate_of_one(requested, count)
            if of_one < calibration.points[-1].fmr:
                continue
            plain, strict = calibration.threshold_for(requested), calibration.threshold_for(of_one)
            figures.append(
                TemplateFigures(
                    templates=count,
                    people=len(members),
                    requested=requested,
                    fmr_plain=float((best[~own] >= plain).mean()),
                    fmr=float((best[~own] >= strict).mean()),
                    fnmr=float((best[own] < strict).mean()),
                )
            )
    return figures


def embed_photos(engine: FacePipeline, photos: Sequence[Path], choice: FaceChoice) -> list[Floats | None]:
    """Returns the normalised embedding of each photo's chosen face; None if the photo shows no face."""
    embeddings: list[Floats | None] = []
    for start in track(range(0, len(photos), BATCH), description="embedding photos"):
        images = [Picture(path.read_bytes(), choice) for path in photos[start : start + BATCH]]
        for result in engine.observe_files(images):
            has_face = not isinstance(result, RegistryError) and bool(result.faces)
            embeddings.append(result.faces[0].embedding if has_face else None)  # type: ignore[union-attr]
    return embeddings


def _listed_pairs(
    folder: Path, photos: list[Path], embeddings: list[Floats | None]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Returns the scores of the pairs in `pairs.csv`, and which of them show one person."""
    rows = {str(path.relative_to(folder)): row for row, path in enumerate(photos)}
    with (folder / "pairs.csv").open() as file:
        lines = list(csv.DictReader(file))
    scores = [_score(embeddings[rows[line["image_a"]]], embeddings[rows[line["image_b"]]]) for line in lines]
    return np.array(scores), np.array([line["same"] == "1" for line in lines])


def hardest_pairs(
    embeddings: Floats, names: list[str], photos: list[Path]
) -> tuple[list[ScoredPair], list[ScoredPair]]:
    """Returns the genuine pairs with the lowest scores and the impostor pairs with the highest scores."""
    _, labels = np.unique(np.asarray(names), return_inverse=True)
    first, second = np.triu_indices(len(names), 1)
    scores = (embeddings @ embeddings.T)[first, second]
    same = labels[first] == labels[second]

    def scored(chosen: npt.NDArray[np.intp]) -> list[ScoredPair]:
        return [(photos[first[pair]], photos[second[pair]], float(scores[pair])) for pair in chosen]

    genuine, impostor = np.flatnonzero(same), np.flatnonzero(~same)
    return (
        scored(genuine[np.argsort(scores[genuine])[:HARDEST]]),
        scored(impostor[np.argsort(-scores[impostor])[:HARDEST]]),
    )


def _score(a: Floats | None, b: Floats | None) -> float:
    return -1.0 if a is None or b is None else float(a @ b)
