"""What of a face sample can be measured in the picture: size, sharpness, pose and light."""

import cv2
import numpy as np
import numpy.typing as npt

from service.vision.image import Pixels
from service.vision.sample import Quality

Floats = npt.NDArray[np.float32]
INNER_FACE = slice(16, 96)
"""Rows and columns of an aligned crop of 112 pixels that show skin and not hair or background."""


def measure(crop: Pixels, box: Floats, landmarks: Floats | None, score: float | None) -> Quality:
    """Measure an aligned (112, 112, 3) crop of the face in `box` with (5, 2) landmarks; `score` is the embedder's."""
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return Quality(
        face_px=float(min(box[2] - box[0], box[3] - box[1])),
        sharpness=float(cv2.Laplacian(luma, cv2.CV_32F).var()),
        asymmetry=0.0 if landmarks is None else asymmetry(landmarks),
        brightness=float(luma[INNER_FACE, INNER_FACE].mean()),
        score=score,
    )


def asymmetry(landmarks: Floats) -> float:
    """|left - right| / (left + right) of the nose's distances to the eyes, along the line between the eyes."""
    left_eye, right_eye, nose = landmarks[0], landmarks[1], landmarks[2]
    axis = right_eye - left_eye
    length = float(np.hypot(*axis))
    if length < 1e-6:
        return 1.0
    position = float((nose - left_eye) @ axis) / length**2
    return float(min(abs(2 * position - 1), 1.0))
