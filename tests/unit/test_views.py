"""Input sizes of the detector, and when a face found at a small size is the chosen one for certain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.engine import Detection, FaceChoice
from service.inference.selection import select
from service.inference.views import RELIABLE, RELIABLE_PX, is_decided, reliability, retries, sizes_of
from service.vision.geometry import turned_back
from service.vision.image import Pixels

SIZES = [192, 320, 640]


def picture(width: int, height: int) -> Pixels:
    return np.zeros((height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "choice", "expected"),
    [
        (250, 250, FaceChoice.STRONGEST, [192, 320]),
        (250, 250, FaceChoice.ALL, [320]),
        (240, 100, FaceChoice.STRONGEST, [192]),
        (1280, 720, FaceChoice.LARGEST, [192, 320, 640]),
        (1280, 720, FaceChoice.ONLY, [640]),
        (4000, 3000, FaceChoice.BOX, [640]),
    ],
)
def test_sizes_of_a_picture(width: int, height: int, choice: FaceChoice, expected: list[int]) -> None:
    assert sizes_of(picture(width, height), SIZES, choice) == expected


@given(
    found=st.lists(
        st.tuples(st.integers(0, 900), st.integers(0, 600), st.integers(5, 300), st.floats(0.5, 1)), max_size=4
    ),
    overlooked=st.tuples(st.integers(0, 900), st.integers(0, 600), st.floats(0.5, 1)),
    choice=st.sampled_from([FaceChoice.STRONGEST, FaceChoice.LARGEST]),
)
def test_no_overlooked_face_would_be_chosen_in_place_of_a_decided_one(
    found: list[tuple[int, int, int, float]], overlooked: tuple[int, int, float], choice: FaceChoice
) -> None:
    """An overlooked face has a side of less than `RELIABLE_PX` pixels of the input."""
    pixels, size = picture(960, 640), 192
    faces = [Detection((x, y, x + side, y + side), score, None) for x, y, side, score in found]
    if not is_decided(faces, pixels, size, choice):
        return
    side = RELIABLE_PX * 960 / size - 0.1
    x, y, score = overlooked
    others = [*faces, Detection((x, y, x + side, y + side), score, None)]
    (chosen,) = select(others, choice, None, (960, 640))
    assert chosen < len(faces)
    assert max(face.score for face in faces) >= RELIABLE


def test_uncertain_landmarks_make_a_face_unreliable() -> None:
    landmarks = np.full((5, 3), 0.6, np.float32)
    assert reliability(Detection((0, 0, 1, 1), 0.8, landmarks)) == pytest.approx(0.48)
    assert reliability(Detection((0, 0, 1, 1), 0.8, None)) == 0.8


@given(turns=st.integers(0, 3), width=st.integers(2, 9), height=st.integers(2, 9), seed=st.integers(0, 99))
def test_points_of_a_turned_picture_are_turned_back(turns: int, width: int, height: int, seed: int) -> None:
    marked = np.zeros((height, width), np.uint8)
    row, column = divmod(seed % (width * height), width)
    marked[row, column] = 1
    turned_row, turned_column = np.argwhere(np.rot90(marked, turns))[0]
    centre = np.array([[turned_column + 0.5, turned_row + 0.5]], np.float32)
    np.testing.assert_allclose(turned_back(centre, turns, width, height), [[column + 0.5, row + 0.5]])


def test_picture_without_a_face_is_retried_in_three_orientations_and_at_smaller_sizes() -> None:
    views = retries(7, picture(1280, 720), SIZES, 640)
    assert [(view.size, view.turns) for view in views] == [(128, 0), (192, 0), (320, 0), (320, 1), (320, 2), (320, 3)]
    assert {view.row for view in views} == {7}
    assert all(np.shares_memory(view.pixels, views[0].pixels) for view in views), "a copy of 50 megapixels takes 150 MB"


@pytest.mark.parametrize(("tried", "expected"), [(192, [128] + [192] * 3), (96, [96] * 3)])
def test_retries_are_not_larger_than_the_picture(tried: int, expected: list[int]) -> None:
    sizes = SIZES if tried == 192 else [96]
    assert [view.size for view in retries(0, picture(200, 200), sizes, tried)] == expected
