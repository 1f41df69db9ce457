"""Alters a picture of one face and its label: rotates it, occludes a part of it, or darkens it."""

import math

import cv2
import numpy as np

from service.vision.image import Pixels
from trainer.detector.labels import LabelledFace


def turn(pixels: Pixels, face: LabelledFace, degrees: float) -> tuple[Pixels, LabelledFace]:
    """Rotates a picture counter-clockwise about its centre.

    The new box encloses the rotated ellipse that touched the sides of the old box, clipped to the picture.
    """
    height, width = pixels.shape[:2]
    transform = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0).astype(np.float32)
    rotated = cv2.warpAffine(pixels, transform, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    centre = transform[:, :2] @ ((face.box[:2] + face.box[2:]) / 2) + transform[:, 2]
    half = (face.box[2:] - face.box[:2]) / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    reach = np.array([math.hypot(half[0] * cosine, half[1] * sine), math.hypot(half[0] * sine, half[1] * cosine)])
    box = np.concatenate([centre - reach, centre + reach]).clip(0, [width, height, width, height])
    landmarks = face.landmarks.copy()
    landmarks[:, :2] = landmarks[:, :2] @ transform[:, :2].T + transform[:, 2]
    return np.asarray(rotated, np.uint8), LabelledFace(box.astype(np.float32), landmarks)


def cover(pixels: Pixels, face: LabelledFace, rng: np.random.Generator) -> tuple[Pixels, LabelledFace]:
    """Covers one to three neighbouring landmarks with a coarse patch of random colours and marks them as hidden."""
    pixels, landmarks = pixels.copy(), face.landmarks.copy()
    eye_distance = max(float(np.linalg.norm(landmarks[0, :2] - landmarks[1, :2])), 4.0)
    centre = landmarks[rng.integers(len(landmarks)), :2] + rng.normal(0, 0.15 * eye_distance, 2)
    half = rng.uniform(0.25, 0.75, 2) * eye_distance
    left, top = np.maximum(np.round(centre - half).astype(int), 0)
    right, bottom = np.minimum(np.round(centre + half).astype(int), np.array(pixels.shape[1::-1]))
    if right - left < 2 or bottom - top < 2:
        return pixels, face
    colour = rng.integers(0, 256, 3)
    coarse = (colour + rng.normal(0, rng.uniform(2, 60), (3, 3, 3))).clip(0, 255).astype(np.uint8)
    size = (int(right - left), int(bottom - top))
    pixels[top:bottom, left:right] = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    inside = (landmarks[:, :2] >= [left, top]).all(axis=1) & (landmarks[:, :2] < [right, bottom]).all(axis=1)
    landmarks[inside, 2] = 0
    return pixels, LabelledFace(face.box, landmarks)


def darken(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Reduces the light to 6 to 50 % and adds Gaussian noise of up to 5 levels."""
    dark = pixels.astype(np.float32) * rng.uniform(0.06, 0.5) + rng.normal(0, rng.uniform(0, 5), pixels.shape)
    return dark.clip(0, 255).astype(np.uint8)
