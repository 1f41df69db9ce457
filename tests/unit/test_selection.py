"""Choice of the faces of a picture."""

import pytest

from service.inference.engine import Detection, FaceChoice
from service.inference.selection import select

LARGE_LOW_SCORE = Detection((0, 0, 100, 100), 0.5, None)
SMALL_HIGH_SCORE = Detection((200, 0, 230, 30), 0.95, None)
CENTRAL_HIGH_SCORE = Detection((300, 0, 380, 80), 0.9, None)
PICTURE = (680, 100)
FACES = [LARGE_LOW_SCORE, SMALL_HIGH_SCORE, CENTRAL_HIGH_SCORE]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [(FaceChoice.STRONGEST, [2]), (FaceChoice.LARGEST, [0]), (FaceChoice.ONLY, []), (FaceChoice.ALL, [0, 1, 2])],
)
def test_each_choice_without_a_box(choice: FaceChoice, chosen: list[int]) -> None:
    assert select(FACES, choice, None, PICTURE) == chosen


def test_of_two_equal_faces_the_central_one_is_strongest() -> None:
    corner, middle = Detection((0, 0, 60, 60), 0.9, None), Detection((90, 90, 150, 150), 0.9, None)
    assert select([corner, middle], FaceChoice.STRONGEST, None, (250, 250)) == [1]


def test_large_face_at_the_side_is_stronger_than_small_central_face() -> None:
    large, small = Detection((100, 200, 700, 900), 0.9, None), Detection((1950, 1450, 2050, 1550), 0.9, None)
    assert select([large, small], FaceChoice.STRONGEST, None, (4000, 3000)) == [0]


def test_only_chooses_a_single_face() -> None:
    assert select([SMALL_HIGH_SCORE], FaceChoice.ONLY, None, PICTURE) == [0]


def test_box_chooses_the_face_with_the_largest_overlap() -> None:
    assert select(FACES, FaceChoice.BOX, (205, 0, 235, 30), PICTURE) == [1]


def test_box_without_sufficient_overlap_chooses_none() -> None:
    assert select(FACES, FaceChoice.BOX, (500, 500, 600, 600), PICTURE) == []
    assert select(FACES, FaceChoice.BOX, (0, 0, 400, 400), PICTURE) == []


def test_choice_by_box_without_a_box_raises_value_error() -> None:
    with pytest.raises(ValueError, match="requires a box"):
        select(FACES, FaceChoice.BOX, None, PICTURE)


@pytest.mark.parametrize("choice", list(FaceChoice))
def test_no_detections_give_no_choice(choice: FaceChoice) -> None:
    assert select([], choice, (0, 0, 1, 1), PICTURE) == []
