"""The API's documents. JSON and multipart bodies are read into the same classes."""

import base64
import binascii
import json
import struct
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.api.schemas.audit import EntryView
from service.errors import InvalidRequest
from service.gallery.search.explain import Step
from service.gallery.search.search import Plan
from service.inference.bundle import Calibration, Interval
from service.inference.engine import FaceChoice
from service.recognition.decision import OperatingPoint
from service.recognition.duplicates import DuplicatePolicy
from service.recognition.gate import QualityMode

MAX_TOP_K = 1000
MAX_IMAGES = 32
MAX_FUSED = 8
MAX_DIM = 4096
MAX_METADATA_CHARS = 16_384
MAX_FIELDS = 50


def _image_bytes(value: object) -> object:
    """Base64, with or without a data URL's head and line breaks, in the standard or the URL-safe alphabet."""
    if not isinstance(value, str):
        return value
    text = value.partition(",")[2] if value[:5].lower() == "data:" else value
    compact = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise PydanticCustomError("invalid_base64", "not valid Base64") from None
    if not data:
        raise PydanticCustomError("invalid_base64", "empty")
    return data


def _storable(text: str) -> str:
    """PostgreSQL's text holds neither NUL nor half of a surrogate pair."""
    if "\x00" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        raise PydanticCustomError("not_text", "must not contain NUL or lone surrogates")
    return text


def _storable_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        raise PydanticCustomError("not_json", "must be plain JSON, without NaN and infinities") from None
    if len(text) > MAX_METADATA_CHARS:
        raise PydanticCustomError("too_long", "must not be longer than 16,384 characters as JSON")
    for part in _strings(value):
        _storable(part)
    return value


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


ImageBytes = Annotated[
    bytes,
    BeforeValidator(_image_bytes),
    WithJsonSchema(
        {
            "type": "string",
            "contentEncoding": "base64",
            "description": "JPEG, PNG, WebP, BMP or HEIC as Base64 (a data URL is understood), or an uploaded file",
        }
    ),
]


def _embedding_bytes(value: object) -> object:
    """Little-endian float32, as Base64 or as a list of numbers."""
    if isinstance(value, list):
        if not 0 < len(value) <= MAX_DIM or not all(isinstance(item, int | float) for item in value):
            raise PydanticCustomError("not_an_embedding", "must be a list of up to 4,096 numbers, or Base64")
        try:
            return struct.pack(f"<{len(value)}f", *value)
        except (struct.error, OverflowError):
            raise PydanticCustomError("not_an_embedding", "must be numbers of single precision") from None
    data = _image_bytes(value)
    if isinstance(data, bytes) and (len(data) % 4 or len(data) > 4 * MAX_DIM):
        raise PydanticCustomError("not_an_embedding", "must be little-endian float32 numbers, up to 4,096 of them")
    return data


EmbeddingBytes = Annotated[
    bytes,
    BeforeValidator(_embedding_bytes),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "contentEncoding": "base64"},
                {"type": "array", "items": {"type": "number"}, "maxItems": 4096},
            ],
            "description": "of length one; little-endian float32 as Base64, or a list of numbers",
        }
    ),
]
ModelId = Annotated[
    str, Field(min_length=1, max_length=256, description="of the model that made the embedding; needed with one")
]
OneModel = Annotated[str, Field(min_length=1, max_length=256, description="one of GET /models; unset: the main one")]
Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_storable)]


def _future(moment: datetime) -> datetime:
    if moment <= datetime.now(UTC):
        raise PydanticCustomError("past", "the time has passed already; DELETE erases a person at once")
    return moment


Metadata = Annotated[dict[str, Any], AfterValidator(_storable_json)]
CollectionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
RetainUntil = Annotated[
    AwareDatetime,
    AfterValidator(_future),
    Field(description="erase the person after this time", examples=["2099-12-31T23:59:59Z"]),
]
Coordinate = Annotated[float, Field(allow_inf_nan=False)]
BoxCorners = Annotated[
    tuple[Coordinate, Coordinate, Coordinate, Coordinate],
    Field(description="x_min, y_min, x_max, y_max in pixels of the upright picture", examples=[[40, 32, 180, 210]]),
]
Detector = Annotated[
    Literal["yolo", "none"],
    Field(description="`none`: the pictures are cropped faces already, nothing is searched for"),
]
Fmr = Annotated[
    float,
    Field(gt=0, lt=1, description="false match rate that a decision about one enrolled person, or one pair, may have"),
]
Fpir = Annotated[
    float,
    Field(gt=0, lt=1, description="false positive identification rate that a search of the whole collection may have"),
]
Threshold = Annotated[float, Field(ge=-1, le=1, description="lowest comparison score that counts as a match")]


