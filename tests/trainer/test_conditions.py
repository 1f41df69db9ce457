"""Tests of difficult conditions and their measurement."""

from collections.abc import Sequence

import numpy as np
import pytest

from service.inference.embedder import FaceEmbedder
from service.inference.engine import Detection
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES, load_settings
from trainer.embedder import conditions
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.conditions import ALTERATIONS, measure_conditions

GREY = np.full((160, 160, 3), 128, np.uint8)


class NoFaces:
    """A detector that detects nothing, so that no picture counts as a profile."""

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[] for _ in pictures]


def changed(name: str) -> np.ndarray:
    return np.argwhere((ALTERATIONS[name](GREY) != GREY).any(axis=2))


def test_mask_and_sunglasses_cover_their_landmarks_only() -> None:
    mask, glasses = changed("face mask"), changed("sunglasses")
    for point, covering in (
        (conditions.LEFT_MOUTH, mask),
        (conditions.NOSE, mask),
        (conditions.LEFT_EYE, glasses),
        (conditions.RIGHT_EYE, glasses),
    ):
        row, column = np.round(point).astype(int)[::-1]
        assert ([row, column] == covering).all(axis=1).any()
    assert mask[:, 0].min() > conditions.LEFT_EYE[1]
    assert glasses[:, 0].max() < conditions.NOSE[1]


def test_the_limit_of_quality_is_that_of_the_service() -> None:
    assert load_settings().recognition.min_quality == conditions.MIN_QUALITY


def test_alterations_reduce_detail_or_light() -> None:
    noise = np.random.default_rng(0).integers(0, 256, GREY.shape, np.uint8)
    for name in ("enlarged from 32 px", "blurred"):
        assert ALTERATIONS[name](noise).std() < noise.std() / 2
    assert ALTERATIONS["dark"](GREY).mean() == pytest.approx(12.8, abs=0.3)
    assert np.array_equal(ALTERATIONS["dark"](GREY), ALTERATIONS["dark"](GREY))


def test_altered_pictures_are_compared_with_the_unaltered_ones() -> None:
    """Two people with two pictures each. A picture is never compared with itself, which would always match."""
    rng = np.random.default_rng(3)
    faces = rng.integers(0, 256, (2, 20, 20, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    pictures = np.concatenate([faces, np.clip(faces.astype(int) + 8, 0, 255).astype(np.uint8)])
    crops = AlignedCrops(pictures, ["a", "b", "a", "b"])
    embedder = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions())
    calibration = embedder.manifest.calibration
    assert calibration is not None
    measured = {item.name: item for item in measure_conditions(embedder, crops, range(4), NoFaces(), calibration)}
    assert list(measured) == ["unaltered", *ALTERATIONS]
    assert (measured["unaltered"].pictures, measured["unaltered"].fnmr) == (4, 0)
    assert all(0 <= item.refused <= 1 for item in measured.values())
    short = calibration.model_copy(update={"points": calibration.points[:2]})
    assert measure_conditions(embedder, crops, range(4), NoFaces(), short) == []
