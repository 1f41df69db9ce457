"""Engine in this process: decodes pictures, detects faces, aligns and embeds them."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from service.errors import RegistryError
from service.inference.batching import Batcher
from service.inference.embedder import FaceEmbedder
from service.inference.engine import Detection, Face, FaceFinder, Floats, Observation, Picture
from service.inference.selection import select
from service.telemetry.metrics import STAGES
from service.vision.alignment import TEMPLATE_SIZE, align_with_margin, crop_box, fit_crop
from service.vision.heatmaps import six_points
from service.vision.image import ImageLimits, Pixels, declared_pixels, decode, encode
from service.vision.quality import measure

DECODER_THREADS = 2
MAX_PART_PIXELS = 50_000_000
"""Maximum number of decoded pixels, of 3 bytes each, in memory. A larger picture is processed separately."""

_FaceIndex = tuple[int, int]
"""Index of a picture in the batch and index of a detection in that picture."""
_Crop = tuple[Pixels, Floats | None]
"""An aligned crop, and (6, 3) landmarks in pixels of the crop if they are known."""


class LocalEngine:
    """Runs the models in batches on one thread, and decodes pictures on `DECODER_THREADS` other threads.

    Args:
        embedders: the main model first.
        max_batch: maximum number of pictures in a batch.
        max_queued: maximum number of waiting pictures.
    """

    def __init__(
        self,
        detector: FaceFinder,
        embedders: Sequence[FaceEmbedder],
        limits: ImageLimits,
        max_batch: int = 8,
        max_queued: int = 64,
    ) -> None:
        self._embedders = {embedder.manifest.model_id: embedder for embedder in embedders}
        self.model_id = embedders[0].manifest.model_id
        self.dims: Mapping[str, int] = {
            name: embedder.manifest.embedding_dim for name, embedder in self._embedders.items()
        }
        self._detector, self._limits = detector, limits
        self._decoders = ThreadPoolExecutor(DECODER_THREADS, thread_name_prefix="decode")
        self._batcher: Batcher[Picture, Observation | RegistryError] = Batcher(
            self.observe_now, max_batch, max_queued, lambda image: image.background
        )

    async def start(self) -> None:
        # OpenCV's threads would compete with those of the graphs for the cores.
        cv2.setNumThreads(1)
        await self._batcher.start()

    async def stop(self) -> None:
        await self._batcher.stop()
        self._decoders.shutdown()

    @property
    def problem(self) -> str | None:
        return None

    async def observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        return await self._batcher.submit(images)

    def observe_now(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        """Processes one batch on the calling thread, in parts of at most `MAX_PART_PIXELS` to limit the memory."""
        results: list[Observation | RegistryError] = []
        for part in _parts(images):
            results += self._observe(part)
        return results

    def _observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        """Runs each stage once for all pictures. A picture that cannot be decoded does not affect the others."""
        with STAGES.labels("decode").time():
            decoded = list(self._decoders.map(self._decode, images))
        readable = [row for row, pixels in enumerate(decoded) if not isinstance(pixels, RegistryError)]
        with STAGES.labels("detect").time():
            detections = self._detect(images, decoded)
        chosen = {row: self._choose(images[row], detections[row], decoded[row]) for row in readable}
        crops = {
            (row, index): self._crop(images[row], decoded[row], detections[row][index])  # type: ignore[arg-type]
            for row in readable
            for index in chosen[row]
        }
        with STAGES.labels("embed").time():
            embedded = self._embed(images, crops)
        results: list[Observation | RegistryError] = []
        for row, pixels in enumerate(decoded):
            if isinstance(pixels, RegistryError):
                results.append(pixels)
                continue
            faces = [
                self._face(images[row], pixels, crops[row, index][0], detections[row][index], *embedded[row, index])
                for index in chosen[row]
            ]
            results.append(Observation(pixels.shape[1], pixels.shape[0], detections[row], faces))
        return results

    def _decode(self, image: Picture) -> Pixels | RegistryError:
        try:
            return decode(image.data, self._limits)
        except RegistryError as error:
            return error

    def _detect(self, images: Sequence[Picture], decoded: Sequence[Pixels | RegistryError]) -> list[list[Detection]]:
        detections: list[list[Detection]] = [[] for _ in images]
        uncropped: dict[int, Pixels] = {}
        for row, pixels in enumerate(decoded):
            if isinstance(pixels, RegistryError):
                continue
            if images[row].cropped:
                height, width = pixels.shape[:2]
                detections[row] = [Detection((0.0, 0.0, float(width), float(height)), 1.0, None)]
            else:
                uncropped[row] = pixels
        if uncropped:
            for row, faces in zip(uncropped, self._detector.detect(list(uncropped.values())), strict=True):
                detections[row] = faces
        return detections

    def _choose(self, image: Picture, detections: list[Detection], pixels: Pixels | RegistryError) -> list[int]:
        if isinstance(pixels, RegistryError):
            return []
        height, width = pixels.shape[:2]
        return [0] if image.cropped else select(detections, image.choice, image.box, (width, height))

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


def _parts(images: Sequence[Picture]) -> Iterator[list[Picture]]:
    """Divides pictures, in their order, into parts of at most `MAX_PART_PIXELS`."""
    part: list[Picture] = []
    pixels = 0
    for image in images:
        size = declared_pixels(image.data)
        if part and pixels + size > MAX_PART_PIXELS:
            yield part
            part, pixels = [], 0
        part.append(image)
        pixels += size
    if part:
        yield part
