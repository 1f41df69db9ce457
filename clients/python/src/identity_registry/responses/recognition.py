"""Responses of register, verify, search, embed and predict."""

import uuid

from pydantic import Field

from identity_registry.responses.base import Base64Text, Document, Interval, floats
from identity_registry.responses.identities import Identity


class Face(Document):
    """A detected face.

    Attributes:
        box: x_min, y_min, x_max, y_max in pixels of the upright picture.
        detection_score: confidence of the detector, 0 to 1.
        landmarks: eyes, nose and mouth corners as x, y in pixels, from left to right; None if the detector has none.
        quality: 0 to 1; share of the model's reference faces that it recognises less well than this face.
        cut_off: the edge of the picture cuts the face off.
        manual: the client sent this box, and the detector found no face there.
        warnings: `picture_truncated`: the file ends before its last rows, which do not show the face.
    """

    box: tuple[float, float, float, float]
    detection_score: float
    landmarks: list[tuple[float, float]] | None = None
    quality: float | None = None
    cut_off: bool = False
    manual: bool = False
    warnings: list[str] = Field(default_factory=list)


class ImageOutcome(Document):
    """Result of one picture of a registration.

    Attributes:
        status: `accepted`, `duplicate` (the identity has this face already) or `rejected`.
        code: error code of a rejected picture.
        reasons: criteria of the quality gate that the face fails.
        faces: detected faces, if none of them could be chosen.
        similarity: cosine similarity to the nearest of the identity's other pictures; None if there is none, the key
            may not search, or the response is a repeated one.
        outlier: the similarity is so low that the picture may show another person; None if the similarity is None.
    """

    status: str
    template_id: uuid.UUID | None = None
    face: Face | None = None
    code: str | None = None
    detail: str | None = None
    reasons: list[str] | None = None
    faces: list[Face] | None = None
    similarity: float | None = None
    outlier: bool | None = None


class DuplicateCandidate(Document):
    """An identity that may be the same person. `score`: cosine similarity of the nearest template."""

    identity_id: uuid.UUID
    external_id: str
    label: str
    score: float


class RegisterResponse(Document):
    """Result of a registration.

    Attributes:
        created: the identity is new.
        template_count: stored templates of the identity after the request.
        accepted_count, duplicate_count, rejected_count: numbers of pictures by their status; None in the repeated
            response of an earlier release.
        images: one outcome for each picture, in the order of the request.
        duplicate_candidate_count: other identities that match, if the collection searches for duplicates.
        duplicate_candidates: those identities; empty if the API key has neither the scope `search` nor `manage`.
    """

    identity_id: uuid.UUID
    external_id: str
    label: str
    collection: str
    created: bool
    template_count: int
    accepted_count: int | None = None
    duplicate_count: int | None = None
    rejected_count: int | None = None
    images: list[ImageOutcome]
    duplicate_candidate_count: int = 0
    duplicate_candidates: list[DuplicateCandidate] = Field(default_factory=list)


class Decision(Document):
    """Threshold of a comparison and the error rates that it stands for.

    Attributes:
        threshold: lowest comparison score that counts as a match; in a search, for an identity with one template.
        fmr: false match rate against one identity; None if unknown.
        fpir: false positive identification rate of a search; None if unknown or not a search.
        precision: number format of the model runtime, such as `f32`.
        note: why the default rate of searches does not apply; None: it does, or the request names a rate.
    """

    threshold: float
    fmr: float | None = None
    fmr_interval: Interval | None = None
    fpir: float | None = None
    fpir_interval: Interval | None = None
    model_id: str
    precision: str
    note: str | None = None


class VerifyResponse(Decision):
    """Result of a verification (1:1).

    Attributes:
        score: cosine similarity, -1 to 1.
        overruled_by_correction: the score is a match, but a correction says that the face is another person's.
        face_a: face of the first picture; None if the request has an embedding.
        face_b: face of the second picture, if the request has one.
        identity: the identity that the face was compared with, if the request names one.
    """

    match: bool
    score: float
    overruled_by_correction: bool
    face_a: Face | None = None
    face_b: Face | None = None
    identity: Identity | None = None


class EmbeddedFace(Document):
    """A face with its embedding: little-endian float32 of length one, as Base64."""

    face: Face
    embedding: Base64Text

    @property
    def vector(self) -> tuple[float, ...]:
        """The numbers of the embedding."""
        return floats(self.embedding)


class EmbedResponse(Document):
    """Embeddings of the chosen faces. `dim`: numbers of one embedding."""

    model_id: str
    dim: int
    precision: str
    faces: list[EmbeddedFace]
    faces_detected: int


class Guess(Document):
    """A person of the classifier. `probability`: 0 to 1; all persons of the classifier add up to 1."""

    label: str
    probability: float


class PredictedFace(Document):
    """A face with its most probable persons, highest probability first."""

    face: Face
    guesses: list[Guess]


class PredictResponse(Document):
    """Result of the classifier. `people`: number of persons that the classifier distinguishes."""

    classifier_id: str
    model_id: str
    people: int
    faces: list[PredictedFace]
    faces_detected: int
