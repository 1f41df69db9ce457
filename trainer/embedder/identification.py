"""Measures 1:N searches in galleries drawn from a set of people. Terms as in ISO/IEC 19795-1."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.inference.calibration import Interval
from trainer.embedder.bootstrap import mean_interval

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]
DRAWS = 20
"""Number of random galleries of one size."""


@dataclass(frozen=True)
class People:
    """Pictures of known people.

    Attributes:
        embeddings: (N, D) normalised.
        names: N identities.
        distractors: (M, D) embeddings of other people, who are only enrolled and never searched.
    """

    embeddings: Floats
    names: list[str]
    distractors: Floats


@dataclass(frozen=True)
class SearchErrors:
    """FPIR with its 95 % interval, and FNIR, of searches in galleries of one size at one threshold."""

    fpir: float
    fpir_interval: Interval
    fnir: float


@dataclass(frozen=True)
class Searches:
    """Scores of searches in random galleries.

    Attributes:
        stranger_best: Best score of each search for a person who is not in the gallery.
        stranger: Number of the person of each of these searches.
        mate_score: Score of each search for an enrolled person with this person's own template.
        other_best: Best score of each of these searches with another person's template.
    """

    stranger_best: Floats
    stranger: Ints
    mate_score: Floats
    other_best: Floats

    def errors_at(self, threshold: float) -> SearchErrors:
        hits = (self.stranger_best >= threshold).astype(float)
        people = int(self.stranger.max()) + 1
        events = np.asarray(np.bincount(self.stranger, hits, people), float)
        trials = np.bincount(self.stranger, minlength=people).astype(float)
        searched = trials > 0
        missed = (self.mate_score < threshold) | (self.mate_score < self.other_best)
        return SearchErrors(
            float(hits.mean()),
            mean_interval(events[searched], trials[searched]),
            float(missed.mean()) if missed.size else 1.0,
        )


def largest_gallery(people: People) -> int:
    """Returns the largest gallery size: half of the people and all distractors. The other half are the strangers."""
    return len(set(people.names)) // 2 + len(people.distractors)


def search_galleries(people: People, size: int, seed: int = 0) -> Searches:
    """Draws galleries of `size` people with one template each, and searches them with all other pictures.

    Raises:
        ValueError: There are too few people.
    """
    if size > largest_gallery(people):
        raise ValueError(f"a gallery of {size} needs more people than {len(set(people.names))}")
    _, labels = np.unique(np.asarray(people.names), return_inverse=True)
    rows_of = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    random = np.random.default_rng(seed)
    draws = [_search_one(people, labels, rows_of, size, random) for _ in range(DRAWS)]
    return Searches(
        *(np.concatenate([getattr(draw, name) for draw in draws]) for name in Searches.__dataclass_fields__)
    )


def rank_of_mate(people: People, seed: int = 0) -> Ints:
    """Searches a closed set: one picture of each person is enrolled, every other one is searched.

    Returns:
        (searches,) rank of the right person, from 0.
    """
    _, labels = np.unique(np.asarray(people.names), return_inverse=True)
    random = np.random.default_rng(seed)
    enrolled = np.array([random.choice(np.flatnonzero(labels == label)) for label in range(labels.max() + 1)])
    probes = np.setdiff1d(np.arange(len(labels)), enrolled)
    scores = people.embeddings[probes] @ people.embeddings[enrolled].T
    own = scores[np.arange(len(probes)), labels[probes]]
    return np.asarray((scores > own[:, None]).sum(axis=1))


@dataclass(frozen=True)
class ClosedSet:
    """Result of searches in which half of each person's pictures is enrolled as a centroid and half is searched."""

    people: int
    probes: int
    rank_1: float


def centroid_identification(embeddings: Floats, names: list[str], seed: int = 0) -> ClosedSet:
    """Measures how often the nearest centroid is that of the right person."""
    _, labels = np.unique(np.asarray(names), return_inverse=True)
    random = np.random.default_rng(seed)
    enrolled = np.zeros(len(labels), bool)
    for label in range(labels.max() + 1):
        rows = random.permutation(np.flatnonzero(labels == label))
        enrolled[rows[: len(rows) // 2]] = True
    centroids = np.zeros((labels.max() + 1, embeddings.shape[1]), np.float32)
    np.add.at(centroids, labels[enrolled], embeddings[enrolled])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    nearest = (embeddings[~enrolled] @ centroids.T).argmax(axis=1)
    return ClosedSet(len(centroids), len(nearest), float((nearest == labels[~enrolled]).mean()))


def _search_one(people: People, labels: Ints, rows_of: list[Ints], size: int, random: np.random.Generator) -> Searches:
    """Searches one random gallery: at most half of the people are enrolled, distractors fill the remaining places."""
    known = min(size, len(rows_of) // 2)
    members = random.permutation(len(rows_of))[:known]
    enrolled = np.array([random.choice(rows_of[member]) for member in members])
    fillers = random.permutation(len(people.distractors))[: size - known]
    gallery = np.concatenate([people.embeddings[enrolled], people.distractors[fillers]])
    is_member = np.zeros(len(rows_of), bool)
    is_member[members] = True
    strangers = np.flatnonzero(~is_member[labels])
    mates = np.setdiff1d(np.flatnonzero(is_member[labels]), enrolled)
    place = np.zeros(len(rows_of), np.intp)
    place[members] = np.arange(known)
    scores = people.embeddings[mates] @ gallery.T
    rows = np.arange(len(mates))
    own = scores[rows, place[labels[mates]]].copy()
    scores[rows, place[labels[mates]]] = -2
    best = (people.embeddings[strangers] @ gallery.T).max(axis=1)
    return Searches(best, labels[strangers], own, scores.max(axis=1, initial=-2))
