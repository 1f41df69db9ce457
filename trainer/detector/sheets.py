"""Picture sheets to look at: what was labelled, what was missed, what was taken for a face."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import supervision

from service.vision.image import ImageLimits, Pixels, decode
from trainer.detector.evaluation import MIN_FACE_PX, Seen, match, shorter_sides
from trainer.detector.labels import LabelledFace
from trainer.sheets import TILE, sheet

Floats = npt.NDArray[np.float32]
HUMAN, MISSED, FALSE = supervision.Color(60, 200, 60), supervision.Color(255, 160, 0), supervision.Color(230, 40, 40)


def draw(pixels: Pixels, boxes: Floats, colour: supervision.Color, landmarks: Floats | None = None) -> Pixels:
    """A copy of the picture with (N, 4) boxes and, where given, (N, 5, 3) landmarks in one colour."""
    thickness = max(1, round(max(pixels.shape[:2]) / 300))
    scene = pixels.copy()
    if len(boxes):
        detections = supervision.Detections(xyxy=np.asarray(boxes, np.float32), class_id=np.zeros(len(boxes), int))
        palette = supervision.ColorPalette([colour])
        scene = supervision.BoxAnnotator(palette, thickness=thickness).annotate(scene, detections)
    if landmarks is not None and len(landmarks):
        points = np.where(landmarks[..., 2:] > 0, landmarks[..., :2], 0)
        annotator = supervision.VertexAnnotator(colour, radius=thickness + 1)
        scene = annotator.annotate(scene, supervision.KeyPoints(xy=points.astype(np.float32)))
    return scene


def labelled(pixels: Pixels, faces: Sequence[LabelledFace]) -> Pixels:
    """A picture with its labels drawn in."""
    boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
    return draw(pixels, boxes, HUMAN, np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 3))


def misses(seen: Iterable[Seen], min_score: float, most: int = 48) -> Pixels:
    """Faces that were not found at the working score, largest first, each with its surroundings."""
    missed = []
    for picture in seen:
        found = [face for face in picture.found if face.score >= min_score]
        hit = {index for _, index in match(found, picture.truth)}
        sides = shorter_sides(picture.truth)
        missed += [
            (float(sides[index]), picture.path, picture.truth[index])
            for index in range(len(picture.truth))
            if index not in hit and sides[index] >= MIN_FACE_PX
        ]
    return _crops(sorted(missed, key=lambda item: -item[0])[:most], MISSED)


def false_alarms(seen: Iterable[Seen], min_score: float, most: int = 48) -> Pixels:
    """What was found without a labelled face to match, strongest first; not a few of these are unlabelled faces."""
    alarms = []
    for picture in seen:
        for face, index in match([face for face in picture.found if face.score >= min_score], picture.truth):
            box = np.array(face.box, np.float32)
            if index is None and shorter_sides(box[None])[0] >= MIN_FACE_PX:
                alarms.append((face.score, picture.path, box))
    return _crops(sorted(alarms, key=lambda item: -item[0])[:most], FALSE)


def _crops(items: Sequence[tuple[float, Path, Floats]], colour: supervision.Color) -> Pixels:
    return sheet([around(decode(path.read_bytes(), ImageLimits()), box, colour) for _, path, box in items])


def around(pixels: Pixels, box: Floats, colour: supervision.Color = HUMAN) -> Pixels:
    """A face with its surroundings, as large as a tile, its box drawn in."""
    centre, reach = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max()) * 1.2
    low = np.maximum(centre - reach, 0).astype(int)
    high = np.minimum(centre + reach, pixels.shape[1::-1]).astype(int)
    crop = np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]])
    scale = TILE / max(crop.shape[:2])
    enlarged = cv2.resize(crop, None, fx=scale, fy=scale)
    return draw(enlarged, ((box - np.tile(low, 2)) * scale)[None].astype(np.float32), colour)  # type: ignore[arg-type]
