"""The gallery report as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import FmrNotCalibrated
from service.recognition.decision import Comparisons, Decision, DecisionPolicy, OperatingPoint
from service.report.plots import GROWTH
from service.report.scores import BINS, GalleryScores

MOST_ROWS = 200
NOBODY = -1.0
"""The score with the nearest other person where there is no other."""
FPIRS = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Names:
    """How people and templates are called: external ids, and template ids with their owner's row."""

    people: list[str]
    templates: list[str]
    owners: list[int]


@dataclass(frozen=True)
class Facts:
    """What the report is about.

    Attributes:
        size: of the whole collection.
        sampled: templates that were compared; fewer than there are in a very large collection.
        decision: what the report is made for: the collection's default, or an explicit threshold.
        lookalike_from, misfit_below: scores from which people are called alike, below which a template does not fit.
        expected_lookalikes: pairs of templates that chance alone brings above `lookalike_from`, where it is known.
    """

    collection: str
    model_id: str
    size: Comparisons
    sampled: int
    decision: Decision
    lookalike_from: float
    misfit_below: float
    expected_lookalikes: float | None


def gallery_report(facts: Facts, scores: GalleryScores, policy: DecisionPolicy, names: Names) -> str:
    """The whole report."""
    sample = (
        "" if facts.sampled == facts.size.templates else f" {facts.sampled:,} of them, drawn at random, were compared."
    )
    return "\n\n".join(
        [
            f"# Gallery report: {facts.collection}",
            f"{facts.size.people:,} people, {facts.size.templates:,} templates of model `{facts.model_id}`.{sample} "
            f"A match is a score of {facts.decision.threshold:.4f} or more, with a person of one template.",
            _scores(scores),
            _size(facts, scores, policy),
            _lookalikes(facts, scores, names),
            _misfits(facts, scores, names),
        ]
    ) + "\n"  # fmt: skip


def _scores(scores: GalleryScores) -> str:
    rows = []
    if len(scores.mates):
        quantiles = np.quantile(scores.mates, [0.01, 0.1, 0.5, 0.9])
        rows.append(("one person", f"{len(scores.mates):,}", *(f"{value:.3f}" for value in quantiles), ""))
    total = int(scores.non_mates.sum())
    if total:
        cumulated = np.cumsum(scores.non_mates) / total
        points = [BINS[1:][np.searchsorted(cumulated, share)] for share in (0.01, 0.1, 0.5, 0.9, 0.999)]
        rows.append(("two people", f"{total:,}", *(f"{value:.3f}" for value in points)))
    return "\n\n".join(
        [
            "## Scores",
            _table(("pairs of templates of", "pairs", "1 %", "10 %", "median", "90 %", "99.9 %"), rows),
            "![scores](scores.png)",
        ]
    )


def _size(facts: Facts, scores: GalleryScores, policy: DecisionPolicy) -> str:
    fpir = facts.decision.fpir
    expected = "not known, the threshold is outside of the calibration" if fpir is None else f"{fpir.value:.3g}"
    larger = Comparisons(facts.size.people * GROWTH, facts.size.templates * GROWTH)
    rows = [(f"{asked:g}", _threshold(policy, asked, facts.size), _threshold(policy, asked, larger)) for asked in FPIRS]
    return "\n\n".join(
        [
            "## False positives at this size",
            f"A search by a stranger finds somebody at a rate of {expected} by calibration; of this gallery's own "
            f"templates {scores.fpir_at(facts.decision.threshold):.3g} would, were their person not enrolled (who is "
            "enrolled twice counts here).",
            _table(("to keep an FPIR of", "threshold at this size", f"at {GROWTH} times the size"), rows),
            "![false positives](fpir.png)",
        ]
    )


def _threshold(policy: DecisionPolicy, fpir: float, size: Comparisons) -> str:
    try:
        return f"{policy.decide(OperatingPoint('fpir', fpir), size).threshold:.4f}"
    except FmrNotCalibrated:
        return "beyond the calibration"


def _lookalikes(facts: Facts, scores: GalleryScores, names: Names) -> str:
    chance = facts.expected_lookalikes
    words = "" if chance is None else f" Chance alone brings about {chance:.2g} pairs of templates above it."
    rows = [
        (
            names.people[pair.first],
            names.people[pair.second],
            f"{pair.score:.4f}",
            f"{pair.best_template:.4f}",
            f"{pair.centroids:.4f}",
            "yes" if pair.score >= facts.lookalike_from else "",
        )
        for pair in scores.lookalikes[:MOST_ROWS]
    ]
    return "\n\n".join(
        [
            "## People who look like each other",
            f"The most alike first: enrolled twice, relatives, or prone to be taken for each other. Alike is from "
            f"{facts.lookalike_from:.4f} on.{words}",
            _table(("person", "and", "score", "nearest templates", "centroids", "alike"), rows),
            _left_out(len(scores.lookalikes)),
        ]
    ).rstrip()


def _misfits(facts: Facts, scores: GalleryScores, names: Names) -> str:
    rows = [
        (
            names.people[names.owners[outlier.template]],
            f"`{names.templates[outlier.template]}`",
            f"{outlier.own:.4f}",
            names.people[outlier.nearest] if outlier.nearest_score > NOBODY else "nobody",
            f"{outlier.nearest_score:.4f}" if outlier.nearest_score > NOBODY else "",
            "another person's?" if outlier.nearest_score > outlier.own else "",
        )
        for outlier in scores.outlier[:MOST_ROWS]
    ]
    return "\n\n".join(
        [
            "## Templates that don't fit their person",
            "Less like the centroid of the person's other templates than "
            f"{facts.misfit_below:.4f}, or clearly more like somebody else's. Of a person with two templates both are "
            "named: which of them is wrong can't be told.",
            _table(("person", "template", "own", "nearest other", "score", ""), rows),
            _left_out(len(scores.outlier)),
        ]
    ).rstrip()


def _left_out(count: int) -> str:
    return f"{count - MOST_ROWS:,} more are left out." if count > MOST_ROWS else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows]
    if not body:
        return "None."
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *body])


def _plain(cell: str) -> str:
    """Names are the users': a bar or a line break in one must not break the table."""
    return " ".join(cell.replace("|", "&#124;").split())
