"""Boxes, the letterbox and the tiles of a picture."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.vision.geometry import PADDING_GREY, area, iou, letterbox, suppress_overlaps, tile_starts
from tests.photos import HOPPER


def test_iou_of_example_boxes() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(iou(box, others), [1, 1 / 3, 0, 0], atol=1e-6)


def test_area_of_an_inverted_box_is_zero() -> None:
    assert area(np.array([[5, 5, 1, 9]], np.float32))[0] == 0


def test_suppression_drops_the_weaker_of_two_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], np.float32)
    assert suppress_overlaps(boxes, np.array([0.6, 0.9, 0.5], np.float32), 0.5).tolist() == [1, 2]


def test_suppression_of_no_boxes_returns_no_index() -> None:
    assert suppress_overlaps(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), size=st.sampled_from([96, 320]))
def test_undo_inverts_the_letterbox(width: int, height: int, size: int) -> None:
    square, boxing = letterbox(np.zeros((height, width, 3), np.uint8), size)
    assert square.shape == (size, size, 3)
    corners = np.array([[0, 0], [width, height]], np.float32)
    in_square = corners * np.float32(boxing.scale) + np.array([boxing.left, boxing.top], np.float32)
    np.testing.assert_allclose(boxing.undo(in_square), corners, rtol=1e-3, atol=0.01)


def test_letterbox_centres_the_picture_on_grey() -> None:
    square, _ = letterbox(np.full((50, 100, 3), 255, np.uint8), 320)
    assert square[0, 0, 0] == PADDING_GREY
    assert square[160, 160, 0] == 255
    assert (square[:, 160, 0] == 255).sum() == 160


@pytest.mark.parametrize("factor", [3, 5, 12])
def test_letterbox_of_an_enlarged_photo_equals_that_of_the_photo(factor: int) -> None:
    photo = cv2.imread(str(HOPPER))
    enlarged = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    expected, boxing = letterbox(photo, 320)
    square, of_enlarged = letterbox(enlarged, 320)
    assert boxing.scale == pytest.approx(factor * of_enlarged.scale, rel=0.01)
    assert np.abs(square.astype(int) - expected).mean() < 4


def test_tile_starts_of_example_lengths() -> None:
    """Two tiles of 640 px cover 1,000 px with an overlap of at least 160 px; the second ends at 1,000."""
    assert tile_starts(1000, 640, 160) == [0, 360]
    assert tile_starts(640, 640, 160) == [0]
    assert tile_starts(100, 640, 160) == [0]


@given(length=st.integers(1, 20_000), overlap=st.integers(0, 400))
def test_tiles_cover_the_length_with_the_required_overlap(length: int, overlap: int) -> None:
    side = 640
    starts = tile_starts(length, side, overlap)
    assert starts[0] == 0
    assert max(starts) + side >= length
    assert all(later - earlier <= side - overlap for earlier, later in itertools.pairwise(starts))


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), size=st.sampled_from([96, 192, 320]))
def test_letterbox_with_a_stride_has_the_smallest_possible_canvas(width: int, height: int, size: int) -> None:
    canvas, boxing = letterbox(np.zeros((height, width, 3), np.uint8), size, 32)
    rows, columns = canvas.shape[:2]
    assert (rows % 32, columns % 32) == (0, 0)
    assert max(rows, columns) == size
    shorter = max(1, round(min(width, height) * boxing.scale))
    assert min(rows, columns) - 32 < shorter <= min(rows, columns)
    wider, _ = letterbox(np.zeros((height, width, 3), np.uint8), size, 32, 40)
    assert max(wider.shape) == size
    assert min(wider.shape[:2]) == min(size, -(-(shorter + 40) // 32) * 32)
