"""`python -m tools.centroids`: compares methods to compute a centroid with the plain mean.

Enrols held-out people with five pictures each, of which one may be bad: a picture of another person (a label error), or
a blurred and darkened one. The other pictures of every person are compared with the centroids of all people. All
methods use the same pictures. Differences from the plain mean have a 95 % interval by bootstrap over people.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from service.gallery.index.centroids import centroid_of
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from trainer.archives import unpack
from trainer.embedder.aligned_crops import centre_crops, load_aligned_crops
from trainer.embedder.calibration import rows_of_part
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.embedding import embed_crops
from trainer.embedder.split import Part
from trainer.tables import table

Floats = npt.NDArray[np.float32]
ENROLLED = 5
FMR = 1e-3
ROUNDS = 10
RESAMPLES = 1000
OUTLIER_FRACTION = 0.5
"""A template is an outlier if its similarity to the mean of the others is below this fraction of the median one."""


@dataclass(frozen=True)
class Person:
    """(N, D) normalised embeddings of one person's pictures with their (N,) lengths before normalisation.

    `degraded` and `degraded_lengths` are those of the same pictures after blurring and darkening.
    """

    embeddings: Floats
    lengths: Floats
    degraded: Floats
    degraded_lengths: Floats


def plain_mean(embeddings: Floats, _: Floats) -> Floats:
    return centroid_of(embeddings)


def by_length(embeddings: Floats, lengths: Floats) -> Floats:
    """Weights each embedding by its length before normalisation, from which the quality score is computed."""
    return centroid_of(embeddings * (lengths / lengths.mean())[:, None])


def by_squared_length(embeddings: Floats, lengths: Floats) -> Floats:
    return by_length(embeddings, lengths**2)


def without_outliers(embeddings: Floats, _: Floats) -> Floats:
    """Leaves out outliers, at most two of five templates."""
    return centroid_of(embeddings[_is_inlier(embeddings)])


def without_outliers_by_length(embeddings: Floats, lengths: Floats) -> Floats:
    inliers = _is_inlier(embeddings)
    return by_length(embeddings[inliers], lengths[inliers])


def _is_inlier(embeddings: Floats) -> npt.NDArray[np.bool_]:
    others = embeddings.sum(axis=0)[None] - embeddings
    similarity = (embeddings * others).sum(axis=1) / np.linalg.norm(others, axis=1)
    return np.asarray(similarity >= OUTLIER_FRACTION * np.median(similarity))


REFERENCE = "plain mean"
METHODS: dict[str, Callable[[Floats, Floats], Floats]] = {
    REFERENCE: plain_mean,
    "weighted by length": by_length,
    "weighted by squared length": by_squared_length,
    "without outliers": without_outliers,
    "without outliers, weighted by length": without_outliers_by_length,
}
"""Functions of (n, D) embeddings and (n,) lengths that return a (D,) normalised centroid."""
GOOD, WRONG_PERSON, DEGRADED = CONDITIONS = (
    "five good pictures",
    "one picture of another person",
    "one blurred and dark picture",
)


def main(
    identities: Annotated[
        list[Path],
        typer.Option(help="Folder or zip archive of <identity>/<aligned crop>; held-out people are used; repeatable."),
    ],
    config: Annotated[
        Path, typer.Option(help="YAML file that trained the embedder; its `split` says which people are held out.")
    ] = Path("configs/train.yaml"),
    work: Annotated[Path, typer.Option(help="Folder for extracted archives and cached artefacts.")] = Path("runs/data"),
) -> None:
    """Print rank-1 identification rates and true accept rates at FMR 1e-3 by condition and method."""
    people = _people(identities, config, work)
    typer.echo(f"{len(people)} people, {ENROLLED} enrolled pictures per person, {ROUNDS} rounds")
    for condition in CONDITIONS:
        rank_one, accepted = _measure(people, condition)
        rows = [
            (name, *_cells(rank_one[name], rank_one[REFERENCE]), *_cells(accepted[name], accepted[REFERENCE]))
            for name in METHODS
        ]
        typer.echo(f"\n{condition}\n")
        typer.echo(table(("centroid", "rank 1", "difference", f"TAR at FMR {FMR:g}", "difference"), rows))


def _people(identities: list[Path], config: Path, work: Path) -> list[Person]:
    aligned = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    embedder = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions())
    rows = rows_of_part(aligned, EmbedderConfig.load(config).split, Part.CALIBRATION)
    names = np.array([aligned.identities[row] for row in rows])
    embeddings, lengths = embed_crops(embedder, aligned, rows)
    crops = centre_crops(aligned.pictures[rows], embedder.manifest.input_size)
    dark = [(cv2.GaussianBlur(crop, (0, 0), 5) * 0.25).astype(np.uint8) for crop in crops]
    degraded, degraded_lengths = embedder.embed_with_lengths(dark)
    return [
        Person(embeddings[own], lengths[own], degraded[own], degraded_lengths[own])
        for own in (names == name for name in np.unique(names))
        if own.sum() > ENROLLED
    ]


def _measure(people: list[Person], condition: str) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Returns for each method (people,) shares of probes whose own centroid is the nearest, and of accepted probes."""
    rank_one = {name: np.zeros(len(people), np.float32) for name in METHODS}
    accepted = {name: np.zeros(len(people), np.float32) for name in METHODS}
    rng = np.random.default_rng(0)
    for _ in track(range(ROUNDS), description=condition, transient=True):
        orders = [rng.permutation(len(person.embeddings)) for person in people]
        strangers = rng.permutation(len(people))
        enrolled = [
            _enrol(person, order[:ENROLLED], condition, people[stranger])
            for person, order, stranger in zip(people, orders, strangers, strict=True)
        ]
        probes = [person.embeddings[order[ENROLLED:]] for person, order in zip(people, orders, strict=True)]
        for name, method in METHODS.items():
            centroids = np.stack([method(*samples) for samples in enrolled])
            scores = [probe @ centroids.T for probe in probes]
            own = [row[:, index] for index, row in enumerate(scores)]
            impostors = np.concatenate([np.delete(row, index, axis=1).ravel() for index, row in enumerate(scores)])
            threshold = np.quantile(impostors, 1 - FMR)
            for index, (row, genuine) in enumerate(zip(scores, own, strict=True)):
                rank_one[name][index] += float((row.argmax(axis=1) == index).mean()) / ROUNDS
                accepted[name][index] += float((genuine >= threshold).mean()) / ROUNDS
    return rank_one, accepted


def _enrol(person: Person, chosen: npt.NDArray[np.intp], condition: str, stranger: Person) -> tuple[Floats, Floats]:
    """Returns embeddings and lengths of the chosen pictures; the condition may replace the first picture."""
    embeddings, lengths = person.embeddings[chosen].copy(), person.lengths[chosen].copy()
    if condition == WRONG_PERSON:
        embeddings[0], lengths[0] = stranger.embeddings[0], stranger.lengths[0]
    elif condition == DEGRADED:
        embeddings[0], lengths[0] = person.degraded[chosen[0]], person.degraded_lengths[chosen[0]]
    return embeddings, lengths


def _cells(values: Floats, reference: Floats) -> tuple[str, str]:
    """Formats the mean over people, and its difference from the reference with a 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile((values - reference)[drawn].mean(axis=1), [0.025, 0.975])
    difference = "" if values is reference else f"{(values - reference).mean():+.4f} ({low:+.4f} to {high:+.4f})"
    return f"{values.mean():.4f}", difference


if __name__ == "__main__":
    typer.run(main)
