"""Detects faces with a YOLO graph."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import read_detector
from service.inference.candidates import (
    Candidates,
    View,
    concatenate,
    tile_grid,
    without_incomplete,
    without_parts,
)
from service.inference.engine import Detection
from service.inference.graph import Graph, RuntimeOptions, open_graph
from service.inference.landmarks import LandmarkRefiner
from service.inference.manifest import DetectorManifest
from service.vision.geometry import Letterbox, letterbox, suppress_overlaps
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
ENLARGEABLE = 1.25
"""Maximum ratio of a picture's longer side to the input size that is chosen for it, if a larger size exists."""
TILE_BATCH = 8
"""Maximum number of views in one run of the graph if tiling is on."""


class YoloFaceDetector:
    """Detects faces and their five landmarks.

    Args:
        image_size: input size in pixels for all pictures. None: the smallest size of the bundle that scales a picture
            down by at most `ENLARGEABLE`, or the largest size of the bundle.
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
        sizes = self.manifest.input_sizes if image_size is None else [image_size]
        self._graphs = {size: self._open(bundle, size, options) for size in sorted(sizes)}
        self._min_score = self.manifest.min_score if min_score is None else min_score
        self._tiling = tiling
        stage = self.manifest.landmark_stage
        self._refiner = None if stage is None else LandmarkRefiner(bundle, stage, options)

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        """Returns the faces of each picture, in descending order of their scores.

        Pictures with the same input size share one run of the graph. If the bundle has a landmark stage, detections
        with a lower score are proposed first, because verification may raise their scores.
        """
        if self._refiner is None:
            return self.propose(pictures, self._min_score)
        proposals = self.propose(pictures, self._refiner.proposal_score(self._min_score))
        return [
            sorted((face for face in faces if face.score >= self._min_score), key=lambda face: -face.score)
            for faces in self._refiner.refine(pictures, proposals)
        ]

    def propose(self, pictures: Sequence[Pixels], min_score: float) -> list[list[Detection]]:
        """Returns the detections before landmark refinement and face verification, in descending order of scores."""
        views = [view for row, picture in enumerate(pictures) for view in self._views(row, picture)]
        candidates: list[list[Candidates]] = [[] for _ in pictures]
        for size in sorted({view.size for view in views}):
            same_size = [view for view in views if view.size == size]
            batch = TILE_BATCH if self._tiling else len(same_size)
            for start in range(0, len(same_size), batch):
                for view, part in self._run(size, same_size[start : start + batch], min_score):
                    candidates[view.row].append(without_incomplete(part, view, pictures[view.row]))
        return [self._strongest(parts) for parts in candidates]

    def _open(self, bundle: Path, size: int, options: RuntimeOptions) -> Graph:
        graph = open_graph(bundle / self.manifest.graph, size, options)
        rows = 5 + 3 * self.manifest.landmarks
        if len(graph.output_shape) != 2 or graph.output_shape[0] != rows:
            raise StartupError(
                f"{bundle}: the graph's output has the shape {graph.output_shape} per picture; a detector requires "
                f"({rows}, anchors)"
            )
        return graph

    def _views(self, row: int, picture: Pixels) -> Iterator[View]:
        """Returns the whole picture and, with tiling, its tiles. The whole picture comes first."""
        height, width = picture.shape[:2]
        largest = max(self._graphs)
        sizes = (size for size in self._graphs if max(width, height) <= size * ENLARGEABLE)
        yield View(row, picture, next(sizes, largest))
        if self._tiling and max(width, height) > largest * ENLARGEABLE:
            side, tops, lefts = tile_grid(height, width, largest)
            for top in tops:
                for left in lefts:
                    yield View(row, picture[top : top + side, left : left + side], largest, left, top)

    def _run(self, size: int, views: Sequence[View], min_score: float) -> Iterator[tuple[View, Candidates]]:
        squares, boxings = zip(*(letterbox(view.pixels, size) for view in views), strict=True)
        outputs = self._graphs[size].run(self._to_tensor(squares))
        for view, output, boxing in zip(views, outputs, boxings, strict=True):
            yield view, self._decode(output, boxing, view, min_score)

    def _to_tensor(self, squares: Sequence[Pixels]) -> Floats:
        """Returns (n, 3, size, size) scaled values of n pictures."""
        scaling = self.manifest.scaling
        height, width = squares[0].shape[:2]
        tensor = np.empty((len(squares), 3, height, width), np.float32)
        for square, planes in zip(squares, tensor, strict=True):
            channels = cv2.split(square)
            for channel, plane in zip(
                channels if scaling.colour_order == "RGB" else channels[::-1], planes, strict=True
            ):
                np.multiply(channel, np.float32(1 / scaling.std), out=plane)
        if scaling.mean:
            tensor -= np.float32(scaling.mean / scaling.std)
        return tensor

    def _decode(self, output: Floats, boxing: Letterbox, view: View, min_score: float) -> Candidates:
        """Converts an output of the graph to candidates in pixels of the picture.

        Args:
            output: (20, anchors): centre x and y, width, height, score and x, y and confidence of five landmarks, in
                pixels of the letterboxed square; (5, anchors) of a detector without landmarks.
        """
        height, width = view.pixels.shape[:2]
        shift = np.array([view.left, view.top], np.float32)
        rows = output[:, output[4] >= min_score].T
        centres, sides, scores = rows[:, :2], rows[:, 2:4], rows[:, 4]
        boxes = boxing.undo(np.stack([centres - sides / 2, centres + sides / 2], axis=1)).reshape(-1, 4)
        boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32)) + np.tile(shift, 2)
        landmarks = rows[:, 5:].reshape(len(rows), self.manifest.landmarks, 3).copy()
        landmarks[..., :2] = boxing.undo(landmarks[..., :2]) + shift
        return Candidates(boxes, scores, landmarks)

    def _strongest(self, parts: Sequence[Candidates]) -> list[Detection]:
        """Merges the candidates of a picture and of its tiles and removes overlapping ones."""
        whole, *tiles = parts
        merged = concatenate([whole, *(without_parts(tile, whole) for tile in tiles)])
        return [
            Detection(
                tuple(float(value) for value in merged.boxes[row]),  # type: ignore[arg-type]
                float(merged.scores[row]),
                merged.landmarks[row] if self.manifest.landmarks else None,
            )
            for row in suppress_overlaps(merged.boxes, merged.scores, self.manifest.max_iou)
        ]
