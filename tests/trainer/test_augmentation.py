"""Random changes of training pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from service.vision.filtering import apply
from service.vision.filters import Clahe, Filters
from tests.trainer.small_run import STILL
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import CENTRE_SIZE, CROP_SIZE, load_aligned_crops
from trainer.embedder.augmentation import Augmentation, centre_tensor
from trainer.embedder.filtered_crops import filtered_crops
from trainer.embedder.input_config import AugmentationConfig, LandmarkChannelsConfig


def test_augmentation_with_zero_ranges_returns_the_centre() -> None:
    still = AugmentationConfig(
        rotation_degrees=0, shift=0, scale=0, flip=0, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    crops = torch.randint(0, 256, (3, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8)
    torch.testing.assert_close(Augmentation(still)(crops), centre_tensor(crops), atol=1e-4, rtol=0)


def test_augmentation_stays_in_range_and_mirrors() -> None:
    crops = torch.randint(0, 256, (16, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8)
    changed = Augmentation(AugmentationConfig(low_resolution=1, occlusion=1, light=0.5))(crops)
    assert changed.shape == (16, 3, CENTRE_SIZE, CENTRE_SIZE)
    assert float(changed.abs().max()) <= 1
    mirror = AugmentationConfig(
        rotation_degrees=0, shift=0, scale=0, flip=1, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    expected = centre_tensor(crops).flip(-1)
    torch.testing.assert_close(Augmentation(mirror)(crops), expected, atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")
def test_transforms_of_torchvision() -> None:
    pictures = torch.full((2, 160, 160, 3), 127, dtype=torch.uint8)
    recipe = [
        {"name": "RandomInvert", "arguments": {"p": 1.0}},
        {"name": "ColorJitter", "arguments": {"brightness": [2, 2]}, "probability": 0.0},
        {"name": "GaussianBlur", "arguments": {"kernel_size": 5}, "probability": 0.5},
    ]
    config = AugmentationConfig.model_validate({**STILL, "transforms": recipe})
    assert float(Augmentation(config)(pictures).mean()) == pytest.approx((255 - 127 - 127.5) / 128, abs=1e-3)
    for wrong, message in (
        ({"name": "Sharpness"}, "no 'Sharpness'"),
        ({"name": "functional"}, "no 'functional'"),
        ({"name": "GaussianBlur"}, "kernel_size"),
        ({"name": "RandomCrop", "arguments": {"size": 64}}, "changes the size"),
        ({"name": "JPEG", "arguments": {"quality": 50}}, "JPEG"),
    ):
        with pytest.raises(ConfigError, match=message):
            Augmentation(AugmentationConfig.model_validate({"transforms": [wrong]}))
    moved = AugmentationConfig.model_validate({"transforms": [{"name": "RandomHorizontalFlip"}]})
    with pytest.raises(ConfigError, match="moves pixels but not the landmarks"):
        Augmentation(moved, channels=LandmarkChannelsConfig())


def test_transforms_of_albumentations() -> None:
    pictures = torch.full((2, 160, 160, 3), 127, dtype=torch.uint8)
    recipe = [
        {"library": "albumentations", "name": "InvertImg"},
        {"library": "albumentations", "name": "GaussNoise", "probability": 0.0},
    ]
    config = AugmentationConfig.model_validate({**STILL, "transforms": recipe})
    assert float(Augmentation(config)(pictures).mean()) == pytest.approx((255 - 127 - 127.5) / 128, abs=1e-3)

    def noisy(seed: int) -> torch.Tensor:
        noise = {"transforms": [{"library": "albumentations", "name": "GaussNoise"}]}
        torch.manual_seed(seed)
        return Augmentation(AugmentationConfig.model_validate({**STILL, **noise}))(pictures)

    assert torch.equal(noisy(1), noisy(1))
    assert not torch.equal(noisy(1), noisy(2))
    for wrong, message in (
        ({"name": "Sharpness"}, "albumentations has no 'Sharpness'"),
        ({"name": "Resize", "arguments": {"height": 64, "width": 64}}, "changes the size"),
    ):
        with pytest.raises(ConfigError, match=message):
            Augmentation(AugmentationConfig.model_validate({"transforms": [{"library": "albumentations", **wrong}]}))
    moved = AugmentationConfig.model_validate({"transforms": [{"library": "albumentations", "name": "HorizontalFlip"}]})
    with pytest.raises(ConfigError, match="moves pixels but not the landmarks"):
        Augmentation(moved, channels=LandmarkChannelsConfig())


def test_filters_are_applied_once_before_the_training(identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    filters = Filters(clahe=Clahe())
    filtered = filtered_crops(crops, filters, tmp_path)
    np.testing.assert_array_equal(filtered.pictures[3], apply(np.array(crops.pictures[3]), filters))
    before = filtered.array.stat().st_mtime_ns
    assert filtered_crops(crops, filters, tmp_path).array.stat().st_mtime_ns == before
    assert filtered_crops(crops, Filters(), tmp_path) is crops
