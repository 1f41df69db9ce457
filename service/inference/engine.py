"""What the rest of the service knows of inference: pictures in, faces out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.errors import RegistryError
from service.vision.sample import Quality

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the upright picture."""


class FaceChoice(StrEnum):
    """Which faces of a picture are meant."""

    STRONGEST = "strongest"
    """The most prominent one: large, surely a face, near the middle of the picture."""
    LARGEST = "largest"
    ONLY = "only"
    """The one face there is; several are an error of the caller's."""
    BOX = "box"
    """The one that overlaps a given box most."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it came, and which of its faces to embed.

    Attributes:
        cropped: the whole picture is one aligned face.
        model_id: which model embeds it; None: the engine's main one.
        keep_crop: the aligned crop is wanted as well.
        background: nobody waits for it; pictures of requests go first.
        given: an embedding of that model in the picture's place; no engine gets it.
    """

    data: bytes
    choice: FaceChoice = FaceChoice.STRONGEST
    box: Box | None = None
    cropped: bool = False
    model_id: str | None = None
    keep_crop: bool = False
    background: bool = False
    given: Floats | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """A face found in a picture. `landmarks`: (5, 3) x, y, confidence, or None where the detector knows none."""

    box: Box
    score: float
    landmarks: Floats | None


class FaceFinder(Protocol):
    """Finds faces in upright RGB pictures, (height, width, 3), strongest first."""

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]: ...


@dataclass(frozen=True, slots=True)
class Face:
    """A detected face with its quality and its normalised (dim,) float32 embedding.

    Attributes:
        crop: where it was asked for, the face aligned to 112 pixels as a PNG file: what other models can embed.
        given: only the embedding is known.
    """

    detection: Detection
    quality: Quality
    embedding: Floats
    crop: bytes | None = None
    given: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen in one picture: every detected face, and the chosen ones with embeddings."""

    width: int
    height: int
    detections: list[Detection]
    faces: list[Face]


class Engine(Protocol):
    """Observes pictures. A picture that can't be read fails alone: its place holds the error.

    Attributes:
        model_id: the main model, which embeds where a picture names none.
        dims: of every loaded model's embeddings.
    """

    model_id: str
    dims: Mapping[str, int]

    async def observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        """Raises EngineBusy where too many pictures wait already."""
        ...


class HostedEngine(Engine, Protocol):
    """An engine as the process that owns it sees it."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def problem(self) -> str | None:
        """Why no picture can be observed just now, or None."""
        ...
