"""Why a detector finds no face in a picture: causes that can be measured without a face."""

import cv2

from service.vision.image import Pixels

DARK, BRIGHT, FLAT = 40, 215, 12
"""Mean luma below and above which a picture counts as dark and as over-exposed, and the deviation without contrast."""
SMALL_PX = 64
"""Shorter side of a picture in which a face has few pixels."""
SMALLEST_FACE = 36
"""The longer side of a picture divided by the width of the smallest face in it that is found reliably. The shipped
detector found all faces of two people pasted into a photo at 1/32 of its longer side, and a third to two thirds at
1/40."""
LARGE_PX = 1280


def likely_cause(pixels: Pixels, width: int, height: int) -> str:
    """Returns what probably prevents the detection of a face, and what to send instead.

    Args:
        pixels: (height, width, 3) RGB, possibly scaled down.
        width, height: size of the whole picture.
    """
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(luma))
    if mean < DARK:
        return f"it is dark (mean brightness {mean:.0f} of 255): send a picture with more light on the face"
    if mean > BRIGHT:
        return f"it is over-exposed (mean brightness {mean:.0f} of 255): send a picture with less light"
    if deviation < FLAT:
        return f"it has hardly any contrast (standard deviation of the brightness {deviation:.0f} of 255)"
    if min(width, height) < SMALL_PX:
        return f"it has only {width} by {height} pixels: send a larger picture of the face"
    if max(width, height) > LARGE_PX:
        smallest = max(width, height) // SMALLEST_FACE
        return (
            f"it is so large that faces narrower than about {smallest} pixels are missed: send the part with the face"
        )
    return "send a larger or sharper picture of the face"
