"""Tests of the image filters for aligned crops."""

import numpy as np

from service.vision.filtering import apply, apply_all
from service.vision.filters import Bilateral, Clahe, Filters


def crop(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 6, (112, 112, 3))
    slope = np.linspace(60, 110, 112)[None, :, None]
    return (slope + noise).clip(0, 255).astype(np.uint8)


def test_no_filter_returns_the_same_array() -> None:
    picture = crop()
    assert apply(picture, Filters()) is picture
    assert apply_all([picture], Filters())[0] is picture


def test_clahe_increases_contrast_and_keeps_the_original() -> None:
    picture = crop()
    before = picture.copy()
    equalised = apply(picture, Filters(clahe=Clahe(clip_limit=4)))
    assert equalised.std() > 1.3 * picture.std()
    np.testing.assert_array_equal(picture, before)


def test_bilateral_filter_smooths_noise_and_preserves_edges() -> None:
    picture = crop()
    picture[:, 56:] = (picture[:, 56:].astype(int) + 120).clip(0, 255).astype(np.uint8)
    smooth = apply(picture, Filters(bilateral=Bilateral(diameter=9))).astype(int)
    assert smooth[:, 10:40].std(axis=0).mean() < 0.6 * picture[:, 10:40].std(axis=0).mean()
    assert (smooth[:, 57] - smooth[:, 54]).mean() > 100


def test_batch_gives_the_same_result_as_single_crops() -> None:
    filters = Filters(clahe=Clahe(), bilateral=Bilateral())
    one, other = crop(1), crop(2)
    for alone, together in zip((one, other), apply_all([one, other], filters), strict=True):
        np.testing.assert_array_equal(apply(alone, filters), together)
