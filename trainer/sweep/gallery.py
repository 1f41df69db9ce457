"""The searched pictures of a sweep, and the results of searches."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceFinder
from service.inference.graph import RuntimeOptions
from service.vision.image import Pixels
from trainer.choices import PartName
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import CROP_SIZE, AlignedCrops
from trainer.embedder.alignment import Recipe, align_face
from trainer.embedder.calibration import rows_of_part
from trainer.embedder.embedding import BATCH, embed_crops, embed_pictures
from trainer.embedder.split import EVERYBODY, Part, named_part
from trainer.embedder.split_config import SplitConfig

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Query:
    """A picture to search.

    Attributes:
        crop: (160, 160, 3) aligned crop.
        row: Row of the gallery, which is excluded from the results; None if the picture is not in the gallery.
        finder: Locates the landmarks of a picture that is not in the gallery.
    """

    crop: Pixels
    row: int | None
    finder: FaceFinder | None = None


@dataclass(frozen=True)
class SearchResult:
    """The most similar pictures of the gallery.

    Attributes:
        same: For each picture, True if it shows the person of the query; None if that person is unknown.
    """

    rows: list[int]
    cosines: list[float]
    same: list[bool | None]


class Gallery:
    """The pictures of the people in one part of the split.

    Raises:
        ConfigError: The part has fewer than two pictures.
    """

    def __init__(self, crops: AlignedCrops, split: SplitConfig, part: PartName, batch: int = BATCH) -> None:
        self.rows = _rows(crops, split, part)
        self._batch = batch
        if len(self.rows) < 2:
            raise ConfigError(f"the split assigns nobody to {part}; raise split.{part}, or choose another gallery")
        self._crops = crops
        self._embeddings: dict[str, Floats] = {}
        self.names = [crops.identities[row] for row in self.rows]

    def crop(self, row: int) -> Pixels:
        return np.asarray(self._crops.pictures[self.rows[row]])

    def embed(self, embedder: FaceEmbedder) -> Floats:
        """Returns (N, D) normalised embeddings of all pictures; each model computes them once."""
        model_id = embedder.manifest.model_id
        if model_id not in self._embeddings:
            self._embeddings[model_id] = embed_crops(embedder, self._crops, self.rows, batch=self._batch)[0]
        return self._embeddings[model_id]

    def queries(self, count: int) -> list[Query]:
        """Returns one picture of each of `count` people with several pictures; the choice is always the same."""
        names = np.array(self.names)
        people = [name for name in sorted(set(self.names)) if (names == name).sum() > 1]
        chosen = np.random.default_rng(0).permutation(people)[:count]
        rows = [int(np.flatnonzero(names == name)[0]) for name in chosen]
        return [Query(self.crop(row), row) for row in rows]

    def search(self, query: Query, embedder: FaceEmbedder, top_k: int) -> SearchResult:
        """Returns the `top_k` most similar pictures without the query itself."""
        embeddings = self.embed(embedder)
        vector = self._embed_outside(query, embedder) if query.row is None else embeddings[query.row]
        cosines = embeddings @ vector
        if query.row is not None:
            cosines[query.row] = -np.inf
        rows = np.argsort(-cosines)[:top_k].tolist()
        person = None if query.row is None else self.names[query.row]
        same = [None if person is None else self.names[row] == person for row in rows]
        return SearchResult(rows, [float(cosines[row]) for row in rows], same)

    def _embed_outside(self, query: Query, embedder: FaceEmbedder) -> Floats:
        assert query.finder is not None
        return embed_pictures(embedder, query.crop[None], query.finder)[0][0]


def _rows(crops: AlignedCrops, split: SplitConfig, part: PartName) -> list[int]:
    if part is PartName.ALL:
        return rows_of_part(crops, EVERYBODY, Part.CALIBRATION)
    return rows_of_part(crops, split, named_part(part))


def photo_query(photo: Path, detector: Path) -> Query:
    """Reads a query that is not in the gallery: a photo, or an aligned crop of 160 x 160 pixels.

    Raises:
        ConfigError: The photo shows no face.
    """
    from PIL import Image, UnidentifiedImageError

    finder = YoloFaceDetector(detector, RuntimeOptions(precision="auto"))
    try:
        with Image.open(photo) as picture:
            if picture.size == (CROP_SIZE, CROP_SIZE):
                return Query(np.asarray(picture.convert("RGB")), None, finder)
    except (OSError, UnidentifiedImageError) as error:
        raise ConfigError(f"--query-image {photo}: {error}") from None
    try:
        return Query(align_face(photo.read_bytes(), finder, Recipe()), None, finder)
    except ValueError as error:
        raise ConfigError(f"{photo}: {error}") from None
