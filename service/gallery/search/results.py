"""Results of a search."""

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.gallery.search.explain import PlanNode


class SearchPlan(StrEnum):
    """The method by which the shortlist is computed."""

    EXACT = "exact"
    """Compares every centroid."""
    BINARY_CODES = "binary-codes"
    """Compares every binary code, then the centroids with the nearest codes."""
    IN_MEMORY = "in-memory"
    """Compares every binary code in the memory of the process, then the centroids of the nearest identities."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An identity near the probe.

    Attributes:
        named: False: the service has created the identity for a face of an unknown person.
        metadata: None: the search omits it.
        score: cosine similarity, -1 to 1, to the nearest template; thresholds apply to it.
        centroid_score: cosine similarity to the centroid, by which the shortlist is sorted.
        counter_score: cosine similarity to the nearest corrected face; None: the identity has no corrections.
        overruled: `counter_score` is higher than `score`: a correction says that the probe shows somebody else.
    """

    id: uuid.UUID
    external_id: str
    label: str
    named: bool
    metadata: dict[str, Any] | None
    score: float
    centroid_score: float
    template_count: int
    counter_score: float | None = None
    overruled: bool = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The nearest identities, best first. `nodes`: PostgreSQL's plan, if the caller asked for it."""

    candidates: list[Candidate]
    plan: SearchPlan
    shortlist: int
    nodes: list[PlanNode] | None = None
