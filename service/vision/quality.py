"""Measures the quality of a face in a picture: size, sharpness, pose and brightness."""

import cv2
import numpy as np
import numpy.typing as npt

from service.vision.alignment import TEMPLATE_112, TEMPLATE_SIZE, similarity_transform
from service.vision.image import Pixels
from service.vision.sample import Quality

Floats = npt.NDArray[np.float32]
INNER_FACE = slice(16, 96)
"""Rows and columns of an aligned crop of 112 pixels that show the face without hair and background."""


def measure(
    crop: Pixels, box: Floats, landmarks: Floats | None, score: float | None, picture: tuple[int, int, int, int]
) -> Quality:
    """Measures the quality of a face.

    Args:
        crop: the aligned face, (112, 112, 3) RGB.
        box: (4,) box of the face in pixels of the picture.
        landmarks: (5, 2) points in pixels of the picture, or None if they are not known.
        score: quality score of the embedder, 0 to 1, or None; see `FaceEmbedder.quality`.
        picture: rectangle of the picture, x_min, y_min, x_max, y_max in pixels; what is outside it is not visible.
    """
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return Quality(
        face_px=float(min(box[2] - box[0], box[3] - box[1])),
        sharpness=float(cv2.Laplacian(luma, cv2.CV_32F).var()),
        asymmetry=0.0 if landmarks is None else asymmetry(landmarks),
        brightness=float(luma[INNER_FACE, INNER_FACE].mean()),
        visible=1.0 if landmarks is None else visible_share(landmarks, picture),
        score=score,
    )


def visible_share(landmarks: Floats, picture: tuple[int, int, int, int]) -> float:
    """Returns the share of the aligned crop of a face that lies inside the picture, 0 to 1.

    Args:
        landmarks: (5, 2) points in pixels of the picture.
        picture: rectangle of the picture, x_min, y_min, x_max, y_max in pixels.
    """
    try:
        to_picture = similarity_transform(TEMPLATE_112, landmarks)
    except ValueError:
        return 1.0
    low, high = np.array(picture[:2], np.float32), np.array(picture[2:], np.float32)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    crop = corners * TEMPLATE_SIZE @ to_picture[:, :2].T + to_picture[:, 2]
    inside, _ = cv2.intersectConvexConvex(crop, low + corners * (high - low))
    whole = float(cv2.contourArea(crop))
    return min(float(inside) / whole, 1.0) if whole > 0 else 1.0


def asymmetry(landmarks: Floats) -> float:
    """Returns |a - b| / (a + b), 0 to 1, where a and b are the nose's distances from the eyes along the eyes' line.

    Args:
        landmarks: (5, 2) points; the first three are left eye, right eye and nose tip.
    """
    left_eye, right_eye, nose = landmarks[0], landmarks[1], landmarks[2]
    axis = right_eye - left_eye
    length = float(np.hypot(*axis))
    if length < 1e-6:
        return 1.0
    position = float((nose - left_eye) @ axis) / length**2
    return float(min(abs(2 * position - 1), 1.0))
