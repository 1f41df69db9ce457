"""Draws labels and detections into pictures, and tiles pictures of missed faces and of false alarms."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import supervision

from service.inference.engine import Detection
from service.vision.image import ImageLimits, Pixels, decode
from trainer.detector.evaluation import MIN_FACE_PX, PictureDetections, match, shorter_sides
from trainer.detector.labels import LabelledFace
from trainer.sheets import TILE, sheet

Floats = npt.NDArray[np.float32]
GREEN, ORANGE, RED = supervision.Color(60, 200, 60), supervision.Color(255, 160, 0), supervision.Color(230, 40, 40)


def draw(pixels: Pixels, boxes: Floats, colour: supervision.Color, landmarks: Floats | None = None) -> Pixels:
    """Returns a copy of the picture with (N, 4) boxes and, if any, (N, 5, 3) landmarks drawn in one colour."""
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


def draw_labels(pixels: Pixels, faces: Sequence[LabelledFace]) -> Pixels:
    """Returns a copy of the picture with the boxes and landmarks of its labels."""
    boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
    return draw(pixels, boxes, GREEN, np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 3))


def draw_detections(pixels: Pixels, detections: Sequence[Detection]) -> Pixels:
    """Returns a copy of the picture with the boxes and landmarks of detections."""
    boxes = np.array([face.box for face in detections], np.float32).reshape(-1, 4)
    landmarks = [face.landmarks for face in detections if face.landmarks is not None]
    return draw(pixels, boxes, GREEN, np.array(landmarks, np.float32).reshape(-1, 5, 3))


def missed_faces(results: Iterable[PictureDetections], min_score: float, limit: int = 48) -> Pixels:
    """Tiles the labelled faces without a detection of at least `min_score`, the largest first."""
    missed = []
    for picture in results:
        detections = [face for face in picture.detections if face.score >= min_score]
        matched = {index for _, index in match(detections, picture.ground_truth)}
        sides = shorter_sides(picture.ground_truth)
        missed += [
            (float(sides[index]), picture.path, picture.ground_truth[index])
            for index in range(len(picture.ground_truth))
            if index not in matched and sides[index] >= MIN_FACE_PX
        ]
    return _tile_faces(sorted(missed, key=lambda item: -item[0])[:limit], ORANGE)


def false_alarms(results: Iterable[PictureDetections], min_score: float, limit: int = 48) -> Pixels:
    """Tiles the detections of at least `min_score` without a labelled face, the highest score first.

    Some of them are faces that the labels lack.
    """
    alarms = []
    for picture in results:
        detections = [face for face in picture.detections if face.score >= min_score]
        for face, index in match(detections, picture.ground_truth):
            box = np.array(face.box, np.float32)
            if index is None and shorter_sides(box[None])[0] >= MIN_FACE_PX:
                alarms.append((face.score, picture.path, box))
    return _tile_faces(sorted(alarms, key=lambda item: -item[0])[:limit], RED)


def face_with_context(pixels: Pixels, box: Floats, colour: supervision.Color = GREEN) -> Pixels:
    """Cuts out a face with its surroundings, scales it to the size of a tile and draws its (4,) box."""
    centre, reach = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max()) * 1.2
    low = np.maximum(centre - reach, 0).astype(int)
    high = np.minimum(centre + reach, pixels.shape[1::-1]).astype(int)
    crop = np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]])
    scale = TILE / max(crop.shape[:2])
    enlarged = cv2.resize(crop, None, fx=scale, fy=scale)
    return draw(enlarged, ((box - np.tile(low, 2)) * scale)[None].astype(np.float32), colour)  # type: ignore[arg-type]


def _tile_faces(items: Sequence[tuple[float, Path, Floats]], colour: supervision.Color) -> Pixels:
    return sheet([face_with_context(decode(path.read_bytes(), ImageLimits()), box, colour) for _, path, box in items])
