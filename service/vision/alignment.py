"""Aligns faces with the five-point similarity transform that face embedders are trained with."""

import cv2
import numpy as np
import numpy.typing as npt

from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]

TEMPLATE_112: Floats = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Positions of eyes, nose tip and mouth corners in an aligned crop of 112 pixels, left before right in the picture
(Deng et al., "ArcFace", CVPR 2019)."""
TEMPLATE_SIZE = 112
FULL_WEIGHT_CONFIDENCE = 0.5
"""Minimum confidence of a landmark that has the full weight in the alignment."""
MIN_WEIGHT = 0.02
"""Weight of a landmark with confidence 0. It is positive, so that a face with five hidden landmarks can be aligned."""
BOX_MARGIN = 0.15
"""Margin of a crop without landmarks on each side, as a share of the longer side of the box."""


def similarity_transform(source: Floats, target: Floats, weights: Floats | None = None) -> Floats:
    """Returns the (2, 3) similarity transform that maps (n, 2) points to target points with the least squared error.

    In the plane, the solution of Umeyama ("Least-squares estimation of transformation parameters between two point
    patterns", PAMI 1991) is a linear regression of complex numbers: rotation and scale are one complex factor.

    Args:
        weights: (n,) weights of the points; None: equal weights.

    Raises:
        ValueError: the points coincide or all weights are 0, so that the transform is undefined.
    """
    shares = np.full(len(source), 1 / len(source)) if weights is None else weights / max(float(weights.sum()), 1e-9)
    points, targets = _complex(source), _complex(target)
    mean, target_mean = shares @ points, shares @ targets
    centred = points - mean
    variance = float(shares @ (centred * centred.conj()).real)
    if variance < 1e-9:
        raise ValueError("the landmarks coincide, so the similarity transform is undefined")
    factor = (shares * centred.conj()) @ (targets - target_mean) / variance
    shift = target_mean - factor * mean
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]], np.float32)


def _complex(points: Floats) -> npt.NDArray[np.complex128]:
    """Returns x + iy of (n, 2) points."""
    return points[:, 0].astype(np.complex128) + 1j * points[:, 1]


def align_with_margin(pixels: Pixels, landmarks: Floats, size: int, margin: float) -> tuple[Pixels, Floats]:
    """Returns the aligned crop of a face with a margin, and the (2, 3) transform from the picture to the crop.

    Args:
        landmarks: (5, 2) points, or (5, 3) with confidences, which determine the weights of the points.
        size: side of the crop in pixels, including the margin.
        margin: margin on each side, in pixels of a crop of 112 pixels without margin.

    Raises:
        ValueError: the landmarks coincide.
    """
    target = (TEMPLATE_112 + margin) * np.float32(size / (TEMPLATE_SIZE + 2 * margin))
    weights = trust(landmarks[:, 2]) if landmarks.shape[1] == 3 else None
    transform = similarity_transform(landmarks[:, :2], target, weights)
    reduced, reduced_transform = _reduce(pixels, transform, size)
    crop = cv2.warpAffine(reduced, reduced_transform, (size, size), flags=cv2.INTER_LINEAR)
    return crop, transform  # type: ignore[return-value]


def trust(confidences: Floats) -> Floats:
    """Returns the (n,) weights of landmarks in the alignment, `MIN_WEIGHT` to 1, for (n,) confidences of 0 to 1."""
    return np.clip(confidences / FULL_WEIGHT_CONFIDENCE, MIN_WEIGHT, 1).astype(np.float32)


def crop_box(pixels: Pixels, box: Floats, size: int = TEMPLATE_SIZE) -> Pixels:
    """Returns a square crop with a margin around a box, (size, size, 3), for detections without landmarks."""
    centre = (box[:2] + box[2:]) / 2
    half = float((box[2:] - box[:2]).max()) * (0.5 + BOX_MARGIN)
    scale = size / (2 * half)
    shift = size / 2 - scale * centre
    transform = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    pixels, transform = _reduce(pixels, transform, size)
    return cv2.warpAffine(pixels, transform, (size, size), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def fit_crop(pixels: Pixels, size: int = TEMPLATE_SIZE) -> Pixels:
    """Returns the central square of a picture that is a cropped face, scaled to (size, size, 3)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=method)  # type: ignore[return-value]


def _reduce(pixels: Pixels, transform: Floats, size: int) -> tuple[Pixels, Floats]:
    """Scales down the region of a large face by a power of two, by averaging, before it is warped.

    Bilinear warping uses four pixels per output pixel, which causes aliasing if a face is scaled down much.

    Args:
        transform: (2, 3), from the picture to a crop of `size` pixels.

    Returns:
        The reduced region and the transform from it to the crop.
    """
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    factor = 1
    while scale * factor * 2 <= 0.75:
        factor *= 2
    if factor == 1:
        return pixels, transform
    inverse = cv2.invertAffineTransform(transform)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32) * size
    in_picture = corners @ inverse[:, :2].T + inverse[:, 2]
    height, width = pixels.shape[:2]
    left, top = np.clip(np.floor(in_picture.min(axis=0)).astype(int) - 2 * factor, 0, [width - 1, height - 1])
    right, bottom = np.clip(np.ceil(in_picture.max(axis=0)).astype(int) + 2 * factor, 1, [width, height])
    region = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    new_width, new_height = max(1, region.shape[1] // factor), max(1, region.shape[0] // factor)
    reduced = cv2.resize(region, (new_width, new_height), interpolation=cv2.INTER_AREA)
    ratio_x, ratio_y = region.shape[1] / new_width, region.shape[0] / new_height
    to_region = np.array([[ratio_x, 0, left + (ratio_x - 1) / 2], [0, ratio_y, top + (ratio_y - 1) / 2], [0, 0, 1]])
    return reduced, (np.vstack([transform, [0, 0, 1]]) @ to_region)[:2].astype(np.float32)  # type: ignore[return-value]
