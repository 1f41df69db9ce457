"""From photos as people take them to the aligned canvases that training reads."""

import csv
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

from service.errors import RegistryError
from service.inference.engine import Box, Detection, FaceChoice, FaceFinder
from service.inference.selection import select
from service.vision.alignment import BOX_MARGIN, TEMPLATE_112, similarity_transform, trust
from service.vision.filtering import apply
from service.vision.filters import Filters
from service.vision.image import ImageLimits, Pixels, decode
from trainer.embedder.canvases import CANVAS, CROP
from trainer.embedder.sources import Source
from trainer.pictures import read_picture
from trainer.sheets import save, sheet

QUALITY = 90
SHOWN = 48
FEWEST_FOR_PROCESSES = 32
KNOWN = "prepared.json"
NO_FILTERS = Filters()
Floats = npt.NDArray[np.float32]
OpenFinder = Callable[[], FaceFinder]
"""Opens the detector; each process opens its own."""


class Crop(StrEnum):
    """What says where the face is: five landmarks, as for the service, or the box, as for detectors without them."""

    LANDMARKS = "landmarks"
    BOX = "box"


@dataclass(frozen=True)
class Recipe:
    """How a face becomes a canvas.

    Attributes:
        padding: of a `box` crop, on each side in parts of the box's longer side.
        filters: done to the canvas. A model of ours has them in its configuration instead, and the service runs them.
    """

    choice: FaceChoice = FaceChoice.STRONGEST
    crop: Crop = Crop.LANDMARKS
    padding: float = BOX_MARGIN
    filters: Filters = NO_FILTERS

    def key(self, detector: str) -> str:
        """Tells preparations apart whose canvases would differ."""
        described = {**asdict(self), "filters": self.filters.model_dump(mode="json"), "detector": detector}
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Preparation:
    """How many photos have canvases, how many of those were there before, and why the others have none."""

    written: int
    kept: int
    failures: list[tuple[Path, str]]


def prepare(
    sources: Sequence[Source],
    output: Path,
    finder: OpenFinder,
    recipe: Recipe,
    detector: str = "",
    workers: int | None = None,
) -> Preparation:
    """Write the canvas of every source in which a face is found.

    What became of a photo is remembered by its content: a second run, or one that was cut off, does only what is new.
    `failures.csv` in the output names every photo without a canvas; `look.jpg` and `failures.jpg` are picture sheets.

    Args:
        detector: its name and version, which the memory depends on.
        workers: processes; unset: one for each core.
    """
    output.mkdir(parents=True, exist_ok=True)
    memory = _Memory(output / KNOWN, recipe.key(detector))
    new = [source for source in sources if not memory.knows(source)]
    try:
        done = _work_off(new, finder, recipe, workers or os.cpu_count() or 1)
        for source, reason in zip(new, track(done, total=len(new), description="aligning faces"), strict=True):
            memory.learn(source, reason)
    finally:
        memory.save()
    failures = [(source.photo, reason) for source in sources if (reason := memory.reason(source))]
    _tell(output, failures, [source.target for source in sources if not memory.reason(source)])
    return Preparation(len(sources) - len(failures), len(sources) - len(new), failures)


class _Memory:
    """What became of each photo, by its content and the name of its canvas, in a file beside the canvases."""

    SAVE_EVERY = 200

    def __init__(self, file: Path, recipe: str) -> None:
        self._file, self._recipe, self._unsaved = file, recipe, 0
        self._hashes: dict[Path, str] = {}
        known = json.loads(file.read_text()) if file.exists() else {}
        self._reasons: dict[str, str] = known.get("reasons", {}) if known.get("recipe") == recipe else {}

    def knows(self, source: Source) -> bool:
        reason = self._reasons.get(self._key(source))
        return reason is not None and (bool(reason) or source.target.exists())

    def reason(self, source: Source) -> str:
        """Why the photo has no canvas; "" where it has one."""
        return self._reasons[self._key(source)]

    def learn(self, source: Source, reason: str) -> None:
        self._reasons[self._key(source)] = reason
        self._unsaved += 1
        if self._unsaved >= self.SAVE_EVERY:
            self.save()

    def save(self) -> None:
        self._file.write_text(json.dumps({"recipe": self._recipe, "reasons": self._reasons}))
        self._unsaved = 0

    def _key(self, source: Source) -> str:
        if source.photo not in self._hashes:
            self._hashes[source.photo] = hashlib.sha256(source.photo.read_bytes()).hexdigest()
        return f"{self._hashes[source.photo]} {source.target.parent.name}/{source.target.name} {source.box or ''}"


