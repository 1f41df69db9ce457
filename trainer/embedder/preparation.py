"""Prepares photos for training: writes the aligned crop of each face."""

import csv
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from service.errors import RegistryError
from service.inference.engine import FaceFinder
from trainer.cache import atomic_file, content_key
from trainer.embedder.aligned_crops import CROP_SIZE
from trainer.embedder.alignment import Recipe, align_face
from trainer.embedder.sources import Source
from trainer.pictures import read_picture
from trainer.progress import track
from trainer.sheets import TILE, save, sheet

WEBP_QUALITY = 90
MAX_SHOWN = 48
MIN_PHOTOS_FOR_PROCESSES = 32
"""For fewer photos one process is faster, since worker processes take time to start."""
RESULTS_FILE = "prepared.json"
OpenFinder = Callable[[], FaceFinder]
"""Opens the detector; each process opens its own."""


@dataclass(frozen=True)
class Preparation:
    """The result of a preparation.

    Attributes:
        written: Number of photos that have an aligned crop.
        cached: Number of photos whose result an earlier preparation stored.
        failures: The other photos, each with the reason.
    """

    written: int
    cached: int
    failures: list[tuple[Path, str]]


def prepare(
    sources: Sequence[Source],
    output: Path,
    finder: OpenFinder,
    recipe: Recipe,
    detector: str = "",
    workers: int | None = None,
) -> Preparation:
    """Writes the aligned crop of every source in which the detector detects a face.

    Results are stored by the content of the photo: a second or an interrupted run processes only new photos. The
    output also contains `failures.csv` and the picture sheets `samples.jpg` and `failures.jpg`.

    Args:
        detector: Name and version of the detector; results of another one do not count.
        workers: Number of processes; None: one per core.
    """
    output.mkdir(parents=True, exist_ok=True)
    results = _Results(output / RESULTS_FILE, recipe, detector)
    new = [source for source in sources if not results.has(source)]
    try:
        reasons = _align_all(new, finder, recipe, workers or os.cpu_count() or 1)
        for source, reason in zip(new, track(reasons, total=len(new), description="aligning faces"), strict=True):
            results.add(source, reason)
    finally:
        results.save()
    failures = [(source.photo, reason) for source in sources if (reason := results.reason(source))]
    _write_overview(output, failures, [source.target for source in sources if not results.reason(source)])
    return Preparation(len(sources) - len(failures), len(sources) - len(new), failures)


class _Results:
    """The result of each photo, by its content and the file of its crop, stored beside the crops.

    Results of another recipe or detector are discarded.
    """

    SAVE_EVERY = 200

    def __init__(self, file: Path, recipe: Recipe, detector: str) -> None:
        self._file, self._unsaved = file, 0
        self._recipe = content_key(json.dumps({**recipe.describe(), "detector": detector}, sort_keys=True))
        self._photo_keys: dict[Path, str] = {}
        stored = json.loads(file.read_text()) if file.exists() else {}
        self._reasons: dict[str, str] = stored.get("reasons", {}) if stored.get("recipe") == self._recipe else {}

    def has(self, source: Source) -> bool:
        reason = self._reasons.get(self._key(source))
        return reason is not None and (bool(reason) or source.target.exists())

    def reason(self, source: Source) -> str:
        """Returns why the photo has no crop; "" if it has one."""
        return self._reasons[self._key(source)]

    def add(self, source: Source, reason: str) -> None:
        self._reasons[self._key(source)] = reason
        self._unsaved += 1
        if self._unsaved >= self.SAVE_EVERY:
            self.save()

    def save(self) -> None:
        with atomic_file(self._file) as unfinished:
            unfinished.write_text(json.dumps({"recipe": self._recipe, "reasons": self._reasons}))
        self._unsaved = 0

    def _key(self, source: Source) -> str:
        if source.photo not in self._photo_keys:
            # A link to a missing file has no content; the attempt to read the photo reports it.
            self._photo_keys[source.photo] = content_key(source.photo) if source.photo.is_file() else "missing"
        return f"{self._photo_keys[source.photo]} {source.target.parent.name}/{source.target.name} {source.box or ''}"


_finder: FaceFinder | None = None
"""The detector of this process."""


def _align_all(sources: Sequence[Source], finder: OpenFinder, recipe: Recipe, workers: int) -> Iterator[str]:
    """Yields for each photo "" or the reason why it has no crop."""
    if sources:
        _open(finder)  # in this process too, so that a detector that cannot be opened raises a readable error
    if workers == 1 or len(sources) < MIN_PHOTOS_FOR_PROCESSES:
        yield from (_write_crop(source, recipe) for source in sources)
        return
    # A model runtime that was started before a fork does not work in the new process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_open, initargs=(finder,)) as pool:
        yield from pool.map(partial(_write_crop, recipe=recipe), sources, chunksize=4)


def _open(finder: OpenFinder) -> None:
    global _finder
    cv2.setNumThreads(1)
    _finder = finder()


def _write_crop(source: Source, recipe: Recipe) -> str:
    assert _finder is not None
    try:
        crop = align_face(source.photo.read_bytes(), _finder, recipe, source.box)
    except (RegistryError, ValueError, OSError) as error:
        source.target.unlink(missing_ok=True)  # an earlier recipe may have written one
        return str(error) or type(error).__name__
    with atomic_file(source.target) as unfinished:
        Image.fromarray(crop).save(unfinished, "WEBP", quality=WEBP_QUALITY)
    return ""


def _write_overview(output: Path, failures: list[tuple[Path, str]], crops: list[Path]) -> None:
    with (output / "failures.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("photo", "reason"), *((str(path), reason) for path, reason in failures)])
    rows = np.random.default_rng(0).permutation(len(crops))[:MAX_SHOWN]
    _write_sheet([crops[row] for row in sorted(rows)], CROP_SIZE, output / "samples.jpg")
    _write_sheet([path for path, _ in failures[:MAX_SHOWN]], TILE, output / "failures.jpg")


def _write_sheet(paths: list[Path], size: int, file: Path) -> None:
    read = [(path, picture) for path in paths if (picture := read_picture(path)) is not None]
    captions = [f"{path.parent.name}/{path.name}" for path, _ in read]
    save(sheet([picture for _, picture in read], size=size, captions=captions), file)