def example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": values})


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_bytes="base64")

    @model_validator(mode="before")
    @classmethod
    def _is_small(cls, values: object) -> object:
        """A body of a million unknown fields is one fault, not a million."""
        if isinstance(values, dict) and len(values) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "has far more fields than the operation knows")
        return values


class _Choosing(Body):
    face: FaceChoice = FaceChoice.STRONGEST
    detector: Detector = "yolo"


class _Rates(Body):
    """At most one error rate, or where a body has it a threshold."""

    fmr: Fmr | None = None
    fpir: Fpir | None = None

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        named = [name for name in ("fmr", "fpir", "threshold") if getattr(self, name, None) is not None]
        if len(named) > 1:
            raise PydanticCustomError(
                "several_operating_points",
                "ask for one of `fmr`, `fpir` and `threshold`, not for {names}",
                {"names": " and ".join(f"`{name}`" for name in named)},
            )
        return self

    @property
    def operating_point(self) -> OperatingPoint | None:
        """What is asked for, or None where a default applies."""
        return OperatingPoint.one_of(self.fmr, self.fpir, getattr(self, "threshold", None))


class _DecisionFields(_Choosing, _Rates):
    threshold: Threshold | None = None


def _rename(values: object, short: str, field: str, as_list: bool = False) -> object:
    """Understand `image` where one picture is meant and the field has another name."""
    if not isinstance(values, dict) or short not in values or field in values:
        return values
    value = values[short]
    return {name: item for name, item in values.items() if name != short} | {field: [value] if as_list else value}


def _require_box(face: FaceChoice, box: object, name: str) -> None:
    if (face is FaceChoice.BOX) != (box is not None):
        raise PydanticCustomError("box_and_choice", "face=box and `{name}` go together", {"name": name})


class RegisterRequest(_Choosing):
    """Enrol one person from one or more pictures."""

    model_config = example(label="ada", images=["<JPEG as Base64>"], metadata={"team": "engines"})

    face: FaceChoice = FaceChoice.ONLY
    collection: CollectionName = "default"
    external_id: Name | None = Field(None, description="your key for the person; the same key is the same person")
    label: Name | None = Field(None, description="name to show; alone it is the key as well")
    metadata: Metadata | None = None
    images: Annotated[list[ImageBytes], Field(max_length=MAX_IMAGES)] = []
    embeddings: Annotated[list[EmbeddingBytes], Field(max_length=MAX_IMAGES)] = Field(
        [], description="in the place of `images`, computed elsewhere with the same model"
    )
    model_id: ModelId | None = None
    boxes: list[BoxCorners] | None = Field(None, max_length=MAX_IMAGES, description="with face=box: one for each image")
    retain_until: RetainUntil | None = None
    force: bool = Field(False, description="enrol faces that the quality gate refuses all the same")

    @model_validator(mode="before")
    @classmethod
    def _may_have_one_image(cls, values: object) -> object:
        return _rename(values, "image", "images", as_list=True)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.external_id is None and self.label is None:
            raise PydanticCustomError("no_key", "`external_id` or `label` is needed")
        if bool(self.images) == bool(self.embeddings):
            raise PydanticCustomError("no_picture", "either `images` or `embeddings` are needed")
        if self.face is FaceChoice.ALL:
            raise PydanticCustomError("one_face", "register enrols one face of each picture; face=all is for search")
        _require_box(self.face, self.boxes, "boxes")
        if self.boxes is not None and len(self.boxes) != len(self.images):
            raise PydanticCustomError("boxes", "`boxes` needs one box for each image")
        return self

    @property
    def key(self) -> str:
        return self.external_id or self.label or ""