_finder: FaceFinder | None = None
"""Of this process, where several work."""


def _work_off(items: Sequence[Source], finder: OpenFinder, recipe: Recipe, workers: int) -> Iterator[str]:
    """For every photo "" or the reason why it has no canvas."""
    if items:
        _open(finder)  # also where others do the work: one that can't be opened is told here in words
    if workers == 1 or len(items) < FEWEST_FOR_PROCESSES:
        yield from (_one(item, recipe) for item in items)
        return
    # A runtime that was started does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_open, initargs=(finder,)) as pool:
        yield from pool.map(partial(_one, recipe=recipe), items, chunksize=4)


def _open(finder: OpenFinder) -> None:
    global _finder
    cv2.setNumThreads(1)
    _finder = finder()


def _one(source: Source, recipe: Recipe) -> str:
    assert _finder is not None
    try:
        canvas = make_canvas(source.photo.read_bytes(), _finder, recipe, source.box)
    except (RegistryError, ValueError) as error:
        source.target.unlink(missing_ok=True)  # of another recipe
        return str(error) or type(error).__name__
    source.target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = source.target.with_suffix(".partial")
    Image.fromarray(canvas).save(unfinished, "WEBP", quality=QUALITY)
    unfinished.replace(source.target)
    return ""


def make_canvas(data: bytes, finder: FaceFinder, recipe: Recipe, box: Box | None = None) -> Pixels:
    """The chosen face of a photo as a (160, 160, 3) canvas whose middle 112 x 112 is the crop.

    Args:
        box: where a face is known to be. The one that the detector finds there is taken; where it finds none, the box.

    Raises:
        RegistryError: the photo can't be read.
        ValueError: it shows no face, or with `only` several, or the detector gives no landmarks and they are needed.
    """
    pixels = decode(data, ImageLimits())
    detections = finder.detect([pixels])[0]
    height, width = pixels.shape[:2]
    chosen = select(detections, recipe.choice if box is None else FaceChoice.BOX, box, (width, height))
    if not chosen and box is None:
        raise ValueError(f"{len(detections)} faces" if detections else "no face")
    transform = _transform(detections[chosen[0]], recipe) if chosen else _around(cast("Box", box), recipe.padding)
    canvas = cv2.warpAffine(pixels, transform, (CANVAS, CANVAS), borderMode=cv2.BORDER_REPLICATE)
    return apply(np.asarray(canvas, np.uint8), recipe.filters)


def _transform(face: Detection, recipe: Recipe) -> Floats:
    """The (2, 3) transform from the photo to the canvas."""
    if recipe.crop is Crop.BOX:
        return _around(face.box, recipe.padding)
    if face.landmarks is None:
        raise ValueError("the detector gives no landmarks: choose another, or crop by the box")
    target = TEMPLATE_112 + np.float32((CANVAS - CROP) / 2)
    return similarity_transform(face.landmarks[:, :2], target, trust(face.landmarks[:, 2]))  # as the service aligns


def _around(box: Box, padding: float) -> Floats:
    x0, y0, x1, y1 = box
    scale = CROP / (max(x1 - x0, y1 - y0) * (1 + 2 * padding))
    shift = [CANVAS / 2 - scale * (x0 + x1) / 2, CANVAS / 2 - scale * (y0 + y1) / 2]
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)


def _tell(output: Path, failures: list[tuple[Path, str]], canvases: list[Path]) -> None:
    with (output / "failures.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("photo", "reason"), *((str(path), reason) for path, reason in failures)])
    drawn = np.random.default_rng(0).permutation(len(canvases))[:SHOWN]
    save(sheet(_readable([canvases[row] for row in sorted(drawn)]), size=CANVAS), output / "look.jpg")
    save(sheet(_readable([path for path, _ in failures[:SHOWN]])), output / "failures.jpg")


def _readable(paths: list[Path]) -> list[Pixels]:
    return [picture for path in paths if (picture := read_picture(path)) is not None]
