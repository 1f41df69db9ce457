import pytest

from service.inference.engine import Detection, FaceChoice
from service.inference.selection import select

FAINT_LARGE = Detection((0, 0, 100, 100), 0.5, None)
SURE_SMALL = Detection((200, 0, 230, 30), 0.95, None)
SURE_MIDDLE = Detection((300, 0, 380, 80), 0.9, None)
PICTURE = (680, 100)
FACES = [FAINT_LARGE, SURE_SMALL, SURE_MIDDLE]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [(FaceChoice.STRONGEST, [2]), (FaceChoice.LARGEST, [0]), (FaceChoice.ONLY, []), (FaceChoice.ALL, [0, 1, 2])],
)
def test_each_choice(choice: FaceChoice, chosen: list[int]) -> None:
    assert select(FACES, choice, None, PICTURE) == chosen


def test_of_two_equal_faces_the_one_near_the_middle_is_stronger() -> None:
    corner, middle = Detection((0, 0, 60, 60), 0.9, None), Detection((90, 90, 150, 150), 0.9, None)
    assert select([corner, middle], FaceChoice.STRONGEST, None, (250, 250)) == [1]


def test_a_portrait_at_the_side_is_stronger_than_a_passer_by_in_the_middle() -> None:
    portrait, passer_by = Detection((100, 200, 700, 900), 0.9, None), Detection((1950, 1450, 2050, 1550), 0.9, None)
    assert select([portrait, passer_by], FaceChoice.STRONGEST, None, (4000, 3000)) == [0]


def test_the_only_face() -> None:
    assert select([SURE_SMALL], FaceChoice.ONLY, None, PICTURE) == [0]


def test_a_box_takes_the_face_that_it_overlaps_most() -> None:
    assert select(FACES, FaceChoice.BOX, (205, 0, 235, 30), PICTURE) == [1]


def test_a_box_beside_every_face_takes_none() -> None:
    assert select(FACES, FaceChoice.BOX, (500, 500, 600, 600), PICTURE) == []
    assert select(FACES, FaceChoice.BOX, (0, 0, 400, 400), PICTURE) == []


def test_a_box_is_needed_to_choose_by_it() -> None:
    with pytest.raises(ValueError, match="needs a box"):
        select(FACES, FaceChoice.BOX, None, PICTURE)


@pytest.mark.parametrize("choice", list(FaceChoice))
def test_nothing_comes_of_nothing(choice: FaceChoice) -> None:
    assert select([], choice, (0, 0, 1, 1), PICTURE) == []
