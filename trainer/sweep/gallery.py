"""The pictures that are searched, and what a search finds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceFinder
from service.inference.graph import RuntimeOptions
from service.vision.image import Pixels
from trainer.configuration import ConfigError
from trainer.embedder.calibration import held_out_rows
from trainer.embedder.canvases import CANVAS, CanvasSet
from trainer.embedder.config import SplitConfig
from trainer.embedder.embedding import embed_canvases, embed_pictures
from trainer.embedder.preparation import Recipe, make_canvas
from trainer.embedder.split import Part

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Query:
    """A picture that is searched for.

    Attributes:
        row: of the gallery, where it is left out of the answer; None: from outside.
        finder: of a picture from outside: the detector that finds its landmarks.
    """

    canvas: Pixels
    row: int | None
    finder: FaceFinder | None = None


@dataclass(frozen=True)
class Answer:
    """The nearest pictures of the gallery: their rows, their cosines, and whether they show the query's person."""

    rows: list[int]
    cosines: list[float]
    same: list[bool | None]


class Gallery:
    """The pictures of the people of one part of the split."""

    def __init__(self, canvases: CanvasSet, split: SplitConfig, part: str) -> None:
        self.rows = held_out_rows(canvases, split, Part(part))
        if len(self.rows) < 2:
            raise ConfigError(f"the split keeps nobody for {part}: raise split.{part}, or choose another gallery")
        self._canvases = canvases
        self._embedded: dict[str, Floats] = {}
        self.names = [canvases.identities[row] for row in self.rows]

    def canvas(self, row: int) -> Pixels:
        return np.asarray(self._canvases.pictures[self.rows[row]])

    def embed(self, embedder: FaceEmbedder) -> Floats:
        """(N, D) normalised embeddings of all pictures; each model makes them once."""
        model_id = embedder.manifest.model_id
        if model_id not in self._embedded:
            self._embedded[model_id] = embed_canvases(embedder, self._canvases, self.rows)[0]
        return self._embedded[model_id]

    def queries(self, count: int) -> list[Query]:
        """Pictures of people with several, always the same ones, each of another person."""
        names = np.array(self.names)
        people = [name for name in sorted(set(self.names)) if (names == name).sum() > 1]
        chosen = np.random.default_rng(0).permutation(people)[:count]
        rows = [int(np.flatnonzero(names == name)[0]) for name in chosen]
        return [Query(self.canvas(row), row) for row in rows]

    def search(self, query: Query, embedder: FaceEmbedder, top_k: int) -> Answer:
        """The nearest `top_k` pictures; the query itself is not in the answer."""
        embeddings = self.embed(embedder)
        vector = embeddings[query.row] if query.row is not None else self._of_outside(query, embedder)
        cosines = embeddings @ vector
        if query.row is not None:
            cosines[query.row] = -np.inf
        rows = np.argsort(-cosines)[:top_k].tolist()
        asked = None if query.row is None else self.names[query.row]
        same = [None if asked is None else self.names[row] == asked for row in rows]
        return Answer(rows, [float(cosines[row]) for row in rows], same)

    def _of_outside(self, query: Query, embedder: FaceEmbedder) -> Floats:
        assert query.finder is not None
        return embed_pictures(embedder, query.canvas[None], query.finder)[0][0]


def photo_query(photo: Path, detector: Path) -> Query:
    """A photo, or a canvas, from outside the gallery."""
    from PIL import Image

    finder = YoloFaceDetector(detector, RuntimeOptions(precision="auto"))
    with Image.open(photo) as picture:
        if picture.size == (CANVAS, CANVAS):
            return Query(np.asarray(picture.convert("RGB")), None, finder)
    try:
        return Query(make_canvas(photo.read_bytes(), finder, Recipe()), None, finder)
    except ValueError as error:
        raise ConfigError(f"{photo}: {error}") from None
