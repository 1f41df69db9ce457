"""Compares the templates of a collection with each other, to find people enrolled twice and misplaced templates."""

import asyncio
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.errors import RateNotCalibrated
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.people import collections, templates
from service.gallery.search.search import count
from service.gallery.storage.database import LONG_S, Database
from service.recognition.decision import OUTLIER_FMR, Decision, DecisionPolicy, DecisionResolver
from service.recognition.gallery_scores import Gallery, GalleryScores, measure
from service.recognition.operating_point import Comparisons, OperatingPoint
from service.recognition.read_audit import ReadAuditBuffer

MINIMUM_PAIRS = 20
EXPECTED_DUPLICATES = 60
"""Accepted number of pairs of different people above the duplicate threshold.

A larger number lowers the threshold, so that fewer people who are enrolled twice are missed."""
HIGHEST_FMR = 1e-3


@dataclass(frozen=True, slots=True)
class Person:
    """An identity of the comparison."""

    id: uuid.UUID
    external_id: str
    label: str


@dataclass(frozen=True)
class GalleryComparison:
    """The result of a comparison.

    Attributes:
        collection: name of the collection.
        model_id: the collection's model.
        size: size of the whole collection.
        decision: the collection's default decision, or an explicit threshold.
        duplicate_threshold: lowest score of two identities that are duplicate candidates.
        outlier_threshold: templates with a lower cosine to their identity are outliers.
        expected_duplicates: expected number of pairs of templates above `duplicate_threshold` that show different
            people; None if the calibration does not cover it.
        people: the identities by number.
        template_ids: the compared templates; fewer than `size.templates` for a very large collection.
        owners: the number of each template's identity.
        scores: refers to identities and templates by number.
    """

    collection: str
    model_id: str
    size: Comparisons
    decision: Decision
    duplicate_threshold: float
    outlier_threshold: float
    expected_duplicates: float | None
    people: list[Person]
    template_ids: list[uuid.UUID]
    owners: list[int]
    scores: GalleryScores

    @property
    def compared(self) -> int:
        return len(self.template_ids)


@dataclass(frozen=True)
class GalleryComparer:
    """Compares at most `max_templates` templates, one collection at a time; a larger collection is sampled.

    5,000 templates take about 0.3 s and 20,000 about 5 s of one thread.
    """

    database: Database
    resolver: DecisionResolver
    max_templates: int
    read_audit: ReadAuditBuffer | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    # A request that ends early leaves its computation behind. With one thread the next computation waits for it.
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "gallery-comparison"))

    async def compare(
        self, name: str, requested: OperatingPoint | None = None, actor: Actor | None = None
    ) -> GalleryComparison:
        """Compares the templates of a collection's model.

        Args:
            name: name of the collection.
            requested: operating point in place of the collection's default.
            actor: originator of the request, for the audit trail.

        Raises:
            CollectionNotFound, ModelNotLoaded, RateNotCalibrated
        """
        async with self._turn:
            async with self.database.transaction(timeout_s=LONG_S) as connection:
                collection = await collections.get(connection, name, "/name")
                size = await count(connection, collection.id, collection.model_id)
                decision = self.resolver.for_search(collection, size, requested)
                rows = await templates.sample(connection, collection.id, collection.model_id, self.max_templates)
            if self.read_audit is not None and actor is not None:
                details = {"templates": len(rows)}
                self.read_audit.record(name, Event(Action.GALLERY_REPORT, actor, details=details))
            policy = self.resolver.policy_of(collection.model_id)
            parts = name, collection.model_id, Comparisons(size.people, size.templates), decision, policy, rows
            return await asyncio.get_running_loop().run_in_executor(self._thread, _compare, *parts)


def _compare(
    name: str,
    model_id: str,
    size: Comparisons,
    decision: Decision,
    policy: DecisionPolicy,
    rows: Sequence[Any],
) -> GalleryComparison:
    people = {row.identity_id: Person(row.identity_id, row.external_id, row.label) for row in rows}
    numbers = {person: number for number, person in enumerate(people)}
    owners = [numbers[row.identity_id] for row in rows]
    embeddings = np.array([row.embedding for row in rows], np.float32) if rows else np.zeros((0, 1), np.float32)
    gallery = Gallery(embeddings, np.array(owners, np.intp))
    duplicate_threshold, expected = _duplicate_threshold(policy, gallery, decision.threshold)
    outlier_threshold = _outlier_threshold(policy, decision.threshold)
    return GalleryComparison(
        collection=name,
        model_id=model_id,
        size=size,
        decision=decision,
        duplicate_threshold=duplicate_threshold,
        outlier_threshold=outlier_threshold,
        expected_duplicates=expected,
        people=list(people.values()),
        template_ids=[row.id for row in rows],
        owners=owners,
        scores=measure(gallery, duplicate_threshold, outlier_threshold, MINIMUM_PAIRS),
    )


def _duplicate_threshold(policy: DecisionPolicy, gallery: Gallery, default: float) -> tuple[float, float | None]:
    """Returns a threshold that about `EXPECTED_DUPLICATES` pairs of different people exceed, and their expected number.

    Returns `default` and None for a model without calibration.
    """
    if policy.range is None:
        return default, None
    lowest_fmr, _ = policy.range
    total, per_identity = len(gallery.owners), np.bincount(gallery.owners)
    pairs = (total * (total - 1) - int((per_identity * (per_identity - 1)).sum())) / 2
    rate = max(min(EXPECTED_DUPLICATES / max(pairs, 1), HIGHEST_FMR), lowest_fmr)
    return policy.threshold_for("fmr", rate), rate * pairs


def _outlier_threshold(policy: DecisionPolicy, default: float) -> float:
    try:
        return policy.threshold_for("fmr", OUTLIER_FMR)
    except RateNotCalibrated:
        return default
