"""Alterations of a portrait under which detection is difficult: rotation, occlusion, little light, blur, cropping.

Each alteration returns a new picture and the label of its face in that picture.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from trainer.detector.labels import LabelledFace
from trainer.detector.portraits import Portrait

Floats = npt.NDArray[np.float32]
Alteration = Callable[[Portrait, np.random.Generator], Portrait]


def _rotated(quarters: int) -> Alteration:
    """Returns an alteration that rotates counter-clockwise by quarters of a turn."""

    def rotate(portrait: Portrait, rng: np.random.Generator) -> Portrait:
        pixels, box, points = portrait.pixels, portrait.face.box, portrait.face.landmarks.copy()
        for _ in range(quarters):
            width = pixels.shape[1]
            pixels = np.ascontiguousarray(np.rot90(pixels))
            box = np.array([box[1], width - box[2], box[3], width - box[0]], np.float32)
            points[:, :2] = np.stack([points[:, 1], width - points[:, 0]], axis=1)
        return Portrait(pixels, LabelledFace(box, points))

    return rotate


def _darkened(gain: float, noise: float) -> Alteration:
    """Returns an alteration that multiplies the light by `gain` and adds Gaussian noise of `noise` levels."""

    def darken(portrait: Portrait, rng: np.random.Generator) -> Portrait:
        dark = portrait.pixels.astype(np.float32) * gain + rng.normal(0, noise, portrait.pixels.shape)
        return Portrait(dark.clip(0, 255).astype(np.uint8), portrait.face)

    return darken


def _masked(portrait: Portrait, _: np.random.Generator) -> Portrait:
    """Draws a surgical mask from the bridge of the nose to the chin."""
    eyes, nose, mouth = _eyes_nose_mouth(portrait.face)
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
    eye_distance = float(np.linalg.norm(eyes[1] - eyes[0]))
    pixels = portrait.pixels.copy()
    left, right = (eye.round().astype(int).tolist() for eye in eyes)
    cv2.line(pixels, left, right, (15, 15, 15), max(1, round(eye_distance * 0.1)), cv2.LINE_AA)
    for eye in (left, right):
        axes = (max(1, round(eye_distance * 0.36)), max(1, round(eye_distance * 0.26)))
        cv2.ellipse(pixels, eye, axes, 0, 0, 360, (15, 15, 15), -1, cv2.LINE_AA)
    return Portrait(pixels, portrait.face)


def _eyes_nose_mouth(face: LabelledFace) -> tuple[Floats, Floats, Floats]:
    """Returns the eyes (2, 2), the nose tip (2,) and the middle of the mouth (2,)."""
    points = face.landmarks[:, :2]
    return points[:2], points[2], points[3:].mean(axis=0)


def _greyscale(portrait: Portrait, _: np.random.Generator) -> Portrait:
    grey = cv2.cvtColor(portrait.pixels, cv2.COLOR_RGB2GRAY)
    return Portrait(np.repeat(grey[..., None], 3, axis=2), portrait.face)


def _blurred(portrait: Portrait, _: np.random.Generator) -> Portrait:
    """Applies a Gaussian blur of 5 % of the face's width."""
    sigma = 0.05 * float(portrait.face.box[2] - portrait.face.box[0])
    return Portrait(np.asarray(cv2.GaussianBlur(portrait.pixels, (0, 0), sigma)), portrait.face)


def _cropped(portrait: Portrait, _: np.random.Generator) -> Portrait:
    """Crops the picture to the face's box."""
    low = np.maximum(portrait.face.box[:2], 0).astype(int)
    high = portrait.face.box[2:].astype(int)
    pixels = np.ascontiguousarray(portrait.pixels[low[1] : high[1], low[0] : high[0]])
    return Portrait(pixels, portrait.face.transformed(np.ones(2, np.float32), -low.astype(np.float32)))


def _cut_off(side: int, share: float) -> Alteration:
    """Returns an alteration that crops the picture so that a share of the face lies outside of it.

    Args:
        side: 0 for the left edge and 1 for the upper edge, by the axis of the box; 2 and 3 for the right and lower one.
    """

    def cut(portrait: Portrait, _: np.random.Generator) -> Portrait:
        height, width = portrait.pixels.shape[:2]
        box = portrait.face.box
        edges = np.array([0, 0, width, height], np.float32)
        inwards = share * (box[2 + side % 2] - box[side % 2])
        edges[side] = box[side] + (inwards if side < 2 else -inwards)
        left, top, right, bottom = (int(value) for value in edges.clip(0, [width, height, width, height]))
        face = portrait.face.transformed(np.ones(2, np.float32), -np.array([left, top], np.float32))
        size = np.array([right - left, bottom - top], np.float32)
        points = face.landmarks.copy()
        points[:, 2] *= ((points[:, :2] >= 0) & (points[:, :2] < size)).all(axis=1)
        clipped = LabelledFace(face.box.clip(0, np.tile(size, 2)), points)
        return Portrait(np.ascontiguousarray(portrait.pixels[top:bottom, left:right]), clipped)

    return cut


CASES: Mapping[str, Alteration] = {
    "unchanged": lambda portrait, _: portrait,
    "rotated 90° left": _rotated(1),
    "rotated 90° right": _rotated(3),
    "upside down": _rotated(2),
    "mask": _masked,
    "sunglasses": _sunglasses,
    "dim (20 % of the light)": _darkened(0.2, 3.0),
    "dark (8 % of the light, noise)": _darkened(0.08, 3.0),
    "greyscale": _greyscale,
    "blurred": _blurred,
    "cropped to the face": _cropped,
    "cut off: 40 % at the left": _cut_off(0, 0.4),
    "cut off: 30 % above": _cut_off(1, 0.3),
    "cut off: 30 % below": _cut_off(3, 0.3),
}
"""Alterations by the name that reports show."""
