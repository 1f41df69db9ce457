"""Similarity transforms and aligned crops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.vision.alignment import TEMPLATE_112, align_with_margin, crop_box, fit_crop, similarity_transform, trust

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


def aligned(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    return align_with_margin(picture, landmarks, 112, 0)[0]


def test_transform_of_a_quarter_turn_with_scale_two() -> None:
    target = np.array([[5, 7], [5, 9], [3, 9], [3, 7]], np.float32)
    np.testing.assert_allclose(similarity_transform(SQUARE, target), [[0, -2, 5], [2, 0, 7]], atol=1e-5)


def test_mirrored_target_gives_a_rotation_without_reflection() -> None:
    transform = similarity_transform(SQUARE, SQUARE * [-1, 1])
    assert np.linalg.det(transform[:, :2]) >= 0


def test_coinciding_points_raise_value_error() -> None:
    with pytest.raises(ValueError, match="coincide"):
        similarity_transform(np.ones((5, 2), np.float32), TEMPLATE_112)


@given(
    angle=st.floats(-3.1, 3.1),
    scale=st.floats(0.05, 20),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_every_similarity_transform_is_inverted(angle: float, scale: float, shift: tuple[float, float]) -> None:
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (TEMPLATE_112 @ rotation.T + shift).astype(np.float32)
    transform = similarity_transform(moved, TEMPLATE_112)
    back = moved @ transform[:, :2].T + transform[:, 2]
    np.testing.assert_allclose(back, TEMPLATE_112, atol=0.05)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 9.0])
def test_landmark_is_at_its_template_position_at_every_scale(scale: float) -> None:
    """A dot at the nose is at the nose's position of the template, including pictures that are reduced first."""
    size = int(200 * scale)
    landmarks = (TEMPLATE_112 + 40) * np.float32(scale)
    picture = np.zeros((size, size, 3), np.uint8)
    x, y = landmarks[2]
    radius = max(2, round(3 * scale))
    picture[round(y) - radius : round(y) + radius + 1, round(x) - radius : round(x) + radius + 1] = 255
    crop = aligned(picture, landmarks)[..., 0].astype(np.float64)
    rows, columns = np.indices(crop.shape)
    centre = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
    np.testing.assert_allclose(centre, TEMPLATE_112[2], atol=1.0)


def test_crop_of_a_box_is_centred_and_has_a_margin() -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[100:200, 100:200] = 255
    crop = crop_box(picture, np.array([100, 100, 200, 200], np.float32))
    assert crop.shape == (112, 112, 3)
    assert crop[56, 56, 0] == 255
    assert crop[3, 3, 0] == 0
    assert abs(float((crop[..., 0] > 127).mean()) - (1 / 1.3) ** 2) < 0.02


def test_fit_crop_returns_the_central_square() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 50:150] = 200
    assert (fit_crop(picture) == 200).all()


def test_point_with_weight_zero_does_not_affect_the_transform() -> None:
    displaced = TEMPLATE_112.copy()
    displaced[3] += 30
    weights = np.array([1, 1, 1, 0, 1], np.float32)
    transform = similarity_transform(displaced, TEMPLATE_112, weights)
    np.testing.assert_allclose(transform, [[1, 0, 0], [0, 1, 0]], atol=1e-4)
    assert abs(similarity_transform(displaced, TEMPLATE_112)[0, 0] - 1) > 0.05


def test_landmark_with_low_confidence_hardly_affects_the_crop() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    points = np.column_stack([TEMPLATE_112 + 40, np.ones(5)]).astype(np.float32)
    displaced = points.copy()
    displaced[4] += [25, 25, -1]
    straight = aligned(picture, points).astype(int)
    assert (
        np.abs(aligned(picture, displaced).astype(int) - straight).mean()
        < np.abs(aligned(picture, displaced[:, :2]).astype(int) - straight).mean()
    )
    assert (aligned(picture, points) == aligned(picture, points[:, :2])).all()


def test_weight_decreases_below_the_full_weight_confidence() -> None:
    np.testing.assert_allclose(trust(np.array([1, 0.5, 0.25, 0], np.float32)), [1, 1, 0.5, 0.02])


@given(st.floats(0.1, 10))
def test_transform_depends_on_relative_weights_only(factor: float) -> None:
    moved = TEMPLATE_112 * 2 + np.random.default_rng(1).normal(0, 2, (5, 2)).astype(np.float32)
    weights = np.array([1, 2, 3, 4, 5], np.float32)
    np.testing.assert_allclose(
        similarity_transform(moved, TEMPLATE_112, weights),
        similarity_transform(moved, TEMPLATE_112, weights * np.float32(factor)),
        atol=1e-3,
    )
