"""Runs a YOLO graph on views of pictures."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.candidates import Candidates, concatenate, without_incomplete, without_parts
from service.inference.engine import Detection
from service.inference.graph import RuntimeOptions, open_graph
from service.inference.manifest import DetectorManifest
from service.inference.views import View
from service.vision.geometry import Letterbox, letterbox, suppress_overlaps, turned_back
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
STRIDE = 32
"""The sides of the graph's input are multiples of this number of pixels."""
MAX_BATCH = 8
"""Maximum number of views in one run of the graph."""


class YoloGraph:
    """Detects faces in views, without landmark refinement and face verification.

    Args:
        graph: file of the graph.
        size: longer side in pixels of the largest input.

    Raises:
        StartupError: the graph cannot be run, or its output has another shape than the manifest's.
    """

    def __init__(self, graph: Path, manifest: DetectorManifest, size: int, options: RuntimeOptions) -> None:
        self._manifest = manifest
        self._graph = open_graph(graph, size, options, resizable=True)
        rows = 5 + 3 * manifest.landmarks
        if len(self._graph.output_shape) != 2 or self._graph.output_shape[0] != rows:
            raise StartupError(
                f"{graph}: the graph's output has the shape {self._graph.output_shape} per picture; a detector "
                f"requires ({rows}, anchors)"
            )

    def detect(self, pictures: Sequence[Pixels], views: Iterable[View], min_score: float) -> list[list[Detection]]:
        """Returns the detections of each picture in all of its views, in descending order of scores.

        The input has the aspect ratio of the view. Views with inputs of the same shape are processed together.
        """
        by_shape: dict[tuple[int, ...], list[tuple[View, Pixels, Letterbox]]] = {}
        for view in views:
            canvas, boxing = letterbox(view.pixels, view.size, STRIDE, round(self._manifest.margin * view.size))
            canvas = np.ascontiguousarray(np.rot90(canvas, view.turns))
            by_shape.setdefault(canvas.shape, []).append((view, canvas, boxing))
        wholes: list[list[Candidates]] = [[] for _ in pictures]
        tiles: list[list[Candidates]] = [[] for _ in pictures]
        for same_shape in by_shape.values():
            for start in range(0, len(same_shape), MAX_BATCH):
                batch = same_shape[start : start + MAX_BATCH]
                outputs = self._graph.run(self._to_tensor([canvas for _, canvas, _ in batch]))
                for (view, _, boxing), output in zip(batch, outputs, strict=True):
                    found = self._decode(output, boxing, view, min_score)
                    if view.is_whole:
                        wholes[view.row].append(found)
                    else:
                        tiles[view.row].append(without_incomplete(found, view, pictures[view.row]))
        return [self._strongest(*parts) for parts in zip(wholes, tiles, strict=True)]

    def _to_tensor(self, canvases: Sequence[Pixels]) -> Floats:
        """Returns (n, 3, height, width) scaled values of n pictures."""
        scaling = self._manifest.scaling
        height, width = canvases[0].shape[:2]
        tensor = np.empty((len(canvases), 3, height, width), np.float32)
        for canvas, planes in zip(canvases, tensor, strict=True):
            channels = cv2.split(canvas)
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
                pixels of the letterboxed canvas; (5, anchors) of a detector without landmarks.
        """
        height, width = view.pixels.shape[:2]
        shift = np.array([view.left, view.top], np.float32)
        rows = output[:, output[4] >= min_score].T
        centres, sides, scores = rows[:, :2], rows[:, 2:4], rows[:, 4]

        def in_view(points: Floats) -> Floats:
            return boxing.undo(turned_back(points, view.turns, boxing.width, boxing.height))

        corners = np.sort(in_view(np.stack([centres - sides / 2, centres + sides / 2], axis=1)), axis=1)
        boxes = np.clip(corners.reshape(-1, 4), 0, np.array([width, height, width, height])) + np.tile(shift, 2)
        landmarks = rows[:, 5:].reshape(len(rows), self._manifest.landmarks, 3).copy()
        landmarks[..., :2] = in_view(landmarks[..., :2]) + shift
        return Candidates(boxes.astype(np.float32), scores, landmarks)

    def _strongest(self, wholes: Sequence[Candidates], tiles: Sequence[Candidates]) -> list[Detection]:
        """Merges the candidates of a picture and of its tiles and removes overlapping ones."""
        if not wholes:
            return []
        whole = concatenate(wholes)
        merged = concatenate([whole, *(without_parts(tile, whole) for tile in tiles)])
        return [
            Detection(
                tuple(float(value) for value in merged.boxes[row]),  # type: ignore[arg-type]
                float(merged.scores[row]),
                merged.landmarks[row] if self._manifest.landmarks else None,
            )
            for row in suppress_overlaps(merged.boxes, merged.scores, self._manifest.max_iou)
        ]
