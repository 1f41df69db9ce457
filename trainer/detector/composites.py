"""Composes training pictures from pictures of single faces, rotated by any angle and partly occluded.

A detection data set contains few faces that lie on their side, and a labelling detector does not report which of its
landmarks are hidden. Here a face is labelled in the clean picture and rotated and occluded afterwards, so that the
positions and the visibility of its landmarks are known.
"""

from collections import deque
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from service.inference.engine import FaceFinder
from service.vision.image import Pixels
from service.vision.quality import asymmetry
from trainer.configuration import Configuration
from trainer.detector.face_alterations import cover, darken, turn
from trainer.detector.labels import LabelledFace, write_labels
from trainer.pictures import pictures_below, read_picture
from trainer.progress import track

Floats = npt.NDArray[np.float32]
ATTEMPTS = 200
MIN_SCENE_PX = 48
SUSPECTED_SCORE = 0.3
"""Minimum score with which a further detection may be a second face; such a picture is not used."""


class CompositeConfig(Configuration):
    """Settings of the composites. Every share is a probability per face or tile, 0 to 1."""

    side: int = Field(640, ge=64, description="side of a composite in pixels")
    tiles: tuple[int, ...] = Field((3, 4, 4, 5, 6), description="tiles along a side; one value is drawn per composite")
    rotated: float = Field(0.35, ge=0, le=1, description="share of faces rotated by any angle")
    occluded: float = Field(0.3, ge=0, le=1, description="share of faces partly covered by a patch")
    darkened: float = Field(0.15, ge=0, le=1, description="share of faces with little light and its noise")
    without_face: float = Field(0.2, ge=0, le=1, description="share of tiles without a face, if there are scenes")
    min_score: float = Field(0.85, ge=0, le=1, description="minimum score of the labelling detector")
    min_asymmetry: float = Field(
        0, ge=0, le=1, description="minimum asymmetry of a face; 0.6 selects profiles (`service.vision.quality`)"
    )
    seed: int = Field(0, description="seed of the random numbers: choice of pictures, tiles and alterations")


def compose(
    crops: Path,
    scenes: Path | None,
    detector: FaceFinder,
    output: Path,
    count: int,
    limit: int,
    config: CompositeConfig,
) -> int:
    """Writes `count` composites into `output` as the split `train` of a data set in Ultralytics' pose format.

    Args:
        crops: folder of pictures that show one face each, searched recursively.
        scenes: folder of pictures whose parts without a face fill some tiles, or None.
        limit: number of pictures drawn at random from each folder.

    Returns:
        The number of faces in all composites.

    Raises:
        ValueError: no picture shows exactly one face with the minimum score, or the scenes show faces everywhere.
    """
    rng = np.random.default_rng(config.seed)
    faces = _FaceSource(_sample(crops, limit, rng), detector, config.min_score, config.min_asymmetry)
    background = None if scenes is None else _SceneSource(_sample(scenes, limit, rng), detector, rng)
    images, labels = output / "images" / "train", output / "labels" / "train"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    total = 0
    for number in track(range(count), description="composing"):
        picture, shown = _composite(faces, background, rng, config)
        name = f"composite_{number:05d}"
        cv2.imwrite(str(images / f"{name}.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        write_labels(labels / f"{name}.txt", shown, config.side, config.side)
        total += len(shown)
    return total


class _FaceSource:
    """Returns pictures of one face with their labels, in order and repeatedly. Labels each picture when it is used.

    Pictures that do not qualify are removed, so that each one is labelled at most once per use.
    """

    def __init__(self, paths: list[Path], detector: FaceFinder, min_score: float, min_asymmetry: float) -> None:
        self._paths = deque(paths)
        self._detector = detector
        self._min_score, self._min_asymmetry = min_score, min_asymmetry

    def take(self) -> tuple[Pixels, LabelledFace]:
        """Returns the next picture with exactly one face of the minimum score and asymmetry.

        Raises:
            ValueError: no picture qualifies.
        """
        while self._paths:
            path = self._paths.popleft()
            if (pixels := read_picture(path)) is None:
                continue
            detections = [face for face in self._detector.detect([pixels])[0] if face.score >= SUSPECTED_SCORE]
            if len(detections) != 1 or detections[0].landmarks is None or detections[0].score < self._min_score:
                continue
            if asymmetry(detections[0].landmarks[:, :2]) < self._min_asymmetry:
                continue
            self._paths.append(path)
            return pixels, LabelledFace(np.array(detections[0].box, np.float32), detections[0].landmarks.copy())
        raise ValueError(
            f"no picture shows exactly one face with a score of at least {self._min_score} and an asymmetry of at "
            f"least {self._min_asymmetry}; check the folder of --crops, or label with another detector"
        )


class _SceneSource:
    """Returns square parts of pictures in which the labelling detector detects no face."""

    def __init__(self, paths: list[Path], detector: FaceFinder, rng: np.random.Generator) -> None:
        self._paths = paths
        self._detector = detector
        self._rng = rng

    def take(self) -> Pixels:
        for _ in range(ATTEMPTS):
            if (pixels := read_picture(self._paths[self._rng.integers(len(self._paths))])) is None:
                continue
            side = int(self._rng.uniform(0.2, 0.6) * min(pixels.shape[:2]))
            top, left = (int(self._rng.integers(length - side + 1)) for length in pixels.shape[:2])
            square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
            if side >= MIN_SCENE_PX and not self._detector.detect([square])[0]:
                return square
        raise ValueError(
            f"{ATTEMPTS} parts of the scenes in a row were too small or contained a detection; use --scenes with "
            "larger pictures and fewer faces"
        )


def _sample(folder: Path, limit: int, rng: np.random.Generator) -> list[Path]:
    paths = pictures_below(folder)
    return [paths[index] for index in rng.permutation(len(paths))[:limit]]


def _composite(
    faces: _FaceSource, scenes: _SceneSource | None, rng: np.random.Generator, config: CompositeConfig
) -> tuple[Pixels, list[LabelledFace]]:
    """Returns a (side, side, 3) picture and its labelled faces."""
    tiles = int(rng.choice(config.tiles))
    edges = np.linspace(0, config.side, tiles + 1).round().astype(int)
    picture = np.zeros((config.side, config.side, 3), np.uint8)
    shown = []
    for row in range(tiles):
        for column in range(tiles):
            top, left = edges[row], edges[column]
            size = (int(edges[column + 1] - left), int(edges[row + 1] - top))
            tile = picture[top : edges[row + 1], left : edges[column + 1]]
            if scenes is not None and rng.random() < config.without_face:
                tile[:] = cv2.resize(scenes.take(), size, interpolation=cv2.INTER_AREA)
                continue
            pixels, face = _altered(*faces.take(), rng, config)
            tile[:] = cv2.resize(pixels, size)
            scale = np.array([size[0] / pixels.shape[1], size[1] / pixels.shape[0]], np.float32)
            shown.append(face.transformed(scale, np.array([left, top], np.float32)))
    return picture, shown


def _altered(
    pixels: Pixels, face: LabelledFace, rng: np.random.Generator, config: CompositeConfig
) -> tuple[Pixels, LabelledFace]:
    if rng.random() < config.occluded:
        pixels, face = cover(pixels, face, rng)
    if rng.random() < config.darkened:
        pixels = darken(pixels, rng)
    angle = rng.uniform(-180, 180) if rng.random() < config.rotated else rng.uniform(-10, 10)
    return turn(pixels, face, float(angle))
