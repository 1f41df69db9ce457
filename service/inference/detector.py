"""YOLO face detection on an ONNX graph: letterbox, run, read the boxes and landmarks, drop overlaps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import DetectorManifest, read_detector
from service.inference.engine import Detection
from service.inference.graph import Graph, RuntimeOptions, open_graph
from service.vision.geometry import Letterbox, letterbox, suppress_overlaps
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
ENLARGEABLE = 1.25
"""A picture up to this much larger than an input size is still given to it."""


class YoloFaceDetector:
    """Finds faces and their five landmarks.

    Args:
        image_size: input size in pixels for every picture, or None: the smallest size of the bundle that hardly
            shrinks the picture, else its largest.
        min_score: detections below are dropped; None: the bundle's own choice.
    """

    def __init__(
        self, bundle: Path, options: RuntimeOptions, image_size: int | None = None, min_score: float | None = None
    ) -> None:
        self.manifest: DetectorManifest = read_detector(bundle)
        sizes = self.manifest.input_sizes if image_size is None else [image_size]
        self._graphs = {size: self._open(bundle, size, options) for size in sorted(sizes)}
        self._min_score = self.manifest.min_score if min_score is None else min_score

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        """The faces of each picture, strongest first. Pictures of one input size share a run of the graph."""
        results: list[list[Detection]] = [[] for _ in pictures]
        sizes = [self._input_size(picture) for picture in pictures]
        for size in sorted(set(sizes)):
            rows = [row for row, chosen in enumerate(sizes) if chosen == size]
            squares, boxings = zip(*(letterbox(pictures[row], size) for row in rows), strict=True)
            outputs = self._graphs[size].run(self._to_tensor(squares))
            for row, output, boxing in zip(rows, outputs, boxings, strict=True):
                height, width = pictures[row].shape[:2]
                results[row] = self._read(output, boxing, width, height)
        return results

    def _open(self, bundle: Path, size: int, options: RuntimeOptions) -> Graph:
        graph = open_graph(bundle / self.manifest.graph, size, options)
        rows = 5 + 3 * self.manifest.landmarks
        if len(graph.output_shape) != 2 or graph.output_shape[0] != rows:
            raise StartupError(
                f"{bundle}: an output of {graph.output_shape} per picture where ({rows}, anchors) is due"
            )
        return graph

    def _input_size(self, picture: Pixels) -> int:
        longest = max(picture.shape[:2])
        fitting = (size for size in self._graphs if longest <= size * ENLARGEABLE)
        return next(fitting, max(self._graphs))

    def _to_tensor(self, squares: Sequence[Pixels]) -> Floats:
        scaling = self.manifest.scaling
        batch = np.stack(squares)
        if scaling.colour_order == "BGR":
            batch = batch[..., ::-1]
        planes = batch.transpose(0, 3, 1, 2).astype(np.float32)
        planes -= np.float32(scaling.mean)
        planes *= np.float32(1 / scaling.std)
        return planes

    def _read(self, output: Floats, boxing: Letterbox, width: int, height: int) -> list[Detection]:
        """From (20, anchors): x, y, w, h, score and five landmark triples, in pixels of the letterboxed square."""
        found = output[:, output[4] >= self._min_score].T
        centres, sides, scores = found[:, :2], found[:, 2:4], found[:, 4]
        boxes = boxing.undo(np.stack([centres - sides / 2, centres + sides / 2], axis=1)).reshape(-1, 4)
        boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
        landmarks = found[:, 5:].reshape(-1, self.manifest.landmarks, 3).copy()
        landmarks[..., :2] = boxing.undo(landmarks[..., :2])
        return [
            Detection(tuple(float(value) for value in boxes[row]), float(scores[row]), landmarks[row])  # type: ignore[arg-type]
            for row in suppress_overlaps(boxes, scores, self.manifest.max_iou)
        ]
