"""From a folder of pictures to a training set: machine labels, merged with boxes drawn by people, split, to look at."""

import csv
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml
from rich.progress import track

from service.errors import RegistryError
from service.inference.engine import Detection, FaceFinder
from service.vision.geometry import iou
from service.vision.image import ImageLimits, Pixels, decode
from trainer.detector import sheets
from trainer.detector.labels import LANDMARKS, LabelledFace, read_labels, write_labels
from trainer.pictures import SUFFIXES, pictures_below
from trainer.sheets import save, sheet

SAME_FACE_IOU = 0.4
"""A machine's and a person's box of one face overlap at least so much; people and machines draw differently."""
NEW_FACE_IOU = 0.1
"""A machine's box that overlaps every human box less than this is another face."""
SHOWN = 48


@dataclass(frozen=True)
class Prepared:
    """One row of `prepared.csv`. `problem` says why a picture is not in the set."""

    picture: str
    split: str
    human_boxes: int
    machine_boxes: int
    with_landmarks: int
    problem: str


def prepare(
    pictures: Path, human: Path | None, finder: FaceFinder, output: Path, min_score: float, validation_share: float
) -> list[Prepared]:
    """Label every picture below a folder and write an Ultralytics pose data set.

    Human boxes are taken as they are. A machine's face that no human box touches is added; where both mean the same
    face, the machine gives the landmarks. The same picture twice is taken once; which split a picture goes to depends
    on its content alone, so that a set that grows keeps its split.

    Args:
        human: folder with `<path of the picture without suffix>.txt` in YOLO format, or None: machine labels only.
        min_score: from which on the machine's faces count.

    Raises:
        ValueError: the folder has no pictures.
    """
    paths = pictures_below(pictures)
    if not paths:
        raise ValueError(f"{pictures} has no pictures ({', '.join(sorted(SUFFIXES))})")
    for split in ("train", "val"):
        (output / "images" / split).mkdir(parents=True, exist_ok=True)
        (output / "labels" / split).mkdir(parents=True, exist_ok=True)
    rows: list[Prepared] = []
    shown: list[Pixels] = []
    known: dict[str, str] = {}
    for path in track(paths, description="labelling"):
        name = path.relative_to(pictures).as_posix()
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest in known:
            rows.append(Prepared(name, "", 0, 0, 0, f"the same file as {known[digest]}"))
            continue
        known[digest] = name
        try:
            pixels = decode(data, ImageLimits())
        except RegistryError as error:
            rows.append(Prepared(name, "", 0, 0, 0, error.detail))
            continue
        drawn = _drawn(human, Path(name), pixels)
        found = [face for face in finder.detect([pixels])[0] if face.score >= min_score]
        faces = merge(drawn, found)
        split = "val" if int(digest[:8], 16) / 2**32 < validation_share else "train"
        stem = f"{path.stem}-{digest[:12]}"
        (output / "images" / split / f"{stem}{path.suffix.lower()}").write_bytes(data)
        write_labels(output / "labels" / split / f"{stem}.txt", faces, pixels.shape[1], pixels.shape[0])
        landmarked = sum(bool(face.landmarks[:, 2].any()) for face in faces)
        rows.append(Prepared(name, split, len(drawn), len(faces) - len(drawn), landmarked, ""))
        if len(shown) < SHOWN:
            shown.append(sheets.labelled(pixels, faces))
    save(sheet(shown, size=320), output / "look.jpg")
    _write_description(output)
    _write_table(output / "prepared.csv", rows)
    return rows


def merge(drawn: list[LabelledFace], found: list[Detection]) -> list[LabelledFace]:
    """Human boxes with the machine's landmarks, and after them the machine's faces that no human box touches."""
    boxes = np.array([face.box for face in drawn], np.float32).reshape(-1, 4)
    free = np.ones(len(drawn), dtype=bool)
    merged, added = list(drawn), []
    for face in sorted(found, key=lambda face: -face.score):
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
    """(5, 3) landmarks as labels have them: all of them visible, or none where the detector tells none."""
    if face.landmarks is None:
        return np.zeros((LANDMARKS, 3), np.float32)
    return np.concatenate([face.landmarks[:, :2], np.ones((LANDMARKS, 1), np.float32)], axis=1)


def _drawn(human: Path | None, name: Path, pixels: Pixels) -> list[LabelledFace]:
    if human is None:
        return []
    return read_labels(human / name.with_suffix(".txt"), pixels.shape[1], pixels.shape[0])


def _write_description(output: Path) -> None:
    description = {
        "path": ".",
        "train": "images/train",
        "val": "images/val",
        "names": {0: "face"},
        "kpt_shape": [LANDMARKS, 3],
        "flip_idx": [1, 0, 2, 4, 3],
    }
    (output / "dataset.yaml").write_text(yaml.safe_dump(description, sort_keys=False))


def _write_table(path: Path, rows: list[Prepared]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(Prepared.__annotations__))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
