import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.vision.alignment import TEMPLATE_112, align, crop_box, fit_crop, similarity_transform

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


def test_a_quarter_turn_of_twice_the_size_is_found() -> None:
    target = np.array([[5, 7], [5, 9], [3, 9], [3, 7]], np.float32)
    np.testing.assert_allclose(similarity_transform(SQUARE, target), [[0, -2, 5], [2, 0, 7]], atol=1e-5)


def test_a_mirrored_target_gets_the_nearest_rotation_not_a_mirror() -> None:
    transform = similarity_transform(SQUARE, SQUARE * [-1, 1])
    assert np.linalg.det(transform[:, :2]) >= 0


def test_one_point_five_times_has_no_transform() -> None:
    with pytest.raises(ValueError, match="one point"):
        similarity_transform(np.ones((5, 2), np.float32), TEMPLATE_112)


@given(
    angle=st.floats(-3.1, 3.1),
    scale=st.floats(0.05, 20),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_any_similarity_is_undone(angle: float, scale: float, shift: tuple[float, float]) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (TEMPLATE_112 @ turn.T + shift).astype(np.float32)
    transform = similarity_transform(moved, TEMPLATE_112)
    back = moved @ transform[:, :2].T + transform[:, 2]
    np.testing.assert_allclose(back, TEMPLATE_112, atol=0.05)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 9.0])
def test_a_landmark_lands_on_its_place_in_the_template_at_any_size(scale: float) -> None:
    """A dot at the nose must be in the crop where the template has the nose, also after shrinking in steps."""
    size = int(200 * scale)
    landmarks = (TEMPLATE_112 + 40) * np.float32(scale)
    picture = np.zeros((size, size, 3), np.uint8)
    x, y = landmarks[2]
    radius = max(2, round(3 * scale))
    picture[round(y) - radius : round(y) + radius + 1, round(x) - radius : round(x) + radius + 1] = 255
    crop = align(picture, landmarks)[..., 0].astype(np.float64)
    rows, columns = np.indices(crop.shape)
    centre = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
    np.testing.assert_allclose(centre, TEMPLATE_112[2], atol=1.0)


def test_a_box_without_landmarks_is_centred_with_a_margin() -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[100:200, 100:200] = 255
    crop = crop_box(picture, np.array([100, 100, 200, 200], np.float32))
    assert crop.shape == (112, 112, 3)
    assert crop[56, 56, 0] == 255
    assert crop[3, 3, 0] == 0
    assert abs(float((crop[..., 0] > 127).mean()) - (1 / 1.3) ** 2) < 0.02


def test_a_cropped_face_keeps_its_middle() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 50:150] = 200
    assert (fit_crop(picture) == 200).all()
