"""Field types and base classes of request documents. JSON and multipart bodies are validated by the same classes."""

import base64
import binascii
import struct
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

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
from typing_extensions import TypeAliasType

from service.inference.engine import FaceChoice
from service.recognition.operating_point import OperatingPoint
from service.recognition.person_fields import storable
from service.vision.formats import NAMES, describe_unknown

MAX_DIM = 4096
MAX_FIELDS = 50
MAX_COORDINATE = 1e9
"""Limit in pixels. The square of a larger coordinate overflows in single precision."""
MAX_DESCRIBED = 2048
"""Characters of a text that is no Base64, by which the error describes it."""
MAX_TIME = datetime(9999, 1, 1, tzinfo=UTC)
"""A later time can exceed the range of Python's datetime after its conversion to another time zone."""


def _image_bytes(value: object) -> object:
    """Decodes Base64, with or without a data URL's prefix and line breaks, in the standard or the URL-safe alphabet."""
    if not isinstance(value, str):
        return value
    text = value.partition(",")[2] if value[:5].lower() == "data:" else value
    try:
        data = binascii.a2b_base64(text, strict_mode=True)  # copies nothing, unlike the tolerant way
    except (binascii.Error, ValueError):
        data = _tolerant_base64(text)
    if not data:
        raise PydanticCustomError("invalid_base64", "must not be empty")
    return data


def _tolerant_base64(text: str) -> bytes:
    compact = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        description = describe_unknown(text[:MAX_DESCRIBED].encode())
        problem = f"must be a picture, and {description}" if "; " in description else "must be valid Base64"
        raise PydanticCustomError("invalid_base64", problem) from None


def _embedding_bytes(value: object) -> object:
    """Returns little-endian float32 bytes from a list of numbers, or from Base64."""
    if isinstance(value, list):
        if not 0 < len(value) <= MAX_DIM or not all(isinstance(item, int | float) for item in value):
            raise PydanticCustomError("not_an_embedding", "must be a list of up to 4,096 numbers, or Base64")
        try:
            return struct.pack(f"<{len(value)}f", *value)
        except (struct.error, OverflowError):
            raise PydanticCustomError("not_an_embedding", "the numbers must fit in single precision") from None
    data = _image_bytes(value)
    if isinstance(data, bytes) and (len(data) % 4 or len(data) > 4 * MAX_DIM):
        raise PydanticCustomError("not_an_embedding", "must be up to 4,096 little-endian float32 numbers")
    return data


def _future(moment: datetime) -> datetime:
    """Returns the time in UTC. Raises PydanticCustomError for a time in the past or after `MAX_TIME`."""
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("out_of_range", "must be a time before the year 9999 in UTC") from None
    if utc <= datetime.now(UTC):
        raise PydanticCustomError("past", "must be in the future; DELETE erases an identity immediately")
    if utc >= MAX_TIME:
        raise PydanticCustomError("out_of_range", "must be a time before the year 9999 in UTC")
    return utc


ImageBytes = Annotated[
    bytes,
    BeforeValidator(_image_bytes),
    WithJsonSchema(
        {
            "type": "string",
            "contentEncoding": "base64",
            "description": f"{NAMES} as Base64; a data URL is accepted",
        }
    ),
]
EmbeddingBytes = Annotated[
    bytes,
    BeforeValidator(_embedding_bytes),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "contentEncoding": "base64"},
                {"type": "array", "items": {"type": "number"}, "maxItems": MAX_DIM},
            ],
            "description": "L2-normalised embedding: little-endian float32 as Base64, or a list of numbers",
        }
    ),
]
ModelId = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(storable)]
EmbeddingModel = Annotated[ModelId, Field(description="model of the embedding; required with an embedding")]
LoadedModel = Annotated[ModelId, Field(description="one of GET /models; default: the service's main model")]
Fields = Annotated[list[Literal["label", "metadata"]], Field(max_length=2)]
FIELDS = "fields of free content in the response; `label` alone omits the metadata, which may be long"
CollectionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
RetainUntil = Annotated[
    AwareDatetime,
    AfterValidator(_future),
    Field(description="the service erases the identity after this time (ISO 8601 with a time zone)"),
]
Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE, allow_inf_nan=False)]
BoxCorners = Annotated[
    tuple[Coordinate, Coordinate, Coordinate, Coordinate],
    Field(
        description="x_min, y_min, x_max, y_max in pixels of the upright picture; in a request also as shares of its "
        "width and height, if no number exceeds 1"
    ),
]
Detector = TypeAliasType(
    "Detector",
    Annotated[
        Literal["yolo", "none"],
        Field(description="`none`: the pictures are cropped faces; no face is detected"),
    ],
)
"""A named alias is one component of the OpenAPI document; an Annotated type would be repeated in every operation."""
Fmr = Annotated[
    float, Field(gt=0, lt=1, description="false match rate of the comparison with one identity, or of one pair")
]
Fpir = Annotated[
    float, Field(gt=0, lt=1, description="false positive identification rate of a search of the whole collection")
]
Threshold = Annotated[float, Field(ge=-1, le=1, description="lowest comparison score that is a match")]


class Body(BaseModel):
    """Base of request documents: immutable, without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_bytes="base64")

    @model_validator(mode="before")
    @classmethod
    def _limit_fields(cls, values: object) -> object:
        """Refuses a body with more than `MAX_FIELDS` fields as one fault, and not as one fault for each field."""
        if isinstance(values, dict) and len(values) > MAX_FIELDS:
            raise PydanticCustomError("too_many_fields", "must not have more than 50 fields")
        return values


class FaceSelection(Body):
    """The fields that select the face of each picture."""

    face: FaceChoice = FaceChoice.STRONGEST
    detector: Detector = "yolo"


class RateSelection(Body):
    """The fields of the operating point, of which a request has at most one: an error rate or the threshold."""

    fmr: Fmr | None = None
    fpir: Fpir | None = None

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        names = [name for name in ("fmr", "fpir", "threshold") if getattr(self, name, None) is not None]
        if len(names) > 1:
            raise PydanticCustomError(
                "several_operating_points",
                "send only one of `fmr`, `fpir` and `threshold`, not {names}",
                {"names": " and ".join(f"`{name}`" for name in names)},
            )
        return self

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The requested operating point; None: a default applies."""
        return OperatingPoint.from_request(self.fmr, self.fpir, getattr(self, "threshold", None))


class DecisionFields(FaceSelection, RateSelection):
    """The fields that verifications and searches have in common."""

    threshold: Threshold | None = None


def rename(values: object, alias: str, field: str, as_list: bool = False) -> object:
    """Returns the values with the field `alias` renamed to `field`, unless `field` is present.

    Args:
        as_list: wrap the value in a list, for example one `image` for `images`.
    """
    if not isinstance(values, dict) or alias not in values or field in values:
        return values
    value = values[alias]
    return {name: item for name, item in values.items() if name != alias} | {field: [value] if as_list else value}


def require_box(face: FaceChoice, box: object, name: str) -> None:
    """Raises PydanticCustomError if only one of `face=box` and the box is sent."""
    if (face is FaceChoice.BOX) != (box is not None):
        raise PydanticCustomError("box_and_choice", "send `face=box` and `{name}` together", {"name": name})
