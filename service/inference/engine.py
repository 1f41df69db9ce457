"""Interface of inference engines: pictures in, faces with embeddings out."""

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
"""(height, width, 3) RGB."""
Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the upright picture."""


class FaceChoice(StrEnum):
    """Which of a picture's faces are embedded."""

    STRONGEST = "strongest"
    """The most prominent one: large, with a high detection score, and near the centre of the picture."""
    LARGEST = "largest"
    ONLY = "only"
    """The only face. If there are several, no face is embedded."""
    BOX = "box"
    """The one that overlaps most with `Picture.box`."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file and the faces of it that are to be embedded.

    Attributes:
        data: the bytes of the file.
        box: for `FaceChoice.BOX`: the box of the face, in pixels, or as shares of width and height if no number exceeds
            1.
        cropped: the whole picture is one aligned face; no face is detected.
        model_id: id of the model that embeds the faces; None: the engine's main model.
        keep_crop: the faces include their aligned crops.
        background: the picture belongs to a job; pictures of requests take precedence.
    """

    data: bytes
    choice: FaceChoice = FaceChoice.STRONGEST
    box: Box | None = None
    cropped: bool = False
    model_id: str | None = None
    keep_crop: bool = False
    background: bool = False


@dataclass(frozen=True, slots=True)
class SuppliedEmbedding:
    """An embedding that the client computed with this model, L2-normalised, (dim,) float32."""

    vector: Floats
    model_id: str


Sample = Picture | SuppliedEmbedding
"""One input of an enrolment, verification or search."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A detected face.

    Attributes:
        score: confidence of the detector, 0 to 1.
        landmarks: (5, 3) x, y and confidence of eyes, nose tip and mouth corners, in pixels of the upright picture;
            None if the detector has no landmarks.
        manual: the caller has drawn the box, and the detector has found no face there.
    """

    box: Box
    score: float
    landmarks: Floats | None
    manual: bool = False


class FaceFinder(Protocol):
    """Detects faces."""

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        """Returns the faces of each upright RGB picture, (height, width, 3), in descending order of their scores."""
        ...


class FaceDetector(Protocol):
    """Detects the face that is needed, and spends less time if it is found early."""

    def detect(self, pictures: Sequence[Pixels], choices: Sequence[FaceChoice]) -> list[list[Detection]]:
        """Returns the faces of each upright RGB picture, in descending order of their scores.

        Args:
            choices: the face of each picture that is needed. Further faces may be missing in the result, except for
                `FaceChoice.ALL`, `ONLY` and `BOX`.
        """
        ...

    def refine(self, pictures: Sequence[Pixels], detections: Sequence[list[Detection]]) -> list[list[Detection]]:
        """Returns detections that were found at a lower resolution, with landmarks from the pixels of the pictures.

        Boxes and scores stay the same.
        """
        ...

    def locate(self, picture: Pixels, box: Box) -> Detection | None:
        """Returns a detection with the box of a face that was not found, and with its landmarks.

        None: the box shows no face, or the detector cannot locate landmarks in a box.
        """
        ...


@dataclass(frozen=True, slots=True)
class Face:
    """A face with its embedding.

    Attributes:
        embedding: (dim,) float32, L2-normalised.
        crop: if `Picture.keep_crop` is set: the face aligned to 112 pixels, as a PNG file.
        supplied: the client supplied the embedding, so there is no picture; detection and quality are placeholders.
        truncated: the file of the picture ends before its last rows.
    """

    detection: Detection
    quality: Quality
    embedding: Floats
    crop: bytes | None = None
    supplied: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """Result of one picture.

    Attributes:
        width, height: size of the upright picture in pixels.
        detections: all detected faces.
        faces: the chosen faces, with embeddings.
        likely_cause: what probably prevents the detection of a face; None: a face was detected.
        truncated: the file ends before its last rows.
    """

    width: int
    height: int
    detections: list[Detection]
    faces: list[Face]
    likely_cause: str | None = None
    truncated: bool = False


class Engine(Protocol):
    """Detects and embeds faces.

    Attributes:
        model_id: id of the main model, which embeds pictures without a `model_id`.
        dims: dimension of the embeddings of every loaded model, by model id.
    """

    model_id: str
    dims: Mapping[str, int]

    async def observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        """Returns an observation for each picture, or the error of a picture that cannot be read.

        Raises:
            EngineBusy: the queue is full; no picture was processed.
            EngineUnavailable: no worker can be reached.
        """
        ...


class HostedEngine(Engine, Protocol):
    """An engine with its life cycle, for the process that owns it."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def problem(self) -> str | None:
        """Reason why the engine cannot process pictures at present, or None."""
        ...

    @property
    def failure(self) -> str | None:
        """Reason why the process must be restarted, or None."""
        ...
