"""Formats the gallery report as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import RateNotCalibrated
from service.recognition.decision import Decision, DecisionPolicy
from service.recognition.operating_point import Comparisons, OperatingPoint
from service.report.plots import GROWTH
from service.report.scores import BINS, GalleryScores

MAXIMUM_ROWS = 200
NO_OTHER_IDENTITY = -1.0
"""`nearest_score` of an outlier in a gallery with one identity."""
FPIRS = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Names:
    """The external id of each identity, the id of each template, and the number of each template's identity."""

    people: list[str]
    templates: list[str]
    owners: list[int]


@dataclass(frozen=True)
class Facts:
    """The collection, its decision and the thresholds of the report.

    Attributes:
        collection: name of the collection.
        model_id: the collection's model.
        size: size of the whole collection.
        sampled: number of compared templates; smaller than the size for a very large collection.
        decision: the collection's default decision, or an explicit threshold.
        duplicate_threshold: lowest score of two identities that are duplicate candidates.
        outlier_threshold: templates with a lower cosine to their identity are outliers.
        expected_duplicates: expected number of pairs of templates above `duplicate_threshold` that show different
            people; None if the calibration does not cover it.
    """

    collection: str
    model_id: str
    size: Comparisons
    sampled: int
    decision: Decision
    duplicate_threshold: float
    outlier_threshold: float
    expected_duplicates: float | None


def gallery_report(facts: Facts, scores: GalleryScores, policy: DecisionPolicy, names: Names) -> str:
    """Returns the report."""
    sample = (
        "" if facts.sampled == facts.size.templates else f" A random sample of {facts.sampled:,} of them was compared."
    )
    return "\n\n".join(
        [
            f"# Gallery report: {facts.collection}",
            f"{facts.size.people:,} identities, {facts.size.templates:,} templates of model `{facts.model_id}`.{sample}"
            f" The decision threshold for an identity with one template is {facts.decision.threshold:.4f}.",
            _scores(scores),
            _false_positives(facts, scores, policy),
            _duplicate_candidates(facts, scores, names),
            _outliers(facts, scores, names),
        ]
    ) + "\n"  # fmt: skip


def _scores(scores: GalleryScores) -> str:
    rows = []
    if len(scores.mated):
        quantiles = np.quantile(scores.mated, [0.01, 0.1, 0.5, 0.9])
        rows.append(("one identity", f"{len(scores.mated):,}", *(f"{value:.3f}" for value in quantiles), ""))
    total = int(scores.non_mated.sum())
    if total:
        cumulated = np.cumsum(scores.non_mated) / total
        points = [BINS[1:][np.searchsorted(cumulated, share)] for share in (0.01, 0.1, 0.5, 0.9, 0.999)]
        rows.append(("two identities", f"{total:,}", *(f"{value:.3f}" for value in points)))
    return "\n\n".join(
        [
            "## Scores",
            _table(("templates of", "pairs", "1 %", "10 %", "median", "90 %", "99.9 %"), rows),
            "![Distribution of the scores](scores.png)",
        ]
    )


def _false_positives(facts: Facts, scores: GalleryScores, policy: DecisionPolicy) -> str:
    fpir = facts.decision.fpir
    expected = "unknown, because the calibration does not cover the threshold" if fpir is None else f"{fpir.value:.3g}"
    larger = Comparisons(facts.size.people * GROWTH, facts.size.templates * GROWTH)
    rows = [(f"{rate:g}", _threshold(policy, rate, facts.size), _threshold(policy, rate, larger)) for rate in FPIRS]
    return "\n\n".join(
        [
            "## False positives at this size",
            f"The FPIR by calibration is {expected}. It is the rate at which a search for a person who is not enrolled "
            f"returns a match. Of this gallery's templates, {scores.fpir_at(facts.decision.threshold):.3g} would match "
            "another identity if their own one were not enrolled; people who are enrolled twice raise this share.",
            _table(("FPIR", "threshold at this size", f"threshold at {GROWTH} times the size"), rows),
            "![FPIR against the threshold](fpir.png)",
        ]
    )


def _threshold(policy: DecisionPolicy, fpir: float, size: Comparisons) -> str:
    try:
        return f"{policy.decide(OperatingPoint('fpir', fpir), size).threshold:.4f}"
    except RateNotCalibrated:
        return "not covered by the calibration"


def _duplicate_candidates(facts: Facts, scores: GalleryScores, names: Names) -> str:
    expected = facts.expected_duplicates
    chance = "" if expected is None else f" About {expected:.2g} pairs of templates of different people exceed it."
    rows = [
        (
            names.people[pair.first],
            names.people[pair.second],
            f"{pair.score:.4f}",
            f"{pair.best_template:.4f}",
            f"{pair.centroids:.4f}",
            "yes" if pair.score >= facts.duplicate_threshold else "",
        )
        for pair in scores.duplicate_candidates[:MAXIMUM_ROWS]
    ]
    return "\n\n".join(
        [
            "## Duplicate candidates",
            "The most similar identities: one person enrolled twice, relatives, or people with a high risk of false "
            f"matches. A pair is a candidate from a score of {facts.duplicate_threshold:.4f} on.{chance}",
            _table(("identity", "identity", "score", "nearest templates", "centroids", "candidate"), rows),
            _omitted(len(scores.duplicate_candidates)),
        ]
    ).rstrip()


def _outliers(facts: Facts, scores: GalleryScores, names: Names) -> str:
    rows = [
        (
            names.people[names.owners[outlier.template]],
            f"`{names.templates[outlier.template]}`",
            f"{outlier.own:.4f}",
            names.people[outlier.nearest] if outlier.nearest_score > NO_OTHER_IDENTITY else "none",
            f"{outlier.nearest_score:.4f}" if outlier.nearest_score > NO_OTHER_IDENTITY else "",
            "nearer to the other" if outlier.nearest_score > outlier.own else "",
        )
        for outlier in scores.outliers[:MAXIMUM_ROWS]
    ]
    return "\n\n".join(
        [
            "## Outliers",
            "Templates with a cosine below "
            f"{facts.outlier_threshold:.4f} to the centroid of the identity's other templates, or clearly nearer to "
            "another identity. Both templates of an identity with two are listed, because the report cannot determine "
            "which of them is wrong.",
            _table(("identity", "template", "own score", "nearest other identity", "its score", "remark"), rows),
            _omitted(len(scores.outliers)),
        ]
    ).rstrip()


def _omitted(count: int) -> str:
    return f"{count - MAXIMUM_ROWS:,} more rows are omitted." if count > MAXIMUM_ROWS else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
    if not body:
        return "None."
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *body])


def _escaped(cell: str) -> str:
    """Replaces bars and line breaks, which clients may use in external ids and which would break the table."""
    return " ".join(cell.replace("|", "&#124;").split())
