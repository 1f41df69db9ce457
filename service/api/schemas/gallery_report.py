"""Documents of the gallery report."""

import uuid

from pydantic import BaseModel, Field

from service.recognition.gallery_comparison import GalleryComparison, Person

MAX_LISTED = 100


class PersonView(BaseModel):
    identity_id: uuid.UUID
    external_id: str
    label: str


class SimilarPairView(BaseModel):
    """Two similar identities: one person enrolled twice, relatives, or people with a high risk of false matches."""

    first: PersonView
    second: PersonView
    score: float = Field(description="the larger of the cosines of the nearest templates and of the centroids")
    candidate: bool = Field(description="`score` is at least `duplicate_threshold`")


class OutlierView(BaseModel):
    """A template that is unlike the other templates of its identity."""

    person: PersonView
    template_id: uuid.UUID
    similarity: float = Field(description="cosine to the centroid of the identity's other templates")
    nearest: PersonView | None = Field(description="the other identity with the nearest centroid; null: there is none")
    nearest_similarity: float | None = Field(description="cosine to that centroid")


class GalleryReport(BaseModel):
    """Comparison of the templates of a collection with each other."""

    model_id: str
    identities: int
    templates: int
    compared_templates: int = Field(description="smaller than `templates` if a random sample was compared")
    threshold: float = Field(description="decision threshold for an identity with one template")
    fpir: float | None = Field(
        description="by calibration: the rate at which a search for a person who is not enrolled returns a match; "
        "null: the calibration does not cover the threshold"
    )
    measured_fpir: float = Field(
        description="share of the compared templates that would match another identity if their own one were not "
        "enrolled; people who are enrolled twice raise it"
    )
    duplicate_threshold: float
    expected_duplicates: float | None = Field(
        description="expected number of pairs of templates above `duplicate_threshold` that show different people"
    )
    duplicate_count: int = Field(description="number of pairs of identities above `duplicate_threshold`")
    duplicates: list[SimilarPairView] = Field(
        max_length=MAX_LISTED, description="the most similar pairs, also below the threshold, the most similar first"
    )
    outlier_threshold: float
    outlier_count: int
    outliers: list[OutlierView] = Field(
        max_length=MAX_LISTED, description="those with the largest excess of `nearest_similarity` first"
    )


def gallery_report_view(comparison: GalleryComparison) -> GalleryReport:
    scores, threshold = comparison.scores, comparison.decision.threshold
    above = sum(pair.score >= comparison.duplicate_threshold for pair in scores.duplicate_candidates)
    fpir = comparison.decision.fpir
    return GalleryReport(
        model_id=comparison.model_id,
        identities=comparison.size.people,
        templates=comparison.size.templates,
        compared_templates=comparison.compared,
        threshold=threshold,
        fpir=None if fpir is None else fpir.value,
        measured_fpir=scores.fpir_at(threshold),
        duplicate_threshold=comparison.duplicate_threshold,
        expected_duplicates=comparison.expected_duplicates,
        duplicate_count=above,
        duplicates=_duplicates(comparison),
        outlier_threshold=comparison.outlier_threshold,
        outlier_count=len(scores.outliers),
        outliers=_outliers(comparison),
    )


def _duplicates(comparison: GalleryComparison) -> list[SimilarPairView]:
    return [
        SimilarPairView(
            first=_person(comparison.people[pair.first]),
            second=_person(comparison.people[pair.second]),
            score=pair.score,
            candidate=pair.score >= comparison.duplicate_threshold,
        )
        for pair in comparison.scores.duplicate_candidates[:MAX_LISTED]
    ]


def _outliers(comparison: GalleryComparison) -> list[OutlierView]:
    alone = len(comparison.people) < 2
    return [
        OutlierView(
            person=_person(comparison.people[comparison.owners[outlier.template]]),
            template_id=comparison.template_ids[outlier.template],
            similarity=outlier.own,
            nearest=None if alone else _person(comparison.people[outlier.nearest]),
            nearest_similarity=None if alone else outlier.nearest_score,
        )
        for outlier in comparison.scores.outliers[:MAX_LISTED]
    ]


def _person(person: Person) -> PersonView:
    return PersonView(identity_id=person.id, external_id=person.external_id, label=person.label)
