"""Detects faces: runs the YOLO graph at increasing sizes, refines landmarks and verifies the faces."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from service.inference.bundle import read_detector
from service.inference.engine import Box, Detection, FaceChoice
from service.inference.graph import RuntimeOptions
from service.inference.landmarks import LandmarkRefiner
from service.inference.manifest import DetectorManifest
from service.inference.views import PROMINENT, RELIABLE, View, is_decided, reliability, retries, sizes_of, tiles
from service.inference.yolo import YoloGraph
from service.vision.geometry import suppress_overlaps
from service.vision.image import Pixels

MIN_RETRY_RELIABILITY = 0.5
"""Minimum reliability of a face that the detector finds in a further view only. Each view can add false alarms: in 100
pictures without a face, four of five false alarms have less, and every true profile of CFP's development people has
more."""
MAX_IOU_OF_VIEWS = 0.2
"""Overlap from which on faces of several views are the same face. Boxes in turned pictures differ more than others."""


@dataclass(frozen=True, slots=True)
class Step:
    """A run of a graph: longer side of its input in pixels, and the graph."""

    size: int
    graph: YoloGraph


class YoloFaceDetector:
    """Detects faces and their five landmarks.

    Attributes:
        sizes: longer sides of the graph's inputs in pixels, ascending.

    Args:
        image_size: input size in pixels for all pictures. None: see `views.sizes_of`.
        min_score: minimum score of a detection; None: the default of the bundle.
        tiling: large pictures are processed in overlapping tiles at full resolution, in addition to the whole picture.

    Raises:
        StartupError: the bundle is invalid, or a graph's output has another shape than the manifest's.
    """

    def __init__(
        self,
        bundle: Path,
        options: RuntimeOptions,
        image_size: int | None = None,
        min_score: float | None = None,
        tiling: bool = False,
    ) -> None:
        self.manifest: DetectorManifest = read_detector(bundle)
        self.sizes = sorted(self.manifest.input_sizes) if image_size is None else [image_size]
        self._graph = YoloGraph(bundle / self.manifest.graph, self.manifest, self.sizes[-1], options)
        self._first_look: Step | None = None
        if (look := self.manifest.first_look) is not None and image_size is None:
            small = YoloGraph(bundle / look.graph, self.manifest, look.input_size, options)
            self._first_look = Step(look.input_size, small)
        self._min_score = self.manifest.min_score if min_score is None else min_score
        self._tiling = tiling
        stage = self.manifest.landmark_stage
        self._refiner = None if stage is None else LandmarkRefiner(bundle, stage, options)

    def detect(self, pictures: Sequence[Pixels], choices: Sequence[FaceChoice] | None = None) -> list[list[Detection]]:
        """Returns the faces of each picture, in descending order of their scores.

        A picture is processed at increasing sizes until its face is decided. A picture without an upright face is then
        processed in other orientations. All pictures of a step share the runs of the graphs.

        Args:
            choices: the face of each picture that is needed; None: all faces.
        """
        chosen = [FaceChoice.ALL] * len(pictures) if choices is None else choices
        steps = [self._steps(picture, choice) for picture, choice in zip(pictures, chosen, strict=True)]
        found: list[list[Detection]] = [[] for _ in pictures]
        pending = list(range(len(pictures)))
        for number in itertools.count():
            current = {row: steps[row][number] for row in pending}
            for graph in dict.fromkeys(step.graph for step in current.values()):
                rows = [row for row, step in current.items() if step.graph is graph]
                views = [view for row in rows for view in self._views(row, pictures[row], current[row].size)]
                results = self._find(pictures, views, graph)
                for row in rows:
                    found[row] = results[row]
            pending = [
                row
                for row, step in current.items()
                if step is not steps[row][-1] and not is_decided(found[row], pictures[row], step.size, chosen[row])
            ]
            if not pending:
                break
        self._retry(pictures, found, [row_steps[-1].size for row_steps in steps])
        return found

    def refine(self, pictures: Sequence[Pixels], detections: Sequence[list[Detection]]) -> list[list[Detection]]:
        """Returns the detections with landmarks that the landmark stage locates in these pictures."""
        if self._refiner is None:
            return list(detections)
        refined = self._refiner.refine(pictures, detections)
        return [
            [replace(face, landmarks=located.landmarks) for face, located in zip(faces, results, strict=True)]
            for faces, results in zip(detections, refined, strict=True)
        ]

    def locate(self, picture: Pixels, box: Box) -> Detection | None:
        """Returns a detection with this box and the landmarks in it; None: it shows no face, or there is no stage."""
        return None if self._refiner is None else self._refiner.locate(picture, box)

    def propose(self, pictures: Sequence[Pixels], min_score: float) -> list[list[Detection]]:
        """Returns the detections before landmark refinement and face verification, in descending order of scores."""
        last = [sizes_of(picture, self.sizes, FaceChoice.ALL)[-1] for picture in pictures]
        views = [view for row, size in enumerate(last) for view in self._views(row, pictures[row], size)]
        return self._graph.detect(pictures, views, min_score)

    def _steps(self, picture: Pixels, choice: FaceChoice) -> "list[Step]":
        """Returns the sizes and graphs with which a picture is processed until its face is decided."""
        steps = [Step(size, self._graph) for size in sizes_of(picture, self.sizes, choice)]
        first = self._first_look
        if first is None or choice not in PROMINENT:
            return steps
        return [first, *(step for step in steps if step.size > first.size or step is steps[-1])]

    def _views(self, row: int, picture: Pixels, size: int) -> Iterator[View]:
        """Returns the whole picture and, with tiling, its tiles."""
        yield View(row, picture, size)
        if self._tiling and size == self.sizes[-1]:
            yield from tiles(row, picture, size)

    def _find(self, pictures: Sequence[Pixels], views: Sequence[View], graph: YoloGraph) -> list[list[Detection]]:
        """Returns the faces of each picture in its views, with refined landmarks and verified scores.

        Verification may raise scores, so that detections with a lower score are proposed to it.
        """
        if self._refiner is None:
            return graph.detect(pictures, views, self._min_score)
        proposals = graph.detect(pictures, views, self._refiner.proposal_score(self._min_score))
        return [
            sorted((face for face in faces if face.score >= self._min_score), key=lambda face: -face.score)
            for faces in self._refiner.refine(pictures, proposals)
        ]

    def _retry(self, pictures: Sequence[Pixels], found: list[list[Detection]], tried: Sequence[int]) -> None:
        """Adds the faces of turned and of smaller pictures if a picture has no face, or a single unreliable one.

        The detector also reports some faces that are upside down, with a lower score and a wrong crop.

        A view is verified before overlapping faces of several views are removed: the confidence of the landmarks shows
        in which view a face is upright.
        """
        doubtful = [
            row
            for row, faces in enumerate(found)
            if not faces or (len(faces) == 1 and reliability(faces[0]) < RELIABLE)
        ]
        if not doubtful:
            return
        views = [view for row in doubtful for view in retries(row, pictures[row], self.sizes, tried[row])]
        if not self.manifest.landmarks:  # The crop of a box alone is not turned.
            views = [view for view in views if not view.turns]
        separate = [replace(view, row=index) for index, view in enumerate(views)]
        results = self._find([pictures[view.row] for view in views], separate, self._graph)
        for view, faces in zip(views, results, strict=True):
            # Also for callers that ask for lower scores, such as `detector evaluate`.
            found[view.row] = found[view.row] + [
                face
                for face in faces
                if face.score >= self.manifest.min_score and reliability(face) >= MIN_RETRY_RELIABILITY
            ]
        for row in doubtful:
            found[row] = sorted(self._without_overlaps(found[row]), key=lambda face: -face.score)

    def _without_overlaps(self, faces: Sequence[Detection]) -> list[Detection]:
        """Keeps the most reliable one of overlapping faces."""
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        scores = np.array([reliability(face) for face in faces], np.float32)
        return [faces[index] for index in suppress_overlaps(boxes, scores, MAX_IOU_OF_VIEWS)]
