"""Detects, aligns and embeds the faces of decoded pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import RegistryError, TooManyFaces
from service.inference.coordinates import enlarged, in_pixels, inside, shorter_side
from service.inference.embedder import FaceEmbedder
from service.inference.engine import Box, Detection, Face, FaceDetector, Floats, Observation, Picture
from service.inference.selection import select
from service.inference.views import PROMINENT
from service.telemetry.metrics import STAGES
from service.vision.alignment import TEMPLATE_SIZE, align_with_margin, crop_box, fit_crop
from service.vision.heatmaps import six_points
from service.vision.image import DecodedPicture, ImageLimits, Pixels, decode_into, encode, new_memory
from service.vision.quality import measure
from service.vision.visibility import likely_cause

MAX_FACES = 64
MIN_LONGER_SIDE = 1280
"""Twice the largest input of the shipped detector, so that its input is always an average of several pixels."""
SUFFICIENT_FACE_PX = 112
"""Side of a face from which on more pixels do not change its aligned crop, which shows it with about 90 pixels."""
MIN_BOX_PX = 8
"""Minimum side of a box that the caller has drawn, inside the picture."""
DEFAULT_LIMITS = ImageLimits()
_FaceIndex = tuple[int, int]
"""Index of a picture in the batch and index of a detection in that picture."""
_Crop = tuple[Pixels, Floats | None]
"""An aligned crop, and (6, 3) landmarks in pixels of the crop if they are known."""


@dataclass(frozen=True, slots=True)
class MorePixelsNeeded:
    """Result of a picture that was scaled down while it was decoded: a chosen face has too few pixels in it.

    Attributes:
        detections: the detected faces, in pixels of the whole picture.
    """

    detections: list[Detection]


class FacePipeline:
    """Runs the models on the calling thread.

    Args:
        min_longer_side: pixels that are sufficient for the detection of all faces. None: pictures must not be scaled
            down while they are decoded.
        embedders: the main model first.
        max_faces: maximum number of faces of a picture that are embedded.
    """

    def __init__(
        self,
        detector: FaceDetector,
        embedders: Sequence[FaceEmbedder],
        max_faces: int = MAX_FACES,
        min_longer_side: int | None = MIN_LONGER_SIDE,
    ) -> None:
        self._embedders = {embedder.manifest.model_id: embedder for embedder in embedders}
        self.model_id = embedders[0].manifest.model_id
        self.dims: Mapping[str, int] = {
            name: embedder.manifest.embedding_dim for name, embedder in self._embedders.items()
        }
        self._detector, self._max_faces = detector, max_faces
        self._min_longer_side = min_longer_side

    def min_longer_side(self, image: Picture) -> int | None:
        """Returns the pixels that are sufficient at first; None: all. One prominent face is likely to have enough."""
        if self._min_longer_side is None:
            return None
        return self._min_longer_side // 2 if image.choice in PROMINENT else self._min_longer_side

    def observe_files(
        self, images: Sequence[Picture], limits: ImageLimits = DEFAULT_LIMITS
    ) -> list[Observation | RegistryError]:
        """Decodes trusted pictures in this process and observes them."""
        results: dict[int, Observation | RegistryError] = {}
        known: dict[int, list[Detection]] = {}
        for is_first in (True, False):
            decoded: dict[int, DecodedPicture] = {}
            for row in (row for row in range(len(images)) if row not in results):
                min_longer_side = self.min_longer_side(images[row]) if is_first else None
                try:
                    with STAGES.labels("decode").time():
                        decoded[row] = decode_into(images[row].data, limits, new_memory, min_longer_side)
                except RegistryError as error:
                    results[row] = error
            rows = list(decoded)
            observed = self.observe(
                [images[row] for row in rows], list(decoded.values()), [known.get(row) for row in rows]
            )
            for row, result in zip(rows, observed, strict=True):
                if isinstance(result, MorePixelsNeeded):
                    known[row] = result.detections
                else:
                    results[row] = result
        return [results[row] for row in range(len(images))]

    def observe(
        self,
        images: Sequence[Picture],
        pictures: Sequence[DecodedPicture],
        known: Sequence[list[Detection] | None] | None = None,
    ) -> list[Observation | RegistryError | MorePixelsNeeded]:
        """Runs each stage once for all decoded pictures.

        Args:
            known: for a picture with all pixels, the detections of `MorePixelsNeeded`: only their landmarks are located
                again. None: the faces are detected.

        Returns:
            For each picture its observation in pixels of the whole picture, the error of the picture, or
            `MorePixelsNeeded` if it was scaled down too much for the chosen faces.
        """
        decoded = [picture.pixels for picture in pictures]
        with STAGES.labels("detect").time():
            detections = self._detect(images, decoded, [None] * len(images) if known is None else known)
        chosen = [self._choose(*item) for item in zip(images, detections, pictures, strict=True)]
        crops = {
            (row, index): self._crop(images[row], decoded[row], detections[row][index])
            for row, indices in enumerate(chosen)
            if isinstance(indices, list)
            for index in indices
        }
        with STAGES.labels("embed").time():
            embedded = self._embed(images, crops)
        results: list[Observation | RegistryError | MorePixelsNeeded] = []
        for row, (picture, indices) in enumerate(zip(pictures, chosen, strict=True)):
            if not isinstance(indices, list):
                results.append(indices)
                continue
            faces = [
                self._face(images[row], picture, crops[row, index][0], detections[row][index], *embedded[row, index])
                for index in indices
            ]
            in_picture = [enlarged(detection, picture) for detection in detections[row] if not detection.manual]
            cause = None if in_picture else likely_cause(decoded[row], picture.width, picture.height)
            size, truncated = (picture.width, picture.height), picture.visible is not None
            results.append(Observation(*size, in_picture, faces, cause, truncated))
        return results

    def _detect(
        self, images: Sequence[Picture], decoded: Sequence[Pixels], known: Sequence[list[Detection] | None]
    ) -> list[list[Detection]]:
        detections: list[list[Detection]] = [[] for _ in images]
        uncropped: dict[int, Pixels] = {}
        for row, (pixels, faces) in enumerate(zip(decoded, known, strict=True)):
            if faces is not None:
                [detections[row]] = self._detector.refine([pixels], [faces])
            elif images[row].cropped:
                height, width = pixels.shape[:2]
                detections[row] = [Detection((0.0, 0.0, float(width), float(height)), 1.0, None)]
            else:
                uncropped[row] = pixels
        if uncropped:
            choices = [images[row].choice for row in uncropped]
            for row, faces in zip(uncropped, self._detector.detect(list(uncropped.values()), choices), strict=True):
                detections[row] = faces
        return detections

    def _choose(
        self, image: Picture, detections: list[Detection], picture: DecodedPicture
    ) -> list[int] | RegistryError | MorePixelsNeeded:
        """Returns the indices of the chosen faces. The error for too many avoids the cost of embedding them."""
        in_picture = [enlarged(detection, picture) for detection in detections]
        size = picture.width, picture.height
        box = None if image.box is None else in_pixels(image.box, size)
        chosen = [0] if image.cropped else select(in_picture, image.choice, box, size)
        if not chosen and box is not None and (located := self._locate(picture, box)) is not None:
            detections.append(located)
            chosen = [len(detections) - 1]
        if len(chosen) <= self._max_faces:
            small = any(shorter_side(detections[index].box) < SUFFICIENT_FACE_PX for index in chosen)
            return MorePixelsNeeded(in_picture) if small and picture.is_reduced else chosen
        return TooManyFaces(
            f"the picture shows {len(chosen)} faces; at most {self._max_faces} are processed (limits.max_faces): send "
            "parts of the picture, or choose one face"
        )

    def _locate(self, picture: DecodedPicture, box: Box) -> Detection | None:
        """Returns the face in a box that the caller has drawn; None: the box shows no face."""
        x_min, y_min, x_max, y_max = visible = inside(box, (picture.width, picture.height))
        if shorter_side(visible) < MIN_BOX_PX:
            return None
        x, y = picture.scales
        return self._detector.locate(picture.pixels, (x_min / x, y_min / y, x_max / x, y_max / y))

    def _embedder(self, image: Picture) -> FaceEmbedder:
        return self._embedders[image.model_id or self.model_id]

    def _crop(self, image: Picture, pixels: Pixels, detection: Detection) -> _Crop:
        return _align(image, pixels, detection, self._embedder(image).manifest.input_size)

    def _embed(
        self, images: Sequence[Picture], crops: Mapping[_FaceIndex, _Crop]
    ) -> dict[_FaceIndex, tuple[Floats, float]]:
        """Returns embedding and original length of each crop. All crops of a model are embedded together."""
        by_model: dict[FaceEmbedder, list[_FaceIndex]] = {}
        for index in crops:
            by_model.setdefault(self._embedder(images[index[0]]), []).append(index)
        embedded: dict[_FaceIndex, tuple[Floats, float]] = {}
        for embedder, indices in by_model.items():
            pixels, points = zip(*(crops[index] for index in indices), strict=True)
            vectors, lengths = embedder.embed_with_lengths(pixels, points)
            embedded |= dict(zip(indices, zip(vectors, lengths, strict=True), strict=True))
        return embedded

    def _face(
        self, image: Picture, picture: DecodedPicture, crop: Pixels, found: Detection, embedding: Floats, length: float
    ) -> Face:
        detection = enlarged(found, picture)
        landmarks = None if detection.landmarks is None else detection.landmarks[:, :2]
        score = self._embedder(image).quality(length)
        visible = picture.visible or (0, 0, picture.width, picture.height)
        quality = measure(crop, np.array(detection.box, np.float32), landmarks, score, visible)
        file = None
        if image.keep_crop:
            if len(crop) != TEMPLATE_SIZE:
                crop, _ = _align(image, picture.pixels, found, TEMPLATE_SIZE)
            file = encode(crop)
        return Face(detection, quality, embedding, file, truncated=picture.visible is not None)


def _align(image: Picture, pixels: Pixels, detection: Detection, size: int) -> _Crop:
    """Returns the aligned crop of a face, with a side of `size` pixels, and its six landmarks if they are known."""
    if image.cropped:
        return fit_crop(pixels, size), None
    if detection.landmarks is None:
        return crop_box(pixels, np.array(detection.box, np.float32), size), None
    try:
        crop, transform = align_with_margin(pixels, detection.landmarks, size, 0)
    except ValueError:
        return crop_box(pixels, np.array(detection.box, np.float32), size), None
    points = six_points(detection.landmarks)
    points[:, :2] = points[:, :2] @ transform[:, :2].T + transform[:, 2]
    return crop, points
