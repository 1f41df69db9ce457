"""Faces that nobody labelled: added where two detectors of different making agree on them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.inference.engine import Detection, FaceFinder
from service.vision.geometry import iou
from service.vision.image import Pixels
from trainer.detector import sheets
from trainer.detector.evaluation import match, pictures_of
from trainer.detector.labels import LabelledFace, read_labels, write_labels
from trainer.detector.preparation import NEW_FACE_IOU, visible_landmarks
from trainer.sheets import save, sheet

SHOWN = 100


@dataclass(frozen=True)
class Agreement:
    """From which scores on each of two detectors must see a face."""

    first: FaceFinder
    first_score: float
    second: FaceFinder
    second_score: float

    def faces(self, picture: Pixels) -> list[Detection]:
        """What both see: the boxes of the first, the landmarks of the second."""
        one = [face for face in self.first.detect([picture])[0] if face.score >= self.first_score]
        other = [face for face in self.second.detect([picture])[0] if face.score >= self.second_score]
        boxes = np.array([face.box for face in other], np.float32).reshape(-1, 4)
        return [
            Detection(face.box, face.score, other[index].landmarks)
            for face, index in match(one, boxes)
            if index is not None
        ]


def complete(data: Path, split: str, agreement: Agreement, output: Path) -> int:
    """Copy a split of an Ultralytics pose data set into `output` with the faces that it lacks.

    A crowd is rarely labelled to its last row, and a detector that is told that these are no faces loses some of those
    that it should find. `added.jpg` shows what was added.

    Returns:
        How many faces were added.
    """
    images, labels = output / "images" / split, output / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    shown: list[Pixels] = []
    added = 0
    for picture in pictures_of(data, split):
        height, width = picture.pixels.shape[:2]
        known = read_labels(data / "labels" / split / f"{picture.path.stem}.txt", width, height)
        new = [face for face in agreement.faces(picture.pixels) if _is_new(face, picture.boxes)]
        faces = [LabelledFace(np.array(face.box, np.float32), visible_landmarks(face)) for face in new]
        shutil.copyfile(picture.path, images / picture.path.name)
        write_labels(labels / f"{picture.path.stem}.txt", known + faces, width, height)
        added += len(faces)
        shown += [sheets.around(picture.pixels, np.array(face.box, np.float32)) for face in faces[: SHOWN - len(shown)]]
    shutil.copyfile(data / "dataset.yaml", output / "dataset.yaml")
    if shown:
        save(sheet(shown, size=96), output / "added.jpg")
    return added


def _is_new(face: Detection, boxes: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> bool:
    return not len(boxes) or float(iou(np.array(face.box, np.float32), boxes).max()) < NEW_FACE_IOU
