"""Formats the gallery report as Markdown."""

from collections.abc import Iterable, Sequence

import numpy as np

from service.errors import RateNotCalibrated
from service.recognition.decision import DecisionPolicy
from service.recognition.gallery_comparison import GalleryComparison
from service.recognition.gallery_scores import BINS, GalleryScores
from service.recognition.operating_point import Comparisons, OperatingPoint
from service.report.plots import GROWTH

MAXIMUM_ROWS = 200
NO_OTHER_IDENTITY = -1.0
"""`nearest_score` of an outlier in a gallery with one identity."""
FPIRS = (0.1, 0.01, 0.001)


def gallery_report(comparison: GalleryComparison, policy: DecisionPolicy) -> str:
    """Returns the report."""
    size, threshold = comparison.size, comparison.decision.threshold
    sampled = comparison.compared < size.templates
    sample = f" A random sample of {comparison.compared:,} of them was compared." if sampled else ""
    return "\n\n".join(
        [
            f"# Gallery report: {comparison.collection}",
            f"{size.people:,} identities, {size.templates:,} templates of model `{comparison.model_id}`.{sample}"
            f" The decision threshold for an identity with one template is {threshold:.4f}.",
            _scores(comparison.scores),
            _false_positives(comparison, policy),
            _duplicate_candidates(comparison),
            _outliers(comparison),
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


def _false_positives(comparison: GalleryComparison, policy: DecisionPolicy) -> str:
    fpir, scores = comparison.decision.fpir, comparison.scores
    size, threshold = comparison.size, comparison.decision.threshold
    expected = "unknown, because the calibration does not cover the threshold" if fpir is None else f"{fpir.value:.3g}"
    larger = Comparisons(size.people * GROWTH, size.templates * GROWTH)
    rows = [(f"{rate:g}", _threshold(policy, rate, size), _threshold(policy, rate, larger)) for rate in FPIRS]
    return "\n\n".join(
        [
            "## False positives at this size",
            f"The FPIR by calibration is {expected}. It is the rate at which a search for a person who is not enrolled "
            f"returns a match. Of this gallery's templates, {scores.fpir_at(threshold):.3g} would match "
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


def _duplicate_candidates(comparison: GalleryComparison) -> str:
    expected = comparison.expected_duplicates
    chance = "" if expected is None else f" About {expected:.2g} pairs of templates of different people exceed it."
    rows = [
        (
            comparison.people[pair.first].external_id,
            comparison.people[pair.second].external_id,
            f"{pair.score:.4f}",
            f"{pair.best_template:.4f}",
            f"{pair.centroids:.4f}",
            "yes" if pair.score >= comparison.duplicate_threshold else "",
        )
        for pair in comparison.scores.duplicate_candidates[:MAXIMUM_ROWS]
    ]
    return "\n\n".join(
        [
            "## Duplicate candidates",
            "The most similar identities: one person enrolled twice, relatives, or people with a high risk of false "
            f"matches. A pair is a candidate from a score of {comparison.duplicate_threshold:.4f} on.{chance}",
            _table(("identity", "identity", "score", "nearest templates", "centroids", "candidate"), rows),
            _omitted(len(comparison.scores.duplicate_candidates)),
        ]
    ).rstrip()


def _outliers(comparison: GalleryComparison) -> str:
    rows = [
        (
            comparison.people[comparison.owners[outlier.template]].external_id,
            f"`{comparison.template_ids[outlier.template]}`",
            f"{outlier.own:.4f}",
            comparison.people[outlier.nearest].external_id if outlier.nearest_score > NO_OTHER_IDENTITY else "none",
            f"{outlier.nearest_score:.4f}" if outlier.nearest_score > NO_OTHER_IDENTITY else "",
            "nearer to the other" if outlier.nearest_score > outlier.own else "",
        )
        for outlier in comparison.scores.outliers[:MAXIMUM_ROWS]
    ]
    return "\n\n".join(
        [
            "## Outliers",
            "Templates with a cosine below "
            f"{comparison.outlier_threshold:.4f} to the centroid of the identity's other templates, or clearly nearer "
            "to another identity. Both templates of an identity with two are listed, because the report cannot "
            "determine which of them is wrong.",
            _table(("identity", "template", "own score", "nearest other identity", "its score", "remark"), rows),
            _omitted(len(comparison.scores.outliers)),
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