class VerifyRequest(_DecisionFields):
    """Compare two pictures, or one picture with an enrolled identity."""

    model_config = example(image_a="<JPEG as Base64>", image_b="<JPEG as Base64>", fmr=0.001)

    image_a: ImageBytes | None = None
    image_b: ImageBytes | None = None
    embedding_a: EmbeddingBytes | None = Field(None, description="in the place of `image_a`")
    embedding_b: EmbeddingBytes | None = Field(None, description="in the place of `image_b`")
    model_id: ModelId | None = None
    box_a: BoxCorners | None = None
    box_b: BoxCorners | None = None
    collection: CollectionName = "default"
    identity_id: uuid.UUID | None = None
    external_id: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _may_have_one_image(cls, values: object) -> object:
        return _rename(values, "image", "image_a")

    @model_validator(mode="after")
    def _has_two_sides(self) -> Self:
        if (self.image_a is None) == (self.embedding_a is None):
            raise PydanticCustomError("no_picture", "either `image_a` or `embedding_a` is needed")
        others = (self.image_b, self.embedding_b, self.identity_id, self.external_id)
        if sum(side is not None for side in others) != 1:
            raise PydanticCustomError(
                "two_sides",
                "`image_a` is compared with exactly one of `image_b`, `embedding_b`, `identity_id` and `external_id`",
            )
        if self.face is FaceChoice.ALL:
            raise PydanticCustomError("one_face", "verify compares one face of each picture; face=all is for search")
        if self.image_a is not None:
            _require_box(self.face, self.box_a, "box_a")
        if self.image_b is not None:
            _require_box(self.face, self.box_b, "box_b")
        return self


class SearchRequest(_DecisionFields):
    """Find the enrolled people nearest to a face; `face=all` searches for every face of the picture."""

    model_config = example(image="<JPEG as Base64>", top_k=3)

    collection: CollectionName = "default"
    image: ImageBytes | None = None
    images: Annotated[list[ImageBytes], Field(min_length=1, max_length=MAX_FUSED)] | None = Field(
        None, description="in place of `image`: several pictures of one person, fused into one probe"
    )
    embedding: EmbeddingBytes | None = Field(None, description="in the place of `image`")
    model_id: ModelId | None = None
    box: BoxCorners | None = None
    top_k: int = Field(5, ge=1, le=MAX_TOP_K)
    filter: Metadata | None = Field(
        None,
        description="only people whose metadata fulfils this",
        examples=[{"team": "engines", "floor": {"$gte": 3}}],
    )
    explain: bool = Field(False, description="tell how the database searched; it searches twice then")

    @model_validator(mode="after")
    def _has_its_pictures(self) -> Self:
        if sum(probe is not None for probe in (self.image, self.images, self.embedding)) != 1:
            raise PydanticCustomError("one_probe", "one of `image`, `images` and `embedding` is needed")
        if len(self.pictures) > 1 and self.face in (FaceChoice.ALL, FaceChoice.BOX):
            raise PydanticCustomError(
                "one_face", "several pictures are of one person: face=all and face=box are for one"
            )
        if self.embedding is None:
            _require_box(self.face, self.box, "box")
        return self

    @property
    def pictures(self) -> list[bytes]:
        return self.images or ([] if self.image is None else [self.image])


QUALITY = "how good a face must be to be enrolled: anything, what the settings ask, or a portrait"
DUPLICATES = "when a newcomer looks like somebody enrolled: don't look, name them in the answer, or refuse"


STORE_CROPS = "keep aligned crops of the faces, encrypted, so that another model can embed them"


class CollectionCreateRequest(_Rates):
    """A new collection; with `fmr` or `fpir`, requests that ask for nothing are decided by it."""

    model_config = example(name="staff", fpir=0.01, quality="strict", duplicates="reject")

    name: CollectionName
    quality: QualityMode = Field(QualityMode.STANDARD, description=QUALITY)
    duplicates: DuplicatePolicy = Field(DuplicatePolicy.ALLOW, description=DUPLICATES)
    store_crops: bool = Field(False, description=STORE_CROPS)
    model_id: OneModel | None = None


