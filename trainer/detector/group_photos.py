"""Composes photos of many faces from portraits: a group photo, and a large photo with distant faces."""

from collections.abc import Sequence

import cv2
import numpy as np

from service.vision.image import Pixels
from trainer.detector.background import background_pictures
from trainer.detector.labels import LabelledFace
from trainer.detector.portraits import Portrait

CELL_PX = 240
DISTANT_COLUMNS, DISTANT_ROWS = 6, 4


def group_photo(
    portraits: Sequence[Portrait], columns: int = 6, rows: int = 5, seed: int = 0
) -> tuple[Pixels, list[LabelledFace]]:
    """Composes a group photo of columns x rows people of slightly different size and height."""
    rng = np.random.default_rng(seed)
    picture = np.full((rows * CELL_PX, columns * CELL_PX, 3), 90, np.uint8)
    faces = []
    for index in range(columns * rows):
        portrait = portraits[index % len(portraits)]
        size = int(rng.integers(int(CELL_PX * 0.75), CELL_PX))
        left = index % columns * CELL_PX + int(rng.integers(0, CELL_PX - size + 1))
        top = index // columns * CELL_PX + int(rng.integers(0, CELL_PX - size + 1))
        faces.append(_paste(picture, portrait, left, top, size))
    return picture, faces


def distant_faces(
    portraits: Sequence[Portrait],
    sides: tuple[int, int] = (16, 24),
    size: tuple[int, int] = (4000, 3000),
    seed: int = 0,
) -> tuple[Pixels, list[LabelledFace]]:
    """Composes a photo of `size` pixels with 24 faces; the shorter side of each box is within `sides` pixels."""
    rng = np.random.default_rng(seed)
    width, height = size
    picture = cv2.resize(dict(background_pictures())["flower"], size, interpolation=cv2.INTER_CUBIC)
    faces = []
    for index in range(DISTANT_COLUMNS * DISTANT_ROWS):
        portrait = portraits[index % len(portraits)]
        box = portrait.face.box
        scale = rng.uniform(*sides) / float(min(box[2] - box[0], box[3] - box[1]))
        side = max(8, round(scale * max(portrait.pixels.shape[:2])))
        cell_width, cell_height = width // DISTANT_COLUMNS, height // DISTANT_ROWS
        left = index % DISTANT_COLUMNS * cell_width + int(rng.integers(0, max(1, cell_width - side)))
        top = index // DISTANT_COLUMNS * cell_height + int(rng.integers(0, max(1, cell_height - side)))
        faces.append(_paste(np.asarray(picture), portrait, left, top, side))
    return np.asarray(picture, np.uint8), faces


def _paste(picture: Pixels, portrait: Portrait, left: int, top: int, side: int) -> LabelledFace:
    """Scales a portrait to a longer side of `side` pixels, pastes it into the picture and returns its label there."""
    height, width = portrait.pixels.shape[:2]
    scale = side / max(height, width)
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture[top : top + new[1], left : left + new[0]] = cv2.resize(portrait.pixels, new, interpolation=cv2.INTER_AREA)
    ratio = np.array([new[0] / width, new[1] / height], np.float32)
    return portrait.face.transformed(ratio, np.array([left, top], np.float32))
