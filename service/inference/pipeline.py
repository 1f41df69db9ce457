"""Detects, aligns and embeds the faces of decoded pictures."""

from collections.abc import Mapping, Sequence

import numpy as np

from service.errors import RegistryError, TooManyFaces
from service.inference.embedder import FaceEmbedder
from service.inference.engine import Detection, Face, FaceFinder, Floats, Observation, Picture
from service.inference.selection import select
from service.telemetry.metrics import STAGES
from service.vision.alignment import TEMPLATE_SIZE, align_with_margin, crop_box, fit_crop
from service.vision.heatmaps import six_points
from service.vision.image import ImageLimits, Pixels, decode, encode
from service.vision.quality import measure

MAX_FACES = 64
DEFAULT_LIMITS = ImageLimits()
_FaceIndex = tuple[int, int]
"""Index of a picture in the batch and index of a detection in that picture."""
_Crop = tuple[Pixels, Floats | None]
"""An aligned crop, and (6, 3) landmarks in pixels of the crop if they are known."""


class FacePipeline:
    """Runs the models on the calling thread.

    Args:
        embedders: the main model first.
        max_faces: maximum number of faces of a picture that are embedded.
    """

    def __init__(self, detector: FaceFinder, embedders: Sequence[FaceEmbedder], max_faces: int = MAX_FACES) -> None:
        self._embedders = {embedder.manifest.model_id: embedder for embedder in embedders}
        self.model_id = embedders[0].manifest.model_id
        self.dims: Mapping[str, int] = {
            name: embedder.manifest.embedding_dim for name, embedder in self._embedders.items()
        }
        self._detector, self._max_faces = detector, max_faces

    def observe_files(
        self, images: Sequence[Picture], limits: ImageLimits = DEFAULT_LIMITS
    ) -> list[Observation | RegistryError]:
        """Decodes trusted pictures in this process and observes them."""
        decoded: list[Pixels | RegistryError] = []
        for image in images:
            try:
                decoded.append(decode(image.data, limits))
            except RegistryError as error:
                decoded.append(error)
        readable = [(image, item) for image, item in zip(images, decoded, strict=True) if isinstance(item, np.ndarray)]
        observed = iter(self.observe([image for image, _ in readable], [pixels for _, pixels in readable]))
        return [item if isinstance(item, RegistryError) else next(observed) for item in decoded]

    def observe(self, images: Sequence[Picture], decoded: Sequence[Pixels]) -> list[Observation | RegistryError]:
        """Runs each stage once for all pictures; `decoded` are their upright pixels, (height, width, 3) RGB."""
        with STAGES.labels("detect").time():
            detections = self._detect(images, decoded)
        chosen = [self._choose(*item) for item in zip(images, detections, decoded, strict=True)]
        crops = {
            (row, index): self._crop(images[row], decoded[row], detections[row][index])
            for row, indices in enumerate(chosen)
            if not isinstance(indices, RegistryError)
            for index in indices
        }
        with STAGES.labels("embed").time():
            embedded = self._embed(images, crops)
        results: list[Observation | RegistryError] = []
        for row, (pixels, indices) in enumerate(zip(decoded, chosen, strict=True)):
            if isinstance(indices, RegistryError):
                results.append(indices)
                continue
            faces = [
                self._face(images[row], pixels, crops[row, index][0], detections[row][index], *embedded[row, index])
                for index in indices
            ]
            results.append(Observation(pixels.shape[1], pixels.shape[0], detections[row], faces))
        return results

    def _detect(self, images: Sequence[Picture], decoded: Sequence[Pixels]) -> list[list[Detection]]:
        detections: list[list[Detection]] = [[] for _ in images]
        uncropped: dict[int, Pixels] = {}
        for row, pixels in enumerate(decoded):
            if images[row].cropped:
                height, width = pixels.shape[:2]
                detections[row] = [Detection((0.0, 0.0, float(width), float(height)), 1.0, None)]
            else:
                uncropped[row] = pixels
        if uncropped:
            for row, faces in zip(uncropped, self._detector.detect(list(uncropped.values())), strict=True):
                detections[row] = faces
        return detections

    def _choose(self, image: Picture, detections: list[Detection], pixels: Pixels) -> list[int] | RegistryError:
        """Returns the indices of the chosen faces. The error for too many avoids the cost of embedding them."""
        height, width = pixels.shape[:2]
        chosen = [0] if image.cropped else select(detections, image.choice, image.box, (width, height))
        if len(chosen) <= self._max_faces:
            return chosen
        return TooManyFaces(
            f"the picture shows {len(chosen)} faces; at most {self._max_faces} are processed (limits.max_faces): send "
            "parts of the picture, or choose one face"
        )

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
        self, image: Picture, pixels: Pixels, crop: Pixels, detection: Detection, embedding: Floats, length: float
    ) -> Face:
        landmarks = None if detection.landmarks is None else detection.landmarks[:, :2]
        score = self._embedder(image).quality(length)
        quality = measure(crop, np.array(detection.box, np.float32), landmarks, score)
        file = None
        if image.keep_crop:
            file = encode(crop if len(crop) == TEMPLATE_SIZE else _align(image, pixels, detection, TEMPLATE_SIZE)[0])
        return Face(detection, quality, embedding, file)


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
