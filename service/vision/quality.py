"""How much a face sample promises: size, sharpness and pose, each measured, and one score from them."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
GOOD_FACE_PX = 80.0
GOOD_SHARPNESS = 200.0


@dataclass(frozen=True)
class Quality:
    """What was measured on one face.

    Attributes:
        face_px: shorter side of the face's box in the picture, in pixels.
        sharpness: variance of the Laplacian of the aligned crop's luma (Pech-Pacheco et al. 2000).
        asymmetry: 0 for a face seen from the front, towards 1 as the nose comes near one eye (profile).
        score: 0...1, the product of how far each of them is from spoiling the sample.
    """

    face_px: float
    sharpness: float
    asymmetry: float
    score: float


def measure(crop: Pixels, box: Floats, landmarks: Floats | None, detection_score: float) -> Quality:
    """Measure an aligned (112, 112, 3) crop of the face in `box` with (5, 2) landmarks."""
    face_px = float(min(box[2] - box[0], box[3] - box[1]))
    sharpness = float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())
    asymmetry = 0.0 if landmarks is None else _asymmetry(landmarks)
    score = (
        min(face_px / GOOD_FACE_PX, 1.0)
        * min(sharpness / GOOD_SHARPNESS, 1.0) ** 0.5
        * (1 - asymmetry) ** 0.5
        * min(max(detection_score, 0.0), 1.0)
    )
    return Quality(face_px, sharpness, asymmetry, float(score))


def _asymmetry(landmarks: Floats) -> float:
    """|left - right| / (left + right) of the nose's distances to the eyes, along the line between the eyes."""
    left_eye, right_eye, nose = landmarks[0], landmarks[1], landmarks[2]
    axis = right_eye - left_eye
    length = float(np.hypot(*axis))
    if length < 1e-6:
        return 1.0
    position = float((nose - left_eye) @ axis) / length**2
    return float(min(abs(2 * position - 1), 1.0))
