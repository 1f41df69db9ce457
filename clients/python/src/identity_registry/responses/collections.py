"""Responses about collections and model migrations."""

import uuid
from datetime import datetime

from identity_registry.responses.base import Document
from identity_registry.responses.jobs import JobDetail


class Collection(Document):
    """A namespace of identities with its model and its rules.

    Attributes:
        model_id: model that searches and verifications use.
        fmr: default false match rate of requests that name no rate.
        fpir: default false positive identification rate of requests that name no rate.
        quality: quality gate of registrations: `off`, `standard` or `strict`.
        duplicates: check of new identities: `allow`, `warn` or `reject`.
        additions: pictures that keys without the scope `manage` may add: `match` or `any`.
        store_crops: the service stores encrypted crops, so that another model can embed them later.
        secondary_model_id: model of a running model migration; it embeds each new face as well.
    """

    name: str
    model_id: str
    fmr: float | None = None
    fpir: float | None = None
    quality: str
    duplicates: str
    additions: str
    store_crops: bool
    secondary_model_id: str | None = None
    identity_count: int
    created_at: datetime


class CollectionDeletion(Document):
    """Result of the deletion of a collection. `identities_remaining`: those that are deleted in the background."""

    name: str
    identities_deleted: int
    identities_remaining: int


class Person(Document):
    """An identity of a gallery report."""

    identity_id: uuid.UUID
    external_id: str
    label: str


class SimilarPair(Document):
    """Two similar identities. `candidate`: they may be one person, because the score reaches `duplicate_threshold`."""

    first: Person
    second: Person
    score: float
    candidate: bool


class Outlier(Document):
    """A template that is unlike the other templates of its identity.

    Attributes:
        similarity: cosine to the centroid of the identity's other templates.
        nearest: the other identity with the nearest centroid.
        nearest_similarity: cosine to that centroid.
    """

    person: Person
    template_id: uuid.UUID
    similarity: float
    nearest: Person | None = None
    nearest_similarity: float | None = None


class GalleryReport(Document):
    """Comparison of the templates of a collection with each other.

    Attributes:
        compared_templates: smaller than `templates` if a random sample was compared.
        fpir: false positive identification rate by calibration; None if the calibration does not cover the threshold.
        measured_fpir: share of the templates that would match another identity if their own one were not enrolled.
        expected_duplicates: expected number of pairs above `duplicate_threshold` that show different people.
        duplicate_count: number of pairs of identities above `duplicate_threshold`.
        duplicates: the most similar pairs, the most similar first.
        outliers: the most suspicious templates first.
    """

    model_id: str
    identities: int
    templates: int
    compared_templates: int
    threshold: float
    fpir: float | None = None
    measured_fpir: float
    duplicate_threshold: float
    expected_duplicates: float | None = None
    duplicate_count: int
    duplicates: list[SimilarPair]
    outlier_threshold: float
    outlier_count: int
    outliers: list[Outlier]


class Coverage(Document):
    """Coverage of a collection by its secondary model.

    Attributes:
        identities: number of identities under the collection's own model.
        missing: of these, identities that need new pictures for the secondary model.
        partial: identities with fewer templates under the secondary model.
        corrections_missing: corrections that the secondary model lacks.
    """

    identities: int
    missing: int
    partial: int
    corrections_missing: int


class ModelMigration(Document):
    """State of a model migration.

    Attributes:
        secondary_model_id: None if no migration is in progress.
        auto_activate: the service activates the secondary model as soon as it covers every identity.
        coverage: None without a secondary model.
        job: the latest job that re-embeds stored crops.
    """

    model_id: str
    secondary_model_id: str | None = None
    auto_activate: bool
    coverage: Coverage | None = None
    job: JobDetail | None = None


class ModelMigrationDeletion(Document):
    """Number of deleted rows of the secondary model by kind."""

    model_id: str
    deleted: dict[str, int]


class MissingIdentity(Document):
    """An identity that needs new pictures before the secondary model covers it."""

    identity_id: uuid.UUID
    external_id: str
    label: str
