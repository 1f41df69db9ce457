"""Types of the arguments: pictures, embeddings, boxes and fields that are not set."""

import base64
import enum
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

Picture = bytes | str | os.PathLike[str] | BinaryIO
"""Content of an image file, path of an image file, or file object that is open for reading in binary mode."""

Embedding = str | Iterable[float]
"""Numbers of an embedding, or little-endian float32 as Base64, as `embed` returns it."""

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the upright picture."""

FaceChoice = Literal["strongest", "largest", "only", "box", "all"]
"""The face of a picture that an operation uses."""

Detector = Literal["yolo", "none"]
Field = Literal["label", "metadata"]
"""`none`: the pictures are cropped faces already, and the service runs no detector."""

DEFAULT_COLLECTION: Final = "default"


class Unset(enum.Enum):
    """Distinguishes an argument that is absent from None, which deletes a value."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


def as_pictures(pictures: Picture | Sequence[Picture] | None) -> list[Picture]:
    """Returns a list, also for one picture or none."""
    if pictures is None:
        return []
    if isinstance(pictures, Sequence) and not isinstance(pictures, str | bytes):
        return list(pictures)
    return [pictures]


def read_picture(picture: Picture) -> bytes:
    """Returns the content of an image file.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | os.PathLike):
        return Path(picture).read_bytes()
    return picture.read()


def as_base64(embedding: Embedding | None) -> str | None:
    """Returns an embedding as little-endian float32 in Base64."""
    if embedding is None or isinstance(embedding, str):
        return embedding
    numbers = list(embedding)
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def without_unset(**values: Any) -> Mapping[str, Any]:
    return {name: value for name, value in values.items() if value is not UNSET}
