"""Landmark channels are drawn equally in training and service and move with the picture."""

from pathlib import Path

import numpy as np
import pytest
import torch

from service.vision.alignment import TEMPLATE_112
from service.vision.heatmaps import LandmarkChannels, render, six_points
from tests.trainer.landmark_channels import VARIANTS, run_config
from tests.trainer.small_run import STILL
from tests.trainer.small_run import run_config as small_run_config
from trainer.configuration import ConfigError
from trainer.embedder import export, training
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.augmentation import Augmentation, encoder_input
from trainer.embedder.backbones import build_encoder
from trainer.embedder.checkpoints import load_initial
from trainer.embedder.input_config import AugmentationConfig, LandmarkChannelsConfig
from trainer.embedder.landmark_heatmaps import draw, in_centre, mirror_order, warped

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


def template() -> np.ndarray:
    return six_points(np.column_stack([TEMPLATE_112, np.ones(5)]).astype(np.float32))


def test_heatmap_is_a_gaussian_around_its_point() -> None:
    points = template()
    points[2] = (56.0, 72.0, 1.0)
    planes = render([points, None], 112, LandmarkChannels(sigma=4.0))
    assert planes.shape == (2, 7, 112, 112)
    assert planes[0, 2, 72, 56] == pytest.approx(1.0)
    assert planes[0, 2, 72, 60] == pytest.approx(np.exp(-0.5), abs=1e-5)
    assert planes[0, 2, 76, 60] == pytest.approx(np.exp(-1.0), abs=1e-5)
    assert (planes[0, 6] == 1).all()
    assert not planes[1].any()


def test_chin_lies_below_the_mouth() -> None:
    points = template()
    assert points[5, 0] == pytest.approx(56, abs=1)
    assert points[5, 1] == pytest.approx(92.28 + 0.75 * (92.28 - 51.6), abs=0.1)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", [64, 112])
def test_training_and_service_draw_the_same_channels(name: str, size: int) -> None:
    channels = VARIANTS[name]
    points = np.stack([template() * np.float32([size / 112, size / 112, 1]), np.zeros((6, 3), np.float32)])
    points[0, 1, 2] = 0  # unknown
    drawn = draw(torch.from_numpy(points), size, channels).numpy()
    np.testing.assert_allclose(drawn, render(list(points), size, channels), atol=1e-5)


