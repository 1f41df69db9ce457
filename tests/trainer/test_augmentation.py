"""Random changes of training pictures."""

import pytest
import torch

from tests.trainer.small_run import STILL
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import CENTRE_SIZE, CROP_SIZE
from trainer.embedder.augmentation import Augmentation, centre_tensor
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
