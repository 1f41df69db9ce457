"""The second look at a face: its landmarks, found anew in a crop that the detector's own landmarks made, and whether it
is one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import LandmarkStage
from service.inference.engine import Box, Detection
from service.inference.graph import RuntimeOptions, open_graph
from service.vision.alignment import align_with_margin
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
POINTS = 5
AT_ONCE = 32
SIDES, WEIGHTS = (16.0, 64.0), (0.2, 0.5)
"""Shorter sides of a box in pixels, and how much of the score is the second look's from there on; between the two it
grows with the side's logarithm."""
LOWEST_PROPOSAL = 0.01
"""A detector's score below which no second look is taken, whatever is asked for."""


def verified(score: float, certainty: float, box: Box) -> float:
    """A detector's score and how certain a face is, as one: their geometric mean, so that both have to be convinced.

    Of a face of few pixels the crop tells little: a stone is as good a face of 15 pixels as any. There the detector,
    which sees what is around it, counts for more. The weights are those that were best on the detection data's `val`.
    """
    side = max(min(box[2] - box[0], box[3] - box[1]), 1.0)
    weight = float(np.interp(math.log(side), np.log(SIDES), WEIGHTS))
    return score ** (1 - weight) * certainty**weight


class LandmarkRefiner:
    """Replaces a detection's landmarks by better ones, each with a confidence from 0 to 1.

    A detector sees the whole picture at the scale at which faces are found; an eye of a few pixels is placed to a
    pixel at best. In an upright crop of one size it is placed better, and whether it is to be seen is told as well.
    A graph that verifies also says how probable it is that the crop shows a face, and the score becomes that of both
    (`verified`).
    """

    def __init__(self, bundle: Path, stage: LandmarkStage, options: RuntimeOptions) -> None:
        self._stage = stage
        self._graph = open_graph(bundle / stage.graph, stage.input_size, options)
        numbers = 3 * POINTS + stage.verifies
        if self._graph.output_shape != (numbers,):
            raise StartupError(f"{bundle}: landmarks of shape {self._graph.output_shape} where ({numbers},) is due")

    def proposal_score(self, min_score: float) -> float:
        """The least score of a detector with which a detection can come to `min_score`."""
        return max(min_score ** (1 / (1 - WEIGHTS[-1])), LOWEST_PROPOSAL) if self._stage.verifies else min_score

    def refine(self, pictures: Sequence[Pixels], found: Sequence[list[Detection]]) -> list[list[Detection]]:
        """The same detections, landmarks and scores refined; one whose landmarks coincide stays as it is."""
        places, crops, inverses = [], [], []
        for row, (picture, detections) in enumerate(zip(pictures, found, strict=True)):
            for column, detection in enumerate(detections):
                if (looked := self._look(picture, detection)) is not None:
                    places.append((row, column))
                    crops.append(looked[0])
                    inverses.append(looked[1])
        refined = [list(detections) for detections in found]
        for start in range(0, len(crops), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            points, certainties = self._points(crops[part], inverses[part])
            for (row, column), landmarks, certainty in zip(places[part], points, certainties, strict=True):
                rough = refined[row][column]
                score = verified(rough.score, float(certainty), rough.box) if self._stage.verifies else rough.score
                refined[row][column] = replace(rough, score=score, landmarks=landmarks)
        return refined

    def _look(self, picture: Pixels, detection: Detection) -> tuple[Pixels, Floats] | None:
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
        """(n, 5, 3) landmarks in pixels of their pictures, and (n,) how certain a face is; 1 where nobody verifies."""
        planes = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)
        outputs = self._graph.run(planes)
        landmarks = outputs[:, : 3 * POINTS].reshape(-1, POINTS, 3).copy()
        inside = landmarks[..., :2] * np.float32(self._stage.input_size)
        back = np.stack(inverses)
        landmarks[..., :2] = np.einsum("npk,nck->npc", inside, back[:, :, :2]) + back[:, None, :, 2]
        return landmarks, outputs[:, -1] if self._stage.verifies else np.ones(len(outputs), np.float32)
