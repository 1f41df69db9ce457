"""Draws the tracks of a frame with their names."""

from collections.abc import Sequence

from service.live.drawing import MATCH, NO_MATCH, UNDECIDED, draw
from service.live.recognition import Recognised
from service.vision.image import Pixels


def annotated(
    pixels: Pixels, faces: Sequence[Recognised], show_similarity: bool = False, unknown: str = "unknown"
) -> Pixels:
    """Returns a copy of a frame, (height, width, 3) RGB, with a box and a name for each face.

    Args:
        show_similarity: add the score of the most similar identity.
        unknown: text for faces that match no identity.
    """
    boxes = [face.track.last.box for face in faces]
    labels = [label(face, show_similarity, unknown) for face in faces]
    return draw(pixels, boxes, labels, [_color(face) for face in faces])


def label(face: Recognised, show_similarity: bool, unknown: str) -> str:
    """Returns the text beside a face: the name of the identity, `unknown` or, before a decision, the track's number."""
    if not face.is_decided:
        return f"#{face.track.number}"
    name = unknown if face.match is None else face.match.label
    if show_similarity and face.candidates:
        return f"{name} {face.candidates[0].score:.2f}"
    return name


def _color(face: Recognised) -> int:
    if not face.is_decided:
        return UNDECIDED
    return NO_MATCH if face.match is None else MATCH
