"""From photos as people take them to the aligned canvases that training reads."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.progress import track

from service.errors import RegistryError
from service.inference.engine import FaceChoice, FaceFinder
from service.inference.selection import select
from service.vision.alignment import TEMPLATE_112, similarity_transform, trust
from service.vision.image import ImageLimits, Pixels, decode
from trainer.embedder.canvases import CANVAS, CROP

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".heic"}
QUALITY = 90


@dataclass(frozen=True)
class Preparation:
    """How many photos became canvases, and why the others did not."""

    written: int
    failures: list[tuple[Path, str]]


def prepare(photos: Path, output: Path, detector: FaceFinder, choice: FaceChoice) -> Preparation:
    """Write `<output>/<identity>/<photo>.webp` for every `<photos>/<identity>/<photo>` with a face.

    A canvas that is there already is kept, so that a second run does only what is new. `failures.csv` in the output
    names every photo without a canvas.
    """
    failures: list[tuple[Path, str]] = []
    written = 0
    for path in track(list(_photos(photos)), description="aligning faces"):
        target = output / path.parent.name / f"{path.stem}.webp"
        if not target.exists():
            try:
                canvas = make_canvas(path.read_bytes(), detector, choice)
            except (RegistryError, ValueError) as error:
                failures.append((path, str(error)))
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(canvas).save(target, quality=QUALITY)
        written += 1
    output.mkdir(parents=True, exist_ok=True)
    with (output / "failures.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("photo", "reason"), *((str(path), reason) for path, reason in failures)])
    return Preparation(written, failures)


def make_canvas(data: bytes, detector: FaceFinder, choice: FaceChoice) -> Pixels:
    """The chosen face of a photo as an aligned (160, 160, 3) canvas.

    Raises:
        RegistryError: the photo can't be read.
        ValueError: it shows no face, or with `only` several.
    """
    pixels = decode(data, ImageLimits())
    detections = detector.detect([pixels])[0]
    height, width = pixels.shape[:2]
    chosen = select(detections, choice, None, (width, height))
    if not chosen:
        raise ValueError(f"{len(detections)} faces" if detections else "no face")
    landmarks = detections[chosen[0]].landmarks
    if landmarks is None:
        raise ValueError("the detector gives no landmarks")
    target = TEMPLATE_112 + np.float32((CANVAS - CROP) / 2)
    transform = similarity_transform(landmarks[:, :2], target, trust(landmarks[:, 2]))  # as the service aligns
    return cv2.warpAffine(pixels, transform, (CANVAS, CANVAS), borderMode=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def _photos(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*/*")) if path.suffix.lower() in SUFFIXES)
