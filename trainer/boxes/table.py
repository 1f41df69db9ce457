"""Writes the faces that a detector finds as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from service.inference.engine import Detection, FaceFinder
from trainer.cache import atomic_file
from trainer.datasets.label_table import BOX
from trainer.datasets.photos import LabelledPhoto
from trainer.pictures import read_picture
from trainer.progress import track

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
HEAD = ("photo", "identity", *BOX, "score", *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"))


def write_boxes(photos: Sequence[LabelledPhoto], finder: FaceFinder, output: Path) -> tuple[int, int]:
    """Writes one row for each face.

    Returns:
        The number of faces, and the number of photos without a face or that cannot be read.
    """
    faces = without = 0
    with atomic_file(output) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        for photo in track(photos, description="finding faces"):
            picture = read_picture(photo.path)
            found = [] if picture is None else finder.detect([picture])[0]
            writer.writerows(_row(photo, face) for face in found)
            faces += len(found)
            without += not found
    return faces, without


def _row(photo: LabelledPhoto, face: Detection) -> list[str]:
    points = [] if face.landmarks is None else [f"{value:.1f}" for value in face.landmarks[:, :2].ravel()]
    box = [f"{value:.1f}" for value in face.box]
    return [str(photo.path.resolve()), photo.identity, *box, f"{face.score:.4f}", *points]
