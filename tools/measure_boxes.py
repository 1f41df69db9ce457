"""`python -m tools.measure_boxes`: measures landmarks and embeddings of faces in boxes that a person has drawn.

The boxes are those of the detector, moved and scaled at random. The embeddings are compared with those of the detected
faces. Boxes beside the faces show how often the background passes for a face.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import Box, Detection, FaceChoice
from service.inference.graph import RuntimeOptions
from service.inference.landmarks import MIN_BOX_SCORE
from service.runtime.settings import BUNDLES
from service.vision.alignment import align_with_margin
from service.vision.geometry import iou
from service.vision.image import ImageLimits, Pixels, decode
from trainer.archives import unpack
from trainer.pictures import pictures_below
from trainer.tables import table

SHIFTS = (0.0, 0.1, 0.2, 0.35)
"""Largest relative change of a box's side; its centre moves by up to half of that."""
EMPTY_BOXES = 3


def main(
    photos: Annotated[Path, typer.Option(help="Folder or zip archive of photos with one prominent face each.")],
    part: Annotated[str, typer.Option(help="Only photos whose path contains this text, such as `profile`.")] = "",
    limit: Annotated[int, typer.Option(help="Maximum number of photos.")] = 150,
    work: Annotated[Path, typer.Option(help="Folder for extracted archives.")] = Path("runs/data"),
) -> None:
    """Print the cosines of drawn to detected faces, and the share of accepted boxes with and without a face."""
    rng = np.random.default_rng(1)
    files = [path for path in pictures_below(unpack([photos], work / "boxes")) if part in str(path)]
    chosen = [files[index] for index in rng.permutation(len(files))[:limit]]
    detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions(precision="auto"))
    embedder = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions())
    pictures = [decode(path.read_bytes(), ImageLimits()) for path in chosen]
    found = [(picture, faces[0]) for picture, faces in zip(pictures, _faces(detector, pictures), strict=True) if faces]
    lines = []
    for shift in SHIFTS:
        located = [(picture, face, detector.locate(picture, _moved(face.box, shift, rng))) for picture, face in found]
        cosines = [
            float(_embedded(embedder, picture, face) @ _embedded(embedder, picture, drawn))
            for picture, face, drawn in located
            if drawn is not None
        ]
        mean, low = np.mean(cosines), np.percentile(cosines, 10)
        lines.append((f"{shift:.0%}", len(found), f"{len(cosines) / len(found):.1%}", f"{mean:.3f}", f"{low:.3f}"))
    typer.echo(table(("change of the box", "photos", "accepted", "mean cosine", "10th percentile"), lines))
    empty = [(picture, box) for picture, face in found for box in _empty(picture, face, rng)]
    accepted = sum(detector.locate(picture, box) is not None for picture, box in empty)
    typer.echo(f"{accepted} of {len(empty)} boxes beside the face have a score of {MIN_BOX_SCORE} and are accepted")


def _faces(detector: YoloFaceDetector, pictures: list[Pixels]) -> Iterator[list[Detection]]:
    for picture in pictures:
        yield detector.detect([picture], [FaceChoice.STRONGEST])[0]


def _moved(box: Box, shift: float, rng: np.random.Generator) -> Box:
    corners = np.array(box).reshape(2, 2)
    side = corners[1] - corners[0]
    centre = corners.mean(axis=0) + rng.uniform(-shift / 2, shift / 2, 2) * side
    half = side / 2 * np.exp(rng.uniform(-shift, shift))
    x_min, y_min, x_max, y_max = map(float, (*(centre - half), *(centre + half)))
    return x_min, y_min, x_max, y_max


def _empty(picture: Pixels, face: Detection, rng: np.random.Generator) -> Iterator[Box]:
    """Yields random boxes that do not overlap the face."""
    height, width = picture.shape[:2]
    sides = rng.uniform(0.1, 0.25, 50) * min(height, width)
    lefts, tops = rng.uniform(0, width - sides), rng.uniform(0, height - sides)
    boxes = np.column_stack([lefts, tops, lefts + sides, tops + sides]).astype(np.float32)
    apart = boxes[iou(np.array(face.box, np.float32), boxes) == 0]
    for box in itertools.islice(apart, EMPTY_BOXES):
        x_min, y_min, x_max, y_max = map(float, box)
        yield x_min, y_min, x_max, y_max


def _embedded(embedder: FaceEmbedder, picture: Pixels, face: Detection) -> npt.NDArray[np.float32]:
    assert face.landmarks is not None
    crop, _ = align_with_margin(picture, face.landmarks, embedder.manifest.input_size, 0)
    [vector], _ = embedder.embed_with_lengths([crop], [None])
    return vector


if __name__ == "__main__":
    typer.run(main)
