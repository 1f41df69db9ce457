"""`python -m tools.centroids`: is there a better centroid than the plain mean?

People that the model never saw are enrolled with five pictures each, of which one may be bad: another person's (a label
error), or the person's own, blurred and darkened. Their other pictures are compared with everybody's centroid. Every
way of making the centroid sees the same pictures; differences to the plain mean come with a 95 % interval by bootstrap
over people.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import typer

from service.gallery.people.templates import centroid_of
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from trainer.archives import unpack
from trainer.embedder.calibration import held_out_rows
from trainer.embedder.canvases import load_canvases, middle_crops
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.embedding import embed_canvases
from trainer.embedder.split import Part
from trainer.tables import table

Floats = npt.NDArray[np.float32]
ENROLLED = 5
FMR = 1e-3
ROUNDS = 10
RESAMPLES = 1000
OUTLIER = 0.5
"""A template that is less than so near to the others' mean as the median one is left out."""


@dataclass(frozen=True)
class Person:
    """Embeddings and lengths of one person's pictures, and of the same pictures blurred and darkened."""

    embeddings: Floats
    lengths: Floats
    spoilt: Floats
    spoilt_lengths: Floats


def plain(embeddings: Floats, _: Floats) -> Floats:
    return centroid_of(embeddings)


def by_length(embeddings: Floats, lengths: Floats) -> Floats:
    """Weighted by the embedding's length before normalisation, which is what the quality score is made of."""
    return centroid_of(embeddings * (lengths / lengths.mean())[:, None])


def by_squared_length(embeddings: Floats, lengths: Floats) -> Floats:
    return by_length(embeddings, lengths**2)


def without_outliers(embeddings: Floats, _: Floats) -> Floats:
    """Templates that point elsewhere than the others do are left out, two of five at most."""
    return centroid_of(embeddings[_agreeing(embeddings)])


def both(embeddings: Floats, lengths: Floats) -> Floats:
    kept = _agreeing(embeddings)
    return by_length(embeddings[kept], lengths[kept])


def _agreeing(embeddings: Floats) -> npt.NDArray[np.bool_]:
    rest = embeddings.sum(axis=0)[None] - embeddings
    agreement = (embeddings * rest).sum(axis=1) / np.linalg.norm(rest, axis=1)
    return np.asarray(agreement >= OUTLIER * np.median(agreement))


WAYS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "plain mean": plain,
    "weighted by length": by_length,
    "weighted by squared length": by_squared_length,
    "outliers left out": without_outliers,
    "outliers left out, weighted by length": both,
}
CONDITIONS = ("five good pictures", "one is another person's", "one is blurred and dark")


def main(
    identities: Annotated[list[Path], typer.Option(help="Canvases; people held out by the split take part.")],
    config: Annotated[Path, typer.Option(help="YAML with the split of people.")] = Path("configs/train.yaml"),
    work: Annotated[Path, typer.Option(help="Where archives are unpacked and decoded.")] = Path("runs/data"),
) -> None:
    """Print, for each condition and way, hits of centroid searches and genuine scores accepted at FMR 1e-3."""
    people = _people(identities, config, work)
    typer.echo(f"{len(people)} people, {ENROLLED} pictures enrolled of each, {ROUNDS} rounds")
    for condition in CONDITIONS:
        rank_one, accepted = _measure(people, condition)
        rows = [
            (way, *_cells(rank_one[way], rank_one["plain mean"]), *_cells(accepted[way], accepted["plain mean"]))
            for way in WAYS
        ]
        typer.echo(f"\n{condition}\n")
        typer.echo(table(("centroid", "rank 1", "difference", f"TAR at FMR {FMR:g}", "difference"), rows))


def _people(identities: list[Path], config: Path, work: Path) -> list[Person]:
    canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
    embedder = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions())
    rows = held_out_rows(canvases, EmbedderConfig.load(config).split, Part.CALIBRATION)
    names = np.array([canvases.identities[row] for row in rows])
    embeddings, lengths = embed_canvases(embedder, canvases, rows)
    crops = middle_crops(canvases.pictures[rows], embedder.manifest.input_size)
    dark = [(cv2.GaussianBlur(crop, (0, 0), 5) * 0.25).astype(np.uint8) for crop in crops]
    spoilt, spoilt_lengths = embedder.embed_with_lengths(dark)
    return [
        Person(embeddings[mine], lengths[mine], spoilt[mine], spoilt_lengths[mine])
        for mine in (names == name for name in np.unique(names))
        if mine.sum() > ENROLLED
    ]


def _measure(people: list[Person], condition: str) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """For each way the (people,) shares of probes that are nearest to their own centroid, and accepted by it."""
    rank_one = {way: np.zeros(len(people), np.float32) for way in WAYS}
    accepted = {way: np.zeros(len(people), np.float32) for way in WAYS}
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        orders = [rng.permutation(len(person.embeddings)) for person in people]
        strangers = rng.permutation(len(people))
        enrolled = [
            _enrol(person, order[:ENROLLED], condition, people[stranger])
            for person, order, stranger in zip(people, orders, strangers, strict=True)
        ]
        probes = [person.embeddings[order[ENROLLED:]] for person, order in zip(people, orders, strict=True)]
        for way, make in WAYS.items():
            centroids = np.stack([make(*samples) for samples in enrolled])
            scores = [probe @ centroids.T for probe in probes]
            own = [row[:, index] for index, row in enumerate(scores)]
            impostors = np.concatenate([np.delete(row, index, axis=1).ravel() for index, row in enumerate(scores)])
            threshold = np.quantile(impostors, 1 - FMR)
            for index, (row, mine) in enumerate(zip(scores, own, strict=True)):
                rank_one[way][index] += float((row.argmax(axis=1) == index).mean()) / ROUNDS
                accepted[way][index] += float((mine >= threshold).mean()) / ROUNDS
    return rank_one, accepted


def _enrol(person: Person, chosen: npt.NDArray[np.intp], condition: str, stranger: Person) -> tuple[Floats, Floats]:
    embeddings, lengths = person.embeddings[chosen].copy(), person.lengths[chosen].copy()
    if condition == CONDITIONS[1]:
        embeddings[0], lengths[0] = stranger.embeddings[0], stranger.lengths[0]
    elif condition == CONDITIONS[2]:
        embeddings[0], lengths[0] = person.spoilt[chosen[0]], person.spoilt_lengths[chosen[0]]
    return embeddings, lengths


def _cells(values: Floats, reference: Floats) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile((values - reference)[drawn].mean(axis=1), [0.025, 0.975])
    difference = "" if values is reference else f"{(values - reference).mean():+.4f} ({low:+.4f} to {high:+.4f})"
    return f"{values.mean():.4f}", difference


if __name__ == "__main__":
    typer.run(main)