class CollectionUpdateRequest(_Rates):
    """What is left out stays as it is; a rate of null is taken away, so that the service's own default applies."""

    model_config = example(fmr=0.0001, duplicates="warn")

    quality: QualityMode | None = Field(None, description=QUALITY)
    duplicates: DuplicatePolicy | None = Field(None, description=DUPLICATES)
    store_crops: bool | None = Field(None, description=STORE_CROPS + "; off deletes those that are there")

    @property
    def choices(self) -> dict[str, Any]:
        """The columns to set."""
        chosen = {name: getattr(self, name) for name in ("quality", "duplicates")}
        changes: dict[str, Any] = {name: value.value for name, value in chosen.items() if value is not None}
        if self.store_crops is not None:
            changes["store_crops"] = self.store_crops
        if self.model_fields_set & {"fmr", "fpir"}:  # a collection has one default rate at most
            changes |= {"fmr": self.fmr, "fpir": self.fpir}
        return changes


class FaceView(BaseModel):
    box: BoxCorners
    detection_score: float
    landmarks: list[tuple[float, float]] | None = Field(description="eyes, nose, mouth corners; left to right")
    quality: float | None = Field(
        None, description="0 to 1: share of the model's reference faces that it recognises less well"
    )


class ImageOutcomeView(BaseModel):
    status: Literal["accepted", "duplicate", "rejected"]
    template_id: uuid.UUID | None = None
    face: FaceView | None = None
    code: str | None = Field(None, description="why it was rejected; docs/problems.md explains each code")
    detail: str | None = None
    reasons: list[str] | None = Field(None, description="what the quality gate minds; with force, what it would have")
    faces: list[FaceView] | None = Field(None, description="what was seen, where the choice of a face failed")
    agreement: float | None = Field(
        None,
        description="cosine similarity to the nearest of the person's other pictures, for keys that may search; null: "
        "there is none",
    )
    outlier: bool = Field(False, description="it is so low that this picture may show somebody else")


class IdentityView(BaseModel):
    id: uuid.UUID
    external_id: str
    label: str
    metadata: dict[str, Any]
    template_count: int
    created_at: datetime
    updated_at: datetime
    retain_until: datetime | None = Field(None, description="the person is erased after this time")


class MergeResponse(IdentityView):
    templates_moved: int


class IdentityUpdateRequest(Body):
    """What is left out stays as it is. Embeddings are not touched."""

    model_config = example(label="Ada Lovelace", metadata={"floor": 3})

    label: Name | None = None
    metadata: Metadata | None = None
    retain_until: RetainUntil | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The columns to set; `retain_until` of null is taken away."""
        chosen = {"label": self.label, "metadata": self.metadata}
        changes: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        if "retain_until" in self.model_fields_set:
            changes["retain_until"] = self.retain_until
        return changes


MAX_MERGED = 100
MAX_SPLIT = 1000


class MergeRequest(Body):
    """Who else the person is."""

    model_config = example(identities=["5a3c6a0e-7f0e-4f0a-9d3e-2f2f8f0b6a11"])

    identities: list[uuid.UUID] = Field(min_length=1, max_length=MAX_MERGED)

    def require_others(self, identity_id: uuid.UUID) -> None:
        """Raises InvalidRequest where a person is to be merged with itself, or twice."""
        if identity_id in self.identities or len(set(self.identities)) < len(self.identities):
            raise InvalidRequest("`identities` are other people, each named once", pointer="/identities")


class SplitRequest(Body):
    """Which templates are somebody else's, and who that is."""

    model_config = example(template_ids=["5a3c6a0e-7f0e-4f0a-9d3e-2f2f8f0b6a11"], external_id="grace")

    template_ids: list[uuid.UUID] = Field(min_length=1, max_length=MAX_SPLIT)
    external_id: Name
    label: Name | None = None
    metadata: Metadata | None = None


class MoveRequest(Body):
    """Where the person goes."""

    model_config = example(to="alumni")

    to: CollectionName


class TemplateView(BaseModel):
    id: uuid.UUID
    model_id: str
    box: list[float] = Field(description="x_min, y_min, x_max, y_max in pixels of the upright picture")
    detection_score: float
    quality: float | None = Field(description="share of the model's reference faces that it recognises less well")
    created_at: datetime


class TemplatesResponse(BaseModel):
    templates: list[TemplateView]
    next_cursor: str | None


