import pytest

from service.inference.engine import Detection, FaceChoice
from service.inference.selection import select

FAINT_LARGE = Detection((0, 0, 100, 100), 0.5, None)
SURE_SMALL = Detection((200, 0, 230, 30), 0.95, None)
SURE_MIDDLE = Detection((300, 0, 380, 80), 0.9, None)
FACES = [FAINT_LARGE, SURE_SMALL, SURE_MIDDLE]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [(FaceChoice.STRONGEST, [2]), (FaceChoice.LARGEST, [0]), (FaceChoice.ONLY, []), (FaceChoice.ALL, [0, 1, 2])],
)
def test_each_choice(choice: FaceChoice, chosen: list[int]) -> None:
    assert select(FACES, choice, None) == chosen


def test_the_only_face() -> None:
    assert select([SURE_SMALL], FaceChoice.ONLY, None) == [0]


def test_a_box_takes_the_face_that_it_overlaps_most() -> None:
    assert select(FACES, FaceChoice.BOX, (205, 0, 235, 30)) == [1]


def test_a_box_beside_every_face_takes_none() -> None:
    assert select(FACES, FaceChoice.BOX, (500, 500, 600, 600)) == []
    assert select(FACES, FaceChoice.BOX, (0, 0, 400, 400)) == []


def test_a_box_is_needed_to_choose_by_it() -> None:
    with pytest.raises(ValueError, match="needs a box"):
        select(FACES, FaceChoice.BOX, None)


@pytest.mark.parametrize("choice", list(FaceChoice))
def test_nothing_comes_of_nothing(choice: FaceChoice) -> None:
    assert select([], choice, (0, 0, 1, 1)) == []
