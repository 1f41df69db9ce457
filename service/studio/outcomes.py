"""Draws what a registration has made of each photo."""

from collections.abc import Sequence
from typing import Any

from identity_registry.errors import InvalidRequest
from identity_registry.responses.recognition import Face, ImageOutcome
from service.live.drawing import MATCH, NO_MATCH, UNDECIDED
from service.studio import pictures
from service.studio.texts import Texts
from service.vision.image import Pixels

COLORS = {"accepted": MATCH, "duplicate": UNDECIDED, "rejected": NO_MATCH}


def of_error(error: InvalidRequest) -> list[ImageOutcome]:
    """Returns the outcome of each picture from the error of a registration that accepted none."""
    images: list[dict[str, Any]] = error.extensions.get("images") or [
        {"code": error.code, "detail": error.detail}
        | {name: error.extensions[name] for name in ("faces", "face", "reasons") if name in error.extensions}
    ]
    return [ImageOutcome.model_validate({"status": "rejected"} | image) for image in images]


def gallery(texts: Texts, files: Sequence[str], outcomes: Sequence[ImageOutcome]) -> list[tuple[Pixels | str, str]]:
    """Returns each photo with its boxes and a caption that says what has become of it, and why."""
    return [
        (_drawn(texts, file, outcome), caption(texts, outcome)) for file, outcome in zip(files, outcomes, strict=False)
    ]


def caption(texts: Texts, outcome: ImageOutcome) -> str:
    """Returns the status of a photo in words, with the reason of a rejection."""
    parts = [texts(f"register.{outcome.status}")]
    if outcome.code is not None:
        key = f"errors.{outcome.code}"
        parts.append(texts(key) if key in texts else outcome.detail or outcome.code)
    if outcome.reasons:
        parts.append(", ".join(outcome.reasons))
    if outcome.outlier:
        parts.append(texts("register.outlier", similarity=f"{outcome.similarity:.2f}"))
    return ": ".join(parts)


def _drawn(texts: Texts, file: str, outcome: ImageOutcome) -> Pixels | str:
    pixels = pictures.upright(file)
    if pixels is None:
        return file
    faces: list[Face] = [outcome.face] if outcome.face is not None else outcome.faces or []
    labels = [texts("register.face", number=number) for number in range(1, len(faces) + 1)]
    if outcome.face is not None:
        labels = [texts(f"register.{outcome.status}")]
    return pictures.annotated(pixels, faces, labels, [COLORS.get(outcome.status, UNDECIDED)] * len(faces))
