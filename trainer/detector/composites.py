"""Training pictures composed of face canvases: landmarks at every angle, and faces with something before them.

A detection data set has few faces that lie on a side, and a labelling detector never says which of its landmarks were
hidden. Here a face is turned and partly covered *after* it was labelled on the clean picture, so both are known.
"""

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field
from rich.progress import track

from service.inference.engine import FaceFinder
from service.vision.image import Pixels
from trainer.configuration import Configuration
from trainer.detector.labels import LabelledFace, write_labels
from trainer.pictures import pictures_below, read_picture

Floats = npt.NDArray[np.float32]
ATTEMPTS = 200
SMALLEST_SCENE = 48
SUSPECTED = 0.3
"""Score from which on a second face in a canvas may be one."""


class CompositeConfig(Configuration):
    """How composites are made; every share is a probability for one face."""

    side: int = Field(640, ge=64, description="pixels of a composite's side")
    tiles: tuple[int, ...] = Field((3, 4, 4, 5, 6), description="tiles along a side, one of these for each composite")
    turned: float = Field(0.35, ge=0, le=1, description="share of faces turned by any angle")
    covered: float = Field(0.3, ge=0, le=1, description="share of faces with something before them")
    dimmed: float = Field(0.15, ge=0, le=1, description="share of faces in little light, with its noise")
    faceless: float = Field(0.2, ge=0, le=1, description="share of tiles without a face, where scenes are given")
    min_score: float = Field(0.85, ge=0, le=1, description="of the labelling detector; other canvases are left out")
    seed: int = 0


