"""Faces brought to one position: the five-point similarity transform that face embedders are trained on."""

import cv2
import numpy as np
import numpy.typing as npt

from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]

TEMPLATE_112: Floats = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where eyes, nose tip and mouth corners lie in a crop of 112 pixels, left before right in the picture (ArcFace)."""
TEMPLATE_SIZE = 112
SEEN = 0.5
"""Confidence from which on a landmark counts fully."""
LEAST_TRUST = 0.02
"""Of a landmark that was surely not seen: with all five hidden, the crop is still the detector's best guess."""
BOX_MARGIN = 0.15
"""Of a box without landmarks: how much wider than the face the crop is, on each side."""


def similarity_transform(source: Floats, target: Floats, weights: Floats | None = None) -> Floats:
    """The (2, 3) rotation, scale and shift that brings (N, 2) points nearest to others, by weighted least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.

    Args:
        weights: (N,) how much each point counts; None: all the same.

    Raises:
        ValueError: the points coincide or none counts, and no transform is nearest.
    """
    shares = np.full(len(source), 1 / len(source)) if weights is None else weights / max(float(weights.sum()), 1e-9)
    source_mean, target_mean = shares @ source, shares @ target
    centred, aimed = source - source_mean, target - target_mean
    variance = float(shares @ (centred**2).sum(axis=1))
    if variance < 1e-9:
        raise ValueError("all landmarks lie in one point")
    u, singular, vt = np.linalg.svd((aimed * shares[:, None]).T @ centred)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = u @ np.diag(sign) @ vt
    scale = (singular * sign).sum() / variance
    shift = target_mean - scale * rotation @ source_mean
    return np.column_stack([scale * rotation, shift]).astype(np.float32)


def align(pixels: Pixels, landmarks: Floats, size: int = TEMPLATE_SIZE) -> Pixels:
    """The face of five landmarks as an upright crop of `size` pixels.

    Args:
        landmarks: (5, 2) points, or (5, 3) with a confidence each: a point that the detector did not see bends the
            crop less.
    """
    return align_with_margin(pixels, landmarks, size, 0)[0]


def align_with_margin(pixels: Pixels, landmarks: Floats, size: int, margin: float) -> tuple[Pixels, Floats]:
    """An upright crop with something around it, and the (2, 3) transform that brings the picture's points into it.

    Args:
        margin: on each side, in pixels of the template of 112 pixels.
    """
    target = (TEMPLATE_112 + margin) * np.float32(size / (TEMPLATE_SIZE + 2 * margin))
    weights = trust(landmarks[:, 2]) if landmarks.shape[1] == 3 else None
    transform = similarity_transform(landmarks[:, :2], target, weights)
    nearer, nearer_transform = _shrink_first(pixels, transform, size)
    crop = cv2.warpAffine(nearer, nearer_transform, (size, size), flags=cv2.INTER_LINEAR)
    return crop, transform  # type: ignore[return-value]


def trust(confidences: Floats) -> Floats:
    """How much each landmark counts in the alignment, from (5,) confidences: all of it from `SEEN` on."""
    return np.clip(confidences / SEEN, LEAST_TRUST, 1).astype(np.float32)


def crop_box(pixels: Pixels, box: Floats, size: int = TEMPLATE_SIZE) -> Pixels:
    """A padded square around a box, for a detector that knows no landmarks."""
    centre = (box[:2] + box[2:]) / 2
    half = float((box[2:] - box[:2]).max()) * (0.5 + BOX_MARGIN)
    scale = size / (2 * half)
    shift = size / 2 - scale * centre
    transform = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    pixels, transform = _shrink_first(pixels, transform, size)
    return cv2.warpAffine(pixels, transform, (size, size), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def fit_crop(pixels: Pixels, size: int = TEMPLATE_SIZE) -> Pixels:
    """A picture that is a cropped face already: its middle square, scaled."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=method)  # type: ignore[return-value]


def _shrink_first(pixels: Pixels, transform: Floats, size: int) -> tuple[Pixels, Floats]:
    """Halve a much larger face by averaging before it is warped: bilinear warping alone would alias it."""
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    factor = 1
    while scale * factor * 2 <= 0.75:
        factor *= 2
    if factor == 1:
        return pixels, transform
    inverse = cv2.invertAffineTransform(transform)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32) * size
    reach = corners @ inverse[:, :2].T + inverse[:, 2]
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(reach.min(axis=0)).astype(int) - 2 * factor, 0, [width - 1, height - 1])
    right, bottom = np.clip(np.ceil(reach.max(axis=0)).astype(int) + 2 * factor, 1, [width, height])
    region = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    new_width, new_height = max(1, region.shape[1] // factor), max(1, region.shape[0] // factor)
    small = cv2.resize(region, (new_width, new_height), interpolation=cv2.INTER_AREA)
    ratio_x, ratio_y = region.shape[1] / new_width, region.shape[0] / new_height
    back = np.array([[ratio_x, 0, left + (ratio_x - 1) / 2], [0, ratio_y, top + (ratio_y - 1) / 2], [0, 0, 1]])
    return small, (np.vstack([transform, [0, 0, 1]]) @ back)[:2].astype(np.float32)  # type: ignore[return-value]
