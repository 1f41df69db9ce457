"""YOLO face detection on an ONNX graph: letterbox, run, read the boxes and landmarks, drop overlaps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import DetectorManifest, read_detector
from service.inference.engine import Detection
from service.inference.graph import Graph, RuntimeOptions, open_graph
from service.inference.landmarks import LandmarkRefiner
from service.vision.geometry import Letterbox, area, letterbox, suppress_overlaps, tile_starts
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
ENLARGEABLE = 1.25
"""A picture up to this much larger than an input size is still given to it."""


MAX_TILES = 64
"""For one picture; of a larger one, tiles show more, and smaller."""
TILE_OVERLAP = 0.25
"""Of a tile that neighbours share, at least. A face up to this size lies whole in one of them."""
FOUND_IN_WHOLE_PX = 20
"""A face of this size in the shrunken picture is found there; the overlap is no smaller in the picture's pixels."""
TILES_AT_ONCE = 8
PART = 0.6
"""A box of a tile that lies so far within a larger one, and is so much smaller, shows a part of that face."""
EDGE_PX = 2
"""A box that comes so near to a tile's inner edge may be part of a face."""


@dataclass(frozen=True)
class _View:
    """What the graph is shown: a picture, or a tile of it at (left, top). `row`: the picture's place in the call."""

    row: int
    pixels: Pixels
    size: int
    left: int = 0
    top: int = 0


@dataclass(frozen=True)
class _Candidates:
    """(N, 4) boxes, (N,) scores and (N, 5, 3) landmarks in pixels of the picture, overlapping ones included."""

    boxes: Floats
    scores: Floats
    landmarks: Floats


