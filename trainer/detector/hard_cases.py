"""What is found where finding is hard: clean photos are turned, covered, darkened and shrunk, their faces being known.

Every case makes a new picture from a photo with one face, and says where the face went. So the truth of a case is the
photo's own face, found in the clean photo by the detector that is measured.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.inference.engine import Detection, FaceFinder
from service.vision.image import Pixels
from service.vision.quality import asymmetry
from trainer.detector import sheets
from trainer.detector.background import background
from trainer.detector.labels import LabelledFace
from trainer.pictures import pictures_below, read_picture
from trainer.sheets import sheet

Floats = npt.NDArray[np.float32]
RIGHT_LANDMARKS = 0.15
"""Of the distance between the eyes: mean distance of the landmarks up to which the crop is that of the clean photo."""
PROFILE = 0.6
"""Asymmetry (`service.vision.quality`) from which on a face counts as a profile."""
EXAMPLES = 8


@dataclass(frozen=True)
class Portrait:
    """A clean photo and its one face."""

    pixels: Pixels
    face: LabelledFace


@dataclass(frozen=True)
class Case:
    """What was found in the pictures of a case: shares of its faces."""

    faces: int
    found: float
    landmarks_right: float


Change = Callable[[Portrait, np.random.Generator], Portrait]


def portraits(folder: Path, finder: FaceFinder, min_score: float, at_most: int, seed: int = 0) -> list[Portrait]:
    """Photos below a folder in which exactly one face is found.

    Raises:
        ValueError: there is none.
    """
    paths = pictures_below(folder)
    taken: list[Portrait] = []
    for index in np.random.default_rng(seed).permutation(len(paths)):
        if len(taken) == at_most:
            break
        if (pixels := read_picture(paths[index])) is None:
            continue
        found = [face for face in finder.detect([pixels])[0] if face.score >= min_score]
        if len(found) == 1 and found[0].landmarks is not None:
            taken.append(Portrait(pixels, LabelledFace(np.array(found[0].box, np.float32), found[0].landmarks)))
    if not taken:
        raise ValueError(f"{folder} has no photo with exactly one face")
    return taken


def profiles(people: Sequence[Portrait]) -> list[Portrait]:
    """Those who look far to a side: one eye is at least four times as far from the nose as the other."""
    return [portrait for portrait in people if asymmetry(portrait.face.landmarks[:, :2]) >= PROFILE]


def measure(finder: FaceFinder, min_score: float, people: Sequence[Portrait]) -> dict[str, Case]:
    """Every case of `CASES` on every portrait, and the profiles among them as they are."""
    results = {}
    aside = profiles(people)
    if aside:
        found = [_counting(finder, portrait.pixels, min_score) for portrait in aside]
        results["profile"] = judge([portrait.face for portrait in aside], found)
    for name, change in track(CASES.items(), description="hard cases"):
        rng = np.random.default_rng(0)
        changed = [change(portrait, rng) for portrait in people]
        found = [_counting(finder, picture.pixels, min_score) for picture in changed]
        results[name] = judge([picture.face for picture in changed], found)
    return results


def judge(faces: Sequence[LabelledFace], found: Sequence[Sequence[Detection]]) -> Case:
    """Compare each expected face with what was found in its picture."""
    nearest = [_the_one(face, detections) for face, detections in zip(faces, found, strict=True)]
    right = [
        detection is not None and _error(face, detection) <= RIGHT_LANDMARKS
        for face, detection in zip(faces, nearest, strict=True)
    ]
    return Case(len(faces), float(np.mean([one is not None for one in nearest])), float(np.mean(right)))


def group_photo(
    people: Sequence[Portrait], columns: int = 6, rows: int = 5, seed: int = 0
) -> tuple[Pixels, list[LabelledFace]]:
    """A group photo of columns x rows people, each at a slightly other size and height."""
    rng = np.random.default_rng(seed)
    cell = 240
    picture = np.full((rows * cell, columns * cell, 3), 90, np.uint8)
    faces = []
    for index in range(columns * rows):
        portrait = people[index % len(people)]
        size = int(rng.integers(int(cell * 0.75), cell))
        left = index % columns * cell + int(rng.integers(0, cell - size + 1))
        top = index // columns * cell + int(rng.integers(0, cell - size + 1))
        faces.append(_paste(picture, portrait, left, top, size))
    return picture, faces


def distant_faces(
    people: Sequence[Portrait], sides: tuple[int, int] = (16, 24), size: tuple[int, int] = (4000, 3000), seed: int = 0
) -> tuple[Pixels, list[LabelledFace]]:
    """A 12-megapixel photo in which 24 faces are `sides` pixels wide (shorter side of their boxes)."""
    rng = np.random.default_rng(seed)
    width, height = size
    scenery = dict(background())["flower"]
    picture = cv2.resize(scenery, size, interpolation=cv2.INTER_CUBIC)
    faces = []
    for index in range(24):
        portrait = people[index % len(people)]
        box = portrait.face.box
        scale = rng.uniform(*sides) / float(min(box[2] - box[0], box[3] - box[1]))
        side = max(8, round(scale * max(portrait.pixels.shape[:2])))
        left = index % 6 * (width // 6) + int(rng.integers(0, max(1, width // 6 - side)))
        top = index // 6 * (height // 4) + int(rng.integers(0, max(1, height // 4 - side)))
        faces.append(_paste(np.asarray(picture), portrait, left, top, side))
    return np.asarray(picture, np.uint8), faces


def share_found(finder: FaceFinder, min_score: float, picture: Pixels, faces: Sequence[LabelledFace]) -> float:
    """The share of several faces of one picture that is found."""
    found = _counting(finder, picture, min_score)
    return float(np.mean([_the_one(face, found) is not None for face in faces]))


def example_sheet(finder: FaceFinder, min_score: float, people: Sequence[Portrait]) -> Pixels:
    """One row for each case: what the detector finds in a few portraits."""
    tiles = []
    shown = [people[index % len(people)] for index in range(EXAMPLES)]
    for change in CASES.values():
        rng = np.random.default_rng(0)
        for portrait in shown:
            pixels = change(portrait, rng).pixels
            tiles.append(with_detections(pixels, _counting(finder, pixels, min_score)))
    return sheet(tiles, EXAMPLES, 140)


def with_detections(pixels: Pixels, found: Sequence[Detection]) -> Pixels:
    """A picture with what was found in it."""
    boxes = np.array([face.box for face in found], np.float32).reshape(-1, 4)
    landmarks = [face.landmarks for face in found if face.landmarks is not None]
    return sheets.draw(pixels, boxes, sheets.HUMAN, np.array(landmarks, np.float32).reshape(-1, 5, 3))


def _counting(finder: FaceFinder, picture: Pixels, min_score: float) -> list[Detection]:
    return [face for face in finder.detect([picture])[0] if face.score >= min_score]


def _the_one(face: LabelledFace, found: Sequence[Detection]) -> Detection | None:
    """The detection that means this face: middle within its box, and neither half as large nor twice."""
    side = math.sqrt(max(float(np.prod(face.box[2:] - face.box[:2])), 1e-6))
    for detection in found:
        box = np.array(detection.box, np.float32)
        middle = (box[:2] + box[2:]) / 2
        inside = bool((middle > face.box[:2]).all() and (middle < face.box[2:]).all())
        ratio = math.sqrt(max(float(np.prod(box[2:] - box[:2])), 1e-6)) / side
        if inside and 0.5 < ratio < 2:
            return detection
    return None


def _error(face: LabelledFace, detection: Detection) -> float:
    if detection.landmarks is None:
        return math.inf
    span = float(np.linalg.norm(face.landmarks[0, :2] - face.landmarks[1, :2]))
    return float(np.linalg.norm(detection.landmarks[:, :2] - face.landmarks[:, :2], axis=1).mean() / max(span, 1e-6))


def _paste(picture: Pixels, portrait: Portrait, left: int, top: int, side: int) -> LabelledFace:
    """Scale a portrait so that its longer side is `side` pixels and lay it into the picture."""
    height, width = portrait.pixels.shape[:2]
    scale = side / max(height, width)
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture[top : top + new[1], left : left + new[0]] = cv2.resize(portrait.pixels, new, interpolation=cv2.INTER_AREA)
    ratio = np.array([new[0] / width, new[1] / height], np.float32)
    return portrait.face.moved(ratio, np.array([left, top], np.float32))


def _turned(quarters: int) -> Change:
    """Turned counter-clockwise by quarters."""

    def change(portrait: Portrait, rng: np.random.Generator) -> Portrait:
        pixels, box, points = portrait.pixels, portrait.face.box, portrait.face.landmarks.copy()
        for _ in range(quarters):
            width = pixels.shape[1]
            pixels = np.ascontiguousarray(np.rot90(pixels))
            box = np.array([box[1], width - box[2], box[3], width - box[0]], np.float32)
            points[:, :2] = np.stack([points[:, 1], width - points[:, 0]], axis=1)
        return Portrait(pixels, LabelledFace(box, points))

    return change


def _lit(gain: float, noise: float) -> Change:
    def change(portrait: Portrait, rng: np.random.Generator) -> Portrait:
        dark = portrait.pixels.astype(np.float32) * gain + rng.normal(0, noise, portrait.pixels.shape)
        return Portrait(dark.clip(0, 255).astype(np.uint8), portrait.face)

    return change


def _masked(portrait: Portrait, _: np.random.Generator) -> Portrait:
    """A surgical mask: from the bridge of the nose down to the chin."""
    eyes, nose, mouth = _parts(portrait.face)
    down = mouth - eyes.mean(axis=0)
    across = eyes[1] - eyes[0]
    bridge = (eyes.mean(axis=0) + nose) / 2
    outline = [bridge, bridge + 0.75 * across, mouth + 0.7 * across + 0.2 * down, mouth + 0.25 * across + 0.75 * down]
    outline += [mouth - 0.25 * across + 0.75 * down, mouth - 0.7 * across + 0.2 * down, bridge - 0.75 * across]
    pixels = portrait.pixels.copy()
    cv2.fillPoly(pixels, [np.array(outline, np.int32)], (150, 190, 215), cv2.LINE_AA)
    return Portrait(pixels, portrait.face)


def _sunglasses(portrait: Portrait, _: np.random.Generator) -> Portrait:
    eyes = portrait.face.landmarks[:2, :2]
    span = float(np.linalg.norm(eyes[1] - eyes[0]))
    pixels = portrait.pixels.copy()
    left, right = (eye.round().astype(int).tolist() for eye in eyes)
    cv2.line(pixels, left, right, (15, 15, 15), max(1, round(span * 0.1)), cv2.LINE_AA)
    for eye in (left, right):
        axes = (max(1, round(span * 0.36)), max(1, round(span * 0.26)))
        cv2.ellipse(pixels, eye, axes, 0, 0, 360, (15, 15, 15), -1, cv2.LINE_AA)
    return Portrait(pixels, portrait.face)


def _parts(face: LabelledFace) -> tuple[Floats, Floats, Floats]:
    """Eyes (2, 2), nose (2,) and the middle of the mouth (2,)."""
    points = face.landmarks[:, :2]
    return points[:2], points[2], points[3:].mean(axis=0)


def _grey(portrait: Portrait, _: np.random.Generator) -> Portrait:
    grey = cv2.cvtColor(portrait.pixels, cv2.COLOR_RGB2GRAY)
    return Portrait(np.repeat(grey[..., None], 3, axis=2), portrait.face)


def _blurred(portrait: Portrait, _: np.random.Generator) -> Portrait:
    sigma = 0.05 * float(portrait.face.box[2] - portrait.face.box[0])
    return Portrait(np.asarray(cv2.GaussianBlur(portrait.pixels, (0, 0), sigma)), portrait.face)


def _filling(portrait: Portrait, _: np.random.Generator) -> Portrait:
    """The frame is the face's box and nothing else."""
    low = np.maximum(portrait.face.box[:2], 0).astype(int)
    high = portrait.face.box[2:].astype(int)
    pixels = np.ascontiguousarray(portrait.pixels[low[1] : high[1], low[0] : high[0]])
    return Portrait(pixels, portrait.face.moved(np.ones(2, np.float32), -low.astype(np.float32)))


CASES: Mapping[str, Change] = {
    "clean": lambda portrait, _: portrait,
    "on its left side": _turned(1),
    "on its right side": _turned(3),
    "upside down": _turned(2),
    "mask": _masked,
    "sunglasses": _sunglasses,
    "dim (20 % of the light)": _lit(0.2, 3.0),
    "dark (8 %, noisy)": _lit(0.08, 3.0),
    "greyscale": _grey,
    "blurred": _blurred,
    "fills the frame": _filling,
}
