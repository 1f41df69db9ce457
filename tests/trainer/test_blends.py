"""Blends of two faces as further training pictures."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.runtime.settings import BUNDLES
from tests.trainer.small_run import run_config
from trainer.embedder import training
from trainer.embedder.aligned_crops import CROP_SIZE, UNLABELLED, load_aligned_crops
from trainer.embedder.blends import GRID, blend, with_blends

WEIGHTS = arrays(np.float32, (GRID, GRID), elements=st.floats(0, 1, width=32))
LEVELS = st.integers(0, 255)


def plain(level: int) -> np.ndarray:
    return np.full((CROP_SIZE, CROP_SIZE, 3), level, np.uint8)


@given(first=LEVELS, second=LEVELS, weights=WEIGHTS)
def test_a_blend_lies_between_its_two_pictures(first: int, second: int, weights: np.ndarray) -> None:
    mixed = blend(plain(first), plain(second), weights)
    assert mixed.shape == (CROP_SIZE, CROP_SIZE, 3)
    assert min(first, second) <= mixed.min() <= mixed.max() <= max(first, second)


@given(weights=WEIGHTS)
def test_exchanging_the_pictures_exchanges_the_weights(weights: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 256, (2, CROP_SIZE, CROP_SIZE, 3), np.uint8)
    exchanged = blend(second, first, 1 - weights)
    np.testing.assert_allclose(blend(first, second, weights).astype(int), exchanged, atol=1)


def test_weights_of_one_and_zero_return_a_picture() -> None:
    first, second = plain(200), plain(30)
    assert (blend(first, second, np.ones((GRID, GRID), np.float32)) == first).all()
    assert (blend(first, second, np.zeros((GRID, GRID), np.float32)) == second).all()


def test_blends_follow_the_crops_and_show_only_the_chosen_ones(identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    chosen = np.array([1])
    blended = with_blends(crops, chosen, 5, 0, tmp_path)
    assert len(blended) == len(crops) + 5
    assert blended.identities == [*crops.identities, *[UNLABELLED] * 5]
    np.testing.assert_array_equal(blended.pictures[: len(crops)], crops.pictures)
    np.testing.assert_allclose(blended.pictures[-1].astype(int), crops.pictures[1], atol=1)  # a blend with itself
    assert with_blends(crops, chosen, 0, 0, tmp_path) is crops
    assert with_blends(crops, chosen, 5, 1, tmp_path).key != blended.key


@pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision
def test_training_with_blends_distils_from_the_teacher_of_each(identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    stage = {"epochs": 1, "images_per_identity": None, "losses": {"embedding": 1.0}}
    config = run_config({"blends": 16, "split": {"validation": 0.0, "calibration": 0.0}}, stage)
    teachers = [BUNDLES / "embedder", BUNDLES / "embedder-fairface"]
    best = training.train(config, crops, teachers, tmp_path / "cache", tmp_path / "run")
    assert best.is_file()
    rows = (best.parent / "csv" / "metrics.csv").read_text().splitlines()
    assert len(rows) > 1