class YoloFaceDetector:
    """Finds faces and their five landmarks.

    Args:
        image_size: input size in pixels for every picture, or None: the smallest size of the bundle that hardly
            shrinks the picture, else its largest.
        min_score: detections below are dropped; None: the bundle's own choice.
        tiling: pictures that would be shrunk are looked at in overlapping tiles as well, at their own scale.
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
        """The faces of each picture, strongest first. Pictures of one input size share a run of the graph."""
        if self._refiner is None:
            return self.propose(pictures, self._min_score)
        proposals = self.propose(pictures, self._refiner.proposal_score(self._min_score))
        return [
            sorted((face for face in faces if face.score >= self._min_score), key=lambda face: -face.score)
            for faces in self._refiner.refine(pictures, proposals)
        ]

    def propose(self, pictures: Sequence[Pixels], min_score: float) -> list[list[Detection]]:
        """What the first look finds with this score or more, with its own landmarks and scores, strongest first."""
        views = [view for row, picture in enumerate(pictures) for view in self._views(row, picture)]
        candidates: list[list[_Candidates]] = [[] for _ in pictures]
        for size in sorted({view.size for view in views}):
            alike = [view for view in views if view.size == size]
            at_once = TILES_AT_ONCE if self._tiling else len(alike)
            for start in range(0, len(alike), at_once):
                for view, found in self._run(size, alike[start : start + at_once], min_score):
                    candidates[view.row].append(_without_cut(found, view, pictures[view.row]))
        return [self._strongest(found) for found in candidates]

    def _open(self, bundle: Path, size: int, options: RuntimeOptions) -> Graph:
        graph = open_graph(bundle / self.manifest.graph, size, options)
        rows = 5 + 3 * self.manifest.landmarks
        if len(graph.output_shape) != 2 or graph.output_shape[0] != rows:
            raise StartupError(
                f"{bundle}: an output of {graph.output_shape} per picture where ({rows}, anchors) is due"
            )
        return graph

    def _views(self, row: int, picture: Pixels) -> Iterator[_View]:
        height, width = picture.shape[:2]
        largest = max(self._graphs)
        fitting = (size for size in self._graphs if max(width, height) <= size * ENLARGEABLE)
        yield _View(row, picture, next(fitting, largest))
        if self._tiling and max(width, height) > largest * ENLARGEABLE:
            side, tops, lefts = _tiles(height, width, largest)
            for top in tops:
                for left in lefts:
                    yield _View(row, picture[top : top + side, left : left + side], largest, left, top)

    def _run(self, size: int, views: Sequence[_View], min_score: float) -> Iterator[tuple[_View, _Candidates]]:
        squares, boxings = zip(*(letterbox(view.pixels, size) for view in views), strict=True)
        outputs = self._graphs[size].run(self._to_tensor(squares))
        for view, output, boxing in zip(views, outputs, boxings, strict=True):
            yield view, self._read(output, boxing, view, min_score)

    def _to_tensor(self, squares: Sequence[Pixels]) -> Floats:
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

    def _read(self, output: Floats, boxing: Letterbox, view: _View, min_score: float) -> _Candidates:
        """From (20, anchors): x, y, w, h, score and five landmark triples, in pixels of the letterboxed square."""
        height, width = view.pixels.shape[:2]
        shift = np.array([view.left, view.top], np.float32)
        found = output[:, output[4] >= min_score].T
        centres, sides, scores = found[:, :2], found[:, 2:4], found[:, 4]
        boxes = boxing.undo(np.stack([centres - sides / 2, centres + sides / 2], axis=1)).reshape(-1, 4)
        boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32)) + np.tile(shift, 2)
        landmarks = found[:, 5:].reshape(-1, self.manifest.landmarks, 3).copy()
        landmarks[..., :2] = boxing.undo(landmarks[..., :2]) + shift
        return _Candidates(boxes, scores, landmarks)

    def _strongest(self, found: Sequence[_Candidates]) -> list[Detection]:
        whole, *tiles = found
        found = [whole, *(_without_parts(tile, whole) for tile in tiles)]
        boxes = np.concatenate([part.boxes for part in found])
        scores = np.concatenate([part.scores for part in found])
        landmarks = np.concatenate([part.landmarks for part in found])
        return [
            Detection(tuple(float(value) for value in boxes[row]), float(scores[row]), landmarks[row])  # type: ignore[arg-type]
            for row in suppress_overlaps(boxes, scores, self.manifest.max_iou)
        ]


def _tiles(height: int, width: int, input_size: int) -> tuple[int, list[int], list[int]]:
    """Side of the tiles, and where their rows and columns begin: `MAX_TILES` of them at most."""
    side = input_size
    while True:
        found_in_whole = FOUND_IN_WHOLE_PX * max(height, width) / input_size
        overlap = min(round(max(TILE_OVERLAP * side, found_in_whole)), side // 2)
        tops, lefts = tile_starts(height, side, overlap), tile_starts(width, side, overlap)
        if len(tops) * len(lefts) <= MAX_TILES:
            return side, tops, lefts
        side = math.ceil(side * 1.25)


def _without_parts(tile: _Candidates, whole: _Candidates) -> _Candidates:
    """Drop what is a part of a larger face of the whole picture: an eye fills a tile as a face would."""
    if not len(tile.scores) or not len(whole.scores):
        return tile
    low = np.maximum(tile.boxes[:, None, :2], whole.boxes[None, :, :2])
    high = np.minimum(tile.boxes[:, None, 2:], whole.boxes[None, :, 2:])
    sizes, common = area(tile.boxes)[:, None], area(np.concatenate([low, high], axis=2))
    is_part = (common > PART * sizes) & (sizes < PART * area(whole.boxes)[None])
    return _select(tile, ~is_part.any(axis=1))


def _select(found: _Candidates, rows: npt.ArrayLike) -> _Candidates:
    kept = np.asarray(rows, bool)
    return _Candidates(found.boxes[kept], found.scores[kept], found.landmarks[kept])


def _without_cut(found: _Candidates, view: _View, picture: Pixels) -> _Candidates:
    """Drop boxes that touch an edge of a tile inside its picture: a neighbour sees that face whole."""
    height, width = picture.shape[:2]
    bottom, right = view.top + view.pixels.shape[0], view.left + view.pixels.shape[1]
    low = np.array([view.left if view.left else -np.inf, view.top if view.top else -np.inf]) + EDGE_PX
    high = np.array([right if right < width else np.inf, bottom if bottom < height else np.inf]) - EDGE_PX
    whole = (found.boxes[:, :2] > low).all(axis=1) & (found.boxes[:, 2:] < high).all(axis=1)
    return _select(found, whole)
