"""The engine in this process: decode, find faces, align, embed."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from service.errors import RegistryError
from service.inference.batching import Batcher
from service.inference.embedder import FaceEmbedder
from service.inference.engine import Detection, Face, FaceFinder, Floats, Picture, Observation
from service.inference.selection import select
from service.telemetry.metrics import STAGES
from service.vision.alignment import TEMPLATE_SIZE, align_with_margin, crop_box, fit_crop
from service.vision.heatmaps import six_points
from service.vision.image import ImageLimits, Pixels, declared_pixels, decode, encode
from service.vision.quality import measure

DECODERS = 2
PORTION_PIXELS = 50_000_000
"""Decoded pixels (3 bytes each) that are held at once; a single larger picture is a portion of its own."""

_Place = tuple[int, int]
"""A picture of the batch and a face in it."""
_Crop = tuple[Pixels, Floats | None]
"""An upright face, and (6, 3) landmarks in its pixels."""


class LocalEngine:
    """Runs the models in batches on one thread; pictures are decoded beside it.

    Args:
        embedders: the main one first.
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
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._batcher: Batcher[Picture, Observation | RegistryError] = Batcher(
            self.observe_now, max_batch, max_queued, lambda image: image.background
        )

    async def start(self) -> None:
        # One owner of the cores: OpenCV's own threads would compete with the graphs'.
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
        """One batch, on the calling thread; large pictures are worked off in portions, to bound the memory."""
        results: list[Observation | RegistryError] = []
        for portion in _portions(images):
            results += self._observe(portion)
        return results

    def _observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
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
        searched: dict[int, Pixels] = {}
        for row, pixels in enumerate(decoded):
            if isinstance(pixels, RegistryError):
                continue
            if images[row].cropped:
                height, width = pixels.shape[:2]
                detections[row] = [Detection((0.0, 0.0, float(width), float(height)), 1.0, None)]
            else:
                searched[row] = pixels
        if searched:
            for row, found in zip(searched, self._detector.detect(list(searched.values())), strict=True):
                detections[row] = found
        return detections

    def _choose(self, image: Picture, detections: list[Detection], pixels: Pixels | RegistryError) -> list[int]:
        if isinstance(pixels, RegistryError):
            return []
        height, width = pixels.shape[:2]
        return [0] if image.cropped else select(detections, image.choice, image.box, (width, height))

    def _embedder(self, image: Picture) -> FaceEmbedder:
        return self._embedders[image.model_id or self.model_id]

    def _crop(self, image: Picture, pixels: Pixels, detection: Detection) -> _Crop:
        return _cropped(image, pixels, detection, self._embedder(image).manifest.input_size)

    def _embed(self, images: Sequence[Picture], crops: Mapping[_Place, _Crop]) -> dict[_Place, tuple[Floats, float]]:
        """Embedding and length of each crop, every model's crops together."""
        places: dict[FaceEmbedder, list[_Place]] = {}
        for place in crops:
            places.setdefault(self._embedder(images[place[0]]), []).append(place)
        embedded: dict[_Place, tuple[Floats, float]] = {}
        for embedder, theirs in places.items():
            pixels, points = zip(*(crops[place] for place in theirs), strict=True)
            vectors, lengths = embedder.embed_with_lengths(pixels, points)
            embedded |= dict(zip(theirs, zip(vectors, lengths, strict=True), strict=True))
        return embedded

    def _face(
        self, image: Picture, pixels: Pixels, crop: Pixels, detection: Detection, embedding: Floats, length: float
    ) -> Face:
        landmarks = None if detection.landmarks is None else detection.landmarks[:, :2]
        score = self._embedder(image).quality(length)
        quality = measure(crop, np.array(detection.box, np.float32), landmarks, score)
        kept = None
        if image.keep_crop:
            kept = encode(crop if len(crop) == TEMPLATE_SIZE else _cropped(image, pixels, detection, TEMPLATE_SIZE)[0])
        return Face(detection, quality, embedding, kept)


def _cropped(image: Picture, pixels: Pixels, detection: Detection, size: int) -> _Crop:
    """The face as an upright square of `size` pixels, and its six landmarks in it where they are known."""
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


def _portions(images: Sequence[Picture]) -> Iterator[list[Picture]]:
    portion: list[Picture] = []
    pixels = 0
    for image in images:
        size = declared_pixels(image.data)
        if portion and pixels + size > PORTION_PIXELS:
            yield portion
            portion, pixels = [], 0
        portion.append(image)
        pixels += size
    if portion:
        yield portion