class CorrectionRequest(_Choosing):
    """A face that is not the person's."""

    model_config = example(image="<JPEG as Base64>")

    image: ImageBytes | None = None
    embedding: EmbeddingBytes | None = Field(None, description="in the place of `image`")
    model_id: ModelId | None = None
    box: BoxCorners | None = None

    @model_validator(mode="after")
    def _is_one_face(self) -> Self:
        if (self.image is None) == (self.embedding is None):
            raise PydanticCustomError("no_picture", "either `image` or `embedding` is needed")
        if self.face is FaceChoice.ALL:
            raise PydanticCustomError("one_face", "a correction is about one face")
        if self.image is not None:
            _require_box(self.face, self.box, "box")
        return self


class CorrectionView(BaseModel):
    id: uuid.UUID
    model_id: str
    created_at: datetime


class CorrectionsResponse(BaseModel):
    corrections: list[CorrectionView]
    next_cursor: str | None


class EmbedRequest(_Choosing):
    """A picture whose faces are embedded; nothing is stored."""

    model_config = example(image="<JPEG as Base64>", face="all")

    image: ImageBytes
    box: BoxCorners | None = None
    model_id: OneModel | None = None

    @model_validator(mode="after")
    def _has_its_box(self) -> Self:
        _require_box(self.face, self.box, "box")
        return self


class PredictRequest(_Choosing):
    """A picture whose faces are told to be of one of a closed set of people; nothing is stored."""

    model_config = example(image="<JPEG as Base64>", top_k=3)

    image: ImageBytes | None = None
    url: Annotated[str, Field(max_length=2048)] | None = Field(
        None, description="in the picture's place: where it lies, on a host that the operator allows"
    )
    box: BoxCorners | None = None
    top_k: int = Field(5, ge=1, le=100)

    @model_validator(mode="after")
    def _has_one_picture(self) -> Self:
        if (self.image is None) == (self.url is None):
            raise PydanticCustomError("one_picture", "send `image` or `url`")
        _require_box(self.face, self.box, "box")
        return self


class GuessView(BaseModel):
    label: str
    probability: float = Field(description="among the people of the classifier; they add up to one")


class PredictedFaceView(BaseModel):
    face: FaceView
    guesses: list[GuessView] = Field(description="the likeliest first")


class PredictResponse(BaseModel):
    classifier_id: str
    model_id: str
    people: int = Field(description="that the classifier knows")
    faces: list[PredictedFaceView]
    faces_found: int


class EmbeddedFaceView(BaseModel):
    face: FaceView
    embedding: str = Field(description="of length one; little-endian float32, Base64")


class EmbedResponse(BaseModel):
    model_id: str
    dim: int
    precision: str
    faces: list[EmbeddedFaceView]
    faces_found: int


class TemplateDeletionResponse(BaseModel):
    template_id: uuid.UUID
    templates_left: int


class CollectionDeletionResponse(BaseModel):
    name: str
    identities_deleted: int


class IdentitiesResponse(BaseModel):
    identities: list[IdentityView]
    next_cursor: str | None = Field(description="where the next page begins; null: this is the last one")


class DuplicateCandidateView(BaseModel):
    identity_id: uuid.UUID
    external_id: str
    label: str
    score: float = Field(description="cosine similarity to the nearest template")


class RegisterResponse(BaseModel):
    identity_id: uuid.UUID
    external_id: str
    label: str
    collection: str
    created: bool
    template_count: int
    images: list[ImageOutcomeView]
    duplicate_candidate_count: int = Field(0, description="others who match, where the collection looks for them")
    duplicate_candidates: list[DuplicateCandidateView] = Field(
        [], description="who they are, for keys that may search; an answer that is given again names nobody"
    )


class DecisionView(BaseModel):
    threshold: float = Field(description="lowest score that is a match; in a search: with a person of one template")
    fmr: float | None = Field(description="false match rate against one person that it stands for; null: unknown")
    fmr_interval: Interval | None = Field(description="95 % confidence interval of that rate")
    fpir: float | None = Field(description="false positive rate of a search with it; null: not known, or no search")
    fpir_interval: Interval | None = Field(description="95 % confidence interval of that rate")
    model_id: str
    precision: str


class VerifyResponse(DecisionView):
    match: bool
    score: float = Field(description="cosine similarity, -1 to 1")
    corrected: bool = Field(description="somebody said of a face nearer to this one that it is another person's")
    face_a: FaceView | None
    face_b: FaceView | None = None
    identity: IdentityView | None = None


