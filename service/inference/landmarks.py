"""Landmark refinement and face verification: a second graph on a crop around each detected face."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.engine import Box, Detection
from service.inference.graph import RuntimeOptions, open_graph
from service.inference.manifest import LandmarkStage
from service.vision.alignment import align_with_margin
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
POINTS = 5
MAX_BATCH = 32
SIDES, WEIGHTS = (16.0, 64.0), (0.2, 0.5)
"""Weight of the verification in the combined score, for boxes whose shorter side has 16 and 64 pixels. Between them the
weight is linear in the logarithm of the side; beyond them it is constant."""
MIN_PROPOSAL_SCORE = 0.01
"""Lower limit of the detector's score for verification, whatever the requested minimum score."""

MEAN_LANDMARKS = np.array([[0.31, 0.34], [0.67, 0.33], [0.48, 0.53], [0.34, 0.7], [0.65, 0.69]], np.float32)
"""Mean positions as shares of the detector's box, in 398 photos of LFW's and CFP's development people."""
MAX_STEPS = 8
MAX_MOVE = 0.01
"""Movement as a share of the box's side below which landmarks stay."""
MIN_BOX_SCORE = 0.6
"""Minimum score of a box that the caller has drawn. `python -m tools.measure_boxes` on CFP's and LFW's development
people: 97 to 100 % of boxes that are up to 35 % too large or too small, and 1 to 6 % of boxes beside the face."""


def verified(score: float, probability: float, box: Box) -> float:
    """Returns the weighted geometric mean of a detector's score and the probability that the crop shows a face.

    A crop of few pixels contains little information, so the weight of the verification decreases with the size of the
    box, and the detector, which also uses the surroundings, has more weight. The weights are those with the best result
    on the validation split of the detection data.

    Args:
        score: score of the detector, 0 to 1.
        probability: output of the verification, 0 to 1.
    """
    side = max(min(box[2] - box[0], box[3] - box[1]), 1.0)
    weight = float(np.interp(math.log(side), np.log(SIDES), WEIGHTS))
    return score ** (1 - weight) * probability**weight


class LandmarkRefiner:
    """Replaces landmarks of detections by more precise ones, each with a confidence of 0 to 1.

    The detector processes the picture at a low resolution, in which an eye has a few pixels. The refiner processes an
    aligned crop of a fixed size. If the graph verifies faces, the score of each detection is replaced as well; see
    `verified`.

    Raises:
        StartupError: the graph's output has another shape than the manifest's.
    """

    def __init__(self, bundle: Path, stage: LandmarkStage, options: RuntimeOptions) -> None:
        self._stage = stage
        self._graph = open_graph(bundle / stage.graph, stage.input_size, options)
        numbers = 3 * POINTS + stage.verifies
        if self._graph.output_shape != (numbers,):
            raise StartupError(
                f"{bundle}: the landmark graph's output has the shape {self._graph.output_shape} per crop; "
                f"the manifest requires ({numbers},)"
            )

    def proposal_score(self, min_score: float) -> float:
        """Returns the lowest score of the detector with which a verified detection can have the score `min_score`."""
        return max(min_score ** (1 / (1 - WEIGHTS[-1])), MIN_PROPOSAL_SCORE) if self._stage.verifies else min_score

    def refine(self, pictures: Sequence[Pixels], detections: Sequence[list[Detection]]) -> list[list[Detection]]:
        """Returns the detections of each picture, in the same order, with refined landmarks and verified scores.

        A detection without landmarks, or whose landmarks coincide, is returned unchanged.
        """
        positions, crops, inverses = [], [], []
        for row, (picture, faces) in enumerate(zip(pictures, detections, strict=True)):
            for column, detection in enumerate(faces):
                if (aligned := self._align(picture, detection)) is not None:
                    positions.append((row, column))
                    crops.append(aligned[0])
                    inverses.append(aligned[1])
        refined = [list(faces) for faces in detections]
        for start in range(0, len(crops), MAX_BATCH):
            batch = slice(start, start + MAX_BATCH)
            points, probabilities = self._points(crops[batch], inverses[batch])
            for (row, column), landmarks, probability in zip(positions[batch], points, probabilities, strict=True):
                rough = refined[row][column]
                score = verified(rough.score, float(probability), rough.box) if self._stage.verifies else rough.score
                refined[row][column] = replace(rough, score=score, landmarks=landmarks)
        return refined

    def locate(self, picture: Pixels, box: Box) -> Detection | None:
        """Returns a detection with this box, in which the detector has found no face, and with its landmarks.

        The landmarks begin at their mean positions and are refined until they stay, which takes several steps for a
        face in profile. The score is the probability of a face, weighted as in `verified`.

        Returns:
            None if the box shows no face, if the landmarks leave it, or if the graph does not verify faces.
        """
        corners = np.array(box, np.float32).reshape(2, 2)
        side = corners[1] - corners[0]
        points = np.column_stack([corners[0] + MEAN_LANDMARKS * side, np.ones(POINTS)]).astype(np.float32)
        found = Detection(box, 1.0, points, manual=True)
        if not self._stage.verifies:
            return None
        for _ in range(MAX_STEPS):
            if self._align(picture, found) is None:
                return None
            [[refined]] = self.refine([picture], [[replace(found, score=1.0)]])
            assert refined.landmarks is not None
            moved = np.linalg.norm(refined.landmarks[:, :2] - points[:, :2], axis=1).max()
            found, points = refined, refined.landmarks
            if moved < MAX_MOVE * side.min():
                break
        centre = points[:, :2].mean(axis=0)
        is_inside = bool((centre > corners[0]).all() and (centre < corners[1]).all())
        return found if is_inside and found.score >= MIN_BOX_SCORE else None

    def _align(self, picture: Pixels, detection: Detection) -> tuple[Pixels, Floats] | None:
        """Returns the aligned crop and the (2, 3) transform from it to the picture; None if landmarks are missing."""
        if detection.landmarks is None:
            return None
        try:
            crop, transform = align_with_margin(
                picture, detection.landmarks[:, :2], self._stage.input_size, self._stage.margin
            )
        except ValueError:
            return None
        return crop, np.asarray(cv2.invertAffineTransform(transform), np.float32)

    def _points(self, crops: Sequence[Pixels], inverses: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Returns (n, 5, 3) landmarks in pixels of the pictures, and (n,) probabilities of a face.

        The probability is 1 if the graph does not verify faces.
        """
        planes = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)
        outputs = self._graph.run(planes)
        landmarks = outputs[:, : 3 * POINTS].reshape(-1, POINTS, 3).copy()
        in_crop = landmarks[..., :2] * np.float32(self._stage.input_size)
        to_picture = np.stack(inverses)
        landmarks[..., :2] = np.einsum("npk,nck->npc", in_crop, to_picture[:, :, :2]) + to_picture[:, None, :, 2]
        return landmarks, outputs[:, -1] if self._stage.verifies else np.ones(len(outputs), np.float32)
