"""Adds labels for faces that a data set lacks, where two independent detectors agree on them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.inference.engine import Detection, FaceFinder
from service.vision.geometry import iou
from service.vision.image import Pixels
from trainer.detector import sheets
from trainer.detector.evaluation import labelled_pictures, match
from trainer.detector.labels import LabelledFace, read_labels, write_labels
from trainer.detector.preparation import NEW_FACE_IOU, visible_landmarks
from trainer.sheets import save, sheet

SHEET_TILES = 100


@dataclass(frozen=True)
class DetectorPair:
    """Two detectors with the minimum score, 0 to 1, of each."""

    first: FaceFinder
    first_min_score: float
    second: FaceFinder
    second_min_score: float

    def common_faces(self, picture: Pixels) -> list[Detection]:
        """Returns the faces that both detect: boxes and scores of the first, landmarks of the second."""
        first_faces = [face for face in self.first.detect([picture])[0] if face.score >= self.first_min_score]
        second_faces = [face for face in self.second.detect([picture])[0] if face.score >= self.second_min_score]
        boxes = np.array([face.box for face in second_faces], np.float32).reshape(-1, 4)
        return [
            Detection(face.box, face.score, second_faces[index].landmarks)
            for face, index in match(first_faces, boxes)
            if index is not None
        ]


def complete(data: Path, split: str, detectors: DetectorPair, output: Path) -> int:
    """Copies a split of an Ultralytics pose data set into `output` and adds the faces that its labels lack.

    People rarely label every face of a crowd. A detector that is trained on such labels misses faces, because an
    unlabelled face counts as background. `added.jpg` shows the added faces.

    Returns:
        The number of added faces.

    Raises:
        FileNotFoundError: the data set has no such split.
    """
    images, labels = output / "images" / split, output / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    tiles: list[Pixels] = []
    added = 0
    for picture in labelled_pictures(data, split):
        height, width = picture.pixels.shape[:2]
        labelled = read_labels(data / "labels" / split / f"{picture.path.stem}.txt", width, height)
        new = [face for face in detectors.common_faces(picture.pixels) if _is_new(face, picture.boxes)]
        faces = [LabelledFace(np.array(face.box, np.float32), visible_landmarks(face)) for face in new]
        shutil.copyfile(picture.path, images / picture.path.name)
        write_labels(labels / f"{picture.path.stem}.txt", labelled + faces, width, height)
        added += len(faces)
        displayed = faces[: SHEET_TILES - len(tiles)]
        tiles += [sheets.face_with_context(picture.pixels, np.array(face.box, np.float32)) for face in displayed]
    shutil.copyfile(data / "dataset.yaml", output / "dataset.yaml")
    if tiles:
        save(sheet(tiles, size=96), output / "added.jpg")
    return added


def _is_new(face: Detection, boxes: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> bool:
    return not len(boxes) or float(iou(np.array(face.box, np.float32), boxes).max()) < NEW_FACE_IOU