def compose(
    canvases: Path,
    scenes: Path | None,
    finder: FaceFinder,
    output: Path,
    count: int,
    at_most: int,
    config: CompositeConfig,
) -> int:
    """Write `count` composites into `output` as the training split of a data set in Ultralytics' pose format.

    Args:
        canvases: folder of pictures of one face each, searched with its subfolders.
        scenes: folder of pictures whose parts without a face fill some tiles, or None.
        at_most: pictures that are taken from each, drawn by chance.

    Returns:
        How many faces they show.

    Raises:
        ValueError: no canvas shows a face that the finder is sure of.
    """
    rng = np.random.default_rng(config.seed)
    portraits = _Portraits(_drawn(canvases, at_most, rng), finder, config.min_score)
    background = None if scenes is None else _Scenery(_drawn(scenes, at_most, rng), finder, rng)
    images, labels = output / "images" / "train", output / "labels" / "train"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    faces = 0
    for number in track(range(count), description="composing"):
        picture, shown = _composite(portraits, background, rng, config)
        name = f"composite_{number:05d}"
        cv2.imwrite(str(images / f"{name}.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        write_labels(labels / f"{name}.txt", shown, config.side, config.side)
        faces += len(shown)
    return faces


class _Portraits:
    """Canvases with their face, labelled as they are asked for; round and round."""

    def __init__(self, paths: list[Path], finder: FaceFinder, min_score: float) -> None:
        self._paths = paths
        self._finder = finder
        self._min_score = min_score
        self._next = 0

    def take(self) -> tuple[Pixels, LabelledFace]:
        for _ in range(len(self._paths)):
            path = self._paths[self._next % len(self._paths)]
            self._next += 1
            if (pixels := read_picture(path)) is None:
                continue
            found = [face for face in self._finder.detect([pixels])[0] if face.score >= SUSPECTED]
            if len(found) == 1 and found[0].score >= self._min_score and found[0].landmarks is not None:
                return pixels, LabelledFace(np.array(found[0].box, np.float32), found[0].landmarks.copy())
        raise ValueError("no canvas shows exactly one face that the labelling detector is sure of")


class _Scenery:
    """Squares cut from pictures in which the labelling detector suspects no face."""

    def __init__(self, paths: list[Path], finder: FaceFinder, rng: np.random.Generator) -> None:
        self._paths = paths
        self._finder = finder
        self._rng = rng

    def take(self) -> Pixels:
        for _ in range(ATTEMPTS):
            if (pixels := read_picture(self._paths[self._rng.integers(len(self._paths))])) is None:
                continue
            side = int(self._rng.uniform(0.2, 0.6) * min(pixels.shape[:2]))
            top, left = (int(self._rng.integers(length - side + 1)) for length in pixels.shape[:2])
            square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
            if side >= SMALLEST_SCENE and not self._finder.detect([square])[0]:
                return square
        raise ValueError(f"{ATTEMPTS} times in a row the scenes showed something like a face")


def _drawn(folder: Path, at_most: int, rng: np.random.Generator) -> list[Path]:
    found = pictures_below(folder)
    return [found[index] for index in rng.permutation(len(found))[:at_most]]


def _composite(
    portraits: _Portraits, scenery: _Scenery | None, rng: np.random.Generator, config: CompositeConfig
) -> tuple[Pixels, list[LabelledFace]]:
    tiles = int(rng.choice(config.tiles))
    edges = np.linspace(0, config.side, tiles + 1).round().astype(int)
    picture = np.zeros((config.side, config.side, 3), np.uint8)
    shown = []
    for row in range(tiles):
        for column in range(tiles):
            top, left = edges[row], edges[column]
            size = (int(edges[column + 1] - left), int(edges[row + 1] - top))
            tile = picture[top : edges[row + 1], left : edges[column + 1]]
            if scenery is not None and rng.random() < config.faceless:
                tile[:] = cv2.resize(scenery.take(), size, interpolation=cv2.INTER_AREA)
                continue
            pixels, face = _changed(*portraits.take(), rng, config)
            tile[:] = cv2.resize(pixels, size)
            scale = np.array([size[0] / pixels.shape[1], size[1] / pixels.shape[0]], np.float32)
            shown.append(face.moved(scale, np.array([left, top], np.float32)))
    return picture, shown


def _changed(
    pixels: Pixels, face: LabelledFace, rng: np.random.Generator, config: CompositeConfig
) -> tuple[Pixels, LabelledFace]:
    if rng.random() < config.covered:
        pixels, face = cover(pixels, face, rng)
    if rng.random() < config.dimmed:
        dark = pixels.astype(np.float32) * rng.uniform(0.06, 0.5) + rng.normal(0, rng.uniform(0, 5), pixels.shape)
        pixels = dark.clip(0, 255).astype(np.uint8)
    angle = rng.uniform(-180, 180) if rng.random() < config.turned else rng.uniform(-10, 10)
    return turn(pixels, face, float(angle))


def turn(pixels: Pixels, face: LabelledFace, degrees: float) -> tuple[Pixels, LabelledFace]:
    """Turn about the middle; the box becomes that of the turned ellipse which filled the old one."""
    height, width = pixels.shape[:2]
    transform = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0).astype(np.float32)
    turned = cv2.warpAffine(pixels, transform, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    centre = transform[:, :2] @ ((face.box[:2] + face.box[2:]) / 2) + transform[:, 2]
    half = (face.box[2:] - face.box[:2]) / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    reach = np.array([math.hypot(half[0] * cosine, half[1] * sine), math.hypot(half[0] * sine, half[1] * cosine)])
    box = np.concatenate([centre - reach, centre + reach]).clip(0, [width, height, width, height])
    landmarks = face.landmarks.copy()
    landmarks[:, :2] = landmarks[:, :2] @ transform[:, :2].T + transform[:, 2]
    return np.asarray(turned, np.uint8), LabelledFace(box.astype(np.float32), landmarks)


def cover(pixels: Pixels, face: LabelledFace, rng: np.random.Generator) -> tuple[Pixels, LabelledFace]:
    """Lay a coarse patch of random colours over one to three neighbouring landmarks; those are hidden then."""
    pixels, landmarks = pixels.copy(), face.landmarks.copy()
    span = max(float(np.linalg.norm(landmarks[0, :2] - landmarks[1, :2])), 4.0)
    centre = landmarks[rng.integers(len(landmarks)), :2] + rng.normal(0, 0.15 * span, 2)
    half = rng.uniform(0.25, 0.75, 2) * span
    left, top = np.maximum(np.round(centre - half).astype(int), 0)
    right, bottom = np.minimum(np.round(centre + half).astype(int), np.array(pixels.shape[1::-1]))
    if right - left < 2 or bottom - top < 2:
        return pixels, face
    colour = rng.integers(0, 256, 3)
    coarse = (colour + rng.normal(0, rng.uniform(2, 60), (3, 3, 3))).clip(0, 255).astype(np.uint8)
    size = (int(right - left), int(bottom - top))
    pixels[top:bottom, left:right] = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    inside = (landmarks[:, :2] >= [left, top]).all(axis=1) & (landmarks[:, :2] < [right, bottom]).all(axis=1)
    landmarks[inside, 2] = 0
    return pixels, LabelledFace(face.box, landmarks)
