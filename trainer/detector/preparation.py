"""Prepares a detection training set from a folder of pictures: detector labels, merged with boxes drawn by people."""

import csv
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from service.errors import RegistryError
from service.inference.engine import Detection, FaceFinder
from service.vision.formats import SUFFIXES
from service.vision.geometry import iou
from service.vision.image import ImageLimits, Pixels, decode
from trainer.detector import sheets
from trainer.detector.labels import LANDMARKS, MIRRORED_ORDER, LabelledFace, read_labels, write_labels
from trainer.pictures import pictures_below
from trainer.progress import track
from trainer.sheets import save, sheet

SAME_FACE_IOU = 0.4
"""Minimum overlap of a detector's and a person's box of the same face; the two draw boxes differently."""
NEW_FACE_IOU = 0.1
"""A detector's box that overlaps every human box less than this is another face."""
SHEET_TILES = 48


@dataclass(frozen=True)
class PreparedPicture:
    """One row of `prepared.csv`. `problem` is the reason why the picture is not in the set, otherwise empty."""

    picture: str
    split: str
    human_boxes: int
    machine_boxes: int
    with_landmarks: int
    problem: str


def prepare(
    pictures: Path, human: Path | None, detector: FaceFinder, output: Path, min_score: float, validation_share: float
) -> list[PreparedPicture]:
    """Labels every picture below a folder and writes a data set in Ultralytics' pose format.

    Human boxes are kept unchanged. A detected face that overlaps no human box is added; where a detection and a human
    box belong to the same face, the detector contributes the landmarks. Identical files are used once. The split of a
    picture depends on its content alone, so that pictures keep their split when the set grows.

    Args:
        human: folder with `<path of the picture without suffix>.txt` in YOLO format, or None for detector labels only.
        min_score: minimum score of a detected face, 0 to 1.
        validation_share: share of pictures for the split `val`, 0 to 1; the others are in `train`.

    Raises:
        ValueError: the folder has no pictures.
    """
    paths = pictures_below(pictures)
    if not paths:
        raise ValueError(f"{pictures} has no pictures; the suffixes of pictures are {', '.join(sorted(SUFFIXES))}")
    labeller = _Labeller(human, detector, output, min_score, validation_share)
    for path in track(paths, description="labelling"):
        labeller.add(path, path.relative_to(pictures).as_posix())
    save(sheet(labeller.tiles, size=320), output / "samples.jpg")
    _write_description(output)
    _write_table(output / "prepared.csv", labeller.rows)
    return labeller.rows


class _Labeller:
    """Labels pictures one by one. `rows`: one per picture; `tiles`: the first labelled pictures with their labels."""

    def __init__(
        self, human: Path | None, detector: FaceFinder, output: Path, min_score: float, validation_share: float
    ) -> None:
        self._human, self._detector, self._output = human, detector, output
        self._min_score, self._validation_share = min_score, validation_share
        self._names: dict[str, str] = {}
        self.rows: list[PreparedPicture] = []
        self.tiles: list[Pixels] = []
        for split in ("train", "val"):
            (output / "images" / split).mkdir(parents=True, exist_ok=True)
            (output / "labels" / split).mkdir(parents=True, exist_ok=True)

    def add(self, path: Path, name: str) -> None:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest in self._names:
            self._leave_out(name, f"the same file as {self._names[digest]}")
            return
        self._names[digest] = name
        try:
            pixels = decode(data, ImageLimits())
        except RegistryError as error:
            self._leave_out(name, error.detail)
            return
        drawn = self._human_boxes(Path(name), pixels)
        detections = [face for face in self._detector.detect([pixels])[0] if face.score >= self._min_score]
        faces = merge(drawn, detections)
        split = "val" if int(digest[:8], 16) / 2**32 < self._validation_share else "train"
        stem = f"{path.stem}-{digest[:12]}"
        (self._output / "images" / split / f"{stem}{path.suffix.lower()}").write_bytes(data)
        write_labels(self._output / "labels" / split / f"{stem}.txt", faces, pixels.shape[1], pixels.shape[0])
        landmarked = sum(bool(face.landmarks[:, 2].any()) for face in faces)
        self.rows.append(PreparedPicture(name, split, len(drawn), len(faces) - len(drawn), landmarked, ""))
        if len(self.tiles) < SHEET_TILES:
            self.tiles.append(sheets.draw_labels(pixels, faces))

    def _leave_out(self, name: str, problem: str) -> None:
        self.rows.append(PreparedPicture(name, "", 0, 0, 0, problem))

    def _human_boxes(self, name: Path, pixels: Pixels) -> list[LabelledFace]:
        if self._human is None:
            return []
        return read_labels(self._human / name.with_suffix(".txt"), pixels.shape[1], pixels.shape[0])


def merge(drawn: list[LabelledFace], detections: list[Detection]) -> list[LabelledFace]:
    """Merges the labels of one picture.

    Returns:
        The human boxes in their order, with the detector's landmarks where they have none, followed by the detected
        faces that overlap no human box.
    """
    boxes = np.array([face.box for face in drawn], np.float32).reshape(-1, 4)
    free = np.ones(len(drawn), dtype=bool)
    merged, added = list(drawn), []
    for face in sorted(detections, key=lambda face: -face.score):
        landmarks = visible_landmarks(face)
        overlaps = iou(np.array(face.box, np.float32), boxes) if len(boxes) else np.zeros(0)
        best = int(np.argmax(np.where(free, overlaps, -1))) if len(boxes) else -1
        if best >= 0 and free[best] and overlaps[best] >= SAME_FACE_IOU:
            free[best] = False
            if not drawn[best].landmarks[:, 2].any():
                merged[best] = LabelledFace(drawn[best].box, landmarks)
        elif not len(overlaps) or overlaps.max() < NEW_FACE_IOU:
            added.append(LabelledFace(np.array(face.box, np.float32), landmarks))
    return merged + added


def visible_landmarks(face: Detection) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Returns (5, 3) landmarks for a label: all visible, or zeros if the detection has no landmarks."""
    if face.landmarks is None:
        return np.zeros((LANDMARKS, 3), np.float32)
    return np.concatenate([face.landmarks[:, :2], np.ones((LANDMARKS, 1), np.float32)], axis=1)


def _write_description(output: Path) -> None:
    description = {
        "path": ".",
        "train": "images/train",
        "val": "images/val",
        "names": {0: "face"},
        "kpt_shape": [LANDMARKS, 3],
        "flip_idx": MIRRORED_ORDER,
    }
    (output / "dataset.yaml").write_text(yaml.safe_dump(description, sort_keys=False))


def _write_table(path: Path, rows: list[PreparedPicture]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(PreparedPicture.__annotations__))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
