import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.vision.alignment import TEMPLATE_112, align, crop_box, fit_crop, similarity_transform, trust

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


def test_a_point_without_weight_does_not_bend_the_transform() -> None:
    bent = TEMPLATE_112.copy()
    bent[3] += 30
    weights = np.array([1, 1, 1, 0, 1], np.float32)
    transform = similarity_transform(bent, TEMPLATE_112, weights)
    np.testing.assert_allclose(transform, [[1, 0, 0], [0, 1, 0]], atol=1e-4)
    assert abs(similarity_transform(bent, TEMPLATE_112)[0, 0] - 1) > 0.05


def test_an_unseen_landmark_hardly_bends_the_crop() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    points = np.column_stack([TEMPLATE_112 + 40, np.ones(5)]).astype(np.float32)
    bent = points.copy()
    bent[4] += [25, 25, -1]
    straight = align(picture, points).astype(int)
    assert (
        np.abs(align(picture, bent).astype(int) - straight).mean()
        < np.abs(align(picture, bent[:, :2]).astype(int) - straight).mean()
    )
    assert (align(picture, points) == align(picture, points[:, :2])).all()


def test_trust_falls_below_the_confidence_that_counts_as_seen() -> None:
    np.testing.assert_allclose(trust(np.array([1, 0.5, 0.25, 0], np.float32)), [1, 1, 0.5, 0.02])


@given(st.floats(0.1, 10))
def test_weights_count_relative_to_each_other(factor: float) -> None:
    moved = TEMPLATE_112 * 2 + np.random.default_rng(1).normal(0, 2, (5, 2)).astype(np.float32)
    weights = np.array([1, 2, 3, 4, 5], np.float32)
    np.testing.assert_allclose(
        similarity_transform(moved, TEMPLATE_112, weights),
        similarity_transform(moved, TEMPLATE_112, weights * np.float32(factor)),
        atol=1e-3,
    )
