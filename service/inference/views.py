"""Views of a picture that the detector processes: the whole picture at a size, turned or upright, and its tiles."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.inference.engine import Detection, FaceChoice
from service.inference.selection import prominence
from service.vision.geometry import tile_starts
from service.vision.image import Pixels

ENLARGEABLE = 1.25
"""Maximum ratio of a picture's longer side to the input size that is chosen for it, if a larger size exists."""
MAX_TILES = 64
"""Maximum number of tiles per picture. A larger picture gets larger tiles, which are scaled down."""
MIN_TILE_OVERLAP = 0.25
"""Minimum share of a tile's side that neighbours have in common. A face up to this size is complete in one tile."""
WHOLE_PICTURE_FACE_PX = 20
"""A face of this size in the scaled-down whole picture is detected there, so the tiles' overlap must have at least this
size in the whole picture."""
RELIABLE_PX = 24
"""Side of a face in an input of the detector from which on it is detected there. A smaller one may be overlooked."""
SMALL_SIZE = 128
"""Input size at which a face that fills the picture is found even if it is missed at larger sizes."""
CLEAR_LEAD = 0.7
"""Maximum ratio of the second face's prominence to that of the first, whose order is then the same at every size."""
MAX_TURNED_SIZE = 320
"""Maximum input size of turned pictures. Turned faces are detected where upright ones were not, so few are small."""
RELIABLE = 0.65
"""Reliability from which on a face is certainly a face, and upright. 194 photos of LFW's development set have at least
.66; wrong crops of these photos turned upside down have less than .6 in 95 % of the cases."""


PROMINENT = (FaceChoice.STRONGEST, FaceChoice.LARGEST)
"""Choices of one prominent face. The others need all faces of a picture."""


@dataclass(frozen=True)
class View:
    """An input of the detector: a whole picture, or a tile of it whose upper left corner is (left, top).

    Attributes:
        row: index of the picture in the call.
        pixels: the pixels of the view before it is turned.
        size: longer side of the graph's input in pixels.
        turns: number of quarter turns of the graph's input, as in `np.rot90`.
        is_whole: the view is not a tile.
    """

    row: int
    pixels: Pixels
    size: int
    left: int = 0
    top: int = 0
    turns: int = 0
    is_whole: bool = True


def sizes_of(pixels: Pixels, sizes: Sequence[int], choice: FaceChoice) -> list[int]:
    """Returns the input sizes with which a picture is processed one after the other, until a face is found.

    The last one is the smallest size that scales the picture down by at most `ENLARGEABLE`, or the largest size. It
    shows all faces. For the most prominent or largest face, the smaller sizes are tried first.

    Args:
        sizes: the sizes of the bundle, ascending.
    """
    last = next((size for size in sizes if max(pixels.shape) <= size * ENLARGEABLE), sizes[-1])
    if choice not in PROMINENT:
        return [last]
    return [size for size in sizes if size <= last]


def is_decided(faces: Sequence[Detection], pixels: Pixels, size: int, choice: FaceChoice) -> bool:
    """Returns True if no face that was overlooked at an input size could be chosen instead of a detected one.

    An overlooked face has less than `RELIABLE_PX` in the input. Even in the centre, with a score of 1, it is less
    prominent than the detected face. Of two faces of similar prominence the largest input size decides.
    """
    height, width = pixels.shape[:2]
    overlooked = RELIABLE_PX * max(height, width) / size
    reliable = [face for face in faces if reliability(face) >= RELIABLE]
    if not reliable or max(prominence(reliable, choice, (width, height))) < overlooked:
        return False
    ranked = sorted(prominence(faces, choice, (width, height)), reverse=True)
    return len(ranked) == 1 or float(ranked[1]) <= CLEAR_LEAD * float(ranked[0])


def reliability(face: Detection) -> float:
    """Returns the score of a face times the mean confidence of its landmarks, 0 to 1.

    The landmarks of a face that is not upright in its crop are uncertain, even if the score is high.
    """
    return face.score if face.landmarks is None else face.score * float(face.landmarks[:, 2].mean())


def retries(row: int, pixels: Pixels, sizes: Sequence[int], tried: int) -> list[View]:
    """Returns the views of a picture in which no upright face was found: turned, and at smaller sizes.

    A face that fills the picture is found at a small size more often than at a large one.

    Args:
        tried: the largest size that was tried.
    """
    turned_size = max(size for size in sizes if size <= max(MAX_TURNED_SIZE, sizes[0]))
    turned = [View(row, pixels, min(turned_size, tried), turns=turns) for turns in (1, 2, 3)]
    smaller = [SMALL_SIZE, *(size for size in sizes if size > SMALL_SIZE)]
    return [*(View(row, pixels, size) for size in smaller if size < tried), *turned]


def tiles(row: int, pixels: Pixels, size: int) -> Iterator[View]:
    """Returns overlapping tiles of a picture that an input of `size` pixels would show scaled down."""
    height, width = pixels.shape[:2]
    if max(width, height) > size * ENLARGEABLE:
        side, tops, lefts = tile_grid(height, width, size)
        for top in tops:
            for left in lefts:
                yield View(row, pixels[top : top + side, left : left + side], size, left, top, is_whole=False)


def tile_grid(height: int, width: int, input_size: int) -> tuple[int, list[int], list[int]]:
    """Returns the side of a picture's tiles, and the first pixels of their rows and columns; at most `MAX_TILES`."""
    side = input_size
    while True:
        whole_picture_face = WHOLE_PICTURE_FACE_PX * max(height, width) / input_size
        overlap = min(round(max(MIN_TILE_OVERLAP * side, whole_picture_face)), side // 2)
        tops, lefts = tile_starts(height, side, overlap), tile_starts(width, side, overlap)
        if len(tops) * len(lefts) <= MAX_TILES:
            return side, tops, lefts
        side = math.ceil(side * 1.25)