class CandidateView(BaseModel):
    identity_id: uuid.UUID
    external_id: str
    label: str
    metadata: dict[str, Any]
    match: bool
    corrected: bool = Field(description="somebody said of a face nearer to the probe that it is not this person's")
    score: float = Field(description="cosine similarity to the nearest template; the decision is by this one")
    threshold: float = Field(description="what the score is compared with: an `fmr` asks more of several templates")
    centroid_score: float = Field(description="cosine similarity to the centroid")
    template_count: int


class ExplanationView(BaseModel):
    plan: Plan = Field(
        description="exact: every centroid was compared; codes: every centroid's code was; ann: through an HNSW index"
    )
    shortlist: int = Field(description="people by centroid whose templates were compared at most")
    ms: float
    steps: list[Step] = Field(description="PostgreSQL's plan, outermost first, without conditions")


class FaceMatchesView(BaseModel):
    face: FaceView | None = Field(description="of the first picture; null: an embedding was given")
    fused: int = Field(1, description="pictures that the probe was made of")
    agreement: float | None = Field(None, description="lowest cosine similarity between two of the fused pictures")
    outlier: bool = Field(False, description="it is so low that the pictures may show several people")
    candidates: list[CandidateView]
    explain: ExplanationView | None = None


class SearchResponse(DecisionView):
    results: list[FaceMatchesView]
    faces_found: int
    plan: Plan
    search_ms: float


class CollectionView(BaseModel):
    name: str
    model_id: str
    fmr: float | None = Field(description="default false match rate of this collection")
    fpir: float | None = Field(description="default false positive identification rate of this collection")
    quality: QualityMode = Field(description=QUALITY)
    duplicates: DuplicatePolicy = Field(description=DUPLICATES)
    store_crops: bool = Field(description=STORE_CROPS)
    secondary_model_id: str | None = Field(description="embeds every new face as well; null: no other model")
    identity_count: int
    created_at: datetime


class ModelView(BaseModel):
    id: str
    dim: int
    precision: str
    calibrated: bool = Field(description="whether error rates can be asked for; else explicit thresholds only")


class ModelsResponse(BaseModel):
    models: list[ModelView]


class CalibrationResponse(BaseModel):
    model_id: str
    calibration: Calibration
    picture: str | None = Field(description="address of the DET curve, an SVG picture")


class CollectionsResponse(BaseModel):
    collections: list[CollectionView]
    next_cursor: str | None


class StoredEmbedding(BaseModel):
    """A template or centroid with its numbers."""

    id: uuid.UUID | None = Field(description="of the template; null: a centroid")
    model_id: str
    embedding: str = Field(description="little-endian float32, Base64")
    box: list[float] | None
    detection_score: float | None
    quality: float | None
    source_sha256: str | None = Field(description="of the picture and the place of the face in it, hexadecimal")
    created_at: datetime | None


class StoredCrop(BaseModel):
    """A picture of the face, aligned to 112 pixels."""

    source_sha256: str = Field(description="as of the templates that were made of it, hexadecimal")
    image: str | None = Field(description="PNG, Base64; null: the service has no key that opens it")
    created_at: datetime


class SubjectDataResponse(BaseModel):
    """Everything that the registry holds on a person. Biometric data: handle it as such."""

    identity: IdentityView
    templates: list[StoredEmbedding]
    centroids: list[StoredEmbedding]
    corrections: list[CorrectionView] = Field(description="without embeddings: the faces are other people's")
    crops: list[StoredCrop]
    kept_answers: list[dict[str, Any]] = Field(description="answers kept for requests that come again")
    job_rows: list[dict[str, Any]] = Field(description="results of bulk enrolments")
    audit: list[EntryView] = Field(description="what was done, up to 10,000 entries")


class ReceiptView(BaseModel):
    """An entry of the audit trail; kept outside, it proves later that the trail is the one it was."""

    number: int
    at: datetime
    code: str = Field(description="HMAC-SHA256 over the entry and all before it, hexadecimal")


class DeletionResponse(BaseModel):
    identity_id: uuid.UUID
    templates_deleted: int
    deleted: dict[str, int] = Field(description="rows by kind")
    receipt: ReceiptView | None = Field(description="null: the service keeps no audit trail")


class ProblemView(BaseModel):
    """RFC 9457, application/problem+json."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    code: str
    detail: str
    pointer: str | None = None
    request_id: str | None = None
