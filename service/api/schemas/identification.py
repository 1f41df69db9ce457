"""Documents of POST /search."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas.decisions import DecisionView, decision_fields
from service.api.schemas.faces import FaceView, face_view
from service.api.schemas.fields import (
    FIELDS,
    BoxCorners,
    DecisionFields,
    EmbeddingBytes,
    EmbeddingModel,
    Fields,
    ImageBytes,
    require_box,
)
from service.gallery.search.explain import PlanNode
from service.gallery.search.results import Candidate, SearchPlan, SearchResult
from service.inference.engine import FaceChoice
from service.recognition.decision import Decision
from service.recognition.identification import FaceMatches, Identification
from service.recognition.person_fields import Metadata
from service.recognition.unknown_faces import Remembered

MAX_TOP_K = 1000
MAX_FUSED = 8


class SearchRequest(DecisionFields):
    """Searches for the identities nearest to a face; `face=all` searches for every face of the picture."""

    image: ImageBytes | None = None
    images: Annotated[list[ImageBytes], Field(min_length=1, max_length=MAX_FUSED)] | None = Field(
        None, description="instead of `image`: several pictures of one person, which are fused into one probe"
    )
    embedding: EmbeddingBytes | None = Field(None, description="instead of `image`")
    model_id: EmbeddingModel | None = None
    box: BoxCorners | None = None
    top_k: int = Field(5, ge=1, le=MAX_TOP_K)
    fields: Fields = Field(["label", "metadata"], description=FIELDS)
    filter: Metadata | None = Field(None, description="only identities whose metadata fulfil this filter")
    explain: bool = Field(False, description="include PostgreSQL's query plan; the search runs twice")
    force: bool = Field(False, description="decide also if the quality of the face is below the limits")
    remember: bool = Field(
        False,
        description="store a face that matches no identity as one without a name; the key also needs the scope `enrol`",
    )

    @model_validator(mode="after")
    def _require_one_probe(self) -> Self:
        if sum(probe is not None for probe in (self.image, self.images, self.embedding)) != 1:
            raise PydanticCustomError("one_probe", "send one of `image`, `images` and `embedding`")
        if len(self.pictures) > 1 and self.face in (FaceChoice.ALL, FaceChoice.BOX):
            raise PydanticCustomError(
                "one_face", "several pictures show one person; `face=all` and `face=box` need a single picture"
            )
        if self.remember and self.filter is not None:
            raise PydanticCustomError(
                "remember_everybody", "`remember` compares the face with the whole collection; send no `filter`"
            )
        if self.embedding is None:
            require_box(self.face, self.box, "box")
        return self

    @property
    def pictures(self) -> list[bytes]:
        return self.images or ([] if self.image is None else [self.image])


class CandidateView(BaseModel):
    identity_id: uuid.UUID
    external_id: str
    label: str
    named: bool = Field(description="false: the service has created the identity for a face of an unknown person")
    metadata: dict[str, Any] | None = Field(description="null: `fields` omits it")
    match: bool
    undecided: str | None = Field(
        description="reason why there is no decision, for example more templates than the calibration supports, or "
        "insufficient quality of the face; `match` is then false"
    )
    overruled_by_correction: bool = Field(
        description="the probe is nearer to a corrected face of the identity than to its templates; so it is no match"
    )
    score: float = Field(description="cosine similarity to the nearest template, -1 to 1; the threshold applies to it")
    threshold: float | None = Field(
        description="threshold for this identity: with `fmr` it depends on the number of templates; null: undecided"
    )
    centroid_score: float = Field(description="cosine similarity to the centroid")
    template_count: int


class ExplanationView(BaseModel):
    plan: SearchPlan
    shortlist: int = Field(description="maximum number of identities whose templates were compared")
    ms: float
    steps: list[PlanNode] = Field(description="nodes of PostgreSQL's plan, outermost first, without conditions")


class RememberedView(BaseModel):
    identity_id: uuid.UUID | None = Field(description="the new identity; null: the face was refused")
    external_id: str | None
    code: str | None = Field(description="error code of a refused face")
    detail: str | None


class FaceMatchesView(BaseModel):
    face: FaceView | None = Field(description="face of the first picture; null: an embedding was sent")
    fused: int = Field(1, description="number of pictures that were fused into the probe")
    lowest_similarity: float | None = Field(None, description="lowest cosine similarity between two fused pictures")
    outlier: bool = Field(False, description="`lowest_similarity` is so low that the pictures may show several people")
    quality_reasons: list[str] = Field(
        [], description="why the quality of the face is below the limits, so that no candidate matches without `force`"
    )
    candidates: list[CandidateView]
    explain: ExplanationView | None = None
    shares_match_with: list[int] = Field(
        [], description="other results, from 0, whose best match is the same identity: rarely right within one picture"
    )
    remembered: RememberedView | None = Field(
        None, description="null: the face matches an identity, or the request has no `remember`"
    )


class SearchResponse(DecisionView):
    results: list[FaceMatchesView]
    faces_detected: int
    plan: SearchPlan = Field(
        description="exact: every centroid was compared; binary-codes: every binary code in the database; "
        "in-memory: every binary code in the memory of the service"
    )
    search_ms: float


def search_response(
    identification: Identification, precision: str, remembered: Sequence[Remembered | None] | None = None
) -> SearchResponse:
    """`remembered`: one item for each probe; None: nothing was to be stored."""
    decision = identification.decision
    stored = remembered or [None] * len(identification.matches)
    views = [
        _matches_view(matches, decision, item) for matches, item in zip(identification.matches, stored, strict=True)
    ]
    _mark_shared_matches(views)
    return SearchResponse(
        results=views,
        faces_detected=len(identification.detections),
        plan=identification.matches[0].result.plan,
        search_ms=round(identification.search_ms, 2),
        **decision_fields(
            decision.threshold, decision.fmr, decision.fpir, identification.model_id, precision, decision.note
        ),
    )


def _matches_view(matches: FaceMatches, decision: Decision, remembered: Remembered | None) -> FaceMatchesView:
    lowest = matches.lowest_similarity
    return FaceMatchesView(
        face=face_view(matches.faces[0]),
        fused=len(matches.faces),
        lowest_similarity=None if lowest is None else round(lowest, 6),
        outlier=matches.outlier,
        quality_reasons=list(matches.quality_reasons),
        candidates=[_candidate_view(candidate, matches, decision) for candidate in matches.result.candidates],
        explain=_explanation(matches.result),
        remembered=_remembered(remembered),
    )


def _mark_shared_matches(views: Sequence[FaceMatchesView]) -> None:
    """Lists for each result the others with the same best match."""
    best = [next((item.identity_id for item in view.candidates if item.match), None) for view in views]
    for number, view in enumerate(views):
        if best[number] is not None:
            view.shares_match_with = [
                other for other, identity_id in enumerate(best) if other != number and identity_id == best[number]
            ]


def _remembered(remembered: Remembered | None) -> RememberedView | None:
    if remembered is None:
        return None
    identity, refused = remembered.identity, remembered.refused
    return RememberedView(
        identity_id=None if identity is None else identity.id,
        external_id=None if identity is None else identity.external_id,
        code=None if refused is None else refused.code,
        detail=None if refused is None else refused.detail,
    )


def _candidate_view(candidate: Candidate, matches: FaceMatches, decision: Decision) -> CandidateView:
    decided = matches.decide(decision, candidate)
    return CandidateView(
        identity_id=candidate.id,
        external_id=candidate.external_id,
        label=candidate.label,
        named=candidate.named,
        metadata=candidate.metadata,
        match=decided.match,
        undecided=decided.undecided,
        overruled_by_correction=candidate.overruled,
        score=round(candidate.score, 6),
        threshold=decided.threshold,
        centroid_score=round(candidate.centroid_score, 6),
        template_count=candidate.template_count,
    )


def _explanation(result: SearchResult) -> ExplanationView | None:
    if result.nodes is None:
        return None
    total = result.nodes[0].milliseconds
    return ExplanationView(plan=result.plan, shortlist=result.shortlist, ms=total, steps=result.nodes)