def test_landmarks_move_with_their_picture() -> None:
    """Draws a bright dot at each landmark and finds it at the moved landmark after the augmentation."""
    torch.manual_seed(0)
    config = AugmentationConfig(
        rotation_degrees=25, shift=0.1, scale=0.2, flip=0.5, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    augmentation = Augmentation(config)
    count = 12
    points = torch.rand(count, 6, 3) * 70 + 45
    points[..., 2] = 1
    crops = torch.zeros(count, 160, 160, 3, dtype=torch.uint8)
    for number in range(count):
        for place in range(6):
            dot = np.zeros((160, 160), np.float32)
            x, y = points[number, place, :2].tolist()
            grid = np.mgrid[0:160, 0:160]
            dot = 255 * np.exp(-((grid[0] - y) ** 2 + (grid[1] - x) ** 2) / 8)
            crops[number, :, :, 0] = torch.maximum(crops[number, :, :, 0], torch.from_numpy(dot).to(torch.uint8))
    theta = augmentation._draw_warp(count, torch.device("cpu"))
    pictures = augmentation._warp(crops.permute(0, 3, 1, 2).float(), theta)[:, 0]
    moved = warped(points, theta, 112)
    checked = 0
    for number in range(count):
        for x, y, _ in moved[number].tolist():
            if 2 < x < 109 and 2 < y < 109:
                assert float(pictures[number, round(y), round(x)]) > 180
                checked += 1
    assert checked > count * 4


def test_mirror_picture_exchanges_left_and_right() -> None:
    theta = torch.tensor([[[-0.7, 0, 0], [0, 0.7, 0]]])
    points = torch.from_numpy(template() + np.float32([24, 24, 0]))[None]
    moved = warped(points, theta, 112)[0]
    original = torch.from_numpy(template())
    for place, other in enumerate((1, 0, 2, 4, 3, 5)):
        assert float(moved[place, 0]) == pytest.approx(111 - float(original[other, 0]), abs=1e-3)
        assert float(moved[place, 1]) == pytest.approx(float(original[other, 1]), abs=1e-3)
    assert float(moved[0, 0]) < float(moved[1, 0])  # the left eye is still on the left


def test_augmentation_with_zero_ranges_equals_the_encoder_input() -> None:
    still = AugmentationConfig(
        rotation_degrees=0, shift=0, scale=0, flip=0, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    channels = LandmarkChannelsConfig(missing=0)
    crops = torch.randint(0, 256, (2, 160, 160, 3), dtype=torch.uint8)
    points = torch.from_numpy(template() + np.float32([24, 24, 0]))[None].repeat(2, 1, 1)
    config = run_config(LandmarkChannels())
    changed = Augmentation(still, 112, channels=channels)(crops, points)
    torch.testing.assert_close(changed, encoder_input(crops, points, config), atol=2e-4, rtol=0)
    torch.testing.assert_close(in_centre(points, 112)[0], torch.from_numpy(template()), atol=1e-4, rtol=0)
    without = Augmentation(still, 112, channels=LandmarkChannelsConfig(missing=1))(crops, points)
    assert not without[:, 3:].any()


def test_additional_channels_start_with_the_mean_of_the_colours(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = build_encoder("resnet18", 8)
    torch.save(plain.backbone.state_dict(), tmp_path / "plain.pth")
    wide = build_encoder("resnet18", 8, more_channels=7)
    load_initial(wide, tmp_path / "plain.pth")
    weight, colours = wide.backbone.conv1.weight, plain.backbone.conv1.weight
    torch.testing.assert_close(weight[:, :3], colours)
    torch.testing.assert_close(weight[:, 3:], colours.mean(dim=1, keepdim=True).expand(-1, 7, -1, -1))
    for name in ("mobilefacenet", "residual_small", "timm:convnextv2_atto", "vit_b_16", "squeezenet1_0"):
        encoder = build_encoder(name, 8, more_channels=7).eval()
        with torch.inference_mode():
            assert encoder(torch.zeros(1, 10, 112, 112)).shape == (1, 8)


def many_points(count: int, faces: int = 20) -> np.ndarray:
    """Returns (faces, count, 3) symmetric points in aligned crops; point 2 k + 1 is the mirror image of point 2 k."""
    random = np.random.default_rng(0)
    half = np.column_stack([random.uniform(30, 75, count // 2), random.uniform(40, 120, count // 2)])
    mirrored = np.column_stack([160 - half[:, 0], half[:, 1]])
    mean = np.stack([half, mirrored], axis=1).reshape(count, 2)
    moved = mean + random.normal(0, 0.3, (faces, count, 2))
    return np.concatenate([moved, np.ones((faces, count, 1))], axis=2).astype(np.float32)


@pytest.mark.parametrize(("layout", "count"), [("dlib-68", 68), ("mediapipe-468", 468)])
def test_every_point_of_a_finder_has_its_own_channel(layout: str, count: int) -> None:
    channels = LandmarkChannelsConfig.model_validate({"layout": layout, "sigma": 2, "missing": 0})
    landmarks = many_points(count)
    order = mirror_order(landmarks)
    assert order == [number ^ 1 for number in range(count)]
    config = AugmentationConfig.model_validate({**STILL, "flip": 1.0})
    crops = torch.zeros(2, 160, 160, 3, dtype=torch.uint8)
    points = torch.from_numpy(landmarks[:2])
    drawn = Augmentation(config, 112, channels, order)(crops, points)
    assert drawn.shape == (2, 3 + count + 1, 112, 112)
    # A mirrored symmetric face has its points at the same places.
    still = Augmentation(AugmentationConfig.model_validate(STILL), 112, channels, order)(crops, points)
    assert (drawn[:, 3:].flatten(2).argmax(2) // 112 - still[:, 3:].flatten(2).argmax(2) // 112).abs().max() <= 2
    with pytest.raises(ConfigError, match=f"landmark channels {layout} cannot be served"):
        _ = channels.served


def test_a_model_with_68_landmark_channels_is_trained_and_not_packed(identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    settings = {"landmark_channels": {"layout": "dlib-68"}, "split": {"validation": 0, "calibration": 0}}
    config = small_run_config(settings)
    best = training.train(config, crops, (), tmp_path, tmp_path / "run", landmarks=many_points(68, len(crops)))
    provenance = {"data": ["x"], "terms": "test", "initialised_from": "random"}
    with pytest.raises(ConfigError, match="cannot be served"):
        export.export(best, tmp_path / "bundle", "dlib-channels", provenance)
    with pytest.raises(ConfigError, match="need --landmarks dlib and its model file"):
        training.train(config, crops, (), tmp_path, tmp_path / "other")
