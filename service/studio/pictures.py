"""Pictures for display: uploads with boxes, and aligned crops.

The studio decodes a file only after the registry, which decodes it in a process of its own, has accepted it.
"""

import html
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from identity_registry.responses.recognition import Face
from service.errors import RegistryError as VisionError
from service.live.drawing import draw
from service.vision.alignment import align_with_margin, crop_box
from service.vision.image import ImageLimits, Pixels, decode

MAX_SIDE = 1280
"""Longer side in pixels of a picture that is displayed."""
CROP_SIDE = 160
CROP_MARGIN = 24.0
"""Margin around an aligned face, in pixels of a crop of 112 pixels."""


def upright(file: str) -> Pixels | None:
    """Returns the upright pixels of a file, (height, width, 3) RGB; None if the studio cannot decode it."""
    try:
        return decode(Path(file).read_bytes(), ImageLimits())
    except VisionError:
        return None


def annotated(pixels: Pixels, faces: Sequence[Face], labels: Sequence[str], colors: Sequence[int]) -> Pixels:
    """Returns a picture for display, with labelled boxes."""
    scale = min(1.0, MAX_SIDE / max(pixels.shape[:2]))
    if scale < 1:
        size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    boxes = [[side * scale for side in face.box] for face in faces]
    return draw(pixels, boxes, labels, colors)


def crop(pixels: Pixels, face: Face) -> Pixels:
    """Returns the aligned face, (160, 160, 3) RGB, or a square around the box if there are no landmarks."""
    if face.landmarks is not None and len(face.landmarks) == 5:
        try:
            return align_with_margin(pixels, np.array(face.landmarks, np.float32), CROP_SIDE, CROP_MARGIN)[0]
        except ValueError:  # the landmarks coincide
            pass
    return crop_box(pixels, np.array(face.box, np.float32), CROP_SIDE)


def text_of(value: object) -> str:
    """Returns text from outside for use in HTML and Markdown."""
    return html.escape(str(value)).replace("|", "&#124;").replace("\n", " ")
