"""The second look at a face: its landmarks, found anew in a crop that the detector's own landmarks made."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import LandmarkStage
from service.inference.engine import Detection
from service.inference.graph import RuntimeOptions, open_graph
from service.vision.alignment import align_with_margin
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
POINTS = 5
AT_ONCE = 32


class LandmarkRefiner:
    """Replaces a detection's landmarks by better ones, each with a confidence from 0 to 1.

    A detector sees the whole picture at the scale at which faces are found; an eye of a few pixels is placed to a
    pixel at best. In an upright crop of one size it is placed better, and whether it is to be seen is told as well.
    """

    def __init__(self, bundle: Path, stage: LandmarkStage, options: RuntimeOptions) -> None:
        self._stage = stage
        self._graph = open_graph(bundle / stage.graph, stage.input_size, options)
        if self._graph.output_shape != (3 * POINTS,):
            raise StartupError(f"{bundle}: landmarks of shape {self._graph.output_shape} where ({3 * POINTS},) is due")

    def refine(self, pictures: Sequence[Pixels], found: Sequence[list[Detection]]) -> list[list[Detection]]:
        """The same detections, their landmarks refined; one whose landmarks coincide keeps them."""
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
            points = self._points(crops[part], inverses[part])
            for (row, column), landmarks in zip(places[part], points, strict=True):
                refined[row][column] = replace(refined[row][column], landmarks=landmarks)
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

    def _points(self, crops: Sequence[Pixels], inverses: Sequence[Floats]) -> Floats:
        """(n, 5, 3) landmarks in pixels of their pictures."""
        planes = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)
        landmarks = self._graph.run(planes).reshape(-1, POINTS, 3).copy()
        inside = landmarks[..., :2] * np.float32(self._stage.input_size)
        back = np.stack(inverses)
        landmarks[..., :2] = np.einsum("npk,nck->npc", inside, back[:, :, :2]) + back[:, None, :, 2]
        return landmarks
