"""The likely causes for which no face is found."""

import numpy as np
import pytest

from service.vision.visibility import likely_cause
from tests.photos import BUS, pixels

PICTURE = pixels(BUS)


@pytest.mark.parametrize(
    ("picture", "size", "word"),
    [
        (PICTURE // 8, (810, 1080), "dark"),
        (255 - PICTURE // 6, (810, 1080), "over-exposed"),
        (np.full_like(PICTURE, 120), (810, 1080), "contrast"),
        (np.zeros_like(PICTURE), (810, 1080), "dark"),
        (PICTURE[::20, ::20], (41, 54), "only 41 by 54"),
        (PICTURE, (3600, 4800), "about 133 pixels"),
        (PICTURE, (810, 1080), "larger or sharper"),
    ],
)
def test_the_cause_is_what_was_measured(picture: np.ndarray, size: tuple[int, int], word: str) -> None:
    assert word in likely_cause(np.ascontiguousarray(picture), *size)
