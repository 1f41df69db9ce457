"""Responses of search."""

import uuid
from typing import Any

from pydantic import Field

from identity_registry.responses.base import Document
from identity_registry.responses.recognition import Decision, Face


class Candidate(Document):
    """An enrolled identity that is similar to the probe.

    Attributes:
        named: False: the service has created the identity for a face of an unknown person.
        metadata: None if the request omits it.
        undecided: reason why there is no decision and no `threshold`; `match` is then False.
        score: cosine similarity to the nearest template; the decision compares it with `threshold`.
        overruled_by_correction: the score is a match, but a correction says that the face is another person's.
        centroid_score: cosine similarity to the mean of the identity's templates.
    """

    identity_id: uuid.UUID
    external_id: str
    label: str
    named: bool = True
    metadata: dict[str, Any] | None = None
    match: bool
    undecided: str | None = None
    overruled_by_correction: bool
    score: float
    threshold: float | None = None
    centroid_score: float
    template_count: int


class PlanNode(Document):
    """A node of the database's query plan. `depth` is 0 for the root."""

    node: str
    on: str | None = None
    index: str | None = None
    rows: int
    milliseconds: float
    depth: int


class Explanation(Document):
    """How the database executed a search.

    Attributes:
        plan: `exact`, `binary-codes` or `in-memory`.
        shortlist: number of identities whose templates were compared.
    """

    plan: str
    shortlist: int
    ms: float
    steps: list[PlanNode]


class Remembered(Document):
    """Result of `remember` for a face that matches no identity.

    Attributes:
        identity_id: the new identity; None if the face was refused.
        code: error code of a refused face.
    """

    identity_id: uuid.UUID | None = None
    external_id: str | None = None
    code: str | None = None
    detail: str | None = None


class FaceMatches(Document):
    """Candidates of one probe.

    Attributes:
        face: face of the first picture; None if the request has an embedding.
        fused: number of pictures in the probe.
        lowest_similarity: lowest cosine similarity between two pictures of the probe.
        outlier: the similarity is so low that the pictures may show several persons.
        quality_reasons: why the quality of the face is below the limits, so that no candidate matches without `force`.
        candidates: highest score first.
        shares_match_with: other results, from 0, whose best match is the same identity.
        remembered: None if the face matches an identity, or the request has no `remember`.
    """

    face: Face | None = None
    fused: int = 1
    lowest_similarity: float | None = None
    outlier: bool = False
    quality_reasons: list[str] = Field(default_factory=list)
    candidates: list[Candidate]
    explain: Explanation | None = None
    shares_match_with: list[int] = Field(default_factory=list)
    remembered: Remembered | None = None


class SearchResponse(Decision):
    """Result of a search (1:N).

    Attributes:
        results: one entry for each probe; several only with `face="all"`.
        faces_detected: number of detected faces in all pictures.
        plan: how the database searched: `exact`, `binary-codes` or `in-memory`.
        search_ms: milliseconds in the database.
    """

    results: list[FaceMatches]
    faces_detected: int
    plan: str
    search_ms: float
